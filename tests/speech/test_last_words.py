"""The table of last words, row by row of its docstring, in both languages."""

from __future__ import annotations

import pytest

from xiaozhi.settings.turn import WITH_WORDS
from xiaozhi.speech.last_words import LANGUAGES, finished


def test_the_settings_know_the_languages_that_have_a_table() -> None:
    assert set(WITH_WORDS) == set(LANGUAGES)


@pytest.mark.parametrize(
    ("language", "text"),
    [
        *(("en", text) for text in ("Turn on", "I want you to believe", "the weather in Paris", "")),
        *(("zh", text) for text in ("今天天气", "我们去公园", "")),
        ("de", "Mach das Licht an und"),
        ("en", "   "),
    ],
)
def test_what_shows_nothing_has_no_score(language: str, text: str) -> None:
    assert finished(text, language) == 0.0


@pytest.mark.parametrize(
    ("language", "text"),
    [
        # broken off
        *(("en", text) for text in ("It was the...", "He might even…", "I hardly know -", "emi-")),
        *(("zh", text) for text in ("我想要……", "还有、")),
        # hesitations
        *(("en", text) for text in ("set a timer for um", "Um", "So", "play, you know", "Uh.", "let me see")),
        *(("zh", text) for text in ("帮我打开那个", "嗯", "我想要一个就是")),
        # numbers that wait for their unit
        *(("en", text) for text in ("set a timer for twenty", "wake me in 10", "two hundred and", "three point")),
        *(("zh", text) for text in ("定一个十", "再过20", "设一个三十", "播放第")),
        # words that open something
        *(
            ("en", text)
            for text in ("turn on the", "Turn on the.", "I like tea and", "because", "tell me about", "THE")
        ),
        *(("en", text) for text in ("What is the?", "can you tell me who", "it\u2019s", "I want to", "a lot of")),
        *(("en", text) for text in ("Could you please?", "Can you tell me?", "I have spoken to Mrs.")),
        # what only describes
        *(
            ("en", text)
            for text in ("Can I get a small?", "I want a large", "Show me my new red.", "give me an extra hot")
        ),
        *(
            ("zh", text)
            for text in ("因为", "我喜欢苹果和", "请帮我", "把", "今天天气很好但是", "能不能", "我想听一首")
        ),
    ],
)
def test_what_waits_for_more(language: str, text: str) -> None:
    assert finished(text, language) == -1.0


@pytest.mark.parametrize(
    ("language", "text"),
    [
        *(("en", text) for text in ("What time is it?", "what time is it", "Is that so?", "What are you looking for?")),
        *(
            ("en", text)
            for text in ("turn it off please", "Stop.", "thank you", "How is the weather today", '"Really?"')
        ),
        *(
            ("zh", text)
            for text in ("今天会下雨吗", "我们走吧。", "现在几点了", "这是什么？", "谢谢", "他是谁？", "不用了")
        ),
        # short, but whole
        *(("en", text) for text in ("Next song.", "volume up", "Why?")),
        *(("zh", text) for text in ("下一首", "关灯。", "好的")),
    ],
)
def test_what_is_complete(language: str, text: str) -> None:
    assert finished(text, language) == 1.0


@pytest.mark.parametrize(
    ("language", "text", "low", "high"),
    [
        ("en", "Turn on the light.", 0.7, 0.9),
        ("en", "set the volume to fifty.", 0.7, 0.9),
        ("en", "six spoons of snow,", -0.9, -0.7),  # some write a comma behind an end as well
        ("zh", "如果明天，", -0.9, -0.7),
        ("en", "I want you to get", -0.9, -0.7),
        ("en", "give me", -0.9, -0.7),
        # whole orders, marks or not
        *(
            ("en", text, 0.7, 0.9)
            for text in ("turn the lamp off", "please turn on the kitchen light", "play some music")
        ),
        *(("zh", text, 0.7, 0.9) for text in ("打开客厅的灯", "把窗帘关上", "声音大一点", "请把空调调到二十六度")),
        ("en", "turn it on", 0.7, 0.9),
        ("en", "can you turn on", 0.0, 0.0),
        # a clause without its main clause
        ("en", "If it rains tomorrow morning.", -0.9, -0.7),
        ("en", "That is all right. When I was a small boy.", -0.9, -0.7),
        ("en", "When is the next train?", 1.0, 1.0),
        ("en", "If it rains, close the window.", 0.7, 0.9),
        ("zh", "如果明天下雨", -0.9, -0.7),
        ("zh", "如果明天下雨就关窗户", 0.0, 0.0),
        ("en", "how long does it take?", 1.0, 1.0),
        ("en", "Can cats?", 0.0, 0.0),  # marks say nothing behind so few words
        ("en", "Big cats.", 0.0, 0.0),
        ("en", "Is it my turn", 0.0, 0.0),
        ("zh", "我航的", -0.4, -0.2),
        ("zh", "广州市", -0.4, -0.2),
        ("zh", "对", 0.0, 0.0),
        ("en", "that is his", -0.9, -0.4),
        ("en", "what are you looking for", -0.9, -0.4),
        ("zh", "我吃过饭了", 0.3, 0.9),
        ("zh", "打开客厅的", -0.4, -0.2),
        ("zh", "他说好的", 0.1, 0.5),
        ("zh", "他们去了公园。", 0.0, 0.0),  # a full stop is written behind everything
    ],
)
def test_what_is_likely(language: str, text: str, low: float, high: float) -> None:
    assert low <= finished(text, language) <= high


def test_only_the_end_of_a_long_text_is_looked_at() -> None:
    assert finished("and because of the " * 10_000 + "What time is it?", "en") == 1.0
    assert finished("What time is it? " * 10_000 + "And the", "en") == -1.0
