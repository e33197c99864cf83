"""What the devices of a run do: how many, in which roles, how often, how long. One value that travels to every worker
process.

The same options stand behind `python -m loadtest run` and behind locust's command line and web page.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

WORDS = (
    "what time is it and how is the weather today",
    "please tell me something about the history of the city",
    "can you explain to me why the sky is blue at noon",
    "I would like to hear a short story about a cat",
)
ROLES = ("talker", "holder", "push_to_talk", "interrupter", "gateway", "garbage", "slow_reader", "reconnector")
TALKING = frozenset({"talker", "push_to_talk", "interrupter", "gateway"})
TRANSPORTS = ("websocket", "mqtt", "both")
BY_MQTT = frozenset({"talker", "holder", "push_to_talk", "interrupter"})
"""Roles that there are by MQTT."""
RAMP_DEVICES_PER_SECOND = 25
RAMP_S = (1.0, 20.0)
ALL_THERE_S = 3.0
"""Devices that begin to speak together wait so long after the last of them was to come."""
SPEAKING_S = 15.0
"""What a turn may take beside waiting: the question and the longest answer."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """Times in seconds unless they say ms. See `add_arguments` for the meaning of each."""

    devices: int = 20
    turns: int = 2
    seconds: float = 0.0
    ramp: float = -1.0
    spread: float = -1.0
    pause: float = 1.0
    roles: str = "talker"
    words: tuple[str, ...] = WORDS
    expect: str = ""
    protocol: int = 1
    frame_ms: int = 60
    mcp: bool = False
    patience: float = 20.0
    token: str = ""
    transport: str = "websocket"
    ota: str = ""
    sources: int = 1
    first_device: int = 0
    crews: int = 1
    seed: int = 1

    def __post_init__(self) -> None:
        """Raises ValueError for a scenario that makes no sense."""
        if self.devices < 1:
            raise ValueError("at least one device is needed")
        if self.turns < 1 and not self.seconds:
            raise ValueError("either turns or seconds must say when to stop")
        if not 1 <= self.sources <= 250:
            raise ValueError("between 1 and 250 source addresses")
        roles = self.shares()
        if self.transport not in TRANSPORTS:
            raise ValueError(f"no such transport: {self.transport!r}; there are {', '.join(TRANSPORTS)}")
        if self.transport != "websocket" and (others := sorted(roles.keys() - BY_MQTT)):
            raise ValueError(f"by MQTT there is no {', '.join(others)}; roles are {', '.join(sorted(BY_MQTT))}")

    def shares(self) -> dict[str, int]:
        """Role -> weight. Raises ValueError."""
        found: dict[str, int] = {}
        for part in self.roles.split(","):
            name, _, weight = part.strip().partition("=")
            if name not in ROLES or not (weight or "1").isdigit():
                raise ValueError(
                    f"no such role: {part.strip()!r}; roles are {', '.join(ROLES)}, "
                    "each with =WEIGHT behind it if need be"
                )
            found[name] = int(weight or 1)
        if not sum(found.values()):
            raise ValueError("no role has any weight")
        return {name: weight for name, weight in found.items() if weight}

    def head_count(self) -> dict[str, int]:
        """Role -> how many devices; every role of the mix has at least one while there are enough."""
        shares = self.shares()
        total = sum(shares.values())
        exact = {name: self.devices * weight / total for name, weight in shares.items()}
        counts = {name: int(value) for name, value in exact.items()}
        if self.devices >= len(counts):
            counts = {name: max(1, count) for name, count in counts.items()}
        by_need = sorted(counts, key=lambda name: exact[name] - counts[name], reverse=True)
        left = self.devices - sum(counts.values())
        for name in by_need[:left] if left > 0 else []:
            counts[name] += 1
        while sum(counts.values()) > self.devices:
            counts[max(counts, key=lambda name: counts[name])] -= 1
        return {name: count for name, count in counts.items() if count}

    @property
    def talking(self) -> int:
        """How many devices take turns."""
        return sum(count for role, count in self.head_count().items() if role in TALKING)

    @property
    def ramp_s(self) -> float:
        """Over how many seconds the devices appear."""
        return self.ramp if self.ramp >= 0 else min(RAMP_S[1], max(RAMP_S[0], self.devices / RAMP_DEVICES_PER_SECOND))

    @property
    def begins_s(self) -> float:
        """When the first of those who waited for each other begins to speak, after the start; 0: nobody waits."""
        return self.ramp_s + ALL_THERE_S if self.spread >= 0 else 0.0

    def begins_speaking(self, number: int) -> float:
        """When this device asks its first question at the earliest, after the start."""
        return self.begins_s + number / self.devices * max(0.0, self.spread)

    @property
    def window_s(self) -> tuple[float, float] | None:
        """(from, until) after the start: what is measured when the run has a fixed time; None: everything."""
        began = max(self.ramp_s, self.begins_s)
        return (began, began + self.seconds) if self.seconds else None

    @property
    def longest_s(self) -> float:
        """When to give up on the whole run: devices that do not come to an end are a result, too."""
        turn = self.patience + SPEAKING_S + self.pause
        return (
            max(self.ramp_s, self.begins_s + self.spread)
            + (self.seconds + 2 * turn if self.seconds else self.turns * turn)
            + 10
        )

    def by_mqtt(self, number: int) -> bool:
        """Whether this device is connected by MQTT and speaks over UDP; of "both" every other one is."""
        return self.transport == "mqtt" or (self.transport == "both" and number % 2 == 1)

    def rng(self, number: int) -> random.Random:
        """The device's own chance, the same in every run."""
        return random.Random(self.seed * 1_000_003 + number)

    def with_devices(self, devices: int) -> Scenario:
        """The same for another number of devices."""
        return replace(self, devices=devices)

    def at(self, ota: str) -> Scenario:
        """The same where devices ask this address how to connect, if they have not been told another."""
        return self if self.ota or not ota else replace(self, ota=ota)

    def options(self) -> dict[str, Any]:
        """As options of the command line (and for JSON)."""
        return asdict(self) | {"words": "|".join(self.words)}

    @classmethod
    def from_options(cls, given: Mapping[str, Any], **changes: Any) -> Scenario:
        """The reverse; options that are no part of a scenario are ignored, and so are empty ones. Raises ValueError.

        Values may be text, which is what a web page sends."""
        values = {name: given[name] for name in cls.__dataclass_fields__ if given.get(name) not in (None, "")}
        values.update(changes)
        return cls(**{name: _typed(value, getattr(DEFAULTS, name)) for name, value in values.items()})


