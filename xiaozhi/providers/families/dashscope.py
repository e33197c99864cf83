"""What the speech services of DashScope (Alibaba Cloud Model Studio, "Bailian") share: how their blocks are written,
tasks over a WebSocket, and what error codes mean.

    us      run-task                      an id, the model, its parameters
    vendor  task-started
    us      sound (binary), or continue-task with text
    vendor  result-generated, and sound (binary)
    us      finish-task
    vendor  task-finished, or task-failed, after which it closes the connection

A connection runs one task at a time and any number after each other; the vendor closes one that rests for 60 s. There
is no message to cancel a task: whoever leaves it hangs up.

Sources: help.aliyun.com/zh/model-studio/websocket-for-paraformer-real-time-service, .../cosyvoice-websocket-api,
.../error-code."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Generator, Mapping
from typing import Any, Final

import orjson
from pydantic import Field

from xiaozhi.errors import (
    VendorBusy,
    VendorError,
    VendorGarbage,
    VendorRejected,
    VendorTimeout,
    VendorUnavailable,
)
from xiaozhi.net.http_errors import MAX_DETAILS, redact
from xiaozhi.net.websocket_client import VendorSocket
from xiaozhi.providers.asr_session import SessionAsr
from xiaozhi.providers.families.http_options import ApiKey, BlankFree
from xiaozhi.providers.kept_connections import KeptConnections
from xiaozhi.providers.tts_session import SessionTts

WS_URL: Final = "wss://dashscope.aliyuncs.com/api-ws/v1/inference"
LONGEST_S: Final = 600.0
"""No wait for the vendor's next message is longer; whoever uses a task has shorter patience."""

_BUSY: Final = re.compile(r"(?i)throttling|rate[ _]?limit|limit_requests|too many|concurren")
_LATE: Final = re.compile(r"(?i)time_?d?[ _]?out")
_REFUSED: Final = re.compile(
    r"(?i)invalid|denied|unauthorized|forbidden|arrear|not_?found|notexist|unsupported|inspection|badrequest"
    r"|client_?error|freetier|insufficient|unpurchased|empty|^4\d\d"
)

_LANGUAGES: Final = {
    "auto": "",
    "中文": "zh",
    "普通话": "zh",
    "英语": "en",
    "英文": "en",
    "日语": "ja",
    "韩语": "ko",
    "法语": "fr",
    "德语": "de",
    "俄语": "ru",
    "西班牙语": "es",
    "意大利语": "it",
    "葡萄牙语": "pt",
    "泰语": "th",
    "印尼语": "id",
    "越南语": "vi",
}


class DashscopeOptions(BlankFree):
    """Keys common to all kinds."""

    api_key: ApiKey
    workspace: str = ""
    """The id of a business space other than the key's own."""

    def credentials(self) -> dict[str, str]:
        """What every request carries."""
        headers = {"Authorization": f"Bearer {self.api_key.get_secret_value()}", "X-DashScope-DataInspection": "enable"}
        return headers | ({"X-DashScope-WorkSpace": self.workspace} if self.workspace else {})


class DuplexOptions(DashscopeOptions):
    """Keys of the kinds that work by tasks. `ws_url`: the address of another region."""

    ws_url: str = Field(WS_URL, pattern=r"^wss?://.+")
    connect_timeout: float = Field(5.0, gt=0)
    idle_connections: int = Field(4, ge=0)
    idle_seconds: float = Field(50.0, gt=0, lt=60)
    """How long a connection rests before it is given up; the vendor closes it after 60 s."""


class DuplexConnection:
    """One connection. One task at a time. Raises VendorError."""

    def __init__(self, vendor: str, options: DuplexOptions) -> None:
        self.secrets = (options.api_key.get_secret_value(),)
        self.socket = VendorSocket(
            vendor, options.ws_url, headers=options.credentials(), connect=options.connect_timeout, secrets=self.secrets
        )

    @property
    def is_idle(self) -> bool:
        """Open, and nothing has arrived since its last task."""
        return self.socket.is_idle()

    def farewell(self) -> None:
        """Hang up."""
        self.socket.close()

    def close(self) -> None:
        """Hang up. Idempotent, from any greenlet."""
        self.socket.close()


