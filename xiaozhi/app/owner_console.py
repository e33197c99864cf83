"""The console in the browser, put together: its password, who may use it, what its pages ask."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from flask import Blueprint
from werkzeug.security import check_password_hash, generate_password_hash

from xiaozhi import __version__
from xiaozhi.runtime.guesses import Guesses
from xiaozhi.runtime.inference import InferencePool
from xiaozhi.storage import console_store
from xiaozhi.storage.database import Database
from xiaozhi.web.console import live, pages, session
from xiaozhi.web.console.access import ConsoleAccess
from xiaozhi.web.console.audit import AuditTrail
from xiaozhi.web.console.live import LiveFeed

PASSWORD_LETTERS: Final = "abcdefghjkmnpqrstuvwxyz23456789"
"""Without those that are mistaken for each other."""
PASSWORD_CHARS: Final = 12
HASH_S: Final = 5.0
_STALE_S: Final = 5.0
"""Another worker may have changed the password: after so long it is asked for again."""


class ConsolePassword:
    """The one password of the console; only its hash is kept. Hashing is made to be slow, and runs in the pool."""

    def __init__(
        self, database: Database, inference: InferencePool, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._database = database
        self._inference = inference
        self._clock = clock
        self._hash = ""
        self._asked_at = float("-inf")

    @property
    def hash(self) -> str:
        """Of the password in force. Blocks for the database now and then; raises StorageError."""
        if self._clock() - self._asked_at > _STALE_S:
            self._hash = self._database.read(console_store.password_hash)
            self._asked_at = self._clock()
        return self._hash

    def make_first(self) -> str:
        """A password, unless there has been one: then ""."""
        if self.hash:
            return ""
        password = new_password()
        hashed = self._inference.run(generate_password_hash, password, kind="codec", deadline=HASH_S)
        first = self._database.run(lambda each: console_store.set_first_password(each, hashed, time.time()))
        self._asked_at = float("-inf")
        return password if first else ""

    def matches(self, hashed: str, password: str) -> bool:
        """Whether this is the password. Blocks; raises Overloaded."""
        if not hashed:
            return False
        right: bool = self._inference.run(check_password_hash, hashed, password, kind="codec", deadline=HASH_S)
        return right


def new_password() -> str:
    """One that can be read out: three groups of four letters and digits."""
    letters = [secrets.choice(PASSWORD_LETTERS) for _ in range(PASSWORD_CHARS)]
    return "-".join("".join(letters[start : start + 4]) for start in range(0, PASSWORD_CHARS, 4))


def change_password(database: Database) -> str:
    """A new password, in force at once; everybody is logged out. For the command line: blocks while it is hashed."""
    password = new_password()
    hashed = generate_password_hash(password)
    database.run(lambda each: console_store.change_password(each, hashed, time.time()))
    return password


class OwnerConsole:
    """Everything behind /console and /talk. `enabled`: False for none of it. `key`: what sessions are signed with.

    What pages ask is added by `console_pages.py`."""

    def __init__(
        self, *, enabled: bool, database: Database, inference: InferencePool, guesses: Guesses, key: str
    ) -> None:
        self.enabled = enabled
        self.password = ConsolePassword(database, inference)
        self.access = ConsoleAccess(
            key=key,
            password_hash=lambda: self.password.hash,
            matches=self.password.matches,
            guesses=guesses,
        )
        self.first_password = ""
        """Made by `start`, to be told once."""
        self.audit = AuditTrail(database)
        self.feed = LiveFeed()
        self.about: dict[str, Callable[[], Any]] = {"version": lambda: __version__}
        """What every page knows of the server, asked for when one is opened."""
        self._pages: list[Blueprint] = []
        self._closing: list[Callable[[], object]] = [self.feed.close]

    def start(self) -> None:
        """Make the password, if there has been none. Blocks; raises StorageError, Overloaded."""
        if self.enabled:
            self.first_password = self.password.make_first()

    def add(self, *pages: Blueprint, close: Callable[[], object] | None = None) -> None:
        """What a page asks, and what ends with the console; before `blueprints`."""
        self._pages += pages
        self._closing += [close] if close is not None else []

    def blueprints(self) -> list[Blueprint]:
        """The routes."""
        if not self.enabled:
            return []
        return [
            pages.create_blueprint(),
            session.create_blueprint(self.access, self.audit, self._tell_about),
            live.create_blueprint(self.feed, self.access),
            *self._pages,
        ]

    def close(self) -> None:
        """End what pages are being told. Idempotent."""
        for close in self._closing:
            close()

    def _tell_about(self) -> Mapping[str, Any]:
        return {name: tell() for name, tell in self.about.items()}
