"""A short memory per device, written by a language model at the end of each visit and kept on this machine.

Not a transcript: the model is given the old memory and the visit, and returns the new memory, a page at most. Nothing
leaves the machine except what the chosen language model is told. The offline assistant cannot summarise: with it the
memory stays as it is. Kept in SQLite (several workers may share it); a `.memory.yaml` of the existing server in the
data directory is read for devices that have nothing newer."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import yaml
from cachetools import LRUCache
from pydantic import Field

from xiaozhi.chat import CallContext, Message
from xiaozhi.errors import VendorError, VendorUnavailable
from xiaozhi.providers.contracts.llm import Llm
from xiaozhi.providers.contracts.memory import Memory, MemoryTraits
from xiaozhi.providers.contracts.provider import ProviderOptions, Services
from xiaozhi.providers.registry import provider
from xiaozhi.runtime.logs import get_logger

log = get_logger(__name__)

CACHED_DEVICES = 2_000
LEGACY_FILE = ".memory.yaml"
_SCHEMA = "CREATE TABLE IF NOT EXISTS memory (device TEXT PRIMARY KEY, summary TEXT NOT NULL, updated REAL NOT NULL)"
_UPSERT = """INSERT INTO memory (device, summary, updated) VALUES (?, ?, ?)
             ON CONFLICT (device) DO UPDATE SET summary = excluded.summary, updated = excluded.updated"""
_INSTRUCTION = """You keep the long-term memory of a voice assistant about one user.
Merge the conversation below into the existing memory and return the complete new memory as plain text, in the
language the user speaks.
Keep: names and how to address people, family, likes and dislikes, plans with their dates, promises the
assistant made, open topics.
Drop: small talk, weather, commands to the device, anything that is outdated or contradicted by what is newer.
Short statements, one per line, at most {limit} characters in all. Return nothing but the memory."""


class LocalShortMemoryOptions(ProviderOptions):
    """`llm`: name of the LLM block that summarises; empty: the selected one."""

    llm: str = ""
    max_chars: int = Field(1_500, ge=100, le=20_000)
    """Length of a memory, characters."""
    min_messages: int = Field(2, ge=1, le=100)
    """Shorter visits leave the memory as it is."""


@provider("memory", "mem_local_short", LocalShortMemoryOptions)
class LocalShortMemory(Memory):
    """Summaries in `<data_dir>/memory.sqlite`."""

    needs_services: ClassVar[bool] = True
    traits = MemoryTraits(offline=True)

    def __init__(self, options: LocalShortMemoryOptions, services: Services) -> None:
        self._options = options
        self._services = services
        self._path = services.data_dir / "memory.sqlite"
        self._legacy: dict[str, str] | None = None
        self._cache: LRUCache[str, str] = LRUCache(CACHED_DEVICES)
        self._database: sqlite3.Connection | None = None

    def recall(self, device_id: str, query: str) -> str:
        known = self._cache.get(device_id)
        if known is None:
            known = self._cache[device_id] = self._load(device_id)
        return known

    def save(self, device_id: str, messages: Sequence[Message], session_id: str) -> None:
        said = [message for message in messages if message.role in ("user", "assistant") and message.content]
        if len(said) < self._options.min_messages:
            return
        summariser = self._summariser()
        if not summariser.traits.writes:
            return  # it would only say that it did not understand, and that would be remembered
        talk = "\n".join(f"{'User' if message.role == 'user' else 'Assistant'}: {message.content}" for message in said)
        request = [
            Message("system", _INSTRUCTION.format(limit=self._options.max_chars)),
            Message("user", f"Existing memory:\n{self._load(device_id) or '(none)'}\n\nConversation:\n{talk}"),
        ]
        context = CallContext(device_id=device_id, session_id=session_id)
        summary = "".join(piece for piece in summariser.chat(request, (), context) if isinstance(piece, str)).strip()
        if summary:
            self._store(device_id, summary[: self._options.max_chars])

    def close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    def _summariser(self) -> Llm:
        if self._services.provider is None:
            raise VendorUnavailable(self.name, "no language model to summarise with")
        found: Llm = self._services.provider("llm", self._options.llm)
        return found

    def _open(self) -> sqlite3.Connection:
        if self._database is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(self._path, timeout=5.0, isolation_level=None, check_same_thread=False)
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute(_SCHEMA)
        return self._database

    def _load(self, device_id: str) -> str:
        try:
            row = self._open().execute("SELECT summary FROM memory WHERE device = ?", (device_id,)).fetchone()
        except sqlite3.Error as error:
            raise VendorError(self.name, f"cannot read {self._path.name}: {error}") from error
        return str(row[0]) if row else self._from_legacy(device_id)

    def _store(self, device_id: str, summary: str) -> None:
        try:
            self._open().execute(_UPSERT, (device_id, summary, time.time()))
        except sqlite3.Error as error:
            raise VendorUnavailable(self.name, f"cannot write {self._path.name}: {error}") from error
        self._cache[device_id] = summary

    def _from_legacy(self, device_id: str) -> str:
        if self._legacy is None:
            self._legacy = _read_legacy(self._services.data_dir / LEGACY_FILE)
        return self._legacy.get(device_id, "")


def _read_legacy(path: Path) -> dict[str, str]:
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        log.warning("old memory file is unreadable, left alone", file=path.name, error=str(error)[:120])
        return {}
    return {str(device): str(summary) for device, summary in loaded.items()} if isinstance(loaded, dict) else {}
