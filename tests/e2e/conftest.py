"""What every end-to-end test gets: sounds made once, words spoken once, a stage per module that is put in order between
tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from loadtest.simulator import speech
from loadtest.vendors.sounds import Sounds
from tests.e2e.stage import Stage, open_stage

WORDS = ("what is up with you", "tell me a long story", "and one more thing please")


@pytest.fixture(scope="session")
def sounds() -> Sounds:
    """Speech-like sound for all vendors of the run."""
    made = Sounds()
    for form in ("wav", "opus", "mp3", "pcm"):
        for seconds in (0.25, 0.5, 1.0, 10.0):
            made.body(form, seconds)
    return made


@pytest.fixture(scope="session")
def words() -> Callable[[str], speech.Speech]:
    """text -> spoken words; those of WORDS cost one child process together."""
    speech.speak_all(WORDS)
    return speech.speak


@pytest.fixture(scope="module")
def stage_settings() -> dict[str, Any]:
    """Settings of this module's stage; modules override it."""
    return {}


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, sounds: Sounds, stage_settings: dict[str, Any]) -> Iterator[Stage]:
    """One server and its vendor for a whole module."""
    with open_stage(tmp_path_factory.mktemp("data"), sounds, stage_settings) as opened:
        yield opened


@pytest.fixture(autouse=True)
def _in_order(request: pytest.FixtureRequest, _no_leaks: None) -> Iterator[None]:
    """A fresh vendor before each test; afterwards no device is left and no request was faulty."""
    if "stage" not in request.fixturenames:
        yield
        return
    stage: Stage = request.getfixturevalue("stage")
    stage.reset()
    yield
    stage.close_devices()
    assert stage.vendor.refusals == []
