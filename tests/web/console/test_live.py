"""What changes while somebody looks: sampled only then, bounded, ended by a stop."""

from __future__ import annotations

from collections.abc import Iterator

import gevent
import pytest
from werkzeug.exceptions import BadRequest, ServiceUnavailable

from tests.waiting import wait_for
from xiaozhi.web.console.live import MAX_PAGES, MAX_WAITING, LiveFeed


@pytest.fixture
def feed() -> Iterator[LiveFeed]:
    made = LiveFeed()
    made.topic("turns")
    yield made
    made.close()


def opened(feed: LiveFeed, *topics: str) -> Iterator[bytes]:
    stream = feed.events(frozenset(topics))
    assert next(stream).startswith(b"retry:")
    return stream


def test_nobody_looks_nothing_is_sampled(feed: LiveFeed) -> None:
    taken: list[int] = []
    feed.sample("overview", 0.01, lambda: taken.append(1) or len(taken))
    assert not feed.wanted("overview")

    stream = opened(feed, "overview")
    assert next(stream) == b"event: overview\ndata: 1\n\n"
    assert feed.wanted("overview") and not feed.wanted("turns")
    next(stream)
    stream.close()  # type: ignore[attr-defined]

    wait_for(lambda: feed.pages == 0, "the page to be gone")
    before = len(taken)
    gevent.sleep(0.1)  # sleep: the sampler would have sampled ten times
    assert len(taken) <= before + 1


def test_what_happens_is_told_to_those_who_asked(feed: LiveFeed) -> None:
    feed.topic("logs")
    turns, logs = opened(feed, "turns"), opened(feed, "logs", "turns")

    feed.publish("logs", {"line": "x"})
    feed.publish("turns", {"turn": 1})

    assert next(turns) == b'event: turns\ndata: {"turn":1}\n\n'
    assert next(logs) == b'event: logs\ndata: {"line":"x"}\n\n'
    turns.close()  # type: ignore[attr-defined]
    logs.close()  # type: ignore[attr-defined]


def test_a_page_that_does_not_read_loses_the_oldest(feed: LiveFeed) -> None:
    stream = opened(feed, "turns")

    for number in range(MAX_WAITING + 3):
        feed.publish("turns", number)

    assert next(stream) == b"event: lost\ndata: 3\n\n"
    assert next(stream) == b"event: turns\ndata: 3\n\n"
    stream.close()  # type: ignore[attr-defined]


def test_unknown_topics_are_refused(feed: LiveFeed) -> None:
    for topics in (frozenset({"none"}), frozenset({"turns", "none"}), frozenset[str]()):
        with pytest.raises(BadRequest, match="turns"):
            feed.events(topics)


def test_pages_are_bounded(feed: LiveFeed) -> None:
    streams = [opened(feed, "turns") for _ in range(MAX_PAGES)]

    with pytest.raises(ServiceUnavailable):
        feed.events(frozenset({"turns"}))
    for stream in streams:
        stream.close()  # type: ignore[attr-defined]


def test_a_stop_ends_every_stream(feed: LiveFeed) -> None:
    stream = opened(feed, "turns")
    reader = gevent.spawn(list, stream)
    gevent.sleep(0)

    feed.close()

    reader.join(timeout=10)
    assert reader.successful()
    with pytest.raises(ServiceUnavailable):
        feed.events(frozenset({"turns"}))
