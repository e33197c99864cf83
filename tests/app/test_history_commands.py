"""What was said, shown, exported and erased at the terminal; and the ledger of what is kept."""

from __future__ import annotations

import csv
import io
import json
import wave
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.databases import opened
from tests.fakes.sound import tone
from tests.history.samples import AT, DEVICE, ended, entry
from xiaozhi.app.main import main
from xiaozhi.history.encoding import compressed
from xiaozhi.history.store import LocalHistory, Retention

Run = Callable[..., int]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """`server.py` with a history: a turn with sound, and one that was interrupted."""
    with opened(tmp_path) as database:
        store = LocalHistory(database, lambda: Retention(30, 7), clock=lambda: AT + 1_000)
        store.deliver(
            [
                replace(entry(1), sound=compressed(tone(600)), speaker="Ming"),
                replace(entry(2), said="=1+1", outcome="interrupted", reason="abort", spoken=()),
            ]
        )
        store.session_ended(ended())
    file = tmp_path / "settings.yaml"
    file.write_text(
        json.dumps({"log": {"data_dir": str(tmp_path), "log_dir": ""}, "server": {"timezone_offset": 8}}),
        encoding="utf-8",
    )
    return lambda *words: main(["--config", str(file), *words])


def test_turns_are_shown(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("history", "show", DEVICE.upper()) == 0

    assert capsys.readouterr().out.splitlines()[1:] == [
        "2026-09-21 22:13:21  Ming: question 1",
        '                     tool get_time {"zone":"UTC"}: done, 12 ms',
        "                     assistant: Answer 1. Really.",
        "2026-09-21 22:13:22  user: =1+1",
        '                     tool get_time {"zone":"UTC"}: done, 12 ms',
        "                     (interrupted: abort)",
    ]


def test_everything_of_a_device_is_exported(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert run("history", "export", DEVICE, str(out)) == 0

    assert capsys.readouterr().out == f"2 turns of 1 sessions and 1 sounds are in {out}.\n"
    (session,) = json.loads((out / "history.json").read_text(encoding="utf-8"))
    first, second = session["turns"]
    assert (first["said"], first["spoken"], first["at"]) == (
        "question 1",
        ["Answer 1.", "Really."],
        "2026-09-21T22:13:21.000+08:00",
    )
    assert first["tools"][0]["name"] == "get_time"
    assert (second["said"], second["sound"]) == ("=1+1", None)
    lines = list(csv.DictReader(io.StringIO((out / "turns.csv").read_text(encoding="utf-8-sig"))))
    assert [line["said"] for line in lines] == ["question 1", "'=1+1"]
    assert lines[0]["sound"] == first["sound"]
    with wave.open(str(out / first["sound"])) as sound:
        assert (sound.getframerate(), sound.getnchannels(), sound.getsampwidth()) == (16_000, 1, 2)
        assert sound.getnframes() == 9_600
    assert {path.stat().st_mode & 0o077 for path in out.rglob("*")} == {0}


def test_an_export_replaces_nothing(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "history.json").write_text("mine", encoding="utf-8")

    assert run("history", "export", DEVICE, str(tmp_path)) == 1
    assert "has no export" in capsys.readouterr().err
    assert (tmp_path / "history.json").read_text(encoding="utf-8") == "mine"


def test_an_export_of_nothing_is_a_list_of_nothing(run: Run, tmp_path: Path) -> None:
    assert run("history", "export", "02:00:00:00:00:99", str(tmp_path / "out")) == 0
    assert json.loads((tmp_path / "out/history.json").read_text(encoding="utf-8")) == []


def test_what_was_erased_is_not_shown(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("history", "erase", DEVICE) == 0
    assert "2 turns and 1 sounds" in capsys.readouterr().out

    assert run("history", "show", DEVICE) == 0
    assert capsys.readouterr().out == f"Nothing is kept of {DEVICE}.\n"


def test_the_ledger_tells_what_is_kept_where_and_how_long(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("privacy") == 0

    said = capsys.readouterr().out
    rows = {line[:20]: line for line in said.splitlines()}
    turns, voice = rows["turns: what was said"], rows["the user's voice    "]
    assert "30 days" in turns and "2 turns" in turns and "sqlite:////" in turns
    assert "not kept" in voice and "1 sounds" in voice
    assert any(line.startswith("the log, without what is said") for line in said.splitlines())
    assert "TTS.Offline" in said


@pytest.mark.parametrize("words", [("history",), ("history", "show"), ("history", "erase", "a", "b"), ("privacy", "x")])
def test_an_incomplete_command_is_told(run: Run, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run(*words)
    assert "history export DEVICE DIRECTORY" in capsys.readouterr().err
