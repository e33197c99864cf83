"""A playback that ends: a voice that fails, a device that takes nothing, a kill."""

from __future__ import annotations

from collections.abc import Iterator

import gevent
import pytest
from gevent.event import Event
from structlog.testing import capture_logs

from tests.session.speaking.playing import Rig
from tests.session.speaking.speech import (
    Sayer,
    pcm,
    settle,
)
from tests.waiting import PATIENCE_S
from xiaozhi.errors import Overloaded, TurnClosed, VendorRejected, VendorTimeout, VendorUnavailable
from xiaozhi.providers.contracts.tts import Pcm, SentenceBegins, Sound
from xiaozhi.session.speaking import playback as module


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig()
    yield made
    made.playback.close()
    assert made.tasks.join(timeout=PATIENCE_S)


# --- a voice that fails --------------------------------------------------------------------------------------------


def test_a_voice_that_makes_no_sound(rig: Rig) -> None:
    rig.say("One.")
    rig.stream.sends(*[None] * 11)
    with pytest.raises(VendorTimeout, match="no sound for 10 s"):
        rig.playback.finish()
    assert rig.stream.closed == 1
    with pytest.raises(VendorTimeout):
        rig.say("Two.")


def test_a_voice_that_stops_within_a_sentence() -> None:
    def hangs() -> Iterator[Sound]:
        yield Pcm(pcm(120))
        Event().wait()

    voice = Sayer()
    voice.script["One. spoken"] = hangs
    rig = Rig(voice, stall=0.01)
    rig.say("One.")
    turn = gevent.spawn(lambda: pytest.raises(VendorTimeout, rig.playback.finish))
    while len(rig.outbox.packets) < 2:
        gevent.sleep(0)
    rig.clock.advance(1)
    turn.get(timeout=PATIENCE_S)


def test_a_streaming_voice_may_be_waiting_for_words(rig: Rig) -> None:
    """Not every vendor says where a sentence ends."""
    rig.say("One.")
    rig.stream.sends(SentenceBegins("One."), Pcm(pcm(60)), *[None] * 60)
    settle()
    assert rig.playback.error is None
    rig.say("Two.")
    rig.stream.sends(*[None] * 9)
    settle()
    assert rig.playback.error is None, "its patience begins with the words"
    rig.stream.sends(None, None)
    settle()
    assert isinstance(rig.playback.error, VendorTimeout)


def test_a_streaming_voice_that_never_ends(rig: Rig) -> None:
    rig.say("One.")
    rig.stream.sends(SentenceBegins("One."), Pcm(pcm(60)), *[None] * 60)
    settle()
    rig.stream.ends = False
    rig.stream.sends(*[None] * 11)
    with pytest.raises(VendorTimeout):
        rig.playback.finish()


def test_sound_is_not_held_back_when_the_vendor_pauses(rig: Rig) -> None:
    rig.say("One.")
    rig.outbox.queued_frames = 100
    rig.stream.sends(SentenceBegins("One."), Pcm(pcm(60)))
    settle()
    assert rig.outbox.packets == []
    rig.stream.sends(None)
    settle()
    assert rig.outbox.packets == [pcm(60)]
    assert rig.stream.timeouts[:3] == [1.0, 1.0, module.IDLE_FLUSH_S]


def test_a_failure_is_raised_behind_the_sound_before_it(rig: Rig) -> None:
    rig.say("One.")
    rig.stream.refuses = VendorUnavailable("streamer", "connection lost")
    rig.say("Two.")
    rig.stream.speaks("One.", Pcm(pcm(60)))
    rig.stream.sends(VendorRejected("streamer", "and this is why"))
    with pytest.raises(VendorRejected):
        rig.playback.finish()
    assert rig.outbox.log == ["One", pcm(60)]
    with pytest.raises(VendorRejected):
        rig.say("Three.")


@pytest.mark.parametrize("error", [VendorUnavailable("streamer"), Overloaded("tts")])
def test_a_voice_that_cannot_be_opened(rig: Rig, error: Exception) -> None:
    rig.tts.error = error  # type: ignore[attr-defined]
    rig.say("One.")
    with pytest.raises(type(error)):
        rig.playback.finish()
    assert rig.playback.error is error


def test_a_voice_that_does_not_connect() -> None:
    rig = Rig(stall=0.01)
    rig.tts.connected.clear()  # type: ignore[attr-defined]
    rig.say("One.")
    with pytest.raises(VendorTimeout):
        rig.playback.finish()


def test_what_is_said_while_the_voice_connects_is_passed_on(rig: Rig) -> None:
    rig.tts.connected.clear()  # type: ignore[attr-defined]
    rig.say("One.")
    settle()
    rig.say("Two.")
    assert rig.stream.said == []
    rig.tts.connected.set()  # type: ignore[attr-defined]
    settle()
    assert rig.stream.said == ["One. spoken", "Two. spoken"]


