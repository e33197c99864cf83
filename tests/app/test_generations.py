"""One configuration follows another, and agents come and go with those who hold them; between fake providers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent.event import Event
from structlog.testing import capture_logs

from tests.e2e.stage import merged
from tests.fakes.registered import RegisteredLlm, configuration, lives
from tests.fakes.sessions import FakeMemories, FakeQuota, make_services
from tests.fakes.thinking import FakeVllm
from tests.waiting import PATIENCE_S
from xiaozhi.app import generations as module
from xiaozhi.app.agents import ConfiguredAgents
from xiaozhi.app.generations import Generations
from xiaozhi.app.telemetry import Observer
from xiaozhi.errors import Fault, Overloaded, SettingsError, StorageError
from xiaozhi.providers.pool import ProviderPool
from xiaozhi.runtime.inference import InferencePool
from xiaozhi.runtime.metrics import Metrics
from xiaozhi.session.agent import Agent
from xiaozhi.session.link import Identity
from xiaozhi.settings import Loaded, load

ANOTHER_MODEL = {"LLM": {"Own": {"model": "another"}}}


class Site:
    """Generations, and what they read."""

    def __init__(self, directory: Path) -> None:
        self.settings: dict[str, Any] = dict(configuration(directory))
        self.memories = FakeMemories()
        self.quota = FakeQuota()
        self.reloads: list[bool] = []
        self.adopted: list[tuple[Loaded, Loaded]] = []
        self.refuses: Exception | None = None
        self.pool = ProviderPool(InferencePool(1), lambda report: None)
        self.generations = Generations(
            read=self.read,
            adopt=self.adopt,
            services=make_services(memories=self.memories, quota=self.quota),
            provider_pool=self.pool,
            observer=Observer(Metrics()),
            on_reload=self.reloads.append,
        )
        self.overlays: dict[str, dict[str, Any]] = {}
        self.agents = ConfiguredAgents(self.generations, self.overlays)
        self._found: Loaded | SettingsError
        self.change({})

    def read(self) -> Loaded:
        """The configuration as it is now."""
        if isinstance(self._found, SettingsError):
            raise self._found
        return self._found

    def adopt(self, old: Loaded, new: Loaded) -> None:
        """What the server does about a new one."""
        self.adopted.append((old, new))
        if self.refuses is not None:
            raise self.refuses

    def change(self, changes: Mapping[str, Any]) -> None:
        """What the next reload reads. Read here and now: it takes longer than a reload should keep the hub."""
        self.settings = merged(self.settings, changes)
        try:
            self._found = load(environ={}, overrides=self.settings)
        except SettingsError as error:
            self._found = error

    def own(self, overlay: Mapping[str, Any]) -> Agent:
        """The agent of a device with these settings, held."""
        return self.generations.own_agent(overlay, "device D")

    @property
    def agent(self) -> Agent:
        """The default one."""
        assert self.generations.current is not None
        return self.generations.current.agent


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Opened; closed at the end, when no provider may be left."""
    opened = Site(tmp_path)
    opened.generations.open(opened.read())
    yield opened
    opened.generations.close()
    opened.pool.close()
    assert lives == []


def until(condition: Callable[[], Any]) -> None:
    """Let the others work until it holds."""
    with gevent.Timeout(PATIENCE_S, AssertionError("it did not happen")):
        while not condition():
            gevent.sleep(0)


# --- reload -----------------------------------------------------------------------------------------------------------


def test_a_reload_replaces_the_agent_and_shares_what_did_not_change(site: Site) -> None:
    before = site.agent
    site.change(ANOTHER_MODEL)

    assert site.generations.reload() == ()

    assert site.agent is not before
    assert site.agent.providers.llm is not before.providers.llm
    assert site.agent.providers.vad is before.providers.vad
    until(lambda: site.generations.in_use == 1)
    until(lambda: len(lives) == 6)
    assert site.reloads == [True]
    [(old, new)] = site.adopted
    assert (old.settings.block("llm", "Own").get("model"), new.settings.block("llm", "Own")["model"]) == (
        None,
        "another",
    )


