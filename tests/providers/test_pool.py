"""Live providers are leased by content: who shares, who does not, and when they are warmed up and closed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gevent
import pytest

from tests.providers.noted import NotedLlm, a_new_journal, journal, loaded, new_pool, opened_pool, wait_for
from xiaozhi.errors import SettingsError, VendorTimeout, VendorUnavailable
from xiaozhi.providers import pool
from xiaozhi.providers.pool import ProviderPool
from xiaozhi.settings import lay_over

_a_new_journal = pytest.fixture(autouse=True)(a_new_journal)
providers = pytest.fixture(opened_pool)


# --- who shares -------------------------------------------------------------------------------------------------------


def test_the_same_content_is_the_same_provider(providers: ProviderPool) -> None:
    """In one configuration, and in another one that says the same about it."""
    first = providers.lease(loaded(), "llm", "Own")
    second = providers.lease(loaded(prompt="You are somebody else."), "llm", "Own")

    assert second.provider is first.provider
    assert journal.entries == ["made", "warming up Own"]


@pytest.mark.parametrize(
    "other",
    [
        {"LLM": {"Own": {"file": "x"}}},
        {"log": {"data_dir": "elsewhere"}},
        {"server": {"timezone_offset": 1}},
        {"ai_providers": {"llm": {"timeout": 3}}},
        {"LLM": {"Own": {"max_concurrent": 3}}},
        {"fallback": {"LLM": ["Own"]}},
    ],
)
def test_other_content_is_another_provider(providers: ProviderPool, other: Mapping[str, Any]) -> None:
    first = providers.lease(loaded(), "llm", "Own")

    assert providers.lease(loaded(**other), "llm", "Own").provider is not first.provider


def test_every_setting_of_a_voice_is_part_of_the_key_that_its_sound_is_kept_under(providers: ProviderPool) -> None:
    changes: list[dict[str, Any]] = [
        {"TTS": {"A": {key: value}}}
        for key, value in {
            "voice": "other",
            "speed": 1.5,
            "instructions": "whisper",
            "extra_body": {"emotion": "sad"},
            "headers": {"X-Voice": "other"},
            "response_format": "mp3",
            "a key of tomorrow": 1,
        }.items()
    ]
    keys = [providers.lease(loaded(**change), "tts", "A").provider.traits.voice_key for change in ({}, *changes)]
    again = providers.lease(loaded(), "tts", "A").provider.traits.voice_key
    assert len(set(keys)) == len(keys)
    assert again == keys[0]


def test_another_name_is_another_provider(providers: ProviderPool) -> None:
    """Its name stands in metrics and logs."""
    configuration = loaded(LLM={"Twin": {"type": f"{__name__}:NotedLlm"}})

    first, second = (providers.lease(configuration, "llm", name).provider for name in ("Own", "Twin"))

    assert (first.name, second.name) == ("Own", "Twin")


def test_a_file_that_the_block_names_is_part_of_it(providers: ProviderPool, tmp_path: Path) -> None:
    named = tmp_path / "rules.txt"
    named.write_text("one")
    changes = {"Own": {"file": str(named)}}
    first = providers.lease(loaded(LLM=changes), "llm", "Own").provider
    assert providers.lease(loaded(LLM=changes), "llm", "Own").provider is first

    named.write_text("another")

    assert providers.lease(loaded(LLM=changes), "llm", "Own").provider is not first


def test_what_a_devices_settings_leave_alone_is_the_same_without_another_look(
    providers: ProviderPool, tmp_path: Path
) -> None:
    """A file that has changed counts from the next reading of the configuration on."""
    named = tmp_path / "rules.txt"
    named.write_text("one")
    below = loaded(LLM={"Own": {"file": str(named)}})
    first = providers.lease(below, "llm", "Own").provider
    named.write_text("another")

    for overlay in ({"prompt": "You are a pirate."}, {"TTS": {"A": {"voice": "x"}}}, {"tts_timeout": 7}):
        assert providers.lease(lay_over(below, overlay, "a device"), "llm", "Own").provider is first
    own = lay_over(below, {"LLM": {"Own": {"key": "mine"}}}, "a device")
    assert providers.lease(own, "llm", "Own").provider is not first


@pytest.mark.parametrize(
    "overlay",
    [
        {"LLM": {"A": {"api_key": "other"}}},
        {"selected_module": {"LLM": "B"}},
        {"fallback": {"LLM": ["C"]}},
        {"Memory": {"Asking": {"llm": "C"}}},
    ],
    ids=str,
)
def test_what_a_memory_works_with_counts_wherever_a_device_has_its_own(
    providers: ProviderPool, overlay: dict[str, Any]
) -> None:
    below = loaded()
    first = providers.lease(below, "memory", "Asking").provider

    assert providers.lease(lay_over(below, overlay, "a device"), "memory", "Asking").provider is not first
    assert providers.lease(lay_over(below, {"prompt": "x"}, "a device"), "memory", "Asking").provider is first


# --- until when -------------------------------------------------------------------------------------------------------


def test_the_last_release_closes_it(providers: ProviderPool) -> None:
    first, second = (providers.lease(loaded(), "llm", "Own") for _ in range(2))

    first.release()
    first.release()
    gevent.sleep(0)
    assert len(providers) == 1
    second.release()

    assert len(providers) == 0, "whoever comes now gets another one"
    wait_for("closed Own")
    assert journal.entries == ["made", "warming up Own", "closed Own"]


def test_who_releases_does_not_wait_for_the_end(providers: ProviderPool) -> None:
    lease = providers.lease(loaded(), "llm", "Own")
    journal.may_close.clear()

    lease.release()
    again = providers.lease(loaded(), "llm", "Own")

    assert again.provider is not lease.provider
    assert journal.entries.count("made") == 2
    assert "closed Own" not in journal.entries


def test_an_end_that_fails_harms_nobody(providers: ProviderPool, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: NotedLlm) -> None:
        journal.entries.append("tried")
        raise OSError("no")

    monkeypatch.setattr(NotedLlm, "close", broken)
    providers.lease(loaded(), "llm", "Own").release()

    wait_for("tried")
    providers.lease(loaded(), "llm", "Own")


# --- warming up -------------------------------------------------------------------------------------------------------


def test_it_is_warmed_up_once_for_all_who_wait(providers: ProviderPool) -> None:
    journal.may_warm_up.clear()
    leasing = [gevent.spawn(providers.lease, loaded(), "llm", "Own") for _ in range(3)]
    wait_for("warming up Own")
    gevent.sleep(0)
    assert not any(greenlet.ready() for greenlet in leasing)

    journal.may_warm_up.set()
    gevent.joinall(leasing, raise_error=True)

    assert journal.entries == ["made", "warming up Own"]
    assert len({greenlet.value.provider for greenlet in leasing}) == 1


def test_a_warm_up_that_fails_fails_for_all_who_wait_and_is_not_kept(providers: ProviderPool) -> None:
    journal.may_warm_up.clear()
    journal.error = RuntimeError("the model file is damaged")
    leasing = [gevent.spawn(providers.lease, loaded(), "llm", "Own") for _ in range(2)]
    wait_for("warming up Own")
    gevent.sleep(0)

    journal.may_warm_up.set()
    gevent.joinall(leasing)

    assert [str(greenlet.exception) for greenlet in leasing] == ["the model file is damaged"] * 2
    wait_for("closed Own")
    assert len(providers) == 0
    journal.error = None
    assert providers.lease(loaded(), "llm", "Own").provider.name == "Own"
    assert journal.entries.count("made") == 2


def test_when_who_warms_it_up_is_killed_another_one_takes_over(providers: ProviderPool) -> None:
    journal.may_warm_up.clear()
    first = gevent.spawn(providers.lease, loaded(), "llm", "Own")
    wait_for("warming up Own")
    second = gevent.spawn(providers.lease, loaded(), "llm", "Own")
    gevent.sleep(0)

    first.kill()
    journal.may_warm_up.set()
    second.get()

    assert journal.entries == ["made", "warming up Own", "warming up Own"]


def test_nobody_waits_for_ever(providers: ProviderPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "WARM_UP_SECONDS", 0.01)
    journal.may_warm_up.clear()
    first = gevent.spawn(providers.lease, loaded(), "llm", "Own")
    wait_for("warming up Own")

    with pytest.raises(VendorTimeout, match="not ready"):
        providers.lease(loaded(), "llm", "Own")

    journal.may_warm_up.set()
    assert first.get().provider.name == "Own"


# --- those that work with another one ---------------------------------------------------------------------------------


def test_a_memory_holds_the_language_model_that_it_works_with(providers: ProviderPool) -> None:
    configuration = loaded(selected_module={"LLM": "Own"})
    lease = providers.lease(configuration, "memory", "Asking")
    model = providers.lease(configuration, "llm", "Own")
    model.release()

    assert lease.provider.llm() is model.provider
    assert lease.provider.llm("Own") is model.provider
    with pytest.raises(VendorUnavailable):
        lease.provider.llm("A")
    lease.release()

    wait_for("closed Own")
    assert journal.entries[-2:] == ["closed the memory", "closed Own"]


def test_with_another_language_model_it_is_another_memory(providers: ProviderPool) -> None:
    first = providers.lease(loaded(), "memory", "Asking").provider

    assert providers.lease(loaded(prompt="Another."), "memory", "Asking").provider is first
    assert providers.lease(loaded(selected_module={"LLM": "B"}), "memory", "Asking").provider is not first
    assert providers.lease(loaded(LLM={"A": {"api_key": "other"}}), "memory", "Asking").provider is not first
    named = providers.lease(loaded(Memory={"Asking": {"llm": "C"}}), "memory", "Asking").provider
    assert named.llm("C").name == "C"


def test_what_works_alone_does_not_care_about_the_language_model(providers: ProviderPool) -> None:
    first = providers.lease(loaded(), "intent", "Plain").provider

    assert providers.lease(loaded(selected_module={"LLM": "B"}), "intent", "Plain").provider is first
    assert [guard.name for guard in providers.guards] == ["Intent.Plain"]


def test_two_who_lease_a_memory_at_once_share_it(providers: ProviderPool) -> None:
    """Its language model is leased first, which takes a while; the second finds what the first has made."""
    configuration = loaded(selected_module={"LLM": "Own"})
    journal.may_warm_up.clear()
    leasing = [gevent.spawn(providers.lease, configuration, "memory", "Asking") for _ in range(2)]
    wait_for("warming up Own")
    journal.may_warm_up.set()
    first, second = (greenlet.get() for greenlet in leasing)

    assert first.provider is second.provider
    first.release()
    second.release()
    wait_for("closed Own")
    assert len(providers) == 0, "no lease of the language model is left"


def test_a_memory_that_cannot_be_made_gives_its_language_model_back(providers: ProviderPool) -> None:
    configuration = loaded(selected_module={"LLM": "Own"}, Memory={"Asking": {"max_concurrent": "many"}})

    with pytest.raises(SettingsError, match="max_concurrent"):
        providers.lease(configuration, "memory", "Asking")

    assert len(providers) == 0


# --- how many ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("block", "where"), [("Own", "on this machine"), ("Remote", "at vendors")])
def test_there_is_a_most(block: str, where: str) -> None:
    few = new_pool(max_models=2, max_clients=2)
    leases = [few.lease(loaded(LLM={block: {"number": number}}), "llm", block) for number in range(2)]
    few.lease(loaded(), "llm", "Remote" if block == "Own" else "Own")

    with pytest.raises(SettingsError, match=f"one more LLM {where}, beside 2 different ones"):
        few.lease(loaded(LLM={block: {"number": 3}}), "llm", block)

    assert journal.entries[-1].startswith("closed")
    assert few.lease(loaded(LLM={block: {"number": 1}}), "llm", block).provider is leases[1].provider
    leases[0].release()
    few.lease(loaded(LLM={block: {"number": 3}}), "llm", block)
    few.close()


def test_memories_on_this_machine_hold_no_models() -> None:
    few = new_pool(max_models=1)
    for name in "ABC":
        few.lease(loaded(selected_module={"LLM": name}), "memory", "Asking")

    assert sorted(guard.name for guard in few.guards) == ["LLM.A", "LLM.B", "LLM.C"]
    few.close()


# --- the end of the pool ----------------------------------------------------------------------------------------------


def test_the_end_closes_what_is_still_in_use() -> None:
    opened = new_pool()
    lease = opened.lease(loaded(), "llm", "Own")

    opened.close()
    lease.release()
    opened.close()

    assert journal.entries == ["made", "warming up Own", "closed Own"]
    with pytest.raises(VendorUnavailable, match="stopping"):
        opened.lease(loaded(), "llm", "Own")


def test_the_end_does_not_wait_for_ever() -> None:
    opened = new_pool()
    opened.lease(loaded(), "llm", "Own")
    journal.may_close.clear()

    opened.close(0.01)

    assert "closed Own" not in journal.entries
