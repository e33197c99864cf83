"""Alibaba Cloud's Intelligent Speech Interaction, strictly: CreateToken and the two HTTP services in one server, the
WebSocket gateway in another.

Written from help.aliyun.com/zh/isi: getting-started/use-http-or-https-to-obtain-an-access-token, restful-api-2 and -3
in developer-reference, websocket and websocket-protocol-description-for-cosyvoice-tts in user-guide,
support/error-codes.

Refuse what the real ones refuse: signatures that do not match, old ones and repeated nonces, unknown tokens and
appkeys, parameters out of range, ids that are not 32 hexadecimal digits, messages out of order, pieces of sound that
are too large."""

from __future__ import annotations

import base64
import calendar
import hashlib
import hmac
import json
import re
import time
import urllib.parse
import uuid
from dataclasses import dataclass, field
from typing import Any

from loadtest.vendors.http_vendor import HttpVendor, Script, VendorAnswer, VendorRefusal, VendorRequest
from loadtest.vendors.sounds import Sounds, hum, wav
from tests.vendors.ws_vendor import Fault, Peer, WsVendor

ACCESS_KEY_ID, SECRET = "LTAI-id", "secret-key"
APPKEY = "appkey-1"
ASR, TTS, TOKEN = "/stream/v1/asr", "/stream/v1/tts", "/"
SYLLABLE_S, PAUSE_S = 0.19, 0.3
LARGEST_PIECE = 3_200
VOICES = {"xiaoyun", "aixia", "longxiaochun", "longyu"}
_STATUS_OF = {400: 40000000, 401: 40000001, 403: 40000001, 429: 40000005, 500: 50000000}
_SOUNDS = Sounds()