def test_the_old_agent_lives_as_long_as_somebody_holds_it(site: Site) -> None:
    before = site.agents.default()
    old = site.generations.current
    assert old is not None
    assert old.sessions == 1
    site.change(ANOTHER_MODEL)

    assert site.generations.reload() == ()
    gevent.sleep(0)

    assert (old.sessions, site.generations.in_use) == (1, 2)
    assert before.providers.llm in lives
    before.release()
    until(lambda: site.generations.in_use == 1)
    until(lambda: before.providers.llm not in lives)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"LLM": {"Own": {"broken": True}}}, "providers"),
        ({"LLM": {"Own": {"type": "nobody"}}}, "LLM.Own.type"),
        ({"asr_timeout": -1}, "asr_timeout"),
        ({"prompt_template": str(Path(__file__).with_name("broken-template.txt"))}, "prompt_template"),
    ],
)
def test_a_faulty_configuration_is_refused_and_leaves_nothing_behind(
    site: Site, changes: Mapping[str, Any], key: str
) -> None:
    before, alive = site.agent, list(lives)
    site.change(changes)

    assert [fault.key for fault in site.generations.reload()] == [key]

    assert site.agent is before
    until(lambda: lives == alive)
    assert site.reloads == [False]


@pytest.mark.parametrize(
    ("error", "key"),
    [(SettingsError([Fault("log.log_dir", "x", "a place")]), "log.log_dir"), (OSError("disk"), "the configuration")],
)
def test_what_cannot_be_adopted_is_refused_too(site: Site, error: Exception, key: str) -> None:
    before = site.agent
    site.refuses = error
    site.change(ANOTHER_MODEL)

    assert [fault.key for fault in site.generations.reload()] == [key]

    assert site.agent is before
    until(lambda: len(lives) == 6)


def test_reloads_come_one_after_the_other(site: Site) -> None:
    for reload in [gevent.spawn(site.generations.reload) for _ in range(3)]:
        assert reload.get() == ()

    until(lambda: site.generations.in_use == 1)
    assert site.reloads == [True] * 3


def test_after_the_end_there_is_no_reload(site: Site) -> None:
    site.generations.close()
    site.generations.close()

    assert [fault.key for fault in site.generations.reload()] == ["the server"]
    with pytest.raises(SettingsError, match="stopping"):
        site.own({"prompt": "Hi."})
    with pytest.raises(Overloaded):
        site.agents.default()
    assert site.agents.vllm("d") is None


