"""Numbers that were heard as other words, parts of a time that no look-up may lose, sums by their sound."""

from __future__ import annotations

import pytest

from tests.providers.understanding import understood
from xiaozhi.providers.families.offline_phrases import PhraseBook


@pytest.mark.parametrize(
    "text, meant",
    [
        ("Set the volume two 30.", "volume_set 30"),
        ("set the volume two thirty", "volume_set 30"),
        ("set the screen brightness to half", "brightness_set 50"),
        ("eight sevens", "sum 56"),
        ("what are nine sixes", "sum 54"),
        ("ten dollars minus three dollars", "sum 7"),
        ("take three pounds from ten pounds", "sum 7"),
        ("五十六剪去十八等于几", "sum 38"),
        ("四十八初以六等于几", "sum 8"),
        ("音量调到七是", "volume_set 70"),
        ("把声引关了吧", "mute"),
        ("lamp please", "thing_on lamp"),
        ("tell me who you are", "who_are_you"),
        ("can we have some music", "music"),
        ("晚上八点叫我吃药", "remind 晚上八点 吃药"),
        ("唱个小星星", "song 小星星"),
        ("你刚刚说什么，再讲一遍", "repeat"),
    ],
)
def test_what_was_heard_almost_right_is_understood(book: PhraseBook, text: str, meant: str) -> None:
    assert understood(book, text) == meant


@pytest.mark.parametrize("text", ["定六点半的脑中", "五点伴叫我起床", "设一个六点班的闹钟", "六点半的闹钟"])
def test_half_an_hour_is_never_lost(book: PhraseBook, text: str) -> None:
    match = book.match(text)
    assert match is not None and match.name == "alarm_when"
    assert any(half in str(match.values["when"]) for half in "半伴班")


@pytest.mark.parametrize(
    "text",
    [
        "把音量调到三十半",
        "唱歌比赛他得了第一名",
        "唱歌很好听",
        "someone please",
        "two coffees please",
        "a window seat",
        "we walked for hours and hours",
        "他昨天八点叫我吃饭",
        "声音很好听，今天很冷",
    ],
)
def test_what_only_sounds_like_an_order_is_none(book: PhraseBook, text: str) -> None:
    assert understood(book, text) == ""