class NlsHttpVendor(HttpVendor):
    """`text`: what is heard in sound that is no silence. `token_seconds`: how long a token is good for."""

    def __init__(self, *, text: str = "what time is it", token_seconds: int = 86_400, **options: Any) -> None:
        super().__init__(**options)
        self.text = text
        self.token_seconds = token_seconds
        self.tokens: set[str] = set()
        self._nonces: set[str] = set()

    def kind(self, request: VendorRequest) -> str:
        return request.path.partition("?")[0]

    def answer(self, request: VendorRequest, script: Script) -> VendorAnswer:
        path, _, query = request.path.partition("?")
        if path == TOKEN:
            return self._grant(request, query)
        if path == ASR:
            return self._recognise(request, dict(urllib.parse.parse_qsl(query, strict_parsing=True)))
        if path == TTS:
            return self._speak(request)
        raise VendorRefusal(404, f"nothing at {path}")

    def error_body(self, status: int, message: str, kind: str) -> bytes:
        if kind.startswith("pop:"):
            return json.dumps({"RequestId": str(uuid.uuid4()), "Code": kind[4:], "Message": message}).encode()
        code = int(kind) if kind.isdigit() else _STATUS_OF[status]
        return json.dumps({"task_id": uuid.uuid4().hex, "result": "", "status": code, "message": message}).encode()

    def _grant(self, request: VendorRequest, query: str) -> VendorAnswer:
        given = dict(urllib.parse.parse_qsl(query, strict_parsing=True, keep_blank_values=True))
        fixed = {
            "Action": "CreateToken",
            "Version": "2019-02-28",
            "Format": "JSON",
            "RegionId": "cn-shanghai",
            "SignatureMethod": "HMAC-SHA1",
            "SignatureVersion": "1.0",
        }
        if request.method not in ("GET", "POST") or any(given.get(key) != value for key, value in fixed.items()):
            raise VendorRefusal(400, f"parameters {sorted(given)}", "pop:InvalidParameter")
        if given.get("AccessKeyId") != ACCESS_KEY_ID:
            raise VendorRefusal(404, "Specified access key is not found.", "pop:InvalidAccessKeyId.NotFound")
        age = time.time() - calendar.timegm(time.strptime(given["Timestamp"], "%Y-%m-%dT%H:%M:%SZ"))
        if abs(age) > 900:
            raise VendorRefusal(400, "Specified time stamp is expired.", "pop:InvalidTimeStamp.Expired")
        nonce = given.get("SignatureNonce", "")
        if not nonce or nonce in self._nonces:
            raise VendorRefusal(400, "nonce was used already", "pop:SignatureNonceUsed")
        self._nonces.add(nonce)
        if given.pop("Signature", "") != _pop_signature(request.method, given):
            raise VendorRefusal(400, "Specified signature is not matched.", "pop:SignatureDoesNotMatch")
        token = uuid.uuid4().hex
        self.tokens.add(token)
        granted = {"Id": token, "ExpireTime": int(time.time()) + self.token_seconds, "UserId": "1"}
        return VendorAnswer(json.dumps({"ErrMsg": "", "NlsRequestId": uuid.uuid4().hex, "Token": granted}).encode())

    def _admit(self, token: str, appkey: str) -> None:
        if token not in self.tokens:
            raise VendorRefusal(401, f"Gateway:ACCESS_DENIED:The token '{token}' is invalid!", "40000001")
        if appkey != APPKEY:
            raise VendorRefusal(400, "Meta:APPKEY_NOT_EXIST:Appkey not exist!", "40020105")

    def _recognise(self, request: VendorRequest, query: dict[str, str]) -> VendorAnswer:
        headers = request.headers
        self._admit(headers.get("x-nls-token", ""), query.pop("appkey", ""))
        switches = {key: query.pop(key, "") for key in tuple(query) if key.startswith("enable_")}
        if query != {"format": "pcm", "sample_rate": "16000"} or set(switches.values()) - {"true", "false"}:
            raise VendorRefusal(400, f"PARAMETER_INVALID; {query} {switches}", "40000003")
        if request.method != "POST" or headers.get("content-type") != "application/octet-stream":
            raise VendorRefusal(400, "content type", "40000003")
        if len(request.body) % 2 or len(request.body) > 60 * 32_000:
            raise VendorRefusal(400, f"{len(request.body)} bytes of sound", "40000000")
        if not any(request.body):
            return _status(41010105, "ASR_SILENT_SPEECH")
        return _status(20000000, "SUCCESS", self.text)

    def _speak(self, request: VendorRequest) -> VendorAnswer:
        body = request.json()
        self._admit(str(body.get("token")), str(body.get("appkey")))
        text = body.get("text")
        if not isinstance(text, str) or not 0 < len(text) <= 300:
            raise VendorRefusal(400, f"text {text!r}", "40000000")
        _check_manner(body)
        form = body["format"]
        pcm = _speech(text, body["sample_rate"], body["speech_rate"])
        whole = _SOUNDS.body(form, max(0.25, len(pcm) / 2 / 24_000)) if form != "pcm" else pcm
        size = min(4_001, len(whole) // 5)
        pieces = [whole[start : start + size] for start in range(0, len(whole), size)]
        return VendorAnswer(pieces, "audio/mpeg")


def _status(code: int, message: str, result: str = "") -> VendorAnswer:
    answer = {"task_id": uuid.uuid4().hex, "result": result, "status": code, "message": message}
    return VendorAnswer(json.dumps(answer).encode())


def _pop_signature(method: str, parameters: dict[str, str]) -> str:
    def encoded(text: str) -> str:
        return urllib.parse.quote_plus(text).replace("+", "%20").replace("*", "%2A").replace("%7E", "~")

    query = "&".join(f"{encoded(key)}={encoded(value)}" for key, value in sorted(parameters.items()))
    to_sign = "&".join((method, encoded("/"), encoded(query)))
    return base64.b64encode(hmac.digest(f"{SECRET}&".encode(), to_sign.encode(), hashlib.sha1)).decode()


def _check_manner(body: dict[str, Any]) -> None:
    """Raises VendorRefusal."""
    if body.get("voice") not in VOICES:
        raise VendorRefusal(400, f"TTS:TtsClientError:unknown voice {body.get('voice')}", "40000000")
    if body.get("format") not in ("pcm", "wav", "mp3") or body.get("sample_rate") not in (8000, 16000, 24000):
        raise VendorRefusal(400, f"format {body.get('format')} {body.get('sample_rate')}", "40000000")
    for key, low, high in (("volume", 0, 100), ("speech_rate", -500, 500), ("pitch_rate", -500, 500)):
        if type(body.get(key)) is not int or not low <= body[key] <= high:
            raise VendorRefusal(400, f"{key} {body.get(key)!r}", "40000000")


def _speech(text: str, rate: int, speech_rate: int) -> bytes:
    """Each sentence with a pause behind it."""
    pcm = b""
    for part in filter(None, re.split(r"(?<=[。？！.?!])", text)):
        count = sum(1.0 if ord(letter) > 0x2E80 else 0.4 for letter in part if letter.isalnum())
        pcm += hum(max(0.1, count * SYLLABLE_S / 2 ** (speech_rate / 500)), rate) + bytes(2 * int(rate * PAUSE_S))
    return pcm


@dataclass
class NlsTask:
    """What happened in one task."""

    id: str
    connection: int
    payload: dict[str, Any]
    texts: list[str] = field(default_factory=list)
    sound: bytearray = field(default_factory=bytearray)
    end: str = ""
    """Nothing yet, or completed, failed, lost."""


class NlsGateway(WsVendor):
    """The WebSocket gateway.

    Hears `sentences`, each of them in `sentence_bytes` of sound; partials come before their end. Speaks as
    `NlsHttpVendor` does. `fault`: "" or drop_start, stall_start, stall_before (no text, no sound), stall_after (a first
    text or sound, then silence), drop, garbage, silent (the code for silence at the end), drop_idle (hangs up after a
    task), ended (ends by itself), or a status code, with which the task fails."""

    def __init__(self, *, sentences: tuple[str, ...] = ("what time is it",), **options: Any) -> None:
        super().__init__(**options)
        self.tokens: set[str] = {SECRET}
        self.sentences = sentences
        self.sentence_bytes = 28_800
        self.patience_s = 10.0
        """How long a task goes on without text."""
        self.tasks: list[NlsTask] = []
        self.peers: list[Peer] = []
        self._ids: set[str] = set()

    def authorize(self, peer: Peer) -> int:
        if self.reject:
            return self.reject.popleft()
        if peer.path != "/ws/v1":
            return 404
        return 0 if peer.headers.get("x-nls-token") in self.tokens else 403

    def converse(self, peer: Peer) -> None:
        self.peers.append(peer)
        number = self.connections
        while True:
            namespace, name, task, payload = self._command(peer.receive(3600))
            talk = {
                ("SpeechTranscriber", "StartTranscription"): self._hear,
                ("FlowingSpeechSynthesizer", "StartSynthesis"): self._talk,
            }.get((namespace, name))
            if talk is None:
                raise Fault(f"{namespace} {name} outside of a task")
            with self.next_fault("drop_idle"):
                begun = NlsTask(task, number, payload)
                self.tasks.append(begun)
                try:
                    talk(peer, begun)
                except _TaskFails as failed:
                    begun.end = "failed"
                    self.send(peer, begun, "TaskFailed", status=failed.status, status_text=str(failed))
                    return
                except BaseException:
                    begun.end = "lost"
                    raise
            begun.end = "completed"
            if self.fault == "drop_idle":
                peer.drop()
                return
            if namespace == "SpeechTranscriber":
                return

    def _command(self, message: str | bytes) -> tuple[str, str, str, dict[str, Any]]:
        if isinstance(message, bytes):
            raise Fault("sound outside of a task")
        parsed = json.loads(message)
        header = parsed["header"]
        if set(header) != {"message_id", "task_id", "namespace", "name", "appkey"} or header["appkey"] != APPKEY:
            raise Fault(f"header {header}")
        if not all(re.fullmatch(r"[0-9a-f]{32}", header[key]) for key in ("message_id", "task_id")):
            raise Fault(f"ids in {header}")
        if header["message_id"] in self._ids:
            raise Fault("a message id was used before")
        self._ids.add(header["message_id"])
        return header["namespace"], header["name"], header["task_id"], parsed.get("payload", {})

    def send(self, peer: Peer, task: NlsTask, name: str, payload: dict[str, Any] | None = None, **header: Any) -> None:
        """Send an event."""
        told = {"name": name, "task_id": task.id, "message_id": uuid.uuid4().hex, "status": 20000000, **header}
        peer.send(json.dumps({"header": told, "payload": payload or {}}, ensure_ascii=False))

    def _start(self, peer: Peer, task: NlsTask, name: str) -> None:
        if self.fault == "drop_start":
            peer.drop()
        if self.fault in ("drop_start", "stall_start"):
            peer.wait_gone()
        if self.fault.isdigit():
            raise _TaskFails(int(self.fault), f"Gateway:SOMETHING:for {SECRET}")
        self.send(peer, task, name)

    def _misbehave(self, peer: Peer) -> None:
        if self.fault == "garbage":
            peer.send("<html>oops</html>")
        if self.fault in ("garbage", "stall_before"):
            peer.wait_gone()

    def _break_off(self, peer: Peer) -> None:
        if self.fault == "drop":
            peer.drop()
        if self.fault in ("drop", "stall_after"):
            peer.wait_gone()

    # --- recognition --------------------------------------------------------------------------------------------------

    def _hear(self, peer: Peer, task: NlsTask) -> None:
        payload = task.payload
        if payload.get("format") != "pcm" or payload.get("sample_rate") != 16_000:
            raise Fault(f"StartTranscription {payload}")
        if type(payload.get("max_sentence_silence")) is not int or not 200 <= payload["max_sentence_silence"] <= 6000:
            raise Fault(f"max_sentence_silence {payload.get('max_sentence_silence')!r}")
        self._start(peer, task, "TranscriptionStarted")
        told = 0
        while True:
            message = peer.receive(60)
            if isinstance(message, str):
                _, name, identity, _ = self._command(message)
                if (name, identity) != ("StopTranscription", task.id):
                    raise Fault(f"{name} of {identity} within {task.id}")
                break
            if not message or len(message) % 2 or len(message) > LARGEST_PIECE:
                raise Fault(f"a piece of {len(message)} bytes")
            task.sound += message
            if told < len(task.sound) // self.sentence_bytes < len(self.sentences):
                self._sentence(peer, task, told)
                told += 1
            if self.fault == "ended":
                break
        self._misbehave(peer)
        if self.fault == "silent" or not any(task.sound):
            raise _TaskFails(41010105, "SILENT_SPEECH")
        for number in range(told, len(self.sentences)):
            self._sentence(peer, task, number)
        self.send(peer, task, "TranscriptionCompleted")

    def _sentence(self, peer: Peer, task: NlsTask, number: int) -> None:
        text = self.sentences[number]
        index = {"index": number + 1, "time": len(task.sound) // 32}
        self.send(peer, task, "SentenceBegin", index)
        partial = text[: len(text) // 2]
        self.send(peer, task, "TranscriptionResultChanged", {**index, "result": partial, "status": 20000000})
        self._break_off(peer)
        self.send(peer, task, "SentenceEnd", {**index, "result": text, "confidence": 0.9, "status": 20000000})

    # --- speech -------------------------------------------------------------------------------------------------------

    def _talk(self, peer: Peer, task: NlsTask) -> None:
        try:
            _check_manner(task.payload)
        except VendorRefusal as refused:
            raise _TaskFails(40000000, str(refused)) from None
        self._start(peer, task, "SynthesisStarted")
        waiting = ""
        while True:
            message = peer.poll(self.patience_s)
            if message is None:
                raise _TaskFails(40000004, "Gateway:IDLE_TIMEOUT:Websocket session is idle for too long time")
            _, name, identity, payload = self._command(message)
            if identity != task.id:
                raise Fault(f"{name} of {identity} within {task.id}")
            if name == "StopSynthesis":
                break
            if name != "RunSynthesis" or not payload.get("text"):
                raise Fault(f"{name} {payload} within a task")
            task.texts.append(payload["text"])
            self._misbehave(peer)
            if self.fault == "ended":
                self.send(peer, task, "SynthesisCompleted")
                peer.wait_gone()
            *whole, waiting = re.split(r"(?<=[。？！.?!])", waiting + payload["text"])
            for sentence in filter(None, whole):
                self._say(peer, task, sentence)
        if waiting:
            self._say(peer, task, waiting)
        if not task.texts:
            raise _TaskFails(41020001, "TTS:TtsClientError:no text")
        self.send(peer, task, "SynthesisCompleted")

    def _say(self, peer: Peer, task: NlsTask, sentence: str) -> None:
        rate = task.payload["sample_rate"]
        pcm = _speech(sentence, rate, task.payload["speech_rate"])
        if task.payload["format"] == "wav" and not task.sound:
            task.sound += b"a header was sent"
            pcm = wav(b"", rate, size=0x7FFFFFFF) + pcm
        if task.payload["format"] == "mp3":
            pcm = _SOUNDS.body("mp3", len(pcm) / 2 / rate)
        self.send(peer, task, "SentenceBegin", {"index": len(task.texts)})
        size = rate // 10 * 2 + 1  # odd on purpose: samples may be cut in half
        for start in range(0, len(pcm), size):
            peer.send(pcm[start : start + size])
            self._break_off(peer)
        self.send(peer, task, "SentenceEnd", {"subtitles": []})


class _TaskFails(Exception):
    def __init__(self, status: int, text: str) -> None:
        self.status = status
        super().__init__(text)
