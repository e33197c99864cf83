"""One WebSocket over a real TCP connection: messages, every way to end, the send lock and its deadline."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import gevent
import pytest
from gevent.event import Event

from tests.transport.wire import BINARY, CLOSE, PING, PONG, TEXT, Client, frame
from tests.waiting import PATIENCE_S, wait_for
from xiaozhi.errors import ConnectionClosed
from xiaozhi.net.tcp import SocketLimits, configure, listen
from xiaozhi.net.tls import TlsFiles, server_context
from xiaozhi.runtime.tasks import Tasks
from xiaozhi.transport.websocket import CONTROL_BURST, MAX_EXCESS_CONTROLS, WebSocket

LIMITS = SocketLimits(binary_bytes=1000, text_bytes=2000, send_timeout=0.3, close_timeout=0.3, send_buffer_bytes=4096)
# Far more than the kernel buffers of both ends hold together.
PLENTY = 1 << 20


class Pair:
    """Both ends of a connection: `ws` under test, `client` made of bytes, and greenlets that end with the test."""

    def __init__(self, ws: WebSocket, sock: Any, client: Client) -> None:
        self.ws = ws
        self.sock = sock
        self.client = client
        self.tasks = Tasks()

    def read_all(self) -> tuple[list[str | bytes], ConnectionClosed]:
        """Every message to the end, and the end."""
        messages: list[str | bytes] = []
        while True:
            try:
                messages.append(self.ws.receive())
            except ConnectionClosed as end:
                self.ws.finish()
                return messages, end

    def ending(self) -> tuple[int, str]:
        """(code, reason) with which reading ends."""
        _, end = self.read_all()
        return end.code, end.reason


@contextmanager
def connected(
    limits: SocketLimits = LIMITS,
    *,
    tls: tuple[str, str] | None = None,
    receive_buffer: int = 0,
    early: bytes = b"",
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Pair]:
    listener = listen(("127.0.0.1", 0), backlog=1, reuse_port=False)
    tasks = Tasks()
    listener.setblocking(True)
    accepted: list[Any] = []
    context = server_context(TlsFiles(*tls)) if tls else None

    def accept() -> None:
        sock, _ = listener.accept()
        accepted.append(context.wrap_socket(sock, server_side=True) if context else sock)

    try:
        tasks.spawn("accept", accept)
        client = Client(listener.getsockname()[1], tls=tls is not None, receive_buffer=receive_buffer)
        assert tasks.join(PATIENCE_S)
    finally:
        listener.close()
    sock = accepted.pop()
    configure(sock, limits)
    pair = Pair(WebSocket(sock, limits=limits, early=early, clock=clock), sock, client)
    try:
        with client:
            yield pair
    finally:
        pair.ws.abort()
        assert pair.tasks.join(PATIENCE_S), "a greenlet hangs on a dead socket"


@pytest.fixture(params=["tcp", "tls"])
def kind(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Arguments for `connected`: everything here must hold with and without TLS."""
    return {"tls": request.getfixturevalue("certificate")} if request.param == "tls" else {}


# --- messages ---


def test_messages_both_ways(kind: dict[str, Any]) -> None:
    with connected(**kind) as pair:
        pair.client.say("你好")
        pair.client.send(frame(BINARY, b"\xf8") + frame(BINARY, b""))
        assert [pair.ws.receive() for _ in range(3)] == ["你好", b"\xf8", b""]
        assert pair.ws.received == 3
        pair.ws.send_text("嗨")
        pair.ws.send_binary(b"\xf8")
        pair.ws.send_binary(bytes(70_000))
        assert [pair.client.receive() for _ in range(3)] == [
            (TEXT, "嗨".encode()),
            (BINARY, b"\xf8"),
            (BINARY, bytes(70_000)),
        ]
        assert pair.ws.sent == 3


def test_what_came_behind_the_upgrade_request_is_not_lost() -> None:
    with connected(early=frame(TEXT, b"first") + frame(TEXT, b"second")[:3]) as pair:
        assert pair.ws.receive() == "first"
        pair.client.send(frame(TEXT, b"second")[3:])
        assert pair.ws.receive() == "second"


def test_many_messages_in_one_tls_record(certificate: tuple[str, str]) -> None:
    """They are in the TLS layer's hands, so the kernel reports nothing to read."""
    with connected(tls=certificate) as pair:
        pair.client.send(frame(BINARY, bytes(900)) * 15)
        assert [pair.ws.receive() for _ in range(15)] == [bytes(900)] * 15


def test_lone_surrogates_do_not_break_sending() -> None:
    with connected() as pair:
        pair.ws.send_text("half \ud83d")
        assert pair.client.receive() == (TEXT, b"half ?")


