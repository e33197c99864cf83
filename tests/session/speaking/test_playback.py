"""Playback of one answer: order, caching, release; by fake voices, a fake outbox and a fake clock."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import gevent
import pytest

from loadtest.vendors.sounds import wav
from tests.fakes.sound import tone
from tests.session.speaking.playing import PCM, Rig
from tests.session.speaking.speech import (
    FRAME_BYTES,
    RATE,
    Sayer,
    pcm,
    settle,
)
from tests.waiting import PATIENCE_S
from xiaozhi.audio.opus import Encoder, packet_duration_ms
from xiaozhi.errors import VendorGarbage, VendorUnavailable
from xiaozhi.providers.contracts.tts import OpusPackets, Pcm, SentenceBegins, SentenceEnds, Sound
from xiaozhi.session.speaking import playback as module
from xiaozhi.session.speaking.encoder import VoiceFormat
from xiaozhi.speech.emotion import Emotion
from xiaozhi.tools.music import Track

OPUS = VoiceFormat("opus", RATE, 60)


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig()
    yield made
    made.playback.close()
    assert made.tasks.join(timeout=PATIENCE_S)


# --- what is played ------------------------------------------------------------------------------------------------


def test_sentences_with_their_subtitles_in_order(rig: Rig) -> None:
    rig.say("One.", "Two.")
    rig.stream.speaks("One.", Pcm(pcm(60)), Pcm(pcm(60, value=2)))
    rig.stream.speaks("Two.", Pcm(pcm(60, value=3), RATE))
    rig.playback.finish()
    assert rig.outbox.log == ["One", pcm(60), pcm(60, value=2), "Two", pcm(60, value=3)]
    assert rig.stream.said == ["One. spoken", "Two. spoken"]
    assert rig.heard == ["One.", "Two."]
    assert (rig.stream.finished, rig.stream.closed) == (1, 1)
    assert rig.timeline.tts_first == rig.timeline.first_frame == rig.clock.now
    assert rig.playback.error is None


def test_the_last_frame_of_a_sentence_is_filled_up_and_sent_with_its_end(rig: Rig) -> None:
    rig.say("One.")
    rig.stream.sends(SentenceBegins("One."), Pcm(pcm(90)), SentenceEnds())
    settle()
    assert rig.outbox.packets == [pcm(60), pcm(30).ljust(FRAME_BYTES, b"\0")], (
        "nobody has to say a second sentence for it"
    )


def test_a_sentence_without_sound_is_not_shown(rig: Rig) -> None:
    rig.say("…", "Two.")
    rig.stream.speaks("…")
    rig.stream.speaks("Two.", Pcm(pcm(60)))
    rig.playback.finish()
    assert rig.outbox.texts == ["Two"] and rig.heard == ["Two."]


@pytest.mark.parametrize(
    ("said", "subtitle"),
    [("好的，", "好的"), ("Really?", "Really?"), ("Wait...", "Wait"), ("(Yes.)", "(Yes.)"), ("!!", "!!")],
)
def test_subtitles_end_without_stops_and_what_is_remembered_does_not(rig: Rig, said: str, subtitle: str) -> None:
    rig.say(said)
    rig.stream.speaks(said, Pcm(pcm(60)))
    rig.playback.finish()
    assert rig.outbox.texts == [subtitle] and rig.heard == [said]


def test_a_sentence_of_the_vendors_own_has_no_subtitle(rig: Rig) -> None:
    rig.say("One.")
    rig.stream.speaks("One.", Pcm(pcm(60)))
    rig.stream.speaks("who knows", Pcm(pcm(60, value=2)))
    rig.playback.finish()
    assert rig.outbox.log == ["One", pcm(60), pcm(60, value=2)]


@pytest.mark.parametrize("emotes", [True, False])
def test_the_face_comes_with_the_first_sentence(emotes: bool) -> None:
    rig = Rig(emotes=emotes)
    rig.playback.emote(Emotion("happy", ":)"))
    rig.playback.emote(Emotion("sad", ":("))
    rig.say("One.", "Two.")
    rig.stream.speaks("One.", Pcm(pcm(60)))
    rig.stream.speaks("Two.", Pcm(pcm(60)))
    rig.playback.finish()
    assert rig.outbox.texts == (["face happy"] if emotes else []) + ["One", "Two"]


def test_sound_of_another_rate_is_resampled_from_there(rig: Rig) -> None:
    rig.say("One.")
    rig.stream.speaks("One.", Pcm(pcm(60)), Pcm(tone(100, 16_000), 16_000), Pcm(b"", 16_000))
    rig.playback.finish()
    assert rig.outbox.packets[0] == pcm(60)
    assert len(rig.outbox.packets) == 3


def test_plain_sound_is_encoded_on_the_hub_a_little_at_first() -> None:
    rig = Rig(form=OPUS)
    others: list[int] = []

    def tick() -> None:
        others.append(len(rig.outbox.packets))
        gevent.sleep(0)
        others.append(len(rig.outbox.packets))

    rig.say("One.")
    rig.stream.speaks("One.", Pcm(tone(1_200, RATE)))
    gevent.spawn(tick)
    rig.playback.finish()
    assert len(rig.outbox.packets) == 20
    assert {packet_duration_ms(packet) for packet in rig.outbox.packets} == {60}
    assert rig.inference.calls == []
    assert others[0] == 0
    assert 0 < others[1] < 20, "the others have their turn in between"


def test_batches_grow_with_what_the_device_has_in_hand() -> None:
    rig = Rig()
    rig.say("One.")
    rig.stream.sends(SentenceBegins("One."), *[Pcm(pcm(60))] * 2)
    settle()
    assert len(rig.outbox.packets) == 2
    assert len(rig.inference.calls) == 1, "120 ms, for a device that has nothing"
    rig.outbox.queued_frames = 20
    rig.stream.sends(*[Pcm(pcm(60))] * 9)
    settle()
    assert len(rig.inference.calls) == 1
    rig.stream.sends(Pcm(pcm(60)))
    settle()
    assert len(rig.inference.calls) == 2, "half of the 1,200 ms that it has"
    rig.playback.finish()


def test_ready_packets_are_passed_on() -> None:
    rig = Rig(form=OPUS)
    packets = tuple(Encoder(RATE, 60).encode(tone(240, RATE)))
    rig.say("One.")
    rig.stream.speaks("One.", OpusPackets(packets[:2], 60), OpusPackets(packets[2:], 60))
    rig.playback.finish()
    assert rig.outbox.packets == list(packets)
    assert rig.inference.calls == []


def test_packets_that_are_none_are_the_vendors_fault() -> None:
    rig = Rig(form=PCM)
    rig.say("One.")
    rig.stream.speaks("One.", OpusPackets((b"\xff",), 60))
    with pytest.raises(VendorGarbage, match="streamer"):
        rig.playback.finish()
    assert rig.stream.closed == 1


def test_nothing_said_is_nothing_to_play(rig: Rig) -> None:
    rig.playback.finish()
    assert rig.tts.opened == 0  # type: ignore[attr-defined]
    assert rig.outbox.log == []


def test_finishing_twice(rig: Rig) -> None:
    rig.say("One.")
    rig.stream.speaks("One.", Pcm(pcm(60)))
    rig.playback.finish()
    rig.playback.finish()
    assert rig.outbox.log == ["One", pcm(60)]


def test_it_waits_for_words_without_asking_the_voice(rig: Rig) -> None:
    rig.say("One.")
    rig.stream.speaks("One.", Pcm(pcm(60)))
    settle()
    asked = len(rig.stream.timeouts)
    settle()
    rig.say("Two.")
    rig.stream.speaks("Two.", Pcm(pcm(60)))
    settle()
    assert rig.outbox.texts == ["One", "Two"]
    assert asked == 3, "every event of the first sentence, and no more"


# --- who plays -----------------------------------------------------------------------------------------------------


def test_one_greenlet_plays_and_the_turns_own_takes_over(rig: Rig) -> None:
    rig.say("One.", "Two.")
    settle()
    assert len(rig.tasks) == 1, "the playback"
    rig.stream.speaks("One.", Pcm(pcm(60)))
    settle()
    rig.stream.ends = False
    turn = gevent.spawn(rig.playback.finish)
    settle()
    assert len(rig.tasks) == 1, "until it has dealt with the event that it waits for"
    rig.stream.sends(SentenceBegins("Two."))
    settle()
    assert len(rig.tasks) == 0, "the turn plays"
    rig.stream.ends = True
    rig.stream.sends(Pcm(pcm(60)), SentenceEnds())
    turn.get(timeout=PATIENCE_S)
    assert rig.outbox.log == ["One", pcm(60), "Two", pcm(60)]


def test_the_turn_takes_over_from_a_playback_that_waits_for_words(rig: Rig) -> None:
    rig.say("One.")
    rig.stream.speaks("One.", Pcm(pcm(60)))
    settle()
    rig.playback.finish()
    assert len(rig.tasks) == 0
    assert rig.stream.closed == 1


# --- the speech cache ----------------------------------------------------------------------------------------------


def test_short_sentences_are_cached_and_then_played_without_a_voice() -> None:
    first = Rig(Sayer())
    first.say("One.", "Two.")
    first.playback.finish()
    again = Rig(Sayer(), cache=first.cache)
    again.say("One.", "Two.")
    again.playback.finish()
    assert again.tts.asked == []  # type: ignore[attr-defined]
    assert again.outbox.log == first.outbox.log == ["One", pcm(60), "Two", pcm(60)]
    assert again.timeline.tts_first is not None
    assert len(first.cache) == 2


def test_cached_sentences_keep_their_place_among_the_others() -> None:
    rig = Rig(Sayer())
    for text, value in (("One.", 11), ("Three.", 13), ("Four.", 14)):
        rig.known(text, pcm(60, value=value))
    rig.say("One.", "Two.", "Three.", "Four.", "Five.")
    rig.playback.finish()
    assert rig.tts.asked == ["Two. spoken", "Five. spoken"]  # type: ignore[attr-defined]
    assert rig.outbox.texts == ["One", "Two", "Three", "Four", "Five"]
    assert rig.heard == ["One.", "Two.", "Three.", "Four.", "Five."]
    assert [packet[0] for packet in rig.outbox.packets] == [11, 1, 13, 14, 1]


def test_a_cached_sentence_wakes_a_playback_that_waits_for_words() -> None:
    rig = Rig(Sayer())
    rig.known("Two.", pcm(60, value=2))
    rig.say("One.")
    settle()
    rig.say("Two.")
    settle()
    assert rig.outbox.texts == ["One", "Two"]
    rig.playback.finish()


def test_what_is_not_cached() -> None:
    voice = Sayer()
    voice.script["Substitute. spoken"] = lambda: iter([Pcm(pcm(60)), Pcm(pcm(60), substitute=True)])
    voice.script["Silence. spoken"] = lambda: iter(())
    rig = Rig(voice)
    rig.say("Substitute.", "Silence.", "Long " * 20)
    rig.playback.finish()
    assert len(rig.outbox.packets) == 3
    assert len(rig.cache) == 0
    streaming = Rig()
    streaming.say("One.")
    streaming.stream.speaks("One.", Pcm(pcm(60)))
    streaming.playback.finish()
    assert len(streaming.cache) == 0


def test_a_sentence_that_breaks_off_is_not_cached() -> None:
    voice = Sayer()

    def breaks() -> Iterator[Sound]:
        yield Pcm(pcm(120))
        raise VendorUnavailable("sayer")

    voice.script["One. spoken"] = breaks
    rig = Rig(voice)
    rig.say("One.")
    with pytest.raises(VendorUnavailable):
        rig.playback.finish()
    assert len(rig.outbox.packets) == 2
    assert len(rig.cache) == 0


def test_what_was_held_back_of_a_sentence_is_heard_when_the_voice_fails() -> None:
    rig = Rig()
    rig.say("One.", "Two.")
    rig.stream.speaks("One.", Pcm(pcm(60)))
    rig.stream.sends(SentenceBegins("Two."), Pcm(pcm(90, value=2)), VendorUnavailable("streamer"))
    with pytest.raises(VendorUnavailable):
        rig.playback.finish()
    assert rig.outbox.texts == ["One", "Two"]
    assert b"".join(rig.outbox.packets) == pcm(60) + pcm(90, value=2) + bytes(FRAME_BYTES // 2)


def test_a_sentence_without_sound_is_neither_shown_nor_remembered() -> None:
    rig = Rig()
    rig.say("One.", "Two.", "Three.")
    rig.stream.speaks("One.", Pcm(pcm(60)))
    rig.stream.sends(SentenceBegins("Two."), SentenceEnds(whole=False))
    rig.stream.speaks("Three.", Pcm(pcm(60)))
    rig.playback.finish()
    assert rig.outbox.texts == ["One", "Three"] and rig.heard == ["One.", "Three."]


def test_a_part_of_a_sentence_is_not_cached() -> None:
    voice = Sayer()

    def garbled() -> Iterator[Sound]:
        yield Pcm(pcm(120))
        raise VendorGarbage("sayer")

    voice.script["One. spoken"] = garbled
    rig = Rig(voice)
    rig.say("One.", "Two.")
    rig.playback.finish()
    assert len(rig.outbox.packets) == 3
    assert [key.text for key in rig.cache] == ["Two. spoken"]


# --- the release ---------------------------------------------------------------------------------------------------


def test_before_the_release_one_sentence_is_prepared_and_nothing_leaves() -> None:
    rig = Rig(released=False)
    rig.say("One.", "Two.", "Three.")
    rig.stream.speaks("One.", Pcm(pcm(60)), Pcm(pcm(60)))
    settle()
    assert rig.stream.said == ["One. spoken"]
    assert rig.outbox.log == []
    rig.audible.set()
    settle()
    assert rig.stream.said == ["One. spoken", "Two. spoken", "Three. spoken"]
    rig.stream.speaks("Two.", Pcm(pcm(60)))
    rig.stream.speaks("Three.", Pcm(pcm(60)))
    rig.playback.finish()
    assert rig.outbox.texts == ["One", "Two", "Three"]


def test_before_the_release_a_cached_sentence_is_not_followed_by_a_synthesised_one() -> None:
    rig = Rig(Sayer(), released=False)
    rig.known("One.", pcm(60))
    rig.say("One.", "Two.")
    settle()
    assert rig.tts.asked == []  # type: ignore[attr-defined]
    assert rig.outbox.log == []
    rig.audible.set()
    rig.playback.finish()
    assert rig.outbox.texts == ["One", "Two"]


def test_before_the_release_a_sentence_without_sound_is_waited_behind() -> None:
    rig = Rig(released=False)
    rig.say("…", "Two.")
    rig.stream.speaks("…")
    settle()
    assert rig.stream.said == ["… spoken"]
    rig.audible.set()
    rig.stream.speaks("Two.", Pcm(pcm(60)))
    rig.playback.finish()
    assert rig.outbox.texts == ["Two"]


def test_the_voice_is_not_blamed_for_a_late_release_behind_a_sentence_without_sound() -> None:
    rig = Rig(released=False)
    rig.say("…", "Two.")
    rig.stream.speaks("…")
    settle()
    rig.clock.advance(30)
    rig.audible.set()
    rig.stream.sends(None)
    settle()
    assert rig.playback.error is None
    rig.stream.speaks("Two.", Pcm(pcm(60)))
    rig.playback.finish()
    assert rig.outbox.texts == ["Two"]


def test_a_playback_that_is_never_released(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RELEASE_DEADLINE_S", 0.01)
    rig = Rig(released=False)
    rig.say("One.")
    rig.stream.speaks("One.", Pcm(pcm(120)))
    assert rig.tasks.join(timeout=PATIENCE_S)
    assert rig.stream.closed == 1
    assert rig.playback.error is None, "it is no fault of the voice"
    rig.playback.finish()
    assert rig.outbox.log == []


def test_the_voice_has_its_whole_patience_after_the_release() -> None:
    rig = Rig(released=False)
    rig.say("One.")
    rig.stream.sends(*[None] * 30)
    settle()
    rig.audible.set()
    rig.stream.sends(*[None] * 9)
    settle()
    rig.stream.speaks("One.", Pcm(pcm(60)))
    rig.playback.finish()
    assert rig.outbox.texts == ["One"]


# --- files and the chime -------------------------------------------------------------------------------------------


def test_a_sound_file_is_played_after_the_words(rig: Rig, tmp_path: Path) -> None:
    song = tmp_path / "song.wav"
    song.write_bytes(wav(pcm(150, value=5), RATE))
    rig.say("Here it is.")
    rig.stream.speaks("Here it is.", Pcm(pcm(60)))
    rig.playback.finish()
    rig.playback.play(Track(song))
    assert rig.outbox.log[:3] == ["Here it is", pcm(60), pcm(60, value=5)]
    assert len(rig.outbox.packets) == 4
    assert rig.outbox.texts == ["Here it is"], "music has no subtitle"
    rig.inference.calls.clear()  # they hold the file open


def test_packets_from_a_file_are_passed_on(tmp_path: Path) -> None:
    rig = Rig(form=OPUS)
    packets = Encoder(RATE, 60).encode(tone(180, RATE))
    song = tmp_path / "song.p3"
    song.write_bytes(b"".join(b"\0\0" + len(packet).to_bytes(2, "big") + packet for packet in packets))
    rig.playback.play(Track(song))
    assert rig.outbox.packets == packets


def test_a_file_that_is_no_sound(rig: Rig, tmp_path: Path) -> None:
    (tmp_path / "song.mp3").write_bytes(b"no sound" * 100)
    for name in ("song.mp3", "missing.mp3"):
        with pytest.raises(VendorGarbage, match=name):
            rig.playback.play(Track(tmp_path / name))


def test_the_chime(rig: Rig) -> None:
    rig.playback.chime()
    assert rig.outbox.packets
    assert rig.outbox.texts == []
