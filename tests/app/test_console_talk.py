"""A browser becomes a device that is known, with a token that the device port takes; pages are told of turns."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from tests.databases import opened
from xiaozhi.app.console_talk import HOW, talk_hooks, tell_turns
from xiaozhi.app.known_devices import KnownDevices
from xiaozhi.devices.enrolment import Asker
from xiaozhi.errors import AuthError
from xiaozhi.runtime.guesses import Guesses
from xiaozhi.session.link import Identity
from xiaozhi.session.turn_record import CallTimes, Outcome, Timeline, TurnRecord
from xiaozhi.settings import load
from xiaozhi.web.addresses import ServerAddresses
from xiaozhi.web.console.live import LiveFeed

DEVICE = "02:00:00:12:34:56"
ASKER = Asker(DEVICE, "mine", "203.0.113.9")


@pytest.mark.parametrize("enroll", ["private", "approve", "allowlist"])
def test_the_token_lets_a_browser_in_from_anywhere(tmp_path: Path, enroll: str) -> None:
    loaded = load(environ={}, overrides={"server": {"auth": {"enabled": True, "enroll": enroll}}})
    with opened(tmp_path) as database:
        known = KnownDevices(loaded.settings, database, "secret", Guesses())
        providers = SimpleNamespace(names={"asr": "PocketSphinx", "llm": "Mine"}, vllm=None)
        generation: Any = SimpleNamespace(loaded=loaded, agent=SimpleNamespace(providers=providers))
        hooks = talk_hooks(known, ServerAddresses(), lambda: generation)

        first, again = hooks.admit(ASKER), hooks.admit(ASKER)

        assert (first.new, again.new) == (True, False)
        identity = Identity(device_id=DEVICE, client_id="mine", peer_ip="203.0.113.9")
        assert known.admit(identity, f"Bearer {first.token}")
        with pytest.raises(AuthError):
            known.admit(Identity(device_id=DEVICE, client_id="other", peer_ip="203.0.113.9"), f"Bearer {first.token}")
        record = known.directory.of(DEVICE)
        assert (record.client, record.how) == ("mine", HOW)
        assert known.boards.names(DEVICE) == ("browser",)
        assert hooks.about() == {"basic": ["asr"], "sees": False}
        known.close(1.0)


def test_a_device_of_somebody_else_is_not_handed_out(tmp_path: Path) -> None:
    loaded = load(environ={}, overrides={})
    with opened(tmp_path) as database:
        known = KnownDevices(loaded.settings, database, "secret", Guesses())
        hooks = talk_hooks(known, ServerAddresses(), lambda: pytest.fail("nobody asks"))
        hooks.admit(ASKER)

        with pytest.raises(AuthError, match="another client id"):
            hooks.admit(Asker(DEVICE, "other"))
        known.directory.revoke(DEVICE)
        with pytest.raises(AuthError, match="revoked"):
            hooks.admit(ASKER)
        known.close(1.0)


def test_pages_hear_of_turns_without_what_was_said() -> None:
    feed = LiveFeed()
    tell = tell_turns(feed)
    timeline = Timeline(voice_ended=1.0, released=1.5, heard=1.6, llm_first=1.7, first_frame=1.8, ended=3.0)
    timeline.calls.append(CallTimes("weather", 1.61, 1.65, "answer"))
    timeline.calls.append(CallTimes("slow", 2.0))
    record = TurnRecord(
        7, Outcome.ANSWERED, timeline, speculative=False, user_text="a secret", spoken=("a secret",), trace="t"
    )
    tell(DEVICE, record)  # nobody looks

    stream = feed.events(frozenset({"turns"}))
    next(stream)
    tell(DEVICE, record)
    event = next(stream)
    stream.close()  # type: ignore[attr-defined]
    feed.close()

    assert b"secret" not in event
    told = orjson.loads(event.partition(b"data: ")[2])
    assert (told["device"], told["turn"], told["outcome"], told["wait_ms"]) == (DEVICE, 7, "answered", 800)
    assert sum(told["account"].values()) == 800 and told["account"]["recognition"] == 100
    assert told["tools"] == [
        {"name": "weather", "ms": 40, "outcome": "answer"},
        {"name": "slow", "ms": 1000, "outcome": "interrupted"},
    ]
