"""Tencent Cloud's API 3.0, strictly: SentenceRecognition and TextToVoice behind the signature TC3-HMAC-SHA256; and its
speech over a WebSocket.

Refuses what the real one refuses: signatures of other bytes than the body, stamps older than five minutes, headers that
are missing, parameters out of range. All errors come with status 200. Written from cloud.tencent.com/document/api/1093
(35641, 35646) and /1073 (37995, 108595); signatures of API 3.0 are made by the vendor's own client."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import time
import urllib.parse
import uuid
from dataclasses import dataclass, field
from typing import Any

from tencentcloud.common.sign import Sign

from loadtest.vendors.http_vendor import HttpVendor, Script, VendorAnswer, VendorRefusal, VendorRequest
from loadtest.vendors.sounds import Sounds, hum
from tests.vendors.ws_vendor import Fault, Peer, WsVendor

SECRET_ID, SECRET = "AKID-id", "secret-key"
ACTIONS = {"SentenceRecognition": ("asr", "2019-06-14"), "TextToVoice": ("tts", "2019-08-23")}
ENGINES = {"16k_zh", "16k_zh-PY", "16k_en", "16k_yue", "16k_ja", "16k_ko"}
_AUTHORIZATION = re.compile(
    r"TC3-HMAC-SHA256 Credential=([^/]+)/(\d{4}-\d\d-\d\d)/(\w+)/tc3_request, "
    r"SignedHeaders=content-type;host, Signature=([0-9a-f]{64})"
)
_SOUNDS = Sounds()
APPID = "1300000000"
STREAM = "/stream_wsv2"
SYLLABLE_S, PAUSE_S = 0.19, 0.3


class TencentVendor(HttpVendor):
    """Requests are of the kind that their action is. `text`: what is heard in sound that is no silence. `next_error`:
    the code of the next answer."""

    def __init__(self, *, text: str = "what time is it", **options: Any) -> None:
        super().__init__(**options)
        self.text = text
        self.next_error = ""

    def kind(self, request: VendorRequest) -> str:
        return request.headers.get("x-tc-action", "")

    def error_body(self, status: int, message: str, kind: str) -> bytes:
        return json.dumps({"Response": {"Error": {"Code": "InternalError", "Message": message}}}).encode()

    def answer(self, request: VendorRequest, script: Script) -> VendorAnswer:
        code, self.next_error = self.next_error, ""
        if code:
            return _response({"Error": {"Code": code, "Message": f"this is about {SECRET}"}})
        try:
            self._admit(request)
            body = request.json()
            return _response(self._recognise(body) if self.kind(request) == "SentenceRecognition" else _speak(body))
        except _Refused as refused:
            self.refusals.append(str(refused))
            return _response({"Error": {"Code": refused.code, "Message": str(refused)}})

    def _admit(self, request: VendorRequest) -> None:
        headers = request.headers
        if request.method != "POST" or request.path != "/":
            raise VendorRefusal(404, f"{request.method} {request.path}")
        service, version = ACTIONS.get(self.kind(request), ("", ""))
        if headers.get("x-tc-version") != version:
            raise _Refused("NoSuchVersion", f"version {headers.get('x-tc-version')}")
        if service == "tts" and not headers.get("x-tc-region", "").startswith("ap-"):
            raise _Refused("MissingParameter", "no region")
        stamp = headers.get("x-tc-timestamp", "0")
        if abs(time.time() - int(stamp)) > 300:
            raise _Refused("AuthFailure.SignatureExpire", "too old")
        found = _AUTHORIZATION.fullmatch(headers.get("authorization", ""))
        date = time.strftime("%Y-%m-%d", time.gmtime(int(stamp)))
        if found is None or found.group(2, 3) != (date, service):
            raise _Refused("AuthFailure.InvalidAuthorization", headers.get("authorization", ""))
        if found.group(1) != SECRET_ID:
            raise _Refused("AuthFailure.SecretIdNotFound", "no such id")
        names = ("content-type", "host")
        canonical = "".join(f"{name}:{headers[name].lower()}\n" for name in names)
        hashed = hashlib.sha256(request.body).hexdigest()
        whole = "\n".join(("POST", "/", "", canonical, ";".join(names), hashed)).encode()
        scope = f"{date}/{service}/tc3_request"
        text = "\n".join(("TC3-HMAC-SHA256", stamp, scope, hashlib.sha256(whole).hexdigest()))
        if Sign.sign_tc3(SECRET, date, service, text) != found.group(4):
            raise _Refused("AuthFailure.SignatureFailure", "the signature does not match")

    def _recognise(self, body: dict[str, Any]) -> dict[str, Any]:
        sound = base64.b64decode(body.get("Data", ""), validate=True)
        if body.get("EngSerViceType") not in ENGINES:
            raise _Refused("InvalidParameterValue.ErrorInvalidEngservice", str(body.get("EngSerViceType")))
        if body.get("SourceType") != 1 or body.get("VoiceFormat") != "pcm" or body.get("SubServiceType") != 2:
            raise _Refused("InvalidParameter", "SourceType, VoiceFormat, SubServiceType")
        if body.get("DataLen") != len(sound) or len(sound) % 2:
            raise _Refused("InvalidParameter.ErrorContentlength", f"{body.get('DataLen')} and not {len(sound)}")
        if len(sound) > 60 * 32_000:
            raise _Refused("InvalidParameterValue.ErrorVoicedataTooLong", "too long")
        return {"Result": self.text if any(sound) else "", "AudioDuration": len(sound) // 32}


def _speak(body: dict[str, Any]) -> dict[str, Any]:
    text = body.get("Text")
    # 150 Chinese characters or 500 letters.
    if not isinstance(text, str) or not text or sum(10 if ord(each) > 0x2E80 else 3 for each in text) > 1_500:
        raise _Refused("UnsupportedOperation.TextTooLong", f"text {text!r}")
    for key, low, high in (("Speed", -2, 6), ("Volume", -10, 10)):
        if isinstance(body.get(key), str) or not low <= body[key] <= high:
            raise _Refused(f"InvalidParameterValue.{key}", str(body.get(key)))
    if body.get("Codec") not in ("wav", "mp3", "pcm") or body.get("SampleRate") not in (8000, 16000, 24000):
        raise _Refused("InvalidParameterValue.Codec", f"{body.get('Codec')} {body.get('SampleRate')}")
    if type(body.get("VoiceType")) is not int or (body["VoiceType"] == 200000000) != bool(body.get("FastVoiceType")):
        raise _Refused("InvalidParameterValue.VoiceType", str(body.get("VoiceType")))
    if body.get("PrimaryLanguage", 1) not in (1, 2, 3) or not body.get("SessionId"):
        raise _Refused("InvalidParameterValue.PrimaryLanguage", str(body.get("PrimaryLanguage")))
    sound = _SOUNDS.body(body["Codec"], _SOUNDS.seconds_for(text))
    return {"Audio": base64.b64encode(sound).decode(), "SessionId": body["SessionId"]}


def _response(fields: dict[str, Any]) -> VendorAnswer:
    return VendorAnswer(json.dumps({"Response": {**fields, "RequestId": str(uuid.uuid4())}}).encode())


class _Refused(Exception):
    def __init__(self, code: str, message: str) -> None:
        self.code = code
        super().__init__(message)


@dataclass
class TencentSession:
    """What happened in one session. `parameters`: of its address."""

    parameters: dict[str, str]
    texts: list[str] = field(default_factory=list)
    end: str = ""
    """Nothing yet, or final, failed, lost."""


class TencentStreamVendor(WsVendor):
    """TextToStreamAudioWSv2. Speaks what it has up to the next of its marks, as the real one does.

    `once`: faults of the next sessions: stall_ready, stall_before, stall_after, drop, garbage, ended, or a code."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.sessions: list[TencentSession] = []

    def converse(self, peer: Peer) -> None:
        path, _, query = peer.path.partition("?")
        if path != STREAM:
            raise Fault(f"nothing at {path}")
        session = TencentSession(dict(urllib.parse.parse_qsl(query, strict_parsing=True)))
        self.sessions.append(session)
        fault = self.once.popleft() if self.once else ""
        try:
            code = int(fault) if fault.isdigit() else self._fault_in(dict(session.parameters))
            if code:
                session.end = "failed"
                said = {10003: "鉴权失败", 10002: "并发超限"}.get(code, "内部错误")
                self._tell(peer, session, code=code, message=f"{said} {SECRET_ID} {SECRET}")
                return
            self._talk(peer, session, fault)
            session.end = "final"
        except BaseException:
            session.end = session.end or "lost"
            raise
        self._tell(peer, session, final=1)
        peer.wait_gone()

    def _fault_in(self, given: dict[str, str]) -> int:
        """The code of what is wrong with an address, 0 for nothing."""
        signature = given.pop("Signature", "")
        host = self.url.partition("://")[2]
        plain = "&".join(f"{key}={value}" for key, value in sorted(given.items()))
        expected = hmac.digest(SECRET.encode(), f"GET{host}{STREAM}?{plain}".encode(), "sha1")
        if signature != base64.b64encode(expected).decode() or given.get("SecretId") != SECRET_ID:
            return 10003
        if given.get("AppId") != APPID or not int(given["Timestamp"]) <= time.time() + 300 < int(given["Expired"]):
            return 10003
        ranges = {"Speed": (-2, 6), "Volume": (-10, 10)}
        if any(not low <= float(given[key]) <= high for key, (low, high) in ranges.items()):
            return 10001
        rates = given["SampleRate"] in ("8000", "16000", "24000")
        cloned = (given["VoiceType"] == "200000000") == ("FastVoiceType" in given)
        known = given["Action"] == "TextToStreamAudioWSv2" and given["Codec"] in ("pcm", "mp3")
        return 0 if rates and cloned and known and given["SessionId"] else 10001

    def _tell(self, peer: Peer, session: TencentSession, **event: Any) -> None:
        told = {"code": 0, "message": "success", "session_id": session.parameters["SessionId"], "final": 0, **event}
        peer.send(json.dumps({**told, "request_id": uuid.uuid4().hex, "message_id": uuid.uuid4().hex}))

    def _talk(self, peer: Peer, session: TencentSession, fault: str) -> None:
        if fault == "stall_ready":
            peer.wait_gone()
        self._tell(peer, session, heartbeat=1)
        self._tell(peer, session, ready=1)
        waiting, ids = "", set()
        while True:
            message = json.loads(peer.receive(60))
            if set(message) != {"session_id", "message_id", "action", "data"} or message["message_id"] in ids:
                raise Fault(f"message {message}")
            if message["session_id"] != session.parameters["SessionId"]:
                raise Fault(f"session {message['session_id']}")
            ids.add(message["message_id"])
            if message["action"] == "ACTION_COMPLETE":
                self._say(peer, session, waiting, fault)
                return
            if message["action"] != "ACTION_SYNTHESIS" or not message["data"]:
                raise Fault(f"message {message}")
            session.texts.append(message["data"])
            if fault == "garbage":
                peer.send("<html>oops</html>")
            if fault == "ended":
                self._tell(peer, session, final=1)
            if fault in ("garbage", "stall_before", "ended"):
                peer.wait_gone()
            *whole, waiting = re.split(r"(?<=[。；？！;?!\n])", waiting + message["data"])
            for sentence in whole:
                self._say(peer, session, sentence, fault)

    def _say(self, peer: Peer, session: TencentSession, text: str, fault: str) -> None:
        count = sum(1.0 if ord(letter) > 0x2E80 else 0.4 for letter in text if letter.isalnum())
        if not count:
            return
        rate = int(session.parameters["SampleRate"])
        pcm = hum(count * SYLLABLE_S, rate) + bytes(2 * int(rate * PAUSE_S))
        size = rate // 10 * 2 + 1  # odd on purpose: samples may be cut in half
        for start in range(0, len(pcm), size):
            peer.send(pcm[start : start + size])
            if fault == "drop":
                peer.drop()
            if fault in ("drop", "stall_after"):
                peer.wait_gone()
        self._tell(peer, session, result={"subtitles": []})
