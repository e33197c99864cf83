"""How an answer sounds: made speakable on the stream, faces, replaced words, cached sound and answers, chime, Opus
passed on as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from loadtest.vendors.sounds import Sounds
from tests.e2e.stage import CHAT, TTS, Script, Stage, ask, open_stage, settle_phrases, tool_call
from tests.subtitles import shown
from tests.waiting import PATIENCE_S
from xiaozhi.audio import clips
from xiaozhi.audio.ogg import OggOpusDemuxer
from xiaozhi.audio.opus import packet_duration_ms

# --- text -------------------------------------------------------------------------------------------------------------


def test_markdown_links_code_and_tables_are_not_read_aloud(stage: Stage) -> None:
    written = (
        "# Tea\n\n**Boil** the water, see [this page](https://example.com/a?b=c).\n\n"
        "```python\nprint('tea')\n```\n\n| what | how |\n|---|---|\n| leaves | two |\n\n- Pour it slowly.\n"
    )
    stage.vendor.script(CHAT, Script(answer=list(written)))

    answer = ask(stage.device(), "how do I make tea")

    spoken = " ".join(stage.spoken())
    assert sorted(map(shown, stage.spoken())) == sorted(answer.sentences)
    for silent in ("*", "#", "`", "|", "http", "print(", "[", "---"):
        assert silent not in spoken, spoken
    for heard in ("Tea", "Boil the water", "this page", "Pour it slowly"):
        assert heard in spoken, spoken


@pytest.mark.parametrize(
    "written, face, spoken",
    [
        ("😭 I lost it.", "crying", "I lost it."),
        ("I am so happy for you!", "happy", "I am so happy for you!"),
        ("It is a table.", "happy", None),
    ],
)
def test_the_face_fits_the_words(stage: Stage, written: str, face: str, spoken: str | None) -> None:
    stage.vendor.script(CHAT, Script(answer=list(written)))

    answer = ask(stage.device(), "hello")

    assert answer.emotion == face
    assert answer.sentences == [shown(spoken or written)]
    assert [message.type for message in answer.messages].count("llm") == 1


def test_words_are_replaced_in_speech_and_not_in_subtitles(tmp_path: Path, sounds: Sounds) -> None:
    with open_stage(tmp_path, sounds, {"correct_words": ["GIF|jif", "重庆|虫庆"]}) as stage:
        stage.forget_requests()
        stage.vendor.script(CHAT, Script(answer=list("A GIF from 重庆 is here.")))

        answer = ask(stage.device(), "what is it")

        assert answer.sentences == ["A GIF from 重庆 is here"]
        assert stage.spoken() == ["A jif from 虫庆 is here."]


def test_chinese_is_cut_where_chinese_sentences_end(stage: Stage) -> None:
    stage.vendor.script(CHAT, Script(answer=list("好的，我来讲一个。从前有座山！山里有座庙？")))

    assert ask(stage.device(), "讲个故事").sentences == ["好的，我来讲一个", "从前有座山", "山里有座庙？"]


def test_a_story_longer_than_the_models_patience_is_told_to_its_end(tmp_path: Path, sounds: Sounds) -> None:
    """The model's deadlines count its own time, not the time its words take to be spoken."""
    with open_stage(tmp_path, sounds, {"llm_timeout": {"total": 0.5, "first_token": 0.5, "stall": 0.5}}) as stage:
        stage.vendor.script(CHAT, Script(answer=" ".join(f"Sentence number {number} is here." for number in range(8))))

        answer = ask(stage.device(), "tell me a story")

        assert len(answer.sentences) == 8
        assert answer.sentences[0] == "Sentence number 0 is here"


@pytest.mark.parametrize(
    ("written", "shown", "face"), [("😭", "😭", "crying"), ("❤️❤️", "❤❤", "loving"), ("***", None, None)]
)
def test_an_answer_without_a_word_is_shown(stage: Stage, written: str, shown: str | None, face: str | None) -> None:
    stage.vendor.script(CHAT, Script(answer=written))

    answer = ask(stage.device(), "how are you")

    assert [text.replace("\ufe0f", "") for text in answer.sentences] == ([shown] if shown else [])
    assert answer.emotion == face
    assert answer.frames == [] and stage.spoken() == []


