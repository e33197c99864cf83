"""The vendor WebSocket client against another implementation: messages, deadlines, refusals, ends of every kind."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import gevent
import pytest
from gevent.event import Event

from tests.vendors.ws_vendor import Peer, WsVendor
from tests.waiting import PATIENCE_S, wait_for
from xiaozhi.errors import VendorBusy, VendorError, VendorGarbage, VendorRejected, VendorTimeout, VendorUnavailable
from xiaozhi.net.websocket_client import VendorSocket


@pytest.fixture
def vendor() -> Iterator[WsVendor]:
    with WsVendor() as running:
        yield running


def test_text_and_bytes_there_and_back(vendor: WsVendor) -> None:
    with VendorSocket("acme", vendor.url + "/p?q=1", headers={"X-Own": "1"}, subprotocols=["binary"]) as ws:
        assert ws.subprotocol == "binary"
        for size in (0, 1, 125, 126, 65_535, 65_536, 200_000):
            ws.send_binary(b"\x5a" * size)
            assert ws.receive(PATIENCE_S) == b"\x5a" * size
        ws.send_text("你好")
        ws.send_text("again")
        assert ws.receive(PATIENCE_S) == "你好"
        assert ws.receive(PATIENCE_S) == "again"
    assert ws.closed
    assert vendor.wait_gone().closed_properly


@pytest.mark.parametrize(
    ("status", "expected"),
    [(401, VendorRejected), (403, VendorRejected), (429, VendorBusy), (500, VendorUnavailable), (302, VendorError)],
)
def test_a_refused_upgrade_becomes_the_error_of_its_status(
    vendor: WsVendor, status: int, expected: type[VendorError]
) -> None:
    vendor.reject.append(status)
    with pytest.raises(expected) as caught:
        VendorSocket("acme", vendor.url, secrets=["abc12345678"])
    assert "abc12345678" not in str(caught.value)
    if isinstance(caught.value, VendorBusy):
        assert caught.value.after == 3.0


def test_nobody_listens_and_nonsense_addresses() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(VendorUnavailable):
            VendorSocket("acme", f"ws://127.0.0.1:{unused.getsockname()[1]}")
    with pytest.raises(VendorRejected):
        VendorSocket("acme", "http://127.0.0.1:1/")


def test_a_stalled_upgrade_times_out(vendor: WsVendor) -> None:
    vendor.stall_upgrade = True
    with pytest.raises(VendorTimeout):
        VendorSocket("acme", vendor.url, connect=0.1)


def test_silence_times_out_and_closes(vendor: WsVendor) -> None:
    ws = VendorSocket("acme", vendor.url)
    with pytest.raises(VendorTimeout):
        ws.receive(0.05)
    assert ws.closed
    assert vendor.wait_gone()
    with pytest.raises(VendorUnavailable):
        ws.send_text("too late")


class _Script(WsVendor):
    def __init__(self, *steps: object) -> None:
        super().__init__()
        self.steps = steps

    def converse(self, peer: Peer) -> None:
        for step in self.steps:
            step(peer)  # type: ignore[operator]
        peer.wait_gone()


def test_close_by_the_vendor_tells_code_and_reason() -> None:
    with _Script(lambda peer: peer.close(1013, "try later")) as vendor:
        ws = VendorSocket("acme", vendor.url)
        with pytest.raises(VendorUnavailable, match="1013 try later"):
            ws.receive(PATIENCE_S)


def test_a_lost_connection_is_unavailable() -> None:
    with _Script(lambda peer: peer.drop()) as vendor:
        ws = VendorSocket("acme", vendor.url)
        with pytest.raises(VendorUnavailable):
            ws.receive(PATIENCE_S)


def test_pings_are_answered_and_not_heard() -> None:
    with (
        _Script(lambda peer: peer.ping(), lambda peer: peer.send("after the ping")) as vendor,
        VendorSocket("acme", vendor.url) as ws,
    ):
        assert ws.receive(PATIENCE_S) == "after the ping"


def test_fragments_are_put_together() -> None:
    def fragments(peer: Peer) -> None:
        peer.send_raw(b"\x01\x02ab" + b"\x89\x00" + b"\x00\x02cd" + b"\x80\x01e")

    with _Script(fragments) as vendor, VendorSocket("acme", vendor.url) as ws:
        assert ws.receive(PATIENCE_S) == "abcde"


@pytest.mark.parametrize(
    "raw",
    [
        b"\x82\x7f\x00\x00\x00\xff\x00\x00\x00\x00",  # claims a terabyte
        b"\x80\x02ab",  # continues nothing
        b"\x01\x02ab\x81\x02cd",  # a new message inside another
        b"\x81\x02\xff\xfe",  # text that is not UTF-8
        b"\xf3\x00",  # reserved bits and opcode
        b"\x02\x7e\x04\x00" + b"x" * 1024 + b"\x80\x7e\x04\x00" + b"x" * 1024,  # fragments that add up to too much
    ],
)
def test_broken_framing_is_garbage(raw: bytes) -> None:
    with _Script(lambda peer: peer.send_raw(raw)) as vendor:
        ws = VendorSocket("acme", vendor.url, max_message=1500)
        with pytest.raises(VendorGarbage):
            ws.receive(PATIENCE_S)
        assert ws.closed


def test_close_from_another_greenlet_wakes_the_reader(vendor: WsVendor) -> None:
    ws = VendorSocket("acme", vendor.url)
    caught: list[Exception] = []

    def read() -> None:
        try:
            ws.receive(60)
        except VendorUnavailable as error:
            caught.append(error)

    reader = gevent.spawn(read)
    gevent.sleep(0)
    ws.close()
    ws.close()
    reader.join(PATIENCE_S)
    assert len(caught) == 1


def test_killing_a_reader_closes(vendor: WsVendor) -> None:
    ws = VendorSocket("acme", vendor.url)
    reader = gevent.spawn(ws.receive, 60)
    gevent.sleep(0)
    reader.kill()
    assert ws.closed
    assert vendor.wait_gone()


def test_a_writer_that_is_not_read_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xiaozhi.net.websocket_client.SEND_SECONDS", 0.2)
    with _Script(lambda peer: Event().wait()) as vendor:
        ws = VendorSocket("acme", vendor.url)
        with pytest.raises(VendorTimeout):
            for _ in range(100):
                ws.send_binary(b"x" * 1_000_000)


def test_idle_means_open_and_nothing_unread() -> None:
    with _Script(
        lambda peer: peer.receive(), lambda peer: peer.send_raw(b"\x81\x01a\x81\x01b"), lambda peer: peer.receive()
    ) as vendor:
        ws = VendorSocket("acme", vendor.url)
        assert ws.is_idle()
        ws.send_text("go")
        assert ws.receive(PATIENCE_S) == "a"
        assert not ws.is_idle()  # "b" was received together with it
        assert ws.receive(PATIENCE_S) == "b"
        assert ws.is_idle()
        ws.close()
        assert not ws.is_idle()


def test_a_connection_the_vendor_closed_is_not_idle() -> None:
    with _Script(lambda peer: peer.receive(), lambda peer: peer.drop()) as vendor:
        ws = VendorSocket("acme", vendor.url)
        ws.send_text("go")
        wait_for(lambda: not ws.is_idle())
        ws.close()
