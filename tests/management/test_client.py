"""The calls, against a strict console: the envelope, refusals, connections that are dropped, and what is never told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from loadtest.vendors.http_vendor import Script
from tests.fakes.clock import FakeClock
from tests.vendors.console import BASE, CALL, MODELS, REPORT, SECRET, TITLE, BoundDevice, StrictConsole, refuses
from xiaozhi.errors import (
    CircuitOpen,
    ConsoleRefused,
    VendorError,
    VendorGarbage,
    VendorRejected,
    VendorTimeout,
    VendorUnavailable,
)
from xiaozhi.management.address_book import ConsoleAddressBook, RingOutcome
from xiaozhi.management.client import IDLE_S, ConsoleClient

MAC = "02:00:00:00:0C:01"


@pytest.fixture
def console() -> Iterator[StrictConsole]:
    with StrictConsole() as console:
        assert isinstance(console, StrictConsole)
        console.bound[MAC] = BoundDevice({"prompt": "Hi."}, ["a|b"])
        yield console
        assert console.faults == []


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def client(console: StrictConsole, clock: FakeClock) -> Iterator[ConsoleClient]:
    client = ConsoleClient(console.api_url + "/", SECRET, timeout=5.0, clock=clock)
    yield client
    client.close()


def report(**changed: Any) -> dict[str, Any]:
    return {"macAddress": MAC, "sessionId": "s1", "chatType": 1, "content": "hello", "reportTime": 1_790_000_000_123,
            "audioBase64": None} | changed  # fmt: skip


def test_every_call_gets_what_stands_in_the_envelope(console: StrictConsole, client: ConsoleClient) -> None:
    assert client.server_base()["selected_module"]["VAD"] == "VAD_SileroVAD"
    assert client.agent_models(MAC, "", {"VAD": "x"})["prompt"] == "Hi."
    assert client.correct_words(MAC) == ["a|b"]
    assert client.correct_words("02:00:00:00:00:99") == []
    assert client.report(report())
    assert not client.report(report(macAddress="02:00:00:00:00:99"))
    client.make_title("s1")
    client.save_summary("s1")
    assert (console.titles, console.summaries) == (["s1"], ["s1"])
    assert all("user-agent" in request.headers for request in console.requests)


@pytest.mark.parametrize("code", [401, 404, 10034, 10041, 10042, 10053, 10183, 1])
def test_a_code_is_an_error_whatever_its_status(code: int, console: StrictConsole, client: ConsoleClient) -> None:
    console.stand(MODELS, refuses(code, "204815"))

    with pytest.raises(ConsoleRefused) as refused:
        client.agent_models(MAC, "c", {})

    assert (refused.value.code, refused.value.said) == (code, "204815")
    assert console.counts[MODELS] == 1, "asking again cannot help"


@pytest.mark.parametrize(
    ("trouble", "error"),
    [
        (refuses(500), VendorUnavailable),
        (Script(status=502), VendorUnavailable),
        (Script(status=404), VendorRejected),
        (Script(garbage="html"), VendorGarbage),
        (Script(garbage="json"), VendorGarbage),
        (Script(answer={"data": {}}), VendorGarbage),
        (Script(answer={"code": "0", "data": {}}), VendorGarbage),
        (Script(answer={"code": True, "data": {}}), VendorGarbage),
        (Script(answer={"code": 0, "data": []}), VendorGarbage),
        (Script(answer=[]), VendorGarbage),
    ],
    ids=str,
)
def test_what_is_no_answer(
    trouble: Script, error: type[VendorError], console: StrictConsole, client: ConsoleClient
) -> None:
    console.stand(BASE, trouble)

    with pytest.raises(error):
        client.server_base()


def test_a_passing_fault_is_asked_about_again(console: StrictConsole, client: ConsoleClient) -> None:
    console.script(MODELS, Script(status=503))

    assert client.agent_models(MAC, "c", {})["prompt"] == "Hi."


def test_one_that_keeps_failing_is_left_alone_for_a_while(
    console: StrictConsole, client: ConsoleClient, clock: FakeClock
) -> None:
    console.stand(MODELS, Script(status=503))
    for _ in range(3):
        with pytest.raises(VendorError):
            client.agent_models(MAC, "c", {})
    asked = console.counts[MODELS]

    with pytest.raises(CircuitOpen):
        client.agent_models(MAC, "c", {})
    assert client.resting
    assert console.counts[MODELS] == asked

    console.forget_scripts()
    clock.advance(10.0)
    assert client.agent_models(MAC, "c", {})["prompt"] == "Hi."


def test_an_answer_about_the_server_ends_its_rest(console: StrictConsole, client: ConsoleClient) -> None:
    console.stand(MODELS, Script(status=503))
    for _ in range(3):
        with pytest.raises(VendorError):
            client.agent_models(MAC, "c", {})
    console.forget_scripts()
    assert client.resting

    client.server_base()

    assert client.agent_models(MAC, "c", {})["prompt"] == "Hi."


def test_devices_that_are_not_bound_do_not_make_it_rest(console: StrictConsole, client: ConsoleClient) -> None:
    for number in range(20):
        with pytest.raises(ConsoleRefused):
            client.agent_models(f"02:00:00:00:00:{number}", "c", {})

    assert not client.resting


def test_it_survives_connections_that_are_closed_without_a_word(console: StrictConsole, client: ConsoleClient) -> None:
    console.closes_behind = True

    for _ in range(5):
        assert client.report(report())

    assert len(console.reports) == 5, "each was taken once"


def test_a_connection_is_kept_and_an_old_one_is_not_trusted(
    console: StrictConsole, client: ConsoleClient, clock: FakeClock
) -> None:
    """What drops connections on the way says nothing: a request on such a one would wait for its deadline."""
    client.report(report())
    client.report(report())
    clock.advance(IDLE_S + 1)
    client.report(report())

    first, second, third = (request.connection for request in console.requests)
    assert first == second != third


def test_a_title_may_take_longer_than_anything_else(console: StrictConsole) -> None:
    console.stand(TITLE, Script(delay=0.5))
    console.stand(MODELS, Script(delay=0.5))
    client = ConsoleClient(console.api_url, SECRET, timeout=0.2)
    try:
        client.report(report())
        client.make_title("s1")
        with pytest.raises(VendorTimeout):
            client.agent_models(MAC, "c", {})
    finally:
        client.close()


def test_no_error_tells_the_secret(console: StrictConsole, client: ConsoleClient) -> None:
    console.stand(REPORT, Script(status=400, error=f"bad token {SECRET}"))

    with pytest.raises(VendorError) as refused:
        client.report(report())

    assert SECRET not in str(refused.value) + repr(refused.value)


def test_the_address_book_rings(console: StrictConsole, client: ConsoleClient) -> None:
    console.books[MAC] = {"小陈": "02:00:00:00:00:07"}
    book = ConsoleAddressBook(client)

    assert book.look_up(MAC, "小陈") == RingOutcome(True, "呼叫成功")
    assert book.look_up(MAC, "小王 & co") == RingOutcome(False, "未找到备注为'小王 & co'的设备")
    assert book.answer(MAC) == RingOutcome(True, "")
    assert console.rung == [(MAC, "02:00:00:00:00:07"), (MAC, "answered")]
    console.stand(CALL, refuses(500))
    with pytest.raises(VendorUnavailable):
        book.look_up(MAC, "小陈")


def test_after_its_end_nobody_is_asked(console: StrictConsole, client: ConsoleClient) -> None:
    client.close()
    client.close()

    with pytest.raises(VendorUnavailable):
        client.server_base()
    assert BASE not in console.counts
