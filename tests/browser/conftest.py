"""What every test in a browser gets: a server of its module, and a page that must be without faults at the end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loadtest.vendors.sounds import Sounds
from tests.browser.chromium import DESKTOP, HERE, BrowserPage, Viewer, open_page
from tests.lifecycle.house import House, open_house


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever starts a browser is slow."""
    for item in items:
        if item.path.parent == HERE and "page" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def sounds() -> Sounds:
    """Speech-like sound for all vendors of the run."""
    made = Sounds()
    for seconds in (0.25, 0.5, 1.0):
        made.body("wav", seconds)
    return made


@pytest.fixture(scope="module")
def house_settings() -> dict[str, Any]:
    """Settings of this module's server; modules override it."""
    return {}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, sounds: Sounds, house_settings: dict[str, Any]) -> Iterator[House]:
    """One server and its vendor for a whole module."""
    with open_house(tmp_path_factory.mktemp("data"), sounds, house_settings) as opened:
        yield opened


@pytest.fixture
def site(house: House) -> Iterator[str]:
    """The address of the pages; a module that serves its own overrides it."""
    house.reset()
    yield f"http://127.0.0.1:{house.server.http_port}"
    house.close_devices()


@pytest.fixture
def viewer() -> Viewer:
    """Who looks; `@pytest.mark.parametrize("viewer", VIEWERS, ids=str)` asks for all of them."""
    return DESKTOP


@pytest.fixture
def page(
    _no_leaks: None, site: str, viewer: Viewer, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[BrowserPage]:
    """An empty tab. At the end its picture is kept, and what went wrong in it fails the test."""
    with open_page(site, viewer, tmp_path, f"{request.path.stem}-{request.node.name}") as opened:
        yield opened
        opened.screenshot()
        faults = opened.faults()
    assert not faults, "\n".join(faults)
