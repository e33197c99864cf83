"""Orders in any words: what a sentence is made of, in any order; and sentences of the same words that are no orders."""

from __future__ import annotations

import pytest

from loadtest.bench import own_words
from tests.providers.understanding import understood
from xiaozhi.errors import SettingsError
from xiaozhi.providers.families.offline_file import PhraseFile
from xiaozhi.providers.families.offline_phrases import PhraseBook

ENOUGH = 0.93
"""Of the lists that were mended after their first trial."""


@pytest.mark.parametrize(
    "text, meant",
    [
        ("could somebody get that lamp on", "thing_on lamp"),
        ("the fan can go off now", "thing_off fan"),
        ("we don't need the lamp anymore", "thing_off lamp"),
        ("let me have the brightness at sixty", "brightness_set 60"),
        ("take the volume down to thirty", "volume_set 30"),
        ("I'm going to bed, so kill the lamp", "thing_off lamp"),
        ("把客厅那个灯给关了", "thing_off 客厅灯"),
        ("台灯不用了关了吧", "thing_off 台灯"),
        ("太黑了把台灯点上", "thing_on 台灯"),
        ("音量往上加一加", "volume_up"),
        ("屏幕别这么亮", "brightness_down"),
        ("五分钟倒数", "timer_when 5分钟"),
        # as it sounds
        ("台邓官以下", "thing_off 台邓"),
    ],
)
def test_orders_in_any_words(book: PhraseBook, text: str, meant: str) -> None:
    assert understood(book, text).replace("五", "5") == meant


@pytest.mark.parametrize(
    "text, meant",
    [
        ("今儿礼拜几啊", "weekday"),
        ("明儿早上七点叫我", "alarm_when 明天早上七点"),
        ("你叫啥名儿", "who_are_you"),
        ("几点啦", "time"),
        ("十八和二十七的和", "sum 45"),
        ("六八得多少", "sum 48"),
        ("take eighteen away from forty five", "sum 27"),
        ("add twelve and thirty", "sum 42"),
    ],
)
def test_words_of_the_spoken_language(book: PhraseBook, text: str, meant: str) -> None:
    assert understood(book, text) == meant


@pytest.mark.parametrize("text", [*own_words.NO_ORDERS_ENGLISH, *own_words.NO_ORDERS_CHINESE])
def test_what_only_speaks_of_it_is_no_order(book: PhraseBook, text: str) -> None:
    """What stands in the place of a thing is no order yet: there has to be such a thing."""
    found = book.match(text)
    assert found is None or found.rule.tool is None or found.values.get(found.rule.tool.of, "灯") not in ("灯", "lamp")


@pytest.mark.parametrize(
    "text, meant",
    [
        ("shut off the fan I'm freezing", "thing_off fan"),
        ("roll the dice it's my turn", "dice"),
        ("小点声宝宝睡着了", "volume_down"),
        ("把屏幕弄亮一些我看不清", "brightness_up"),
        ("roll the dice i can't wait", "dice"),
        ("remember my voice I am Anna", "voice_remember Anna"),
    ],
)
def test_an_order_may_stand_before_its_reason(book: PhraseBook, text: str, meant: str) -> None:
    assert understood(book, text) == meant


@pytest.mark.parametrize(
    "text",
    [
        "我上周把屏幕亮度调低了",
        "昨晚全城的灯都灭了",
        "他们在车站哭着说再见",
        "妈妈叫弟弟去把窗帘拉上",
        "last week i turned off the lamp",
    ],
)
def test_a_deed_that_is_told_is_not_done(book: PhraseBook, text: str) -> None:
    assert understood(book, text) == ""


def test_what_somebody_wants_to_be_reminded_of_may_be_told(book: PhraseBook) -> None:
    assert understood(book, "晚上六点提醒我跟他说昨天的事").startswith("remind ")


@pytest.mark.parametrize("text", ["台灯关了吗", "灯关了没有？", "窗帘拉上了吗"])
def test_a_question_for_how_a_thing_is_moves_nothing(book: PhraseBook, text: str) -> None:
    assert understood(book, text) == ""


@pytest.mark.parametrize(
    "text, rule",
    [("把声音关了吧", "mute"), ("音量调到吧", "volume_set")],
)
def test_a_particle_is_a_number_only_where_one_must_stand(book: PhraseBook, text: str, rule: str) -> None:
    match = book.match(text)
    assert match is not None
    assert match.name == rule


@pytest.mark.parametrize(
    "lists",
    [own_words.THIRD_ENGLISH, own_words.THIRD_CHINESE, own_words.FOURTH_ENGLISH, own_words.FOURTH_CHINESE],
)
def test_lists_in_own_words(book: PhraseBook, lists: dict[str, tuple[str, ...]]) -> None:
    def rule(text: str) -> str:
        return understood(book, text).partition(" ")[0].removesuffix("_when").removesuffix("_of")

    found = [rule(text) == rule(plain) for plain, texts in lists.items() for text in texts]
    assert sum(found) / len(found) >= ENOUGH


SMALL = {
    "version": 1,
    "words": {"filler": {"en": ["the"]}, "shiny": {"en": ["polish"]}, "floor": {"en": ["floor"]}},
    "replies": {name: {"en": ["no"], "zh": ["不"]} for name in ("unknown", "without_tool", "failed")},
}


def rule(*made_of: str) -> dict[str, object]:
    return {"say": {"en": []}, "made_of": list(made_of), "answer": {"en": ["yes"], "zh": ["是"]}}


def faults(**changes: object) -> str:
    with pytest.raises(SettingsError) as raised:
        PhraseBook(PhraseFile.model_validate({**SMALL, **changes}))
    return str(raised.value)


def test_a_file_of_ones_own_may_have_words() -> None:
    book = PhraseBook(PhraseFile.model_validate({**SMALL, "rules": {"clean": rule("shiny floor")}}))
    assert understood(book, "the floor, polish!") == "clean"
    assert understood(book, "he polish the floor") == ""
    assert understood(book, "polish") == ""


def test_mistakes_are_named_with_their_place() -> None:
    assert "rules.clean.made_of.0: 'shinny'" in faults(rules={"clean": rule("shinny floor")})
    assert "rules.other.made_of.0" in faults(rules={"clean": rule("shiny floor"), "other": rule("floor shiny")})
    twice = {**SMALL["words"], "again": {"en": ["floor"]}}  # type: ignore[dict-item]
    assert "words.again.en.0: 'floor'" in faults(words=twice, rules={"clean": rule("shiny floor")})
