"""Too much of everything, against the limits as they are shipped: who floods is slowed, then sent away; who must not
notice does not."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from loadtest.simulator.speech import silence
from loadtest.simulator.wire import BINARY, CONTINUATION, PING, TEXT, Closed, masked
from tests.e2e.stage import Stage
from tests.robustness.conftest import Talking
from tests.robustness.logbook import SAID, Logbook
from tests.waiting import wait_for
from xiaozhi.protocol.device import MAX_SPOKEN_CHARS
from xiaozhi.settings.server import Limits

LARGEST = Limits().text_bytes


@pytest.fixture(scope="module")
def stage_settings() -> dict[str, Any]:
    """The limits of default settings."""
    limits = Limits()
    return {
        "server": {
            "limits": {"messages_per_second": limits.messages_per_second, "frames_per_second": limits.frames_per_second}
        }
    }


def text(message: dict[str, Any]) -> bytes:
    """A text message, ready for the socket."""
    return masked(TEXT, json.dumps(message).encode())


FLOODS: dict[str, tuple[bytes, int]] = {
    "pings": (text({"type": "ping"}), 2000),
    "typed text": (text({"type": "listen", "state": "detect", "text": SAID}), 600),
    "starts and stops": (text({"type": "listen", "state": "start"}) + text({"type": "listen", "state": "stop"}), 1000),
    "aborts": (text({"type": "abort"}), 2000),
    "hellos": (text({"type": "hello", "features": {"mcp": True}}), 1000),
    "bare text": (masked(TEXT, b"y" * 4000), 1000),
    "wrong commands": (text({"type": "server", "action": "restart", "content": {"secret": "guess"}}), 1000),
    "not JSON": (text({"type": "listen", "state": "sideways"}), 2000),
    "sound": (masked(BINARY, silence()), 20_000),
    "noise": (masked(BINARY, b"\xff" * 100), 20_000),
    "empty frames": (masked(BINARY, b""), 20_000),
    "websocket pings": (masked(PING, b"!"), 4000),
    "fragments": (masked(TEXT, b" ", fin=False) + masked(CONTINUATION, b" ", fin=False) * 5000, 1),
}


def test_who_floods_is_sent_away(stage: Stage, witness: Talking, book: Logbook) -> None:
    with witness():
        for flood, (piece, count) in FLOODS.items():
            device = stage.device()
            try:
                for _ in range(0, count, 50):
                    device.send_raw(piece * min(50, count))
            except Closed:
                pass  # it has got the message
            assert device.wait_closed()[0] == 1008, flood
            device.close()
    assert sum(book.lines.values()) < 4000, book.lines.most_common(5)


KILLERS: dict[str, Callable[[], dict[str, Any]]] = {
    **{
        f"to be said: {piece * 3}": lambda piece=piece: {
            "type": "listen",
            "state": "detect",
            "text": ("[device_call]" + piece * MAX_SPOKEN_CHARS)[:MAX_SPOKEN_CHARS],
        }
        for piece in (
            "[a](",
            "|a|b|\n",
            "![",
            "<",
            "<a ",
            "`",
            "#",
            "**a",
            "_a_",
            "~~",
            "$",
            "1.",
            "💥",
            "\u202e",
            "。",
            "\n",
            "a@b.",
            "\x00",
        )
    },
    "typed, too long": lambda: {"type": "listen", "state": "detect", "text": "[device_call]" + "[a](" * 60_000},
    "abort with a long reason": lambda: {"type": "abort", "reason": "x" * 250_000},
    "an unknown type, long": lambda: {"type": "x" * 250_000},
    "many keys": lambda: {"type": "ping", **{f"k{number}": number for number in range(15_000)}},
    "a wide list": lambda: {"type": "mcp", "payload": {"x": [[]] * 60_000}},
    "a deep list": lambda: {"type": "mcp", "payload": {"x": nested(60)}},
    "many things": lambda: {
        "type": "iot",
        "descriptors": [{"name": f"T{number}", "properties": {"p": {}}} for number in range(5000)],
    },
    "a hello of a quarter of a megabyte": lambda: {
        "type": "hello",
        "features": {f"f{number}": {} for number in range(15_000)},
    },
    "a command with a long action": lambda: {"type": "server", "action": "x" * 250_000},
}
"""One message that a careless server would be busy with for long."""


def nested(depth: int) -> list[Any]:
    """Lists in lists, as wide as they are deep."""
    made: list[Any] = []
    for _ in range(depth):
        made = [made, *([[]] * 500)]
    return made


def test_one_message_never_keeps_everybody_waiting(stage: Stage, witness: Talking) -> None:
    """The hub monitor fails the test if anything takes longer than 100 ms."""
    with witness():
        device = stage.device(features={"mcp": True})
        for make in KILLERS.values():
            data = json.dumps(make(), ensure_ascii=False).encode()
            assert len(data) <= LARGEST
            device.send_raw(masked(TEXT, data))
            device.ping()
        assert device.closed is None


def test_the_largest_messages_allowed_as_fast_as_allowed(stage: Stage, witness: Talking) -> None:
    piece = json.dumps({"type": "mcp", "payload": {"id": 1, "result": [0] * 80_000}}).encode()
    frame = masked(TEXT, piece.ljust(LARGEST))
    with witness():
        device = stage.device(features={"mcp": True})
        for _ in range(40):
            device.send_raw(frame)
        device.ping()
        assert device.closed is None


def test_excess_is_dropped_before_anybody_is_sent_away(stage: Stage) -> None:
    """Twice the burst: the device is not closed, and is heard again at once when it has calmed down."""
    device = stage.device()
    device.send_raw(masked(TEXT, b'{"type": "ping"}') * 200)

    def answered() -> bool:
        device.tell("ping")
        return any(message.type == "pong" for message in device.replies.messages)

    wait_for(answered, "a pong")
    assert device.closed is None
