from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xiaozhi.speech.emotion import DEFAULT, EMOJI_LIST, EMOTIONS, emotion_of_emoji, guess, spoken_of

FIRMWARE = (
    "neutral happy laughing funny sad angry crying loving embarrassed "
    "surprised shocked thinking winking cool relaxed delicious kissy "
    "confident sleepy silly confused"
)


def test_the_emotions_are_those_the_firmware_draws() -> None:
    assert list(EMOTIONS) == FIRMWARE.split()
    assert all(name == emotion.name for name, emotion in EMOTIONS.items())


@pytest.mark.parametrize("emotion", EMOTIONS.values(), ids=lambda emotion: emotion.name)
def test_every_emoji_of_the_list_stands_for_its_emotion(emotion: object) -> None:
    assert emotion_of_emoji(emotion.emoji) is emotion  # type: ignore[attr-defined]
    assert emotion.emoji in EMOJI_LIST.split()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "emoji,name", [("❤️", "loving"), ("👍🏽", "happy"), ("😊", "happy"), ("🤷‍♂️", "confused"), ("😅", "embarrassed")]
)
def test_other_emoji_find_the_nearest_face(emoji: str, name: str) -> None:
    found = emotion_of_emoji(emoji)
    assert found is not None and found.name == name


@pytest.mark.parametrize("emoji", ["🚗", "🇨🇳", "a", "", "1️⃣"])
def test_an_emoji_without_feeling_says_nothing(emoji: str) -> None:
    assert emotion_of_emoji(emoji) is None


@pytest.mark.parametrize(
    "text,name",
    [
        ("今天好开心呀", "happy"),
        ("我一点也不开心", "sad"),
        ("I'm so happy for you", "happy"),
        ("I am not happy", "sad"),
        ("I’m afraid that will not work", "sad"),
        ("Let me think about it", "thinking"),
        ("给你讲个笑话，真好笑", "funny"),
        ("哈哈哈哈", "laughing"),
        ("Good night, sweet dreams", "sleepy"),
        ("晚安", "sleepy"),
        ("没问题，包在我身上", "confident"),
        ("Sadly is not a whole word, nor is unhappyish", "happy"),
        ("It is three o'clock", "happy"),
        ("现在是三点", "happy"),
        ("", "happy"),
    ],
)
def test_a_guess_from_words(text: str, name: str) -> None:
    assert guess(text).name == name


@given(st.text())
def test_any_text_has_an_emotion(text: str) -> None:
    assert guess(text).name in EMOTIONS


def test_where_nothing_better_is_known_the_face_is_happy() -> None:
    assert spoken_of("It is three o'clock") is None
    assert guess("It is three o'clock") is guess("") is DEFAULT is EMOTIONS["happy"]
    assert DEFAULT.emoji == "🙂"
