"""What was said is not lost to a console that cannot take it now, for whatever reason: it is delivered later."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from loadtest.vendors.http_vendor import Script
from tests.management.test_reports import MAC, OneEnd, OneSound, OneTurn
from tests.vendors.console import MODELS, REPORT, SECRET, BoundDevice, StrictConsole, refuses
from xiaozhi.errors import VendorError
from xiaozhi.management.client import ConsoleClient
from xiaozhi.management.reports import CHOKES, ConsoleReports
from xiaozhi.management.translate import KEEP_SOUND, PrivateConfig


@pytest.fixture
def console() -> Iterator[StrictConsole]:
    with StrictConsole() as console:
        assert isinstance(console, StrictConsole)
        console.bound[MAC] = BoundDevice()
        yield console


@pytest.fixture
def client(console: StrictConsole) -> Iterator[ConsoleClient]:
    client = ConsoleClient(console.api_url, SECRET, timeout=5.0)
    yield client
    client.close()


@pytest.fixture
def sink(client: ConsoleClient) -> ConsoleReports:
    return ConsoleReports(
        client,
        config=lambda device: PrivateConfig(history=KEEP_SOUND, mac=MAC),
        woke=lambda text: False,
        offload=lambda function: function(),
    )


def test_while_the_console_rests(console: StrictConsole, client: ConsoleClient, sink: ConsoleReports) -> None:
    console.stand(MODELS, Script(status=503))
    while not client.resting:
        with pytest.raises(VendorError):
            client.agent_models(MAC, "c", {})

    with pytest.raises(VendorError) as failed:
        sink.deliver([OneTurn()])

    assert failed.value.retryable


@pytest.mark.parametrize(
    "trouble",
    [
        refuses(404),
        Script(status=401),
        Script(status=403),
        Script(status=404),
        Script(garbage="html"),
        Script(garbage="json"),
        Script(garbage="empty"),
        Script(answer={"data": True}),
    ],
    ids=str,
)
def test_what_answers_in_the_consoles_place(trouble: Script, console: StrictConsole, sink: ConsoleReports) -> None:
    console.script(REPORT, Script(), trouble)

    with pytest.raises(VendorError) as failed:
        sink.deliver([OneTurn()])
    assert failed.value.retryable
    sink.deliver([OneTurn()])

    assert [report["content"] for report in console.reports] == ["几点了", "现在三点。", "要睡了吗？"]


def test_sound_that_a_proxy_finds_too_large_goes_without(console: StrictConsole, sink: ConsoleReports) -> None:
    console.script(REPORT, Script(status=413))

    sink.deliver([OneTurn(sound=OneSound())])

    assert [report["content"] for report in console.reports] == ["几点了", "现在三点。", "要睡了吗？"]
    assert console.reports[0]["audioBase64"] is None


def test_a_console_that_rests_is_asked_for_the_title_later(
    console: StrictConsole, client: ConsoleClient, sink: ConsoleReports
) -> None:
    sink.deliver([OneTurn()])
    console.stand(MODELS, Script(status=503))
    while not client.resting:
        with pytest.raises(VendorError):
            client.agent_models(MAC, "c", {})

    with pytest.raises(VendorError) as failed:
        sink.session_ended(OneEnd())

    assert failed.value.retryable
    assert console.titles == []


def test_a_message_that_a_proxy_refuses_is_given_up(console: StrictConsole, sink: ConsoleReports) -> None:
    console.script(REPORT, Script(status=400))

    with pytest.raises(VendorError) as failed:
        sink.deliver([OneTurn()])

    assert not failed.value.retryable


@pytest.mark.parametrize("others", [True, False])
def test_a_message_that_the_console_always_fails_at(others: bool, console: StrictConsole, sink: ConsoleReports) -> None:
    """It holds up its session for a while, and not for ever; a console that fails at everything loses nothing."""
    given_up = False
    for attempt in range(2 * CHOKES):
        console.script(REPORT, refuses(500))
        try:
            sink.deliver([OneTurn(said="never", spoken=("after it",), key="s:1")])
            given_up = True
            break
        except VendorError as failed:
            assert failed.retryable
        if others:
            sink.deliver([OneTurn(said="another", spoken=("one", "two"), key=f"t:{attempt}")])

    assert given_up == others
    told = [report["content"] for report in console.reports]
    assert "never" not in told
    assert ("after it" in told) == others
