"""Whose word is believed about the address of a client."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xiaozhi.net.proxies import MAX_HOPS, TrustedProxies, plain_ip

PROXIES = TrustedProxies(["10.0.0.0/8", "fd00::/8", "::1", "192.168.1.1"])
PROXY = "10.1.1.1"


@pytest.mark.parametrize("peer", ["192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1", "192.168.1.2"])
def test_strangers_are_not_believed(peer: str) -> None:
    assert PROXIES.client_ip(peer, "1.1.1.1", "2.2.2.2") == plain_ip(peer)
    assert TrustedProxies().client_ip(PROXY, "1.1.1.1", "2.2.2.2") == PROXY


@pytest.mark.parametrize(
    "forwarded,client",
    [
        ("203.0.113.7", "203.0.113.7"),
        ("6.6.6.6, 203.0.113.7", "203.0.113.7"),
        ("203.0.113.7, 10.2.2.2", "203.0.113.7"),
        ("203.0.113.7,10.2.2.2 , ::1", "203.0.113.7"),
        ("10.3.3.3, 10.2.2.2", "10.3.3.3"),
        ("2001:db8::5", "2001:db8::5"),
        ("2001:DB8:0::5, fd00::1", "2001:db8::5"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("203.0.113.7, ::ffff:10.2.2.2", "203.0.113.7"),
        ("fe80::1%eth0", "fe80::1"),
        # What is no address ends the chain: who stands before it may be an invention.
        ("nonsense", PROXY),
        ("203.0.113.7, nonsense", PROXY),
        ("203.0.113.7, nonsense, 10.2.2.2", "10.2.2.2"),
        ("203.0.113.7, ", PROXY),
        ("203.0.113.7:4711", PROXY),
        ("203.0.113.7%eth0", PROXY),
        ("unknown", PROXY),
    ],
)
def test_the_client_is_the_last_hop_that_is_no_proxy(forwarded: str, client: str) -> None:
    assert PROXIES.client_ip(PROXY, forwarded) == client


@pytest.mark.parametrize("peer", [PROXY, "::ffff:10.1.1.1", "::1", "fd00::1", "fd00::1%eth0", "192.168.1.1"])
def test_proxies_by_every_spelling_of_their_address(peer: str) -> None:
    assert peer in PROXIES
    assert PROXIES.client_ip(peer, "203.0.113.7") == "203.0.113.7"


@pytest.mark.parametrize(
    "forwarded,real,client",
    [
        ("", "203.0.113.7", "203.0.113.7"),
        ("  ", " 203.0.113.7 ", "203.0.113.7"),
        ("", "", PROXY),
        ("", "nonsense", PROXY),
        ("", "203.0.113.7, 198.51.100.1", PROXY),
        ("198.51.100.1", "203.0.113.7", "198.51.100.1"),
        ("nonsense", "203.0.113.7", PROXY),
    ],
)
def test_real_ip_counts_only_without_a_list(forwarded: str, real: str, client: str) -> None:
    assert PROXIES.client_ip(PROXY, forwarded, real) == client


def test_a_chain_of_proxies_has_an_end() -> None:
    proxies = ", ".join(f"10.0.0.{number}" for number in range(MAX_HOPS))
    assert PROXIES.client_ip(PROXY, f"203.0.113.7, {proxies}") == "10.0.0.0"
    assert PROXIES.client_ip(PROXY, f"203.0.113.7, {proxies.partition(', ')[2]}") == "203.0.113.7"


def test_a_peer_without_an_address() -> None:
    assert PROXIES.client_ip("", "203.0.113.7") == ""
    assert "" not in PROXIES


@pytest.mark.parametrize(
    "text,plain",
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::FFFF:1.2.3.4", "1.2.3.4"),
        ("::ffff:0.0.0.0", "0.0.0.0"),
        ("FE80::1%eth0", "fe80::1"),
        ("2001:0db8:0:0::1", "2001:db8::1"),
        ("localhost", ""),
        ("1.2.3.4%eth0", ""),
        ("fe80::1%" + "x" * 100, ""),
        ("1.2.3", ""),
        ("", ""),
    ],
)
def test_canonical_addresses(text: str, plain: str) -> None:
    assert plain_ip(text) == plain


@given(st.text(), st.text())
def test_the_answer_is_always_an_address(forwarded: str, real: str) -> None:
    assert ipaddress.ip_address(PROXIES.client_ip(PROXY, forwarded, real))


@pytest.mark.parametrize("network", ["localhost", "10.0.0.0/64", "", "10.0.0.0/8, ::1"])
def test_what_is_no_network_is_refused(network: str) -> None:
    with pytest.raises(ValueError):
        TrustedProxies([network])


def test_networks_may_be_objects() -> None:
    assert PROXY in TrustedProxies([ipaddress.ip_network("10.0.0.0/8")])
    assert PROXY in TrustedProxies(["10.9.9.9/8"]), "with bits behind the mask, as people write it"
