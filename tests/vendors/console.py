"""The management console on a loopback port, as strict as the real one: its envelope, its order of checks, its traps.

Made of the contract of its API, not of its code. Everything that the application itself refuses is HTTP 200 with a
code; what proxies and containers do is scripted (`Script`), by the last words of a path ("agent-models")."""

from __future__ import annotations

import base64
import copy
import io
import wave
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

import orjson

from loadtest.vendors.http_vendor import HttpVendor, Script, VendorAnswer, VendorRequest

SECRET = "0f7c6c1e-console-secret-5b2d"
PREFIX = "/xiaozhi"
OK, UNAUTHORISED, NOT_FOUND, INTERNAL = 0, 401, 404, 500
INVALID, UNKNOWN_DEVICE, CODE_PENDING, NO_AGENT, NO_TEMPLATE = 10034, 10041, 10042, 10053, 10183
BASE = "server-base"
MODELS = "agent-models"
WORDS = "correct-words"
REPORT = "report"
TITLE = "title"
SUMMARY = "summary"
CALL = "call"
PRIVATE_KEY = "9f-the-private-key-of-the-console"


@dataclass
class BoundDevice:
    """What the console's pages say of the agent of a device."""

    models: dict[str, Any] = field(default_factory=dict)
    """The answer to agent-models, VAD and ASR included."""
    words: list[str] = field(default_factory=list)
    history: int = 2
    gone: bool = False
    """Its agent was deleted."""


class Refused(Exception):
    """An answer with another code than 0."""

    def __init__(self, code: int, msg: str) -> None:
        self.code = code
        self.msg = msg
        super().__init__(msg)


