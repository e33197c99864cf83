"""Strict speech services of Xunfei: recognition (iat, slm) and the superhumanoid voice, written from the vendor's side.

Refuses what the real ones would: signatures that do not fit or are older than 300 s (before the upgrade), an app of
somebody else, frames out of order or with a wrong number, parameters that are missing, unknown or out of range, pieces
of sound that are longer than recommended, empty texts. Sources: xfyun.cn/doc/spark/spark_zh_iat.html,
.../super%20smart-tts.html."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import time
from collections.abc import Sequence
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any
from urllib.parse import parse_qs, urlsplit

from loadtest.vendors.sounds import Sounds, hum
from tests.vendors.ws_vendor import Fault, Peer, WsVendor

IAT, TTS = "/v1", "/v1/private/mcd9m97e6"
PIECE_BYTES = 1280
SYLLABLE_S = 0.19
FIRST_LETTERS = 11
"""From so many characters on it speaks."""

_SENTENCE = re.compile(r"[^。？！.?!]*[。？！.?!]+\s*|[^。？！.?!]+$")
_SOUNDS = Sounds()
_hum = cache(hum)
"""Made once: the hub is the client's too."""

Piece = tuple[str, tuple[int, int] | None]
"""Text, and the numbers of the pieces that it replaces."""


