"""One text, one handler."""

from __future__ import annotations

import json
from typing import Any

import pytest
from structlog.testing import capture_logs

from xiaozhi.protocol import messages as wire
from xiaozhi.session.messages import MAX_LOGGED_FAULTS, MessageRouter


class NotedHandlers:
    """Keeps the name of the handler and what it was given."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *given: self.calls.append((name, *given))


def route(text: str) -> tuple[MessageRouter, list[tuple[Any, ...]]]:
    """The router after one text, and what was called."""
    handlers = NotedHandlers()
    router = MessageRouter(handlers)
    message = router.read(text)
    if message is not None:
        router.route(message)
    return router, handlers.calls


@pytest.mark.parametrize(
    ("body", "handler"),
    [
        ({"type": "hello"}, "on_hello"),
        ({"type": "listen", "state": "start"}, "on_listen"),
        ({"type": "abort"}, "on_abort"),
        ({"type": "mcp", "payload": {"jsonrpc": "2.0"}}, "on_mcp"),
        ({"type": "iot"}, "on_iot"),
        ({"type": "server", "action": "restart"}, "on_server_command"),
    ],
)
def test_a_message_goes_to_its_handler(body: dict[str, Any], handler: str) -> None:
    router, [(name, message)] = route(json.dumps(body))

    assert (name, message.type) == (handler, body["type"])
    assert router.faults == 0


@pytest.mark.parametrize(("kind", "handler"), [("ping", "on_ping"), ("goodbye", "on_goodbye")])
def test_some_say_no_more_than_their_type(kind: str, handler: str) -> None:
    assert route(json.dumps({"type": kind}))[1] == [(handler,)]


def test_text_that_is_no_message_goes_back_as_it_came() -> None:
    assert route("  hi there ")[1] == [("echo", "  hi there ")]


@pytest.mark.parametrize("text", ['{"type": 7}', "[]", '{"type": "unheard of"}'])
def test_what_cannot_be_understood_is_counted(text: str) -> None:
    router, calls = route(text)

    assert (router.faults, calls) == (1, [])


def test_a_device_fills_its_counter_not_the_log() -> None:
    router = MessageRouter(NotedHandlers())
    with capture_logs() as lines:
        for _ in range(10):
            assert router.read("[]") is None

    assert router.faults == 10
    assert [line["last"] for line in lines] == [False] * (MAX_LOGGED_FAULTS - 1) + [True]


def test_messages_are_known_by_their_type() -> None:
    assert isinstance(MessageRouter(NotedHandlers()).read('{"type": "ping"}'), wire.Ping)
