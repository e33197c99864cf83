"""How many greenlets a speaking device costs, on a real server, by name.

While the model still writes there are two more: the model's reader, and the playback, whose work the turn takes over as
soon as it has nothing left to say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest

from loadtest.vendors.sounds import Sounds
from tests.e2e.stage import CHAT, TTS, Script, Stage, open_stage, settle_phrases
from tests.e2e.test_streaming import QuickVoice, open_ensemble
from tests.waiting import wait_for
from xiaozhi.runtime.tasks import census

STORY = Script(answer=["The first sentence is here. ", "The second sentence is here."])
WHILE_THE_VENDOR_WORKS = {"device": 1, "turn": 1, "writer": 1}
"""The reader of the socket, the turn, which plays, and the writer of the outbox."""


def named() -> Counter[str]:
    """The server's greenlets by name; those of the simulated device and of the vendors are not among them."""
    return Counter(census.by_name)


def speaking(stage: Stage, *, vendor: dict[str, int]) -> Counter[str]:
    """The most greenlets of any name that were seen, until there were those of a turn that plays, and `vendor`."""
    before = named()
    device = stage.device()
    settle_phrases(stage)
    wait_for(lambda: not (named() - before - Counter(device=1)), "an idle device: its reader")
    device.detect("tell me a story")
    seen: Counter[str] = Counter()
    expected = Counter(WHILE_THE_VENDOR_WORKS) + Counter(vendor)

    def as_expected() -> bool:
        nonlocal seen
        now = named() - before
        seen |= now
        return now == expected

    wait_for(as_expected, f"{expected}")
    device.abort()
    wait_for(lambda: not (named() - before - Counter(device=1)), "an idle device: its reader")
    return seen


def test_four_with_a_voice_of_single_sentences(tmp_path: Path, sounds: Sounds) -> None:
    with open_stage(tmp_path, sounds) as stage:
        stage.vendor.script(CHAT, Script(answer="There is but one sentence."))
        stage.vendor.stand(TTS, Script(answer=("wav", 6.0), gap=0.1))

        seen = speaking(stage, vendor={"tts-sentence": 1})

        assert max(seen.values()) == 1


def test_three_when_the_vendor_has_done_its_work(tmp_path: Path, sounds: Sounds) -> None:
    with open_stage(tmp_path, sounds) as stage:
        stage.vendor.script(CHAT, STORY)
        stage.vendor.stand(TTS, Script(answer=("wav", 6.0), gap=0.01))

        seen = speaking(stage, vendor={})

        assert seen["tts-sentence"] <= 2, "the sentence that plays, and the next one"
        assert max(seen.values()) == seen["tts-sentence"]


def test_four_with_a_streaming_voice(tmp_path: Path, sounds: Sounds, monkeypatch: pytest.MonkeyPatch) -> None:
    at_once = QuickVoice.sound_of

    def slowly(voice: QuickVoice, sentence: str, audio: dict[str, Any]) -> Iterator[bytes]:
        for piece in at_once(voice, sentence, audio):
            gevent.sleep(0.02)  # sleep: the vendor is slow
            yield piece

    monkeypatch.setattr(QuickVoice, "sound_of", slowly)
    with open_ensemble(tmp_path, sounds) as ensemble:
        ensemble.voice.seconds = 2.0
        ensemble.stage.vendor.script(CHAT, STORY)

        seen = speaking(ensemble.stage, vendor={"tts-session": 1})

        assert max(seen.values()) == 1
