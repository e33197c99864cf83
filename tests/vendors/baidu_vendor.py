"""Baidu's recognition of short utterances, strictly, and the service that gives its tokens.

Refuses what the real ones refuse: keys that are unknown, tokens that were not given, sound whose length is not told
rightly, formats and models that there are not. The recognition answers with status 200 whatever is wrong.

Written from ai.baidu.com/ai-doc/SPEECH/0lbxfnc9b, cloud.baidu.com/doc/SPEECH/s/lk38lxosv and
ai.baidu.com/ai-doc/REFERENCE/Ck3dwjhhu."""

from __future__ import annotations

import base64
import json
import urllib.parse
import uuid
from typing import Any

from loadtest.vendors.http_vendor import HttpVendor, Script, VendorAnswer, VendorRefusal, VendorRequest

API_KEY, SECRET = "baidu-api-key", "secret-key"
ASR, TOKEN = "/server_api", "/oauth/2.0/token"
MODELS = {1537, 1737, 1637, 1837, 80001}


class BaiduVendor(HttpVendor):
    """`text`: what is heard in sound that is no silence. `next_error`: the code of the next answer."""

    def __init__(self, *, text: str = "what time is it", token_seconds: int = 2_592_000, **options: Any) -> None:
        super().__init__(**options)
        self.text = text
        self.token_seconds = token_seconds
        self.tokens: set[str] = set()
        self.next_error = 0

    def kind(self, request: VendorRequest) -> str:
        return request.path.partition("?")[0]

    def error_body(self, status: int, message: str, kind: str) -> bytes:
        return json.dumps({"error": kind, "error_description": message}).encode()

    def answer(self, request: VendorRequest, script: Script) -> VendorAnswer:
        path, _, query = request.path.partition("?")
        if path == TOKEN:
            return self._grant(dict(urllib.parse.parse_qsl(query, strict_parsing=True)))
        if path != ASR or request.method != "POST" or request.headers.get("content-type") != "application/json":
            raise VendorRefusal(404, f"{request.method} {path}")
        code, self.next_error = self.next_error, 0
        if code:
            return _answer(code, f"this is about {SECRET}")
        code = self._fault_in(request.json())
        if code == 0:
            return VendorAnswer(
                json.dumps(
                    {"err_no": 0, "err_msg": "success.", "sn": str(uuid.uuid4()), "result": [self.text]}
                ).encode()
            )
        if code != 3301:
            self.refusals.append(str(code))
        return _answer(code, "refused")

    def _grant(self, given: dict[str, str]) -> VendorAnswer:
        if given != {"grant_type": "client_credentials", "client_id": API_KEY, "client_secret": SECRET}:
            raise VendorRefusal(401, "unknown client id", "invalid_client")
        token = f"24.{uuid.uuid4().hex}"
        self.tokens.add(token)
        scope = "audio_voice_assistant_get brain_all_scope"
        return VendorAnswer(
            json.dumps({"access_token": token, "expires_in": self.token_seconds, "scope": scope}).encode()
        )

    def _fault_in(self, body: dict[str, Any]) -> int:
        """The code of what is wrong with a request, 0 for nothing."""
        if body.get("token") not in self.tokens:
            return 3302
        try:
            sound = base64.b64decode(body["speech"], validate=True)
        except (KeyError, ValueError):
            return 3300
        if body.get("format") != "pcm":
            return 3312
        if body.get("rate") != 16_000:
            return 3311
        if body.get("channel") != 1 or not 0 < len(str(body.get("cuid", ""))) <= 60 or body.get("len") != len(sound):
            return 3300
        if body.get("dev_pid") not in MODELS:
            return 3300
        if len(sound) > 60 * 32_000:
            return 3308
        return 0 if any(sound) else 3301


def _answer(code: int, message: str, **fields: Any) -> VendorAnswer:
    return VendorAnswer(json.dumps({"err_no": code, "err_msg": message, "sn": str(uuid.uuid4()), **fields}).encode())
