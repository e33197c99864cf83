"""What an address of Redis may look like, and what is said of one that cannot be used."""

from __future__ import annotations

import pytest

from xiaozhi.settings.redis_address import read_address


@pytest.mark.parametrize(
    "url,shown",
    [
        ("redis://localhost", "redis://localhost:6379"),
        ("rediss://anna:s%2Fecret@cache.example:6380/3", "rediss://cache.example:6380/3"),
        ("redis://:secret@[::1]:7000", "redis://::1:7000"),
        ("unix:///run/redis.sock?db=2", "unix:///run/redis.sock"),
        ("redis+sentinel://a,b:26380/mymaster", "redis+sentinel://a:26379,b:26380/mymaster"),
        ("redis+sentinel://:secret@a/mymaster/4", "redis+sentinel://a:26379/mymaster/4"),
        ("rediss+cluster://a:7000,b:7001?ssl_ca_certs=/etc/ca.pem", "rediss+cluster://a:7000,b:7001"),
    ],
)
def test_addresses(url: str, shown: str) -> None:
    assert str(read_address(url)) == shown


def test_what_stands_in_an_address() -> None:
    address = read_address("rediss://anna:s%2Fecret@cache.example/3?ssl_ca_certs=/etc/ca.pem")

    assert (address.user, address.password, address.database) == ("anna", "s/ecret", 3)
    assert address.options == (("ssl_ca_certs", "/etc/ca.pem"),)
    assert "s/ecret" not in str(address) and "s%2Fecret" not in str(address)


@pytest.mark.parametrize(
    "url,said",
    [
        ("localhost:6379", "must begin with one of redis://"),
        ("http://localhost", "must begin with one of redis://"),
        ("redis://", "must name its hosts"),
        ("redis://:secret@a,b", "names several hosts"),
        ("redis://host:70000", "must name its hosts"),
        ("redis://host/one", "must name its database by a number"),
        ("redis://host/1/2", "has a path that means nothing"),
        ("redis+cluster://host/1", "has a path that means nothing"),
        ("redis+sentinel://host", "must name the service"),
        ("unix://", "must name a socket"),
        ("redis://:secret@host?ssl_ca=/etc/ca.pem", "has the option 'ssl_ca'"),
    ],
)
def test_addresses_that_cannot_be_used(url: str, said: str) -> None:
    with pytest.raises(ValueError, match=said.replace("?", r"\?")) as refusal:
        read_address(url)
    assert "secret" not in str(refusal.value)
