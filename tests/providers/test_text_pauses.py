"""An answer in one session after another: where the text pauses, a session ends, and nothing is lost or said twice."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator

import pytest
from gevent.queue import Queue

from tests.fakes.voice import speech_of
from tests.waiting import take_turns, wait_for
from xiaozhi.errors import VendorUnavailable
from xiaozhi.providers.contracts.tts import Pcm, SentenceBegins, SentenceEnds, SpeechEvent
from xiaozhi.providers.families.text_pauses import SuccessiveSessions
from xiaozhi.providers.tts_session import SessionStream, TtsSession
from xiaozhi.runtime.tasks import Tasks

SOUND = Pcm(bytes(320), 16_000)


class Session(TtsSession):
    """Speaks what it was given when its text ends, as a vendor does that needs enough text. `forgets`: it names no
    sentence but the first."""

    def __init__(self, forgets: bool = False) -> None:
        self.texts: list[str] = []
        self.end = ""
        self._forgets = forgets
        self._ends: Queue[str] = Queue(5)

    def send_sentence(self, sentence: str) -> None:
        assert not self.end, "text after the end"
        self.texts.append(sentence)

    def send_end(self) -> None:
        assert not self.end, "ended twice"
        assert self.texts, "a session without text"
        self._ends.put("ended")
        self.end = "ended"

    def read(self) -> Generator[SpeechEvent | None]:
        if self._ends.get() != "ended":
            raise VendorUnavailable("fake", "closed")
        for number, text in enumerate(self.texts):
            if not (self._forgets and number):
                yield SentenceBegins(text)
            yield SOUND

    def hang_up(self) -> None:
        self.end = self.end or "hung up"
        self._ends.put("hung up")


Open = Callable[..., SessionStream]


@pytest.fixture
def sessions() -> list[Session]:
    return []


@pytest.fixture
def opened(sessions: list[Session]) -> Iterator[Open]:
    tasks = Tasks()

    def connect() -> Session:
        sessions.append(Session())
        return sessions[-1]

    def opened(*, pause: float = 0.02, connect: Callable[[], TtsSession] = connect) -> SessionStream:
        session = SuccessiveSessions(connect, tasks, pause=pause)
        return SessionStream(session, "fake", tasks, timeout=5, marks_sentences=False)

    yield opened
    tasks.kill()


def test_text_without_pauses_is_one_session(sessions: list[Session], opened: Open) -> None:
    stream = opened(pause=60)
    for text in "ab":
        stream.say(text)
    stream.finish()
    assert list(speech_of(stream)) == [
        SentenceBegins("a"),
        SOUND,
        SentenceEnds(),
        SentenceBegins("b"),
        SOUND,
        SentenceEnds(),
    ]
    assert [(session.texts, session.end) for session in sessions] == [(["a", "b"], "ended")]


def test_a_pause_ends_a_session_and_the_next_sentence_begins_another(sessions: list[Session], opened: Open) -> None:
    stream = opened()
    events = speech_of(stream)
    for text in "ab":
        stream.say(text)
        assert [next(events), next(events), next(events)] == [SentenceBegins(text), SOUND, SentenceEnds()]
    stream.finish()
    assert list(events) == []
    assert [(session.texts, session.end) for session in sessions] == [(["a"], "ended"), (["b"], "ended")]


def test_what_is_said_while_a_session_ends_waits_for_the_next(sessions: list[Session], opened: Open) -> None:
    stream = opened()
    stream.say("a")
    wait_for(lambda: sessions[0].end, "the pause")
    stream.say("b")
    stream.say("c")
    stream.finish()
    events = list(speech_of(stream))
    assert [event.text for event in events if isinstance(event, SentenceBegins)] == ["a", "b", "c"]
    assert [session.texts for session in sessions] == [["a"], ["b", "c"]]


def test_sentences_that_were_not_noticed_begin_before_those_of_the_next_session(
    sessions: list[Session], opened: Open
) -> None:
    def connect() -> Session:
        sessions.append(Session(forgets=True))
        return sessions[-1]

    stream = opened(connect=connect)
    stream.say("a")
    stream.say("b")
    wait_for(lambda: sessions[0].end, "the pause")
    stream.say("c")
    stream.finish()
    events = list(speech_of(stream))
    assert [event.text for event in events if isinstance(event, SentenceBegins)] == ["a", "b", "c"]


def test_nothing_said_is_no_session_without_text(sessions: list[Session], opened: Open) -> None:
    stream = opened()
    stream.finish()
    assert list(speech_of(stream)) == []
    assert [session.end for session in sessions] == ["hung up"]


def test_the_end_after_a_pause_needs_no_session(sessions: list[Session], opened: Open) -> None:
    stream = opened()
    events = speech_of(stream)
    stream.say("a")
    assert [next(events), next(events), next(events)] == [SentenceBegins("a"), SOUND, SentenceEnds()]
    take_turns()
    stream.finish()
    assert list(events) == []
    assert len(sessions) == 1


@pytest.mark.parametrize("paused", [False, True])
def test_hanging_up(sessions: list[Session], opened: Open, paused: bool) -> None:
    stream = opened(pause=0.02 if paused else 60)
    stream.say("a")
    if paused:
        events = speech_of(stream)
        assert [next(events), next(events), next(events)] == [SentenceBegins("a"), SOUND, SentenceEnds()]
        take_turns()
    stream.close()
    take_turns()
    assert [session.end for session in sessions] == ["ended" if paused else "hung up"]
    with pytest.raises(VendorUnavailable):
        stream.say("b")


def test_a_session_that_cannot_be_made_fails_the_answer(sessions: list[Session], opened: Open) -> None:
    def connect() -> Session:
        if sessions:
            raise VendorUnavailable("fake", "no connection")
        sessions.append(Session())
        return sessions[-1]

    stream = opened(connect=connect)
    events = speech_of(stream)
    stream.say("a")
    assert [next(events), next(events), next(events)] == [SentenceBegins("a"), SOUND, SentenceEnds()]
    stream.say("b")
    with pytest.raises(VendorUnavailable, match="no connection"):
        next(events)


def test_a_vendor_that_gives_up_is_no_pause(sessions: list[Session], opened: Open) -> None:
    stream = opened(pause=60)
    stream.say("a")
    sessions[0].send_end()  # by itself
    events = speech_of(stream)
    assert next(events) == SentenceBegins("a")
    with pytest.raises(VendorUnavailable, match="ended the session"):
        list(events)
