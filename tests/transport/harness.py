"""A device port with sessions that only note what they are told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import gevent
from gevent.event import Event

from tests.transport.wire import Client
from tests.waiting import PATIENCE_S, wait_for
from xiaozhi.errors import AuthError, ConnectionClosed
from xiaozhi.net.tcp import SocketLimits
from xiaozhi.protocol.messages import Sendable
from xiaozhi.runtime.connections import ConnectionRegistry, Policy
from xiaozhi.runtime.limits import Admission, AdmissionLimits, MessageRates
from xiaozhi.runtime.tasks import spawn
from xiaozhi.session.link import Identity, Link, Weight
from xiaozhi.transport.acceptor import Acceptor, AcceptorOptions
from xiaozhi.transport.connection import ConnectionServices

SOCKETS = SocketLimits(binary_bytes=1000, text_bytes=2000, send_timeout=0.3, close_timeout=0.3, send_buffer_bytes=4096)


class Noting:
    """A session. Texts starting with "echo " come back; `reaction` may do anything else about a text."""

    reaction: Callable[[Noting, str], None] | None = None

    def __init__(self, visit: Link) -> None:
        self.visit = visit
        self.heard: list[str | bytes] = []
        self.closings: list[str] = []
        self.drained: list[float] = []
        self.ticks: list[float] = []
        self.trims = 0
        self.pushed: list[Sendable] = []
        self.held = Weight()
        self.gone = Event()
        self.sent_after_closing = False

    def on_text(self, text: str) -> None:
        self.heard.append(text)
        if text.startswith("echo "):
            self.visit.send_text(text[5:])
        elif self.reaction is not None:
            self.reaction(text)

    def on_binary(self, data: bytes) -> None:
        self.heard.append(data)

    def tick(self, now: float) -> None:
        self.ticks.append(now)

    def trim(self) -> None:
        self.trims += 1

    def weight(self) -> Weight:
        return self.held

    def push(self, message: Sendable) -> bool:
        self.pushed.append(message)
        return True

    def drain(self, seconds: float) -> None:
        self.drained.append(seconds)

    def closed(self, reason: str) -> None:
        self.closings.append(reason)
        try:
            self.visit.send_text("too late")
            self.sent_after_closing = True
        except ConnectionClosed:
            pass
        self.gone.set()


class RecordedEvents:
    """Counts what connections tell."""

    def __init__(self) -> None:
        self.frames = 0
        self.drops: list[str] = []
        self.ended: list[tuple[int, float]] = []

    def frame_heard(self) -> None:
        self.frames += 1

    def dropped(self, queue: str) -> None:
        self.drops.append(queue)

    def connection_ended(self, code: int, seconds: float) -> None:
        self.ended.append((code, seconds))


def good_token(identity: Identity, authorization: str) -> None:
    """Lets in whoever says "Bearer good"."""
    if authorization != "Bearer good":
        raise AuthError("no good")


@dataclass
class Port:
    """A running device port."""

    acceptor: Acceptor
    connections: ConnectionRegistry
    admission: Admission
    events: RecordedEvents
    sessions: list[Any] = field(default_factory=list)

    @property
    def number(self) -> int:
        return self.acceptor.port

    def client(self, **options: Any) -> Client:
        """A connection on which nothing has been said yet."""
        return Client(self.number, **options)

    @contextmanager
    def device(self, device_id: str = "aa:bb", **options: Any) -> Iterator[tuple[Client, Any]]:
        """An upgraded connection and its session."""
        with Client(self.number, **options) as client:
            client.upgrade(device_id=device_id)
            yield client, self.session(device_id)

    def session(self, device_id: str) -> Any:
        """The latest session of a device; waits for it."""

        def find() -> Any:
            return next(
                (session for session in reversed(self.sessions) if session.visit.identity.written_id == device_id), None
            )

        wait_for(lambda: find() is not None)
        return find()


@contextmanager
def serving(
    *,
    sessions: Callable[[Link], Any] = Noting,
    admit: Callable[[Identity, str], None] = good_token,
    limits: AdmissionLimits | None = None,
    policy: Policy | None = None,
    sockets: SocketLimits = SOCKETS,
    rates: MessageRates | None = None,
    pings: Callable[[Identity], bool] = lambda identity: False,
    interval: float = 0.01,
    **options: Any,
) -> Iterator[Port]:
    """A device port on a free port of this machine. At the end everything must have ended, and every place must have
    been given back."""
    made: list[Any] = []

    def factory(visit: Link) -> Any:
        session = sessions(visit)
        made.append(session)
        return session

    connections = ConnectionRegistry(policy or Policy(), interval=interval)
    admission = Admission(limits or AdmissionLimits())
    events = RecordedEvents()
    services = ConnectionServices(
        sessions=factory, connections=connections, events=events, pings=pings, rates=rates or MessageRates()
    )
    acceptor = Acceptor(
        "127.0.0.1",
        0,
        services=services,
        admit=admit,
        admission=admission,
        options=replace(AcceptorOptions(), sockets=sockets, **options),
    )
    acceptor.start()
    connections.start()
    try:
        yield Port(acceptor, connections, admission, events, made)
    finally:
        connections.stop()
        acceptor.close(1001, "test is over")
        ended = acceptor.join(PATIENCE_S)
        if not ended:
            connections.drain(0, grace=1)
        assert ended, "connections did not end"
    assert len(connections) == 0
    assert admission.total == 0
    assert acceptor.handshakes == 0
    assert all(len(session.closings) == 1 for session in made), "closed() exactly once"
    assert not any(session.sent_after_closing for session in made)


def together(*functions: Callable[[], Any]) -> list[Any]:
    """Run all at the same time; their results."""
    greenlets = [spawn("client", function) for function in functions]
    gevent.joinall(greenlets, timeout=PATIENCE_S, raise_error=True)
    return [greenlet.get(block=False) for greenlet in greenlets]
