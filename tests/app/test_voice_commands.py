"""Voices at the terminal: learnt from a file, listed, erased."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.contract.test_local_voiceprint import noise
from tests.fakes.tensor_files import made_model
from xiaozhi.app.main import main
from xiaozhi.audio.pcm import wav_file

DEVICE = "11:22:33:44:55:66"
Run = Callable[..., int]


def server(tmp_path: Path, **voiceprint: object) -> Run:
    settings = {"log": {"data_dir": str(tmp_path), "log_dir": ""}, "voiceprint": voiceprint}
    file = tmp_path / "settings.yaml"
    file.write_text(json.dumps(settings), encoding="utf-8")
    return lambda *words: main(["--config", str(file), *words])


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return server(tmp_path, type="local", model_dir=str(made_model(tmp_path / "model")))


@pytest.fixture
def recording(tmp_path: Path) -> str:
    file = tmp_path / "anna.wav"
    file.write_bytes(wav_file(noise(1), 16_000))
    return str(file)


def test_learnt_listed_in_the_ledger_and_erased(run: Run, recording: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("voices", "list") == 0
    assert "Nobody" in capsys.readouterr().out

    assert run("voices", "enrol", DEVICE.upper(), "Anna", recording) == 0
    assert run("voices", "enrol", DEVICE, "Ben", recording) == 0
    assert "consent" in capsys.readouterr().out
    assert run("voices", "list") == 0
    rows = capsys.readouterr().out.splitlines()
    assert rows[1].startswith(f"{DEVICE}  Anna") and "told by an operator" in rows[1] and "2.0 s" in rows[1]
    assert run("privacy") == 0
    assert "2 people" in capsys.readouterr().out

    assert run("voices", "forget", DEVICE, "anna") == 0
    assert "Anna is erased" in capsys.readouterr().out
    assert run("devices", "forget", DEVICE) == 0
    assert "erased" in capsys.readouterr().out
    assert run("voices", "list") == 0
    assert "Nobody" in capsys.readouterr().out


def test_what_cannot_be_done_is_told(
    run: Run, recording: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    silence = tmp_path / "silence.wav"
    silence.write_bytes(wav_file(bytes(64_000), 16_000))
    text = tmp_path / "text.wav"
    text.write_text("no sound")

    for words, why in (
        (("enrol", DEVICE, "Anna", str(silence)), "too little voice"),
        (("enrol", DEVICE, "Anna", str(text)), ""),
        (("enrol", DEVICE, "Anna", str(tmp_path / "none.wav")), "none.wav"),
        (("enrol", "no\nid", "Anna", recording), ""),
        (("enrol", DEVICE, "  ", recording), "name"),
    ):
        assert run("voices", *words) == 1
        error = capsys.readouterr().err
        assert error.strip() and why in error and "Traceback" not in error
    assert run("voices", "forget", DEVICE, "Anna") == 0
    assert "no voice of Anna" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        run("voices", "enrol", DEVICE)


def test_where_voices_are_not_learnt(tmp_path: Path, recording: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert server(tmp_path)("voices", "enrol", DEVICE, "Anna", recording) == 1

    assert "voiceprint.type" in "".join(capsys.readouterr())
