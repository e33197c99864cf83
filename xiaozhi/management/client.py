"""The calls of the management console's API: one method each, answers taken out of their envelope, every failure typed.

Not a translator: answers are handed on as they are (`translate.py`). Every answer is HTTP 200 with
`{"code": 0, "msg": ..., "data": ...}`; what failed has another code, and is decided by the code alone, since `msg` is
in the language of the console.

The console drops idle connections without a word. One that is seen to be closed costs nothing (`net/http.py` sends the
request on another one); one that may have been dropped unseen is not used again after `IDLE_S`."""

from __future__ import annotations

import time
import urllib.parse
from collections.abc import Callable, Mapping
from typing import Any, Final

from xiaozhi.errors import ConsoleRefused, VendorGarbage, VendorUnavailable
from xiaozhi.net.http import VendorHttp
from xiaozhi.runtime.breaker import Breaker, BreakerOptions, BreakerState
from xiaozhi.runtime.resilience import Guard, RetryOptions, Window

NAME: Final = "console"
SECRET_WRONG: Final = 401
NO_SUCH_PATH: Final = 404
UNFORESEEN: Final = 500
FAILED_INSIDE: Final = "code 500"
"""The `details` of the error that follows."""
INVALID: Final = 10034
DEVICE_UNKNOWN: Final = 10041
CODE_PENDING: Final = 10042
"""The message is the code that the owner types into the console."""
AGENT_GONE: Final = 10053
"""The device's agent was deleted; or a session without history."""

IDLE_S: Final = 15.0
MAX_CALLS: Final = 32
"""Calls at once; devices that come all at the same time wait for each other."""
MAX_WAITING: Final = 2_000
MAX_ANSWER_BYTES: Final = 2 * 1024 * 1024
TITLE_S: Final = 120.0
"""A title is written by a language model before the console answers."""
MEMORY_S: Final = 30.0
CALL_S: Final = 10.0
_BREAKER: Final = BreakerOptions(error_rate=0.5, min_volume=4, window=30.0, open_for=5.0)
_AGAIN: Final = RetryOptions(attempts=2, first=0.3, longest=1.0)


