"""The database: SQLAlchemy Core on ONE native thread of its own, called by greenlets.

    greenlet ── run(work) ──► [queue, bounded] ──► storage thread: BEGIN ▸ work(connection) ▸ COMMIT
             ◄── result ─────────────────────────┘
 Why a thread: SQLite and libpq wait in C, which gevent cannot patch. A write lock held by another process would stop
every device of this process. Here it stops only the greenlets that want the database. The thread is there from `start`
to `close`; load never adds one. It is an `InferencePool` of one thread, which already has what is needed: admission,
deadlines, context variables and a safe way to wake a greenlet.
 SQLite runs in WAL mode: readers never wait for writers. A write transaction begins with BEGIN IMMEDIATE, so it either
has the lock or has done nothing. SQLite waits for the lock `LOCK_SLICE_S` at a time in the thread; between two slices
the work of others is done, so a reading waits a slice for each waiting writer and not for the process that holds the
lock. After `busy_timeout` the writer gets StorageUnavailable.
 PostgreSQL is reached by psycopg 3. psycopg would wait with gevent's patched `select` and so start a second hub in the
storage thread; it is told to wait in C instead.
 Not an ORM and not a place for queries: tables stand in `tables.py`, queries in one file per family of tables beside
this one.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import gevent
from gevent import monkey
from sqlalchemy import Connection, Engine, RootTransaction, create_engine, event, exc
from sqlalchemy.engine import URL, make_url
from sqlalchemy.pool import NullPool

from xiaozhi.errors import (
    Fault,
    Overloaded,
    SettingsError,
    StorageError,
    StorageTimeout,
    StorageUnavailable,
    VendorTimeout,
)
from xiaozhi.runtime.inference import InferenceClosed, InferencePool
from xiaozhi.runtime.logs import get_logger
from xiaozhi.settings.masking import mask_text
from xiaozhi.storage import migrations

log = get_logger(__name__)

T = TypeVar("T")
Transaction = Connection
"""What work is given: for who calls several queries in one transaction, and otherwise does not look into it."""

QUEUE_SIZE = 512
"""Jobs that may wait. One more raises Overloaded."""
DEADLINE_S = 10.0
"""For one job, the queue included, unless the caller says otherwise."""
BUSY_TIMEOUT_S = 5.0
"""How long a writer waits for a lock that another process holds."""
LOCK_SLICE_S = 0.1
"""How long SQLite waits for a lock before the thread looks at other work."""
START_PATIENCE_S = 30.0
"""How long `start` waits for a database that is locked, being upgraded by another worker, or not up yet."""
START_PAUSE_S = 0.2
DRIVER = "psycopg[binary]==3.3.9"
"""What PostgreSQL needs; not installed by default. requirements-dev.txt has the same pin."""
_CONNECT_S = 5
_STATEMENT_S = 30
_BEGIN = {
    ("sqlite", False): "BEGIN",
    ("sqlite", True): "BEGIN IMMEDIATE",
    # The transaction has begun; this also finds out whether the connection is still there before any work is done.
    ("postgresql", False): "SET TRANSACTION READ ONLY; SET LOCAL statement_timeout = '{statement}s'",
    ("postgresql", True): "SET LOCAL lock_timeout = '{lock}s'; SET LOCAL statement_timeout = '{statement}s'",
}
"""What a transaction begins with, by dialect and whether it writes."""
_PRAGMAS = ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = NORMAL", "PRAGMA foreign_keys = ON")
_POSTGRESQL_ARGUMENTS = {
    "connect_timeout": _CONNECT_S,
    "application_name": "xiaozhi",
    # A server that vanished is noticed within half a minute instead of hours.
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}

_SQLITE_LOCKED = frozenset({"SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_PROTOCOL"})
_SQLITE_DAMAGED = frozenset({"SQLITE_CORRUPT", "SQLITE_NOTADB"})
_SQLITE_UNAVAILABLE = frozenset(
    {"SQLITE_FULL", "SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_NOMEM", "SQLITE_PERM"}
)
_SQLSTATES = ("08", "40", "53", "57", "58", "55P03", "25006")
"""Classes (and single codes) of PostgreSQL's SQLSTATE that pass: connection, rolled back for another's sake, resources
such as disk space, operator, system; a lock that was not to be had; a server that only reads for now."""


def sqlite_url(path: Path) -> str:
    """The URL of a SQLite file."""
    return URL.create("sqlite", database=str(path)).render_as_string(hide_password=False)


class Database:
    """`start`, then `run` and `read` from any greenlet, then `close`.

    `url`: `sqlite:///file`, `postgresql://user:password@host/name`. `queue_size`: jobs that may wait; one more raises
    Overloaded. `busy_timeout`: seconds that a writer waits for a lock which another process holds."""

    def __init__(self, url: str, *, queue_size: int = QUEUE_SIZE, busy_timeout: float = BUSY_TIMEOUT_S) -> None:
        self._url = url
        self._busy_timeout = busy_timeout
        self._thread = InferencePool(1, queue_size, reserved=0, name="storage")
        self._open = False
        # From here on: touched by the storage thread only, once it runs.
        self._engine: Engine | None = None
        self._connection: Connection | None = None

    @property
    def shown_url(self) -> str:
        """The URL without its password, for people."""
        return mask_text(self._url)

    @property
    def waiting(self) -> int:
        """Jobs that wait for the thread now."""
        return self._thread.queued

    def start(self, patience: float = START_PATIENCE_S) -> tuple[int, int]:
        """Start the thread, open the database and bring its tables up to date; (version found, version now).

        Waits at most about `patience` seconds for a lock, for another worker that upgrades, or for a server that is not
        up yet. Raises SettingsError that says what to do."""
        self._engine = _engine(self._url)
        self._thread.start()
        until, warned = time.monotonic() + patience, False
        while True:
            try:
                versions = self._thread.run(self._upgrade, kind="storage", deadline=patience)
                self._open = True
                return versions
            except migrations.NewerDatabase as error:
                raise self._fault(str(error)) from error
            except (StorageError, VendorTimeout) as error:
                comes = isinstance(error, _Locked) or self._engine.dialect.name != "sqlite"
                if not comes or time.monotonic() >= until:
                    raise self._fault(f"a database that can be opened: {error}") from error
                if not warned:
                    log.warning("waiting for the database", url=self.shown_url, error=str(error))
                    warned = True
            gevent.sleep(START_PAUSE_S)

    def run(self, work: Callable[[Connection], T], *, deadline: float = DEADLINE_S) -> T:
        """`work(connection)` on the storage thread, in a transaction that is committed when it returns and rolled back
        when it raises.

        `work` may compute little and must use nothing of gevent; what it returns must not need the connection (plain
        rows, not a result). Blocks only this greenlet, at most `deadline` seconds. Whatever `work` raises is raised
        here, the database's errors as StorageError. Raises Overloaded when the queue is full, StorageUnavailable,
        StorageTimeout.

        A greenlet that is killed, or whose deadline passes, leaves at once. Its work never begins if it has not begun;
        if it has, it is rolled back, unless the commit itself is under way already (`StorageTimeout.undecided`; a
        killed greenlet is not told)."""
        return self._do(work, True, deadline)

    def read(self, work: Callable[[Connection], T], *, deadline: float = DEADLINE_S) -> T:
        """Like `run` for work that only reads: it does not wait for the write lock."""
        return self._do(work, False, deadline)

    def close(self, timeout: float = 5.0) -> bool:
        """Refuse new work, let what waits be done, close the connection; False when the thread is still at work after
        `timeout` seconds. Idempotent."""
        self._open = False
        if self._engine is not None:
            with contextlib.suppress(VendorTimeout, Overloaded, InferenceClosed):
                self._thread.run(self._shut, kind="storage", deadline=timeout)
        return self._thread.close(timeout)

    def _do(self, work: Callable[[Connection], T], writes: bool, deadline: float) -> T:
        if not self._open:
            raise StorageUnavailable("the database is closed")
        until = time.monotonic() + deadline
        patience = min(until, time.monotonic() + self._busy_timeout)
        while True:
            attempt = _Attempt(work, writes)
            try:
                left = max(0.0, until - time.monotonic())
                result: T = self._thread.run(self._execute, attempt, kind="storage", deadline=left)
                return result
            except _Locked as error:
                # Nothing has been done, and what waits behind has its turn before the next try.
                if time.monotonic() >= patience:
                    raise StorageUnavailable("the database stays locked by another process") from error
            except Overloaded as error:
                raise Overloaded("the storage queue") from error
            except InferenceClosed as error:
                raise StorageUnavailable("the database is closed") from error
            except VendorTimeout as error:
                raise StorageTimeout(f"no result within {deadline:g} s", undecided=not attempt.abandon()) from error
            finally:
                attempt.abandon()

    def _fault(self, expected: str) -> SettingsError:
        return SettingsError([Fault("storage.url", self.shown_url, expected)])

    # --- on the storage thread: nothing of gevent ---------------------------------------------------------------------

    def _upgrade(self) -> tuple[int, int]:
        with self._transaction(writes=False) as connection:
            found = migrations.version_of(connection)
        if found == migrations.LATEST:
            return found, found  # without the write lock
        with self._transaction(writes=True) as connection:
            return migrations.upgrade(connection)

    def _execute(self, attempt: _Attempt) -> Any:
        with self._transaction(writes=attempt.writes) as connection:
            result = attempt.work(connection)
            if not attempt.may_end():
                raise StorageTimeout("given up by its caller")  # rolls back; nobody is there to hear it
            return result

    def _shut(self) -> None:
        self._disconnect()
        self._engine = None

    @contextlib.contextmanager
    def _transaction(self, *, writes: bool) -> Iterator[Connection]:
        """The connection, within a transaction. Raises _Locked before anything is done, StorageError."""
        try:
            connection, transaction = self._begin(writes)
        except exc.DBAPIError as error:
            raise self._told(error, begun=False) from error
        try:
            with transaction:
                yield connection
        except exc.DBAPIError as error:
            # Reading changes nothing: a lock (another process recovers the file) may be waited for once more.
            raise self._told(error, begun=writes) from error

    def _begin(self, writes: bool) -> tuple[Connection, RootTransaction]:
        if self._connection is not None:
            try:
                return self._connection, _begin(self._connection, writes, self._busy_timeout)
            except exc.DBAPIError as error:
                if not error.connection_invalidated:
                    raise
                # The server has closed a connection that had nothing to do: nothing is lost by opening another one.
                self._disconnect()
        if self._engine is None:
            raise StorageUnavailable("the database is closed")
        self._connection = self._engine.connect()
        return self._connection, _begin(self._connection, writes, self._busy_timeout)

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(exc.SQLAlchemyError):
                connection.close()

    def _told(self, error: exc.DBAPIError, *, begun: bool) -> StorageError:
        """The error in our words: what to do, and nothing of the statement's values (see hide_parameters)."""
        if error.connection_invalidated:
            self._disconnect()
        text = (str(error.orig).strip().splitlines() or [type(error.orig).__name__])[0][:200]
        code = "_".join(str(getattr(error.orig, "sqlite_errorname", "")).split("_")[:2])
        if code in _SQLITE_LOCKED:
            return StorageUnavailable(text) if begun else _Locked(text)
        if code in _SQLITE_DAMAGED:
            return StorageUnavailable(
                f"{text}: stop the server, move the file away and start again, or put a backup in its place"
            )
        state = getattr(error.orig, "sqlstate", None)
        lost = error.connection_invalidated or (not code and state is None and isinstance(error, exc.OperationalError))
        if lost or code in _SQLITE_UNAVAILABLE or (state or "").startswith(_SQLSTATES):
            return StorageUnavailable(text)
        return StorageError(text)


