"""With the network cut, a server with the offline default hears and answers English and Chinese: real models, a process
of its own, a device that speaks in real time."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from loadtest.bench import offline_bars
from tests.speech_models import model_folder


def test_a_conversation_in_two_languages_without_a_network() -> None:
    for model in ("faster-whisper-base", "moonshine-tiny-en", "kokoro-zh"):
        model_folder(model)
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-rn", "true"], check=False).returncode:
        pytest.skip("no network namespace can be had here")
    cut, rows = offline_bars.alone("--short")
    figures = {name: value for name, value, _, _ in rows}
    assert cut
    assert figures["English: answered as wanted"] == figures["Chinese: answered as wanted"] == 100
