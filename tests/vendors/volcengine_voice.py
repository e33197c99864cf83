"""A strict HTTP voice of Volcengine's (/api/v1/tts): what it refuses has a code of its own, beside whatever status.
Sources: volcengine.com/docs/6561/79823 and /1257584."""

from __future__ import annotations

import base64
import re
from typing import Any

import orjson

from loadtest.vendors.http_vendor import VendorAnswer, VendorRequest
from loadtest.vendors.sounds import Sounds

SOUNDS = Sounds()
BODIES = {"wav": "wav", "pcm": "pcm", "mp3": "mp3", "ogg_opus": "opus"}
OLD, LARGE, CLONED = re.compile(r"BV\d+_streaming"), re.compile(r"\w+_bigtts"), re.compile(r"S_\w+")


class _Refused(Exception):
    def __init__(self, code: int, message: str, status: int = 200) -> None:
        self.code, self.message, self.status = code, message, status
        super().__init__(message)


class DoubaoVoice:
    """Its `__call__` answers a request. `authorization`: what it wants in that header. `refuse`: (code, message,
    status) of the next answer. `slashes`: written as \\/ in its JSON."""

    def __init__(self, authorization: str = "Bearer;secret-key", appid: str = "app") -> None:
        self.authorization, self.appid = authorization, appid
        self.refuse: tuple[int, str, int] | None = None
        self.slashes = False
        self.seen: list[dict[str, Any]] = []
        self._used: set[str] = set()

    def __call__(self, request: VendorRequest) -> VendorAnswer:
        """The sound of what was asked for."""
        try:
            if self.refuse is not None:
                refused, self.refuse = self.refuse, None
                raise _Refused(*refused)
            sound = self._sound(request)
        except _Refused as refusal:
            said = {"reqid": "r", "code": refusal.code, "operation": "query", "message": refusal.message, "data": ""}
            return VendorAnswer(orjson.dumps(said), status=refusal.status)
        answer = {
            "reqid": "r",
            "code": 3000,
            "operation": "query",
            "message": "Success",
            "sequence": -1,
            "data": base64.b64encode(sound).decode(),
            "addition": {"duration": "1960"},
        }
        body = orjson.dumps(answer)
        return VendorAnswer(body.replace(b"/", b"\\/") if self.slashes else body)

    def _sound(self, request: VendorRequest) -> bytes:
        if request.headers.get("authorization") != self.authorization:
            raise _Refused(3001, "authenticate request: load grant: requested grant not found", 401)
        body = request.json()
        app, audio, asked = body["app"], body["audio"], body["request"]
        if app["appid"] != self.appid or not app["token"] or not body["user"]["uid"]:
            raise _Refused(3001, "invalid app")
        self._check_audio(audio, app["cluster"])
        if asked["operation"] != "query" or asked["text_type"] != "plain" or asked["reqid"] in self._used:
            raise _Refused(3006, "reqid")
        self._used.add(asked["reqid"])
        text = asked["text"]
        if len(text.encode()) > 1024:
            raise _Refused(3010, "text too long")
        if not any(map(str.isalnum, text)):
            raise _Refused(3011, "illegal input text!")
        self.seen.append(body)
        return SOUNDS.body(BODIES[audio["encoding"]], SOUNDS.seconds_for(text))

    @staticmethod
    def _check_audio(audio: dict[str, Any], cluster: str) -> None:
        voice = audio["voice_type"]
        kind = next((kind for kind in (OLD, LARGE, CLONED) if kind.fullmatch(voice)), None)
        if kind is None:
            raise _Refused(3050, "no such voice")
        if cluster != ("volcano_icl" if kind is CLONED else "volcano_tts"):
            raise _Refused(3031, "Fail to feed text, reason Init Engine Instance failed")
        ranges = {"speed_ratio": (0.8, 2.0), "loudness_ratio": (0.5, 2.0)}
        if kind is OLD:
            ranges = {"speed_ratio": (0.2, 3.0), "volume_ratio": (0.1, 3.0), "pitch_ratio": (0.1, 3.0)}
        ratios = {key: value for key, value in audio.items() if key.endswith("_ratio")}
        for key, value in ratios.items():
            low, high = ranges.get(key, (1, 0))
            if not low <= value <= high:
                raise _Refused(3001, f"{key} {value}")
        if audio["encoding"] not in BODIES or audio["rate"] not in (8000, 16000, 24000):
            raise _Refused(3001, f"audio {audio}")
        if audio.get("emotion") and audio.get("enable_emotion") is not True:
            raise _Refused(3001, "emotion without enable_emotion")
