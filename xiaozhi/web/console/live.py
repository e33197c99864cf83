"""What changes while somebody looks, as server-sent events: samples that are taken while a page is open, and things
that happen.

    GET /console/api/live?topics=overview,turns

One greenlet takes the samples for all pages together, and only while there is a page that wants them: nobody looks,
nothing is done. A page that does not read loses the oldest events; it is told how many.

Source: HTML Living Standard, section 9.2 "Server-sent events"."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import gevent
import orjson
from flask import Blueprint, Response, request
from gevent.queue import Empty, Queue
from werkzeug.exceptions import BadRequest, ServiceUnavailable

from xiaozhi.runtime.tasks import Tasks
from xiaozhi.web.console.access import ConsoleAccess, guard

MAX_PAGES: Final = 64
MAX_WAITING: Final = 256
"""Events that wait for one page."""
ALIVE_S: Final = 15.0
"""A page, and every proxy between, hears something at least so often."""
_HEAD: Final = b"retry: 2000\n\n"
_ALIVE: Final = b": alive\n\n"


@dataclass(frozen=True, slots=True)
class _Sample:
    every_s: float
    take: Callable[[], Any]


class _Page:
    __slots__ = ("lost", "queue", "topics")

    def __init__(self, topics: frozenset[str]) -> None:
        self.topics = topics
        self.queue: Queue[tuple[str, bytes] | None] = Queue(MAX_WAITING)
        self.lost = 0

    def put(self, event: tuple[str, bytes]) -> None:
        if self.queue.full():
            self.queue.get_nowait()
            self.lost += 1
        self.queue.put_nowait(event)


class LiveFeed:
    """`sample` and `topic` before the first page; `publish` at any time, from the hub's thread."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._samples: dict[str, _Sample] = {}
        self._topics: set[str] = set()
        self._pages: set[_Page] = set()
        self._sampler = Tasks()
        self._sampling = False
        self._closed = False

    def sample(self, topic: str, every_s: float, take: Callable[[], Any]) -> None:
        """`take` gives what JSON can say, is quick, and is called every so often while somebody wants this topic."""
        self._samples[topic] = _Sample(every_s, take)
        self._topics.add(topic)

    def topic(self, name: str) -> None:
        """Things of this name may happen."""
        self._topics.add(name)

    def wanted(self, topic: str) -> bool:
        """Whether it is worth making an event of it: costs nothing when nobody looks."""
        return any(topic in page.topics for page in self._pages)

    def publish(self, topic: str, data: Any) -> None:
        """Tell every page that wants it."""
        if not self._pages:
            return
        event = topic, orjson.dumps(data)
        for page in self._pages:
            if topic in page.topics:
                page.put(event)

    def close(self) -> None:
        """End every page's stream. Idempotent."""
        self._closed = True
        for page in self._pages:
            page.queue.queue.clear()
            page.queue.put_nowait(None)
        self._sampler.kill()

    @property
    def pages(self) -> int:
        """Open now."""
        return len(self._pages)

    def events(self, topics: frozenset[str]) -> Iterator[bytes]:
        """The stream of one page. Raises BadRequest, ServiceUnavailable."""
        unknown = topics - self._topics
        if unknown or not topics:
            raise BadRequest(f"topics must name some of {', '.join(sorted(self._topics))}.")
        if self._closed or len(self._pages) >= MAX_PAGES:
            raise ServiceUnavailable("Too many pages of the console are open.")
        return self._stream(topics)

    def _stream(self, topics: frozenset[str]) -> Iterator[bytes]:
        page = _Page(topics)
        self._pages.add(page)
        if not self._sampling:
            self._sampling = True
            self._sampler.spawn("console-samples", self._take_samples)
        try:
            yield _HEAD
            for topic in sorted(topics & self._samples.keys()):
                yield _event(topic, orjson.dumps(self._samples[topic].take()))
            while True:
                try:
                    event = page.queue.get(timeout=ALIVE_S)
                except Empty:
                    yield _ALIVE
                    continue
                if event is None:
                    return
                if page.lost:
                    yield _event("lost", orjson.dumps(page.lost))
                    page.lost = 0
                yield _event(*event)
        finally:
            self._pages.discard(page)

    def _take_samples(self) -> None:
        due: dict[str, float] = {}
        try:
            while self._pages:
                now = self._clock()
                for topic, sample in self._samples.items():
                    if due.get(topic, 0.0) <= now and self.wanted(topic):
                        due[topic] = now + sample.every_s
                        self.publish(topic, sample.take())
                gevent.sleep(max(0.05, min(due.values(), default=now + 1.0) - self._clock()))
        finally:
            self._sampling = False


def create_blueprint(feed: LiveFeed, access: ConsoleAccess) -> Blueprint:
    """The route /console/api/live."""
    blueprint = Blueprint("console_live", __name__)
    blueprint.before_request(guard(access))

    def live() -> Response:
        topics = frozenset(filter(None, request.args.get("topics", "").split(",")))
        response = Response(feed.events(topics), content_type="text/event-stream")
        response.headers["Cache-Control"] = "no-store"
        response.headers["X-Accel-Buffering"] = "no"  # nginx would wait for more
        return response

    blueprint.add_url_rule("/console/api/live", "live", live, methods=["GET"])
    return blueprint


def _event(topic: str, data: bytes | Mapping[str, Any]) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (topic.encode(), data)
