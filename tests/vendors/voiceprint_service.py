"""The voiceprint service on a loopback port, as strict as the real one."""

from __future__ import annotations

import io
import re
import wave
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any

import orjson

from loadtest.vendors.http_vendor import HttpVendor, Script, VendorAnswer, VendorRefusal, VendorRequest

KEY = "secret-key"
IDENTIFY = "/voiceprint/identify"


class VoiceprintService(HttpVendor):
    """Says what `speaker_id` and `score` say, for requests that are right."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.speaker_id = "id1"
        self.score = 0.71
        self.sounds: list[float] = []
        """Seconds of sound in each request."""

    @property
    def health_url(self) -> str:
        """What stands in the configuration."""
        return f"{self.url}/voiceprint/health?key={KEY}"

    def answer(self, request: VendorRequest, script: Script) -> VendorAnswer:
        if script.answer is not None:
            return VendorAnswer(orjson.dumps(script.answer))
        if request.path != IDENTIFY or request.method != "POST":
            raise VendorRefusal(404, "Not Found")
        if request.headers.get("authorization") != f"Bearer {KEY}":
            raise VendorRefusal(401, "无效的接口令牌")
        parts = _form(request)
        if not re.fullmatch(r"[^,]+(,[^,]+)*", str(parts.get("speaker_ids", ""))):
            raise VendorRefusal(422, "speaker_ids")
        with wave.open(io.BytesIO(parts["file"])) as sound:
            if (sound.getframerate(), sound.getnchannels(), sound.getsampwidth()) != (16_000, 1, 2):
                raise VendorRefusal(400, "16 kHz mono only")
            self.sounds.append(sound.getnframes() / 16_000)
        known = self.speaker_id in str(parts["speaker_ids"]).split(",")
        found = {"speaker_id": self.speaker_id, "score": self.score} if known else {"speaker_id": "", "score": 0.0}
        return VendorAnswer(orjson.dumps(found))


def _form(request: VendorRequest) -> dict[str, Any]:
    """The parts of a multipart body; a file as bytes."""
    head = f"Content-Type: {request.headers['content-type']}\r\n\r\n".encode()
    message = BytesParser(policy=HTTP).parsebytes(head + request.body)
    found: dict[str, Any] = {}
    for part in message.iter_parts():  # type: ignore[attr-defined]
        name = str(part.get_param("name", header="content-disposition"))
        content = part.get_payload(decode=True)
        found[name] = content if part.get_filename() else content.decode()
    return found
