"""A certificate for 127.0.0.1, so that load tests can measure encrypted connections.

Made once per run by the openssl program and trusted by everything that is started from here (SSL_CERT_FILE)."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

DAYS = 2


class NoCertificate(Exception):
    """None could be made; the message says why."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """PEM files."""

    certfile: Path
    keyfile: Path


@functools.cache
def certificate() -> Certificate:
    """The certificate of this process and its children; trusted from now on. Raises NoCertificate."""
    folder = Path(tempfile.mkdtemp(prefix="loadtest-tls-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    made = Certificate(folder / "cert.pem", folder / "key.pem")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", str(DAYS), "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-keyout", str(made.keyfile), "-out", str(made.certfile)]
    try:
        subprocess.run(command, capture_output=True, text=True, check=True)
    except FileNotFoundError as error:
        raise NoCertificate("--tls needs the openssl program, which is not installed") from error
    except subprocess.CalledProcessError as error:
        raise NoCertificate(f"openssl made no certificate: {error.stderr.strip()[-300:]}") from error
    os.environ["SSL_CERT_FILE"] = str(made.certfile)
    return made
