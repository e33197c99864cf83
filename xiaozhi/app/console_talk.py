"""The page /talk, put together: a browser becomes a device that is known, and pages are told of turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from xiaozhi.app.banner import still_offline
from xiaozhi.app.generations import Generation
from xiaozhi.app.known_devices import KnownDevices
from xiaozhi.app.telemetry import MAX_TOOL_CHARS
from xiaozhi.devices.enrolment import Asker
from xiaozhi.devices.report import BOARD_NAMES
from xiaozhi.session.turn_record import TurnRecord
from xiaozhi.web.addresses import ServerAddresses
from xiaozhi.web.console.live import LiveFeed
from xiaozhi.web.console.talk import BrowserPass, TalkHooks

BOARD: Final = "browser"
"""What a browser calls its board; `boards` of the configuration may name it."""
TOPIC: Final = "turns"
HOW: Final = "a browser, by the console"


def talk_hooks(known: KnownDevices, addresses: ServerAddresses, current: Callable[[], Generation]) -> TalkHooks:
    """See TalkHooks. `current`: what is in force."""

    def admit(asker: Asker) -> BrowserPass:
        new = known.enrolment.vouch(asker, HOW)
        now = time.time()
        known.boards.learn(asker.device_id, [BOARD])
        known.directory.saw(
            asker.device_id,
            {
                "board": BOARD,
                BOARD_NAMES: [BOARD],
                "client": asker.client_id,
                "address": asker.address,
                "asked_at": now,
            },
        )
        return BrowserPass(known.tokens.issue(asker.client_id, asker.device_id, now=now), new)

    def about() -> Mapping[str, Any]:
        generation = current()
        providers = generation.agent.providers
        return {
            "basic": still_offline(generation.loaded.settings, providers.names),
            "sees": providers.vllm is not None,
        }

    return TalkHooks(addresses, admit, about)


def tell_turns(feed: LiveFeed) -> Callable[[str, TurnRecord], None]:
    """What publishes every turn that ends under the topic `turns`: numbers and names, nothing that was said. Costs
    nothing while no page wants it."""
    feed.topic(TOPIC)

    def tell(device_id: str, record: TurnRecord) -> None:
        if feed.wanted(TOPIC):
            feed.publish(TOPIC, _told(device_id, record))

    return tell


def _told(device_id: str, record: TurnRecord) -> Mapping[str, Any]:
    account = record.timeline.account()
    ended = record.timeline.ended
    return {
        "device": device_id,
        "turn": record.turn_id,
        "trace": record.trace,
        "outcome": record.outcome.value,
        "reason": record.reason,
        "vendor": record.failed_vendor,
        "wait_ms": sum(account.values()),
        "account": account,
        "tools": [
            {
                "name": call.tool[:MAX_TOOL_CHARS],
                "ms": round(((call.ended or ended or call.began) - call.began) * 1000),
                "outcome": call.outcome or "interrupted",
            }
            for call in record.timeline.calls
        ],
    }