def test_what_cannot_be_said_at_the_end_is_shown_there(stage: Stage) -> None:
    stage.vendor.script(CHAT, Script(answer="Well done. ★★★"))

    answer = ask(stage.device(), "how was I")

    assert answer.sentences == ["Well done", "★★★"]
    assert stage.spoken() == ["Well done."]


# --- caches -----------------------------------------------------------------------------------------------------------


def test_a_sentence_that_was_said_before_is_not_synthesised_again(stage: Stage) -> None:
    device, other = stage.device(), stage.device()
    first = ask(device, "one")
    second = ask(other, "two")

    assert stage.spoken() == ["Fine."]
    assert second.frames == first.frames

    third = stage.device(frame_ms=20)
    settled(stage)
    ask(third, "three")
    assert stage.spoken() == ["Fine."], "another format is another sound"


def test_a_sentence_that_was_cut_short_is_not_cached(stage: Stage) -> None:
    device = stage.device()
    stage.vendor.script(TTS, Script(answer=("wav", 10.0), gap=0.05))
    device.detect("one")
    device.wait_until(lambda: device.replies.frames_received >= 2, PATIENCE_S, "sound")
    device.abort()
    device.collect_answer()

    ask(device, "two")

    assert stage.spoken() == ["Fine.", "Fine."]


@pytest.fixture(scope="module")
def remembering_stage(tmp_path_factory: pytest.TempPathFactory, sounds: Sounds) -> Any:
    with open_stage(
        tmp_path_factory.mktemp("data"), sounds, {"conversation": {"llm_cache": True, "resume_seconds": 0}}
    ) as opened:
        yield opened


@pytest.fixture
def remembering(remembering_stage: Stage, _no_leaks: None) -> Any:
    remembering_stage.reset()
    generation = remembering_stage.generation
    assert generation.agent.answers is not None
    generation.agent.answers.clear()
    yield remembering_stage
    remembering_stage.close_devices()


def test_a_repeated_question_is_answered_from_memory(remembering: Stage) -> None:
    stage = remembering
    stage.vendor.script(CHAT, Script(answer="The sun. It is big."), Script(answer="Asked again."))
    first = ask(stage.device(), "What is the largest thing in the sky?")

    second = ask(stage.device(), "what is  the largest thing in the sky?")

    assert second.sentences == first.sentences == ["The sun", "It is big"]
    assert stage.vendor.counts[CHAT] == 1


def test_answers_that_need_context_are_not_remembered(remembering: Stage) -> None:
    stage = remembering
    device = stage.device()
    ask(device, "what is the largest thing in the sky")
    ask(device, "what is the largest thing in the sky")
    assert stage.vendor.counts[CHAT] == 2, "something was said before"

    ask(stage.device(), "what day is today")
    ask(stage.device(), "what day is today")
    assert stage.vendor.counts[CHAT] == 4, "the answer is another one tomorrow"

    for _ in range(2):
        stage.vendor.script(CHAT, Script(answer=[tool_call("get_time")]), Script(answer="Late."))
        ask(stage.device(), "is it late")
    assert stage.vendor.counts[CHAT] == 8, "a tool was called"

    stage.vendor.script(CHAT, Script(status=400))
    ask(stage.device(), "what are trees")
    assert ask(stage.device(), "what are trees").sentences == ["Fine"], "a failure is no answer"


def test_every_question_is_asked_by_default(stage: Stage) -> None:
    ask(stage.device(), "what is the largest thing in the sky")
    ask(stage.device(), "what is the largest thing in the sky")
    assert stage.vendor.counts[CHAT] == 2


# --- sound ------------------------------------------------------------------------------------------------------------


def test_a_chime_ends_every_answer(tmp_path: Path, sounds: Sounds) -> None:
    with open_stage(tmp_path, sounds, {"enable_stop_tts_notify": True}) as stage:
        answer = ask(stage.device(), "hello")

        chime = list(clips.to_frames(clips.chime(24_000), clips.ClipFormat()))
        assert answer.frames[-len(chime) :] == chime
        assert len(answer.frames) > len(chime)