def test_a_large_message_arrives_whole() -> None:
    with connected(replace(LIMITS, text_bytes=1 << 20)) as pair:
        pair.tasks.spawn("client", pair.client.say, "x" * (1 << 20))
        assert pair.ws.receive() == "x" * (1 << 20)


def test_a_flood_leaves_turns_to_others() -> None:
    """The reader waits before every read, however much there is to read."""
    with connected() as pair:
        turns = 0
        done = Event()

        def other() -> None:
            nonlocal turns
            while not done.is_set():
                turns += 1
                gevent.sleep(0)

        pair.client.send(frame(BINARY, bytes(100)) * 400)
        gevent.sleep(0)
        pair.tasks.spawn("other", other)
        for _ in range(400):
            pair.ws.receive()
        done.set()
        assert turns >= 8


# --- the peer ends it ---


@pytest.mark.parametrize(
    "payload,heard,answered",
    [
        (b"\x03\xe8bye", (1000, "bye"), (1000, "")),
        (b"\x03\xe9", (1001, ""), (1001, "")),
        (b"", (1005, ""), (1000, "")),
        (b"\x0f\xa0own", (4000, "own"), (4000, "")),
    ],
)
def test_the_peer_says_goodbye(
    kind: dict[str, Any], payload: bytes, heard: tuple[int, str], answered: tuple[int, str]
) -> None:
    with connected(**kind) as pair:
        pair.client.send(frame(TEXT, b"last") + frame(CLOSE, payload))
        messages, end = pair.read_all()
        assert messages == ["last"]
        assert (end.code, end.reason) == heard
        assert pair.client.ending() == answered
        with pytest.raises(ConnectionClosed) as refused:
            pair.ws.send_text("too late")
        assert (refused.value.code, refused.value.reason) == heard


def test_the_peer_hangs_up_without_a_word(kind: dict[str, Any]) -> None:
    with connected(**kind) as pair:
        pair.client.send(frame(BINARY, b"abc")[:5])
        pair.client.sock.close()
        assert pair.ending()[0] == 1006


def test_a_killed_peer_is_noticed_by_the_reader() -> None:
    with connected() as pair:
        reader = pair.tasks.spawn("reader", pair.ending)
        gevent.sleep(0)
        pair.client.reset()
        assert reader.get(timeout=PATIENCE_S)[0] == 1006


def test_a_killed_peer_is_noticed_by_the_sender() -> None:
    with connected() as pair:
        pair.client.reset()
        with pytest.raises(ConnectionClosed) as lost:
            for _ in range(10):
                pair.ws.send_text("hello?")
                gevent.sleep(0)
        assert lost.value.code == 1006


