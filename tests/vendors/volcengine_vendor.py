"""A strict Volcengine bidirectional speech service. Its frames are read and written here byte by byte, independently of
the client's code.

Refuses what the real one would: unknown resources and wrong credentials (before the upgrade), events out of order,
session ids that are empty or used twice, two sessions at once, parameters out of range, a speaker of the other
generation, `additions` that is no JSON string. Source: volcengine.com/docs/6561/1329505."""

from __future__ import annotations

import gzip
import json
import re
import struct
from dataclasses import dataclass, field
from typing import Any

from loadtest.vendors.sounds import Sounds, hum
from tests.vendors.ws_vendor import Fault, Peer, WsVendor

PATH = "/api/v3/tts/bidirection"
FIRST = {"volc.service_type.10029", "seed-tts-1.0", "seed-tts-1.0-concurr"}
SECOND = {"seed-tts-2.0"}
RATES = {8000, 16000, 22050, 24000, 32000, 44100, 48000}
SYLLABLE_S = 0.19
EMOTIONS = {"neutral", "happy", "sad", "angry", "fearful", "disgusted", "surprised"}
SESSION_FAILURES = {
    "session_failed": (45000000, "speaker permission denied"),
    "quota": (45000292, "quota exceeded for types: concurrency"),
    "mismatch": (55000000, "resource ID is mismatched with speaker related resource"),
}

_SOUNDS = Sounds()


@dataclass
class Session:
    """What happened in one session."""

    id: str
    connection: int
    request: dict[str, Any]
    texts: list[str] = field(default_factory=list)
    began: bool = False
    end: str = ""
    """Nothing yet, or finished, canceled, lost."""


class _Canceled(Exception):
    """The client cancelled while sound was being sent."""


