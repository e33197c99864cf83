"""Odd sound of vendors: a sentence that cannot be spoken, several files in one body, headers that lie, a voice that has
changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtest.vendors.sounds import Sounds, hum, wav
from tests.e2e.stage import CHAT, SHORT, TTS, Script, Stage, ask, open_stage

RATE = 24_000
PART = wav(hum(0.3, RATE), RATE)
THREE = "This is one. This is two. This is three."


@pytest.fixture(scope="module")
def stage_settings() -> dict[str, object]:
    once = {"timeout": 0.5}  # shorter than the first pause before a retry
    return {"system_error_response": "Sorry.", "ai_providers": {"tts": once}}


BAD = {
    "500": Script(status=500),
    "400": Script(status=400),
    "429": Script(status=429),
    "nothing": Script(garbage="empty"),
    "a WAV without sound": Script(answer=wav(b"", RATE)),
    "JSON": Script(garbage="json"),
}


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("which", [0, 1, 2])
def test_one_sentence_that_cannot_be_spoken_costs_that_sentence(stage: Stage, bad: str, which: int) -> None:
    scripts = [SHORT] * 3
    scripts[which] = BAD[bad]
    stage.vendor.script(CHAT, Script(answer=THREE))
    stage.vendor.script(TTS, *scripts)
    sentences = ["This is one", "This is two", "This is three"]
    del sentences[which]

    answer = ask(stage.device(), "count")

    assert answer.sentences == sentences
    assert len(answer.frames) == 2


@pytest.mark.parametrize("bad", ["400", "nothing"])
def test_the_apology_is_for_an_answer_of_which_nothing_can_be_spoken(stage: Stage, bad: str) -> None:
    stage.vendor.script(CHAT, Script(answer=THREE))
    stage.vendor.stand(TTS, BAD[bad])
    device = stage.device()

    assert ask(device, "count").sentences == ["Sorry"]

    stage.calm()
    assert ask(device, "again").sentences == ["Fine"], "and the voice is not shut off for that"


def test_all_tries_of_one_text_do_not_shut_off_the_voice(tmp_path: Path, sounds: Sounds) -> None:
    with open_stage(tmp_path, sounds) as stage:
        stage.vendor.script(CHAT, Script(answer=THREE))
        stage.vendor.script(TTS, SHORT, *[Script(status=500)] * 3)

        answer = ask(stage.device(), "count")

        assert answer.sentences == ["This is one", "This is three"]
        assert stage.spoken() == ["This is one.", *["This is two."] * 3, "This is three."]


def test_several_files_in_one_body_are_all_heard(stage: Stage) -> None:
    stage.vendor.script(TTS, Script(answer=PART + PART))

    assert len(ask(stage.device(), "speak").frames) == 10


@pytest.mark.parametrize("body", [b"<\0" + hum(0.6, RATE)[2:], b"{\0" + hum(0.6, RATE)[2:]])
@pytest.mark.parametrize("form", ["pcm", "wav"])
def test_raw_samples_that_look_like_text(tmp_path: Path, sounds: Sounds, body: bytes, form: str) -> None:
    with open_stage(tmp_path, sounds, {"TTS": {"Vendor": {"response_format": form}}}) as stage:
        stage.vendor.stand(TTS, Script(answer=body))

        assert len(ask(stage.device(), "speak").frames) == 10
