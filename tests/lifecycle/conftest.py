"""Sound and words that are made once; a house per module that is put in order between tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from loadtest.simulator import speech
from loadtest.vendors.openai_vendor import TTS, OpenAiVendor
from loadtest.vendors.sounds import Sounds
from tests.e2e.stage import SHORT
from tests.lifecycle.house import House, open_house
from tests.redis_server import RedisServer, own_server
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


@pytest.fixture
def vendor(sounds: Sounds) -> Iterator[OpenAiVendor]:
    """What servers that are processes of their own talk to."""
    with OpenAiVendor(sounds=sounds, reply="Fine.", keep_alive=False) as made:
        assert isinstance(made, OpenAiVendor)
        made.stand(TTS, SHORT)
        yield made


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """One that a test may kill."""
    server = own_server()
    server.start()
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def _log_as_before() -> Iterator[None]:
    """Whoever configured the log of this process takes it back."""
    yield
    logs.shut_down()


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
