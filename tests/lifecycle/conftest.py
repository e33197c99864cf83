"""Sound and words that are made once; a house per module that is put in order between tests."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest
from structlog._config import BoundLoggerLazyProxy

from loadtest.simulator import speech
from loadtest.vendors.sounds import Sounds
from tests.lifecycle.house import House, open_house
from xiaozhi.runtime import logs


@pytest.fixture(scope="session")
def sounds() -> Sounds:
    """Speech-like sound for all vendors of the run."""
    made = Sounds()
    for seconds in (0.25, 0.5, 1.0, 10.0):
        made.body("wav", seconds)
    return made


@pytest.fixture(scope="session")
def question() -> speech.Speech:
    """A spoken question."""
    return speech.speak("what is up with you")


@pytest.fixture(scope="module")
def house_settings() -> dict[str, Any]:
    """Settings of this module's house; modules override it."""
    return {}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, sounds: Sounds, house_settings: dict[str, Any]) -> Iterator[House]:
    """One server and its vendor for a whole module."""
    with open_house(tmp_path_factory.mktemp("data"), sounds, house_settings) as opened:
        yield opened


@pytest.fixture(autouse=True)
def _log_as_before() -> Iterator[None]:
    """Whoever configured the log of this process takes it back; loggers that were used meanwhile would remember it."""
    yield
    logs.shut_down()
    for name, module in list(sys.modules.items()):
        logger = vars(module).get("log") if name.startswith("xiaozhi.") else None
        if isinstance(logger, BoundLoggerLazyProxy):
            vars(logger).pop("bind", None)


@pytest.fixture(autouse=True)
def _in_order(request: pytest.FixtureRequest, _no_leaks: None) -> Iterator[None]:
    """A fresh vendor before each test; afterwards no device is left."""
    if "house" not in request.fixturenames:
        yield
        return
    house: House = request.getfixturevalue("house")
    house.reset()
    yield
    house.close_devices()
