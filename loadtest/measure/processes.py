"""Starts the server and its scripted vendors as processes of their own, on free ports, with their files in a
temporary folder.

For measurements, so the server gets what a measurement needs (vendors with fixed delays, end silence 200 ms, no
admission limits unless a profile is asked for) and nothing of the caller's environment. Also starts another tree of
this server, for comparisons."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gevent
import yaml

from loadtest import ROOT
from loadtest.measure.certificates import Certificate, NoCertificate, certificate
from loadtest.measure.descriptors import raise_descriptor_limit

START_S = 90.0
STOP_S = 20.0
EXPECTED = "number"
"""A word of every scripted reply: an answer without it is an apology."""
SHORT_REPLY = "Number {n}."

ENVIRONMENT_BLOCK = "OpenaiEnv"
"""The server's name for a vendor that is described by environment variables."""

_BASE: Mapping[str, Any] = {
    "server": {"ip": "127.0.0.1", "drain_seconds": 1},
    "VAD": {"SileroVAD": {"type": "silero", "min_silence_duration_ms": 200}},
    "selected_module": {"VAD": "SileroVAD", "Memory": "nomem"},
    # Idle devices are to stay.
    "close_connection_no_voice_time": 0,
}
_OPEN_DOORS: Mapping[str, Any] = {
    "server": {"max_connections": 50_000, "limits": {"handshakes_per_second": 0, "per_ip": 0}},
    "ai_providers": {kind: {"max_concurrent": 1_000, "queue_size": 1_000} for kind in ("llm", "tts", "asr")},
}


TLS = ("vendors", "server", "both")
"""What `--tls` may encrypt."""


class StartError(Exception):
    """The server or the vendors did not start; the message has their last words."""


@dataclass(frozen=True, slots=True)
class Vendors:
    """How the scripted vendors behave; times in ms."""

    asr_ms: float = 100
    llm_ms: float = 100
    tts_ms: float = 80
    jitter_ms: float = 0
    gap_ms: float = 0
    """Between two of the pieces that an answer comes in."""
    error_rate: float = 0.0
    reply: str = ""
    """"" is the vendors' own: three sentences with a running number."""
    heard: str = ""
    """What utterances are understood as, in turn, "|" between two; "" is the vendors' own: always the same."""


@dataclass(frozen=True, slots=True)
class Setup:
    """Which server. `profile` "" opens every door; `workers` processes share the device port of each of `servers`;
    `overlay` is laid over the configuration."""

    tree: Path = ROOT
    profile: str = ""
    workers: int = 1
    servers: int = 1
    overlay: Mapping[str, Any] = field(default_factory=dict)
    vendors: Vendors = field(default_factory=Vendors)
    tts_format: str = ""
    """Sound asked of the scripted vendor: "wav" (the server encodes Opus), "opus" (it passes that on); "" leaves it to
    the server."""
    files: tuple[Path, ...] = ()
    """More configuration files, over all of the above."""
    tls: str = ""
    """One of `TLS`: who is asked over https and wss; "": nobody."""

    mqtt: bool = False
    """Open the MQTT port too."""

    @property
    def vendors_over_tls(self) -> bool:
        """Whether the server asks its vendors over https."""
        return self.tls in ("vendors", "both")

    @property
    def server_over_tls(self) -> bool:
        """Whether devices come over wss."""
        return self.tls in ("server", "both")


class MeasuredServer:
    """The running server: where it is (several addresses with semicolons between them), and its processes."""

    def __init__(self, url: str, pids: list[int], http_urls: list[str], folder: Path) -> None:
        self.url = url
        self.pids = pids
        self.http_urls = http_urls
        self.folder = folder

    @property
    def ota_url(self) -> str:
        """Where devices ask how to connect; "": not known."""
        return f"{self.http_urls[0]}/xiaozhi/ota/" if self.http_urls else ""

    @property
    def metrics_urls(self) -> list[str]:
        """One per worker."""
        return [f"{url}/metrics" for url in self.http_urls]