def test_an_end_in_the_middle_of_a_reload(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    began, go = Event(), Event()

    def slow(self: RegisteredLlm) -> None:
        began.set()
        go.wait(PATIENCE_S)

    monkeypatch.setattr(RegisteredLlm, "warm_up", slow)
    site.change(ANOTHER_MODEL)
    reloading = gevent.spawn(site.generations.reload)
    began.wait(PATIENCE_S)
    site.generations.close()
    go.set()

    assert [fault.key for fault in reloading.get()] == ["the server"]
    until(lambda: lives == [])


def test_the_first_configuration_is_refused_like_any_other(tmp_path: Path) -> None:
    opened = Site(tmp_path)
    opened.change({"LLM": {"Own": {"broken": True}}})

    with pytest.raises(SettingsError, match="damaged"):
        opened.generations.open(opened.read())

    assert opened.generations.in_use == 0
    opened.pool.close()
    assert lives == []


# --- agents of devices with settings of their own ---------------------------------------------------------------------


def test_equal_settings_are_one_agent(site: Site) -> None:
    first = site.own({"prompt": "Ahoy.", "language": "Latin"})
    second = site.own({"language": "Latin", "prompt": "Ahoy."})

    assert second is first
    assert first.settings.prompt == "Ahoy."
    assert first.providers == site.agent.providers
    first.release()
    gevent.sleep(0)
    assert site.own({"prompt": "Ahoy.", "language": "Latin"}) is first
    second.release()
    first.release()
    assert site.generations.own_agent_in_use({"prompt": "Ahoy.", "language": "Latin"}) is None


def test_two_who_come_at_once_share_it(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    began, go = Event(), Event()

    def slow(self: RegisteredLlm) -> None:
        began.set()
        go.wait(PATIENCE_S)

    monkeypatch.setattr(RegisteredLlm, "warm_up", slow)
    coming = [gevent.spawn(site.own, ANOTHER_MODEL) for _ in range(3)]
    began.wait(PATIENCE_S)
    gevent.sleep(0)
    go.set()
    first, *others = (greenlet.get() for greenlet in coming)

    assert all(other is first for other in others)
    assert first.holders.count == 3
    for _ in range(3):
        first.release()
    until(lambda: len(lives) == 6)


def test_those_who_come_late_find_what_was_made_meanwhile(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only so many agents are made at once; who has waited for that need not make the same once more."""
    monkeypatch.setattr(module, "MAKERS", 1)
    narrow = Site(Path(site.settings["log"]["data_dir"]))
    narrow.generations.open(narrow.read())
    coming = [gevent.spawn(narrow.own, ANOTHER_MODEL) for _ in range(2)]

    first, second = (greenlet.get() for greenlet in coming)

    assert second is first
    narrow.generations.close()
    narrow.pool.close()


def test_its_own_provider_is_closed_when_it_leaves(site: Site) -> None:
    agent = site.own(ANOTHER_MODEL)
    assert len(lives) == 7
    assert agent.providers.vad is site.agent.providers.vad

    agent.release()

    until(lambda: len(lives) == 6)
    assert site.agent.providers.llm in lives


def test_every_fault_of_its_settings_is_told_and_nothing_is_left(site: Site) -> None:
    faulty = {"LLM": {"Own": {"type": "nobody"}}, "TTS": {"Own": {"type": "nobody"}}}
    with pytest.raises(SettingsError) as caught:
        site.own(faulty)
    assert [fault.key for fault in caught.value.faults] == ["LLM.Own.type", "TTS.Own.type"]

    with pytest.raises(SettingsError, match="damaged"):
        site.own({"LLM": {"Own": {"broken": True}}})

    until(lambda: len(lives) == 6)
    assert site.agent.holders.count == 1


def test_tools_of_its_own_are_made_anew_and_unknown_ones_named(site: Site) -> None:
    with capture_logs() as lines:
        agent = site.own({"Intent": {"Own": {"functions": ["get_time", "fly"]}}, "plugs": 1})

    assert agent.plugins is not site.agent.plugins
    notes = [line["note"] for line in lines if line["event"] == "configuration"]
    assert any("fly" in note for note in notes)
    assert any(note.startswith("device D: plugs means nothing here") for note in notes)
    agent.release()


def test_what_has_no_effect_is_told_once_and_not_for_each_device(site: Site) -> None:
    """Many devices have the same settings, or agents of their own with the same blocks."""
    with capture_logs() as lines:
        for number in range(3):
            overlay = {"plugs": {}, "prompt": f"You are number {number}.", "LLM": {"Own": {"model": "m", "fly": True}}}
            site.generations.own_agent(overlay, f"the console, for device {number}").release()

    notes = [line["note"] for line in lines if line["event"] == "configuration"]
    assert sum("fly" in note for note in notes) == 1
    assert sum("plugs" in note for note in notes) == 1


def test_it_outlives_its_configuration(site: Site) -> None:
    agent = site.own({"prompt": "Ahoy."})
    old = site.generations.current
    assert old is not None
    site.change(ANOTHER_MODEL)
    assert site.generations.reload() == ()
    until(lambda: old.sessions == 0)
    gevent.sleep(0)
    assert site.generations.in_use == 2
    assert site.generations.own_agent_in_use({"prompt": "Ahoy."}) is agent

    assert site.own({"prompt": "Ahoy."}) is not agent, "who comes now gets the new configuration"
    agent.release()

    until(lambda: site.generations.in_use == 1)


def test_it_is_made_although_its_configuration_is_replaced_meanwhile(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, go = Event(), Event()
    warm_up = RegisteredLlm.warm_up

    def slow(self: RegisteredLlm) -> None:
        if (self.options.model_extra or {}).get("model") == "slow":
            began.set()
            go.wait(PATIENCE_S)
        warm_up(self)

    monkeypatch.setattr(RegisteredLlm, "warm_up", slow)
    coming = gevent.spawn(site.own, {"LLM": {"Own": {"model": "slow"}}})
    began.wait(PATIENCE_S)
    assert site.generations.reload() == ()
    gevent.sleep(0)
    assert site.generations.in_use == 2
    go.set()
    agent = coming.get()

    assert agent.providers.llm in lives
    agent.release()
    until(lambda: site.generations.in_use == 1)


def test_a_limit_of_its_own_is_counted(site: Site) -> None:
    plain = site.own({"prompt": "Ahoy."})
    assert (plain.output_limit, site.agent.output_limit, site.quota.own_limits) == (None, None, False)
    limited = site.own({"device_max_output_size": 10})

    assert (limited.output_limit, site.quota.own_limits) == (10, True)
    plain.release()
    limited.release()


def test_a_limit_that_cannot_be_counted_is_refused(site: Site) -> None:
    site.quota.error = StorageError("the disk is full")

    with pytest.raises(SettingsError, match=r"device_max_output_size: 10 - .*the disk is full"):
        site.own({"device_max_output_size": 10})


# --- memories ---------------------------------------------------------------------------------------------------------

ANOTHER_MEMORY = {"Memory": {"Own": {"pages": 2}}}


def test_a_memory_is_closed_when_it_has_saved_everything(site: Site) -> None:
    agent = site.own(ANOTHER_MEMORY)
    site.memories.settled.clear()
    agent.release()
    gevent.sleep(0)
    assert agent.providers.memory in lives
    assert site.memories.asked == [agent.providers.memory]

    site.memories.settled.set()

    until(lambda: agent.providers.memory not in lives)


def test_a_memory_that_others_use_is_not_waited_for(site: Site) -> None:
    agent = site.own(ANOTHER_MODEL)
    site.memories.settled.clear()

    agent.release()

    until(lambda: agent.providers.llm not in lives)
    assert site.memories.asked == []
    site.memories.settled.set()


def test_no_memory_is_waited_for_for_ever(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SETTLE_SECONDS", 0.01)
    agent = site.own(ANOTHER_MEMORY)
    site.memories.settled.clear()
    with capture_logs() as lines:
        agent.release()
        until(lambda: agent.providers.memory not in lives)

    assert "a memory is closed before it has saved everything" in [line["event"] for line in lines]


# --- which agent ------------------------------------------------------------------------------------------------------


def test_a_device_is_known_however_its_address_is_written(site: Site) -> None:
    site.overlays["02:aa"] = {"prompt": "Ahoy."}
    device, other = Identity("02:AA"), Identity("02:bb")
    assert (site.agents.has_own(device), site.agents.has_own(other)) == (True, False)

    agent = site.agents.resolve(device, None)
    plain = site.agents.resolve(other, None)

    assert agent.settings.prompt == "Ahoy."
    assert plain is site.agent
    agent.release()
    plain.release()


def test_faults_name_the_device(site: Site) -> None:
    site.overlays["02:aa"] = {"asr_timeout": "soon"}

    with pytest.raises(SettingsError, match=r"asr_timeout: 'soon' .*set by device 02:aa"):
        site.agents.resolve(Identity("02:AA"), None)


def test_pictures_go_to_the_model_of_the_device(site: Site) -> None:
    site.overlays["02:aa"] = {"prompt": "Ahoy."}
    assert site.agents.vllm("02:AA") is None
    agent = site.agents.resolve(Identity("02:AA"), None)
    sees = FakeVllm()
    object.__setattr__(agent.providers, "vllm", sees)

    assert site.agents.vllm("02:AA") is sees
    assert site.agents.vllm("02:bb") is None
    agent.release()
    assert site.agents.vllm("02:AA") is None