@pytest.mark.parametrize("content", ["sound", "garbage"])
def test_a_chime_of_ones_own(tmp_path: Path, sounds: Sounds, content: str) -> None:
    """A file that cannot be played is replaced by the built-in chime."""
    file = tmp_path / "ding.mp3"
    file.write_bytes(sounds.body("mp3", 0.5) if content == "sound" else b"garbage" * 50)
    with open_stage(tmp_path, sounds, {"enable_stop_tts_notify": True, "stop_tts_notify_voice": str(file)}) as stage:
        answer = ask(stage.device(), "hello")

        expected = 1 + (9 if content == "sound" else 7)
        assert abs(len(answer.frames) - expected) <= 1


@pytest.fixture(scope="module")
def opus_stage(tmp_path_factory: pytest.TempPathFactory, sounds: Sounds) -> Any:
    settings = {"TTS": {"Vendor": {"response_format": "opus"}}, "conversation": {"reply_cache_bytes": 0}}
    with open_stage(tmp_path_factory.mktemp("data"), sounds, settings) as opened:
        yield opened


@pytest.fixture
def opus(opus_stage: Stage, _no_leaks: None) -> Any:
    opus_stage.reset()
    opus_stage.vendor.stand(TTS, Script(answer=("opus", 1.0)))
    yield opus_stage
    opus_stage.close_devices()


def codec_jobs(stage: Stage) -> int:
    """What the pool has encoded or decoded so far."""
    counts = stage.server.inference.counts.get("codec")
    return counts.done if counts is not None else 0


@pytest.mark.parametrize("frame_ms", [20, 40, 60])
def test_the_vendors_opus_packets_reach_the_device(opus: Stage, sounds: Sounds, frame_ms: int) -> None:
    """20 ms packets are merged, not decoded: the frames hold the vendor's bytes, and the pool has nothing to do."""
    device = opus.device(frame_ms=frame_ms)
    packets = OggOpusDemuxer().feed(sounds.body("opus", 1.0))
    assert {packet_duration_ms(packet) for packet in packets} == {20}
    settled(opus)
    before = codec_jobs(opus)

    answer = ask(device, "speak")

    assert codec_jobs(opus) == before
    assert {packet_duration_ms(frame) for frame in answer.frames} == {frame_ms}
    assert len(answer.frames) == -(-len(packets) * 20 // frame_ms), "only the last frame is filled up"
    sent = b"".join(answer.frames)
    assert all(packet[1:] in sent for packet in packets), "bit for bit the vendor's sound"
    assert len(answer.pcm()) == len(answer.frames) * frame_ms * 24 * 2


def test_opus_is_decoded_for_a_device_that_wants_pcm(opus: Stage) -> None:
    device = opus.device(audio_params={"format": "pcm"})
    settled(opus)

    answer = ask(device, "speak")

    assert {len(frame) for frame in answer.frames} == {24_000 * 60 // 1000 * 2}
    assert 1.0 <= len(answer.frames) * 0.06 <= 1.1


def test_two_sentences_of_opus_keep_their_order(opus: Stage) -> None:
    opus.vendor.script(CHAT, Script(answer="First one. Second one."))
    opus.vendor.stand(TTS, Script(answer=("opus", 0.25)))
    device = opus.device()
    settled(opus)

    answer = ask(device, "speak")

    assert answer.sentences == ["First one", "Second one"]
    assert len(answer.frames) == 2 * 5


def settled(stage: Stage) -> None:
    """Until nothing is prepared in the background for the format of a new device."""
    settle_phrases(stage)
    stage.forget_requests()


@pytest.mark.parametrize("form", ["mp3", "pcm", "wav"])
def test_other_formats_are_decoded(tmp_path: Path, sounds: Sounds, form: str) -> None:
    with open_stage(tmp_path, sounds, {"TTS": {"Vendor": {"response_format": form}}}) as stage:
        stage.vendor.stand(TTS, Script(answer=(form, 0.5)))

        answer = ask(stage.device(), "speak")

        assert 0.5 <= len(answer.frames) * 0.06 <= 0.66
        assert len(answer.pcm()) > 24_000
