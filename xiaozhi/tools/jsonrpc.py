"""JSON-RPC 2.0 with one peer that is not trusted: requests to it and their answers, its notifications and requests.

First pure functions that read and write single messages, then `JsonRpcClient`, which counts ids and lets a greenlet
wait for its answer. Not a transport: `send` puts one message on the wire, `receive` is handed each decoded message that
came. Unknown or repeated ids, answers that come too late and plain garbage are counted and otherwise ignored. MCP, with
devices and with servers, is made of these messages. Source: jsonrpc.org/specification; batches are taken apart, never
sent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from gevent.event import AsyncResult

from xiaozhi.errors import ConnectionClosed, ToolError
from xiaozhi.protocol import close_codes
from xiaozhi.runtime.logs import get_logger

log = get_logger(__name__)

METHOD_NOT_FOUND = -32601
MAX_ERROR_CHARS = 500
MAX_ID_CHARS = 64
_EXACT = 2**53
"""JSON parsers on devices keep numbers as doubles."""

Message = dict[str, Any]


# --- single messages --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one of our requests: `result`, or what the error says."""

    id: int | None
    """None: it cannot be one of ours."""
    result: Any = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """The peer wants something (`id` is set, and comes back as it was written) or tells something (`id` is None)."""

    method: str
    params: Any = None
    id: int | str | None = None


@dataclass(frozen=True, slots=True)
class Garbage:
    """No message; `what` is wrong with it."""

    what: str


def read(message: Any) -> Answer | Call | Garbage:
    """What one decoded message is. Never raises."""
    if not isinstance(message, Mapping):
        return Garbage("message is no object")
    if "method" in message:
        return _read_call(message)
    if "result" not in message and "error" not in message:
        return Garbage("message is neither request nor answer")
    error = message.get("error")
    if error is not None:
        return Answer(_own_id(message.get("id")), error=_error_text(error))
    return Answer(_own_id(message.get("id")), message.get("result"))


def _read_call(message: Mapping[str, Any]) -> Call | Garbage:
    method, identity = message["method"], message.get("id")
    if not isinstance(method, str):
        return Garbage("method is no text")
    # Whatever else JSON can hold might not survive being written again: huge numbers, lone surrogates.
    echoes = isinstance(identity, int) and abs(identity) < _EXACT
    if isinstance(identity, str):
        echoes = identity.isascii() and len(identity) <= MAX_ID_CHARS
    if identity is not None and not echoes:
        return Garbage("id of a request is neither a number nor a short text")
    return Call(method, message.get("params"), identity)


def _own_id(identity: Any) -> int | None:
    """The id of an answer as the number we gave; firmware may write it as a float or a text."""
    if isinstance(identity, bool):
        return None
    if isinstance(identity, float) and identity.is_integer():
        return int(identity)
    if isinstance(identity, str) and identity.isascii() and identity.isdigit() and len(identity) <= 12:
        return int(identity)
    return identity if isinstance(identity, int) else None


def _error_text(error: Any) -> str:
    """What an error says, in whatever shape it came; firmware often leaves the code out. "" when it says nothing."""
    message = error.get("message") if isinstance(error, Mapping) else error
    return message[:MAX_ERROR_CHARS] if isinstance(message, str) else ""


def write_request(number: int, method: str, params: Mapping[str, Any]) -> Message:
    """A request that expects an answer."""
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": dict(params)}


def write_notification(method: str) -> Message:
    """A request that expects none."""
    return {"jsonrpc": "2.0", "method": method}


def write_result(identity: int | str, value: Any) -> Message:
    """The answer to a request of the peer."""
    return {"jsonrpc": "2.0", "id": identity, "result": value}


def write_error(identity: int | str, code: int, text: str) -> Message:
    """The refusal of a request of the peer."""
    return {"jsonrpc": "2.0", "id": identity, "error": {"code": code, "message": text}}


# --- the conversation -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class JsonRpcLimits:
    """Bounds of one conversation."""

    pending: int = 16
    """Requests waiting for an answer at once; one more is refused."""
    batch: int = 32
    """Messages looked at in one batch; the rest is ignored."""


@dataclass(slots=True)
class JsonRpcCounts:
    """What came from the peer that was not simply an answer somebody waited for."""

    garbage: int = 0
    unknown_ids: int = 0
    """Answers to requests that were never made, or were answered or given up already."""
    notifications: int = 0
    requests: int = 0
    timeouts: int = 0
    refused: int = 0
    """Requests not made, as too many were waiting for answers."""


def _ignore(method: str, params: Any) -> None:
    """What becomes of notifications nobody asked for."""