class VolcengineVendor(WsVendor):
    """Speaks `SYLLABLE_S` per character, with a pause of 0.3 s after each sentence.

    `fault`: "" or connection_failed, session_failed, mismatch (the voice is of another resource), stall_session,
    stall_before (no sound ever), stall_after (one piece, then silence), drop (after one piece), drop_idle (hangs up
    after a session), garbage (a frame that is none), error_frame, text_frame, ended (the session ends on its own),
    quota. `merge`: the vendor's sentences, instead of one per mark."""

    def __init__(
        self, *, app_key: str = "app", access_key: str = "token-123", api_key: str = "", **options: Any
    ) -> None:
        super().__init__(**options)
        self.app_key, self.access_key, self.api_key = app_key, access_key, api_key
        self.patience_s = 10.0
        """How long a session goes on without text; the real one names no number."""
        self.merge = False
        self.zip = False
        self.sessions: list[Session] = []
        self._used: set[str] = set()

    @property
    def ws_url(self) -> str:
        """What goes into `ws_url`."""
        return self.url + PATH

    def authorize(self, peer: Peer) -> int:
        if self.reject:
            return self.reject.popleft()
        if peer.path != PATH:
            return 404
        headers = peer.headers
        known = (
            headers.get("x-api-key") == self.api_key
            if self.api_key
            else (headers.get("x-api-app-key") == self.app_key and headers.get("x-api-access-key") == self.access_key)
        )
        if not known:
            return 401
        return 0 if headers.get("x-api-resource-id") in FIRST | SECOND and headers.get("x-api-connect-id") else 403

    def converse(self, peer: Peer) -> None:
        line = _Line(peer, self)
        event, _, _ = line.receive()
        if event != 1:
            raise Fault(f"event {event} before StartConnection")
        if self.fault == "connection_failed":
            line.send(51, "conn-1", {"status_code": 45000001, "message": "unauthorized"})
            return
        line.send(50, "conn-1", {})
        number = self.connections
        while True:
            event, session, body = line.receive()
            if event == 2:
                line.send(52, "conn-1", {})
                return
            if event != 100:
                raise Fault(f"event {event} outside a session")
            with self.next_fault():
                self._session(line, number, session, body)
            if self.fault == "drop_idle":
                peer.drop()
                return

    def _session(self, line: _Line, number: int, identity: str, body: dict[str, Any]) -> None:
        second = line.peer.headers["x-api-resource-id"] in SECOND
        self._check_start(identity, body, second)
        session = Session(identity, number, body["req_params"])
        self.sessions.append(session)
        if self.fault == "stall_session":
            line.peer.wait_gone()
        if self.fault in SESSION_FAILURES:
            code, message = SESSION_FAILURES[self.fault]
            line.send(153, identity, {"status_code": code, "message": message})
            return
        line.send(150, identity, {})
        try:
            self._talk(line, session, second)
        except _Canceled:
            return
        except BaseException:
            session.end = session.end or "lost"
            raise

    def _check_start(self, identity: str, body: dict[str, Any], second: bool) -> None:
        if not identity or identity in self._used:
            raise Fault(f"session id {identity!r} is empty or used")
        self._used.add(identity)
        params = body.get("req_params", {})
        audio = params.get("audio_params", {})
        if (
            body.get("event") != 100
            or body.get("namespace") != "BidirectionalTTS"
            or not body.get("user", {}).get("uid")
        ):
            raise Fault(f"StartSession {body}")
        if audio.get("format") not in ("pcm", "ogg_opus", "mp3") or audio.get("sample_rate") not in RATES:
            raise Fault(f"audio_params {audio}")
        if not -50 <= audio.get("speech_rate", 0) <= 100 or not -50 <= audio.get("loudness_rate", 0) <= 100:
            raise Fault(f"audio_params {audio}")
        if "additions" in params and not isinstance(json.loads(params["additions"]), dict):
            raise Fault(f"additions {params['additions']!r}")
        if second and (not params.get("speaker", "").endswith("_uranus_bigtts") or "mix_speaker" in params):
            raise Fault(f"{params.get('speaker')} is no voice of the second generation")
        self._check_mixture(params)
        if not 1 <= audio.get("emotion_scale", 4) <= 5 or audio.get("emotion", "happy") not in EMOTIONS:
            raise Fault(f"audio_params {audio}")
        if not second and params.get("speaker", "").endswith("_uranus_bigtts"):
            raise Fault(f"{params.get('speaker')} is no voice of the first generation")

    @staticmethod
    def _check_mixture(params: dict[str, Any]) -> None:
        if (params.get("speaker") == "custom_mix_bigtts") != ("mix_speaker" in params):
            raise Fault(f"{params.get('speaker')} with the mixture {params.get('mix_speaker')}")
        shares = [speaker["mix_factor"] for speaker in params.get("mix_speaker", {"speakers": []})["speakers"]]
        if "mix_speaker" in params and not (0 < len(shares) <= 3 and abs(sum(shares) - 1) < 0.01):
            raise Fault(f"mixture {params['mix_speaker']}")

    def _talk(self, line: _Line, session: Session, second: bool) -> None:
        waiting = ""
        while True:
            told = line.poll(self.patience_s)
            if told is None:
                session.end = "idle"
                line.send(153, session.id, {"status_code": 55000000, "message": "no text for too long"})
                return
            event, identity, body = told
            if identity != session.id:
                raise Fault(f"event {event} of session {identity!r} in session {session.id!r}")
            if event == 200:
                text = body.get("req_params", {}).get("text")
                if body.get("event") != 200 or not text:
                    raise Fault(f"TaskRequest {body}")
                session.texts.append(text)
                waiting = self._speak(line, session, waiting + text, second, last=False)
            elif event == 101:
                session.end = "canceled"
                line.send(151, identity, {"status_code": 20000000, "message": "ok"})
                return
            elif event == 102:
                self._speak(line, session, waiting, second, last=True)
                if second and session.texts:
                    line.send(351, identity, {})
                session.end = "finished"
                line.send(152, identity, {"status_code": 20000000, "message": "ok"})
                return
            else:
                raise Fault(f"event {event} inside a session")

    def _speak(self, line: _Line, session: Session, text: str, second: bool, *, last: bool) -> str:
        """Speak the sentences that are complete (all when `last`); what is left."""
        if self.fault in ("stall_before", "ended", "text_frame", "error_frame", "garbage"):
            self._misbehave(line, session)
            return ""
        if self.merge and not last:
            return text
        sentences = [text] if self.merge else re.findall(r"[^。？！.?!]*[。？！.?!]+|[^。？！.?!]+$", text)
        if sentences and not last and sentences[-1][-1] not in "。？！.?!":
            text = sentences.pop()
        else:
            text = ""
        for sentence in filter(None, sentences):
            if not (second and session.began):
                line.send(350, session.id, {"text": sentence} if not second else {})
                session.began = True
            for piece in self.sound_of(sentence, session.request["audio_params"]):
                line.send_audio(session.id, piece)
                self._break_off(line, session)
            if not second:
                line.send(351, session.id, {"text": sentence})
        return text

    def sound_of(self, sentence: str, audio: dict[str, Any]) -> list[bytes]:
        rate = audio["sample_rate"]
        speed = 1 + audio.get("speech_rate", 0) / 100
        parts = [part for part in re.split(r"(?<=[。？！.?!])", sentence) if part]
        pcm = b""
        for part in parts:
            count = sum(1.0 if ord(letter) > 0x2E80 else 0.4 for letter in part if letter.isalnum())
            pcm += hum(max(0.1, count * SYLLABLE_S / speed), rate) + bytes(2 * int(rate * 0.3))
        if audio["format"] == "ogg_opus":
            return [_SOUNDS.body("opus", max(0.25, len(pcm) / 2 / rate))]
        size = rate // 10 * 2 + 1  # odd on purpose: samples may be cut in half
        return [pcm[start : start + size] for start in range(0, len(pcm), size)]

    def _misbehave(self, line: _Line, session: Session) -> None:
        if self.fault == "ended":
            line.send(152, session.id, {"status_code": 20000000, "message": "idle"})
        elif self.fault == "text_frame":
            line.peer.send("Internal Server Error")
        elif self.fault == "error_frame":
            line.send_error(55000001, {"error": "synthesis failed for token-123"})
        elif self.fault == "garbage":
            line.peer.send(b"\x00\x01\x02")
        self._wait_for_cancel(line, session)

    def _break_off(self, line: _Line, session: Session) -> None:
        if self.fault == "drop":
            line.peer.drop()
            line.peer.wait_gone()
        if self.fault == "stall_after":
            self._wait_for_cancel(line, session)

    @staticmethod
    def _wait_for_cancel(line: _Line, session: Session) -> None:
        while True:
            event, _, _ = line.receive()
            if event == 101:
                session.end = "canceled"
                line.send(151, session.id, {})
                raise _Canceled


