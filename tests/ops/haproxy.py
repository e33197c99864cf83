"""HAProxy with config/haproxy/xiaozhi.cfg, in front of servers of a test."""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from pathlib import Path

from tests.ops.backend import TLS, Backend, TlsFront
from tests.ops.programs import ROOT
from tests.waiting import PATIENCE_S

CFG = ROOT / "config/haproxy/xiaozhi.cfg"
_SERVER = re.compile(r"^( +server \w+ +)10\.0\.0\.1(\d):80(0\d)$", re.MULTILINE)


class HaProxy(TlsFront):
    """Our file, its addresses and certificate replaced by those of the test. `ports`: of each server, that for devices
    and that for HTTP; the file has room for three. `backends`: those among them that are of our own making."""

    def __init__(
        self, program: str, directory: Path, ports: Sequence[tuple[int, int]], backends: list[Backend] | None = None
    ) -> None:
        super().__init__(directory, backends or [])

        def address(line: re.Match[str]) -> str:
            number = int(line[2]) - 1
            if number >= len(ports):
                return ""
            device, http = ports[number]
            return f"{line[1]}127.0.0.1:{device if line[3] == '00' else http} port {http}"

        text, found = _SERVER.subn(address, CFG.read_text(encoding="utf-8"))
        assert found == 2 * 3 and len(ports) <= 3
        whole = directory / "all.pem"
        whole.write_bytes((TLS / "cert.pem").read_bytes() + (TLS / "key.pem").read_bytes())
        for example, ours in {
            "maxconn 100000": "maxconn 1000",
            "bind :443": f"bind 127.0.0.1:{self.port}",
            "/etc/ssl/xiaozhi/all.pem": str(whole),
            "stats socket /run/haproxy/admin.sock": f"stats socket {directory}/admin.sock",
        }.items():
            assert text.count(example) == 1
            text = text.replace(example, ours)
        (directory / "haproxy.cfg").write_text(text, encoding="utf-8")
        self.run = [program, "-f", str(directory / "haproxy.cfg"), "-db"]
        self.test = [*self.run[:-1], "-c"]

    @property
    def url(self) -> str:
        """Where devices connect."""
        return f"wss://127.0.0.1:{self.port}/xiaozhi/v1/"

    def order(self, line: str) -> str:
        """Tell HAProxy something over its socket."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(PATIENCE_S)
            client.connect(f"{self.directory}/admin.sock")
            client.sendall(line.encode() + b"\n")
            return client.makefile().read()

    def up(self) -> int:
        """Servers that are taken to be ready, of both groups; none while HAProxy itself is starting."""
        try:
            told = self.order("show stat")
        except (FileNotFoundError, ConnectionRefusedError):
            return 0
        rows = [line.split(",") for line in told.splitlines() if line.startswith("xiaozhi_")]
        return sum(row[17] == "UP" for row in rows if row[1] not in ("FRONTEND", "BACKEND"))
