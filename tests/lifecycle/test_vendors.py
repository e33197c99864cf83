"""What stands between devices and a vendor, as users feel it: a breaker and the degraded answer, queues with deadlines,
fallbacks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gevent
import pytest

from loadtest.vendors.sounds import Sounds
from tests.e2e.stage import merged
from tests.lifecycle.house import CHAT, House, Script, ask, open_house, wait_until
from xiaozhi.app.wiring import check
from xiaozhi.providers.pool import ProviderPool, vendor_limits
from xiaozhi.runtime.inference import InferencePool
from xiaozhi.runtime.resilience import BreakerState
from xiaozhi.settings import Loaded, load

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
        assert ask(device, "hello").sentences == [SORRY]
    assert house.vendor.counts[CHAT] == 6, "two turns, each with two retries"


def test_a_broken_vendor_is_left_alone_and_asked_again_later(house: House) -> None:
    device = house.device()
    assert house.measured("xiaozhi_vendor_breaker_state", kind="llm", vendor="Vendor") == 0
    open_the_breaker(house, device)
    breaker = house.guard("llm:Vendor").breaker
    assert house.measured("xiaozhi_vendor_breaker_state", kind="llm", vendor="Vendor") == 2

    assert ask(device, "are you there").sentences == [SORRY], "degraded, but not silent"
    assert house.vendor.counts[CHAT] == 6, "nobody waits for a vendor that is known to be down"
    assert house.measured("xiaozhi_vendor_requests_total", vendor="Vendor", kind="llm", result="open") >= 1

    house.later(breaker)
    ask(device, "and now")
    assert house.vendor.counts[CHAT] == 7, "one probe, which fails, and no retry"
    assert house.measured("xiaozhi_vendor_breaker_state", kind="llm", vendor="Vendor") == 2

    house.later(breaker)
    house.vendor.stand(CHAT, Script(answer="I am back."))
    assert ask(device, "and now").sentences == ["I am back."]
    assert house.measured("xiaozhi_vendor_breaker_state", kind="llm", vendor="Vendor") == 0


def test_while_one_call_probes_the_others_are_told_at_once(house: House) -> None:
    device, other = house.device(), house.device()
    open_the_breaker(house, device)
    breaker = house.guard("llm:Vendor").breaker
    assert breaker is not None
    house.later(breaker)
    house.vendor.stand(CHAT, Script(answer="Slowly but surely.", delay=0.3))
    slow = gevent.spawn(ask, device, "and now")
    wait_until(lambda: breaker.state is BreakerState.HALF_OPEN, "the probe")
    assert house.measured("xiaozhi_vendor_breaker_state", kind="llm", vendor="Vendor") == 1

    assert ask(other, "hello").sentences == [SORRY]

    assert slow.get().sentences == ["Slowly but surely."]
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
            assert ask(device, "hello").sentences == ["The second speaks."]

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
        wait_until(lambda: window.waiting == 1, "the queue")

        assert house.measured("xiaozhi_vendor_waiting", kind="llm", vendor="Vendor") == 1
        assert house.measured("xiaozhi_vendor_active", kind="llm", vendor="Vendor") == 1
        assert house.measured("xiaozhi_vendor_active_limit", kind="llm", vendor="Vendor") == 1
        assert ask(refused, "third").sentences == [SORRY]
        assert window.waiting == 1, "the one that is refused does not wait"

        gevent.joinall(answers, raise_error=True)
        assert [answer.value.sentences for answer in answers] == [["Served at last."], [SORRY]]
        assert house.vendor.counts[CHAT] == 1
        assert house.measured("xiaozhi_vendor_window_refused_total", kind="llm", vendor="Vendor") == 2
        assert house.outcomes() == {"answered": 1, "overloaded": 2}


# --- how it is wired --------------------------------------------------------------------------------------------------


def loaded(**overrides: Any) -> Loaded:
    """Settings with language models A, B and C, of which A is selected."""
    blocks = {name: {**ENDPOINT, "base_url": f"http://127.0.0.1:9/{name}/v1"} for name in "ABC"}
    voice = {"type": "openai", "api_key": "k", "api_url": "http://127.0.0.1:9/v1", "model": "m", "voice": "v"}
    everything = {
        "selected_module": {"LLM": "A", "ASR": "A", "TTS": "A"},
        "LLM": blocks,
        "ASR": {"A": blocks["A"]},
        "TTS": {"A": voice},
    }
    return load(environ={}, overrides=merged(everything, overrides))


def shop_of(configuration: Loaded, heard: list[tuple[str, BreakerState]] | None = None) -> ProviderPool:
    """A provider_pool whose breakers tell `heard`."""
    told = heard if heard is not None else []
    return ProviderPool(
        configuration, InferencePool(2), lambda report: None, lambda name, state: told.append((name, state))
    )


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ({}, (7, 11, True, 3.0)),
        ({"max_concurrent": 2, "timeout": 5}, (2, 11, True, 5.0)),
        ({"queue_size": "4", "enable_queue": "false"}, (7, 4, False, 3.0)),
        ({"timeout": {"first_byte": 1}}, (7, 11, True, 3.0)),
        ({"max_concurrent": "", "timeout": None}, (7, 11, True, 3.0)),
    ],
)
def test_limits_come_from_the_kind_and_a_block_may_have_its_own(
    own: Mapping[str, Any], expected: tuple[Any, ...]
) -> None:
    configuration = loaded(ai_providers={"llm": {"max_concurrent": 7, "queue_size": 11, "timeout": 3}})
    settings = configuration.settings
    settings.LLM["A"].update(own)

    limits = vendor_limits(settings, "llm", "A")

    assert (limits.max_concurrent, limits.queue_size, limits.enable_queue, limits.timeout) == expected


def test_wrong_limits_of_a_block_are_faults_of_the_configuration() -> None:
    configuration = loaded()
    configuration.settings.LLM["A"].update({"max_concurrent": "many", "queue_size": -1})

    assert [fault.key for fault in check(configuration)] == ["LLM.A.max_concurrent", "LLM.A.queue_size"]


def test_one_endpoint_has_one_breaker_whatever_it_is_called() -> None:
    configuration = loaded()
    configuration.settings.LLM["B"]["base_url"] = configuration.settings.LLM["A"]["base_url"] + "/"
    heard: list[tuple[str, BreakerState]] = []
    provider_pool = shop_of(configuration, heard)
    breakers = {name: provider_pool.get("llm", name).guard.breaker for name in "ABC"}

    assert breakers["A"] is breakers["B"]
    assert breakers["A"] is not breakers["C"]
    breakers["A"]._change(BreakerState.OPEN)
    assert heard == [("llm:A", BreakerState.OPEN), ("llm:B", BreakerState.OPEN)]
    provider_pool.close()


def test_a_breaker_that_outlives_a_provider_forgets_it() -> None:
    """A and B share an endpoint; B changes with every reload, A never."""
    configuration = loaded()
    configuration.settings.LLM["B"]["base_url"] = configuration.settings.LLM["A"]["base_url"]
    heard: list[tuple[str, BreakerState]] = []
    provider_pool = shop_of(configuration, heard)
    breaker = provider_pool.get("llm", "A").guard.breaker
    provider_pool.get("llm", "B")
    for number in range(5):
        configuration = loaded()
        configuration.settings.LLM["B"].update(
            base_url=configuration.settings.LLM["A"]["base_url"], model_name=f"m{number}"
        )
        successor = ProviderPool(
            configuration,
            InferencePool(2),
            lambda report: None,
            lambda name, state: heard.append((name, state)),
            predecessor=provider_pool,
        )
        assert successor.get("llm", "A").guard.breaker is breaker
        assert successor.get("llm", "B").guard.breaker is breaker
        successor.warm_up()
        provider_pool.close()
        provider_pool = successor

    breaker._change(BreakerState.OPEN)
    assert heard == [("llm:A", BreakerState.OPEN), ("llm:B", BreakerState.OPEN)]
    provider_pool.close()
    assert breaker.listeners == []


def test_another_kind_at_the_same_address_is_another_endpoint() -> None:
    configuration = loaded(
        selected_module={"VLLM": "Eyes"}, VLLM={"Eyes": {**ENDPOINT, "base_url": "http://127.0.0.1:9/A/v1"}}
    )
    provider_pool = shop_of(configuration)

    assert provider_pool.get("vllm").guard.breaker is not provider_pool.get("llm").guard.breaker
    provider_pool.close()


def test_a_shop_that_was_closed_builds_nothing_any_more() -> None:
    provider_pool = shop_of(loaded())
    provider_pool.get("llm")
    provider_pool.close()

    assert provider_pool.get("llm", "A").name == "A", "what it has it may still name"
    with pytest.raises(Exception, match="replaced"):
        provider_pool.get("llm", "B")
