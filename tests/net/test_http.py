"""The vendor client against a server that misbehaves on purpose: every failure has its type, and no connection outlives
its request."""

from __future__ import annotations

import gzip
import itertools
import socket
import ssl
from collections.abc import Iterator
from types import SimpleNamespace

import gevent
import pytest
from gevent.event import Event
from gevent.server import StreamServer

from loadtest.vendors.http_vendor import HttpVendor, Script, VendorAnswer, VendorRequest
from tests.waiting import PATIENCE_S, wait_for
from xiaozhi.errors import VendorBusy, VendorGarbage, VendorRejected, VendorTimeout, VendorUnavailable
from xiaozhi.net.http import VendorHttp, multipart
from xiaozhi.net.http_errors import error_for_status, redact

DONE = VendorAnswer([b"one ", b"two ", b"three"], "text/plain")


@pytest.fixture
def vendor() -> Iterator[HttpVendor]:
    with HttpVendor(lambda request: DONE) as running:
        yield running


@pytest.fixture
def http() -> Iterator[VendorHttp]:
    client = VendorHttp("acme", connect=1.0, read=2.0, total=5.0, secrets=["s3cret-key"])
    yield client
    client.close()


def test_streams_the_body_and_keeps_the_connection(vendor: HttpVendor, http: VendorHttp) -> None:
    for _ in range(3):
        with http.stream("POST", vendor.url + "/x?y=1", json={"a": 1}, headers={"X-Own": "1"}) as reply:
            assert reply.status == 200
            assert reply.content_type == "text/plain"
            assert b"".join(reply.chunks()) == b"one two three"
    assert vendor.connections == 1
    seen = vendor.requests[0]
    assert (seen.method, seen.path, seen.json(), seen.headers["x-own"]) == ("POST", "/x?y=1", {"a": 1}, "1")


def test_bodies_with_a_length_keep_the_connection_too(http: VendorHttp) -> None:
    with HttpVendor(lambda request: VendorAnswer(b'{"ok": true}')) as vendor:
        assert http.json("GET", vendor.url + "/") == {"ok": True}
        assert http.json("GET", vendor.url) == {"ok": True}
        assert http.read("GET", vendor.url + "/") == b'{"ok": true}'
        assert vendor.connections == 1


def test_two_clients_of_one_endpoint_share_connections(vendor: HttpVendor, http: VendorHttp) -> None:
    other = VendorHttp("other")
    http.read("GET", vendor.url + "/a")
    other.read("GET", vendor.url + "/b")
    assert vendor.connections == 1
    other.close()
    http.read("GET", vendor.url + "/c")
    assert vendor.connections == 1


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, VendorRejected),
        (401, VendorRejected),
        (403, VendorRejected),
        (404, VendorRejected),
        (408, VendorTimeout),
        (429, VendorBusy),
        (500, VendorUnavailable),
        (502, VendorUnavailable),
        (503, VendorUnavailable),
        (529, VendorBusy),
        (302, VendorRejected),
    ],
)
def test_status_becomes_a_typed_error(
    vendor: HttpVendor, http: VendorHttp, status: int, expected: type[Exception]
) -> None:
    vendor.script("/", Script(status=status, error="because I say so"))
    with pytest.raises(expected, match=f"HTTP {status}.*because I say so"):
        http.read("GET", vendor.url + "/")
    http.read("GET", vendor.url + "/")
    assert vendor.connections == 1  # an error answer is read to its end: its connection stays useful


@pytest.mark.parametrize(("header", "after"), [("7", 7.0), ("", None), ("soon", None), ("-3", 0.0)])
def test_busy_carries_the_vendors_wish(vendor: HttpVendor, http: VendorHttp, header: str, after: float | None) -> None:
    vendor.script("/", Script(status=429, retry_after=header))
    with pytest.raises(VendorBusy) as caught:
        http.read("GET", vendor.url + "/")
    assert caught.value.after == after


