"""The files of the pages: one shell for all addresses, compressed, with a policy."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest

from xiaozhi.web.app import create_app
from xiaozhi.web.console.pages import POLICY, STATIC, create_blueprint

BROWSER = create_app([create_blueprint()]).test_client()


@pytest.mark.parametrize("address", ["/talk", "/console", "/console/", "/console/devices", "/console/devices/aa:bb"])
def test_every_address_is_the_same_application(address: str) -> None:
    answer = BROWSER.get(address)

    assert answer.status_code == 200
    assert answer.content_type.startswith("text/html")
    assert answer.headers["Content-Security-Policy"] == POLICY
    assert b'src="/console/static/app.js"' in answer.data


@pytest.mark.parametrize(
    "address", ["/console/api/nothing", "/console/static/none.js", "/console/static/../pages.py", "/console/static/"]
)
def test_what_is_not_there(address: str) -> None:
    assert BROWSER.get(address).status_code == 404


def test_a_file_is_sent_once() -> None:
    first = BROWSER.get("/console/static/app.js", headers={"Accept-Encoding": "gzip, br"})
    assert first.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(first.data) == (STATIC / "app.js").read_bytes()

    again = BROWSER.get(
        "/console/static/app.js", headers={"Accept-Encoding": "gzip", "If-None-Match": first.headers["ETag"]}
    )

    assert (again.status_code, again.data) == (304, b"")


def test_whoever_cannot_unpack_gets_it_plain() -> None:
    answer = BROWSER.get("/console/static/app.js", headers={"Accept-Encoding": "identity"})

    assert "Content-Encoding" not in answer.headers
    assert answer.data == (STATIC / "app.js").read_bytes()
    assert answer.content_type.startswith("text/javascript")


def test_nothing_comes_from_elsewhere_and_nothing_is_inline() -> None:
    wrong = []
    for path in STATIC.rglob("*"):
        if path.suffix not in (".js", ".html", ".css") or "vendor" in path.parts:
            continue
        text = path.read_text(encoding="utf-8")
        if re.search(r"""(?:src|href|from|import|url)\s*[=(]?\s*["'(]https?:""", text):
            wrong.append(f"{path.name}: something from elsewhere")
        if re.search(r"""<script(?![^>]*src=)|\sstyle=["']|\son[a-z]+=["']""", text):
            wrong.append(f"{path.name}: an inline script or style")
    assert wrong == []


def test_every_library_has_its_licence() -> None:
    vendor = STATIC / "vendor"
    listed = (vendor / "README.txt").read_text(encoding="utf-8")

    for path in vendor.glob("*"):
        if path.suffix in (".js", ".css"):
            assert path.name in listed, path.name
    assert {"htm.LICENSE.txt", "preact.LICENSE.txt", "uplot.LICENSE.txt"} <= {path.name for path in vendor.iterdir()}


def test_the_first_load_is_small() -> None:
    page = Path(STATIC / "index.html").read_text(encoding="utf-8")
    names = re.findall(r'"/console/static/([^"]+)"', page)

    sent = sum(len(gzip.compress((STATIC / name).read_bytes())) for name in names)

    assert sent < 40_000
