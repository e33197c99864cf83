"""Another pipeline in a whole server: an echo. Turn-taking, pacing, barge-in, apology, refusal and the record are the
same for it as for the cascade."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from loadtest.simulator.speech import Speech
from loadtest.vendors.sounds import Sounds
from tests.e2e.stage import (
    Stage,
    ask,
    hear_nothing_more,
    merged,
    open_stage,
    speak_to,
    utter,
    wait_for_sound,
)
from tests.fakes.echo import SUBTITLE, Echo
from tests.fakes.sound import loudness
from tests.subtitles import shown
from tests.waiting import wait_for
from xiaozhi.session.turns.pipeline import Pipeline, PipelineParts

Words = Callable[[str], Speech]
SHORT_WORDS, LONG_WORDS = "what is up with you", "tell me a long story"
APOLOGY = "So."
SETTINGS = {
    "system_error_response": APOLOGY,
    "VAD": {"Ears": {"min_silence_duration_ms": 800, "pause_ms": 100}},
    "conversation": {"speculative": "llm"},
}


@contextmanager
def open_echo(directory: Path, sounds: Sounds, settings: dict[str, Any]) -> Iterator[tuple[Stage, list[Echo]]]:
    """A stage whose sessions answer with an echo, and the pipelines of all their turns."""
    made: list[Echo] = []

    def make(parts: PipelineParts) -> Pipeline:
        made.append(Echo(parts))
        return made[-1]

    with open_stage(directory, sounds, settings, pipeline=make) as stage:
        yield stage, made


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory, sounds: Sounds) -> Iterator[tuple[Stage, list[Echo]]]:
    with open_echo(tmp_path_factory.mktemp("data"), sounds, SETTINGS) as opened:
        yield opened


@pytest.fixture(scope="module")
def stage(opened: tuple[Stage, list[Echo]]) -> Stage:
    return opened[0]


@pytest.fixture
def echoes(opened: tuple[Stage, list[Echo]]) -> list[Echo]:
    """The pipelines that this test brings about."""
    opened[1].clear()
    return opened[1]


def test_what_was_heard_is_played_back(stage: Stage, words: Words) -> None:
    device = stage.device()
    answered = stage.outcomes().get("answered", 0)
    said = words(SHORT_WORDS)

    answer = speak_to(device, said)

    kinds = [message.data.get("state") or message.type for message in answer.messages]
    assert kinds == ["start", "sentence_start", "stop"]
    assert answer.sentences == [SUBTITLE]
    assert stage.vendor.counts == {}, "no recogniser, no model, no synthesiser"
    heard = answer.pcm()
    # The whole utterance, pre-roll and the silence behind it included, through Opus twice.
    assert len(heard) / 48 >= said.duration_ms
    assert loudness(heard) > loudness(said.pcm) / 3
    assert stage.outcomes()["answered"] == answered + 1
    hear_nothing_more(device, 0.1)


def test_nothing_of_it_is_heard_before_the_user_has_finished(stage: Stage, echoes: list[Echo], words: Words) -> None:
    device = stage.device()
    discarded = stage.count("xiaozhi_speculations_total", fate="discarded")
    utter(device, words(SHORT_WORDS), silence_ms=300)
    wait_for(lambda: speaks(echoes), "sound in advance")
    utter(device, words(SHORT_WORDS), start=False, silence_ms=0)
    wait_for(
        lambda: stage.count("xiaozhi_speculations_total", fate="discarded") == discarded + 1, "the end of the first"
    )
    assert not device.replies.messages and device.replies.frames_received == 0

    device.send_silence(1_200, realtime=False)

    answer = device.collect_answer()
    assert answer.sentences == [SUBTITLE]
    assert len(answer.pcm()) / 48 >= 2 * words(SHORT_WORDS).duration_ms, "both halves, once"
    hear_nothing_more(device, 0.1)


def speaks(echoes: list[Echo]) -> bool:
    """Whether the last one has been asked for sound."""
    return bool(echoes) and echoes[-1].voice is not None and bool(echoes[-1].voice.said)


def test_speech_interrupts_it_in_realtime_mode(stage: Stage, words: Words) -> None:
    device = stage.device()
    interrupted = stage.outcomes().get("interrupted", 0)
    utter(device, words(LONG_WORDS), "realtime")
    wait_for_sound(device)

    utter(device, words(SHORT_WORDS), "realtime", start=False)

    first, second = device.collect_answer(), device.collect_answer()
    assert first.sentences == second.sentences == [SUBTITLE]
    assert len(first.pcm()) / 48 < words(LONG_WORDS).duration_ms
    assert len(second.pcm()) / 48 >= words(SHORT_WORDS).duration_ms
    assert stage.outcomes()["interrupted"] == interrupted + 1
    hear_nothing_more(device)


def test_an_abort_silences_it(stage: Stage, words: Words) -> None:
    device = stage.device()
    utter(device, words(LONG_WORDS))
    wait_for_sound(device)

    device.abort()

    assert len(device.collect_answer().pcm()) / 48 < words(LONG_WORDS).duration_ms
    hear_nothing_more(device, 0.1)


def test_its_failure_is_apologised_for(stage: Stage) -> None:
    device = stage.device()
    failed = stage.outcomes().get("failed", 0)

    assert ask(device, "typed words have no sound").sentences == [shown(APOLOGY)]

    assert stage.outcomes()["failed"] == failed + 1


def test_greetings_and_calls_do_not_ask_it(stage: Stage, echoes: list[Echo]) -> None:
    device = stage.device()

    assert ask(device, "hello robot").stt == "hello robot"
    call = ask(device, "[device_call] Dinner is ready.")
    assert (call.stt, call.sentences) == ("Dinner is ready.", ["Dinner is ready"])
    assert len(echoes) == 2 and not any(echo.voice for echo in echoes)


def test_the_daily_allowance_is_refused_in_the_sessions_own_words(tmp_path: Path, sounds: Sounds, words: Words) -> None:
    settings = merged(SETTINGS, {"device_max_output_size": 5, "quota_response": "Enough."})
    with open_echo(tmp_path, sounds, settings) as (stage, _):
        device = stage.device()
        assert speak_to(device, words(SHORT_WORDS)).sentences == [SUBTITLE]

        assert speak_to(device, words(SHORT_WORDS)).sentences == ["Enough"]
