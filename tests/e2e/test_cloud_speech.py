"""The way through with recognisers and a voice of the cloud: a device speaks, Doubao or Deepgram hears it, and Doubao's
HTTP voice answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loadtest.simulator.speech import Speech
from loadtest.vendors.http_vendor import HttpVendor
from loadtest.vendors.sounds import Sounds
from tests.e2e.stage import CHAT, Script, open_stage, speak_to
from tests.vendors.deepgram_vendor import PATH, DeepgramVendor
from tests.vendors.volcengine_recogniser import ASYNC, V2, VolcengineRecogniser
from tests.vendors.volcengine_voice import DoubaoVoice

HEARD = "what is up"


@pytest.mark.parametrize("ears", ["doubao_stream", "doubao", "deepgram"])
def test_a_conversation(ears: str, tmp_path: Path, sounds: Sounds, words: Callable[[str], Speech]) -> None:
    recogniser: Any = DeepgramVendor(sentences=[HEARD])
    if ears != "deepgram":
        recogniser = VolcengineRecogniser(access_key="secret-key", sentences=[HEARD])
    path = {"doubao_stream": ASYNC, "doubao": V2, "deepgram": PATH}[ears]
    voice = DoubaoVoice()
    with recogniser as hearing, HttpVendor(voice, keep_alive=False) as speaking:
        account = {"appid": "app", "access_token": "secret-key"}
        hears = {"api_key": "secret-key"} if ears == "deepgram" else account
        settings = {
            "selected_module": {"ASR": "Ears", "TTS": "Mouth"},
            "ASR": {"Ears": {"type": ears, "ws_url": hearing.url + path, **hears}},
            "TTS": {
                "Mouth": {
                    "type": "doubao",
                    "api_url": speaking.url + "/api/v1/tts",
                    "voice": "zh_female_wanwanxiaohe_moon_bigtts",
                    "format": "ogg_opus",
                    **account,
                }
            },
        }
        with open_stage(tmp_path, sounds, settings) as stage:
            stage.vendor.script(CHAT, Script(answer="One. Two."))
            answer = speak_to(stage.device(), words("tell me a long story"))
            stage.close_devices()
        assert answer.stt == HEARD
        assert answer.sentences == ["One", "Two"]
        assert len(answer.frames) > 4
        assert any(hearing.audio)
        assert {"One.", "Two."} <= {body["request"]["text"] for body in voice.seen}
        assert hearing.faults == []