def test_the_kernel_is_told_to_notice_peers_without_power() -> None:
    with connected(replace(LIMITS, user_timeout=12.0)) as pair:
        option = pair.sock.getsockopt
        assert option(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert option(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
        assert option(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == LIMITS.keepalive_idle
        assert option(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 12_000


# --- the peer breaks the rules ---


@pytest.mark.parametrize(
    "data,code",
    [
        (frame(BINARY, b"x", mask=b""), 1002),
        (frame(BINARY, b"x", rsv=4), 1002),
        (frame(0xB), 1002),
        (frame(PING, fin=False), 1002),
        (frame(0, b"x"), 1002),
        (frame(CLOSE, b"\x03"), 1002),
        (frame(CLOSE, (1005).to_bytes(2, "big")), 1002),
        (frame(TEXT, b"\xff"), 1007),
        (frame(CLOSE, b"\x03\xe8\xff"), 1007),
        (frame(BINARY, bytes(1001)), 1009),
        (frame(TEXT, bytes(2001)), 1009),
        (frame(BINARY, bytes(600), fin=False) + frame(0, bytes(600)), 1009),
    ],
)
def test_violations_are_answered_with_their_code(kind: dict[str, Any], data: bytes, code: int) -> None:
    with connected(**kind) as pair:
        pair.client.send(frame(TEXT, b"good") + data)
        server = pair.tasks.spawn("server", pair.read_all)
        heard, reason = pair.client.ending()
        assert heard == code
        assert reason or data[0] == 0x88
        pair.client.sock.close()
        messages, end = server.get(timeout=PATIENCE_S)
        assert messages == ["good"]
        assert end.code == code


def test_a_peer_may_finish_its_sentence() -> None:
    """Closing a socket with unread bytes resets the connection: the peer would find an error where it should find a
    close frame."""
    with connected() as pair:
        pair.client.send(frame(BINARY, bytes(5000)))
        server = pair.tasks.spawn("server", pair.ending)
        for _ in range(5):
            gevent.sleep(0.01)  # sleep: it comes in pieces
            pair.client.send(frame(BINARY, bytes(900)) * 10)
        assert pair.client.ending() == (1009, "message over 1000 bytes")
        pair.client.sock.close()
        assert server.get(timeout=PATIENCE_S)[0] == 1009


def test_a_peer_that_never_stops_talking_is_cut_off() -> None:
    with connected() as pair:
        pair.client.send(frame(BINARY, bytes(5000)))

        def talk() -> None:
            try:
                while True:
                    pair.client.send(bytes(60_000))
            except OSError:
                pass

        pair.tasks.spawn("talker", talk)
        assert pair.ending()[0] == 1009


# --- the server ends it ---


def test_closing(kind: dict[str, Any]) -> None:
    with connected(**kind) as pair:
        reader = pair.tasks.spawn("reader", pair.read_all)
        gevent.sleep(0)
        pair.ws.close(1013, "later")
        pair.ws.close(1000, "somebody else closes too")
        assert pair.ws.closed
        with pytest.raises(ConnectionClosed) as refused:
            pair.ws.send_text("too late")
        assert (refused.value.code, refused.value.reason) == (1013, "later")
        assert pair.client.receive() == (CLOSE, (1013).to_bytes(2, "big") + b"later")
        pair.client.send(frame(TEXT, b"still talking") + frame(CLOSE, (1013).to_bytes(2, "big")))
        messages, end = reader.get(timeout=PATIENCE_S)
        assert (messages, end.code, end.reason) == ([], 1013, "later")
        assert pair.client.eof()


def test_a_peer_that_does_not_answer_the_goodbye_is_dropped() -> None:
    with connected() as pair:
        reader = pair.tasks.spawn("reader", pair.ending)
        gevent.sleep(0)
        pair.ws.close(1000, "bye")
        assert reader.get(timeout=PATIENCE_S) == (1000, "bye")
        assert pair.client.ending() == (1000, "bye")
        assert pair.client.eof()


def test_closing_before_reading() -> None:
    """The session may refuse the visit before the reader has begun."""
    with connected() as pair:
        pair.client.say("hello")
        pair.ws.close(1013, "full")
        server = pair.tasks.spawn("server", pair.read_all)
        assert pair.client.ending() == (1013, "full")
        pair.client.send(frame(CLOSE, (1013).to_bytes(2, "big")))
        assert server.get(timeout=PATIENCE_S)[0] == []


def test_aborting_wakes_the_reader_and_tells_the_peer(kind: dict[str, Any]) -> None:
    with connected(**kind) as pair:
        reader = pair.tasks.spawn("reader", pair.ending)
        gevent.sleep(0)
        pair.ws.abort("enough")
        pair.ws.abort("twice")
        assert reader.get(timeout=PATIENCE_S) == (1006, "enough")
        with pytest.raises((ConnectionResetError, EOFError) if kind else ConnectionResetError):
            pair.client.receive()


def test_a_killed_reader_gives_the_socket_back() -> None:
    with connected() as pair:

        def read() -> None:
            try:
                pair.ws.receive()
            finally:
                pair.ws.finish()

        reader = pair.tasks.spawn("reader", read)
        gevent.sleep(0)
        reader.kill(block=False)
        assert pair.client.ending() == (1001, "")
        pair.client.sock.close()
        assert pair.tasks.join(PATIENCE_S)
        assert pair.sock.fileno() == -1


def test_finishing_twice_is_harmless() -> None:
    with connected() as pair:
        pair.client.sock.close()
        pair.read_all()
        pair.ws.finish()
        pair.ws.close()
        pair.ws.abort()


# --- ping ---


def test_pings_are_answered_and_pongs_noticed() -> None:
    now = [5.0]
    with connected(clock=lambda: now[0]) as pair:
        pair.client.send(frame(PING, b"hi") + frame(TEXT, b"x"))
        assert pair.ws.receive() == "x"
        assert pair.client.receive() == (PONG, b"hi")
        assert pair.ws.last_control == 5.0
        assert pair.ws.ping()
        assert pair.client.receive() == (PING, b"")
        now[0] = 7.0
        pair.client.send(frame(PONG) + frame(TEXT, b"x"))
        pair.ws.receive()
        assert pair.ws.last_control == 7.0


def test_a_flood_of_pings_is_answered_sparingly_and_ended() -> None:
    with connected(clock=lambda: 1.0) as pair:
        pings = int(CONTROL_BURST) + MAX_EXCESS_CONTROLS
        pair.client.send(frame(PING) * pings + frame(TEXT, b"x"))
        assert pair.ws.receive() == "x"
        pair.client.send(frame(PING))
        server = pair.tasks.spawn("server", pair.ending)
        answers = []
        while (answer := pair.client.receive())[0] != CLOSE:
            answers.append(answer)
        assert answers == [(PONG, b"")] * int(CONTROL_BURST)
        assert answer[1][:2] == (1008).to_bytes(2, "big")
        pair.client.sock.close()
        assert server.get(timeout=PATIENCE_S)[0] == 1008


# --- a device that reads slowly, or not at all ---


def test_a_device_that_stops_reading_is_dropped(kind: dict[str, Any]) -> None:
    with connected(receive_buffer=4096, **kind) as pair:
        reader = pair.tasks.spawn("reader", pair.ending)
        with pytest.raises(ConnectionClosed) as lost:
            for _ in range(PLENTY // 1000):
                pair.ws.send_binary(bytes(1000))
        assert (lost.value.code, lost.value.reason) == (1006, "the device stopped reading")
        assert reader.get(timeout=PATIENCE_S) == (1006, "the device stopped reading")


def test_everybody_who_waits_for_such_a_device_is_told() -> None:
    with connected(receive_buffer=4096) as pair:

        def send() -> int:
            try:
                while True:
                    pair.ws.send_binary(bytes(1000))
            except ConnectionClosed as lost:
                return lost.code

        senders = [pair.tasks.spawn("sender", send) for _ in range(5)]
        assert [sender.get(timeout=PATIENCE_S) for sender in senders] == [1006] * 5


def test_closing_does_not_wait_for_such_a_device() -> None:
    with connected(replace(LIMITS, send_timeout=60.0), receive_buffer=4096) as pair:
        reader = pair.tasks.spawn("reader", pair.ending)

        def send() -> int:
            try:
                while True:
                    pair.ws.send_binary(bytes(1000))
            except ConnectionClosed as lost:
                return lost.code

        sender = pair.tasks.spawn("sender", send)
        wait_for(lambda: pair.ws.waiting == 1)
        assert not pair.ws.ping(), "the sweeper must not wait either"
        pair.ws.close(1000, "replaced")
        assert sender.get(timeout=PATIENCE_S) == 1000
        assert reader.get(timeout=PATIENCE_S) == (1000, "replaced")


def test_frames_of_several_senders_are_never_mixed(kind: dict[str, Any]) -> None:
    with connected(replace(LIMITS, send_timeout=30.0), receive_buffer=4096, **kind) as pair:
        sizes = [3, 200, 5000, 70_000]

        def send(number: int) -> None:
            for count in range(40):
                pair.ws.send_binary(bytes([number]) * sizes[(number + count) % len(sizes)])

        for number in range(6):
            pair.tasks.spawn("sender", send, number)
        heard = [pair.client.receive() for _ in range(240)]
        assert all(opcode == BINARY and len(set(payload)) == 1 for opcode, payload in heard)
        assert pair.tasks.join(PATIENCE_S)
        assert pair.ws.sent == 240


def test_a_sender_killed_in_the_middle_of_a_frame_does_not_break_the_stream(kind: dict[str, Any]) -> None:
    with connected(replace(LIMITS, send_timeout=30.0), receive_buffer=4096, **kind) as pair:
        victim = pair.tasks.spawn("victim", pair.ws.send_binary, b"a" * PLENTY)
        wait_for(lambda: pair.ws.waiting == 1)
        victim.kill()
        pair.tasks.spawn("next", pair.ws.send_text, "after")
        assert pair.client.receive() == (BINARY, b"a" * PLENTY)
        assert pair.client.receive() == (TEXT, b"after")


def test_a_sender_killed_before_its_frame_was_begun_sends_nothing() -> None:
    with connected(replace(LIMITS, send_timeout=30.0), receive_buffer=4096) as pair:
        first = pair.tasks.spawn("first", pair.ws.send_binary, b"a" * PLENTY)
        wait_for(lambda: pair.ws.waiting == 1)
        second = pair.tasks.spawn("second", pair.ws.send_text, "never")
        wait_for(lambda: pair.ws.waiting == 2)
        second.kill()
        pair.tasks.spawn("third", pair.ws.send_text, "after")
        assert pair.client.receive() == (BINARY, b"a" * PLENTY)
        assert pair.client.receive() == (TEXT, b"after")
        first.get(timeout=PATIENCE_S)


def test_a_deadline_of_the_sender_itself_is_not_mistaken_for_the_send_deadline() -> None:
    with connected(replace(LIMITS, send_timeout=30.0), receive_buffer=4096) as pair:
        mine = gevent.Timeout.start_new(0.05)
        with pytest.raises(gevent.Timeout) as fired:
            pair.ws.send_binary(bytes(PLENTY))
        assert fired.value is mine
        assert not pair.ws.closed
