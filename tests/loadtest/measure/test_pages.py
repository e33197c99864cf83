"""Open pages beside a measurement: they read what the server tells them, and are gone afterwards."""

from __future__ import annotations

from collections.abc import Iterator

import gevent
import pytest
from flask import Flask
from gevent.pywsgi import WSGIServer

from loadtest.measure.pages import LIVE, open_pages
from loadtest.measure.processes import StartError
from tests.waiting import wait_for


@pytest.fixture
def origin() -> Iterator[str]:
    """A server that tells everybody the time."""
    app = Flask("pages")

    @app.route(LIVE.partition("?")[0])
    def live() -> Iterator[bytes]:
        while True:
            yield b"event: overview\ndata: {}\n\n"
            gevent.sleep(0.01)  # sleep: the server's own pace

    server = WSGIServer(("127.0.0.1", 0), app, log=None)
    server.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.stop(timeout=1)


def test_every_page_reads_what_it_is_told(origin: str) -> None:
    with open_pages(origin, 3) as events:
        wait_for(lambda: min(events) >= 2, "events for all of them")


def test_a_server_without_a_console_is_no_measurement(origin: str) -> None:
    with pytest.raises(StartError, match="shows no overview"), open_pages(f"{origin}/elsewhere", 1):
        pass