def test_busy_understands_a_date(vendor: HttpVendor, http: VendorHttp) -> None:
    vendor.script("/", Script(status=429, retry_after="Wed, 21 Oct 2015 07:28:00 GMT"))
    with pytest.raises(VendorBusy) as caught:
        http.read("GET", vendor.url + "/")
    assert caught.value.after == 0.0


@pytest.mark.parametrize(
    ("headers", "said"),
    [({"Date": "Mon, 04 Nov 2024 15:20:12 GMT"}, 1_730_733_612.0), ({"date": "noon"}, 0.0), ({}, 0.0)],
)
def test_a_refusal_tells_the_vendors_time(headers: dict[str, str], said: float) -> None:
    assert error_for_status("acme", 403, headers, "").answered_at == said


@pytest.mark.parametrize(
    "words", ["insufficient_quota", "exceeded_current_quota_error: suspended", "1113 余额不足或无可用资源包,请充值。"]
)
def test_an_empty_account_is_not_worth_waiting_for(vendor: HttpVendor, http: VendorHttp, words: str) -> None:
    vendor.script("/", Script(status=429, error=words))
    with pytest.raises(VendorRejected):
        http.read("GET", vendor.url + "/")


def test_a_call_that_a_vendor_could_not_read_may_be_asked_for_again(vendor: HttpVendor, http: VendorHttp) -> None:
    vendor.script("/", Script(status=400, error="code: tool_use_failed"))
    with pytest.raises(VendorUnavailable):
        http.read("GET", vendor.url + "/")


def test_messages_hold_no_secrets_and_have_a_bounded_size(vendor: HttpVendor, http: VendorHttp) -> None:
    vendor.script(
        "/",
        Script(status=401, error="Incorrect key s3cret-key or Bearer abcdef123456 or sk-proj-aaaaaaaa " + "x" * 50_000),
    )
    with pytest.raises(VendorRejected) as caught:
        http.read("GET", vendor.url + "/")
    text = str(caught.value)
    assert "s3cret" not in text and "abcdef123456" not in text and "aaaaaaaa" not in text
    assert len(text) < 500


def test_refused_connection_is_unavailable(http: VendorHttp) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with pytest.raises(VendorUnavailable):
            http.read("GET", f"http://127.0.0.1:{port}/")


def test_unknown_host_is_unavailable(http: VendorHttp) -> None:
    with pytest.raises(VendorUnavailable):
        http.read("GET", "http://no-such-host.invalid/")


@pytest.mark.parametrize("url", ["ftp://example.org/", "nonsense", "http://"])
def test_unusable_addresses_are_rejected(http: VendorHttp, url: str) -> None:
    with pytest.raises(VendorRejected):
        http.read("GET", url)


def test_stall_before_the_first_byte(vendor: HttpVendor) -> None:
    http = VendorHttp("acme", read=10.0, first_byte=0.1)
    vendor.script("/", Script(stall="before"))
    with pytest.raises(VendorTimeout):
        http.read("GET", vendor.url + "/")
    assert vendor.wait_gone().path == "/"
    http.close()


def test_stall_in_the_middle(vendor: HttpVendor) -> None:
    http = VendorHttp("acme", read=0.1, first_byte=PATIENCE_S)
    vendor.script("/", Script(stall="after"))
    got = []
    with pytest.raises(VendorTimeout), http.stream("GET", vendor.url + "/") as reply:
        got.extend(reply.chunks())
    assert got == [b"one ", b"two "]
    assert vendor.wait_gone().path == "/"
    http.close()


def test_a_trickle_is_ended_by_the_total_deadline() -> None:
    def trickle() -> Iterator[bytes]:
        while True:
            yield b"."

    with HttpVendor(lambda request: VendorAnswer(trickle())) as vendor:
        vendor.stand("/", Script(gap=0.02))
        http = VendorHttp("acme", read=5.0, total=0.3)
        with pytest.raises(VendorTimeout, match=r"0\.3 s"):
            http.read("GET", vendor.url + "/")
        assert vendor.wait_gone().path == "/"
        http.close()


