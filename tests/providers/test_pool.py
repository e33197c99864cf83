"""Live providers are leased by content: who shares, who does not, and when they are warmed up and closed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import gevent
import pytest
from gevent.event import Event

from tests.e2e.stage import merged
from tests.waiting import PATIENCE_S
from xiaozhi.app.wiring import check
from xiaozhi.chat import CallContext, Message, ToolCall, ToolSpec
from xiaozhi.errors import SettingsError, VendorTimeout, VendorUnavailable
from xiaozhi.providers import pool
from xiaozhi.providers.contracts.intent import Intent, Intention
from xiaozhi.providers.contracts.llm import Llm, LlmTraits
from xiaozhi.providers.contracts.memory import Memory, MemoryTraits
from xiaozhi.providers.contracts.provider import ProviderOptions, Services
from xiaozhi.providers.pool import LeasedProviders, ProviderPool, vendor_limits
from xiaozhi.providers.registry import provider
from xiaozhi.runtime.inference import InferencePool
from xiaozhi.runtime.resilience import BreakerState
from xiaozhi.settings import Loaded, lay_over, load

ENDPOINT = {"type": "openai", "api_key": "test-key", "model_name": "m"}


class Journal:
    """What the providers of these tests went through, in order, and what holds or breaks them."""

    def __init__(self) -> None:
        self.entries: list[str] = []
        self.may_warm_up = Event()
        self.may_warm_up.set()
        self.may_close = Event()
        self.may_close.set()
        self.error: Exception | None = None


journal = Journal()


@pytest.fixture(autouse=True)
def _a_new_journal() -> None:
    journal.__init__()  # type: ignore[misc]


class NotedOptions(ProviderOptions):
    """`file` may name a file."""

    file: str = ""


class _Noted:
    """Tells the journal of its life."""

    name = ""

    def __init__(self, options: NotedOptions) -> None:
        self.options = options
        journal.entries.append("made")

    def warm_up(self) -> None:
        journal.entries.append(f"warming up {self.name}")
        journal.may_warm_up.wait(PATIENCE_S)
        if journal.error is not None:
            raise journal.error

    def close(self) -> None:
        journal.may_close.wait(PATIENCE_S)
        journal.entries.append(f"closed {self.name}")


@provider("llm", "noted", NotedOptions)
class NotedLlm(_Noted, Llm):
    """A language model on this machine."""

    traits = LlmTraits(offline=True)

    def chat(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec], context: CallContext
    ) -> Iterator[str | ToolCall]:
        yield "words"


@provider("llm", "remote", NotedOptions)
class RemoteLlm(NotedLlm):
    """A language model of a vendor."""

    traits = LlmTraits(offline=False)


@provider("memory", "asking", NotedOptions)
class AskingMemory(Memory):
    """A memory that works with a language model."""

    needs_services: ClassVar[bool] = True
    traits = MemoryTraits(offline=True)

    def __init__(self, options: NotedOptions, services: Services) -> None:
        self.services = services

    def llm(self, name: str = "") -> Any:
        """What the services give it."""
        assert self.services.provider is not None
        return self.services.provider("llm", name)

    def recall(self, device_id: str, query: str) -> str:
        return ""

    def save(self, device_id: str, messages: Sequence[Message], session_id: str) -> None:
        return

    def close(self) -> None:
        journal.entries.append("closed the memory")


@provider("intent", "plain", NotedOptions)
class PlainIntent(Intent):
    """An intent that works alone."""

    def __init__(self, options: NotedOptions) -> None:
        del options

    def classify(
        self, text: str, history: Sequence[Message], tools: Sequence[ToolSpec], context: CallContext
    ) -> Intention:
        return Intention()


def loaded(**overrides: Any) -> Loaded:
    """Settings with language models A, B and C at a vendor, of which A is selected, and Own on this machine."""
    blocks: dict[str, Any] = {name: {**ENDPOINT, "base_url": f"http://127.0.0.1:9/{name}/v1"} for name in "ABC"}
    blocks["Own"] = {"type": f"{__name__}:NotedLlm"}
    blocks["Remote"] = {"type": f"{__name__}:RemoteLlm"}
    voice = {"type": "openai", "api_key": "k", "api_url": "http://127.0.0.1:9/v1", "model": "m", "voice": "v"}
    everything = {
        "selected_module": {"LLM": "A", "ASR": "A", "TTS": "A"},
        "LLM": blocks,
        "ASR": {"A": blocks["A"]},
        "TTS": {"A": voice},
        "Memory": {"Asking": {"type": f"{__name__}:AskingMemory"}},
        "Intent": {"Plain": {"type": f"{__name__}:PlainIntent"}},
    }
    return load(environ={}, overrides=merged(everything, overrides))


def new_pool(heard: list[tuple[str, BreakerState]] | None = None, **limits: Any) -> ProviderPool:
    """A pool whose breakers tell `heard`."""
    told = heard if heard is not None else []
    return ProviderPool(InferencePool(2), lambda report: None, lambda name, state: told.append((name, state)), **limits)


@pytest.fixture
def providers() -> Iterator[ProviderPool]:
    """A pool, closed at the end."""
    opened = new_pool()
    yield opened
    journal.may_close.set()
    opened.close()


def wait_for(entry: str) -> None:
    """Until the journal has this entry."""
    deadline = gevent.Timeout(PATIENCE_S, AssertionError(f"{entry!r} is not in {journal.entries}"))
    with deadline:
        while entry not in journal.entries:
            gevent.sleep(0)


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
