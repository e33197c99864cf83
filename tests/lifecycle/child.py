"""The server as a process of its own: started like a person starts it, told by signals, read by its banner, its log and
its ports."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from loadtest.simulator.device import SimulatedDevice
from loadtest.vendors.openai_vendor import OpenAiVendor
from tests.e2e.stage import base_settings, merged
from tests.lifecycle.house import SECRET
from tests.waiting import PATIENCE_S, wait_for

ROOT = Path(__file__).resolve().parent.parent.parent
START_S = PATIENCE_S
END_S = 30.0
_BANNER = re.compile(r"(?:(?<!URL=)ws://127\.0\.0\.1:(\d+)/xiaozhi/v1/|http://127\.0\.0\.1:(\d+)/xiaozhi/ota/)")


class Child:
    """Use `running` or `started`. Relative paths of its configuration are in `directory`."""

    def __init__(self, directory: Path, vendor: OpenAiVendor, settings: Mapping[str, Any] | None = None) -> None:
        self.directory = directory
        self.vendor = vendor
        common = {
            "server": {"secret": SECRET, "drain_seconds": 10},
            "log": {"log_dir": str(directory / "log"), "data_dir": str(directory / "data"), "log_level": "DEBUG"},
            # The emergency voice of the other tests is on no child's path.
            "TTS": {"Espeak": {"type": "espeak"}},
        }
        self.settings = merged(merged(base_settings(vendor, directory), common), settings or {})
        self.process: subprocess.Popen[bytes] | None = None
        self._devices: list[SimulatedDevice] = []
        self._number = 0

    # --- its life -----------------------------------------------------------------------------------------------------

    def change(self, changes: Mapping[str, Any] | None = None) -> None:
        """Write the configuration, with these changes."""
        self.settings = merged(self.settings, changes or {})
        (self.directory / "settings.yaml").write_text(json.dumps(self.settings), encoding="utf-8")  # JSON is YAML

    def spawn(self, **environ: str) -> None:
        """Start the process; see `wait_ready`."""
        self.change()
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("XIAOZHI", "OTEL"))}
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "server.py"), "--config", "settings.yaml"],
            cwd=self.directory,
            env={**clean, "OMP_NUM_THREADS": "1", **environ},
            stdin=subprocess.DEVNULL,
            stdout=(self.directory / "out").open("ab"),
            stderr=(self.directory / "err").open("ab"),
        )

    def wait_ready(self, starts: int = 1) -> None:
        """Until it has shown its banner so many times."""
        wait_for(lambda: self.starts >= starts or self._died(), f"start number {starts}", within=START_S)
        assert self.starts >= starts, (self.directory / "err").read_text(encoding="utf-8")[-2000:]

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def exit_code(self, seconds: float = END_S) -> int:
        """How it ended; waits for that."""
        assert self.process is not None
        return self.process.wait(timeout=seconds)

    def end(self) -> None:
        """However the test went: nothing of it is left."""
        for device in self._devices:
            device.close()
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def _died(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    # --- what it says -------------------------------------------------------------------------------------------------

    @property
    def starts(self) -> int:
        """How often it has shown its banner."""
        return len(self._addresses()) // 2

    @property
    def url(self) -> str:
        """Where devices connect, since its last start."""
        return f"ws://127.0.0.1:{self.port}/xiaozhi/v1/"

    @property
    def port(self) -> int:
        """The device port since its last start."""
        return int([device_port for device_port, _ in self._addresses() if device_port][-1])

    @property
    def http_port(self) -> int:
        """The HTTP port since its last start."""
        return int([http_port for _, http_port in self._addresses() if http_port][-1])

    def _addresses(self) -> list[tuple[str, str]]:
        try:
            return _BANNER.findall((self.directory / "out").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return []

    def complaints(self) -> str:
        """What stands on its standard error."""
        return (self.directory / "err").read_text(encoding="utf-8")

    def log_text(self) -> str:
        """Its log file."""
        path = self.directory / "log/server.log"
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def log(self, event: str) -> list[dict[str, Any]]:
        """Lines of its log about an event."""
        lines = [orjson.loads(line) for line in self.log_text().splitlines(keepends=True) if line.endswith("\n")]
        return [line for line in lines if line["event"] == event]

    # --- its devices --------------------------------------------------------------------------------------------------

    def device(self) -> SimulatedDevice:
        """A connected device that has said hello."""
        self._number += 1
        device = SimulatedDevice(self.url, device_id=f"02:00:00:00:02:{self._number:02x}")
        self._devices.append(device)
        device.connect()
        device.hello()
        return device


@contextmanager
def running(directory: Path, vendor: OpenAiVendor, settings: Mapping[str, Any] | None = None) -> Iterator[Child]:
    """A child that is ready; gone in the end."""
    child = Child(directory, vendor, settings)
    try:
        child.spawn()
        child.wait_ready()
        yield child
    finally:
        child.end()
