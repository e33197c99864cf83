"""Pages whose address somebody else chose: no way to this machine, its network or a cloud's metadata."""

from __future__ import annotations

import gzip
import ipaddress
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import gevent
import pytest
from gevent.server import StreamServer

from loadtest.vendors.http_vendor import HttpVendor, Script, VendorAnswer, VendorRequest
from tests.net.test_tls import CERTIFICATE, FILES
from xiaozhi.errors import VendorError, VendorGarbage, VendorRejected, VendorTimeout, VendorUnavailable
from xiaozhi.net.guarded_fetch import MAX_REDIRECTS, GuardedFetch, may_fetch
from xiaozhi.net.tls import client_context, server_context

Answer = Callable[[VendorRequest], VendorAnswer]


class Site(HttpVendor):
    """Answers as `pages` says, by path."""

    def __init__(self) -> None:
        super().__init__()
        self.pages: dict[str, VendorAnswer | Answer] = {"/": VendorAnswer(b"<p>hello</p>", "text/html; charset=GBK")}

    def answer(self, request: VendorRequest, script: Script) -> VendorAnswer:
        page = self.pages[request.path]
        return page if isinstance(page, VendorAnswer) else page(request)

    def moved(self, path: str, to: str, status: int = 302) -> None:
        """A redirect."""
        self.pages[path] = VendorAnswer(b"", status=status, headers={"Location": to})


@pytest.fixture
def site() -> Iterator[Site]:
    with Site() as running:
        yield running  # type: ignore[misc]


def port_of(site: Site) -> int:
    return int(site.url.rpartition(":")[2])


def fetcher(*named: str, to: Sequence[str] = ("127.0.0.1",), **options: object) -> GuardedFetch:
    """Looks every name up as `to`."""
    return GuardedFetch("acme", named_hosts=named, resolve=lambda host, port: to, **options)  # type: ignore[arg-type]


def test_a_page_of_a_named_host(site: Site) -> None:
    page = fetcher("news.example").get(f"http://news.example:{port_of(site)}/")

    assert (page.body, page.content_type, page.charset) == (b"<p>hello</p>", "text/html", "gbk")
    request = site.requests[0]
    assert request.headers["host"] == f"news.example:{port_of(site)}"
    assert "cookie" not in request.headers


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
        "::1", "fe80::1", "fd00:ec2::254", "fc00::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1",
        "2002:7f00:1::", "ff02::1", "::", "192.0.2.1", "255.255.255.255", "100.100.100.200",
    ],
)  # fmt: skip
def test_addresses_that_strangers_may_not_name(address: str) -> None:
    assert not may_fetch(ipaddress.ip_address(address), named=False)
    host = f"[{address}]" if ":" in address else address
    for url in (f"http://{host}/", "http://innocent.example/"):
        with pytest.raises(VendorRejected, match="not fetched from"):
            fetcher(to=[address]).get(url)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "2002:808:808::", "::ffff:8.8.8.8"])
def test_public_addresses(address: str) -> None:
    assert may_fetch(ipaddress.ip_address(address), named=False)


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("127.0.0.1", True), ("10.0.0.1", True), ("fc00::1", True),
        ("169.254.169.254", False), ("fe80::1", False), ("100.100.100.200", False), ("fd00:ec2::254", False),
        ("::ffff:169.254.169.254", False), ("224.0.0.1", False), ("0.0.0.0", False),
    ],
)  # fmt: skip
def test_what_the_operator_may_name(address: str, allowed: bool) -> None:
    assert may_fetch(ipaddress.ip_address(address), named=True) is allowed


def test_one_bad_address_of_a_host_is_enough() -> None:
    with pytest.raises(VendorRejected, match="not fetched from"):
        fetcher(to=["8.8.8.8", "127.0.0.1"]).get("http://two.example/")


@pytest.mark.parametrize("host", ["2130706433", "0x7f.1", "127.1", "localhost", "localhost."])
def test_other_spellings_of_this_machine(host: str) -> None:
    with pytest.raises(VendorError, match=r"not fetched from|not known"):
        GuardedFetch("acme").get(f"http://{host}/")


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "ftp://x.example/", "//x.example/", "", "http://", "http://user:pw@x.example/",
     "http://x.example:0/", "http://x.example:99999/", "http://[::1", "gopher://x.example/"],
)  # fmt: skip
def test_what_is_no_address_of_a_page(url: str) -> None:
    with pytest.raises(VendorRejected, match="not the address"):
        fetcher("x.example").get(url)


def test_the_connection_goes_to_the_address_that_was_checked(site: Site) -> None:
    """A name that means something else the second time it is looked up."""
    answers = iter([["127.0.0.1"], ["192.0.2.1"]])
    fetch = GuardedFetch("acme", named_hosts=["x.example"], resolve=lambda host, port: next(answers))

    assert fetch.get(f"http://x.example:{port_of(site)}/").body == b"<p>hello</p>"
    assert next(answers) == ["192.0.2.1"], "looked up once"


