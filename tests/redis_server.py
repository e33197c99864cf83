"""A real Redis for tests: one process per test process, started when the first test asks, emptied for each.

The server is the system's, or the one that `make tools` unpacks. Where it is missing its tests are skipped with the
reason, but not on the build machine (CI=1)."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from tests.waiting import PATIENCE_S, wait_for

ROOT = Path(__file__).resolve().parent.parent


class RedisServer:
    """`start`; `url`; `stop`. Keeps nothing on disk. It ends with the process that started it, however that ends.
    `options`: of redis-server, such as "--requirepass secret". `configuration`: the file of a Sentinel, which is what
    it is then."""

    def __init__(self, options: Sequence[str] = (), port: int = 0, configuration: Path | None = None) -> None:
        self._program = _program()
        self._configuration = configuration
        self._options = list(options)
        self._directory = Path()
        self._process: subprocess.Popen[bytes] | None = None
        self.port = port or _free_port()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Run it, and wait until it answers."""
        if not self._directory.name:
            self._directory = Path(tempfile.mkdtemp(prefix="redis-"))
        kept = ["--save", "", "--appendonly", "no", "--dir", str(self._directory)]
        bound = ["--port", str(self.port), "--bind", "127.0.0.1"]
        what = [*bound, *kept, *self._options]
        if self._configuration is not None:
            what = [str(self._configuration), *bound, "--sentinel"]
        command = ["setpriv", "--pdeathsig=KILL", str(self._program), *what]
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_for(self._answers, "Redis to answer")

    def stop(self) -> None:
        """End it. Idempotent."""
        self.kill()
        shutil.rmtree(self._directory, ignore_errors=True)

    def kill(self) -> None:
        """End it as a crash does: what it held is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(timeout=PATIENCE_S)
            self._process = None

    @contextmanager
    def hung(self) -> Iterator[None]:
        """Inside the block it accepts connections and does nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def client(self) -> redis.Redis:
        """A client for looking at what is kept; the caller closes it."""
        return redis.Redis(port=self.port, socket_timeout=PATIENCE_S)

    def empty(self) -> None:
        """Forget everything."""
        with self.client() as client:
            client.flushall()

    def _answers(self) -> bool:
        assert self._process is not None and self._process.poll() is None, (self._directory / "log").read_text()
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.AuthenticationError:
            return True
        except redis.ConnectionError:
            return False


def _program() -> Path:
    found = shutil.which("redis-server") or shutil.which("redis-server", path=ROOT / ".tools" / "bin")
    if found is None:
        raise FileNotFoundError("Redis is missing: make tools")
    return Path(found)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


_server: RedisServer | None = None


def own_server(options: Sequence[str] = ()) -> RedisServer:
    """A server that has not been started; the test starts and stops it. Skips the test where there is none."""
    try:
        return RedisServer(options)
    except FileNotFoundError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


def redis_server(config: pytest.Config) -> RedisServer:
    """The server of this test process, empty; stopped when the process ends. Tests leave it running."""
    global _server
    if _server is None:
        server = own_server()
        server.start()
        config.add_cleanup(server.stop)
        _server = server
    _server.empty()
    return _server