def free_port() -> int:
    """A port nobody has at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def vendors_running(vendors: Vendors, *, tls: bool = False) -> Iterator[str]:
    """The scripted vendors; yields their base URL. Raises StartError."""
    port = free_port()
    origin = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
    command = [sys.executable, "-m", "loadtest.vendors", "--port", str(port), "--formats", "wav,opus"]
    for name in ("asr_ms", "llm_ms", "tts_ms", "jitter_ms", "gap_ms", "error_rate"):
        command += [f"--{name.replace('_', '-')}", str(getattr(vendors, name))]
    if vendors.reply:
        command += ["--reply", vendors.reply]
    if vendors.heard:
        command += ["--heard", vendors.heard]
    if tls:
        shown = _certificate()
        command += ["--certfile", str(shown.certfile), "--keyfile", str(shown.keyfile)]
    with (
        tempfile.TemporaryDirectory(prefix="loadtest-") as folder,
        _running(command, Path(folder) / "vendors.console", ROOT) as process,
    ):
        _wait_until_up(process, Path(folder) / "vendors.console", f"{origin}/v1/models")
        yield f"{origin}/v1"


@contextlib.contextmanager
def server_running(setup: Setup, vendor_url: str) -> Iterator[MeasuredServer]:
    """The server with as many workers as wanted, ready for devices. Raises StartError."""
    raise_descriptor_limit()  # children inherit it
    folder = Path(tempfile.mkdtemp(prefix="loadtest-"))
    try:
        with contextlib.ExitStack() as processes:
            ports, secure = [free_port() for _ in range(setup.servers)], "s" if setup.server_over_tls else ""
            pids, http_urls = [], []
            started = []
            for number, port in enumerate(ports * setup.workers):
                http_port, home = free_port(), folder / f"worker-{number}"
                home.mkdir()
                (home / "config.yaml").write_text(yaml.safe_dump(configuration(setup, home)), encoding="utf-8")
                command = [python_of(setup.tree), "server.py", "--port", str(port), "--http-port", str(http_port)]
                for file in (home / "config.yaml", *setup.files):
                    command += ["--config", str(file)]
                log = home / "server.console"
                process = processes.enter_context(_running(command, log, setup.tree, server_environment(vendor_url)))
                http_urls.append(f"http{secure}://127.0.0.1:{http_port}")
                started.append((process, log, f"{http_urls[-1]}/readyz"))
                pids.append(process.pid)
            for process, log, ready in started:
                _wait_until_up(process, log, ready)
            urls = ";".join(f"ws{secure}://127.0.0.1:{port}/xiaozhi/v1/" for port in ports)
            yield MeasuredServer(urls, pids, http_urls, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def python_of(tree: Path) -> str:
    """The interpreter for another tree: that of its own .venv where it has one, since packages change with the code."""
    own = tree / ".venv" / "bin" / "python"
    return str(own) if tree != ROOT and own.exists() else sys.executable


@contextlib.contextmanager
def set_up(setup: Setup) -> Iterator[MeasuredServer]:
    """Vendors and server together. Raises StartError."""
    with (
        vendors_running(setup.vendors, tls=setup.vendors_over_tls) as vendor_url,
        server_running(setup, vendor_url) as measured,
    ):
        yield measured


def configuration(setup: Setup, home: Path) -> dict[str, Any]:
    """What is laid over the server's own configuration; its files go to `home`."""
    tree = _merged({}, _BASE)
    if setup.profile:
        tree["server"]["profile"] = setup.profile
    else:
        tree = _merged(tree, _OPEN_DOORS)
    if setup.workers > 1:
        tree["server"]["reuse_port"] = True
    if setup.server_over_tls:
        shown = _certificate()
        tree["server"]["tls"] = {"certfile": str(shown.certfile), "keyfile": str(shown.keyfile)}
    if setup.mqtt:
        # Any free UDP port: devices are told which. All of them ask OTA, and from one address.
        tree["mqtt"] = {"port": free_port(), "udp_port": 0, "tls": False, "max_devices": 50_000}
        tree = _merged({"server": {"limits": {"ota_per_minute": 0}}}, tree)
    if setup.tts_format:
        tree["TTS"] = {ENVIRONMENT_BLOCK: {"response_format": setup.tts_format}}
    tree["log"] = {"log_dir": str(home), "data_dir": str(home / "data"), "log_level": "INFO"}
    return _merged(tree, setup.overlay)


def _certificate() -> Certificate:
    try:
        return certificate()
    except NoCertificate as error:
        raise StartError(str(error)) from error


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in over.items():
        below = result.get(key)
        result[key] = (
            _merged(below if isinstance(below, Mapping) else {}, value) if isinstance(value, Mapping) else value
        )
    return result


def server_environment(vendor_url: str) -> dict[str, str]:
    """The caller's environment without its settings for a server, and with the scripted vendors where there are any."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("XIAOZHI_")}
    if not vendor_url:
        return environment | {"PYTHONUNBUFFERED": "1"}
    for kind in ("ASR", "LLM", "TTS"):
        environment |= {
            f"XIAOZHI_{kind}_BASE_URL": vendor_url,
            f"XIAOZHI_{kind}_API_KEY": "none",
            f"XIAOZHI_{kind}_MODEL": "scripted",
        }
    return environment | {"XIAOZHI_TTS_VOICE": "anna", "PYTHONUNBUFFERED": "1"}


@contextlib.contextmanager
def _running(
    command: list[str], log: Path, folder: Path, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_up(process: subprocess.Popen[bytes], log: Path, url: str) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise StartError(f"{log.stem} ended with code {process.returncode}:\n{_tail(log)}")
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except urllib.error.HTTPError as error:
            error.close()  # up, but not ready
        except OSError:
            pass  # not up yet
        gevent.sleep(0.1)
    raise StartError(f"{log.stem} was not ready within {START_S:g} s:\n{_tail(log)}")


def _tail(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace").strip()[-2_000:]
