"""The stream around a vendor's session, with a session that does exactly what a test tells it."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import gevent
import pytest
from gevent.event import Event
from gevent.queue import Queue

from tests.fakes.clock import FakeClock
from tests.fakes.voice import speech_of
from tests.waiting import PATIENCE_S
from xiaozhi.audio.opus import OpusError
from xiaozhi.chat import CallContext
from xiaozhi.errors import Overloaded, VendorGarbage, VendorRejected, VendorTimeout, VendorUnavailable
from xiaozhi.providers.contracts.tts import (
    MAX_WAITING_SENTENCES,
    OpusPackets,
    Pcm,
    SentenceBegins,
    SentenceEnds,
    SpeechEnds,
    SpeechEvent,
)
from xiaozhi.providers.tts_session import SessionStream, SessionTts, TtsSession
from xiaozhi.runtime.tasks import Tasks, census

END = SentenceEnds()
TIMEOUT = 10.0


class Session(TtsSession):
    """`sends` what the vendor sends: events, None, an exception; Ellipsis is its end."""

    def __init__(self) -> None:
        self.incoming: Queue[Any] = Queue()
        self.sent: list[str] = []
        self.fails: Exception | None = None
        self.slow: Event | None = None
        self.left = ""

    def sends(self, *items: Any) -> None:
        for item in items:
            self.incoming.put(item)

    def send_sentence(self, sentence: str) -> None:
        if self.fails is not None:
            raise self.fails
        self.sent.append(sentence)
        if self.slow is not None:
            self.slow.wait(PATIENCE_S)

    def send_end(self) -> None:
        if self.fails is not None:
            raise self.fails
        self.sent.append("END")

    def read(self) -> Generator[SpeechEvent | None]:
        try:
            while (item := self.incoming.get()) is not ...:
                if isinstance(item, Exception):
                    raise item
                yield item
        except BaseException as error:
            self.left = type(error).__name__
            raise
        else:
            self.left = "ended"

    def hang_up(self) -> None:
        self.sent.append("HANG UP")
        self.incoming.put(...)


class Rig:
    """A stream, its session, and what the stream is measured by."""

    def __init__(self, **options: Any) -> None:
        self.clock = FakeClock()
        self.tasks = Tasks()
        self.session = Session()
        self.stream = SessionStream(self.session, "acme", self.tasks, timeout=TIMEOUT, clock=self.clock, **options)

    def received(self) -> list[SpeechEvent]:
        """Everything that is ready."""
        gevent.sleep(0)
        found = []
        while (event := self.stream.receive(0)) is not None and event != SpeechEnds():
            found.append(event)
        return found

    def ends(self) -> list[SpeechEvent]:
        """Everything up to the end."""
        return list(speech_of(self.stream))


@pytest.fixture
def rig() -> Any:
    made = Rig()
    yield made
    made.stream.close()
    assert made.tasks.join(timeout=PATIENCE_S)


def test_a_vendor_that_marks_the_ends_of_sentences(rig: Rig) -> None:
    rig.stream.say("a")
    rig.stream.say("b")
    rig.session.sends(Pcm(b"11"), None, Pcm(b"22"), END, OpusPackets((b"p",), 20.0), END)
    assert rig.received() == [
        SentenceBegins("a"),
        Pcm(b"1122"),
        END,
        SentenceBegins("b"),
        OpusPackets((b"p",), 20.0),
        END,
    ]
    rig.stream.finish()
    rig.session.sends(...)
    assert rig.ends() == []
    assert rig.session.sent == ["a", "b", "END"]
    assert rig.stream.receive(0) == rig.stream.receive(0) == SpeechEnds()
    assert rig.session.left == "ended"


def test_a_vendor_that_marks_beginnings_only(rig: Rig) -> None:
    for sentence in "abc":
        rig.stream.say(sentence)
    rig.stream.finish()
    rig.session.sends(SentenceBegins("a"), Pcm(b"11"), SentenceBegins("b"), SentenceBegins("c"), Pcm(b"33"), ...)
    assert rig.ends() == [
        *(SentenceBegins("a"), Pcm(b"11"), END),
        *(SentenceBegins("b"), END),
        *(SentenceBegins("c"), Pcm(b"33"), END),
    ]


def test_sentences_that_the_vendor_passes_over_are_not_lost(rig: Rig) -> None:
    rig.stream.say("a")
    rig.stream.say("…")
    rig.stream.say("?")
    rig.stream.finish()
    rig.session.sends(Pcm(b"11"), ...)
    assert rig.ends() == [SentenceBegins("a"), Pcm(b"11"), END, SentenceBegins("…"), END, SentenceBegins("?"), END]


def test_sound_and_marks_that_belong_to_no_sentence_are_dropped(rig: Rig) -> None:
    rig.stream.say("a")
    rig.session.sends(END, Pcm(b"11"), END, END, Pcm(b"00"))
    assert rig.received() == [SentenceBegins("a"), Pcm(b"11"), END]


def test_a_vendor_that_begins_more_sentences_than_were_said(rig: Rig) -> None:
    rig.stream.say("a")
    rig.session.sends(SentenceBegins("a"), SentenceBegins("of its own"), Pcm(b"11"), END)
    assert rig.received() == [SentenceBegins("a"), END, SentenceBegins("of its own"), Pcm(b"11"), END]


def test_the_vendor_gets_few_sentences_ahead() -> None:
    rig = Rig(look_ahead=2)
    for sentence in "abcd":
        rig.stream.say(sentence)
    rig.stream.finish()
    assert rig.session.sent == ["a", "b"]
    rig.session.sends(Pcm(b"11"), END)
    assert rig.received() == [SentenceBegins("a"), Pcm(b"11"), END]
    assert rig.session.sent == ["a", "b", "c"]
    rig.session.sends(Pcm(b"22"), END, Pcm(b"33"))
    rig.received()
    assert rig.session.sent == ["a", "b", "c", "d", "END"]
    rig.stream.close()


def test_no_more_sentences_wait_than_a_stream_takes(rig: Rig) -> None:
    for _ in range(MAX_WAITING_SENTENCES):
        rig.stream.say("a")
    with pytest.raises(Overloaded):
        rig.stream.say("b")


def test_what_is_said_while_a_sentence_is_being_sent_follows_it(rig: Rig) -> None:
    rig.session.slow = Event()
    first = gevent.spawn(rig.stream.say, "a")
    gevent.sleep(0)
    rig.stream.say("b")
    rig.stream.finish()
    assert rig.session.sent == ["a"]
    rig.session.slow.set()
    first.join(PATIENCE_S)
    assert rig.session.sent == ["a", "b", "END"]


@pytest.mark.parametrize("error", [VendorRejected("acme"), VendorGarbage("acme")])
def test_a_failure_comes_behind_the_sound_before_it(rig: Rig, error: Exception) -> None:
    rig.stream.say("a")
    rig.session.sends(Pcm(b"11"), error)
    assert rig.stream.receive(1) == SentenceBegins("a")
    assert rig.stream.receive(1) == Pcm(b"11")
    for _ in range(2):
        with pytest.raises(type(error)):
            rig.stream.receive(1)
    with pytest.raises(type(error)):
        rig.stream.say("b")
    rig.stream.finish()
    rig.stream.close()
    assert "HANG UP" not in rig.session.sent, "the session has ended by itself"


def test_sound_that_cannot_be_read_is_garbage(rig: Rig) -> None:
    rig.session.sends(OpusError("bad"))
    with pytest.raises(VendorGarbage, match="bad"):
        rig.stream.receive(1)


def test_a_vendor_that_ends_the_session_early(rig: Rig) -> None:
    rig.stream.say("a")
    rig.session.sends(Pcm(b"11"), ...)
    with pytest.raises(VendorUnavailable, match="ended"):
        rig.ends()


def test_a_connection_that_takes_no_text(rig: Rig) -> None:
    rig.session.fails = VendorUnavailable("acme", "gone")
    with pytest.raises(VendorUnavailable, match="gone"):
        rig.stream.say("a")
    rig.stream.finish()  # never raises
    rig.session.sends(VendorRejected("acme", "and this is why"))
    with pytest.raises(VendorRejected):
        rig.stream.receive(1)


def test_a_connection_that_breaks_when_more_is_sent(rig: Rig) -> None:
    rig = Rig(look_ahead=1)
    rig.stream.say("a")
    rig.stream.say("b")
    rig.session.fails = VendorUnavailable("acme", "gone")
    rig.session.sends(Pcm(b"11"))
    with pytest.raises(VendorUnavailable, match="gone"):
        rig.ends()
    assert rig.session.left == "GeneratorExit"
    rig.stream.close()


# --- deadlines -----------------------------------------------------------------------------------------------------


def test_a_vendor_that_owes_sound_and_shows_no_sign_of_life(rig: Rig) -> None:
    rig.clock.advance(100)
    assert rig.stream.receive(0) is None, "it owes nothing"
    rig.stream.say("a")
    rig.clock.advance(TIMEOUT - 1)
    assert rig.stream.receive(0) is None
    rig.session.sends(None)
    gevent.sleep(0)
    rig.clock.advance(TIMEOUT - 1)
    assert rig.stream.receive(0) is None, "it lives"
    rig.clock.advance(1)
    for _ in range(2):
        with pytest.raises(VendorTimeout):
            rig.stream.receive(60)
    rig.stream.close()
    assert rig.session.sent[-1] == "HANG UP"


def test_a_vendor_that_owes_its_end(rig: Rig) -> None:
    rig.stream.say("a")
    rig.session.sends(Pcm(b"11"), END)
    rig.received()
    rig.clock.advance(100)
    assert rig.stream.receive(0) is None, "it waits for us"
    rig.stream.finish()
    assert rig.stream.receive(0) is None
    rig.clock.advance(TIMEOUT)
    with pytest.raises(VendorTimeout):
        rig.stream.receive(60)


@pytest.mark.parametrize("marks", [True, False])
def test_in_the_middle_only_a_vendor_that_marks_sentences_is_known_to_owe_sound(marks: bool) -> None:
    rig = Rig(marks_sentences=marks)
    rig.stream.say("a")
    rig.stream.say("b")
    rig.session.sends(SentenceBegins("a"), Pcm(b"11"))
    rig.received()
    rig.clock.advance(TIMEOUT)
    if marks:
        with pytest.raises(VendorTimeout):
            rig.stream.receive(0)
    else:
        assert rig.stream.receive(0) is None
    rig.stream.close()


def test_a_vendor_is_held_back_and_given_up_when_nobody_receives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xiaozhi.providers.tts_session.BUFFERED_EVENTS", 2)
    monkeypatch.setattr("xiaozhi.providers.tts_session.WAIT_S", 0.02)
    rig = Rig()
    rig.stream.say("a")
    rig.session.sends(*[OpusPackets((b"p",), 20.0)] * 9)
    assert rig.tasks.join(timeout=PATIENCE_S)
    assert rig.session.left == "GeneratorExit"
    assert rig.stream.receive(0) == SentenceBegins("a")
    assert rig.stream.receive(0) == OpusPackets((b"p",), 20.0)
    with pytest.raises(VendorTimeout, match="nobody received"):
        rig.stream.receive(0)
    rig.stream.close()


# --- ends ----------------------------------------------------------------------------------------------------------


def test_close_hangs_up_once_and_throws_away_what_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xiaozhi.providers.tts_session.BUFFERED_EVENTS", 2)
    rig = Rig()
    rig.stream.say("a")
    rig.session.sends(*[OpusPackets((b"p",), 20.0)] * 9)
    gevent.sleep(0)  # the session waits for room
    rig.stream.close()
    rig.stream.close()
    assert rig.session.sent == ["a", "HANG UP"]
    assert rig.tasks.join(timeout=PATIENCE_S)
    assert rig.session.left == "ended"
    for _ in range(2):
        with pytest.raises(VendorUnavailable, match="closed"):
            rig.stream.receive(1)
    with pytest.raises(VendorUnavailable):
        rig.stream.say("b")
    rig.stream.finish()


def test_close_wakes_whoever_receives(rig: Rig) -> None:
    reader = gevent.spawn(lambda: pytest.raises(VendorUnavailable, rig.stream.receive, 60))
    gevent.sleep(0)
    rig.stream.close()
    reader.get(timeout=PATIENCE_S)


def test_the_end_of_the_session_wakes_whoever_receives(rig: Rig) -> None:
    rig.stream.finish()
    reader = gevent.spawn(rig.stream.receive, 60)
    gevent.sleep(0)
    rig.session.sends(...)
    assert reader.get(timeout=PATIENCE_S) == SpeechEnds()


def test_closing_the_provider_fails_its_streams(rig: Rig) -> None:
    reader = gevent.spawn(lambda: pytest.raises(VendorUnavailable, list, speech_of(rig.stream)))
    gevent.sleep(0)
    rig.tasks.kill()
    reader.get(timeout=PATIENCE_S)
    assert rig.session.left == "GreenletExit"


class Provider(SessionTts):
    """Its sessions stand when they are told to."""

    type_name = "acme"

    def __init__(self) -> None:
        super().__init__(timeout=TIMEOUT)
        self.stands = Event()
        self.sessions: list[Session] = []

    def connect(self, context: CallContext) -> TtsSession:
        self.sessions.append(Session())
        assert self.stands.wait(PATIENCE_S)
        return self.sessions[-1]


def test_a_provider_of_sessions() -> None:
    provider = Provider()
    provider.stands.set()
    assert provider.vendor == "acme"
    provider.name = "Ours"
    stream = provider.open(CallContext())
    reader = gevent.spawn(lambda: pytest.raises(VendorUnavailable, stream.receive, 60))
    gevent.sleep(0)
    provider.close()
    provider.close()
    reader.get(timeout=PATIENCE_S)
    with pytest.raises(VendorUnavailable, match="Ours: closed"):
        provider.open(CallContext())
    assert len(provider.sessions) == 1


def test_a_provider_that_is_closed_while_it_connects() -> None:
    provider = Provider()
    opening = gevent.spawn(lambda: pytest.raises(VendorUnavailable, provider.open, CallContext()))
    gevent.sleep(0)
    provider.close()
    provider.stands.set()
    opening.get(timeout=PATIENCE_S)
    assert provider.sessions[0].sent == ["HANG UP"]


def test_a_session_has_one_greenlet(rig: Rig) -> None:
    gevent.sleep(0)
    live = census.live
    for sentence in "abc":
        rig.stream.say(sentence)
    rig.session.sends(Pcm(b"11"))
    rig.received()
    assert census.live == live
    rig.stream.close()
    assert rig.tasks.join(timeout=PATIENCE_S)
    assert census.live == live - 1
