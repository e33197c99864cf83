"""Garbage with a seed: messages and frames that are wrong in ten thousand ways, the same ten thousand every time.

Most begin as what a real device sends and are then hurt, because what is only noise gets no deeper than the first
check."""

from __future__ import annotations

import copy
import json
import random
from dataclasses import dataclass
from typing import Any

from loadtest.simulator.wire import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, masked
from tests.robustness.logbook import SAID, SECRET

MAX_CHARS = 60_000
"""Of a message: longer ones are a different misdeed, see `violations`."""
MESSAGES: tuple[dict[str, Any], ...] = (
    {
        "type": "hello",
        "version": 1,
        "transport": "websocket",
        "features": {"mcp": True},
        "audio_params": {"format": "opus"},
    },
    {
        "type": "hello",
        "version": 3,
        "features": {"emoji": False},
        "audio_params": {"format": "pcm", "sample_rate": 8000, "channels": 2},
    },
    {"type": "listen", "state": "start", "mode": "auto", "session_id": "s"},
    {"type": "listen", "state": "start", "mode": "manual"},
    {"type": "listen", "state": "start", "mode": "realtime"},
    {"type": "listen", "state": "stop"},
    {"type": "listen", "state": "detect", "text": f"{SAID} {SAID} {SAID}"},
    {"type": "listen", "state": "detect", "text": "hello robot"},
    {"type": "listen", "state": "detect", "text": f"[device_call] {SAID}"},
    {"type": "abort", "reason": "wake_word_detected"},
    {
        "type": "mcp",
        "payload": {
            "jsonrpc": "2.0",
            "id": 1,
            "result": {"tools": [{"name": "t", "description": SAID, "inputSchema": {}}]},
        },
    },
    {"type": "mcp", "payload": {"jsonrpc": "2.0", "id": 2, "error": {"code": -1, "message": "no"}}},
    {"type": "mcp", "payload": {"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}},
    {"type": "mcp", "payload": {"jsonrpc": "2.0", "id": 9, "method": "ping"}},
    {"type": "iot", "descriptors": [{"name": "Lamp", "description": SAID, "properties": {"on": {"type": "boolean"}}}]},
    {
        "type": "iot",
        "descriptors": [{"name": "Fan", "methods": {"Set": {"parameters": {"speed": {"type": "number"}}}}}],
    },
    {"type": "iot", "states": [{"name": "Lamp", "state": {"on": True}}]},
    {"type": "ping"},
    {"type": "server", "action": "restart", "content": {"secret": f"{SECRET}-wrong"}},
    {"type": "server", "action": "update_config", "content": {"secret": f"{SECRET}-wrong"}},
)
"""What devices say, but for goodbyes: those close a session by right."""

_ODD_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**64, -(2**63), 1e308, 0.5, "", " ", "x" * 5000, "\x00", "\u202e", "💥" * 50,
    "long " * 300,
    [], [[]], [None], {}, {"": None}, {"a": {"b": {"c": [1, "2", {}]}}}, "start", "opus", "退",
)  # fmt: skip
_ODD_TEXTS = (
    "", " ", "null", "true", "[]", "{}", "0", "-1", "1e999", "NaN", '"type"', "x" * 5000, "\x00", "\ufeff{}",
    "{'type': 1}",
    "[" * 3000, '{"type":' * 500, '{"a": ' + "[" * 80 + "]" * 80 + "}", '{"type": "listen"', '{"type": "\\u0000"}',
    '{"type": "ping"}{"type": "ping"}', '{"type": "ping", "type": "abort"}', '{"type": "abort", "reason": "\\ud800"}',
    '{"type": "listen", "state": "detect", "text": "\\udc00' + SAID + '"}',
)  # fmt: skip


class Garbage:
    """An endless supply; the same for the same `seed`."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)

    def message(self) -> str:
        """A text message."""
        kind = self.chance.random()
        if kind < 0.1:
            return self.chance.choice(_ODD_TEXTS)
        message: Any = json.loads(json.dumps(self.chance.choice(MESSAGES)))
        for _ in range(self.chance.choice((0, 1, 1, 1, 2, 5))):
            message = self.hurt(message)
        text = json.dumps(message, ensure_ascii=self.chance.random() < 0.5)
        return (self._scratch(text) if kind < 0.4 else text)[:MAX_CHARS]

    def frame(self) -> bytes:
        """The payload of a binary frame: noise, with a header in front or without one, of any length that is
        allowed."""
        chance = self.chance
        noise = chance.randbytes(chance.choice((0, 1, 2, 3, 7, 15, 16, 17, 60, 120, 300, 1500)))
        match chance.randrange(5):
            case 0:
                size = chance.choice((len(noise), len(noise) + 1, 0, 2**32 - 1))
                return (
                    b"\0\2"
                    + chance.choice((b"\0\0", b"\0\1", b"\xff\xff"))
                    + chance.randbytes(8)
                    + size.to_bytes(4, "big")
                    + noise
                )
            case 1:
                size = chance.choice((len(noise), len(noise) + 1, 0, 0xFFFF))
                return bytes((chance.choice((0, 1, 9)), 0)) + size.to_bytes(2, "big") + noise
            case 2:
                return (
                    b"\0\2\0\1"
                    + bytes(8)
                    + len(text := self.message().encode("utf-8", "replace")[:16_000]).to_bytes(4, "big")
                    + text
                )
            case _:
                return noise

    def hurt(self, value: Any) -> Any:
        """`value` with one thing changed, somewhere inside it."""
        chance = self.chance
        if isinstance(value, dict) and value and chance.random() < 0.85:
            key = chance.choice(list(value))
            match chance.randrange(6):
                case 0:
                    del value[key]
                case 1:
                    value[chance.choice(("", "type", "x" * 300, "state", "payload"))] = _odd(chance)
                case _:
                    value[key] = self.hurt(value[key])
            return value
        if isinstance(value, list) and value and chance.random() < 0.7:
            place = chance.randrange(len(value))
            value[place] = self.hurt(value[place])
            return value * chance.choice((1, 1, 1, 5))
        if isinstance(value, str) and value and chance.random() < 0.4:
            return self._scratch(value)
        return _odd(chance)

    def _scratch(self, text: str) -> str:
        """`text` with some characters cut out, doubled or replaced."""
        chance = self.chance
        for _ in range(chance.randrange(1, 4)):
            at = chance.randrange(len(text) + 1)
            until = min(len(text), at + chance.choice((1, 1, 3, 40)))
            text = text[:at] + chance.choice(("", text[at:until] * 2, chance.choice('{}[]",:\\\0é💥'))) + text[until:]
        return text


def _odd(chance: random.Random) -> Any:
    return copy.deepcopy(chance.choice(_ODD_VALUES))


@dataclass(frozen=True, slots=True)
class Violation:
    """Bytes that no WebSocket client may send, and the codes one of which is the answer."""

    name: str
    data: bytes
    codes: frozenset[int]


def violations(max_binary: int, max_text: int) -> list[Violation]:
    """What RFC 6455 forbids (sections 5.1 to 5.5, 7.4, 8.1), and what is too long for this server."""
    protocol, text, size = frozenset({1002}), frozenset({1007}), frozenset({1009})
    key = b"\1\2\3\4"
    found = [
        Violation("reserved bit", b"\xc2\x81" + key + b"x", protocol),
        Violation("all reserved bits", b"\xf1\x81" + key + b"x", protocol),
        Violation("not masked", b"\x82\x01x", protocol),
        Violation("continuation of nothing", masked(CONTINUATION, b"x"), protocol),
        Violation("message within a message", masked(TEXT, b"{", fin=False) + masked(TEXT, b"}"), protocol),
        Violation("binary within text", masked(TEXT, b"{", fin=False) + masked(BINARY, b"}"), protocol),
        Violation("fragmented ping", masked(PING, b"x", fin=False), protocol),
        Violation("long ping", masked(PING, b"x" * 126), protocol),
        Violation("long pong", masked(PONG, b"x" * 2000), protocol),
        Violation("length not minimal", b"\x82\xfe\x00\x05" + key + b"12345", protocol),
        Violation("64-bit length not minimal", b"\x82\xff" + (200).to_bytes(8, "big") + key, protocol),
        Violation("negative length", b"\x82\xff" + b"\xff" * 8 + key, frozenset({1002, 1009})),
        Violation("length of an exabyte", b"\x82\xff" + (1 << 60).to_bytes(8, "big") + key, size),
        Violation("half a close code", masked(CLOSE, b"\x03"), protocol),
        Violation("close code 1005", masked(CLOSE, (1005).to_bytes(2, "big")), protocol),
        Violation("close code 0", masked(CLOSE, b"\0\0"), protocol),
        Violation("close reason is not UTF-8", masked(CLOSE, (1000).to_bytes(2, "big") + b"\xff\xfe"), text),
        Violation("text is not UTF-8", masked(TEXT, b'{"type": "\xff"}'), text),
        Violation("truncated UTF-8", masked(TEXT, "你好".encode()[:-1]), text),
        Violation("surrogates in UTF-8", masked(TEXT, b"\xed\xa0\x80"), text),
        Violation("overlong UTF-8", masked(TEXT, b"\xc0\xaf"), text),
        Violation("UTF-8 broken across fragments", masked(TEXT, b"\xe4", fin=False) + masked(CONTINUATION, b"x"), text),
        Violation("binary one byte too long", masked(BINARY, bytes(max_binary + 1)), size),
        Violation("text one byte too long", masked(TEXT, b" " * (max_text + 1)), size),
        Violation("text promised too long", b"\x81\xff" + (max_text + 1).to_bytes(8, "big") + key, size),
        Violation(
            "too long in fragments", masked(BINARY, bytes(max_binary), fin=False) + masked(CONTINUATION, b"x"), size
        ),
    ]
    found += [
        Violation(f"reserved opcode {opcode:#x}", masked(opcode, b"x"), protocol)
        for opcode in (0x3, 0x4, 0x5, 0x6, 0x7, 0xB, 0xC, 0xD, 0xE, 0xF)
    ]
    return found
