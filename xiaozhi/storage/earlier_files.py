"""Takes over, once, what earlier versions and the existing server kept in files of their own in the data directory.

    quota.sqlite                   characters spoken per day and device
    memory.sqlite                  summaries of the local memory
    .memory.yaml                   summaries of the existing server
    pending-memories[.N].jsonl     visits whose memory was not saved yet
 The files stay as they are, except for the last: they hold what was said, and are removed when their visits are rows.
Device ids get their normal form. What has been taken over is noted by name, size and time of change in the same
transaction, so that a crash or a second worker takes over nothing twice.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from sqlalchemy import Connection, create_engine, exc, select
from sqlalchemy.engine import URL
from sqlalchemy.pool import NullPool

from xiaozhi.errors import Overloaded, StorageError
from xiaozhi.protocol.device_id import normal_device_id
from xiaozhi.runtime.logs import get_logger
from xiaozhi.storage import output_counts, pending_memories, summaries
from xiaozhi.storage.database import Database
from xiaozhi.storage.pending_memories import PendingVisit
from xiaozhi.storage.tables import imported_file, insert

log = get_logger(__name__)

DEADLINE_S = 60.0
KEPT_DAYS = 7

_Taker = Callable[[Connection, Path], tuple[int, int]]
"""(entries taken over, entries that cannot be read). Runs on the storage thread: no logging."""


def import_earlier_files(database: Database, data_dir: Path) -> None:
    """Take over what is there; a file that cannot be read is left alone and logged. Call it at start, before devices
    come in."""
    takers: list[tuple[Path, _Taker]] = [
        (data_dir / "quota.sqlite", _quota),
        (data_dir / "memory.sqlite", _summaries),
        (data_dir / ".memory.yaml", _existing_server),
        *((path, _pending) for path in sorted(data_dir.glob("pending-memories*.jsonl"))),
    ]
    for path, take in takers:
        if not path.is_file():
            continue
        try:
            taken = database.run(functools.partial(_once, path, take), deadline=DEADLINE_S)
        except FileNotFoundError:
            continue  # another worker has just taken it over
        except (StorageError, Overloaded, OSError, ValueError, yaml.YAMLError) as error:
            log.warning("file of an earlier version left alone", file=path.name, error=str(error)[:200])
            continue
        if taken is not None:
            log.info("file of an earlier version taken over", file=path.name, entries=taken[0], unreadable=taken[1])
        if take is _pending:
            path.unlink(missing_ok=True)


def _once(path: Path, take: _Taker, connection: Connection) -> tuple[int, int] | None:
    """What the taker says; None when it had been done before."""
    if connection.execute(select(imported_file.c.name).where(*_is(path))).first() is not None:
        return None
    taken = take(connection, path)
    # Looked at again: reading a SQLite file may have written its log back into it.
    about = path.stat()
    row = {"name": path.name, "size": about.st_size, "modified_ns": about.st_mtime_ns, "imported_at": time.time()}
    connection.execute(insert(connection, imported_file).values(row).on_conflict_do_nothing())
    return taken


def _is(path: Path) -> tuple[Any, ...]:
    about = path.stat()
    columns = imported_file.c
    return columns.name == path.name, columns.size == about.st_size, columns.modified_ns == about.st_mtime_ns


def _quota(connection: Connection, path: Path) -> tuple[int, int]:
    counts = {
        (datetime.date.fromisoformat(day), normal_device_id(str(device))): int(count)
        for day, device, count in _rows(path, "SELECT day, device, characters FROM output")
    }
    output_counts.at_least(connection, counts, time.time(), KEPT_DAYS)
    return len(counts), 0


def _summaries(connection: Connection, path: Path) -> tuple[int, int]:
    known = {
        normal_device_id(str(device)): str(summary)
        for device, summary in _rows(path, "SELECT device, summary FROM memory")
    }
    return summaries.add_unknown(connection, known, time.time()), 0


def _existing_server(connection: Connection, path: Path) -> tuple[int, int]:
    loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(loaded, dict):
        raise ValueError("not a mapping of devices to memories")
    known = {normal_device_id(str(device)): str(summary) for device, summary in loaded.items()}
    return summaries.add_unknown(connection, known, time.time()), 0


def _pending(connection: Connection, path: Path) -> tuple[int, int]:
    visits, unreadable, now = [], 0, time.time()
    # Split at newlines only: what people say may hold other characters that Python takes for ends of lines.
    for line in path.read_bytes().split(b"\n"):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            said = tuple((str(role), str(content)) for role, content in entry["said"])
            device = normal_device_id(str(entry["device"]))
            visits.append(PendingVisit(hashlib.sha256(line).hexdigest(), device, str(entry["session"]), said, now))
        except (ValueError, KeyError, TypeError):
            unreadable += 1
    pending_memories.accept(connection, (), "", now, [(visit, now) for visit in visits])
    return len(visits), unreadable


def _rows(path: Path, query: str) -> list[tuple[Any, ...]]:
    """All rows of a query in a SQLite file of an earlier version. Raises ValueError when it is none."""
    engine = create_engine(URL.create("sqlite", database=str(path)), poolclass=NullPool)
    try:
        with contextlib.closing(engine.connect()) as old:
            return [tuple(row) for row in old.exec_driver_sql(query)]
    except exc.DBAPIError as error:
        raise ValueError(str(error.orig)) from error