def _typed(value: Any, default: Any) -> Any:
    """`value` as the type of `default`."""
    if not isinstance(value, str) or isinstance(default, str):
        return value
    if isinstance(default, tuple):
        return tuple(text.strip() for text in value.split("|") if text.strip()) or default
    if isinstance(default, bool):
        return value.lower() in ("1", "true", "yes", "on")
    return type(default)(value)


DEFAULTS = Scenario()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that make a scenario; defaults None, so that who adds them can tell what was given."""
    add = parser.add_argument
    add(
        "--turns",
        type=int,
        metavar="N",
        help="questions per device (default: 2; 0 with --seconds: until the time is over)",
    )
    add("--seconds", type=float, metavar="S", help="measure for so long after all devices have come; replaces --turns")
    add("--ramp", type=float, metavar="S", help="over how long the devices appear (default: 25 a second, at most 20 s)")
    add(
        "--spread",
        type=float,
        metavar="S",
        help="all wait until the last has come, then begin to speak within so many seconds, evenly (default: each "
        "begins as soon as it has come)",
    )
    add(
        "--chorus",
        dest="spread",
        action="store_const",
        const=0.0,
        help="all begin to speak in the same instant: the same as --spread 0",
    )
    add(
        "--pause",
        type=float,
        metavar="S",
        help="between an answer and the next question, give or take a half (default: 1)",
    )
    add(
        "--roles",
        metavar="MIX",
        help="who they are, as talker=90,holder=10 (default: talker); roles: " + ", ".join(ROLES),
    )
    add("--words", metavar="TEXT|TEXT", help="what they say, one after the other")
    add("--expect", metavar="TEXT", help="an answer without this text is a failure")
    add("--protocol", type=int, choices=(1, 2, 3), help="binary framing (default: 1)")
    add("--frame-ms", type=int, choices=(20, 40, 60), help="length of a packet (default: 60)")
    add("--mcp", action="store_true", default=None, help="devices offer tools (default: no)")
    add("--patience", type=float, metavar="S", help="how long a device waits for an answer (default: 20)")
    add(
        "--transport",
        choices=TRANSPORTS,
        help="how they are connected: mqtt with sound over UDP, or every other one (both) (default: websocket)",
    )
    add("--ota", metavar="URL", help="where devices ask for the MQTT address, with --url and --transport")
    add("--token", help="bearer token for every device")
    add(
        "--sources",
        type=int,
        metavar="N",
        help="connect from 127.0.0.1 to 127.0.0.N: more than 28,000 connections need that (default: 1)",
    )
