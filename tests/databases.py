"""Databases for tests: SQLite files, and one real PostgreSQL server per test process, started when the first test asks.

The server is Debian's package `postgresql` (setup.sh --dev installs it), run as a user who is not root, on a Unix
socket in a temporary directory. Where it is missing its tests are skipped with the reason, but not on the build machine
(CI=1)."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from xiaozhi.storage.database import Database, sqlite_url

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
    """`start`, `new_url` for each test, `stop`."""

    def __init__(self) -> None:
        self._programs = _programs()
        self._user = _user()
        self._numbers = itertools.count(1)
        self._directory = Path()

    def start(self) -> None:
        """Make a cluster and start its server."""
        self._directory = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # a socket's path must be short
        if self._user is not None:
            shutil.chown(self._directory, self._user)
        self._run("initdb", "--pgdata", str(self.data), "--auth=trust", "--username=tester", "--no-sync", "-E", "UTF8")
        self._control("start")

    def stop(self) -> None:
        """Stop the server at once and remove it."""
        self._control("stop", check=False)
        shutil.rmtree(self._directory, ignore_errors=True)

    def restart(self) -> None:
        """Every connection is lost."""
        self._control("restart")

    @contextmanager
    def gone(self) -> Iterator[None]:
        """Nobody answers inside the block."""
        self._control("stop")
        try:
            yield
        finally:
            self._control("start")

    def new_url(self) -> str:
        """The URL of a new, empty database."""
        name = f"test{next(self._numbers)}"
        self._run("createdb", "-h", str(self._directory), "-U", "tester", name)
        return f"postgresql://tester:secret@/{name}?host={self._directory}"

    @property
    def data(self) -> Path:
        """The directory of the cluster."""
        return self._directory / "data"

    def _control(self, what: str, *, check: bool = True) -> None:
        options = f"-k {self._directory} -c listen_addresses= -c fsync=off -c shared_buffers=16MB"
        command = ["pg_ctl", what, "-w", "-D", str(self.data)]
        command += ["-m", "fast"] if what != "start" else []
        command += ["-l", str(self._directory / "log"), "-o", options] if what != "stop" else []
        self._run(*command, check=check)

    def _run(self, program: str, *arguments: str, check: bool = True) -> None:
        command = [str(self._programs / program), *arguments]
        if self._user is not None:
            command = ["setpriv", f"--reuid={self._user}", "--clear-groups", *command]
        silent: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "cwd": self._directory}
        done = subprocess.run(command, timeout=START_S, check=False, **silent)
        assert not check or done.returncode == 0, done.stderr.decode()


def _programs() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    if not found and on_path is None:
        raise FileNotFoundError("PostgreSQL is not installed (Debian, Ubuntu: apt-get install postgresql)")
    return found[-1].parent if found else Path(str(on_path)).resolve().parent


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
        ["python3", "-c", script, str(path), str(seconds)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdin is not None and holder.stdout is not None
        assert holder.stdout.readline() == b"locked\n"
        try:
            yield
        finally:
            holder.stdin.close()
            holder.wait(timeout=30)
