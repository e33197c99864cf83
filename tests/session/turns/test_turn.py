"""The life of one turn: what the device is told and when, one outcome whoever ends it, and what is remembered."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from gevent.event import Event

from tests.fakes.sound import tone
from tests.fakes.voice import FakeTts
from tests.session.turns.rig import (
    APOLOGY,
    FakeUtterance,
    ScriptedPipeline,
    TurnRig,
    fail,
    say,
    settle,
    spoken,
)
from tests.subtitles import shown
from tests.waiting import PATIENCE_S, wait_for
from xiaozhi.chat import Message
from xiaozhi.errors import Overloaded, TurnClosed, VendorUnavailable
from xiaozhi.session.turn_record import Outcome
from xiaozhi.session.turns.opening import Announcement, Delivery, Opening
from xiaozhi.session.turns.pipeline import OutputLimit, TurnControl
from xiaozhi.session.turns.turn_state import TurnState
from xiaozhi.speech.sentences import Sentence
from xiaozhi.tools.music import Track

Make = Callable[..., TurnRig]


# --- a whole answer ---------------------------------------------------------------------------------------------------


def test_an_answer_is_announced_spoken_and_ended(rig: TurnRig) -> None:
    record = rig.run(words="Fine. And you?")

    assert rig.sent == [
        "stt what is up",
        "tts start",
        "llm",
        "tts sentence_start Fine",
        "tts sentence_start And you?",
        "tts stop",
    ]
    assert rig.frames >= 2
    assert rig.told.calls == ["text what is up", "open", "end answered"]
    assert (record.outcome, record.user_text, record.sentences, record.characters) == (
        Outcome.ANSWERED,
        "what is up",
        2,
        len("Fine.And you?"),
    )
    assert record.script == [Message("user", "what is up"), Message("assistant", "Fine. And you?")]
    assert not record.speculative and not record.announcement
    turn = rig.turns[0]
    assert turn.state is TurnState.ENDED and turn.ended and not turn.speaking
    assert turn.interrupt("too late") is False


def test_a_turn_that_says_nothing_is_opened_and_stopped_when_it_has_a_playback(rig: TurnRig) -> None:
    """Such as a tool that is done without a word: the device leaves the state it went into."""

    def work(turn: TurnControl) -> None:
        turn.open_playback(rig.tts)

    rig.run(work=work)

    assert rig.sent == ["stt what is up", "tts start", "tts stop"]


def test_a_turn_without_a_playback_ends_in_silence(rig: TurnRig) -> None:
    record = rig.run(work=lambda turn: Outcome.UNHEARD)

    assert record.outcome is Outcome.UNHEARD
    assert rig.sent == []
    assert rig.told.calls == ["end unheard"]


def test_the_timeline_counts_from_the_end_of_the_voice(rig: TurnRig) -> None:
    utterance = FakeUtterance()

    def work(turn: TurnControl) -> None:
        rig.clock.advance(1)
        turn.heard("hello")
        rig.clock.advance(1)
        say(turn, rig.tts, "Hi.")

    record = rig.run(spoken(utterance), work=work)

    timeline = record.timeline
    assert (timeline.voice_ended, timeline.released, timeline.heard, timeline.tts_asked) == (990.0, 1000, 1001, 1002)
    assert timeline.prepared is None and timeline.ended == 1002
    assert record.trace == "trace-of-the-utterance"
    assert record.user_text == "hello"
    assert utterance.closed


def test_a_second_playback_replaces_the_first(rig: TurnRig) -> None:
    other = FakeTts(ms_per_char=1)

    def work(turn: TurnControl) -> None:
        turn.open_playback(rig.tts)
        say(turn, other, "Only this.")

    rig.run(work=work)

    assert "tts sentence_start Only this" in rig.sent
    assert other.said == ["Only this."] and rig.tts.said == []


def test_what_is_taken_back_is_neither_heard_to_its_end_nor_remembered(rig: TurnRig) -> None:
    thinking = FakeTts(ms_per_char=500)

    def work(turn: TurnControl) -> None:
        turn.open_playback(thinking).say(Sentence("They greet me.", "They greet me."))
        wait_for(lambda: turn.exchange.heard)
        turn.take_back(rig.tts, 0).say(Sentence("Hello.", "Hello."))
        wait_for(lambda: turn.exchange.heard)
        raise VendorUnavailable("llm", "gone")

    record = rig.run(work=work)

    assert rig.sentences == ["They greet me", "Hello", shown(APOLOGY)]
    assert [message.content for message in record.script] == ["Hello."]
    assert rig.frames < 14 * 25, "most of seven seconds was not sent"


@pytest.mark.parametrize("wanted", [True, False])
def test_a_called_tool_is_shown_where_that_is_wanted(make: Make, wanted: bool) -> None:
    rig = make(show_tool_calls=wanted)

    def work(turn: TurnControl) -> None:
        turn.open()
        turn.show_call("get_weather")
        say(turn, rig.tts, "Fine.")

    rig.run(work=work)

    shown = [message for message in rig.sent if "%" in message]
    assert shown == (["stt % get_weather"] if wanted else [])
    assert not shown or rig.sent.index("tts start") < rig.sent.index(shown[0])


def test_files_are_played_behind_the_words_and_then_the_chime(make: Make, tmp_path: Path) -> None:
    song = tmp_path / "song.wav"
    song.write_bytes(wav(tone(100, 24_000)))

    def frames(chime: bool, play: bool) -> int:
        rig = make(chime=chime)

        def work(turn: TurnControl) -> None:
            if play:
                turn.play(Track(song))
            say(turn, rig.tts, "Fine.")

        assert rig.run(work=work).outcome is Outcome.ANSWERED
        return rig.frames

    plain = frames(chime=False, play=False)
    assert frames(chime=False, play=True) == plain + 5
    assert frames(chime=True, play=False) > plain + 20


def test_how_far_a_song_was_heard_is_noted(rig: TurnRig, tmp_path: Path) -> None:
    song = Track(tmp_path / "song.wav", start_ms=40)
    song.path.write_bytes(wav(tone(140, 24_000)))
    other = Track(song.path)

    def work(turn: TurnControl) -> None:
        turn.play(song)
        turn.play(other)
        say(turn, rig.tts, "Here it is.")

    rig.run(work=work)

    assert (song.ended, song.heard_ms) == (True, 140)
    assert (other.ended, other.heard_ms) == (True, 140)


def test_a_song_that_is_interrupted_and_one_that_never_began(rig: TurnRig, tmp_path: Path) -> None:
    song, other = Track(tmp_path / "song.wav"), Track(tmp_path / "song.wav", start_ms=500)
    song.path.write_bytes(wav(tone(60_000, 24_000)))

    def work(turn: TurnControl) -> None:
        turn.play(song)
        turn.play(other)
        say(turn, rig.tts, "Here it is.")

    turn = rig.turn(work=work)
    turn.start(prepared=False)
    rig.sender.wait_for(lambda sender: len(sender.binaries) > 8)
    turn.interrupt("wake word")

    assert song.begun
    assert not song.ended
    assert 0 < song.heard_ms < 20 * len(rig.sender.binaries)
    assert (other.begun, other.ended, other.heard_ms) == (False, False, 500)


def test_of_several_songs_those_that_are_none_are_left_out(rig: TurnRig, tmp_path: Path) -> None:
    song, broken = Track(tmp_path / "song.wav"), tmp_path / "broken.wav"
    song.path.write_bytes(wav(tone(100, 24_000)))
    broken.write_bytes(b"not a sound")

    def work(turn: TurnControl) -> None:
        for track in (Track(broken), song, Track(broken)):
            turn.play(track)
        say(turn, rig.tts, "Listen.")

    assert rig.run(work=work).outcome is Outcome.ANSWERED
    assert song.ended


def test_a_file_that_is_no_sound_is_apologised_for_and_not_played_again(rig: TurnRig, tmp_path: Path) -> None:
    song = tmp_path / "song.wav"
    song.write_bytes(b"not a sound")

    def work(turn: TurnControl) -> None:
        turn.play(Track(song))
        say(turn, rig.tts, "Listen.")

    record = rig.run(work=work)

    assert (record.outcome, record.failed_vendor) == (Outcome.FAILED, "music")
    assert rig.sentences == ["Listen", shown(APOLOGY)]


# --- prepared ---------------------------------------------------------------------------------------------------------


def test_nothing_leaves_the_server_before_the_release(rig: TurnRig) -> None:
    utterance = FakeUtterance()
    turn = rig.turn(spoken(utterance), words="Prepared.")
    turn.start(prepared=True)
    wait_for(lambda: rig.tts.said == ["Prepared."])
    settle()
    assert rig.sent == [] and rig.frames == 0
    assert turn.state is TurnState.PREPARED and not turn.ended
    assert not turn.wait(0.001)

    utterance.ended_at = 999.0
    rig.clock.advance(1)
    turn.release()
    turn.release()

    assert turn.wait(PATIENCE_S)
    settle()
    assert rig.sent == ["tts start", "llm", "tts sentence_start Prepared", "tts stop"]
    assert rig.told.calls == ["text ", "open", "end answered"], "opened once, though two wait for the release"
    record = turn.record
    assert record is not None and record.speculative
    assert (record.timeline.prepared, record.timeline.released, record.timeline.voice_ended) == (1000, 1001, 999)


def test_a_prepared_turn_opens_at_its_release_though_its_model_still_thinks(rig: TurnRig) -> None:
    go_on = Event()

    def work(turn: TurnControl) -> None:
        say(turn, rig.tts, "One moment.")
        go_on.wait(PATIENCE_S)

    turn = rig.turn(work=work)
    turn.start(prepared=True)
    wait_for(lambda: rig.tts.said)
    assert rig.sent == []

    turn.release()

    rig.wait_for("tts sentence_start One moment")
    assert turn.speaking
    go_on.set()
    assert turn.wait(PATIENCE_S)


def test_a_prepared_turn_that_is_discarded_leaves_no_trace(rig: TurnRig) -> None:
    turn = rig.turn(words="Prepared. And more.")
    turn.start(prepared=True)
    wait_for(lambda: rig.tts.said != [])

    turn.discard()

    assert turn.state is TurnState.DISCARDED and turn.ended and turn.wait(0)
    turn.release()
    turn.discard()
    assert turn.interrupt("late") is False
    wait_for(lambda: rig.tts.sessions[0].over)
    settle()
    assert turn.record is None and turn.state is TurnState.DISCARDED
    assert rig.told.calls == ["discard"]
    assert rig.sent == [] and rig.frames == 0


def test_a_released_turn_cannot_be_discarded(rig: TurnRig) -> None:
    turn = rig.turn(words="Fine.")
    turn.start(prepared=False)

    turn.discard()

    assert turn.wait(PATIENCE_S)
    assert turn.state is TurnState.ENDED
    assert rig.told.records[0].outcome is Outcome.ANSWERED


def test_an_interrupt_discards_a_prepared_turn_for_good(rig: TurnRig) -> None:
    turn = rig.turn(words="Prepared.")
    turn.start(prepared=True)
    settle()

    assert turn.interrupt("abort") is True

    assert turn.state is TurnState.DISCARDED
    with pytest.raises(TurnClosed):
        rig.outbox.open_turn(turn.id)


def test_a_prepared_turn_that_fails_waits_with_its_apology(rig: TurnRig) -> None:
    turn = rig.turn(work=fail(VendorUnavailable("acme")))
    turn.start(prepared=True)
    settle()
    assert rig.sent == [] and not turn.ended

    turn.release()

    assert turn.wait(PATIENCE_S)
    rig.wait_for("tts stop")
    assert rig.sentences == [shown(APOLOGY)]
    assert turn.record is not None and turn.record.outcome is Outcome.FAILED


def test_a_prepared_turn_that_fails_without_an_apology_is_thrown_away(make: Make) -> None:
    """So that the utterance is tried again when it is complete."""
    rig = make(apology={})
    turn = rig.turn(work=fail(VendorUnavailable("acme")))
    turn.start(prepared=True)

    assert turn.wait(PATIENCE_S)

    assert turn.state is TurnState.DISCARDED and turn.record is None
    assert rig.told.calls == ["discard"]


def test_a_prepared_turn_does_not_wait_for_ever(rig: TurnRig) -> None:
    turn = rig.turn(work=lambda control: control.wait_release(), release_deadline=0.01)
    turn.start(prepared=True)

    assert turn.wait(PATIENCE_S)

    assert turn.state is TurnState.DISCARDED
    assert rig.told.calls == ["discard"]


def test_a_released_turn_does_not_wait_for_its_release(rig: TurnRig) -> None:
    waited: list[bool] = []

    def work(turn: TurnControl) -> None:
        turn.wait_release()
        waited.append(True)

    rig.run(work=work, release_deadline=0.0)

    assert waited == [True]


# --- what the session deals with --------------------------------------------------------------------------------------


def test_an_exit_command_is_not_answered(rig: TurnRig) -> None:
    rig.told.takes_text = False

    record = rig.run(Opening(text="go away"), words="Fine.")

    assert record.outcome is Outcome.ANSWERED
    assert rig.sent == [] and rig.frames == 0
    assert rig.told.calls == ["text go away", "end answered"]


def test_an_exit_command_stops_what_was_prepared(rig: TurnRig) -> None:
    rig.told.takes_text = False
    never = Event()
    pipeline = ScriptedPipeline(rig.tts)

    def work(turn: TurnControl) -> None:
        turn.heard("go away")
        turn.open_playback(rig.tts)
        never.wait(PATIENCE_S)

    pipeline.work = work
    turn = rig.turn(pipeline=pipeline)
    turn.start(prepared=True)
    wait_for(lambda: pipeline.runs == 1)

    turn.release()

    assert turn.wait(PATIENCE_S)
    wait_for(lambda: pipeline.greenlet.dead)
    assert rig.sent == []
    assert rig.told.calls == ["text go away", "end answered"]


def test_a_refusal_is_the_sessions_and_is_spoken_as_a_fixed_text(rig: TurnRig) -> None:
    rig.told.limit = OutputLimit(0, "Enough for today.")

    def work(turn: TurnControl) -> None:
        limit = turn.output_limit()
        assert limit is not None and limit.characters == 0
        turn.speak_fixed(limit.words)

    record = rig.run(work=work)

    assert "tts sentence_start Enough for today" in rig.sent
    assert record.outcome is Outcome.ANSWERED and record.script == [], "a refusal is not remembered"


def test_a_server_that_is_full_apologises(rig: TurnRig) -> None:
    rig.told.limit = Overloaded("server")

    def work(turn: TurnControl) -> None:
        turn.output_limit()

    record = rig.run(work=work)

    assert (record.outcome, record.reason) == (Outcome.OVERLOADED, "server")
    assert rig.sentences == [shown(APOLOGY)]


# --- fixed speech -----------------------------------------------------------------------------------------------------


def test_a_fixed_text_is_spoken_without_a_pipeline(rig: TurnRig) -> None:
    pipeline = ScriptedPipeline(rig.tts)

    record = rig.run(Opening(text="hello robot", fixed="I'm here."), pipeline=pipeline)

    assert pipeline.runs == 0
    assert rig.sent[0] == "stt hello robot"
    assert "tts sentence_start I'm here" in rig.sent
    assert rig.told.calls == ["open", "end answered"]
    assert record.script == [Message("user", "hello robot"), Message("assistant", "I'm here.")]


def test_what_nobody_has_said_can_be_shown(rig: TurnRig) -> None:
    record = rig.run(Opening(fixed="Dinner is ready.", shown="Dinner is ready."))

    assert rig.sent[0] == "stt Dinner is ready."
    assert record.script == [Message("assistant", "Dinner is ready.")]
    assert record.user_text == ""


def test_an_announcement_is_told_what_became_of_it(rig: TurnRig) -> None:
    announcement = Announcement(deadline=2_000)
    announcement.begun()

    record = rig.run(Opening(fixed="Tea.", announcement=announcement))

    assert announcement.delivery is Delivery.SPOKEN and announcement.settled
    assert announcement.record is record and record.announcement
    assert announcement.wait(0) is Delivery.SPOKEN


# --- memory and order -------------------------------------------------------------------------------------------------


def wav(pcm: bytes, rate: int = 24_000) -> bytes:
    """A WAV file of s16le mono PCM."""
    header = b"RIFF" + (36 + len(pcm)).to_bytes(4, "little") + b"WAVEfmt " + (16).to_bytes(4, "little")
    form = (1).to_bytes(2, "little") * 2 + rate.to_bytes(4, "little") + (2 * rate).to_bytes(4, "little")
    return header + form + b"\x02\x00\x10\x00data" + len(pcm).to_bytes(4, "little") + pcm
