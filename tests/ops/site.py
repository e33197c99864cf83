"""A place where a real supervisord runs the real supervisord.conf, without touching the project's own tmp/ and
data/."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

from tests.ops.programs import ROOT, run
from tests.waiting import PATIENCE_S

CONF = ROOT / "supervisord.conf"


def free_ports(count: int) -> int:
    """The first of `count` neighbouring ports that are free, below those the system gives away by itself."""
    for _ in range(100):
        first = random.randrange(15_000, 32_000 - count)  # at random: several test runs may look at the same time
        sockets = []
        try:
            for port in range(first, first + count):
                sockets.append(socket.create_server(("", port)))
            return first
        except OSError:
            continue
        finally:
            for one in sockets:
                one.close()
    raise AssertionError("no free ports")


class Site:
    """A copy of the project as far as supervisord is concerned, in a directory of its own."""

    def __init__(self, directory: Path, workers: int, programme: Path) -> None:
        """`programme` takes the place of server.py."""
        self.directory = directory
        self.workers = workers
        for name in ("tmp", "config", ".venv/bin"):
            (directory / name).mkdir(parents=True)
        text = CONF.read_text(encoding="utf-8")
        assert text.count("startsecs=10") == 1
        (directory / "supervisord.conf").write_text(text.replace("startsecs=10", "startsecs=1"), encoding="utf-8")
        shutil.copy(ROOT / "config/rolling-restart.sh", directory / "config")
        (directory / "server.py").symlink_to(programme)
        for program in ("supervisord", "supervisorctl"):
            (directory / ".venv/bin" / program).symlink_to(Path(sys.executable).parent / program)
        python = directory / ".venv/bin/python"
        python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n', encoding="utf-8")
        python.chmod(0o755)
        first = free_ports(workers * 2 + 40)
        self.metrics_port = first
        self.port = first + workers
        self.process: subprocess.Popen[bytes] | None = None
        self.environ = {
            "PATH": os.environ["PATH"],
            "XIAOZHI_WORKERS": str(workers),
            "XIAOZHI_METRICS_PORT": str(self.metrics_port),
            "XIAOZHI__SERVER__PORT": str(self.port),
        }

    def settings(self, *lines: str) -> None:
        """Write config/local.env."""
        (self.directory / "config/local.env").write_text("\n".join(lines), encoding="utf-8")

    def rolling_restart(self) -> int:
        """Run it; its exit code."""
        command = [self.directory / "config/rolling-restart.sh"]
        return subprocess.run(command, env=self.environ, capture_output=True, timeout=60, check=False).returncode

    def start(self, **environ: str) -> None:
        """Run supervisord."""
        self.environ |= environ
        self.process = subprocess.Popen(
            [".venv/bin/supervisord", "-n", "-c", "supervisord.conf"],
            cwd=self.directory,
            env=self.environ,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def stop(self) -> int:
        """End supervisord and with it everybody; its exit code."""
        if self.process is None:
            return 0
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(2 * PATIENCE_S)

    def control(self, *words: str) -> str:
        """supervisorctl."""
        return run(".venv/bin/supervisorctl", "-c", "supervisord.conf", *words, cwd=self.directory).stdout

    def ask(self, worker: int, path: str) -> str:
        """What a worker answers on its own port; "" while it does not, or says no."""
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self.metrics_port + worker}{path}", timeout=PATIENCE_S
            ) as reply:
                return str(reply.read().decode())
        except OSError:
            return ""

    def metrics(self, worker: int) -> dict[str, Any]:
        """What the stand-in says about itself; {} while it says nothing."""
        answer: dict[str, Any] = json.loads(self.ask(worker, "/metrics") or "{}")
        return answer

    def ready(self) -> bool:
        """All workers take devices."""
        return all(self.ask(worker, "/readyz") for worker in range(self.workers))

    def pid(self, worker: int) -> int:
        """The process id, as supervisord knows it; 0: none."""
        return int(self.control("pid", f"xiaozhi:xiaozhi-{worker}").strip())

    def work(self, seconds: float) -> str:
        """Have some work done at the shared port; raises OSError when the connection is cut."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S) as client:
            client.sendall(f"work {seconds}\n".encode())
            answer = client.makefile().readline().strip()
        if not answer:
            raise ConnectionResetError("no answer")
        return answer
