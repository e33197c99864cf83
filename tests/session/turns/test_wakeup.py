"""Wake words, exit commands, greetings: what a short text means."""

import random

import pytest

from xiaozhi.session.turns.wakeup import greetings_for, is_chinese, is_exit, is_wake_word, pick_greeting
from xiaozhi.settings import Settings


@pytest.mark.parametrize("text", ["你好小智", "你好，小智！", " 你好小智。", "Hi XiaoZhi"])
def test_wake_words_whatever_the_punctuation_and_case(text: str) -> None:
    assert is_wake_word(text, ["你好小智", "hi xiaozhi"])


@pytest.mark.parametrize("text", ["", "。", "你好小智今天天气怎么样", "小智"])
def test_what_is_no_wake_word(text: str) -> None:
    assert not is_wake_word(text, ["你好小智"])


def test_exit_commands_are_whole_utterances() -> None:
    assert is_exit("退出。", ["退出", "关闭"])
    assert is_exit("Exit!", ["exit"])
    assert not is_exit("怎么退出", ["退出"])
    assert not is_exit("", ["退出", ""])


def test_a_greeting_answers_in_the_language_of_the_wake_word() -> None:
    chooser = random.Random(1)
    for _ in range(20):
        assert is_chinese(pick_greeting("你好小智", chooser))
        assert not is_chinese(pick_greeting("hi xiaozhi", chooser))


def test_every_greeting_of_a_language_can_be_spoken_in_advance() -> None:
    chooser = random.Random(2)
    assert {pick_greeting("嗨", chooser) for _ in range(200)} == set(greetings_for(["嗨"]))
    assert set(greetings_for(["嗨", "hi"])) == set(greetings_for(["嗨"])) | set(greetings_for(["hi"]))
    assert greetings_for([]) == []


WORDS_OF_THE_EXISTING_SERVER = (
    "你好小智 嘿，你好呀 你好小志 小爱同学 你好小鑫 你好小新 小美同学 小龙小龙 喵喵同学 小滨小滨 小冰小冰"
)


def test_the_wake_words_of_the_existing_server_are_known() -> None:
    known = Settings().wakeup_words
    words = WORDS_OF_THE_EXISTING_SERVER.split(" ")
    assert len(words) == 11
    for word in words:
        assert is_wake_word(word, known), word
