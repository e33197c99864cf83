"""Whole visits over real sockets and the real providers leave next to nothing for the garbage collector.

The fakes' view of the same, story by story: `tests/session/test_cycles.py`."""

from __future__ import annotations

import gc
from collections import Counter

from loadtest.simulator.device_tools import DeviceTools
from loadtest.simulator.speech import Speech
from loadtest.vendors.http_vendor import Script
from loadtest.vendors.openai_vendor import CHAT
from tests.e2e.stage import Stage, ask, utter
from tests.robustness.conftest import busy
from tests.robustness.logbook import SAID
from tests.robustness.witness import Mirror, calling
from tests.waiting import PATIENCE_S, wait_for

VISITS = 3
MOST_LEFT = 20
"""Objects of ours per visit that may wait for the collector; a thing with its tools is more."""
THINGS = [
    {
        "name": f"Thing{number}",
        "properties": {f"property{index}": {} for index in range(4)},
        "methods": {f"method{index}": {} for index in range(4)},
    }
    for number in range(8)
]


def visit(stage: Stage, mirror: Mirror, words: Speech) -> None:
    """Things, MCP, a call of each, talk, a model that fails, and gone in the middle of an answer."""
    mirror.rules.clear()
    mirror.when_asked(f"{SAID} things", calling("thing0_method0"))
    mirror.when_asked(f"{SAID} tools", calling("self_get_device_status"))
    mirror.when(CHAT, f"{SAID} fail", Script(status=500))
    tools = DeviceTools()
    device = stage.device(tools=tools)
    device.tell("iot", descriptors=THINGS)
    device.tell("iot", states=[{"name": "Thing0", "state": {"property0": 1}}])
    device.wait_until(lambda: tools.listed, PATIENCE_S, "the tools to be listed")
    for question in ("things", "tools", "fail", "and now"):
        ask(device, f"{SAID} {question}")
    utter(device, words, "auto")
    device.collect_answer(PATIENCE_S)
    device.detect(f"{SAID} the end")
    device.wait_until(lambda: device.replies.messages, PATIENCE_S, "an answer")
    device.drop()
    stage.forget_requests()


def test_visits_leave_next_to_nothing_in_cycles(stage: Stage, mirror: Mirror, words: Speech) -> None:
    visit(stage, mirror, words)
    wait_for(lambda: not busy(stage), "the end of the visit")
    gc.collect()
    gc.disable()
    try:
        for _ in range(VISITS):
            visit(stage, mirror, words)
        wait_for(lambda: not busy(stage), "the end of the visits")
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        left = Counter(
            type(thing).__qualname__ for thing in gc.garbage if type(thing).__module__.startswith("xiaozhi.")
        )
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()

    assert left.total() <= VISITS * MOST_LEFT, left.most_common(20)
