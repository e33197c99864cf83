"""What stands between devices and a vendor, as users feel it: a breaker and the degraded answer, queues with deadlines,
fallbacks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gevent
import pytest

from loadtest.vendors.sounds import Sounds
from tests.lifecycle.house import CHAT, House, Script, ask, open_house
from tests.subtitles import shown
from tests.waiting import wait_for
from xiaozhi.runtime.resilience import BreakerState

SORRY = "Sorry, that did not work."
BROKEN = Script(status=500)
ENDPOINT = {"type": "openai", "api_key": "test-key", "model_name": "m"}


@pytest.fixture(scope="module")
def house_settings() -> dict[str, Any]:
    return {"system_error_response": SORRY}


def open_the_breaker(house: House, device: Any) -> None:
    """Let the language model fail until nobody asks it any more."""
    house.impatient()
    house.vendor.stand(CHAT, BROKEN)
    for _ in range(2):
        assert ask(device, "hello").sentences == [shown(SORRY)]
    assert house.vendor.counts[CHAT] == 6, "two turns, each with two retries"


def test_a_broken_vendor_is_left_alone_and_asked_again_later(house: House) -> None:
    device = house.device()
    assert house.measured("xiaozhi_vendor_breaker_state", kind="llm", vendor="Vendor") == 0
    open_the_breaker(house, device)
    breaker = house.guard("llm:Vendor").breaker
    assert house.measured("xiaozhi_vendor_breaker_state", kind="llm", vendor="Vendor") == 2

    assert ask(device, "are you there").sentences == [shown(SORRY)], "degraded, but not silent"
    assert house.vendor.counts[CHAT] == 6, "nobody waits for a vendor that is known to be down"
    assert house.measured("xiaozhi_vendor_requests_total", vendor="Vendor", kind="llm", result="open") >= 1

    house.later(breaker)
    ask(device, "and now")
    assert house.vendor.counts[CHAT] == 7, "one probe, which fails, and no retry"
    assert house.measured("xiaozhi_vendor_breaker_state", kind="llm", vendor="Vendor") == 2

    house.later(breaker)
    house.vendor.stand(CHAT, Script(answer="I am back."))
    assert ask(device, "and now").sentences == ["I am back"]
    assert house.measured("xiaozhi_vendor_breaker_state", kind="llm", vendor="Vendor") == 0


def test_while_one_call_probes_the_others_are_told_at_once(house: House) -> None:
    device, other = house.device(), house.device()
    open_the_breaker(house, device)
    breaker = house.guard("llm:Vendor").breaker
    assert breaker is not None
    house.later(breaker)
    house.vendor.stand(CHAT, Script(answer="Slowly but surely.", delay=0.3))
    slow = gevent.spawn(ask, device, "and now")
    wait_for(lambda: breaker.state is BreakerState.HALF_OPEN, "the probe")
    assert house.measured("xiaozhi_vendor_breaker_state", kind="llm", vendor="Vendor") == 1

    assert ask(other, "hello").sentences == [shown(SORRY)]

    assert slow.get().sentences == ["Slowly but surely"]
    assert breaker.state is BreakerState.CLOSED


def test_a_fallback_answers_while_the_first_choice_is_down(tmp_path: Path, sounds: Sounds) -> None:
    """Both at the same address: what opens the breaker of the one must not shut off the other."""

    def settings(address: str) -> dict[str, Any]:
        return {
            "fallback": {"LLM": ["Second"]},
            "LLM": {"Second": {**ENDPOINT, "base_url": address, "model_name": "second"}},
        }

    with open_house(tmp_path, sounds, settings) as house:
        house.impatient()
        device = house.device()
        for turn in range(3):
            house.vendor.script(CHAT, *[BROKEN] * (3 if turn < 2 else 0), Script(answer="The second speaks."))
            assert ask(device, "hello").sentences == ["The second speaks"]

        assert [body["model"] for body in house.questions()[-2:]] == ["second", "second"], "the first is not even asked"
        assert house.measured("xiaozhi_vendor_breaker_state", kind="llm", vendor="Vendor") == 2
        assert house.measured("xiaozhi_vendor_breaker_state", kind="llm", vendor="Second") == 0


def test_a_window_of_one_with_a_queue_of_one_and_a_deadline(tmp_path: Path, sounds: Sounds) -> None:
    """Limits of the vendor's own block: one is served, one waits and gives up in time, one is told at once."""
    own = {"LLM": {"Vendor": {"max_concurrent": 1, "queue_size": 1}}, "ai_providers": {"llm": {"timeout": 0.6}}}
    with open_house(tmp_path, sounds, {**own, "system_error_response": SORRY}) as house:
        house.vendor.script(CHAT, Script(answer="Served at last.", delay=1.2))
        served, queued, refused = (house.device() for _ in range(3))
        answers = [gevent.spawn(ask, served, "first")]
        house.wait_for(CHAT)
        answers.append(gevent.spawn(ask, queued, "second"))
        window = house.guard("llm:Vendor").window
        assert window is not None
        wait_for(lambda: window.waiting == 1, "the queue")

        assert house.measured("xiaozhi_vendor_waiting", kind="llm", vendor="Vendor") == 1
        assert house.measured("xiaozhi_vendor_active", kind="llm", vendor="Vendor") == 1
        assert house.measured("xiaozhi_vendor_active_limit", kind="llm", vendor="Vendor") == 1
        assert ask(refused, "third").sentences == [shown(SORRY)]
        assert window.waiting == 1, "the one that is refused does not wait"

        gevent.joinall(answers, raise_error=True)
        assert [answer.value.sentences for answer in answers] == [["Served at last"], [shown(SORRY)]]
        assert house.vendor.counts[CHAT] == 1
        assert house.measured("xiaozhi_vendor_window_refused_total", kind="llm", vendor="Vendor") == 2
        assert house.outcomes() == {"answered": 1, "overloaded": 2}
