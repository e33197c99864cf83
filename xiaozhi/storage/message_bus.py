"""What the servers of one installation tell each other: calls with an answer and a deadline, and news for all.

By Redis' publish and subscribe, one channel per worker and one for all: nothing is kept for a worker that is not there,
which its caller learns by the lack of an answer. What must not be lost stands in the database, and the bus only says
that it is worth a look. One greenlet reads; handlers run in greenlets of their own, at most MAX_HANDLERS at a time."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import gevent
import orjson
from gevent import Greenlet
from gevent.event import AsyncResult

from xiaozhi.errors import StorageError, StorageTimeout, StorageUnavailable, XiaozhiError
from xiaozhi.runtime import tasks
from xiaozhi.runtime.logs import get_logger
from xiaozhi.runtime.tasks import Tasks
from xiaozhi.storage.redis_client import translated
from xiaozhi.storage.shared_store import VERSION, SharedStore

if TYPE_CHECKING:
    from redis.client import PubSub

log = get_logger(__name__)

Body = Mapping[str, Any]
Handler = Callable[[str, Body], Body | None]
"""(name of the worker that asks, what it says) -> the answer. May block."""

MAX_BYTES: Final = 256 * 1024
"""Of one message."""
MAX_HANDLERS: Final = 64
CALL_S: Final = 2.0
LISTEN_S: Final = 2.5
"""How long one look for a message waits. Each wakes the process, also where nothing is said."""
SILENCE_S: Final = 5.0
"""After so long without a message Redis is asked for a sign, and after twice as long the connection has been lost:
whatever is between may forget one that nobody uses, and tells neither end."""
PAUSE_S: Final = 0.5
"""Between two attempts to subscribe."""
_ALL: Final = f"xiaozhi:{VERSION}:all"


class MessageBus:
    """`handle` what may be asked, then `start`; `call` and `tell` from any greenlet; `close`. `name`: of this worker
    among all."""

    def __init__(self, store: SharedStore, name: str, *, silence_s: float = SILENCE_S) -> None:
        self.name = name
        self.listening = False
        """Whether this worker can be reached."""
        self.sent = 0
        self.received = 0
        self.dropped = 0
        """Messages that could not be read, or for which no handler had time."""
        self.on_listening: list[Callable[[], None]] = []
        """Called when this worker can be reached (again), and may not wait: what was told meanwhile has not arrived."""
        self._store = store
        self._silence_s = silence_s
        self._handlers: dict[str, Handler] = {}
        self._waiting: dict[str, AsyncResult[Body]] = {}
        self._work = Tasks()
        self._reader: Greenlet | None = None
        self._beat = 0.0

    def handle(self, action: str, handler: Handler) -> None:
        """Who answers when another worker calls, or tells all, `action`."""
        self._handlers[action] = handler

    def start(self) -> None:
        """Begin to listen. Does not block."""
        self.revive()

    @property
    def beat(self) -> float:
        """When the reader last began a round, monotonic seconds."""
        return self._beat

    def revive(self) -> None:
        """Have a reader, in the place of one that has failed or hangs."""
        if self._reader is not None:
            self._reader.kill(block=False)
        self._beat = time.monotonic()
        self._reader = tasks.spawn("message-bus", self._read)

    def close(self) -> None:
        """Listen no more; handlers under way are ended. Idempotent."""
        if self._reader is not None:
            tasks.end(self._reader)
            self._reader = None
        self._work.kill()

    def call(self, worker: str, action: str, body: Body, *, seconds: float = CALL_S) -> Body:
        """Have another worker do something, and wait for what it says. Raises StorageTimeout when it does not answer
        (it may have done it), StorageUnavailable when it is not there or the store is away, StorageError when it says
        that it could not."""
        number = secrets.token_hex(8)
        result: AsyncResult[Body] = AsyncResult()
        self._waiting[number] = result
        try:
            heard = self._publish(_channel(worker), {"call": action, "id": number, "body": body})
            if not heard:
                raise StorageUnavailable("the worker is not listening")
            try:
                answer = result.get(timeout=seconds)
            except gevent.Timeout:
                raise StorageTimeout("the worker does not answer", undecided=True) from None
        finally:
            del self._waiting[number]
        if "error" in answer:
            raise StorageError(str(answer["error"]))
        return dict(answer.get("body") or {})

    def tell_all(self, action: str, body: Body) -> None:
        """Tell every other worker; nobody answers. Raises StorageUnavailable."""
        self._publish(_ALL, {"call": action, "id": "", "body": body})

    def _publish(self, channel: str, message: Body) -> int:
        """How many have heard it, of a channel of one worker; in a cluster at least that."""
        data = orjson.dumps({"from": self.name, **message})
        if len(data) > MAX_BYTES:
            raise StorageError(f"a message of {len(data)} bytes; at most {MAX_BYTES} go to another worker")
        self.sent += 1
        return int(self._store.ask(lambda client: client.publish(channel, data)))

    def _read(self) -> None:
        while True:
            self._beat = time.monotonic()
            try:
                self._listen()
            except (StorageError, OSError) as error:
                log.debug("the message bus will listen again", reason=str(error))
            finally:
                self.listening = False
            gevent.sleep(PAUSE_S)

    def _listen(self) -> None:
        """Returns or raises when the connection is lost."""
        client = self._store.new_client()
        try:
            with translated():
                subscription = client.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
                try:
                    subscription.subscribe(_ALL, _channel(self.name))
                    self._receive(subscription)
                finally:
                    subscription.close()
        finally:
            client.close()

    def _receive(self, subscription: PubSub) -> None:
        heard_at, asked = time.monotonic(), False
        while True:
            self._beat = now = time.monotonic()
            if now - heard_at > self._silence_s and not asked:
                subscription.ping()
                asked = True
            elif now - heard_at > self._silence_s * 2:
                raise StorageTimeout("the connection of the message bus is dead")
            found = subscription.get_message(timeout=min(LISTEN_S, self._silence_s))
            if not self.listening and subscription.subscribed:
                self.listening = True
                for function in self.on_listening:
                    function()
            if found is not None:
                heard_at, asked = time.monotonic(), False
                if found["type"] == "message":
                    self._take(found["data"])

    def _take(self, data: bytes) -> None:
        try:
            message = orjson.loads(data)
            sender, call = str(message["from"]), message.get("call")
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
            self.dropped += 1
            return
        if sender == self.name:
            return
        self.received += 1
        if call is None:
            waiting = self._waiting.get(str(message.get("to")))
            if waiting is not None and not waiting.ready():
                waiting.set(message)
            return
        handler = self._handlers.get(str(call))
        number = str(message.get("id") or "")
        if handler is None or len(self._work) >= MAX_HANDLERS:
            self.dropped += 1
            if number:
                self._work.spawn("bus-refusal", self._answer, sender, number, {"error": f"cannot do {call!s:.40} now"})
            return
        self._work.spawn("bus-handler", self._handle, handler, sender, number, message.get("body") or {})

    def _handle(self, handler: Handler, sender: str, number: str, body: Body) -> None:
        try:
            answer: Body = {"body": handler(sender, body) or {}}
        except XiaozhiError as error:
            answer = {"error": str(error)}
        except Exception:
            log.exception("cannot do what another worker asks")
            answer = {"error": "internal error"}
        if number:
            self._answer(sender, number, answer)

    def _answer(self, worker: str, number: str, answer: Body) -> None:
        try:
            self._publish(_channel(worker), {"to": number, **answer})
        except StorageError as error:
            log.info("an answer does not reach another worker", reason=str(error))


def _channel(worker: str) -> str:
    return f"xiaozhi:{VERSION}:worker:{worker}"