def test_a_full_pool_fails_the_playback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xiaozhi.session.speaking.encoder.POOL_DEADLINE_S", 0.0)
    rig = Rig()
    rig.inference.full = True
    rig.say("One.")
    rig.stream.speaks("One.", Pcm(pcm(120)))
    with pytest.raises(Overloaded):
        rig.playback.finish()


def test_a_bug_is_logged_and_told(rig: Rig) -> None:
    rig.say("One.")
    rig.stream.sends(ValueError("a bug"))
    with capture_logs() as logs:
        settle()
    assert [entry["event"] for entry in logs] == ["task failed"]
    with pytest.raises(ValueError):
        rig.playback.finish()


# --- back-pressure -------------------------------------------------------------------------------------------------


def ahead(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> gevent.Greenlet:
    """A turn whose next sentence has to wait."""
    monkeypatch.setattr(module, "MAX_WAITING_SENTENCES", 2)
    rig.say("One.")
    turn = gevent.spawn(rig.say, "Two.")
    settle()
    assert not turn.ready()
    return turn


def test_a_model_that_is_too_far_ahead_waits_for_the_voice(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    turn = ahead(rig, monkeypatch)
    rig.stream.sends(SentenceBegins("One."))
    turn.get(timeout=PATIENCE_S)


def test_a_waiting_model_hears_of_the_failure(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    turn = ahead(rig, monkeypatch)
    rig.stream.sends(VendorUnavailable("streamer"))
    with pytest.raises(VendorUnavailable):
        turn.get(timeout=PATIENCE_S)


def test_a_waiting_model_is_let_go_when_the_playback_is_closed(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    turn = ahead(rig, monkeypatch)
    rig.playback.close()
    turn.get(timeout=PATIENCE_S)


def test_a_waiting_model_looks_again_now_and_then(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SAY_WAIT_S", 0.001)
    turn = ahead(rig, monkeypatch)
    gevent.sleep(0.01)  # sleep: it looks several times meanwhile
    assert not turn.ready()
    rig.stream.sends(SentenceBegins("One."))
    turn.get(timeout=PATIENCE_S)


# --- ends ----------------------------------------------------------------------------------------------------------


def playing(rig: Rig) -> gevent.Greenlet:
    """The turn's greenlet, which plays and waits for the sound of a sentence."""
    rig.stream.ends = False
    rig.say("One.")
    turn = gevent.spawn(rig.playback.finish)
    settle()
    rig.stream.sends(SentenceBegins("One."))
    settle()
    assert len(rig.tasks) == 0
    return turn


def test_close_stops_the_voice(rig: Rig) -> None:
    rig.say("One.")
    rig.stream.sends(SentenceBegins("One."))
    settle()
    rig.playback.close()
    rig.playback.close()
    assert rig.tasks.join(timeout=PATIENCE_S)
    assert rig.stream.closed
    assert rig.playback.error is None
    rig.playback.finish()
    assert rig.outbox.log == []


def test_close_before_it_has_begun(rig: Rig) -> None:
    rig.playback.close()
    other = Rig()
    other.say("One.")
    other.playback.close()
    other.playback.finish()
    assert other.tts.opened == 0  # type: ignore[attr-defined]


def test_close_while_the_turn_plays(rig: Rig) -> None:
    turn = playing(rig)
    rig.playback.close()
    turn.get(timeout=PATIENCE_S)
    assert rig.stream.closed


def test_close_by_whoever_plays(rig: Rig) -> None:
    rig.on_heard = lambda _: rig.playback.close()
    rig.say("One.")
    rig.stream.speaks("One.", Pcm(pcm(120)))
    assert rig.tasks.join(timeout=PATIENCE_S)
    assert rig.outbox.packets == [pcm(60), pcm(60)], "what it was about to send"
    assert rig.stream.closed
    assert rig.playback.error is None


def test_a_kill_closes_the_stream(rig: Rig) -> None:
    rig.say("One.")
    rig.stream.sends(SentenceBegins("One."))
    settle()
    rig.tasks.kill()
    assert rig.stream.closed == 1


@pytest.mark.parametrize("finishing", [False, True])
def test_a_turn_that_was_shut_is_no_failure_of_the_voice(rig: Rig, finishing: bool) -> None:
    rig.say("One.")
    rig.outbox.hold()
    rig.stream.speaks("One.", Pcm(pcm(120)))
    turn = gevent.spawn(rig.playback.finish) if finishing else None
    settle()
    rig.outbox.closed = True
    rig.outbox.release()
    settle()
    if turn is not None:
        turn.get(timeout=PATIENCE_S)
    assert rig.playback.error is None
    assert rig.stream.closed == 1
    assert len(rig.tasks) == 0


def test_a_turn_that_is_shut_while_it_plays(rig: Rig) -> None:
    turn = playing(rig)
    rig.outbox.closed = True
    rig.stream.sends(Pcm(pcm(120)))
    with pytest.raises(TurnClosed):
        turn.get(timeout=PATIENCE_S)
    assert rig.stream.closed == 1
