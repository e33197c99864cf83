"""Tests that ask for `url` or `database` run on SQLite and on PostgreSQL."""

from tests.storage.conftest import database, url

__all__ = ["database", "url"]
