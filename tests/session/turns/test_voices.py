"""Who is speaking: asked beside the recogniser, told when it is news, waited for only so long."""

from __future__ import annotations

import json
from collections.abc import Callable

import gevent
import pytest
from gevent.event import Event

from tests.session.turns.rig import FakeUtterance
from tests.waiting import PATIENCE_S, wait_for
from xiaozhi.errors import Overloaded, VendorUnavailable
from xiaozhi.providers.contracts.voiceprint import HeardVoice, Speaker, Voiceprint
from xiaozhi.session.turns.voices import MIN_VOICED_MS
from xiaozhi.session.turns.voices import Voices as SessionVoices
from xiaozhi.speech.voice_likeness import VoiceSample

LI = Speaker("1", "Li")
SAMPLE = VoiceSample("m", b"abcd", 1.0)


def Voices(voiceprint: Voiceprint, wait_seconds: float) -> SessionVoices:
    return SessionVoices(voiceprint, wait_seconds, lambda: "user")


class FakeVoiceprint(Voiceprint):
    def __init__(self, answer: Speaker | HeardVoice | Exception | Callable[[], Speaker | None] | None) -> None:
        self.answer = answer
        self.asked: list[bytes] = []
        self.owners: list[str] = []

    def identify(self, pcm: bytes, owner: str) -> HeardVoice:
        self.asked.append(pcm)
        self.owners.append(owner)
        if isinstance(self.answer, Exception):
            raise self.answer
        answer = self.answer() if callable(self.answer) else self.answer
        return answer if isinstance(answer, HeardVoice) else HeardVoice(answer)


def utterance(voiced_ms: float = 1_000.0) -> FakeUtterance:
    return FakeUtterance(voiced_ms=voiced_ms, pcm=b"\1\2" * 100)


def named(voices: Voices, voiced_ms: float = 1_000.0, language: str = "en") -> str:
    with voices.listening(utterance(voiced_ms)) as voice:  # type: ignore[arg-type]
        return voice.name(language)


def test_somebody_known() -> None:
    voiceprint = FakeVoiceprint(LI)

    assert named(Voices(voiceprint, PATIENCE_S)) == "Li"
    assert voiceprint.asked == [b"\1\2" * 100]
    assert voiceprint.owners == ["user"]


@pytest.mark.parametrize(
    ("language", "name"), [("zh-CN", "未知说话人"), ("en", "unknown speaker"), ("", "unknown speaker")]
)
def test_somebody_unknown(language: str, name: str) -> None:
    assert named(Voices(FakeVoiceprint(None), PATIENCE_S), language=language) == name


@pytest.mark.parametrize("error", [VendorUnavailable("voiceprint", "gone"), Overloaded("voiceprint")])
def test_a_service_that_fails_costs_the_name(error: Exception) -> None:
    assert named(Voices(FakeVoiceprint(error), PATIENCE_S)) == ""


def test_too_little_voice_is_not_asked_about() -> None:
    voiceprint = FakeVoiceprint(LI)

    assert named(Voices(voiceprint, PATIENCE_S), MIN_VOICED_MS - 1) == ""
    assert not voiceprint.asked


def test_it_is_asked_beside_the_recogniser() -> None:
    voiceprint = FakeVoiceprint(LI)
    with Voices(voiceprint, PATIENCE_S).listening(utterance()) as voice:  # type: ignore[arg-type]
        wait_for(lambda: voiceprint.asked)
        assert voice.name("en") == "Li"


def test_a_service_that_hangs_is_waited_for_only_so_long_and_broken_off() -> None:
    ended = Event()

    def hang() -> None:
        try:
            Event().wait(PATIENCE_S)
        finally:
            ended.set()

    assert named(Voices(FakeVoiceprint(hang), 0.01)) == ""
    assert ended.wait(PATIENCE_S), "nothing is left behind"


def test_what_is_not_wanted_any_more_is_broken_off() -> None:
    ended = Event()

    def hang() -> None:
        try:
            Event().wait(PATIENCE_S)
        finally:
            ended.set()

    voiceprint = FakeVoiceprint(hang)
    voices = Voices(voiceprint, PATIENCE_S)
    turn = gevent.spawn(named, voices)
    wait_for(lambda: voiceprint.asked)
    turn.kill()

    assert ended.wait(PATIENCE_S)


def test_a_name_is_told_when_the_speaker_changes() -> None:
    voices = Voices(FakeVoiceprint(LI), PATIENCE_S)

    def said(text: str, name: str) -> str:
        told = voices.told(text, name)
        voices.spoke(name)
        return told

    assert json.loads(said("几点了", "小明")) == {"speaker": "小明", "content": "几点了"}
    assert said("and now", "小明") == "and now"
    assert said("typed", "") == "typed"
    assert said("again", "小明") == "again", "somebody who types changes nothing"
    assert json.loads(said("hello", "Li"))["speaker"] == "Li"
    assert json.loads(said("me again", "小明"))["speaker"] == "小明"


def test_what_never_became_part_of_the_dialogue_is_told_again() -> None:
    voices = Voices(FakeVoiceprint(LI), PATIENCE_S)

    assert voices.told("a", "Li") == voices.told("a", "Li") != "a"


def test_what_a_voice_can_be_remembered_by_is_kept_for_the_session_and_is_bounded() -> None:
    voices = Voices(FakeVoiceprint(HeardVoice(LI, SAMPLE)), PATIENCE_S)
    with voices.listening(utterance()) as voice:  # type: ignore[arg-type]
        voice.name("en")
    for _ in range(20):
        named(voices)

    assert voice.sample == SAMPLE
    assert set(voices.recent) == {SAMPLE} and len(voices.recent) == 8


def test_where_there_is_nothing_to_compare_with_somebody_unknown_is_no_news() -> None:
    assert named(Voices(FakeVoiceprint(HeardVoice(None, SAMPLE, comparable=False)), PATIENCE_S)) == ""