class XunfeiVendor(WsVendor):
    """Hears `pieces`, one per two frames, the rest at the end. Speaks `SYLLABLE_S` per character, with a pause of 0.3 s
    after each sentence.

    `fault`: "" or stall_before (nothing ever), stall_after (one result or piece, then silence), drop (after one),
    garbage, garbage_text (a result that is no JSON, sound that is no base64), code:N, early (it ends by itself)."""

    def __init__(
        self,
        *,
        app: str = "app-1",
        key: str = "key-of-the-app",
        secret: str = "secret-key",
        pieces: Sequence[Piece] = (("现在", None), ("见", None), ("几点", (2, 2)), ("了？", None)),
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.app, self.key, self.secret = app, key, secret
        self.pieces = list(pieces)
        self.patience_s = 10.0
        """How long a session goes on without a frame."""
        self.parameters: list[dict[str, Any]] = []
        """What was asked for, one per session."""
        self.audio = bytearray()
        self.texts: list[str] = []
        self.late = 0.0
        """Seconds by which this vendor's clock is ahead."""

    def authorize(self, peer: Peer) -> int:
        if self.reject:
            return self.reject.popleft()
        parts = urlsplit(peer.path)
        if parts.path not in (IAT, TTS):
            return 404
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        host, date = query["host"], query["date"]
        if host != f"127.0.0.1:{self.port}":
            return 401
        if not date.endswith(" GMT") or abs(parsedate_to_datetime(date).timestamp() - time.time() - self.late) > 300:
            return 403
        digest = hmac.new(
            self.secret.encode(), f"host: {host}\ndate: {date}\nGET {parts.path} HTTP/1.1".encode(), hashlib.sha256
        ).digest()
        expected = (
            f'api_key="{self.key}", algorithm="hmac-sha256", headers="host date request-line", '
            f'signature="{base64.b64encode(digest).decode()}"'
        )
        return 0 if base64.b64decode(query["authorization"]).decode() == expected else 401

    def converse(self, peer: Peer) -> None:
        fault = self.once.popleft() if self.once else self.fault
        if urlsplit(peer.path).path == IAT:
            self._hear(peer, fault)
        else:
            self._speak(peer, fault)

    # --- hearing ------------------------------------------------------------------------------------------------------

    def _hear(self, peer: Peer, fault: str) -> None:
        self.audio = bytearray()
        number, said, short = 0, 0, False
        status = 0
        while status != 2:
            frame = self._frame(peer, number)
            status = self._status(frame, number)
            if ("parameter" in frame) is not (number == 0):
                raise Fault(f"frame {number} with {sorted(frame)}")
            if number == 0:
                self._check_iat(frame["parameter"])
            audio = frame["payload"]["audio"]
            form = {key: audio[key] for key in ("encoding", "sample_rate", "channels", "bit_depth", "status", "seq")}
            wanted = {"encoding": "raw", "sample_rate": 16_000, "channels": 1, "bit_depth": 16}
            if form != wanted | {"status": status, "seq": number}:
                raise Fault(f"audio {form}")
            pcm = base64.b64decode(audio["audio"], validate=True)
            if len(pcm) > PIECE_BYTES or len(pcm) % 2 or (short and pcm):
                raise Fault(f"a piece of {len(pcm)} bytes")
            short = len(pcm) < PIECE_BYTES
            self.audio += pcm
            number += 1
            if number == 1:
                self._send(peer, 0, None)
            if fault == "early" and number == 4:
                break
            if fault != "stall_before" and number % 2 == 0 and status != 2 and said < len(self.pieces) - 1:
                self._result(peer, 1, said)
                self._misbehave(peer, fault)
                said += 1
        if fault == "stall_before":
            peer.wait_gone()
        self._misbehave(peer, fault)
        left = range(said, len(self.pieces) if self.audio else said)
        for piece in left:
            self._result(peer, 2 if piece == len(self.pieces) - 1 else 1, piece)
        if not left:
            self._send(peer, 2, None)

    def _check_iat(self, parameter: dict[str, Any]) -> None:
        iat = parameter["iat"]
        self.parameters.append(iat)
        if not set(iat) <= {"domain", "language", "accent", "eos", "dwa", "vinfo", "result"} or iat["domain"] != "slm":
            raise Fault(f"iat {iat}")
        if iat["result"] != {"encoding": "utf8", "compress": "raw", "format": "json"}:
            raise Fault(f"result {iat['result']}")
        if not 600 <= iat["eos"] <= 60_000 or ("dwa" in iat and iat["language"] != "zh_cn"):
            raise Fault(f"iat {iat}")

    def _result(self, peer: Peer, status: int, number: int) -> None:
        text, replaces = self.pieces[number]
        words = [{"bg": 0, "cw": [{"w": letter, "lg": "mandarin", "sc": 0.0}]} for letter in text]
        result: dict[str, Any] = {"sn": number + 1, "ls": status == 2, "bg": 0, "ed": 0, "ws": words, "pgs": "apl"}
        if replaces is not None:
            result |= {"pgs": "rpl", "rg": list(replaces)}
        self._send(peer, status, {"result": self._packed(json.dumps(result), status, number)})

    # --- speaking -----------------------------------------------------------------------------------------------------

    def _speak(self, peer: Peer, fault: str) -> None:
        self.texts = []
        waiting, number, status, sent = "", 0, 0, 0
        while status != 2:
            frame = self._frame(peer, number)
            status = self._status(frame, number)
            self._check_tts(frame["parameter"])
            text = frame["payload"]["text"]
            form = {key: value for key, value in text.items() if key != "text"}
            wanted = {"encoding": "utf8", "compress": "raw", "format": "plain", "status": status, "seq": number}
            if form != wanted:
                raise Fault(f"text {form}")
            said = base64.b64decode(text["text"], validate=True).decode()
            if not said or "\t" in said:
                raise Fault(f"text {said!r}")
            number += 1
            if said.strip():
                self.texts.append(said)
                waiting += said
            if fault == "stall_before" or (sent == 0 and len(waiting) < FIRST_LETTERS and status != 2):
                continue
            sentences = _SENTENCE.findall(waiting)
            waiting = (
                "" if status == 2 or not sentences or sentences[-1].rstrip()[-1] in "。？！.?!" else sentences.pop()
            )
            for sentence in filter(str.strip, sentences):
                for piece in self._sound_of(sentence):
                    self._sound(peer, min(1, sent), sent, piece)
                    sent += 1
                    self._misbehave(peer, fault)
        if fault == "stall_before":
            peer.wait_gone()
        if not self.texts:
            self._refuse(peer, 10163, "no text")
            return
        self._sound(peer, 2, sent, b"")

    def _check_tts(self, parameter: dict[str, Any]) -> None:
        oral, tts = parameter["oral"], parameter["tts"]
        self.parameters.append(parameter)
        switches = {"spark_assist", "stop_split", "remain"}
        if set(oral) != {"oral_level"} | switches or oral["oral_level"] not in ("high", "mid", "low"):
            raise Fault(f"oral {oral}")
        if any(oral[key] not in (0, 1) for key in switches):
            raise Fault(f"oral {oral}")
        if any(type(tts[key]) is not int or not 0 <= tts[key] <= 100 for key in ("speed", "volume", "pitch")):
            raise Fault(f"tts {tts}")
        audio = tts["audio"]
        if (
            audio["encoding"] not in ("raw", "lame")
            or audio["sample_rate"] not in (8000, 16000, 24000)
            or not tts["vcn"]
        ):
            raise Fault(f"tts {tts}")

    def _sound_of(self, sentence: str) -> list[bytes]:
        tts = self.parameters[-1]["tts"]
        rate = tts["audio"]["sample_rate"]
        count = sum(1.0 if ord(letter) > 0x2E80 else 0.4 for letter in sentence if letter.isalnum())
        seconds = max(0.1, count * SYLLABLE_S / 2 ** ((tts["speed"] - 50) / 50))
        if tts["audio"]["encoding"] == "lame":
            body = _SOUNDS.body("mp3", max(0.25, seconds + 0.3))
            return [body[start : start + 2048] for start in range(0, len(body), 2048)]
        pcm = _hum(seconds, rate) + bytes(2 * int(rate * 0.3))
        size = rate // 10 * 2 + 1  # odd on purpose: samples may be cut in half
        return [pcm[start : start + size] for start in range(0, len(pcm), size)]

    def _sound(self, peer: Peer, status: int, number: int, sound: bytes) -> None:
        audio = {
            "encoding": self.parameters[-1]["tts"]["audio"]["encoding"],
            "status": status,
            "seq": number,
            "audio": base64.b64encode(sound).decode(),
            "ced": "0",
        }
        self._send(peer, status, {"audio": audio})

    # --- frames -------------------------------------------------------------------------------------------------------

    def _frame(self, peer: Peer, number: int) -> dict[str, Any]:
        message = peer.poll(self.patience_s)
        if message is None:
            self._refuse(peer, 10200, "read data timeout")
            peer.wait_gone()
        if not isinstance(message, str):
            raise Fault("a binary message")
        frame: dict[str, Any] = json.loads(message)
        if not set(frame) <= {"header", "parameter", "payload"} or frame["header"].get("app_id") != self.app:
            raise Fault(f"frame {number}: {frame['header']}")
        return frame

    @staticmethod
    def _status(frame: dict[str, Any], number: int) -> int:
        status = frame["header"]["status"]
        if status not in ((0,) if number == 0 else (1, 2)):
            raise Fault(f"frame {number} has status {status}")
        return int(status)

    @staticmethod
    def _packed(text: str, status: int, number: int) -> dict[str, Any]:
        packed = base64.b64encode(text.encode()).decode()
        return {
            "compress": "raw",
            "encoding": "utf8",
            "format": "json",
            "seq": number,
            "status": status,
            "text": packed,
        }

    def _send(self, peer: Peer, status: int, payload: dict[str, Any] | None) -> None:
        frame: dict[str, Any] = {"header": {"code": 0, "message": "success", "sid": "iat0001@hu1", "status": status}}
        if payload is not None:
            frame["payload"] = payload
        peer.send(json.dumps(frame))

    def _refuse(self, peer: Peer, code: int, message: str) -> None:
        header = {"code": code, "message": f"{message} ({self.secret})", "sid": "iat0001@hu1"}
        peer.send(json.dumps({"header": header}))

    def _misbehave(self, peer: Peer, fault: str) -> None:
        if fault == "garbage":
            peer.send("<html>oops</html>")
        elif fault == "garbage_text":
            self._send(peer, 1, {"result": {"text": "e30="}, "audio": {"audio": "???", "status": 1}})
        elif fault.startswith("code:"):
            self._refuse(peer, int(fault[5:]), "refused")
        elif fault == "drop":
            peer.drop()
        if fault and fault != "early":
            peer.wait_gone()
