"""NOTICE tells the truth: the versions are those that are installed, and what can be left out can be."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.ops.programs import ROOT
from tests.waiting import PATIENCE_S

NOTICE = (ROOT / "NOTICE").read_text(encoding="utf-8")
PINS = dict(re.findall(r"^([a-z0-9-]+)==([0-9.]+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE))

DEFAULT_SET_UP = ("requirements.txt", "requirements-speech.txt")
PERMISSIVE = re.compile(r"\b(0?BSD|MIT|Apache|ZPL|PSF|Python Software Foundation|Zlib|CC0)\b", re.IGNORECASE)
WITH_CONDITIONS = re.compile(r"GPL|MPL|Mozilla|Lesser", re.IGNORECASE)


def licence_of(package: str) -> str:
    """What a package says of its licence, in any of the places where packages say it; "" for nothing."""
    told = importlib.metadata.metadata(package)
    classified = [name for name in told.get_all("Classifier") or () if name.startswith("License")]
    return told.get("License-Expression") or " ".join(classified) or (told.get("License") or "").partition("\n")[0]


def to_be_named(licences: dict[str, str]) -> Iterator[str]:
    """Packages whose licence has conditions, or is not told."""
    for package, licence in licences.items():
        if WITH_CONDITIONS.search(licence) or not PERMISSIVE.search(licence):
            yield package


def test_whose_licence_has_conditions_is_named() -> None:
    """Of everything that the default set-up installs; what other platforms get has its marker behind a semicolon."""
    pins = "".join((ROOT / file).read_text(encoding="utf-8") for file in DEFAULT_SET_UP)
    packages = re.findall(r"^([A-Za-z0-9_.-]+)==[^;\n]*$", pins, re.MULTILINE)
    named = list(to_be_named({package: licence_of(package) for package in packages}))

    assert {"edge-tts", "soxr", "certifi", "tqdm"} <= set(named)
    assert [name for name in named if not re.search(rf"\b{re.escape(name)}\b", NOTICE)] == []


@pytest.mark.parametrize("licence", ["", "Proprietary", "MPL-2.0 AND MIT", "GNU Lesser General Public License v3"])
def test_a_licence_with_conditions_is_seen(licence: str) -> None:
    assert list(to_be_named({"acme": licence, "other": "Apache-2.0 OR BSD-3-Clause"})) == ["acme"]


def test_versions_are_those_of_the_pins() -> None:
    named = re.findall(r"\b(espeakng-loader|av|soxr|gevent-websocket|edge-tts)(?: |==)([0-9]+\.[0-9.]*[0-9])", NOTICE)
    assert {name for name, _ in named} == {"espeakng-loader", "av", "soxr", "gevent-websocket", "edge-tts"}
    assert [(name, version) for name, version in named if PINS[name] != version] == []


def test_the_server_does_without_espeak_ng() -> None:
    """As if its package had been removed: another voice is selected, nothing else is said."""
    script = (
        "import sys; sys.modules['espeakng_loader'] = None\n"
        "from xiaozhi.app.main import main; sys.exit(main(['--check-config']))"
    )
    environ = {"XIAOZHI_TTS_BASE_URL": "http://127.0.0.1:9/v1", "XIAOZHI_TTS_MODEL": "m", "XIAOZHI_TTS_VOICE": "v"}
    ran = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert (ran.returncode, ran.stdout) == (0, "The configuration is fine.\n"), ran.stderr