class StrictConsole(HttpVendor):
    """`bound`: devices by MAC, compared as written; `codes`: pending binding codes by MAC."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.base = copy.deepcopy(SERVER_BASE)
        self.bound: dict[str, BoundDevice] = {}
        self.codes: dict[str, str] = {}
        self.served: list[str] = []
        """MACs that were answered with their agent, in order."""
        self.books: dict[str, dict[str, str]] = {}
        """Caller's MAC -> nickname -> MAC of the one that is called."""
        self.rung: list[tuple[str, str]] = []
        self.reports: list[dict[str, Any]] = []
        self.titles: list[str] = []
        self.summaries: list[str] = []
        self.order: list[str] = []
        """What was asked for in the way of history, in order."""
        self.closes_behind = False
        """Each answer is the last on its connection, and nobody says so."""
        self.faults: list[str] = []
        """What a client that keeps to the contract does not do."""

    @property
    def api_url(self) -> str:
        """What stands in `manager-api.url`."""
        return self.url + PREFIX

    # --- HttpVendor ---------------------------------------------------------------------------------------------------

    def kind(self, request: VendorRequest) -> str:
        path = urlsplit(request.path).path.removeprefix(PREFIX)
        if path.startswith("/agent/chat-title/"):
            return TITLE
        if path.startswith("/agent/chat-summary/"):
            return SUMMARY
        return path.rpartition("/")[2]

    def follow(self, line: Any, request: VendorRequest, script: Script) -> bool:
        return super().follow(line, request, script) and not self.closes_behind

    def answer(self, request: VendorRequest, script: Script) -> VendorAnswer:
        try:
            if isinstance(script.answer, Refused):
                raise script.answer
            if script.answer is not None:
                return VendorAnswer(orjson.dumps(script.answer))
            body = {"code": OK, "msg": "success", "data": self._data(request)}
        except Refused as refused:
            body = {"code": refused.code, "msg": refused.msg, "data": None}
        return VendorAnswer(orjson.dumps(body), "application/json;charset=UTF-8")

    # --- what it checks, in its order ---------------------------------------------------------------------------------

    def _data(self, request: VendorRequest) -> Any:
        path = urlsplit(request.path).path
        if not path.startswith(f"{PREFIX}/"):
            raise Refused(NOT_FOUND, "资源不存在")
        written = request.headers.get("authorization", "")
        if not written.startswith("Bearer ") or not written.removeprefix("Bearer "):
            raise Refused(UNAUTHORISED, "服务器密钥不能为空")
        if written != f"Bearer {SECRET}":
            raise Refused(UNAUTHORISED, "无效的服务器密钥")
        if path.endswith("/"):
            raise Refused(NOT_FOUND, "资源不存在")
        kind, method = self.kind(request), request.method
        handler = {
            (BASE, "POST"): self._server_base,
            (MODELS, "POST"): self._agent_models,
            (WORDS, "POST"): self._correct_words,
            (REPORT, "POST"): self._report,
            (TITLE, "POST"): self._title,
            (SUMMARY, "POST"): self._summary,
            (CALL, "GET"): self._call,
        }.get((kind, method))
        if handler is None:
            raise Refused(INTERNAL, "服务器内部异常")
        return handler(request)

    def _body(self, request: VendorRequest, *required: str) -> dict[str, Any]:
        if not request.headers.get("content-type", "").startswith("application/json"):
            raise Refused(INTERNAL, "服务器内部异常")
        try:
            body = orjson.loads(request.body)
        except orjson.JSONDecodeError:
            raise Refused(INTERNAL, "服务器内部异常") from None
        for key in required:
            if not isinstance(body.get(key), str) or not body[key].strip():
                raise Refused(INVALID, f"{key}不能为空")
        return dict(body)

    def _server_base(self, request: VendorRequest) -> Any:
        if "selected_module" not in self.base:
            raise Refused(NO_TEMPLATE, "默认智能体未找到")
        return self.base

    def _agent_models(self, request: VendorRequest) -> Any:
        body = self._body(request, "macAddress", "clientId")
        if not isinstance(body.get("selectedModule"), dict):
            raise Refused(INVALID, "selectedModule不能为空")
        device = self._device(body["macAddress"])
        self.served.append(body["macAddress"])
        models = copy.deepcopy(device.models)
        models.setdefault("chat_history_conf", device.history)
        models.setdefault("device_max_output_size", "0")
        for section in ("VAD", "ASR"):
            chosen = models.get("selected_module", {}).get(section)
            if chosen is not None and chosen == body["selectedModule"].get(section):
                del models["selected_module"][section]
                models.pop(section, None)
        return models

    def _correct_words(self, request: VendorRequest) -> Any:
        body = self._body(request, "macAddress")
        device = self.bound.get(body["macAddress"])
        return device.words if device is not None else []

    def _device(self, mac: str) -> BoundDevice:
        device = self.bound.get(mac)
        if device is None:
            if mac in self.codes:
                raise Refused(CODE_PENDING, self.codes[mac])
            raise Refused(UNKNOWN_DEVICE, "设备未找到")
        if device.gone:
            raise Refused(NO_AGENT, "智能体未找到")
        return device

    # --- history ------------------------------------------------------------------------------------------------------

    def _report(self, request: VendorRequest) -> Any:
        body = self._body(request, "macAddress", "sessionId", "content")
        if body.get("chatType") not in (1, 2, 3):
            raise Refused(INVALID, "chatType不能为空")
        if set(body) != {"macAddress", "sessionId", "chatType", "content", "reportTime", "audioBase64"}:
            self.faults.append(f"fields {sorted(body)}")
        if len(body["sessionId"]) > 50 or len(body["content"].encode()) > 65_535:
            self.faults.append("longer than its column")
        at = body.get("reportTime")
        if at is not None and not (isinstance(at, int) and at > 10**12):
            self.faults.append(f"reportTime {at!r} is not in milliseconds")
        if body.get("audioBase64") is not None:
            self._check_sound(body["audioBase64"])
        device = self.bound.get(body["macAddress"])
        if device is None or device.gone:
            return False
        if device.history:
            self.reports.append(body if device.history == 2 else {**body, "audioBase64": None})
            self.order.append(REPORT)
        return True

    def _check_sound(self, encoded: str) -> None:
        try:
            with wave.open(io.BytesIO(base64.b64decode(encoded, validate=True))) as sound:
                if (sound.getframerate(), sound.getnchannels(), sound.getsampwidth()) != (16_000, 1, 2):
                    self.faults.append("sound that is not 16 kHz mono, 16 bit")
        except (ValueError, EOFError, wave.Error) as error:
            self.faults.append(f"sound that is no WAV file: {error}")

    def _title(self, request: VendorRequest) -> Any:
        self.titles.append(self._session(request))
        self.order.append(TITLE)
        return None

    def _summary(self, request: VendorRequest) -> Any:
        self.summaries.append(self._session(request))
        self.order.append(SUMMARY)
        return None

    def _session(self, request: VendorRequest) -> str:
        session = urlsplit(request.path).path.split("/")[-2]
        if request.body:
            self.faults.append("a body where there is none")
        if not any(report["sessionId"] == session for report in self.reports):
            raise Refused(NO_AGENT, "智能体未找到")
        return session

    # --- calls --------------------------------------------------------------------------------------------------------

    def _call(self, request: VendorRequest) -> Any:
        query = parse_qs(urlsplit(request.path).query, keep_blank_values=True)
        if "callerMac" not in query or "nickname" not in query:
            raise Refused(INTERNAL, "服务器内部异常")
        caller, nickname = query["callerMac"][0], query["nickname"][0]
        if query.get("answer") == ["true"]:
            self.rung.append((caller, "answered"))
            return {"status": "success", "message": None}
        target = self.books.get(caller, {}).get(nickname)
        if target is None:
            return {"status": "error", "message": f"未找到备注为'{nickname}'的设备"}
        self.rung.append((caller, target))
        return {"status": "success", "message": "呼叫成功"}


