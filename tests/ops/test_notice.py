"""NOTICE tells the truth: the versions are those that are installed, and what can be left out can be."""

from __future__ import annotations

import os
import re
import subprocess
import sys

from tests.ops.programs import ROOT
from tests.waiting import PATIENCE_S

NOTICE = (ROOT / "NOTICE").read_text(encoding="utf-8")
PINS = dict(re.findall(r"^([a-z0-9-]+)==([0-9.]+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE))


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
