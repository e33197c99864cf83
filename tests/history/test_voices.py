"""The assistant's voice beside the user's: through the journal, and dropped with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.fakes.sound import tone
from tests.history.samples import entry
from tests.history.test_journal import journal, records
from xiaozhi.history.encoding import packed, packed_voices, sounds_in, unpacked
from xiaozhi.history.entries import KeptSound

SAID = KeptSound((b"one", b"two"))
VOICES = (KeptSound((b"three",)), KeptSound(()), KeptSound((b"four", b"five")))
NONE = KeptSound(())


@pytest.mark.parametrize("voices", [(), VOICES, VOICES[1:2]])
@pytest.mark.parametrize("said", [SAID, NONE])
def test_sounds_come_back_apart(said: KeptSound, voices: Sequence[KeptSound]) -> None:
    content = packed(said) + packed_voices(voices)

    assert sounds_in(content) == (said, tuple(voices))
    assert unpacked(content) == said


def test_what_is_cut_off_is_left_out() -> None:
    content = packed(SAID) + packed_voices(VOICES)

    assert sounds_in(content[:-2]) == (SAID, (*VOICES[:2], KeptSound((b"four",))))


@pytest.mark.parametrize("said", [SAID, b"", tone(200)], ids=["packets", "none", "pcm"])
def test_they_are_on_the_disk(said: KeptSound | bytes, tmp_path: Path) -> None:
    with journal(tmp_path) as made:
        made.append(entry(1), said, VOICES)
        assert made.flush(10.0)
        [record] = records(made)

    assert record.voices == VOICES
    assert (record.sound is not None) == bool(said)


def test_without_room_they_go_first(tmp_path: Path) -> None:
    heavy = [KeptSound((bytes(60_000),))]
    with journal(tmp_path, memory_bytes=100_000, gather=60.0) as made:
        for turn in range(1, 4):
            made.append(entry(turn), b"", heavy)
        assert made.lost_sounds == 2
        assert made.flush(10.0)

        assert [len(record.voices) for record in records(made)] == [0, 0, 1]
    assert made.lost == 0
