"""Live data from web addresses: what is asked, and what becomes of the answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from loadtest.vendors.http_vendor import HttpVendor, VendorAnswer
from xiaozhi.errors import VendorGarbage, VendorRejected
from xiaozhi.session.link import Identity
from xiaozhi.session.turns.context_sources import HttpContextSource, lines_of
from xiaozhi.settings.services import ContextProvider

DEVICE = Identity(device_id="11:22:33:44:55:66", client_id="a b")


@contextmanager
def source_of(answer: Any, path: str = "/", **headers: str) -> Iterator[tuple[HttpContextSource, HttpVendor]]:
    """A source, and the server it asks."""
    with HttpVendor(lambda request: VendorAnswer(json.dumps(answer).encode(), "application/json")) as vendor:
        source = HttpContextSource(ContextProvider(url=f"{vendor.url}{path}", headers=headers))
        try:
            yield source, vendor
        finally:
            source.close()


def test_one_request_per_device_with_its_id() -> None:
    answer = {"code": 0, "data": {"stock": 12}}
    with source_of(answer, "/of/{device_id}?client={client_id}", token="s3cret", who="{client_id}") as (source, vendor):
        assert source(DEVICE) == ["stock: 12"]

    request = vendor.requests[0]
    assert (request.method, request.path) == ("GET", "/of/11%3A22%3A33%3A44%3A55%3A66?client=a%20b")
    assert request.headers["device-id"] == DEVICE.device_id
    assert (request.headers["token"], request.headers["who"]) == ("s3cret", "a b")


def test_an_address_without_places_is_used_as_it_is() -> None:
    with source_of({"code": 0, "data": "sunny"}) as (source, vendor):
        assert source(DEVICE) == ["sunny"]

    assert vendor.requests[0].path == "/"


def test_a_refusal_is_an_error() -> None:
    with HttpVendor(lambda request: VendorAnswer(b"{}", "application/json", status=401)) as vendor:
        source = HttpContextSource(ContextProvider(url=vendor.url))
        with pytest.raises(VendorRejected):
            source(DEVICE)
        source.close()


@pytest.mark.parametrize(
    "data, lines",
    [
        ({"stock": 12, "door": "open"}, ["stock: 12", "door: open"]),
        (["one", 2], ["one", "2"]),
        ("sunny", ["sunny"]),
        (0, ["0"]),
        (None, []),
        ("", []),
        ([], []),
    ],
)
def test_answers_become_lines(data: Any, lines: list[str]) -> None:
    assert lines_of({"code": 0, "data": data}) == lines


@pytest.mark.parametrize("answer", [None, [], "x", {}, {"code": 1, "data": "x"}, {"data": "x"}])
def test_what_is_no_answer_is_garbage(answer: Any) -> None:
    with pytest.raises(VendorGarbage):
        lines_of(answer)