class ConsoleClient:
    """One per process. `timeout`: seconds for one call. Methods block and raise VendorError (ConsoleRefused for a code
    other than 0), CircuitOpen while the console is known to be down, Overloaded."""

    def __init__(
        self, url: str, secret: str, *, timeout: float = 30.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.url = url.rstrip("/")
        self._secret = secret
        self._timeout = timeout
        self._clock = clock
        self._https: dict[float, VendorHttp] = {}
        self._active = 0
        self._last_answer = 0.0
        self._closed = False
        self._breaker = Breaker(NAME, _BREAKER, clock=clock)
        window = Window(NAME, MAX_CALLS, MAX_WAITING, clock=clock)
        self._asking = Guard(NAME, window=window, breaker=self._breaker, retry=_AGAIN, timeout=timeout, clock=clock)
        self._always = Guard(NAME, window=window, retry=_AGAIN, timeout=timeout, clock=clock)
        # Who delivers history has its own account of what is to be sent again.
        self._telling = Guard(NAME, window=window, breaker=self._breaker, timeout=timeout, clock=clock)

    @property
    def resting(self) -> bool:
        """The console has failed a moment ago and is not asked now."""
        return self._breaker.state is BreakerState.OPEN

    # --- settings -----------------------------------------------------------------------------------------------------

    def server_base(self) -> dict[str, Any]:
        """The settings of the server. Holds secrets that are none of our business. Asked rarely, and often because
        the console has just come back: so it is asked also while it rests, and an answer ends that rest."""
        answer = _mapping(self._always.call(lambda: self._call("POST", "/config/server-base", None, self._timeout)))
        if self._breaker.state is not BreakerState.CLOSED:
            self._breaker.reset()
        return answer

    def agent_models(self, mac: str, client_id: str, selected: Mapping[str, str]) -> dict[str, Any]:
        """The settings of one device. `selected`: section -> block that the server has already, for VAD and ASR."""
        body = {"macAddress": mac, "clientId": client_id or mac, "selectedModule": dict(selected)}
        return _mapping(self._ask("/config/agent-models", body))

    def correct_words(self, mac: str) -> list[str]:
        """Pronunciations for one device: "written|spoken"."""
        words = self._ask("/config/correct-words", {"macAddress": mac})
        if words is not None and not isinstance(words, list):
            raise VendorGarbage(NAME, "correct-words is no list")
        return [word for word in words or () if isinstance(word, str)]

    # --- history ------------------------------------------------------------------------------------------------------

    def report(self, report: Mapping[str, Any]) -> bool:
        """Hand in one message of a conversation; False when no agent belongs to the device."""
        return self._tell("/agent/chat-history/report", report) is not False

    def make_title(self, session_id: str) -> None:
        """Have a title made for a session. Takes as long as a language model."""
        self._tell(f"/agent/chat-title/{urllib.parse.quote(session_id, safe='')}/generate", seconds=TITLE_S)

    def save_summary(self, session_id: str) -> None:
        """Have a session summarised into the memory of its agent; the console does so after it has answered."""
        self._tell(f"/agent/chat-summary/{urllib.parse.quote(session_id, safe='')}/save", seconds=MEMORY_S)

    # --- calls between devices ----------------------------------------------------------------------------------------

    def call_device(self, mac: str, nickname: str, *, answer: bool = False) -> dict[str, Any]:
        """Have the console ring the device of this name in the caller's address book; `answer`: accept a call."""
        query = {"callerMac": mac, "nickname": nickname} | ({"answer": "true"} if answer else {})
        path = f"/device/address-book/call?{urllib.parse.urlencode(query)}"
        return _mapping(self._telling.call(lambda: self._call("GET", path, None, CALL_S)))

    def close(self) -> None:
        """Break off what runs, give the connections back. Idempotent."""
        self._closed = True
        self._forget_connections()

    # --- one call -----------------------------------------------------------------------------------------------------

    def _ask(self, path: str, body: Mapping[str, Any]) -> Any:
        return self._asking.call(lambda: self._call("POST", path, body, self._timeout))

    def _tell(self, path: str, body: Mapping[str, Any] | None = None, seconds: float | None = None) -> Any:
        return self._telling.call(lambda: self._call("POST", path, body, seconds or self._timeout))

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None, seconds: float) -> Any:
        """The data of an answer."""
        http = self._http(seconds)
        self._active += 1
        try:
            answer = http.json(method, self.url + path, limit=MAX_ANSWER_BYTES, json=body)
        finally:
            self._active -= 1
            self._last_answer = self._clock()
        code = answer.get("code") if isinstance(answer, dict) else None
        if type(code) is not int:
            raise VendorGarbage(NAME, "an answer without a code: is this the address of the console's API?")
        if code == 0:
            return answer.get("data")
        if code == UNFORESEEN:
            # Also what its database or cache failed at; nothing says that it will fail again.
            raise VendorUnavailable(NAME, "the console failed inside (code 500)", details=FAILED_INSIDE)
        raise ConsoleRefused(NAME, code, str(answer.get("msg") or ""))

    def _http(self, seconds: float) -> VendorHttp:
        if self._closed:
            raise VendorUnavailable(NAME, "closed")
        if self._https and not self._active and self._clock() - self._last_answer > IDLE_S:
            self._forget_connections()
        http = self._https.get(seconds)
        if http is None:
            http = self._https[seconds] = VendorHttp(
                NAME,
                read=seconds,
                total=seconds,
                headers={"Authorization": f"Bearer {self._secret}", "Accept": "application/json"},
                secrets=[self._secret],
                proxy="",
            )
        return http

    def _forget_connections(self) -> None:
        for http in self._https.values():
            http.close()
        self._https.clear()


def _mapping(data: Any) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise VendorGarbage(NAME, f"the answer's data is no object but {type(data).__name__}")
    return data