class _Line:
    """Frames, byte by byte."""

    def __init__(self, peer: Peer, vendor: VolcengineVendor) -> None:
        self.peer = peer
        self._vendor = vendor

    def receive(self) -> tuple[int, str, dict[str, Any]]:
        return self._read(self.peer.receive(60))

    def poll(self, seconds: float) -> tuple[int, str, dict[str, Any]] | None:
        data = self.peer.poll(seconds)
        return None if data is None else self._read(data)

    @staticmethod
    def _read(data: str | bytes) -> tuple[int, str, dict[str, Any]]:
        if isinstance(data, str):
            raise Fault("a text frame")
        if data[:4] != b"\x11\x14\x10\x00":
            raise Fault(f"header {data[:4].hex()}")
        (event,) = struct.unpack_from(">i", data, 4)
        at, identity = 8, ""
        if event >= 100:
            (size,) = struct.unpack_from(">I", data, at)
            identity = data[at + 4 : at + 4 + size].decode()
            at += 4 + size
        (size,) = struct.unpack_from(">I", data, at)
        if len(data) != at + 4 + size:
            raise Fault(f"payload of {size} bytes in a frame of {len(data)}")
        body = json.loads(data[at + 4 :])
        if event in (1, 2, 101, 102) and body != {}:
            raise Fault(f"event {event} with {body}")
        return event, identity, body

    def send(self, event: int, identity: str, body: dict[str, Any]) -> None:
        payload = json.dumps(body).encode()
        if self._vendor.zip:
            payload = gzip.compress(payload)
        self.peer.send(self._frame(0x94, 0x10 | self._vendor.zip, event, identity, payload))

    def send_audio(self, identity: str, payload: bytes) -> None:
        self.peer.send(self._frame(0xB4, 0x00, 352, identity, payload))

    def send_error(self, code: int, body: dict[str, Any]) -> None:
        payload = json.dumps(body).encode()
        self.peer.send(b"\x11\xf0\x10\x00" + struct.pack(">iI", code, len(payload)) + payload)

    @staticmethod
    def _frame(kind: int, form: int, event: int, identity: str, payload: bytes) -> bytes:
        name = identity.encode()
        return (
            bytes((0x11, kind, form, 0))
            + struct.pack(">iI", event, len(name))
            + name
            + struct.pack(">I", len(payload))
            + payload
        )
