"""Fixtures of the transport tests."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from tests.waiting import PATIENCE_S


@pytest.fixture(autouse=True)
def logged() -> Iterator[list[Any]]:
    """What is logged, as a list: drawing a traceback for the terminal would keep the hub for 100 ms."""
    with structlog.testing.capture_logs() as lines:
        yield lines


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """(certfile, keyfile) of a self-signed certificate."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    folder: Path = tmp_path_factory.mktemp("tls")
    cert, key = str(folder / "cert.pem"), str(folder / "key.pem")
    curve = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1"
    command = f"{openssl} req -x509 {curve} -nodes -days 2 -subj /CN=localhost -keyout {key} -out {cert}"
    subprocess.run(command.split(), check=True, capture_output=True, timeout=PATIENCE_S)
    return cert, key
