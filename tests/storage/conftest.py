"""Every test that asks for `url` or `database` runs on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtest.vendors.sounds import Sounds
from tests.databases import opened, postgres_server
from xiaozhi.storage.database import Database, sqlite_url


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database."""
    if request.param == "sqlite":
        return sqlite_url(tmp_path / "xiaozhi.sqlite")
    return postgres_server(request.config).new_url()


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    """A database with its tables."""
    with opened(url) as made:
        yield made


@pytest.fixture(scope="session")
def sounds() -> Sounds:
    """Speech-like sound for the vendor of a whole server."""
    made = Sounds()
    made.body("wav", 0.25)
    return made
