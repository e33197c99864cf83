"""The providers of one configuration, their limits and their breakers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gevent
import pytest

from tests.providers.noted import ENDPOINT, a_new_journal, journal, loaded, new_pool, opened_pool, wait_for
from xiaozhi.app.wiring import check
from xiaozhi.errors import VendorUnavailable
from xiaozhi.providers import pool
from xiaozhi.providers.pool import LeasedProviders, ProviderPool, vendor_limits
from xiaozhi.runtime.resilience import BreakerState

_a_new_journal = pytest.fixture(autouse=True)(a_new_journal)
providers = pytest.fixture(opened_pool)


# --- the providers of one configuration -------------------------------------------------------------------------------


def test_a_set_of_leases_leases_each_once_and_gives_all_back(providers: ProviderPool) -> None:
    leased = LeasedProviders(providers, loaded(selected_module={"LLM": "Own"}))

    assert leased.get("llm") is leased.get("llm", "Own")
    leased.get("asr")
    leased.release()
    leased.release()

    assert len(providers) == 0
    assert leased.get("llm").name == "Own", "what it had it may still name"
    with pytest.raises(VendorUnavailable, match="replaced"):
        leased.get("llm", "B")


def test_two_who_ask_at_once_get_one_lease(providers: ProviderPool) -> None:
    leased = LeasedProviders(providers, loaded())
    journal.may_warm_up.clear()
    asking = [gevent.spawn(leased.get, "llm", "Own") for _ in range(2)]
    wait_for("warming up Own")
    gevent.sleep(0)
    journal.may_warm_up.set()
    assert asking[0].get() is asking[1].get()

    leased.release()

    wait_for("closed Own")


def test_what_comes_after_the_release_is_given_back(providers: ProviderPool) -> None:
    leased = LeasedProviders(providers, loaded())
    journal.may_warm_up.clear()
    asking = gevent.spawn(leased.get, "llm", "Own")
    wait_for("warming up Own")
    leased.release()
    journal.may_warm_up.set()
    asking.join()

    assert isinstance(asking.exception, VendorUnavailable)
    wait_for("closed Own")


@pytest.mark.parametrize(
    ("blocks", "section", "chain"),
    [
        ({"A": {"fallback": ["B"]}}, [], ["A", "B"]),
        ({"A": {"fallback": "B"}}, ["C"], ["A", "B", "C"]),
        ({"A": {"fallback": ["B"]}, "B": {"fallback": ["C", "A"]}}, ["Own", "C"], ["A", "B", "C", "Own"]),
    ],
)
def test_a_block_names_its_own_fallbacks(
    providers: ProviderPool, blocks: dict[str, Any], section: list[str], chain: list[str]
) -> None:
    """They come before those of the section; theirs come behind them; nobody is asked twice."""
    configuration = loaded(LLM=blocks, fallback={"LLM": section})
    leased = LeasedProviders(providers, configuration)

    assert [each.name for each in leased.selected("llm").providers] == chain
    assert {name for kind, name in configuration.settings.in_use() if kind == "llm"} == set(chain)
    assert check(configuration) == []


def test_the_model_of_a_memory_has_its_own_fallbacks(providers: ProviderPool) -> None:
    configuration = loaded(
        selected_module={"Memory": "Asking"},
        LLM={"Own": {"fallback": ["Remote"]}},
        Memory={"Asking": {"llm": "Own"}},
        fallback={"LLM": ["C"]},
    )

    memory = providers.lease(configuration, "memory", "Asking").provider

    assert [each.name for each in memory.llm("Own").providers] == ["Own", "Remote"]
    assert ("llm", "Remote") in configuration.settings.in_use()


def test_fallbacks_stand_behind_the_selected_one(providers: ProviderPool) -> None:
    leased = LeasedProviders(providers, loaded(fallback={"LLM": ["B", "A", "Own"]}))

    assert [each.name for each in leased.selected("llm").providers] == ["A", "B", "Own"]
    assert leased.selected("tts") is leased.get("tts", "A")


def test_the_emergency_voice_is_leased_when_it_is_needed(providers: ProviderPool) -> None:
    quiet = loaded(TTS={"Espeak": {"type": "tests.e2e.voices:Beeper"}})
    leased = LeasedProviders(providers, quiet)
    assert len(providers) == 0

    voice = leased.emergency_voice()

    assert voice is not None
    assert voice.traits.offline and voice.traits.sample_rate == 16_000
    leased.release()
    assert len(providers) == 0


def test_an_installation_may_have_no_emergency_voice(providers: ProviderPool, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = loaded(TTS={"Espeak": {"type": "nobody"}})
    assert LeasedProviders(providers, broken).emergency_voice() is None

    monkeypatch.setattr(pool, "EMERGENCY_VOICE", "No such block")
    assert LeasedProviders(providers, loaded()).emergency_voice() is None


# --- limits and breakers ----------------------------------------------------------------------------------------------


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
    configuration = loaded(LLM={"A": {"max_concurrent": "many", "queue_size": -1}})

    assert [fault.key for fault in check(configuration)] == ["LLM.A.max_concurrent", "LLM.A.queue_size"]


def test_one_endpoint_has_one_breaker_whatever_it_is_called() -> None:
    heard: list[tuple[str, BreakerState]] = []
    configuration = loaded(LLM={"B": {"base_url": "http://127.0.0.1:9/A/v1/"}})
    opened = new_pool(heard)
    breakers = {name: opened.lease(configuration, "llm", name).provider.guard.breaker for name in "ABC"}

    assert breakers["A"] is breakers["B"]
    assert breakers["A"] is not breakers["C"]
    for _ in range(breakers["A"].options.min_volume):
        breakers["A"].record(breakers["A"].admit(), False)
    assert heard == [("LLM.A", BreakerState.OPEN), ("LLM.B", BreakerState.OPEN)]
    opened.close()


def test_a_fallback_has_a_breaker_of_its_own(providers: ProviderPool) -> None:
    configuration = loaded(LLM={"B": {"base_url": "http://127.0.0.1:9/A/v1"}}, fallback={"LLM": ["B"]})
    first, second = (providers.lease(configuration, "llm", name).provider for name in "AB")

    assert first.guard.breaker is not second.guard.breaker


def test_a_breaker_that_outlives_a_provider_forgets_it() -> None:
    """A and B share an endpoint; B changes with every reload, A never."""
    heard: list[tuple[str, BreakerState]] = []
    opened = new_pool(heard)
    address = "http://127.0.0.1:9/A/v1"
    kept = opened.lease(loaded(), "llm", "A")
    breaker = kept.provider.guard.breaker
    lease = opened.lease(loaded(LLM={"B": {"base_url": address}}), "llm", "B")
    for number in range(5):
        following = opened.lease(loaded(LLM={"B": {"base_url": address, "model_name": f"m{number}"}}), "llm", "B")
        assert following.provider.guard.breaker is breaker
        lease.release()
        lease = following
    gevent.sleep(0)

    for _ in range(breaker.options.min_volume):
        breaker.record(breaker.admit(), False)
    assert heard == [("LLM.A", BreakerState.OPEN), ("LLM.B", BreakerState.OPEN)]
    opened.close()
    assert breaker.listeners == []


def test_another_kind_at_the_same_address_is_another_endpoint(providers: ProviderPool) -> None:
    configuration = loaded(
        selected_module={"VLLM": "Eyes"}, VLLM={"Eyes": {**ENDPOINT, "base_url": "http://127.0.0.1:9/A/v1"}}
    )
    eyes, words = (providers.lease(configuration, *which).provider for which in (("vllm", "Eyes"), ("llm", "A")))

    assert eyes.guard.breaker is not words.guard.breaker


def test_the_guards_of_all_are_told() -> None:
    opened = new_pool()
    opened.lease(loaded(), "llm", "A")
    opened.lease(loaded(LLM={"A": {"api_key": "other"}}), "llm", "A")
    opened.lease(loaded(), "llm", "Own")

    assert [guard.name for guard in opened.guards] == ["LLM.A", "LLM.A"]
    opened.close()