def test_redirects_are_followed_and_checked(site: Site) -> None:
    here = f"http://x.example:{port_of(site)}"
    site.moved("/a", "/b", 301)
    site.moved("/b", f"{here}/", 308)
    assert fetcher("x.example").get(f"{here}/a").url == f"{here}/"

    site.moved("/out", "http://169.254.169.254/latest/meta-data")
    with pytest.raises(VendorRejected, match=r"169.254.169.254 is an address"):
        fetcher("x.example").get(f"{here}/out")
    site.moved("/file", "file:///etc/passwd")
    with pytest.raises(VendorRejected, match="not the address"):
        fetcher("x.example").get(f"{here}/file")
    # Named is a host, not an address: what the feed links to is not named.
    site.moved("/there", f"http://other.example:{port_of(site)}/")
    with pytest.raises(VendorRejected, match=r"other.example is an address"):
        fetcher("x.example").get(f"{here}/there")


def test_redirects_without_end(site: Site) -> None:
    site.moved("/", "/")

    with pytest.raises(VendorRejected, match="redirects"):
        fetcher("x.example").get(f"http://x.example:{port_of(site)}/")
    assert len(site.requests) == MAX_REDIRECTS + 1


def test_secrets_go_to_the_first_host_only(site: Site) -> None:
    port = port_of(site)
    site.moved("/a", f"http://other.example:{port}/")

    fetcher("x.example", "other.example").get(f"http://x.example:{port}/a", headers={"Authorization": "Bearer s"})

    assert [request.headers.get("authorization") for request in site.requests] == ["Bearer s", None]


def test_a_page_is_unpacked_and_bounded(site: Site) -> None:
    here = f"http://x.example:{port_of(site)}/"
    site.pages["/"] = VendorAnswer(gzip.compress(b"x" * 1_000), "text/html", headers={"Content-Encoding": "gzip"})
    assert fetcher("x.example").get(here).body == b"x" * 1_000

    bomb = gzip.compress(b"\0" * 20_000_000)
    site.pages["/"] = VendorAnswer(bomb, "text/html", headers={"Content-Encoding": "gzip"})
    with pytest.raises(VendorGarbage, match="more than"):
        fetcher("x.example").get(here)

    site.pages["/"] = VendorAnswer(b"\x1f\x8bnonsense", "text/html", headers={"Content-Encoding": "gzip"})
    with pytest.raises(VendorGarbage):
        fetcher("x.example").get(here)


def test_refusals_have_their_types(site: Site) -> None:
    here = f"http://x.example:{port_of(site)}"
    for status, error in ((404, VendorRejected), (500, VendorUnavailable)):
        site.stand("/", Script(status=status))
        with pytest.raises(error, match=str(status)):
            fetcher("x.example").get(f"{here}/")
    site.stand("/", Script(disconnect=-1))
    with pytest.raises(VendorUnavailable):
        fetcher("x.example").get(f"{here}/")


def test_a_slow_page_is_given_up_in_all(site: Site) -> None:
    """Also one that sends a byte now and then."""
    site.stand("/", Script(gap=0.05))
    site.pages["/"] = VendorAnswer([b"x"] * 1_000, "text/html")

    with pytest.raises(VendorTimeout, match="within"):
        fetcher("x.example", total=0.2).get(f"http://x.example:{port_of(site)}/")


def test_the_next_address_is_tried(site: Site) -> None:
    listener = StreamServer(("127.0.0.2", 0), lambda sock, address: None)
    listener.init_socket()
    port = listener.server_port
    listener.close()
    with pytest.raises(VendorUnavailable, match=r"no connection to x.example"):
        fetcher("x.example", to=["127.0.0.2", "127.0.0.3"]).get(f"http://x.example:{port}/")

    page = fetcher("x.example", to=["127.0.0.2", "127.0.0.1"]).get(f"http://x.example:{port_of(site)}/")
    assert page.body == b"<p>hello</p>"


def test_a_name_that_nobody_knows() -> None:
    def unknown(host: str, port: int) -> list[str]:
        raise OSError("no such name")

    for resolve in (unknown, lambda host, port: []):
        with pytest.raises(VendorUnavailable, match=r"not known|no address"):
            GuardedFetch("acme", resolve=resolve).get("http://x.example/")


def test_a_name_look_up_that_hangs_is_given_up() -> None:
    def stuck(host: str, port: int) -> list[str]:
        gevent.sleep(60)  # sleep: a look-up that does not end
        return []

    with pytest.raises(VendorTimeout, match="within"):
        GuardedFetch("acme", resolve=stuck, total=0.05).get("http://x.example/")


def test_the_certificate_must_be_that_of_the_name() -> None:
    def serve(sock: Any, address: object) -> None:
        sock.recv(65_536)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")

    server = StreamServer(("127.0.0.1", 0), serve, ssl_context=server_context(FILES))
    server.start()
    try:
        for host in ("localhost", "other.example"):
            fetch = fetcher(host, verify=str(CERTIFICATE))
            url = f"https://{host}:{server.server_port}/"
            if host == "localhost":
                assert fetch.get(url).body == b"ok"
            else:
                with pytest.raises(VendorUnavailable, match="no TLS connection"):
                    fetch.get(url)
        assert client_context(str(CERTIFICATE)).check_hostname, "the context is everybody's"
    finally:
        server.stop()