class _Locked(StorageUnavailable):
    """Another process holds the lock; nothing has been done."""


class _Attempt:
    """One try of one job: its work, and the right to end it, which goes to the thread or to the greenlet that gives up,
    whoever is first."""

    def __init__(self, work: Callable[[Connection], Any], writes: bool) -> None:
        self.work = work
        self.writes = writes
        self._right = [True]

    def may_end(self) -> bool:
        """For the thread, before the commit: True unless the greenlet has given up. It cannot any more afterwards."""
        return self._take()

    def abandon(self) -> bool:
        """For the greenlet: True when nothing will be committed."""
        return self._take() or not self.writes

    def _take(self) -> bool:
        # `pop` is one step for the interpreter: exactly one of two threads gets it.
        try:
            return self._right.pop()
        except IndexError:
            return False


def _begin(connection: Connection, writes: bool, lock_s: float) -> RootTransaction:
    transaction = connection.begin()
    try:
        connection.exec_driver_sql(_BEGIN[connection.dialect.name, writes].format(lock=lock_s, statement=_STATEMENT_S))
    except exc.DBAPIError:
        transaction.rollback()
        raise
    return transaction


def _engine(text: str) -> Engine:
    """The engine of a URL; connects to nothing. Raises SettingsError."""
    try:
        url = make_url(text)
    except exc.ArgumentError as error:
        raise _unusable(text, "sqlite:///path/to/file or postgresql://user:password@host/name") from error
    backend = url.get_backend_name()
    if backend == "sqlite":
        return _sqlite(url)
    if backend == "postgresql":
        return _postgresql(url, text)
    raise _unusable(text, "sqlite:///path/to/file or postgresql://user:password@host/name")


