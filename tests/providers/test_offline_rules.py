"""What the shipped phrases understand of what is heard: words that sound alike, fillers, open slots; what they leave
alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtest.bench import fresh_sentences
from loadtest.bench.spoken_commands import CHINESE, ENGLISH
from loadtest.bench.unrelated_sentences import CHINESE as UNRELATED_CHINESE
from loadtest.bench.unrelated_sentences import ENGLISH as UNRELATED_ENGLISH
from tests.providers.understanding import understood
from xiaozhi.providers.families import offline_phrases
from xiaozhi.providers.families.offline_phrases import PhraseBook
from xiaozhi.providers.families.offline_sounds import sounds

CONFIG = Path(__file__).resolve().parents[2] / "config"


def test_every_command_is_understood_as_it_is_written(book: PhraseBook) -> None:
    said = {text: understood(book, text) for text, _ in (*ENGLISH, *CHINESE)}
    assert said == dict((*ENGLISH, *CHINESE))


@pytest.mark.parametrize("text", ["{}。", "请{}", "帮我{}吧", "小智，{}好吗？"])
def test_fillers_change_nothing_in_chinese(book: PhraseBook, text: str) -> None:
    plain = [command for command, rule in CHINESE if rule not in ("thanks", "goodbye", "who_are_you", "help")]
    wrong = [
        one for one in plain if understood(book, text.format(one)).split()[:1] != understood(book, one).split()[:1]
    ]
    assert wrong == []


@pytest.mark.parametrize("text", ["{}.", "please {}", "um, could you {} please?", "Okay {}, thanks!"])
def test_fillers_change_nothing_in_english(book: PhraseBook, text: str) -> None:
    plain = [command for command, rule in ENGLISH if rule not in ("thanks", "goodbye")]
    assert [one for one in plain if understood(book, text.format(one)) != understood(book, one)] == []


@pytest.mark.parametrize(
    "heard, meant",
    [
        # homophones
        ("音量掉到五十", "volume_set 50"),
        ("因亮调到50", "volume_set 50"),
        ("三家五等于几", "sum 8"),
        ("三加无等于几", "sum 8"),
        ("定一个十分中的记时器", "timer 10"),
        ("请帮我到计时半个小时", "timer_when 半个小时"),
        ("明天早上7点叫我气床", "alarm_when 明天早上7点"),
        ("帮我设一个6.5的闹中", "alarm_when 6点半"),
        ("明早6.1克叫我", "alarm_when 明早6点1刻"),
        ("将一个故事", "story"),
        ("方点音月", "music"),
        ("下一手", "music_next"),
        ("再件", "goodbye"),
        ("还有多少店", "battery"),
        ("请帮我抱一下时间", "time"),
        # zh z, ch c, sh s, n l, ng n
        ("声英大一点", "volume_up"),
        ("今天龙历几号", "lunar"),
        ("今天心期几", "weekday"),
        ("把双帘拉开", "thing_on 双帘"),
        # half a syllable
        ("今天星期截", "weekday"),
        ("今天能力几号", "lunar_of 今天"),
        ("把声音滚掉", "mute"),
        ("给我讲的笑话", "joke"),
        ("轻摆一亮条小一点", "volume_down"),
        ("帮我把客厅的灯关脚", "thing_off 客厅的灯"),
        ("明天星期极", "day_of 明天"),
        # English
        ("turn the volume app", "volume_up"),
        ("tern up the volume", "volume_up"),
        ("set the volumes to 40%", "volume_set 40"),
        ("good bye", "goodbye"),
        ("which timer are set", "reminders_list"),
        ("turn volume up", "volume_up"),
        ("flip a coin flip a coin", "coin"),
        ("What's the time? What's the time?", "time"),
        ("wake me up at 7 a.m. to-morrow", "alarm_when at 7 am tomorrow"),
    ],
)
def test_what_was_heard_almost_right(book: PhraseBook, heard: str, meant: str) -> None:
    assert understood(book, heard) == meant


@pytest.mark.parametrize(
    "text, meant",
    [
        ("what is 7 x 8?", "sum 56"),
        ("3 + 5", "sum 8"),
        ("12 乘 7", "sum 84"),
        ("remind me in two hours to call my mother", "remind in two hours call my mother"),
        ("remind me to buy milk tomorrow at 9", "remind buy milk tomorrow at 9"),
        ("每天早上七点叫我起床", "alarm_when 每天早上七点"),
        ("what day was it three weeks ago", "day_of three weeks ago"),
        ("下周五是几号", "day_of 下周五"),
        ("how many days until christmas", "days_until christmas"),
        ("离元旦还有几天", "days_until 元旦"),
        ("后天农历是多少", "lunar_of 后天"),
        ("来一首晴天", "song 晴天"),
        ("我想听周杰伦的晴天", "song 周杰伦的晴天"),
        ("play thank you for the music", "song thank you for the music"),
        ("play is this love", "song is this love"),
        # contractions, other words and another order for the same
        ("I'd like a timer for an hour", "timer_when an hour"),
        ("it's too loud", "volume_down"),
        ("would you mind turning on the lamp", "thing_on lamp"),
        ("in ten minutes remind me to call anna", "remind in ten minutes call anna"),
        ("八点给我定个闹钟", "alarm_when 八点"),
        ("每个工作日早上六点半叫我起床", "alarm_when 每个工作日早上六点半"),
        # the time takes all that is time
        ("提醒我明天中午浇花", "remind 明天中午 浇花"),
        ("提醒我明天六点上班", "remind 明天六点 上班"),
        ("remind me tomorrow at noon to water the plants", "remind tomorrow at noon water the plants"),
        # sums by their verbs
        ("subtract thirteen from fifty", "sum 37"),
        ("multiply six by seven", "sum 42"),
        ("what is a third of ninety", "sum 30"),
        ("the screen is too bright", "brightness_down"),
        ("屏幕太暗了", "brightness_up"),
        ("切换到深色模式", "theme_dark"),
    ],
)
def test_open_slots(book: PhraseBook, text: str, meant: str) -> None:
    assert understood(book, text) == meant


@pytest.mark.parametrize(
    "text",
    [
        "don't turn on the lamp",
        "play is how children learn",
        "add milk and sugar",
        "yes",
        "不要",
        "不要打开台灯",
        "别把灯关掉",
        "没有打开空调",
        "what is five",
        "10 / 0",
        "remind me to buy milk",
        "what day is it on the moon",
        "set an alarm for the neighbours",
        "设一个朋友的闹钟",
        "turn the knob up",
        "set the volume to 150",
        "音量调到一百五",
    ],
)
def test_what_is_no_command(book: PhraseBook, text: str) -> None:
    assert understood(book, text) == ""


def test_unrelated_sentences_mean_nothing(book: PhraseBook) -> None:
    """What stands in the place of a thing is no command yet: there has to be such a thing."""
    sentences = {*UNRELATED_ENGLISH, *UNRELATED_CHINESE, *fresh_sentences.ENGLISH, *fresh_sentences.CHINESE}
    assert len(sentences) >= 800
    found = {text: understood(book, text) for text in sentences}
    assert {text: rule for text, rule in found.items() if rule and not rule.startswith("thing_o")} == {}


def test_without_readings_chinese_is_compared_as_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    sounds.cache_clear()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    try:
        plain = PhraseBook(offline_phrases.load(CONFIG / "offline.yaml").file)
        assert understood(plain, "音量调到五十") == "volume_set 50"
        assert understood(plain, "定一个十分钟的计时器") == "timer 10"
        assert understood(plain, "音量掉到五十") == ""
    finally:
        sounds.cache_clear()
