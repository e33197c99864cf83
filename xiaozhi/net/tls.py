"""TLS in one place: the certificate this server shows, and the trust with which it connects to others.

Client contexts are shared by all connections with the same trust. Reading the certificate authorities of a usual system
takes 20 ms, and the libraries here would do so for every new connection, on the hub (measured: docs/performance.md)."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from functools import lru_cache
from os import PathLike, stat
from typing import Any

import gevent


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Certificate (chain) and key of this server, PEM files."""

    certfile: str | PathLike[str]
    keyfile: str | PathLike[str]


def server_context(files: TlsFiles) -> ssl.SSLContext:
    """For a listening port: TLS 1.2 or newer. Raises OSError, of which ssl.SSLError is one, when a file cannot be
    used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION  # so that writing never has to wait for reading
    context.load_cert_chain(files.certfile, files.keyfile)
    return context


def accept_tls(context: ssl.SSLContext, sock: Any, seconds: float) -> ssl.SSLSocket:
    """The TLS handshake on an accepted socket, within `seconds`: a client that connects and says nothing would be
    waited for without end. Raises OSError (ssl.SSLError, TimeoutError), typically because the client speaks plain
    HTTP."""
    with gevent.Timeout(seconds, TimeoutError("TLS handshake took too long")):
        return context.wrap_socket(sock, server_side=True)


def client_context(verify: bool | str = True) -> ssl.SSLContext:
    """For connections to vendors: TLS 1.2 or newer, HTTP/1.1. The same object for the same trust; nobody may change it.

    `verify`: True trusts what the system trusts (SSL_CERT_FILE and SSL_CERT_DIR included), a path names a PEM file of
    authorities, False accepts any certificate. A file that has changed is read again. Raises OSError, of which
    ssl.SSLError is one, when the file cannot be used."""
    if isinstance(verify, bool):
        return _client_context(verify, ())
    found = stat(verify)
    return _client_context(verify, (found.st_mtime_ns, found.st_size, found.st_ino))


@lru_cache(maxsize=16)
def _client_context(verify: bool | str, version: tuple[int, ...]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.hostname_checks_common_name = False
    context.set_alpn_protocols(["http/1.1"])
    if verify is False:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif verify is True:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    else:
        context.load_verify_locations(cafile=verify)
    return context
