"""JSON-RPC with a peer that answers late, twice, in another order, not at all, or talks nonsense."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from gevent import Greenlet
from hypothesis import given
from hypothesis import strategies as st

from tests.waiting import PATIENCE_S
from xiaozhi.errors import ConnectionClosed, ToolError
from xiaozhi.runtime.tasks import Tasks
from xiaozhi.tools import jsonrpc
from xiaozhi.tools.jsonrpc import Answer, Call, Garbage, JsonRpcClient, JsonRpcCounts, JsonRpcLimits

FOREVER = 60.0
"""Seconds no test waits: the answer comes, or the wait is ended."""


@pytest.fixture
def group() -> Iterator[Tasks]:
    made = Tasks()
    yield made
    made.kill()


class Peer:
    """The other side: keeps what it is sent, and answers when the test says so."""

    def __init__(self, **options: Any) -> None:
        self.received: list[dict[str, Any]] = []
        self.told: list[tuple[str, Any]] = []
        self.gone = False
        options.setdefault("on_notification", lambda method, params: self.told.append((method, params)))
        self.client = JsonRpcClient(self.take, peer="the peer", **options)

    def take(self, message: dict[str, Any]) -> None:
        if self.gone:
            raise ConnectionClosed(1006)
        self.received.append(message)

    def answer(self, index: int = -1, **members: Any) -> None:
        self.client.receive({"jsonrpc": "2.0", "id": self.received[index]["id"], **members})


def ask(peer: Peer, group: Tasks, method: str = "m", timeout: float = FOREVER) -> Greenlet:
    """A request under way, made by a greenlet whose value is the result or the complaint."""

    def work() -> Any:
        try:
            return peer.client.request(method, {"a": 1}, timeout)
        except ToolError as error:
            return f"error: {error}"

    waiting = group.spawn("ask", work)
    gevent.idle()
    return waiting


def outcome(waiting: Greenlet) -> Any:
    waiting.join(PATIENCE_S)
    assert waiting.dead
    return waiting.value


# --- single messages ---


def test_messages_are_written_as_the_specification_wants_them() -> None:
    assert jsonrpc.write_request(3, "m", {"a": 1}) == {"jsonrpc": "2.0", "id": 3, "method": "m", "params": {"a": 1}}
    assert jsonrpc.write_notification("m") == {"jsonrpc": "2.0", "method": "m"}
    assert jsonrpc.write_result("x", []) == {"jsonrpc": "2.0", "id": "x", "result": []}
    assert jsonrpc.write_error(3, -1, "no") == {"jsonrpc": "2.0", "id": 3, "error": {"code": -1, "message": "no"}}


@pytest.mark.parametrize(
    "message,meaning",
    [
        ({"id": 1, "result": 5}, Answer(1, 5)),
        ({"id": 1.0, "result": None}, Answer(1)),
        ({"id": "12", "result": 5}, Answer(12, 5)),
        ({"id": "x", "result": 5}, Answer(None, 5)),
        ({"id": 1.5, "result": 5}, Answer(None, 5)),
        ({"id": True, "result": 5}, Answer(None, 5)),
        ({"id": "9" * 13, "result": 5}, Answer(None, 5)),
        ({"result": 5}, Answer(None, 5)),
        ({"id": 1, "error": {"code": -1, "message": "no"}}, Answer(1, error="no")),
        ({"id": 1, "error": "no", "result": 5}, Answer(1, error="no")),
        ({"id": 1, "error": {"code": -1}}, Answer(1, error="")),
        ({"id": 1, "error": {"message": "x" * 600}}, Answer(1, error="x" * 500)),
        ({"id": 1, "error": None, "result": 5}, Answer(1, 5)),
        ({"id": 1, "method": "m", "params": [1]}, Call("m", [1], 1)),
        ({"id": "x", "method": "m", "result": 5}, Call("m", None, "x")),
        ({"id": None, "method": "m"}, Call("m")),
        ({"method": "m"}, Call("m")),
    ],
)
def test_messages_are_read(message: Any, meaning: Any) -> None:
    assert jsonrpc.read(message) == meaning


@pytest.mark.parametrize(
    "message",
    [
        None,
        5,
        "text",
        [],
        {},
        {"id": 1},
        {"method": 5},
        {"method": "m", "id": 2**53},
        {"method": "m", "id": 1.5},
        {"method": "m", "id": "x" * 65},
        {"method": "m", "id": "ä"},
        {"method": "m", "id": [1]},
    ],
)
def test_what_is_no_message_is_garbage(message: Any) -> None:
    assert isinstance(jsonrpc.read(message), Garbage)


# --- requests ---


def test_a_request_gets_its_answer(group: Tasks) -> None:
    peer = Peer()
    waiting = ask(peer, group)
    assert peer.received == [jsonrpc.write_request(1, "m", {"a": 1})]
    assert peer.client.pending == 1

    peer.answer(result={"x": 1})

    assert outcome(waiting) == {"x": 1}
    assert peer.client.pending == 0
    assert peer.client.counts == JsonRpcCounts()


def test_a_refusal_is_a_tool_error(group: Tasks) -> None:
    peer = Peer()
    first, second = ask(peer, group), ask(peer, group)

    peer.answer(0, error={"code": -32602, "message": "bad volume"})
    peer.answer(1, error={"code": -32602})

    assert outcome(first) == "error: bad volume"
    assert outcome(second) == "error: the peer reported an error"


def test_answers_find_their_own_callers_in_any_order(group: Tasks) -> None:
    peer = Peer()
    calls = [ask(peer, group, f"m{number}") for number in range(5)]

    for index in reversed(range(5)):
        peer.answer(index, result=peer.received[index]["method"])

    assert [outcome(waiting) for waiting in calls] == [f"m{number}" for number in range(5)]


def test_only_the_first_of_two_answers_counts(group: Tasks) -> None:
    peer = Peer()
    waiting = ask(peer, group)

    peer.answer(result="first")
    peer.answer(result="second")

    assert outcome(waiting) == "first"
    assert peer.client.counts.unknown_ids == 1


def test_a_late_answer_is_only_counted(group: Tasks) -> None:
    peer = Peer()

    assert outcome(ask(peer, group, timeout=0)) == "error: the peer did not answer within 0 seconds"

    peer.answer(result="late")
    assert peer.client.pending == 0
    assert peer.client.counts == JsonRpcCounts(timeouts=1, unknown_ids=1)


def test_too_many_unanswered_requests_are_refused_and_room_comes_back(group: Tasks) -> None:
    peer = Peer(limits=JsonRpcLimits(pending=2))
    first, _ = ask(peer, group), ask(peer, group)

    assert outcome(ask(peer, group)) == "error: the peer has too many unanswered requests"
    assert len(peer.received) == 2
    assert peer.client.counts.refused == 1
    peer.answer(0, result="done")
    assert outcome(first) == "done"
    assert not ask(peer, group).dead


def test_a_killed_caller_leaves_nothing_waiting(group: Tasks) -> None:
    peer = Peer()
    waiting = ask(peer, group)

    waiting.kill()

    assert peer.client.pending == 0


def test_a_deadline_of_the_caller_reaches_the_caller() -> None:
    peer = Peer()

    with pytest.raises(gevent.Timeout), gevent.Timeout(0.001):
        peer.client.request("m", {}, FOREVER)

    assert peer.client.pending == 0
    assert peer.client.counts.timeouts == 0


# --- the end ---


def test_close_fails_what_waits_and_refuses_what_comes(group: Tasks) -> None:
    peer = Peer()
    waiting = ask(peer, group)

    peer.client.close()
    peer.client.close()

    assert peer.client.closed
    assert outcome(waiting) == "error: the peer has disconnected"
    assert outcome(ask(peer, group)) == "error: the peer has disconnected"
    with pytest.raises(ToolError, match="disconnected"):
        peer.client.notify("m")
    peer.client.receive({"id": 1, "method": "ping"})
    assert len(peer.received) == 1
    assert peer.client.counts == JsonRpcCounts()


def test_a_lost_connection_is_a_tool_error(group: Tasks) -> None:
    peer = Peer(methods={"ping": lambda params: {}})
    peer.gone = True

    assert outcome(ask(peer, group)) == "error: the peer has disconnected"
    with pytest.raises(ToolError, match="disconnected"):
        peer.client.notify("m")
    peer.client.receive({"id": 1, "method": "ping"})
    assert peer.client.pending == 0


# --- what the peer says of its own accord ---


def test_notifications_go_out_and_come_in() -> None:
    peer = Peer()

    peer.client.notify("initialized")
    peer.client.receive({"method": "progress", "params": {"done": 5}})

    assert peer.received == [{"jsonrpc": "2.0", "method": "initialized"}]
    assert peer.told == [("progress", {"done": 5})]
    assert peer.client.counts == JsonRpcCounts(notifications=1)
    silent = JsonRpcClient(peer.take, peer="another peer")
    silent.receive({"method": "progress"})
    assert silent.counts.notifications == 1


def test_requests_of_the_peer_are_answered() -> None:
    peer = Peer(methods={"double": lambda params: params["n"] * 2})

    peer.client.receive({"id": 7, "method": "double", "params": {"n": 4}})
    peer.client.receive({"id": "x", "method": "roots/list"})

    assert peer.received == [
        {"jsonrpc": "2.0", "id": 7, "result": 8},
        {"jsonrpc": "2.0", "id": "x", "error": {"code": -32601, "message": "method not found"}},
    ]
    assert peer.client.counts.requests == 2


def test_a_batch_is_taken_apart_up_to_a_limit() -> None:
    peer = Peer(limits=JsonRpcLimits(batch=3))

    peer.client.receive([{"id": number, "method": "m"} for number in range(10)])
    peer.client.receive([])

    assert [message["id"] for message in peer.received] == [0, 1, 2]


# --- anything at all ---

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)
members = st.sampled_from(["jsonrpc", "id", "method", "result", "error", "params", "x"])
messages = json_values | st.dictionaries(members, json_values | st.integers(0, 5), max_size=6)


@given(st.lists(messages | st.lists(messages, max_size=3), max_size=20))
def test_no_message_whatsoever_raises_and_what_is_sent_back_answers_a_request(garbage: list[Any]) -> None:
    peer = Peer(methods={"ping": lambda params: {}}, limits=JsonRpcLimits(batch=2))

    for message in garbage:
        peer.client.receive(message)

    counts = peer.client.counts
    assert len(peer.received) == counts.requests
    assert len(peer.told) == counts.notifications
    taken = sum(min(len(message), 2) if isinstance(message, list) else 1 for message in garbage)
    assert counts.requests + counts.notifications + counts.garbage + counts.unknown_ids == taken


@given(st.lists(st.integers(0, 6), max_size=10))
def test_every_caller_gets_its_own_answer_or_none(answered: list[int]) -> None:
    """Answers in any order, some twice, some never, some made up: no caller gets another one's."""
    group = Tasks()
    peer = Peer()
    calls = [ask(peer, group) for _ in range(4)]
    for number in answered:
        peer.client.receive({"id": number, "result": number})
    peer.client.close()

    told = [outcome(waiting) for waiting in calls]
    assert told == [number if number in answered else "error: the peer has disconnected" for number in range(1, 5)]
    group.kill()
