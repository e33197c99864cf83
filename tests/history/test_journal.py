"""The journal: what is acknowledged is on the disk, a disk that fails costs history and nobody's time."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gevent
import pytest
from structlog.testing import capture_logs

from tests.fakes.sound import tone
from tests.history.samples import ended, entry
from tests.history.test_segments import file_limit
from tests.waiting import PATIENCE_S, wait_for
from xiaozhi.history.entries import EndedSession, HistoryEntry, KeptSound, SessionInfo, ToolUse
from xiaozhi.history.journal import Journal

SECOND = bytes(32_000)


@contextmanager
def journal(root: Path, **options: Any) -> Iterator[Journal]:
    made = Journal(root, **{"max_bytes": 1 << 24, "gather": 0.0, **options})
    made.start(["sink"], lambda: None, soon=False)
    try:
        yield made
    finally:
        made.close(PATIENCE_S)


def records(made: Journal, after: int = 0) -> list[Any]:
    return [record for _, record in made.read(after, 1_000)]


def test_what_is_handed_in_comes_back_as_it_was(tmp_path: Path) -> None:
    with journal(tmp_path / "history") as made:
        made.append(entry(1))
        made.end(ended())

        assert made.flush(PATIENCE_S)
        assert records(made) == [entry(1), ended()]
        assert made.kept == 2


def test_a_turn_is_acknowledged_without_anybody_asking(tmp_path: Path) -> None:
    with journal(tmp_path) as made:
        made.append(entry(1))

        wait_for(lambda: made.kept == 1, "the turn to be kept")
        assert made.newest == 1


def test_sound_is_kept_compressed_and_comes_back_as_a_wav_file(tmp_path: Path) -> None:
    with journal(tmp_path) as made:
        made.append(entry(1), tone(1_000))
        made.append(entry(2), b"")
        assert made.flush(PATIENCE_S)

        first, second = records(made)
        assert 500 < first.sound.size < 8_000
        assert first.sound.wav()[:4] == b"RIFF"
        assert len(first.sound.wav()) == 44 + 32_000 + 640
        assert second.sound is None


def test_sound_in_packets_is_kept_as_it_came(tmp_path: Path) -> None:
    """Not encoded again, whatever the packets are, and within the same bounds as other sound."""
    packets = (b"one", b"another one", b"")
    with journal(tmp_path) as made:
        made.append(entry(1), KeptSound(packets))
        assert made.flush(PATIENCE_S)

        (one,) = records(made)
        assert one.sound.packets == packets


def test_a_journal_that_nobody_uses_makes_no_file_and_no_thread(tmp_path: Path) -> None:
    threads = len(os.listdir("/proc/self/task"))
    with journal(tmp_path / "history"):
        assert list(tmp_path.iterdir()) == []
        assert len(os.listdir("/proc/self/task")) == threads


def test_what_no_json_can_hold_is_made_fit(tmp_path: Path) -> None:
    odd = HistoryEntry(
        SessionInfo("s", "d\x00", "c", 1.0),
        1,
        1.0,
        said="half \ud83d and nothing \x00",
        spoken=("\udc00",),
        tools=(ToolUse("t", {"big": 2**70, 3: {1, 2}, "deep": [("a", "\x00")]}, "done", "\ud800", 1),),
    )
    with journal(tmp_path) as made:
        made.append(odd)
        made.append(entry(2))

        assert made.flush(PATIENCE_S)
        found, other = records(made)
        assert found.said == "half ? and nothing "
        assert found.spoken == ("?",)
        assert found.tools[0].arguments["big"] == str(2**70)
        assert found.tools[0].arguments["deep"] == [["a", ""]]
        assert other == entry(2)


def test_a_journal_that_will_be_used_has_all_it_needs_from_the_start(tmp_path: Path) -> None:
    made = Journal(tmp_path, max_bytes=1 << 24, gather=0.0)
    made.start(["sink"], lambda: None)
    threads = len(os.listdir("/proc/self/task"))
    files = len(os.listdir("/proc/self/fd"))
    made.append(entry(1), tone(60))
    assert made.flush(PATIENCE_S)

    assert (len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))) == (threads, files)
    made.close(PATIENCE_S)


def test_sessions_that_a_kill_has_ended_are_ended_at_the_next_start(tmp_path: Path) -> None:
    with journal(tmp_path) as made:
        for turn in (1, 2):
            made.append(entry(turn))
        made.append(entry(1, number=2))
        made.end(ended(2))
        made.flush(PATIENCE_S)

    with journal(tmp_path) as made:
        assert records(made, after=4) == [EndedSession(entry(1).session, entry(2).at, 2)]
    with journal(tmp_path) as made:
        assert len(records(made)) == 5


def test_what_all_sinks_have_is_gone_at_the_end(tmp_path: Path) -> None:
    with journal(tmp_path) as made:
        made.append(entry(1))
        made.flush(PATIENCE_S)
        made.take("sink", 1)

    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_costs_nobody_time_and_what_waits_is_written_later(tmp_path: Path) -> None:
    with journal(tmp_path) as made:
        made.append(entry(1))
        assert made.flush(PATIENCE_S)

        with file_limit(made.size):
            made.append(entry(2))
            assert not made.flush(PATIENCE_S)
            assert "large" in made.failing
            assert made.waiting == 1

        assert made.flush(PATIENCE_S)
        assert made.failing == ""
        assert records(made) == [entry(1), entry(2)]
        assert made.lost == 0


def test_a_directory_that_cannot_be_used_is_tried_again(tmp_path: Path) -> None:
    (tmp_path / "history").write_text("in the way", encoding="utf-8")
    with journal(tmp_path / "history") as made:
        made.append(entry(1))
        assert not made.flush(PATIENCE_S)
        assert made.failing

        (tmp_path / "history").unlink()
        assert made.flush(PATIENCE_S)
        assert records(made) == [entry(1)]


def test_memory_is_bounded_the_oldest_sound_goes_first(tmp_path: Path) -> None:
    (tmp_path / "history").write_text("in the way", encoding="utf-8")
    with journal(tmp_path / "history", memory_bytes=100_000, max_waiting=4) as made:
        for turn in range(1, 5):
            made.append(entry(turn), SECOND)
        assert (made.lost_sounds, made.lost) == (2, 0)

        for turn in range(5, 8):
            made.append(entry(turn))
        assert made.waiting == 4
        assert made.lost == 3

        (tmp_path / "history").unlink()
        assert made.flush(PATIENCE_S)
        assert [(one.turn, one.sound is not None) for one in records(made)] == [
            (4, True),
            (5, False),
            (6, False),
            (7, False),
        ]


def test_written_sound_does_not_stay_in_memory(tmp_path: Path) -> None:
    with journal(tmp_path, memory_bytes=100_000) as made:
        for turn in range(1, 20):
            made.append(entry(turn), tone(1_000))
            assert made.flush(PATIENCE_S)

        assert made.lost_sounds == 0
        assert len(records(made)) == 19
        gc.collect()
        assert sum(type(one).__name__ == "_Waiting" for one in gc.get_objects()) <= 1


def test_what_a_journal_could_not_write_in_the_end_is_counted(tmp_path: Path) -> None:
    (tmp_path / "history").write_text("in the way", encoding="utf-8")
    with journal(tmp_path / "history") as made:
        made.append(entry(1))

    assert made.lost == 1
    made.append(entry(2))
    assert made.lost == 2


def test_while_the_disk_stalls_the_hub_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stalled, real = True, os.fsync

    def fsync(number: int) -> None:
        from gevent import monkey

        while stalled:
            monkey.get_original("time", "sleep")(0.001)
        real(number)

    monkeypatch.setattr(os, "fsync", fsync)
    with journal(tmp_path) as made:
        made.append(entry(1))
        for _ in range(20):
            gevent.sleep(0)
        assert made.kept == 0
        stalled = False
        wait_for(lambda: made.kept == 1, "the turn to be kept")


def test_nothing_that_was_said_is_logged(tmp_path: Path) -> None:
    (tmp_path / "history").write_text("in the way", encoding="utf-8")
    with capture_logs() as lines, journal(tmp_path / "history") as made:
        made.append(entry(1, said="my secret"))
        made.flush(PATIENCE_S)

    assert [line["event"] for line in lines] == [
        "history cannot be written, it waits in memory",
        "history lost at the stop of the server",
    ]
    assert "my secret" not in str(lines)