def _gone(message: Message) -> None:
    raise ConnectionClosed(close_codes.GOING_AWAY)


class JsonRpcClient:
    """One conversation. `send(message)` must not block for long and may raise ConnectionClosed.

    `peer` names the other side in errors, which language models read. `methods`: what the peer may ask for, each a
    function from its parameters to the result. `on_notification(method, params)` is told what the peer tells. Both
    run where `receive` is called and must not block."""

    def __init__(
        self,
        send: Callable[[Message], None],
        *,
        peer: str,
        limits: JsonRpcLimits | None = None,
        methods: Mapping[str, Callable[[Any], Any]] | None = None,
        on_notification: Callable[[str, Any], None] = _ignore,
    ) -> None:
        self._send = send
        self._peer = peer
        self._limits = limits or JsonRpcLimits()
        self._methods = dict(methods or {})
        self._on_notification = on_notification
        self._next_id = 1
        self._pending: dict[int, AsyncResult] = {}
        self.closed = False
        self.counts = JsonRpcCounts()

    @property
    def pending(self) -> int:
        """Requests waiting for an answer."""
        return len(self._pending)

    def request(self, method: str, params: Mapping[str, Any], timeout: float) -> Any:
        """Send a request and wait at most `timeout` seconds for its result; blocks.

        Raises ToolError: the peer refused, did not answer in time, has disconnected, or owes too many answers."""
        if len(self._pending) >= self._limits.pending:
            self.counts.refused += 1
            raise ToolError(f"{self._peer} has too many unanswered requests")
        number = self._next_id
        self._next_id += 1
        answer = self._pending[number] = AsyncResult()
        try:
            self._put(write_request(number, method, params))
            # wait, not get: its own timeout comes back as an unset result, so that one of the caller's is never
            # mistaken for it.
            answer.wait(timeout=timeout)
        finally:
            self._pending.pop(number, None)
        if not answer.ready():
            self.counts.timeouts += 1
            raise ToolError(f"{self._peer} did not answer within {timeout:g} seconds")
        try:
            return answer.get(block=False)
        finally:
            del answer  # an error that it holds would know it by this frame

    def notify(self, method: str) -> None:
        """Send a notification. Raises ToolError: the peer has disconnected."""
        self._put(write_notification(method))

    def receive(self, message: Any) -> None:
        """Take one decoded message, whatever it is. Never raises, never blocks for long."""
        if self.closed:
            return
        for item in message[: self._limits.batch] if isinstance(message, list) else (message,):
            self._take(read(item))

    def close(self) -> None:
        """The peer is gone: every waiting request fails now, no new one is made. Idempotent."""
        if self.closed:
            return
        self.closed = True
        if self.counts != JsonRpcCounts():
            log.info("json-rpc ended", peer=self._peer, **asdict(self.counts))
        pending, self._pending = self._pending, {}
        for answer in pending.values():
            answer.set_exception(self._disconnected())
        # Both usually belong to whoever owns this object: cut here, the two are freed without a garbage collection.
        self._on_notification = _ignore
        self._send = _gone

    def _take(self, message: Answer | Call | Garbage) -> None:
        match message:
            case Answer(number, value, complaint):
                waiting = self._pending.pop(number, None) if number is not None else None
                if waiting is None:
                    self.counts.unknown_ids += 1
                elif complaint is None:
                    waiting.set(value)
                else:
                    waiting.set_exception(ToolError(complaint or f"{self._peer} reported an error"))
            case Call(method, params, None):
                self.counts.notifications += 1
                self._on_notification(method, params)
            case Call(method, params, int() | str() as identity):
                self.counts.requests += 1
                self._serve(method, params, identity)
            case Garbage(what):
                self._garbage(what)

    def _garbage(self, what: str) -> None:
        self.counts.garbage += 1
        if self.counts.garbage == 1:
            # Only the first one: a faulty peer fills its counter, not the log.
            log.warning("json-rpc garbage", peer=self._peer, what=what)

    def _serve(self, method: str, params: Any, identity: int | str) -> None:
        known = self._methods.get(method)
        if known is None:
            answer = write_error(identity, METHOD_NOT_FOUND, "method not found")
        else:
            answer = write_result(identity, known(params))
        try:
            self._send(answer)
        except ConnectionClosed:
            log.debug("peer left before its request was answered", peer=self._peer)

    def _put(self, message: Message) -> None:
        if self.closed:
            raise self._disconnected()
        try:
            self._send(message)
        except ConnectionClosed:
            raise self._disconnected() from None

    def _disconnected(self) -> ToolError:
        return ToolError(f"{self._peer} has disconnected")
