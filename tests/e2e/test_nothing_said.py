"""What was not said is not asked: whatever a recogniser makes of it, and silence between the button's two ways."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from loadtest.simulator.speech import Speech
from loadtest.vendors.openai_vendor import ASR
from tests.e2e.stage import CHAT, Script, Stage, speak_to, utter
from tests.waiting import wait_for

QUESTION = "what is up with you"
Words = Callable[[str], Speech]

NOTHING: list[Any] = [
    "。",
    "...",
    "？",
    "，。",
    "…",
    "-",
    "[BLANK_AUDIO]",
    "(silence)",
    "[Music]",
    "*coughs*",
    "<|nospeech|>。",
    {"text": None},
    {"text": " Thank you.", "segments": [{"text": " Thank you.", "no_speech_prob": 0.97}]},
    "字幕由Amara.org社区提供",
]


@pytest.mark.parametrize("said", NOTHING)
def test_what_a_recogniser_makes_of_nothing_is_not_asked(stage: Stage, words: Words, said: Any) -> None:
    before = stage.outcomes().get("unheard", 0)
    stage.vendor.script(ASR, Script(answer=said))
    device = stage.device()

    utter(device, words(QUESTION))
    wait_for(lambda: stage.outcomes().get("unheard", 0) > before, "the end of the turn")

    assert stage.vendor.counts.get(CHAT, 0) == 0
    assert speak_to(device, words(QUESTION)).sentences == ["Fine"]


def test_a_loop_of_a_recogniser_is_cut(stage: Stage, words: Words) -> None:
    stage.vendor.script(ASR, Script(answer="Tell me " + "again " * 4_000))

    assert speak_to(stage.device(), words(QUESTION)).sentences == ["Fine"]

    assert stage.said() == [("user", "Tell me again again again")]


@pytest.mark.parametrize("silence_ms", [1_500, 5_000])
def test_silence_by_button_is_not_sent_to_a_recogniser(stage: Stage, words: Words, silence_ms: int) -> None:
    stage.vendor.script(ASR, Script(answer="Thank you for watching!"))
    device = stage.device()
    device.listen_start("manual")
    device.send_silence(silence_ms, realtime=False)
    device.listen_stop()
    stage.vendor.forget_scripts()
    stage.calm()

    assert speak_to(device, words(QUESTION), "manual").stt == "what is up"

    assert stage.vendor.counts[ASR] == stage.vendor.counts[CHAT] == 1
