"""What attackers tried on the HTTP routes in vain, kept in vain."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.fakes.thinking import FakeVllm
from xiaozhi.protocol.token import VisionTokens
from xiaozhi.web.app import create_app
from xiaozhi.web.ota import OtaConfig
from xiaozhi.web.ota import create_blueprint as ota_blueprint
from xiaozhi.web.vision import VISION_PATH, VisionConfig
from xiaozhi.web.vision import create_blueprint as vision_blueprint

DEVICE = "11:22:33:44:55:66"
FILE = b"0123456789" * 10
TOKENS = VisionTokens("secret")
BOUNDARY = "b"


@pytest.fixture
def vllm() -> FakeVllm:
    return FakeVllm()


@pytest.fixture
def device(tmp_path: Path, vllm: FakeVllm) -> FlaskClient:
    (tmp_path / "board_1.0.bin").write_bytes(FILE)
    (tmp_path / "directory_1.0.bin").mkdir()
    os.mkfifo(tmp_path / "fifo_1.0.bin")
    ota = ota_blueprint(OtaConfig(firmware_dir=tmp_path), None, clock=lambda: 0)
    vision = vision_blueprint(VisionConfig(), TOKENS, lambda device_id: vllm, clock=lambda: 0)
    return create_app([ota, vision]).test_client()


@pytest.mark.parametrize(
    "headers",
    [
        {"X-HTTP-Method-Override": "DELETE"},
        {"X-Original-URL": "/admin/reload", "X-Rewrite-URL": "/admin/reload"},
        {"X-Host": "evil.example", "X-Forwarded-Server": "evil.example", "X-Forwarded-Host": "evil.example"},
        {"Forwarded": "host=evil.example;proto=https;for=1.2.3.4"},
        {"X-Forwarded-Proto": "https", "X-Forwarded-Port": "1", "X-Forwarded-Prefix": "/evil", "X-Forwarded-Ssl": "on"},
        {"X-Real-IP": "1.2.3.4", "True-Client-IP": "1.2.3.4", "CF-Connecting-IP": "1.2.3.4"},
    ],
)
def test_no_header_of_a_stranger_changes_what_a_device_is_told(device: FlaskClient, headers: dict[str, str]) -> None:
    who = {"Device-Id": DEVICE, "Client-Id": "c", "Host": "box:8003"}
    body = {"application": {"version": "0.1"}, "board": {"type": "board"}}
    plain = device.post("/xiaozhi/ota/", headers=who, json=body)
    assert plain.get_json()["firmware"]["url"].startswith("http://box:8003/")
    assert device.post("/xiaozhi/ota/", headers={**who, **headers}, json=body).get_json() == plain.get_json()


@pytest.mark.parametrize(
    "host",
    [
        "",
        " ",
        "a b",
        "evil.example/path",
        "evil.example:99999",
        "evil.example:x",
        "user@evil.example",
        "[::1",
        "[evil]",
    ],
)
def test_a_host_that_is_none_is_not_repeated(device: FlaskClient, host: str) -> None:
    told = device.post(
        "/xiaozhi/ota/", headers={"Device-Id": DEVICE, "Client-Id": "c"}, environ_overrides={"HTTP_HOST": host}
    )
    assert told.status_code == 200
    assert told.get_json()["websocket"]["url"] == "ws://127.0.0.1:8000/xiaozhi/v1/"


@pytest.mark.parametrize(
    "asked,status,body",
    [
        ("bytes=0-9", 206, FILE[:10]),
        ("bytes=90-", 206, FILE[90:]),
        ("bytes=-5", 206, FILE[-5:]),
        ("bytes=0-1000000", 206, FILE),
        ("bytes=100-", 416, None),
        ("bytes=9-2", 416, None),
        ("bytes=0-1,5-6", 416, None),
        ("bytes=x", 416, None),
        ("lines=1-2", 416, None),
    ],
)
def test_ranges(device: FlaskClient, asked: str, status: int, body: bytes | None) -> None:
    reply = device.get("/xiaozhi/ota/download/board_1.0.bin", headers={"Range": asked})
    assert reply.status_code in (status, 200)
    if reply.status_code == 200:
        body = FILE  # to leave a range out of account is always right
    assert body is None or reply.data == body
    assert int(reply.headers["Content-Length"]) == len(reply.data)
    reply.close()


def test_what_is_no_file_is_no_firmware_and_is_not_waited_for(device: FlaskClient) -> None:
    for name in ("directory_1.0.bin", "fifo_1.0.bin"):
        assert device.get(f"/xiaozhi/ota/download/{name}").status_code == 404
    reply = device.head("/xiaozhi/ota/download/board_1.0.bin")
    assert (reply.status_code, reply.data, reply.headers["Content-Length"]) == (200, b"", str(len(FILE)))
    reply.close()


def part(name: str, value: bytes, more: str = "") -> bytes:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'
    return head.encode() + value + b"\r\n"


FORMS: dict[str, bytes] = {
    "many parts": b"".join(part(f"field{number}", b"x") for number in range(1000)),
    "long header": part("question", b"x", "; x=" + "y" * 300_000),
    "no end of a header": f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="'.encode() + b"x" * 300_000,
    "storm of newlines": b"\r\n" * 200_000,
    "storm of boundaries": f"--{BOUNDARY}\r\n".encode() * 2_000,
    "no boundary": b"x" * 300_000,
    "SVG": part("question", b"x") + part("file", b"<svg onload=alert(1)/>", '; filename="a.jpg"'),
    "PDF": part("question", b"x") + part("file", b"%PDF-1.4 " + bytes(99), '; filename="a.jpg"'),
    "ZIP": part("question", b"x") + part("file", b"PK\x03\x04" + bytes(99), '; filename="a.jpg"'),
    "WAV": part("question", b"x") + part("file", b"RIFF\x00\x00\x00\x00WAVEfmt ", '; filename="a.jpg"'),
}


@pytest.mark.parametrize("body", FORMS.values(), ids=FORMS)
def test_odd_forms_are_refused(device: FlaskClient, vllm: FakeVllm, body: bytes) -> None:
    reply: Any = device.post(
        VISION_PATH,
        headers={"Authorization": f"Bearer {TOKENS.issue(DEVICE, now=0)}", "Device-Id": DEVICE},
        data=body + f"--{BOUNDARY}--\r\n".encode(),
        content_type=f"multipart/form-data; boundary={BOUNDARY}",
    )
    assert reply.status_code in (400, 413, 415)
    assert vllm.calls == []
