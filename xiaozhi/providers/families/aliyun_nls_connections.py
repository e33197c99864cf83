"""WebSockets of Alibaba Cloud's Intelligent Speech Interaction (NLS): commands go out, events and sound come in. Not
sessions: `asr/aliyun_stream.py` and `tts/aliyun_stream.py` run those.

    {"header": {"namespace", "name", "task_id", "message_id", "appkey"}, "payload": {...}}        commands
    {"header": {"name", "task_id", "status", "status_text" or "status_message"}, "payload": {...}}  events

Sources: help.aliyun.com/zh/isi/user-guide/websocket, .../websocket-protocol-description-for-cosyvoice-tts."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from xiaozhi.errors import VendorGarbage
from xiaozhi.net.http_errors import redact
from xiaozhi.net.websocket_client import VendorSocket
from xiaozhi.providers.families.aliyun_nls import OK, NlsAccess, NlsOptions, nls_failure


@dataclass(frozen=True, slots=True)
class NlsEvent:
    """What the gateway tells."""

    name: str
    status: int = OK
    message: str = ""
    payload: Mapping[str, Any] = field(default_factory=dict)


class NlsLine:
    """One connection for tasks of one `namespace`, one task at a time. Raises VendorError."""

    def __init__(self, vendor: str, options: NlsOptions, access: NlsAccess, namespace: str, *, connect: float) -> None:
        self.vendor = vendor
        self._namespace = namespace
        self._appkey = options.appkey.get_secret_value()
        self._access = access
        with access.admitted(vendor) as token:
            self._token = token
            self._secrets = (*access.secrets, token)
            self._socket = VendorSocket(
                vendor,
                f"{options.gateway('ws')}/ws/v1",
                headers={"X-NLS-Token": token},
                connect=connect,
                secrets=self._secrets,
            )

    @property
    def is_idle(self) -> bool:
        """Open, and nothing has arrived since its last task."""
        return self._socket.is_idle()

    def begin(self, task: str, command: str, payload: Mapping[str, Any], *, until: str, deadline: float) -> None:
        """Start a task and wait for the event `until`. Closes the connection when that fails."""
        end = time.monotonic() + deadline
        try:
            self.send(task, command, payload)
            while True:
                event = self.receive(max(0.001, end - time.monotonic()))
                if isinstance(event, NlsEvent):
                    self.check(event)
                    if event.name == until:
                        return
        except BaseException:
            self.close()
            raise

    def send(self, task: str, command: str, payload: Mapping[str, Any] | None = None) -> None:
        """Send a command of a task."""
        message: dict[str, Any] = {
            "header": {
                "message_id": uuid.uuid4().hex,
                "task_id": task,
                "namespace": self._namespace,
                "name": command,
                "appkey": self._appkey,
            }
        }
        if payload is not None:
            message["payload"] = payload
        self._socket.send_json(message)

    def send_sound(self, pcm: bytes) -> None:
        """Send sound."""
        self._socket.send_binary(pcm)

    def receive(self, deadline: float) -> NlsEvent | bytes:
        """The next event, or a piece of sound. Raises VendorGarbage."""
        message = self._socket.receive(deadline)
        if isinstance(message, bytes):
            return message
        try:
            parsed = orjson.loads(message)
            header = parsed["header"]
            name, status = str(header["name"]), int(header.get("status", OK))
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
            self.close()
            raise VendorGarbage(self.vendor, f"no event: {redact(message, self._secrets)}") from None
        said = str(header.get("status_text") or header.get("status_message") or "")
        payload = parsed.get("payload")
        return NlsEvent(name, status, said, payload if isinstance(payload, dict) else {})

    def check(self, event: NlsEvent) -> None:
        """Raises the error that an event stands for."""
        if event.status != OK or event.name == "TaskFailed":
            failure = nls_failure(self.vendor, event.status, event.message, self._secrets)
            if failure.status:
                self._access.refused(self._token)
            raise failure

    def farewell(self) -> None:
        """Hang up: the protocol has no goodbye."""
        self.close()

    def close(self) -> None:
        """Hang up. Idempotent, from any greenlet."""
        self._socket.close()


def new_task() -> str:
    """An id of a task."""
    return uuid.uuid4().hex