class DuplexTask:
    """One task, past task-started. One greenlet reads while others send; `hang_up` may come from any.

    `request`: the payload of run-task. Raises VendorError; the connection is closed then."""

    def __init__(
        self, vendor: str, connection: DuplexConnection, request: Mapping[str, Any], *, deadline: float
    ) -> None:
        self.id = uuid.uuid4().hex
        self.connection = connection
        self._vendor = vendor
        self._socket = connection.socket
        self._over = False
        """The connection may belong to another task."""
        try:
            self._act("run-task", request)
            self._expect_start(time.monotonic() + deadline)
        except BaseException:
            connection.close()
            raise

    def send_sound(self, pcm: bytes) -> None:
        """Sound to be heard."""
        self._check()
        self._socket.send_binary(pcm)

    def send_text(self, text: str) -> None:
        """Text to be spoken."""
        self._act("continue-task", {"input": {"text": text}})

    def send_end(self) -> None:
        """Nothing more will come."""
        self._act("finish-task", {"input": {}})

    def receive(self, deadline: float) -> bytes | Mapping[str, Any] | None:
        """The vendor's next message: sound, the `output` of a result, or None at the end of the task. A failed task is
        raised as the error it stands for."""
        while True:
            message = self._socket.receive(deadline)
            if isinstance(message, bytes):
                return message
            event, output = self._parsed(message)
            if event == "task-finished":
                self._over = True
                return None
            if event == "result-generated":
                return output

    def hang_up(self) -> None:
        """End the task now. Idempotent, from any greenlet."""
        if not self._over:
            self.connection.close()

    def _check(self) -> None:
        if self._over:
            raise VendorUnavailable(self._vendor, "the task has ended")

    def _act(self, action: str, payload: Mapping[str, Any]) -> None:
        self._check()
        header = {"action": action, "task_id": self.id, "streaming": "duplex"}
        self._socket.send_json({"header": header, "payload": payload})

    def _expect_start(self, until: float) -> None:
        while True:
            message = self._socket.receive(max(0.001, until - time.monotonic()))
            if isinstance(message, bytes):
                raise VendorGarbage(self._vendor, "sound before task-started")
            event, _ = self._parsed(message)
            if event == "task-started":
                return
            if event:
                raise VendorGarbage(self._vendor, f"{redact(event)} instead of task-started")

    def _parsed(self, message: str) -> tuple[str, Mapping[str, Any]]:
        """The event and the output of a message about this task; no event for what is about another one."""
        try:
            parsed = orjson.loads(message)
            header = parsed["header"]
            event, task = str(header["event"]), header.get("task_id")
            output = (parsed.get("payload") or {}).get("output") or {}
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
            raise VendorGarbage(self._vendor, f"no event: {redact(message, self.connection.secrets)}") from None
        if task and task != self.id:
            return "", {}
        if event == "task-failed":
            code, text = str(header.get("error_code") or ""), str(header.get("error_message") or "")
            raise failure(self._vendor, code, text, self.connection.secrets)
        return event, output if isinstance(output, Mapping) else {}


class DuplexTasks:
    """Runs the tasks of one provider over kept connections."""

    def __init__(self, owner: SessionAsr | SessionTts, options: DuplexOptions) -> None:
        self._owner = owner
        self._options = options
        self._connections = KeptConnections(
            self._dial, keep=options.idle_connections, idle_seconds=options.idle_seconds, tasks=owner.tasks
        )

    def start(self, request: Mapping[str, Any]) -> DuplexTask:
        """A task. Raises VendorError."""
        return self._connections.begin(
            lambda connection: DuplexTask(
                self._owner.vendor, connection, request, deadline=self._options.connect_timeout
            )
        )

    def read(self, task: DuplexTask) -> Generator[bytes | Mapping[str, Any]]:
        """Sound and results of a task to its end. Its connection is then kept, or closed when the reader leaves
        earlier or the task fails."""
        with self._connections.kept_after(task.connection):
            while (message := task.receive(LONGEST_S)) is not None:
                yield message

    def close(self) -> None:
        """Hang up on all that is idle."""
        self._connections.close()

    def _dial(self) -> DuplexConnection:
        self._owner.check_open()
        return DuplexConnection(self._owner.vendor, self._options)


def language_code(language: str) -> str:
    """The vendor's code for "zh-CN", "en_us" or a name such as consoles have ("英语"); "" for one that it has no code
    for, such as a dialect, and for "auto"."""
    known = _LANGUAGES.get(language.lower())
    code = language.lower().replace("_", "-").partition("-")[0] if known is None else known
    return code if code.isascii() else ""


def failure(vendor: str, code: str, message: str, secrets: tuple[str, ...] = ()) -> VendorError:
    """The typed error of an error code such as "InvalidApiKey", "Throttling.RateQuota" or "InternalError"."""
    text = redact(f"{code} {message}".strip(), secrets)
    details = redact(f"{code} {message}".strip(), secrets, MAX_DETAILS)
    kind: type[VendorError] = VendorUnavailable
    if _BUSY.search(text):
        kind = VendorBusy
    elif _LATE.search(text):
        kind = VendorTimeout
    elif _REFUSED.search(code):
        kind = VendorRejected
    return kind(vendor, text, details=details)