def _sqlite(url: URL) -> Engine:
    try:
        if url.database and not Path(url.database).exists():
            Path(url.database).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            Path(url.database).touch(mode=0o600)  # what people said is nobody else's business
    except OSError as error:
        raise _unusable(str(url), f"a file in a directory that can be written ({error.strerror or error})") from error
    # isolation_level None: the driver begins no transaction behind our back.
    arguments = {"timeout": LOCK_SLICE_S, "isolation_level": None, "check_same_thread": False}
    engine = create_engine(url, poolclass=NullPool, hide_parameters=True, connect_args=arguments)
    event.listen(engine, "connect", _set_pragmas)
    return engine


def _set_pragmas(connection: Any, record: object) -> None:
    for pragma in _PRAGMAS:
        connection.execute(pragma)


def _postgresql(url: URL, text: str) -> Engine:
    try:
        engine = create_engine(
            url.set(drivername="postgresql+psycopg"),
            poolclass=NullPool,
            hide_parameters=True,
            connect_args=_POSTGRESQL_ARGUMENTS,
        )
    except ImportError as error:
        raise _unusable(
            text, f"PostgreSQL's driver, which is missing: run  .venv/bin/pip install '{DRIVER}'  ({error})"
        ) from error
    # psycopg has seen that the standard library is patched and would wait with gevent, by a hub in the storage thread.
    waiting: Any = engine.dialect.loaded_dbapi.waiting
    waiting.DefaultSelector = monkey.get_original("selectors", "DefaultSelector")
    waiting.wait = getattr(waiting, "wait_c", waiting.wait_selector)
    return engine


def _unusable(text: str, expected: str) -> SettingsError:
    return SettingsError([Fault("storage.url", mask_text(text), expected)])
