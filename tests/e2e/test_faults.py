"""The fault matrix: whatever goes wrong at a vendor, the device hears something, is never left in speaking, and the
next turn works.

What is heard is the answer where a retry can cure the fault, and else the apology. The connection of the fault is
closed, no greenlet stays behind (the leak check of every test), and each turn is counted exactly once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from loadtest.simulator.speech import Speech
from loadtest.vendors.openai_vendor import ASR
from tests.e2e.stage import CHAT, SHORT, TTS, Script, Stage, ask, hear_nothing_more, merged, open_stage, speak_to
from tests.e2e.voices import spoken_by_beeper
from tests.subtitles import shown
from tests.waiting import wait_for
from xiaozhi.session.speaking.encoder import VoiceFormat

Words = Callable[[str], Speech]
QUESTION = "what is up with you"
APOLOGY = "Sorry, I cannot answer."
PATIENCE = {"connect": 1.0, "first_byte": 1.0, "gap": 1.0, "total": 5.0}
"""Seconds: short, so that a fault is over soon; far longer than anything that works takes here."""


@pytest.fixture(scope="module")
def stage_settings() -> dict[str, Any]:
    once = {"timeout": 0.5}  # shorter than the first pause before a retry: a fault shows at once
    return {
        "system_error_response": APOLOGY,
        "ASR": {"Vendor": {"timeout": PATIENCE}},
        "LLM": {"Vendor": {"timeout": PATIENCE}},
        "TTS": {"Vendor": {"timeout": PATIENCE}},
        "ai_providers": {"asr": once, "llm": once, "tts": once},
        "llm_timeout": {"first_token": 1.2, "stall": 1.2, "total": 6},
        "tts_timeout": 1.2,
        "asr_timeout": 2.5,
        "exit_commands": [],
    }


@dataclass(frozen=True)
class Fault:
    """`script` for requests of the faulty vendor."""

    name: str
    script: Script
    heard: tuple[str, ...] = (APOLOGY,)
    """The sentences that must be heard."""


ANSWER = "This is one. This is two."
FAULTS = [
    *[
        (kind, fault)
        for kind in (ASR, CHAT, TTS)
        for fault in (
            Fault("401", Script(status=401)),
            Fault("429", Script(status=429, retry_after="1")),
            Fault("500", Script(status=500)),
            Fault("stall before", Script(stall="before")),
            Fault("disconnect", Script(disconnect=-1)),
            Fault("html", Script(garbage="html")),
            Fault("empty", Script(garbage="empty")),
            Fault("no HTTP", Script(garbage="status")),
            Fault("broken chunk", Script(garbage="chunk")),
        )
    ],
    (ASR, Fault("stall after", Script(stall="after"))),
    (ASR, Fault("disconnect in the middle", Script(disconnect=1))),
    (ASR, Fault("half a JSON", Script(garbage="json"))),
    (ASR, Fault("another JSON", Script(answer={"result": "no text"}))),
    (CHAT, Fault("stall after", Script(answer=ANSWER, stall="after"))),
    (CHAT, Fault("disconnect after the headers", Script(answer=ANSWER, disconnect=0))),
    # The first sentence is complete when the line breaks: it is heard, then the apology.
    (CHAT, Fault("disconnect in the middle", Script(answer=ANSWER, disconnect=12), ("This is one.", APOLOGY))),
    (
        CHAT,
        Fault(
            "an error in words in the middle",
            Script(answer=["This is one. This", b"event: error\ndata: the upstream is gone\n\n"]),
            ("This is one.", APOLOGY),
        ),
    ),
    (
        CHAT,
        Fault(
            "error in the middle",
            Script(answer=["This is one. This", b'data: {"error": {"message": "no"}}\n\n']),
            ("This is one.", APOLOGY),
        ),
    ),
    (CHAT, Fault("no words", Script(answer=""))),
    (CHAT, Fault("half a JSON", Script(garbage="json"))),
    (CHAT, Fault("bad events", Script(garbage="sse"))),
    # Sound that has begun is heard as far as it goes.
    (TTS, Fault("stall after", Script(answer=("wav", 1.0), stall="after"), ("This is one.", APOLOGY))),
    (TTS, Fault("disconnect after the headers", Script(disconnect=0))),
    (TTS, Fault("disconnect in the middle", Script(answer=("wav", 1.0), disconnect=2), ("This is one.", APOLOGY))),
    (TTS, Fault("binary", Script(garbage="binary"))),
    (TTS, Fault("half a JSON", Script(garbage="json"))),
]


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (ASR, {"ASR": {"Vendor": {"base_url": "http://127.0.0.1:1/v1"}}}),
        (CHAT, {"LLM": {"Vendor": {"base_url": "http://127.0.0.1:1/v1"}}}),
        (TTS, {"TTS": {"Vendor": {"api_url": "http://127.0.0.1:1/v1"}}}),
    ],
)
def test_a_vendor_at_whose_address_nobody_listens(
    tmp_path: Any, sounds: Any, stage_settings: dict[str, Any], words: Words, kind: str, settings: dict[str, Any]
) -> None:
    with open_stage(tmp_path, sounds, merged(stage_settings, settings)) as stage:
        device = stage.device()

        failed = speak_to(device, words(QUESTION)) if kind == ASR else ask(device, "how are you")

        assert failed.sentences == [shown(APOLOGY)]
        assert failed.frames
        assert stage.outcomes() == {"failed": 1}


@pytest.mark.parametrize("kind, fault", FAULTS, ids=lambda value: value.name if isinstance(value, Fault) else value)
def test_fault(stage: Stage, words: Words, kind: str, fault: Fault) -> None:
    device = stage.device()
    before = stage.outcomes()
    stage.vendor.stand(CHAT, Script(answer=ANSWER))
    stage.vendor.stand(kind, fault.script)

    failed = speak_to(device, words(QUESTION)) if kind == ASR else ask(device, "how are you")

    assert failed.sentences == [shown(sentence) for sentence in fault.heard]
    assert failed.frames
    assert not device.replies.speaking
    assert counted(before, stage.outcomes()) == {"failed": 1}
    hear_nothing_more(device, 0.05)

    stage.reset()
    healed = speak_to(device, words(QUESTION))
    assert healed.sentences == ["Fine"]
    assert counted(before, stage.outcomes()) == {"failed": 1, "answered": 1}
    assert stage.vendor.active == 0


def counted(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    """Turns that ended in between, by outcome."""
    return {
        outcome: value - before.get(outcome, 0) for outcome, value in after.items() if value != before.get(outcome, 0)
    }


def test_a_fault_that_passes_is_retried(tmp_path: Any, sounds: Any) -> None:
    """Before anything was heard; one try is not the end."""
    with open_stage(tmp_path, sounds) as stage:
        stage.vendor.script(CHAT, Script(status=500))

        assert ask(stage.device(), "hello").sentences == ["Fine"]
        assert stage.vendor.counts[CHAT] == 2
        assert stage.outcomes() == {"answered": 1}


def test_a_fallback_takes_over(tmp_path: Any, sounds: Any) -> None:
    """Each kind at a vendor that refuses, with the good one behind it."""
    settings = {
        "selected_module": {"LLM": "Broken", "ASR": "Broken", "TTS": "Broken"},
        "fallback": {"LLM": ["Vendor"], "ASR": ["Vendor"], "TTS": ["Vendor"]},
    }
    broken = {"type": "openai", "api_key": "k", "model_name": "m", "base_url": "http://127.0.0.1:1/v1"}
    settings |= {"LLM": {"Broken": broken}, "ASR": {"Broken": broken}, "TTS": {"Broken": {**broken, "voice": "v"}}}
    settings["ai_providers"] = {kind: {"timeout": 0.2} for kind in ("asr", "llm", "tts")}
    with open_stage(tmp_path, sounds, settings) as stage:
        answer = ask(stage.device(), "hello")

        assert answer.sentences == ["Fine"]
        assert answer.frames
        assert stage.outcomes() == {"answered": 1}


def test_the_sound_of_a_substitute_is_not_kept_under_the_real_voices_name(tmp_path: Any, sounds: Any) -> None:
    settings = {"fallback": {"TTS": ["Espeak"]}, "ai_providers": {"tts": {"timeout": 0.2}}}
    with open_stage(tmp_path, sounds, settings) as stage:
        device = stage.device()
        stage.vendor.stand(TTS, Script(status=400))
        spoken_by_beeper.clear()
        assert ask(device, "hello").sentences == ["Fine"]
        assert spoken_by_beeper == ["Fine."]

        stage.calm()
        stage.forget_requests()
        ask(device, "hello")

        assert stage.spoken() == ["Fine."], "the real voice speaks again"
        assert spoken_by_beeper == ["Fine."]


def test_without_a_voice_the_emergency_voice_apologises(
    tmp_path: Any, sounds: Any, stage_settings: dict[str, Any]
) -> None:
    """The voice never worked, so nothing could be prepared."""
    settings = {**stage_settings, "TTS": {"Vendor": {"api_url": "http://127.0.0.1:1/v1"}}}
    with open_stage(tmp_path, sounds, settings) as stage:
        device = stage.device()
        spoken_by_beeper.clear()

        answer = ask(device, "hello")

        assert answer.sentences == [shown(APOLOGY)]
        assert len(answer.frames) >= 2
        assert spoken_by_beeper == [APOLOGY]
        assert stage.outcomes() == {"failed": 1}
        greeting = ask(device, "hello robot")
        assert greeting.frames
        assert len(spoken_by_beeper) >= 2, "even the greeting"


def test_the_voice_of_this_machine_is_the_emergency_voice(
    tmp_path: Any, sounds: Any, stage_settings: dict[str, Any]
) -> None:
    settings = {**stage_settings, "TTS": {"Vendor": {"api_url": "http://127.0.0.1:1/v1"}, "Espeak": {"type": "espeak"}}}
    with open_stage(tmp_path, sounds, settings) as stage:
        answer = ask(stage.device(), "hello")

        assert answer.sentences == [shown(APOLOGY)]
        assert len(answer.frames) > 10
        assert stage.outcomes() == {"failed": 1}


def test_without_any_voice_the_apology_is_shown(tmp_path: Any, sounds: Any, stage_settings: dict[str, Any]) -> None:
    settings = {
        **stage_settings,
        "TTS": {"Vendor": {"api_url": "http://127.0.0.1:1/v1"}, "Espeak": {"type": "openai", "timeout": "never"}},
    }
    with open_stage(tmp_path, sounds, settings) as stage:
        device = stage.device()

        answer = ask(device, "hello")

        assert answer.sentences == [shown(APOLOGY)]
        assert answer.frames == []
        assert not device.replies.speaking
        stage.server.services.speech_cache.clear()


def test_the_phrases_are_tried_again_when_the_voice_is_back(
    tmp_path: Any, sounds: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xiaozhi.session.speaking.phrases.RETRY_S", 0.0)
    with open_stage(tmp_path, sounds, {"ai_providers": {"tts": {"timeout": 0.2}}}) as stage:
        phrases = stage.generation.agent.phrases
        stage.vendor.stand(TTS, Script(status=400))
        device = stage.device(frame_ms=20)  # other frames than those that are ready
        assert device.hello_reply is not None
        voice = VoiceFormat("opus", device.hello_reply.sample_rate, 20)
        wait_for(lambda: stage.vendor.counts.get(TTS) and not phrases.preparing, "a vain attempt")
        assert not phrases.ready(voice)
        stage.calm()

        stage.device(frame_ms=20)

        wait_for(lambda: phrases.ready(voice), "the phrases")


def test_an_overloaded_server_says_so(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    from xiaozhi.runtime.watchdog import Shed

    before = stage.outcomes()
    device = stage.device()
    monkeypatch.setattr(type(stage.server.watchdog), "shedding", Shed.TURNS)

    assert ask(device, "hello").sentences == [shown(APOLOGY)]

    monkeypatch.undo()
    assert counted(before, stage.outcomes()) == {"overloaded": 1}
    assert stage.vendor.counts.get(CHAT, 0) == 0
    assert ask(device, "hello").sentences == ["Fine"]


def test_a_voice_that_stalls_between_sentences_does_not_leave_the_device_speaking(stage: Stage) -> None:
    device = stage.device()
    stage.vendor.script(CHAT, Script(answer=ANSWER))
    stage.vendor.script(TTS, SHORT, Script(stall="before"))

    answer = ask(device, "hello")

    assert answer.sentences == ["This is one", shown(APOLOGY)]
    assert ask(device, "again").sentences == ["Fine"]


def test_metrics_know_what_failed(stage: Stage) -> None:
    before = stage.count("xiaozhi_vendor_requests_total", kind="llm", vendor="Vendor", result="rejected")
    stage.vendor.script(CHAT, Script(status=401))
    ask(stage.device(), "hello")
    assert stage.count("xiaozhi_vendor_requests_total", kind="llm", vendor="Vendor", result="rejected") == before + 1
