"""TLS: the certificate that is shown, the trust with which others are met, and that trust is read from files once."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from gevent.server import StreamServer

from tests.vendors.ws_vendor import WsVendor
from tests.waiting import PATIENCE_S
from xiaozhi.errors import VendorError, VendorRejected, VendorUnavailable
from xiaozhi.net.http import VendorHttp
from xiaozhi.net.tls import TlsFiles, accept_tls, client_context, server_context
from xiaozhi.net.websocket_client import VendorSocket
from xiaozhi.runtime.tasks import spawn

FOLDER = Path(__file__).parents[1] / "web" / "tls"
CERTIFICATE, KEY = FOLDER / "cert.pem", FOLDER / "key.pem"
"""For localhost and 127.0.0.1; its own authority."""
FILES = TlsFiles(CERTIFICATE, KEY)


@contextmanager
def https_vendor(context: ssl.SSLContext | None = None) -> Iterator[tuple[str, list[bytes]]]:
    """(URL, first lines of requests) of a server that closes every connection after one answer."""
    seen: list[bytes] = []

    def serve(sock: Any, address: object) -> None:
        request = sock.recv(65_536)
        if request:
            seen.append(request.partition(b"\r\n")[0])
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")

    server = StreamServer(("0.0.0.0", 0), serve, ssl_context=context or server_context(FILES))
    server.start()
    try:
        yield f"https://localhost:{server.server_port}/", seen
    finally:
        server.stop()


@contextmanager
def client(**options: Any) -> Iterator[VendorHttp]:
    made = VendorHttp("acme", **options)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def count_calls(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[object]]:
    """Count the calls of a method of ssl.SSLContext."""

    def count(method: str) -> list[object]:
        calls: list[object] = []
        real = getattr(ssl.SSLContext, method)

        def counted(self: ssl.SSLContext, *args: Any, **options: Any) -> Any:
            calls.append(args or options)
            return real(self, *args, **options)

        monkeypatch.setattr(ssl.SSLContext, method, counted)
        return calls

    return count


# --- the server's side ---


def test_a_server_context_is_modern() -> None:
    context = server_context(FILES)
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_RENEGOTIATION


@pytest.mark.parametrize("files", [TlsFiles(KEY, CERTIFICATE), TlsFiles("/nonexistent", KEY)])
def test_files_that_cannot_be_used(files: TlsFiles) -> None:
    with pytest.raises(OSError):
        server_context(files)


def test_a_handshake() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        accepted = spawn("accept", accept_tls, server_context(FILES), ours, 5.0)
        with client_context(str(CERTIFICATE)).wrap_socket(theirs, server_hostname="localhost") as secure:
            with accepted.get(timeout=PATIENCE_S) as server:
                secure.sendall(b"private")
                assert server.recv(100) == b"private"
                assert server.version() in ("TLSv1.2", "TLSv1.3")


@pytest.mark.parametrize("data,error", [(b"GET / HTTP/1.1\r\n\r\n", ssl.SSLError), (b"", TimeoutError)])
def test_a_client_that_does_not_speak_tls(data: bytes, error: type[OSError]) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(data)
        with pytest.raises(error):
            accept_tls(server_context(FILES), ours, 0.05)


# --- the client's side ---


def test_the_same_trust_is_the_same_context() -> None:
    assert client_context() is client_context(True)
    assert client_context(False) is client_context(False) is not client_context()
    assert client_context(str(CERTIFICATE)) is client_context(str(CERTIFICATE)) is not client_context()


def test_a_client_context_is_modern_and_checks_names() -> None:
    for verify in (True, str(CERTIFICATE)):
        context = client_context(verify)
        assert context.minimum_version is ssl.TLSVersion.TLSv1_2
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.check_hostname
        assert not context.hostname_checks_common_name
    assert client_context(False).verify_mode is ssl.CERT_NONE


def test_a_changed_file_of_authorities_is_read_again(tmp_path: Path) -> None:
    bundle = tmp_path / "authorities.pem"
    shutil.copy(CERTIFICATE, bundle)
    before = client_context(str(bundle))
    assert client_context(str(bundle)) is before
    os.utime(bundle, (1, 1))
    assert client_context(str(bundle)) is not before


@pytest.mark.parametrize("content", [None, "nonsense"])
def test_a_file_of_authorities_that_cannot_be_used(tmp_path: Path, content: str | None) -> None:
    bundle = tmp_path / "authorities.pem"
    if content is not None:
        bundle.write_text(content)
    with pytest.raises(OSError):
        client_context(str(bundle))
    with client(verify=str(bundle)) as http, pytest.raises(VendorRejected, match=r"authorities\.pem"):
        http.read("GET", "https://localhost:1/")


def test_trust_by_a_file_of_authorities(tmp_path: Path, self_signed: ssl.SSLContext) -> None:
    """Both vendors call themselves localhost; only one of them is in the file."""
    with client(verify=str(CERTIFICATE)) as http:
        with https_vendor() as (url, _):
            assert http.read("GET", url) == b"ok"
        with https_vendor(self_signed) as (url, _), pytest.raises(VendorUnavailable, match="TLS failed"):
            http.read("GET", url)


def test_the_name_has_to_be_right_too() -> None:
    with https_vendor() as (url, _), client(verify=str(CERTIFICATE)) as http:
        with pytest.raises(VendorUnavailable, match="TLS failed"):
            http.read("GET", url.replace("localhost", "127.0.0.2"))


def test_authorities_are_read_once_for_all_connections(count_calls: Callable[[str], list[object]]) -> None:
    """Reading them takes the hub 20 ms."""
    reads, defaults = count_calls("load_verify_locations"), count_calls("load_default_certs")
    with https_vendor() as (url, seen):
        with client(verify=str(CERTIFICATE)) as one, client(verify=str(CERTIFICATE)) as other:
            for http in (one, other, one, other):
                assert http.read("GET", url) == b"ok"
        with client(verify=False) as careless:
            assert careless.read("GET", url) == b"ok"
        for _ in range(3):
            with client() as careful, pytest.raises(VendorUnavailable, match="TLS failed"):
                careful.read("GET", url)
    with WsVendor(tls=server_context(FILES)) as vendor:
        for _ in range(3):
            with pytest.raises(VendorError):
                VendorSocket("acme", vendor.url.replace("127.0.0.1", "localhost"))
            with VendorSocket("acme", vendor.url, verify=False) as ws:
                ws.send_text("hello")
                assert ws.receive(5) == "hello"
    assert len(seen) == 5
    assert len(reads) <= 1, "none, when another test has read the file before"
    assert len(defaults) <= 1


def test_plain_addresses_need_no_context(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool | str] = []
    for module in ("http_pools", "websocket_client"):
        monkeypatch.setattr(f"xiaozhi.net.{module}.client_context", asked.append)
    with client(proxy="") as http, pytest.raises(VendorUnavailable):
        http.read("GET", "http://127.0.0.1:1/")
    with pytest.raises(VendorUnavailable):
        VendorSocket("acme", "ws://127.0.0.1:1/")
    assert asked == []


def test_a_proxy_that_is_reached_by_tls_is_held_to_the_same_trust() -> None:
    with https_vendor() as (proxy, seen):
        with client(proxy=proxy, verify=str(CERTIFICATE)) as http:
            assert http.read("GET", "http://vendor.invalid/path") == b"ok"
        with client(proxy=proxy) as careful, pytest.raises(VendorUnavailable):
            careful.read("GET", "http://vendor.invalid/path")
    assert seen == [b"GET http://vendor.invalid/path HTTP/1.1"]