def strict_console() -> Iterator[StrictConsole]:
    """`console = pytest.fixture(strict_console)`: one that runs, and has found nothing wrong in the end."""
    with StrictConsole() as console:
        assert isinstance(console, StrictConsole)
        yield console
        assert console.faults == []


def refuses(code: int, msg: str = "…") -> Script:
    """A script: the application answers with this code. For `stand` and `script`."""
    return Script(answer=Refused(code, msg))


SERVER_BASE: Mapping[str, Any] = {
    "server": {
        "secret": SECRET, "name": "xiaozhi", "websocket": "ws://10.0.0.5:8000/xiaozhi/v1/",
        "ota": "http://10.0.0.5:8002/xiaozhi/ota/", "fronted_url": "http://console.example", "mcp_endpoint": "null",
        "voice_print": "null", "voiceprint_similarity_threshold": "0.4", "mqtt_gateway": "null",
        "mqtt_signature_key": "null", "udp_gateway": "null", "mqtt_manager_api": "null", "auth": {"enabled": False},
        "allow_user_register": False, "enable_mobile_register": False, "sms_max_send_count": 10,
        "beian_icp_num": "null", "public_key": "04-the-public-key", "private_key": PRIVATE_KEY,
    },
    "log": {"log_level": "INFO", "log_dir": "tmp", "log_file": "server.log", "data_dir": "data",
            "log_format": "<green>{time}</green>", "log_format_file": "{time}"},
    "delete_audio": True, "close_connection_no_voice_time": 120, "tts_timeout": 10, "tool_call_timeout": 30,
    "device_max_output_size": 0, "enable_wakeup_words_response_cache": True, "enable_greeting": True,
    "enable_websocket_ping": False, "enable_stop_tts_notify": False,
    "stop_tts_notify_voice": "config/assets/tts_notify.mp3",
    "exit_commands": ["退出", "关闭"], "wakeup_words": ["你好小智", "小爱同学"],
    "end_prompt": {"enable": True, "prompt": "请说再见"}, "system_error_response": "主人，小智现在有点忙。",
    "xiaozhi": {"type": "hello", "version": 1, "transport": "websocket",
                "audio_params": {"format": "opus", "sample_rate": 24000, "channels": 1, "frame_duration": 60}},
    "aliyun": {"sms": {"access_key_id": "", "access_key_secret": "sms-secret", "sign_name": ""}},
    "system-web": {"menu": {"features": {}, "groups": {}}},
    "VAD": {"VAD_SileroVAD": {"type": "silero", "model_dir": "models/snakers4_silero-vad", "threshold": 0.5,
                              "min_silence_duration_ms": 700}},
    "ASR": {"ASR_FunASR": {"type": "fun_local", "model_dir": "models/SenseVoiceSmall", "output_dir": "tmp/",
                           "language": "auto"}},
    "selected_module": {"VAD": "VAD_SileroVAD", "ASR": "ASR_FunASR"},
    "prompt": None, "summaryMemory": None,
}  # fmt: skip
"""What a fresh console answers."""
