"""ElevenLabs' WebSocket for text that is still being written, from its side.

Strict: the key in its header, the address, the first message, text that ends in a blank. It tells of every character
when it is spoken, and cuts the sound as it likes."""

from __future__ import annotations

import base64
import urllib.parse
from typing import Any

import orjson

from loadtest.vendors.sounds import SYLLABLE_S, hum
from tests.vendors.ws_vendor import Fault, Peer, WsVendor

KEY = "secret-key"
RATE = 24_000
MASTER = hum(30.0, RATE)
PIECE_S = 0.5
"""Seconds of sound in a message; longer texts come in several."""


def seconds_for(text: str) -> float:
    """How long `text` is spoken: as long for each character, blanks included."""
    return len(text) * SYLLABLE_S


class ElevenlabsVendor(WsVendor):
    """`aligns`: False leaves out when characters are spoken, `joins` speaks all texts at the end. `once`: faults of the
    next connections."""

    def __init__(self) -> None:
        super().__init__()
        self.aligns = True
        self.joins = False
        self.asked: list[dict[str, Any]] = []
        """Of each connection: its query, settings and texts."""

    def authorize(self, peer: Peer) -> int:
        return super().authorize(peer) or (0 if peer.headers.get("xi-api-key") == KEY else 403)

    def converse(self, peer: Peer) -> None:
        self._speak(peer, self.once.popleft() if self.once else "")

    def _speak(self, peer: Peer, fault: str) -> None:
        path, _, query = peer.path.partition("?")
        if path != "/v1/text-to-speech/anna/stream-input":
            raise Fault(f"no such path: {path}")
        begin = _message(peer)
        if begin.pop("text") != " " or set(begin) - {"voice_settings", "generation_config"}:
            raise Fault(f"the first message: {begin}")
        asked = {**dict(urllib.parse.parse_qsl(query)), **begin, "texts": []}
        if asked["output_format"] != "pcm_24000" or not asked["model_id"]:
            raise Fault(f"asked for {asked}")
        self.asked.append(asked)
        waiting = ""
        while (text := _message(peer)["text"]) != "":
            if not text.endswith(" "):
                raise Fault(f"text without a blank at its end: {text!r}")
            asked["texts"].append(text)
            waiting += text
            if not self.joins:
                self._say(peer, waiting, fault)
                waiting = ""
        self._say(peer, waiting, fault)
        peer.send(orjson.dumps({"audio": None, "isFinal": True, "alignment": None}).decode())

    def _say(self, peer: Peer, text: str, fault: str) -> None:
        if not text:
            return
        if fault == "garbage":
            peer.send("<html>oops</html>")
        if fault in ("garbage", "stall_before"):
            peer.wait_gone()
        if fault not in ("", "stall_after", "drop"):  # one of the vendor's own errors
            peer.send(orjson.dumps({"message": f"refused {KEY}", "error": fault, "code": 1008}).decode())
            peer.close(1008, fault)
            peer.wait_gone()
        step = max(1, round(PIECE_S / SYLLABLE_S))
        for at in range(0, len(text), step):
            characters = text[at : at + step]
            pcm = MASTER[: round(seconds_for(characters) * RATE) * 2]
            times = [round(place * SYLLABLE_S * 1000) for place in range(len(characters))]
            spoken = {"chars": list(characters), "charStartTimesMs": times, "charDurationsMs": times}
            alignment = spoken if self.aligns else None
            audio = base64.b64encode(pcm).decode()
            peer.send(orjson.dumps({"audio": audio, "isFinal": None, "alignment": alignment}).decode())
            if fault == "drop":
                peer.drop()
            if fault in ("drop", "stall_after"):
                peer.wait_gone()


def _message(peer: Peer) -> dict[str, Any]:
    message = peer.receive(3600)
    if not isinstance(message, str):
        raise Fault("a binary message")
    return dict(orjson.loads(message))
