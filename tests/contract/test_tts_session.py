"""A streaming voice written as `providers/tts_session.py` shows it keeps the contract, over a real WebSocket. Begin
here with a new one."""

from __future__ import annotations

import json
from collections.abc import Generator
from typing import Any

from loadtest.vendors.sounds import hum
from tests.contract.loopback import LoopbackPeer, ws_subject
from tests.contract.speaking import TtsStreamContract
from tests.vendors.ws_vendor import Fault
from xiaozhi.chat import CallContext
from xiaozhi.errors import VendorGarbage
from xiaozhi.net.websocket_client import VendorSocket
from xiaozhi.providers.contracts.tts import Pcm, SentenceEnds, SpeechEvent, TtsTraits
from xiaozhi.providers.tts_session import WAIT_S, SessionTts, TtsSession

RATE = 16_000

# --- the provider: a file of its own in xiaozhi/providers/tts/ -----------------------------------------------------


class _Session(TtsSession):
    """One connection per answer; each sentence's sound ends with a message."""

    def __init__(self, url: str, key: str) -> None:
        headers = {"Authorization": f"Bearer {key}"}
        self._socket = VendorSocket("acme", url, headers=headers, connect=0.5, secrets=[key])

    def send_sentence(self, sentence: str) -> None:
        self._socket.send_text(json.dumps({"text": sentence}))

    def send_end(self) -> None:
        self._socket.send_text(json.dumps({"end": True}))

    def read(self) -> Generator[SpeechEvent | None]:
        with self._socket:
            while True:
                message = self._socket.receive(WAIT_S)
                if isinstance(message, bytes):
                    yield Pcm(message)
                    continue
                try:
                    event = json.loads(message)["event"]
                except (ValueError, KeyError, TypeError) as error:
                    raise VendorGarbage("acme", message) from error
                if event == "finished":
                    return
                yield SentenceEnds() if event == "sentence_end" else None

    def hang_up(self) -> None:
        self._socket.close()


class AcmeTts(SessionTts):
    """The provider, without the options that it would have."""

    type_name = "acme"
    traits = TtsTraits(sample_rate=RATE, voice_key="anna")

    def __init__(self, url: str) -> None:
        super().__init__(timeout=0.3)
        self._url = url

    def connect(self, context: CallContext) -> TtsSession:
        return _Session(self._url, "secret-key")


# --- its vendor ----------------------------------------------------------------------------------------------------


def talk(peer: LoopbackPeer) -> None:
    """Speaks each sentence as it comes: 0.07 s per letter, in pieces of 100 ms."""
    if peer.headers.get("authorization") != "Bearer secret-key":
        raise Fault("no key")
    while "end" not in (asked := json.loads(peer.receive())):
        peer.send(json.dumps({"event": "sentence_begin"}))
        sound = hum(0.07 * len(asked["text"]), RATE)
        for start in range(0, len(sound), RATE // 5):
            peer.send(sound[start : start + RATE // 5])
        peer.send(json.dumps({"event": "sentence_end"}))
    peer.send(json.dumps({"event": "finished"}))


class TestAcmeTts(TtsStreamContract):
    type_name = "acme"

    def subject(self) -> Any:
        return ws_subject(AcmeTts, talk)
