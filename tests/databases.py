"""Databases for tests: SQLite files, and one real PostgreSQL server per test process, started when the first test asks.

The server is the system's, or the one that `make tools` unpacks. It is run as a user who is not root, on a Unix socket
in a temporary directory. Where it is missing its tests are skipped with the reason, but not on the build machine
(CI=1)."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gevent
import psycopg
import pytest

from tests.waiting import PATIENCE_S
from xiaozhi.storage.database import Database, sqlite_url

ROOT = Path(__file__).resolve().parent.parent
START_S = 60


@contextmanager
def opened(url: str | Path, **options: Any) -> Iterator[Database]:
    """A database that is started, and closed in the end. A path is a directory for a SQLite file."""
    database = Database(sqlite_url(url / "xiaozhi.sqlite") if isinstance(url, Path) else url, **options)
    try:
        database.start()
        yield database
    finally:
        database.close()


class PostgresServer:
    """`start`, `new_url` for each test, `stop`. It ends with the process that started it, however that ends."""

    def __init__(self) -> None:
        self._programs = _programs()
        self._user = _user()
        self._numbers = itertools.count(1)
        self._directory = Path()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Make a cluster and start its server."""
        self._directory = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # a socket's path must be short
        if self._user is not None:
            shutil.chown(self._directory, self._user)
        options = ["--pgdata", self._data, "--auth=trust", "--username=tester", "--no-sync", "-E", "UTF8"]
        command = [*self._as_user(), str(self._programs / "initdb"), *options]
        done = subprocess.run(command, cwd=self._directory, capture_output=True, timeout=START_S, check=False)
        assert done.returncode == 0, done.stderr.decode()
        self._begin()

    def stop(self) -> None:
        """Stop the server and remove it."""
        if self._process is None:
            return
        # When tests end, this process may be ended at any moment, and its event loop is no more: another process, whom
        # nobody waits for, removes the directory when the server has gone.
        self._process.send_signal(signal.SIGQUIT)  # PostgreSQL's immediate shutdown
        pid, directory = self._process.pid, self._directory
        wait_and_remove = f"for i in $(seq 100); do [ -e {directory}/data/postmaster.pid ] || break; sleep 0.1; done"
        shell = ["sh", "-c", f"{wait_and_remove}; kill -9 {pid} 2>/dev/null; rm -rf {directory}"]
        os.posix_spawn("/bin/sh", shell, dict(os.environ), setsid=True)

    def restart(self) -> None:
        """Every connection is lost."""
        self._end()
        self._begin()

    @contextmanager
    def gone(self) -> Iterator[None]:
        """Nobody answers inside the block."""
        self._end()
        try:
            yield
        finally:
            self._begin()

    def new_url(self) -> str:
        """The URL of a new, empty database."""
        name = f"test{next(self._numbers)}"
        with self._connect() as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return f"postgresql://tester:secret@/{name}?host={self._directory}"

    @property
    def _data(self) -> str:
        return str(self._directory / "data")

    def _begin(self) -> None:
        options = [
            "-k",
            str(self._directory),
            "-c",
            "listen_addresses=",
            "-c",
            "fsync=off",
            "-c",
            "shared_buffers=16MB",
        ]
        command = [*self._as_user("--pdeathsig=QUIT"), str(self._programs / "postgres"), "-D", self._data, *options]
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(command, cwd=self._directory, stdout=log, stderr=log)
        until = time.monotonic() + START_S
        while True:
            try:
                self._connect().close()
                return
            except psycopg.OperationalError:
                assert time.monotonic() < until and self._process.poll() is None, (self._directory / "log").read_text()
                gevent.sleep(0.02)  # sleep: between two looks

    def _end(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)  # PostgreSQL's fast shutdown
            self._process.wait(timeout=START_S)

    def _connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(host=str(self._directory), user="tester", dbname="postgres", autocommit=True)

    def _as_user(self, *options: str) -> list[str]:
        if self._user is not None:
            options = (f"--reuid={self._user}", "--clear-groups", *options)
        return ["setpriv", *options] if options else []


def _programs() -> Path:
    """The directory of initdb and postgres. Raises FileNotFoundError."""
    system = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    for place in [*reversed(system), ROOT / ".tools" / "bin", *map(Path, os.get_exec_path())]:
        if (place / "initdb").exists() and (place / "postgres").exists():
            return place
    raise FileNotFoundError("PostgreSQL is missing: make tools")


def _user() -> str | None:
    """Who runs the server; None: whoever runs the tests. PostgreSQL refuses to be run by root."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


_server: PostgresServer | None = None


def postgres_server(config: pytest.Config) -> PostgresServer:
    """The server of this test process; stopped when the process ends."""
    global _server
    if _server is None:
        try:
            server = PostgresServer()
        except FileNotFoundError as error:
            if os.environ.get("CI"):
                raise
            pytest.skip(str(error))
        server.start()
        config.add_cleanup(server.stop)
        _server = server
    return _server


@contextmanager
def write_lock(path: Path, seconds: float) -> Iterator[None]:
    """Another process holds the write lock of a SQLite file, for `seconds` or until the block ends."""
    script = (
        "import sqlite3, sys, time\n"
        "c = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)\n"
        "c.execute('BEGIN IMMEDIATE')\n"
        "print('locked', flush=True)\n"
        "sys.stdin.read() if float(sys.argv[2]) <= 0 else time.sleep(float(sys.argv[2]))\n"
        "c.execute('COMMIT')\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(path), str(seconds)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdin is not None and holder.stdout is not None
        assert holder.stdout.readline() == b"locked\n"
        try:
            yield
        finally:
            holder.stdin.close()
            holder.wait(timeout=PATIENCE_S)