def test_the_total_deadline_holds_also_when_the_next_piece_is_there_already(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wait that is none never times out. Here each reading takes a second of a clock of its own."""
    seconds = itertools.count()
    with HttpVendor(lambda request: VendorAnswer(b"." for _ in range(30))) as vendor:
        http = VendorHttp("acme", read=PATIENCE_S, total=10.5)
        with http.stream("GET", vendor.url + "/") as reply:
            wait_for(lambda: not vendor.active, "the whole answer to be sent")
            monkeypatch.setattr("xiaozhi.net.http.time", SimpleNamespace(monotonic=lambda: float(next(seconds))))
            with pytest.raises(VendorTimeout, match=r"10\.5 s"):
                list(reply.chunks())
        http.close()


def test_the_readers_own_pauses_do_not_count(vendor: HttpVendor) -> None:
    http = VendorHttp("acme", read=PATIENCE_S, total=0.5)
    vendor.stand("/", Script(gap=0.01))
    with http.stream("GET", vendor.url + "/") as reply:
        body = b""
        for chunk in reply.chunks():
            body += chunk
            gevent.sleep(0.2)  # sleep: the reader pauses, altogether for longer than `total`
    assert body == b"one two three"
    http.close()


@pytest.mark.parametrize("pieces", [0, 1, 2])
def test_disconnect_in_the_middle_is_unavailable(vendor: HttpVendor, http: VendorHttp, pieces: int) -> None:
    vendor.script("/", Script(disconnect=pieces))
    with pytest.raises(VendorUnavailable):
        http.read("GET", vendor.url + "/")
    assert http.read("GET", vendor.url + "/") == b"one two three"


def test_a_body_shorter_than_announced_is_unavailable(http: VendorHttp) -> None:
    def serve(sock: socket.socket, address: object) -> None:
        sock.recv(4096)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this")
        sock.close()

    server = StreamServer(("127.0.0.1", 0), serve)
    server.start()
    with pytest.raises(VendorUnavailable):
        http.read("GET", f"http://127.0.0.1:{server.server_port}/")
    server.stop()


@pytest.mark.parametrize("what", ["status", "chunk"])
def test_broken_http_is_a_vendor_error(vendor: HttpVendor, http: VendorHttp, what: str) -> None:
    vendor.script("/", Script(garbage=what))
    with pytest.raises((VendorGarbage, VendorUnavailable)):
        http.read("GET", vendor.url + "/")


@pytest.mark.parametrize("what", ["json", "html", "binary", "empty"])
def test_what_is_not_json_is_garbage(vendor: HttpVendor, http: VendorHttp, what: str) -> None:
    vendor.script("/", Script(garbage=what))
    with pytest.raises(VendorGarbage):
        http.json("GET", vendor.url + "/")


def test_endless_answers_are_garbage(http: VendorHttp) -> None:
    with HttpVendor(lambda request: VendorAnswer(b"x" * 1000 for _ in range(1000))) as vendor:
        with pytest.raises(VendorGarbage, match="longer than 5000"):
            http.read("GET", vendor.url + "/", limit=5000)
        with pytest.raises(VendorGarbage), http.stream("GET", vendor.url + "/") as reply:
            reply.garbage("no", b"thanks")


def test_leaving_early_closes_the_connection(vendor: HttpVendor, http: VendorHttp) -> None:
    vendor.stand("/", Script(stall="after"))
    with http.stream("GET", vendor.url + "/") as reply:
        assert next(reply.chunks()) == b"one "
    assert vendor.wait_gone().path == "/"


@pytest.mark.parametrize("stall", ["before", "after"])
def test_killing_the_greenlet_closes_the_connection(vendor: HttpVendor, http: VendorHttp, stall: str) -> None:
    vendor.stand("/", Script(stall=stall))
    reading = Event()

    def read() -> None:
        reading.set()
        with http.stream("GET", vendor.url + "/") as reply:
            for _ in reply.chunks():
                pass

    greenlet = gevent.spawn(read)
    reading.wait(PATIENCE_S)
    wait_for(lambda: vendor.active)
    greenlet.kill()
    assert vendor.wait_gone().path == "/"


def test_a_foreign_timeout_passes_through(vendor: HttpVendor, http: VendorHttp) -> None:
    vendor.stand("/", Script(stall="before"))
    with gevent.Timeout(0.1, False) as mine:
        http.read("GET", vendor.url + "/")
        pytest.fail("must not get here")
    assert not mine.pending
    assert vendor.wait_gone().path == "/"


def test_close_breaks_off_what_runs(vendor: HttpVendor, http: VendorHttp) -> None:
    vendor.stand("/", Script(stall="after"))
    reading = Event()
    failed: list[Exception] = []

    def read() -> None:
        try:
            with http.stream("GET", vendor.url + "/") as reply:
                for _ in reply.chunks():
                    reading.set()
        except VendorUnavailable as error:
            failed.append(error)

    greenlet = gevent.spawn(read)
    assert reading.wait(PATIENCE_S)
    http.close()
    http.close()
    greenlet.join(PATIENCE_S)
    assert len(failed) == 1
    with pytest.raises(VendorUnavailable):
        http.read("GET", vendor.url + "/")


class _ClosesAfter:
    """Answers `per_connection` requests on each connection, then closes it when the next one has been sent."""

    def __init__(self, per_connection: int) -> None:
        self.per_connection = per_connection
        self.accepted = 0
        self.bodies: list[bytes] = []
        self.server = StreamServer(("127.0.0.1", 0), self._serve)

    def _serve(self, sock: socket.socket, address: object) -> None:
        self.accepted += 1
        for _ in range(self.per_connection):
            request = sock.recv(65_536)
            if not request:
                return
            self.bodies.append(request.partition(b"\r\n\r\n")[2])
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        sock.recv(65_536)
        sock.close()


def test_a_request_that_a_dead_connection_swallowed_is_sent_again(http: VendorHttp) -> None:
    vendor = _ClosesAfter(1)
    vendor.server.start()
    url = f"http://127.0.0.1:{vendor.server.server_port}/"
    assert http.read("POST", url, data=b"first") == b"ok"
    assert http.read("POST", url, data=b"second") == b"ok"
    assert vendor.bodies == [b"first", b"second"]
    assert vendor.accepted == 2
    vendor.server.stop()


def test_a_fresh_connection_is_never_tried_again(http: VendorHttp) -> None:
    vendor = _ClosesAfter(0)
    vendor.server.start()
    with pytest.raises(VendorUnavailable):
        http.read("POST", f"http://127.0.0.1:{vendor.server.server_port}/", data=b"only once")
    assert vendor.accepted == 1
    vendor.server.stop()


def test_lines_and_events_survive_any_cut() -> None:
    text = b": hello\r\ndata: one\r\n\r\nevent: x\ndata:two\ndata: three\n\nid: 4\ndata: last"
    for size in (1, 2, 3, 7, 1000):
        pieces = [text[start : start + size] for start in range(0, len(text), size)]
        with HttpVendor(lambda request, pieces=pieces: VendorAnswer(pieces, "text/event-stream")) as vendor:
            http = VendorHttp("acme")
            with http.stream("GET", vendor.url + "/") as reply:
                assert list(reply.sse()) == [b"one", b"two", b"three", b"last"]
            http.close()


def test_gzip_is_seen_by_its_bytes_and_not_believed_from_a_header(http: VendorHttp) -> None:
    text = b'{"a": 1}' + b" " * 1000
    packed = gzip.compress(text)
    for body, headers in ((packed, {}), (text, {"Content-Encoding": "gzip"}), (packed, {"Content-Encoding": "x-gzip"})):
        for pieces in (body, [body[:5], body[5:]]):
            answer = VendorAnswer(pieces, headers=headers)
            with HttpVendor(lambda request, answer=answer: answer) as vendor:
                assert http.json("GET", vendor.url) == {"a": 1}
                assert http.json("GET", vendor.url) == {"a": 1}
                assert vendor.connections == 1
    with HttpVendor(lambda request: VendorAnswer(packed[:-6])) as vendor, pytest.raises(VendorUnavailable):
        http.read("GET", vendor.url)
    with HttpVendor(lambda request: VendorAnswer(b"\x1f\x8bno")) as vendor, pytest.raises(VendorGarbage):
        http.read("GET", vendor.url)


def test_a_body_that_may_end_is_not_waited_for(http: VendorHttp) -> None:
    with HttpVendor(lambda request: VendorAnswer([b"one", b"two", b"never"])) as vendor:
        vendor.stand("/", Script(stall="after"))
        with http.stream("GET", vendor.url + "/") as reply:
            pieces = reply.chunks()
            assert next(pieces) == b"one"
            reply.expect_end(0.05)
            assert list(pieces) == [b"two"] and not reply.complete
        assert vendor.wait_gone()
        assert http.read("GET", vendor.url + "/other") == b"onetwonever"


def test_a_refusal_keeps_what_the_vendor_said(http: VendorHttp) -> None:
    said = "x" * 900 + " the reason"
    with HttpVendor(lambda request: VendorAnswer(said.encode(), status=400)) as vendor:
        with pytest.raises(VendorRejected) as caught:
            http.read("GET", vendor.url)
    assert caught.value.details == said and "the reason" not in str(caught.value)


def test_compressed_answers_are_understood(http: VendorHttp) -> None:
    packed = gzip.compress(b'{"a": 1}' + b" " * 1000)
    with HttpVendor(lambda request: VendorAnswer(packed, headers={"Content-Encoding": "gzip"})) as vendor:
        assert http.json("GET", vendor.url + "/") == {"a": 1}
        assert http.json("GET", vendor.url + "/") == {"a": 1}


def test_finish_saves_the_connection_or_gives_up_soon(vendor: HttpVendor, http: VendorHttp) -> None:
    with http.stream("GET", vendor.url + "/") as reply:
        next(reply.chunks())
        reply.finish()
    http.read("GET", vendor.url + "/")
    assert vendor.connections == 1
    vendor.script("/", Script(stall="after"))
    with http.stream("GET", vendor.url + "/") as reply:
        next(reply.chunks())
        reply.finish(grace=0.05)
    assert vendor.wait_gone().path == "/"


def test_multipart_and_redact() -> None:
    body, content_type = multipart({"model": "m", "file": ("a.wav", b"RIFF", "audio/wav")})
    assert content_type.startswith("multipart/form-data; boundary=")
    assert b'filename="a.wav"' in body and b"RIFF" in body
    assert redact("Bearer; abcdefgh rest") == "Bearer; *** rest"
    assert redact("a\nb\x00 \t c" + "d" * 400).startswith("a b")


def test_through_a_proxy() -> None:
    seen: list[VendorRequest] = []

    def answer(request: VendorRequest) -> VendorAnswer:
        seen.append(request)
        return VendorAnswer(b"proxied")

    with HttpVendor(answer) as proxy:
        http = VendorHttp("acme", proxy=proxy.url)
        assert http.read("GET", "http://vendor.invalid/path") == b"proxied"
        http.close()
    assert seen[0].path == "http://vendor.invalid/path"


def test_tls_with_a_certificate_nobody_knows(self_signed: ssl.SSLContext) -> None:
    def serve(sock: socket.socket, address: object) -> None:
        for _ in range(2):
            if not sock.recv(65_536):
                return
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    server = StreamServer(("127.0.0.1", 0), serve, ssl_context=self_signed)
    server.start()
    url = f"https://127.0.0.1:{server.server_port}/"
    trusting, careful = VendorHttp("acme", verify=False), VendorHttp("acme")
    assert [trusting.read("GET", url) for _ in range(2)] == [b"ok", b"ok"]
    with pytest.raises(VendorUnavailable, match="TLS failed"):
        careful.read("GET", url)
    trusting.close()
    careful.close()
    server.stop()


def test_the_environments_proxy_spares_loopback(monkeypatch: pytest.MonkeyPatch, vendor: HttpVendor) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    http = VendorHttp("acme")
    assert http.read("GET", vendor.url + "/") == b"one two three"
    http.close()
