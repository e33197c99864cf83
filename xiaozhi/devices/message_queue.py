"""Messages for devices: kept in the database until they have reached their device, by whichever worker it is connected
to.

    send ─► database ─► the worker that has the device: decide ▸ claim ▸ deliver ▸ settle
                └─ nobody has it: waits until it comes, or expires

Every worker is told of new messages by the look that `presence.py` takes anyway (`read`, `told`), and of devices that
come to it by `comes`; while there is no message nothing runs here. A claim is a lease: when a worker dies, its messages
wait again after `LEASE_S`, so one that was being spoken may be heard twice, and none is lost.

Not the decision (`delivery.py`) and not the ways to a device, which are lent (`Ways`)."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Protocol

import gevent
from gevent import Greenlet
from gevent.event import Event

from xiaozhi.devices.delivery import (
    NOT_CONNECTED,
    PAUSE,
    RETRY_S,
    Circumstances,
    Reach,
    Wait,
    Way,
    decide,
    text_now,
)
from xiaozhi.devices.messages import DeviceMessage, MessageKind, MessageResult, MessageState
from xiaozhi.devices.presence import ALIVE_S
from xiaozhi.errors import Overloaded, StorageError, XiaozhiError
from xiaozhi.protocol.device_id import normal_device_id
from xiaozhi.runtime.alarm import Alarm, HubAlarm
from xiaozhi.runtime.logs import get_logger
from xiaozhi.runtime.tasks import Tasks
from xiaozhi.storage import device_messages, presences
from xiaozhi.storage.database import Database, Transaction
from xiaozhi.storage.device_messages import MessageLook, StoredMessage

log = get_logger(__name__)

MAX_WAITING: Final = 10_000
"""Of all devices together; one more is refused."""
MAX_PER_DEVICE: Final = 32
MAX_DELIVERING: Final = 256
"""At once by this worker; the others wait for a moment."""
LEASE_S: Final = 45.0
RENEW_S: Final = 10.0
"""How often whoever delivers says that it is at it."""
KEPT_S: Final = 24 * 3600.0
"""How long it is known what became of a message, and its key counts."""
OVERLAP_S: Final = 10.0
"""Each look goes back so far, as in `presence.py`."""
ARRIVAL_S: Final = 2.0
"""A device that has just come first hears the answer to its wake word, which would cut the message short."""
LOOK_AGAIN_S: Final = 60.0
"""Settings, such as quiet hours, may have changed meanwhile."""
SETTLE_TRIES: Final = 3
_EXPIRED: Final = "its time is over"
_ENDED: Final = "the worker stopped"


@dataclass(frozen=True, slots=True)
class Progress:
    """What has become of a message that is being delivered. `again`: with WAITING, it could not be delivered now and
    waits for another try. `busy_s`: so long the device is taken up by it."""

    state: MessageState
    reason: str = ""
    again: bool = False
    busy_s: float = 0.0


class Ways(Protocol):
    """How this worker reaches devices."""

    def reach(self, device: str) -> Reach:
        """Whether and how. Does not wait."""

    def quiet_until(self, device: str, now: float) -> float | None:
        """When its quiet hours end; None: it is none now. May block for the database."""

    def deliver(self, message: DeviceMessage, way: Way, text: str, *, at_once: bool) -> Iterator[Progress]:
        """Do it: at least every `RENEW_S` seconds what has become of it, in the end something final or `again`.
        `at_once`: do not wait for a pause. Blocks in between. May raise XiaozhiError, which is a failure."""


class NobodyHere:
    """The `Ways` of a process without devices, such as a command."""

    def reach(self, device: str) -> Reach:
        """See Ways."""
        return Reach()

    def quiet_until(self, device: str, now: float) -> float | None:
        """See Ways."""
        return None

    def deliver(self, message: DeviceMessage, way: Way, text: str, *, at_once: bool) -> Iterator[Progress]:
        """See Ways."""
        return iter(())


@dataclass(slots=True)
class _AtDevice:
    """Messages of one device that this worker is at."""

    ids: set[str] = field(default_factory=set)
    interrupting: int = 0


class MessageQueue:
    """A `MessageSender`. `worker`: the name of this process among those that share the database. `on_kept(kind)` and
    `on_settled(kind, state)` are told of each message once. `clock`: seconds since 1970."""

    def __init__(
        self,
        database: Database,
        ways: Ways,
        *,
        worker: str,
        on_kept: Callable[[str], None] = lambda kind: None,
        on_settled: Callable[[str, str], None] = lambda kind, state: None,
        clock: Callable[[], float] = time.time,
        alarm: Alarm | None = None,
    ) -> None:
        self._database = database
        self._ways = ways
        self._worker = worker
        self._on_kept = on_kept
        self._on_settled = on_settled
        self._clock = clock
        self._alarm: Alarm = alarm if alarm is not None else HubAlarm()
        self._tasks = Tasks()
        self._due: dict[str, float] = {}
        """When to look at the messages of a device here."""
        self._watch: Greenlet | None = None
        self._here: dict[str, _AtDevice] = {}
        self._free_at: dict[str, float] = {}
        self._seen: dict[str, float] = {}
        self._looked_at = clock()
        self._any_waits = True
        """Until the first look says otherwise."""
        self._tending = False
        self._awaited: dict[str, list[Event]] = {}
        """Who waits until a message has settled."""
        self._closed = False

    # --- who sends ----------------------------------------------------------------------------------------------------

    def send(self, message: DeviceMessage, *, wait_s: float = 0.0) -> MessageResult:
        """See MessageSender."""
        return self.send_all([message], wait_s=wait_s)[0]

    def send_all(self, messages: Sequence[DeviceMessage], *, wait_s: float = 0.0) -> list[MessageResult]:
        """`send` for several, in order; those for whom there is no room come back FAILED, unless it is all of them:
        then it raises Overloaded."""
        now = self._clock()
        new = [_stored(message, now) for message in messages]
        here = [message.device for message in new if self._ways.reach(message.device)]
        kept = self._database.run(
            lambda connection: device_messages.keep(
                connection,
                new,
                per_device=MAX_PER_DEVICE,
                total=MAX_WAITING,
                alive_since=now - ALIVE_S,
                here=here,
                away=NOT_CONNECTED,
            )
        )
        if messages and all(message is None for message, _ in kept):
            raise Overloaded("the queue of messages", retry_after=60)
        for message, fresh in kept:
            if message is not None and fresh:
                self._any_waits = True
                self._on_kept(message.kind)
                log.info("message kept", device=message.device, kind=message.kind, id=message.id)
                self._look_at(message.device, now)
        found = [
            _result(message)
            if message is not None
            else MessageResult("", one.device, MessageState.FAILED, "too many messages wait for it")
            for one, (message, _) in zip(new, kept, strict=True)
        ]
        return self.wait(found, wait_s) if wait_s > 0 else found

    def of(self, id: str) -> StoredMessage | None:
        """One message, while it is kept. Blocks; raises StorageError, Overloaded."""
        return self._database.read(lambda connection: device_messages.of(connection, [id])).get(id)

    def page(self, *, device: str = "", only_open: bool = True, limit: int = 100) -> list[StoredMessage]:
        """Messages, the newest first. Blocks; raises StorageError, Overloaded."""
        return self._database.read(
            lambda connection: device_messages.page(connection, device=device, only_open=only_open, limit=limit)
        )

    def cancel(self, id: str) -> bool:
        """Take back a message that waits; False: somebody is at it, or it has settled. Blocks; raises StorageError,
        Overloaded."""
        now = self._clock()
        state = MessageState.CANCELLED
        taken = self._database.run(
            lambda connection: device_messages.cancel(connection, id, state.value, now=now, forget_at=now + KEPT_S)
        )
        if taken is None:
            return False
        self._has_settled(id, taken.kind, state, taken.device)
        return True

    def wait(self, results: Sequence[MessageResult], seconds: float) -> list[MessageResult]:
        """Wait at most so long until all have settled; what has become of them. Raises StorageError, Overloaded."""
        until = time.monotonic() + seconds
        events = {result.id: Event() for result in results if not result.settled}
        for id, event in events.items():
            self._awaited.setdefault(id, []).append(event)
        try:
            for event in events.values():
                event.wait(timeout=max(0.0, until - time.monotonic()))
        finally:
            for id, event in events.items():
                self._awaited[id].remove(event)
                if not self._awaited[id]:
                    del self._awaited[id]
        if not events:
            return list(results)
        now_kept = self._database.read(lambda connection: device_messages.of(connection, list(events)))
        return [_result(now_kept[result.id]) if result.id in now_kept else result for result in results]

    # --- what this worker is told -------------------------------------------------------------------------------------

    def comes(self, device: str, *, conversation: bool) -> None:
        """A device can be told something here from now on. Does not block, and does nothing while no message waits."""
        if self._any_waits:
            self._look_at(device, self._clock() + (ARRIVAL_S if conversation else 0.0))

    def read(self, connection: Transaction, now: float) -> MessageLook:
        """What `told` is to be told; part of a look at the other workers, on the storage thread."""
        return device_messages.look(connection, self._looked_at - OVERLAP_S, now, list(self._awaited.copy()))

    def told(self, found: MessageLook) -> None:
        """What `read` has found. Does not block."""
        self._looked_at = self._clock()
        self._any_waits = found.any_waits
        for device, at in found.touched.items():
            if self._seen.get(device) != at:
                self._look_at(device, 0.0)
        self._seen = dict(found.touched)
        for id, state in found.states.items():
            if MessageState(state).final:
                self._tell(id)
        if found.overdue and not self._tending and not self._closed:
            self._tending = True
            self._tasks.spawn("messages-tend", self._tend)

    def close(self, seconds: float) -> None:
        """This worker delivers nothing any more; what it is at waits again, for another. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._tasks.kill()
        now = self._clock()
        try:
            self._database.run(
                lambda connection: device_messages.let_go(connection, self._worker, now), deadline=seconds
            )
        except (StorageError, Overloaded) as error:
            log.info("messages wait until the lease of this worker ends", error=str(error))

    def _tend(self) -> None:
        now = self._clock()
        try:
            expired = self._database.run(
                lambda connection: device_messages.tend(connection, now, forget_at=now + KEPT_S, expired=_EXPIRED)
            )
        except (StorageError, Overloaded) as error:
            log.warning("messages past their time will be looked at again", error=str(error))
            return
        finally:
            self._tending = False
        for message in expired:
            self._has_settled(message.id, message.kind, MessageState.EXPIRED, message.device)

    # --- one device after the other -----------------------------------------------------------------------------------

    def _look_at(self, device: str, at: float) -> None:
        if self._closed or not self._ways.reach(device):
            return
        self._due[device] = min(at, self._due.get(device, at))
        if self._watch is None:
            self._watch = self._tasks.spawn("messages", self._run)
        else:
            self._alarm.ring()

    def _run(self) -> None:
        try:
            while self._due:
                now = self._clock()
                device, at = min(self._due.items(), key=lambda due: due[1])
                if at > now:
                    self._alarm.wait(min(at - now, LOOK_AGAIN_S))
                    continue
                del self._due[device]
                try:
                    self._begin(device, now)
                except (StorageError, Overloaded) as error:
                    log.warning("messages are not delivered, will be tried again", error=str(error))
                    self._due[device] = now + RETRY_S
        finally:
            self._watch = None

    def _begin(self, device: str, now: float) -> None:
        """Begin to deliver what may be delivered to a device now. Blocks for the database."""
        if self._free_at.get(device, 0.0) <= now:
            self._free_at.pop(device, None)
        reach = self._ways.reach(device)
        if not reach:
            return

        def read(connection: Transaction) -> tuple[list[StoredMessage], bool]:
            waiting = device_messages.waiting_for(connection, device, MAX_PER_DEVICE)
            where = connection, device, self._worker, now - ALIVE_S
            elsewhere = (
                bool(waiting)
                and not reach.conversation
                and (presences.in_conversation_elsewhere(*where) or presences.came_elsewhere(*where))
            )
            return waiting, elsewhere

        waiting, elsewhere = self._database.read(read)
        if not waiting:
            return
        quiet_until = self._ways.quiet_until(device, now)
        reasons: dict[str, str] = {}
        for kept in waiting:
            here = self._here.get(device, _AtDevice())
            if kept.id in here.ids:
                continue  # its lease was not renewed, and it is being delivered all the same
            message = _message(kept)
            decided = decide(
                message,
                Circumstances(
                    now=now,
                    reach=reach,
                    quiet_until=quiet_until,
                    in_hand=len(here.ids),
                    free_at=self._free_at.get(device, 0.0),
                    elsewhere=elsewhere,
                ),
            )
            if isinstance(decided, Way) and len(self._tasks) >= MAX_DELIVERING:
                decided = Wait("this worker delivers many others", now + RETRY_S)
            if isinstance(decided, Way):
                self._claim(kept, message, decided, now)
                continue
            if decided.until is not None:
                self._look_at(device, min(decided.until, now + LOOK_AGAIN_S))
            if decided.reason != kept.reason:
                reasons[kept.id] = decided.reason
        if reasons:
            self._database.run(lambda connection: device_messages.explain(connection, reasons))

    def _claim(self, kept: StoredMessage, message: DeviceMessage, way: Way, now: float) -> None:
        reason = PAUSE if way is Way.SPEAK else ""
        claimed = self._database.run(
            lambda connection: device_messages.claim(connection, kept.id, self._worker, now + LEASE_S, reason)
        )
        if not claimed:
            return
        here = self._here.setdefault(kept.device, _AtDevice())
        # Of two that do not wait the second would cut the first short.
        at_once = message.interrupts and not here.interrupting
        here.ids.add(kept.id)
        here.interrupting += message.interrupts
        self._tasks.spawn("message", self._deliver, kept, message, way, at_once)

    # --- one message --------------------------------------------------------------------------------------------------

    def _deliver(self, kept: StoredMessage, message: DeviceMessage, way: Way, at_once: bool) -> None:
        progress = Progress(MessageState.FAILED, "nothing became of it")
        try:
            for progress in self._ways.deliver(message, way, text_now(message, self._clock()), at_once=at_once):
                if progress.state.final or progress.again:
                    break
                if not self._renew(kept.id, progress):
                    return  # a lease that has ended: somebody else is at it
        except XiaozhiError as error:
            progress = Progress(MessageState.FAILED, str(error)[:200])
        except Exception:
            log.exception("message not delivered", device=kept.device, kind=kept.kind)
            progress = Progress(MessageState.FAILED, "an internal error; the log says which")
        finally:
            self._leave(kept, message)
        now = self._clock()
        if progress.busy_s:
            self._free_at[kept.device] = now + progress.busy_s
        if progress.state.final or now >= message.expires_at:
            state = progress.state if progress.state.final else MessageState.EXPIRED
            if self._settle(kept.id, state, progress.reason):
                self._has_settled(kept.id, kept.kind, state, kept.device)
            self._look_at(kept.device, now + progress.busy_s)
        else:
            self._put_back(kept, progress.reason, now)

    def _leave(self, kept: StoredMessage, message: DeviceMessage) -> None:
        here = self._here[kept.device]
        here.ids.discard(kept.id)
        here.interrupting -= message.interrupts
        if not here.ids:
            del self._here[kept.device]

    def _renew(self, id: str, progress: Progress) -> bool:
        until = self._clock() + LEASE_S
        try:
            return self._database.run(
                lambda connection: device_messages.renew(
                    connection, id, self._worker, until, progress.state.value, progress.reason
                )
            )
        except (StorageError, Overloaded) as error:
            log.warning("the lease of a message is not renewed", error=str(error))
            return True

    def _put_back(self, kept: StoredMessage, reason: str, now: float) -> None:
        try:
            self._database.run(
                lambda connection: device_messages.put_back(connection, kept.id, self._worker, reason, now)
            )
        except (StorageError, Overloaded) as error:
            log.warning("a message waits until its lease ends", error=str(error))
        self._seen[kept.device] = now  # that is for the other workers
        self._look_at(kept.device, now + RETRY_S)

    def _settle(self, id: str, state: MessageState, reason: str) -> bool:
        for _ in range(SETTLE_TRIES):
            now = self._clock()
            try:
                return self._database.run(
                    lambda connection, now=now: device_messages.settle(  # type: ignore[misc]
                        connection, id, self._worker, state.value, reason, now=now, forget_at=now + KEPT_S
                    )
                )
            except (StorageError, Overloaded) as error:
                log.warning("what became of a message is not kept yet", id=id, error=str(error))
                gevent.sleep(RETRY_S)
        return False

    def _has_settled(self, id: str, kind: str, state: MessageState, device: str) -> None:
        log.info("message settled", device=device, kind=kind, id=id, state=state.value)
        self._on_settled(kind, state.value)
        self._tell(id)

    def _tell(self, id: str) -> None:
        for event in self._awaited.get(id, ()):
            event.set()


def _stored(message: DeviceMessage, now: float) -> StoredMessage:
    body: dict[str, Any] = asdict(message)
    for column in ("device", "kind", "due_at", "expires_at", "key"):
        del body[column]
    return StoredMessage(
        secrets.token_hex(8),
        normal_device_id(message.device),
        message.kind.value,
        body,
        now,
        message.due_at,
        message.expires_at,
        message.key,
    )


def _message(kept: StoredMessage) -> DeviceMessage:
    return DeviceMessage(
        device=kept.device,
        kind=MessageKind(kept.kind),
        due_at=kept.due_at,
        expires_at=kept.expires_at,
        key=kept.key,
        **kept.body,
    )


def _result(kept: StoredMessage) -> MessageResult:
    return MessageResult(kept.id, kept.device, MessageState(kept.state), kept.reason)
