"""The voices that are asked by one HTTP request per sentence keep the contract, each against its strict vendor."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import orjson
import pytest

from tests.contract.loopback import LoopbackPeer, failing, local_subject, ws_subject
from tests.contract.speaking import TtsSentenceContract, by_sentence, pcm_of
from tests.contract.suites import SENTENCES, Subject
from tests.fakes.inference import InlineInference
from tests.vendors.speech_services import (
    KEY,
    SOUNDS,
    TTS,
    Service,
    SpeechService,
    coze,
    elevenlabs,
    fish,
    index_tts,
    index_tts_pcm,
    kokoro,
    minimax,
    siliconflow,
    sovits_v2,
    sovits_v3,
)
from tests.vendors.ws_vendor import Fault
from xiaozhi.providers.contracts.provider import Services
from xiaozhi.providers.registry import build

TIMEOUT = {"connect": 1, "first_byte": 0.3, "gap": 0.3, "total": 5}


@contextmanager
def _subject(service: Service, address: str, block: dict[str, Any]) -> Iterator[Subject]:
    with SpeechService(service) as vendor:
        key, path = address.split(" ")
        filled = {key: vendor.url + path, "timeout": TIMEOUT, **block}
        provider = build("tts", "Subject", filled, Services(inference=InlineInference()))  # type: ignore[arg-type]
        yield Subject(provider, failing(vendor, TTS), vendor.wait_gone, lambda: vendor.active)
        provider.close()
        assert vendor.refusals == []


class _SpeechServiceContract(TtsSentenceContract):
    service: ClassVar[Any]
    address: ClassVar[str] = "api_url /"
    """The option, and the path in it."""
    block: ClassVar[dict[str, Any]] = {}

    def subject(self) -> Any:
        return _subject(type(self).service, self.address, {"type": self.type_name, **self.block})


class TestSiliconflowTts(_SpeechServiceContract):
    type_name = "siliconflow"
    service = staticmethod(siliconflow)
    address = "api_url /v1"
    block: ClassVar[dict[str, Any]] = {"access_token": KEY}


class TestSiliconflowTtsOpus(TestSiliconflowTts):
    block = {"access_token": KEY, "response_format": "opus"}


class TestCozeCnTts(_SpeechServiceContract):
    type_name = "cozecn"
    service = staticmethod(coze)
    address = "api_url /v1/audio/speech"
    block = {"access_token": KEY, "voice": 7426720361733046281}


class TestIndexStreamTts(_SpeechServiceContract):
    type_name = "index_stream"
    service = staticmethod(index_tts_pcm)
    address = "api_url /tts"
    block: ClassVar[dict[str, Any]] = {"api_key": KEY}


class TestIndexStreamTtsWav(TestIndexStreamTts):
    service = staticmethod(index_tts)


class TestGptSovitsV2Tts(_SpeechServiceContract):
    type_name = "gpt_sovits_v2"
    service = staticmethod(sovits_v2)
    address = "url /tts"
    block = {"api_key": KEY, "ref_audio_path": "demo.wav", "text_lang": "auto"}


class TestGptSovitsV3Tts(_SpeechServiceContract):
    type_name = "gpt_sovits_v3"
    service = staticmethod(sovits_v3)
    address = "url "
    block = {"api_key": KEY}


class TestFishspeechTts(_SpeechServiceContract):
    type_name = "fishspeech"
    service = staticmethod(fish)
    address = "api_url /v1/tts"
    block = {"api_key": KEY}


class TestCustomTts(_SpeechServiceContract):
    type_name = "custom"
    service = staticmethod(kokoro)
    address = "url /v1/audio/speech"
    block: ClassVar[dict[str, Any]] = {
        "method": "POST",
        "headers": {"Authorization": f"Bearer {KEY}"},
        "format": "mp3",
        "params": {"input": "{prompt_text}", "voice": "zf_xiaoxiao", "response_format": "mp3", "speed": 1},
    }


class TestElevenlabsTts(_SpeechServiceContract):
    type_name = "elevenlabs"
    service = staticmethod(elevenlabs)
    address = "base_url /v1"
    block = {"api_key": KEY, "voice_id": "anna"}


class TestMinimaxTts(_SpeechServiceContract):
    type_name = "minimax_httpstream"
    service = staticmethod(minimax)
    address = "api_url /v1/t2a_v2"
    block: ClassVar[dict[str, Any]] = {"api_key": KEY, "group_id": 42}


class TestMinimaxTtsMp3(TestMinimaxTts):
    block = {"api_key": KEY, "group_id": "42", "audio_setting": {"format": "mp3"}}


# --- not over HTTP, or nowhere ----------------------------------------------------------------------------------------


def _paddle(peer: LoopbackPeer) -> None:
    """PaddleSpeech's WebSocket: start, text, sound in base64, end."""
    if orjson.loads(peer.receive()) != {"task": "tts", "signal": "start"}:
        raise Fault("no start")
    peer.send(orjson.dumps({"status": 0, "signal": "server ready", "session": "s-1"}).decode())
    asked = orjson.loads(peer.receive())
    if set(asked) != {"text", "spk_id"} or not isinstance(asked["spk_id"], int):
        raise Fault(f"asked for {asked}")
    pcm = SOUNDS.body("pcm", SOUNDS.seconds_for(asked["text"]))
    for at in range(0, len(pcm), 4_800):
        audio = base64.b64encode(pcm[at : at + 4_800]).decode()
        peer.send(orjson.dumps({"status": 1, "audio": audio}).decode())
    peer.send('{"status": 2, "audio": ""}')
    if orjson.loads(peer.receive()) != {"task": "tts", "signal": "end", "session": "s-1"}:
        raise Fault("no end")
    peer.send('{"status": 0, "signal": "connection will be closed"}')


class TestPaddleSpeechTts(TtsSentenceContract):
    type_name = "paddle_speech"

    def subject(self) -> Any:
        def make(url: str) -> Any:
            block = {"type": "paddle_speech", "url": url, "api_key": KEY, "timeout": TIMEOUT}
            return build("tts", "Paddle", block, Services(inference=InlineInference()))  # type: ignore[arg-type]

        return ws_subject(make, _paddle, is_sound=lambda message: '"status":1' in str(message))


class TestDefaultTts(TtsSentenceContract):
    type_name = "default"
    vendor = False

    def subject(self) -> Any:
        return local_subject("tts", {"type": "default"})

    @pytest.mark.leaks("the pool's threads are native and end a moment after close")
    def test_sentences_in_order_with_sound_in_them(self, it: Subject) -> None:
        """Its sound is silence."""
        grouped = by_sentence(self.use(it.provider))
        assert [text for text, _ in grouped] == list(SENTENCES)
        pcm, seconds = pcm_of([sound for _, sounds in grouped for sound in sounds], 24_000)
        assert 2.0 < seconds < 30.0
        assert not any(pcm)
