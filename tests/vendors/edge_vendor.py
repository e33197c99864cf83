"""Edge's read-aloud service, from its side: who may come in, what it is asked in, what it answers.

Strict: token, version, identifiers, the browser's headers, the order and the headers of the messages, the SSML as XML.
Its token is made by the package edge-tts, the only other client that follows the service."""

from __future__ import annotations

import email.utils
import re
import time
import urllib.parse
import xml.etree.ElementTree as Xml

import orjson
from edge_tts.drm import generate_sec_ms_gec_v2

from tests.vendors.speech_services import SOUNDS
from tests.vendors.ws_vendor import Fault, Peer, WsVendor

PATH = "/consumer/speech/synthesize/readaloud/edge/v1"
FORMATS = ("audio-24khz-48kbitrate-mono-mp3", "audio-24khz-96kbitrate-mono-mp3", "webm-24khz-16bit-mono-opus")
_HEX_32 = re.compile(r"[0-9a-f]{32}")
_CHANGES = {"rate": r"[+-]\d+%", "volume": r"[+-]\d+%", "pitch": r"[+-]\d+Hz"}
_NAMESPACE = "{http://www.w3.org/2001/10/synthesis}"
PIECE = 720
"""Bytes of MP3 in a message, as the service sends them."""


class EdgeVendor(WsVendor):
    """`ahead`: seconds by which its clock is ahead of this machine's. `once`: faults of the next connections."""

    def __init__(self, *, ahead: float = 0.0) -> None:
        super().__init__()
        self.ahead = ahead
        self.asked: list[dict[str, str]] = []
        self.configurations: list[str] = []
        """The bodies of speech.config."""
        self.refused = 0

    @property
    def ws_url(self) -> str:
        """What goes into `ws_url`."""
        return self.url + PATH

    def refusal_headers(self) -> list[tuple[bytes, bytes]]:
        return [(b"date", email.utils.formatdate(time.time() + self.ahead, usegmt=True).encode())]

    def authorize(self, peer: Peer) -> int:
        scripted = super().authorize(peer)
        if scripted:
            return scripted
        path, _, query = peer.path.partition("?")
        asked = dict(urllib.parse.parse_qsl(query))
        now = time.time() + self.ahead
        tokens = {generate_sec_ms_gec_v2(now + shift) for shift in (-300, 0, 300)}
        allowed = (
            path == PATH
            and asked.get("TrustedClientToken") == "6A5AA1D4EAFF4E9FB37E23D68491D6F4"
            and _HEX_32.fullmatch(asked.get("ConnectionId", ""))
            and asked.get("Sec-MS-GEC") in tokens
            and re.fullmatch(r"2-\d+\.\d+\.\d+\.\d+", asked.get("Sec-MS-GEC-Version", ""))
            and peer.headers.get("origin", "").startswith("chrome-extension://")
            and "Edg/" in peer.headers.get("user-agent", "")
            and re.fullmatch("muid=[0-9A-F]{32};", peer.headers.get("cookie", ""))
        )
        self.refused += not allowed
        return 0 if allowed else 403

    def converse(self, peer: Peer) -> None:
        self._speak(peer, self.once.popleft() if self.once else "")

    def _speak(self, peer: Peer, fault: str) -> None:
        headers, body = _text(peer.receive(), "speech.config")
        self.configurations.append(body)
        synthesis = orjson.loads(body)["context"]["synthesis"]["audio"]
        if synthesis["outputFormat"] not in FORMATS:
            raise Fault(f"no such format: {synthesis['outputFormat']}")
        headers, body = _text(peer.receive(), "ssml")
        request_id = headers.get("X-RequestId", "")
        if not _HEX_32.fullmatch(request_id) or headers.get("Content-Type") != "application/ssml+xml":
            raise Fault(f"headers of the SSML: {headers}")
        said = _said(body)
        self.asked.append(said | {"format": synthesis["outputFormat"]})
        self._answer(peer, "turn.start", request_id, b'{"context":{"serviceTag":"x"}}')
        self._answer(peer, "response", request_id, b'{"context":{"serviceTag":"x"},"audio":{"type":"inline"}}')
        if fault == "garbage":
            peer.send("<html>oops</html>")
        if fault == "short":
            peer.send(b"\x40\x00tiny")
        if fault in ("garbage", "short", "stall_before"):
            peer.wait_gone()
        mp3 = SOUNDS.body("mp3", SOUNDS.seconds_for(said["text"])) if fault != "silent" else b""
        for number, at in enumerate(range(0, len(mp3), PIECE)):
            peer.send(_audio(request_id, mp3[at : at + PIECE]))
            if number == 4 and fault == "drop":
                peer.drop()
            if number == 4 and fault in ("drop", "stall_after"):
                peer.wait_gone()
        text = {"Text": said["text"], "Length": len(said["text"]), "BoundaryType": "SentenceBoundary"}
        spoken = {"Type": "SentenceBoundary", "Data": {"Offset": 1_000_000, "Duration": 9_000_000, "text": text}}
        self._answer(peer, "audio.metadata", request_id, orjson.dumps({"Metadata": [spoken]}))
        peer.send(_binary(f"X-RequestId:{request_id}\r\nPath:audio\r\n", b""))  # without a type: the last one
        self._answer(peer, "turn.end", request_id, b"{}")
        peer.receive()  # a second request on this connection is not answered

    @staticmethod
    def _answer(peer: Peer, path: str, request_id: str, body: bytes) -> None:
        head = f"X-RequestId:{request_id}\r\nContent-Type:application/json; charset=utf-8\r\nPath:{path}\r\n\r\n"
        peer.send(head + body.decode())


def _text(message: str | bytes, path: str) -> tuple[dict[str, str], str]:
    """Headers and body of what must be a text message of this path."""
    if not isinstance(message, str):
        raise Fault(f"a binary message instead of {path}")
    head, _, body = message.partition("\r\n\r\n")
    headers = dict(line.split(":", 1) for line in head.split("\r\n"))
    if headers.get("Path") != path or "GMT+0000 (Coordinated Universal Time)" not in headers.get("X-Timestamp", ""):
        raise Fault(f"expected {path} with a time, got {headers}")
    return headers, body


def _said(ssml: str) -> dict[str, str]:
    if len(ssml.encode()) > 8192:
        raise Fault("too long")
    speak = Xml.fromstring(ssml)
    voice = speak.find(f"{_NAMESPACE}voice")
    prosody = voice.find(f"{_NAMESPACE}prosody") if voice is not None else None
    if voice is None or prosody is None:
        raise Fault(f"no voice or no prosody: {ssml}")
    name = voice.get("name", "")
    if not re.fullmatch(r"Microsoft Server Speech Text to Speech Voice \(\w\w+-[\w-]+, \w+Neural\)", name):
        raise Fault(f"no such voice: {name}")
    for key, pattern in _CHANGES.items():
        if not re.fullmatch(pattern, prosody.get(key, "")):
            raise Fault(f"{key} is {prosody.get(key)}")
    return {"text": "".join(prosody.itertext()), "voice": name} | {key: prosody.get(key, "") for key in _CHANGES}


def _audio(request_id: str, mp3: bytes) -> bytes:
    head = f"X-RequestId:{request_id}\r\nContent-Type:audio/mpeg\r\nX-StreamId:1\r\nPath:audio\r\n"
    return _binary(head, mp3)


def _binary(head: str, body: bytes) -> bytes:
    return len(head).to_bytes(2, "big") + head.encode() + body
