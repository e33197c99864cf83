"""A strict Deepgram (/v1/listen): the parameters of the address, the form of the sound, messages, ten seconds without
sound. Sources: developers.deepgram.com/reference/speech-to-text/listen-streaming, /docs/audio-keep-alive,
/docs/stt-troubleshooting-websocket-data-and-net-errors."""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Sequence
from typing import Any

from tests.vendors.ws_vendor import Fault, Peer, PeerGone, WsVendor
from xiaozhi.audio.opus import Decoder, OpusError

PATH = "/v1/listen"
SWITCHES = {"punctuate", "smart_format", "interim_results", "numerals", "profanity_filter"}
KNOWN = SWITCHES | {"model", "language", "encoding", "sample_rate", "channels", "endpointing", "keyterm", "tag"}
LONGEST_BYTES = 8_000
"""250 ms: what the vendor recommends as the longest piece."""


class DeepgramVendor(WsVendor):
    """Hears `sentences`; after each third piece of sound the next one is final, the rest at the end.

    `fault`: "" or stall_before, stall_after, drop, garbage, error (a message of type Error), undecodable (it says that
    this is no sound), shut (hangs up without the Metadata)."""

    def __init__(
        self,
        *,
        api_key: str = "secret-key",
        sentences: Sequence[str] = ("What time is it?", "And where?"),
        silence_s: float = 10.0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.api_key = api_key
        self.sentences = list(sentences)
        self.silence_s = silence_s
        self.query: dict[str, list[str]] = {}
        self.audio = b""
        self.kept_alive = 0

    def authorize(self, peer: Peer) -> int:
        if self.reject:
            return self.reject.popleft()
        address = urllib.parse.urlsplit(peer.path)
        if address.path != PATH:
            return 404
        if peer.headers.get("authorization") != f"Token {self.api_key}":
            return 401
        self.query = urllib.parse.parse_qs(address.query, keep_blank_values=True)
        return 400 if self._wrong() else 0

    def _wrong(self) -> bool:
        query = self.query
        switches = {value for key in SWITCHES & query.keys() for value in query[key]}
        one = {key: values[0] for key, values in query.items()}
        return bool(
            query.keys() - KNOWN
            or switches - {"true", "false"}
            or one.get("encoding") not in ("linear16", "opus")
            or one.get("sample_rate") != "16000"
            or not (one.get("endpointing") == "false" or one.get("endpointing", "").isdigit())
            or not one.get("model")
            or ("keyterm" in query and not one["model"].startswith("nova-3"))
        )

    def converse(self, peer: Peer) -> None:
        fault = self.once.popleft() if self.once else self.fault
        self.audio, said, pieces = b"", 0, 0
        decoder = Decoder(16_000) if self.query["encoding"] == ["opus"] else None
        while True:
            message = peer.poll(self.silence_s)
            if message is None:
                peer.close(1011, "NET-0001: no audio within the timeout window")
                raise PeerGone
            if isinstance(message, str):
                kind = json.loads(message)["type"]
                if kind == "CloseStream":
                    break
                if kind != "KeepAlive":
                    raise Fault(f"message {message}")
                self.kept_alive += 1
                continue
            assert message is not None
            self.audio += self._sound(message, decoder)
            pieces += 1
            self._misbehave(peer, fault)
            if fault == "stall_before" or (fault == "stall_after" and pieces > 1):
                continue
            if pieces % 3 == 0 and said < len(self.sentences) - 1:
                self._results(peer, self.sentences[said], final=True)
                said += 1
            elif self.query["interim_results"] == ["true"]:
                self._results(peer, self.sentences[said].split(" ")[0], final=False)
        if fault.startswith("stall"):
            peer.wait_gone()
        if any(self.audio):
            for sentence in self.sentences[said:]:
                self._results(peer, sentence, final=True)
        if fault == "shut":
            return
        peer.send(json.dumps(metadata(len(self.audio) / 32_000)))
        late = peer.poll(0.2)
        if late is not None:
            raise Fault(f"{late!r} behind CloseStream")

    @staticmethod
    def _sound(message: bytes, decoder: Decoder | None) -> bytes:
        if decoder is not None:
            try:
                return decoder.decode(message)
            except OpusError as error:
                raise Fault(f"not one packet of Opus: {error}") from error
        if not message or len(message) % 2 or len(message) > LONGEST_BYTES:
            raise Fault(f"a piece of {len(message)} bytes")
        return message

    def _results(self, peer: Peer, text: str, *, final: bool) -> None:
        peer.send(
            json.dumps(results(text, final=final, languages=["en"] if self.query["language"] == ["multi"] else []))
        )

    @staticmethod
    def _misbehave(peer: Peer, fault: str) -> None:
        if fault == "drop":
            peer.drop()
        elif fault == "garbage":
            peer.send("<html>oops</html>")
        elif fault == "error":
            peer.send(json.dumps({"type": "Error", "variant": "SchemaError", "description": "bad secret-key"}))
        elif fault == "undecodable":
            peer.close(1008, "DATA-0000: the payload cannot be decoded as audio")
            raise PeerGone
        else:
            return
        peer.wait_gone()


def results(text: str, *, final: bool, languages: Sequence[str] = ()) -> dict[str, Any]:
    """What was heard."""
    words = [{"word": word, "start": 0.1, "end": 0.2, "confidence": 0.9} for word in text.split()]
    best: dict[str, Any] = {"transcript": text, "confidence": 0.9, "words": words}
    if languages:
        best["languages"] = list(languages)
    return {
        "type": "Results",
        "channel_index": [0, 1],
        "duration": 1.0,
        "start": 0.0,
        "is_final": final,
        "speech_final": final,
        "channel": {"alternatives": [best]},
        "metadata": {
            "request_id": "00000000-0000-0000-0000-000000000001",
            "model_info": {"name": "general-nova-3", "version": "2026-01-01.0", "arch": "nova-3"},
            "model_uuid": "00000000-0000-0000-0000-000000000002",
        },
        "from_finalize": False,
    }


def metadata(seconds: float) -> dict[str, Any]:
    """The end."""
    return {
        "type": "Metadata",
        "transaction_key": "deprecated",
        "request_id": "00000000-0000-0000-0000-000000000001",
        "sha256": "e3b0c442",
        "created": "2026-11-27T10:00:00.000Z",
        "duration": seconds,
        "channels": 1,
    }
