"""Subjects for contract tests: vendors for providers that speak HTTP or WebSocket, which answer as a function says and
fail as the suite demands; and the real inference pool for providers that need no vendor."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from loadtest.vendors.http_vendor import HttpVendor, Script, VendorAnswer, VendorRequest
from tests.contract.suites import Subject
from tests.vendors.ws_vendor import Peer, WsVendor
from xiaozhi.providers.contracts.provider import Services
from xiaozhi.providers.registry import build
from xiaozhi.runtime.inference import InferencePool

CONFIG = Path(__file__).resolve().parents[2] / "config"

SCRIPTS = {
    "401": Script(status=401, error="Incorrect API key: secret-key"),
    "429": Script(status=429, retry_after="2"),
    "500": Script(status=500, error="oops"),
    "stall_before": Script(stall="before"),
    "stall_after": Script(stall="after"),
    "disconnect": Script(disconnect=2),
    "garbage": Script(garbage="html"),
}
"""Fault of the matrix -> what the vendor's next request meets."""

VENDOR_PATH = "/vendor"


def failing(vendor: HttpVendor, kind: str) -> Callable[[str], None]:
    """The `fail` of a Subject for requests of one kind."""

    def fail(fault: str) -> None:
        if fault == "refused":
            vendor.stop()
        else:
            vendor.script(kind, SCRIPTS[fault])

    return fail


@contextmanager
def http_subject(make: Callable[[str], Any], answer: Callable[[VendorRequest], VendorAnswer]) -> Iterator[Subject]:
    """The Subject of a provider made by `make(url)` for one endpoint that answers with `answer(request)`. The
    provider's deadlines must be short (0.3 s): silent vendors are part of the suite."""
    with HttpVendor(answer) as vendor:
        provider = make(vendor.url + VENDOR_PATH)
        yield Subject(provider, failing(vendor, VENDOR_PATH), vendor.wait_gone, lambda: vendor.active)
        provider.close()


class LoopbackPeer:
    """One connection, as a vendor's function sees it. `fault`: what happens with its first sound."""

    def __init__(self, peer: Peer, fault: str, is_sound: Callable[[str | bytes], bool]) -> None:
        self._peer = peer
        self._fault = fault
        self._is_sound = is_sound
        self.headers = peer.headers

    def receive(self) -> str | bytes:
        """The client's next message. Raises PeerGone."""
        return self._peer.receive(60)

    def send(self, message: str | bytes) -> None:
        """Answer, unless a fault comes between. Raises PeerGone."""
        fault = self._fault if self._is_sound(message) else ""
        if fault == "garbage":
            self._peer.send("<html>oops</html>")
        if fault in ("garbage", "stall_before"):
            self._peer.wait_gone()
        self._peer.send(message)
        if fault == "drop":
            self._peer.drop()
        if fault in ("drop", "stall_after"):
            self._peer.wait_gone()


class _LoopbackWsVendor(WsVendor):
    def __init__(self, talk: Callable[[LoopbackPeer], None], is_sound: Callable[[str | bytes], bool]) -> None:
        super().__init__()
        self._talk = talk
        self._is_sound = is_sound

    def converse(self, peer: Peer) -> None:
        self._talk(LoopbackPeer(peer, self.once.popleft() if self.once else "", self._is_sound))


@contextmanager
def ws_subject(
    make: Callable[[str], Any],
    talk: Callable[[LoopbackPeer], None],
    *,
    is_sound: Callable[[str | bytes], bool] = lambda message: isinstance(message, bytes),
) -> Iterator[Subject]:
    """The Subject of a provider made by `make(url)` that opens one connection per use, to a vendor that talks as
    `talk(peer)` does; raise `Fault` there when the client breaks the vendor's rules. `is_sound`: which of the vendor's
    messages bring sound (or text, for recognisers): faults happen there. The provider's deadlines must be short
    (0.3 s)."""
    with _LoopbackWsVendor(talk, is_sound) as vendor:
        provider = make(vendor.url + VENDOR_PATH)
        yield Subject(provider, vendor.fail, vendor.wait_gone, lambda: vendor.open)
        provider.close()
        assert vendor.faults == []


@contextmanager
def local_subject(kind: str, block: Mapping[str, Any]) -> Iterator[Subject]:
    """The Subject of a provider that works by itself, in a pool of two threads."""
    pool = InferencePool(workers=2)
    provider = build(kind, "Subject", block, Services(inference=pool, config_dir=CONFIG))
    try:
        yield Subject(provider)
    finally:
        provider.close()
        pool.close()
