"""`selected_module.EndOfTurn: auto`: Smart Turn beside a recogniser on this machine, nothing beside a vendor."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.stage import merged
from tests.fakes.registered import configuration
from tests.fakes.sessions import make_services
from xiaozhi.app.wiring import check, make_agent, warnings
from xiaozhi.providers.end_of_turn.smart_turn import SmartTurn
from xiaozhi.providers.pool import ProviderPool
from xiaozhi.runtime.inference import InferencePool
from xiaozhi.session.agent import Agent
from xiaozhi.settings import Loaded, load

VENDOR = {
    "selected_module": {"ASR": "Far"},
    "ASR": {"Far": {"type": "openai", "api_key": "k", "base_url": "http://127.0.0.1:9/v1", "model_name": "m"}},
}
CHOSEN = {"selected_module": {"EndOfTurn": "SmartTurn"}}


def read(directory: Path, *changes: dict[str, Any]) -> Loaded:
    """Of fakes."""
    own = merged(configuration(directory), {"selected_module": {"EndOfTurn": "auto"}})
    for each in changes:
        own = merged(own, each)
    return load(environ={}, overrides=own)


@pytest.fixture(autouse=True)
def _no_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def pool() -> Iterator[ProviderPool]:
    inference = InferencePool(2)
    inference.start()
    opened = ProviderPool(inference, lambda report: None)
    yield opened
    opened.close()
    inference.close()


def agent_of(loaded: Loaded, pool: ProviderPool) -> Agent:
    return make_agent(loaded, pool, make_services(), on_unused=lambda agent: None)


@pytest.mark.parametrize(
    ("changes", "asked"),
    [
        ((), True),
        ((VENDOR,), False),
        ((VENDOR, CHOSEN), True),
        ((CHOSEN,), True),
        (({"selected_module": {"EndOfTurn": ""}},), False),
    ],
)
def test_beside_which_recognisers_it_is_asked(
    changes: tuple[dict[str, Any], ...], asked: bool, pool: ProviderPool, tmp_path: Path
) -> None:
    agent = agent_of(read(tmp_path, *changes), pool)

    assert isinstance(agent.providers.end_of_turn, SmartTurn) is asked
    assert ("end_of_turn" in agent.providers.names) is asked
    agent.close()


def test_a_block_that_is_not_there_is_not_missed(pool: ProviderPool, tmp_path: Path) -> None:
    loaded = read(tmp_path)
    loaded.settings.EndOfTurn.clear()
    agent = agent_of(loaded, pool)

    assert agent.providers.end_of_turn is None
    agent.close()


@pytest.mark.parametrize("changes", [(), (VENDOR,), (CHOSEN,)])
def test_its_options_are_checked(changes: tuple[dict[str, Any], ...], tmp_path: Path) -> None:
    faulty = read(tmp_path, *changes, {"EndOfTurn": {"SmartTurn": {"deadline_ms": 1}}})

    assert [fault.key for fault in check(faulty)] == ["EndOfTurn.SmartTurn.deadline_ms"]


@pytest.mark.parametrize(("changes", "warned"), [((), False), ((CHOSEN,), True)])
def test_only_who_chose_it_is_told_that_its_file_is_missing(
    changes: tuple[dict[str, Any], ...], warned: bool, tmp_path: Path
) -> None:
    found = [text for text in warnings(read(tmp_path, *changes)) if "EndOfTurn" in text]

    assert bool(found) is warned
    assert all("models fetch smart-turn-v3.2" in text for text in found)
