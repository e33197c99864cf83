"""The phrase file: its pattern language, its look-ups, its faults; and the one that is shipped."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from xiaozhi.app.wiring import check
from xiaozhi.errors import SettingsError
from xiaozhi.providers.asr import pocketsphinx
from xiaozhi.providers.families import offline_patterns as patterns
from xiaozhi.providers.families import offline_phrases as phrases
from xiaozhi.providers.llm import offline
from xiaozhi.settings import load as load_settings
from xiaozhi.speech import numerals

CONFIG = Path(__file__).resolve().parents[2] / "config"

SMALL: dict[str, Any] = {
    "version": 1,
    "slots": {"number": {"least": 0, "most": 100, "spoken": [5, 10]}},
    "pronunciations": {"xiaozhi": "SH AW JH IY"},
    "padding": {"en": ["please", "hey", "can you"], "zh": ["请问", "吗", "一下"]},
    "replies": {name: {"en": [name], "zh": [name]} for name in ("unknown", "without_tool", "failed")},
    "rules": {
        "time": {
            "say": {"en": ["what time is it [now]"], "zh": ["[现在]几点了"]},
            "answer": {"en": ["{time}"], "zh": ["{time}"]},
        },
        "volume": {
            "say": {"en": ["volume <number> [percent]", "please stop"], "zh": ["音量<number>"]},
            "typed": {"en": ["vol <number>"]},
            "tool": {"name": "speaker.set_volume", "arguments": {"volume": "{number}"}},
            "answer": {"en": ["{number}"], "zh": ["{number}"]},
        },
        "bye": {
            "say": {"en": ["goodbye"]},
            "mentions": {"en": ["Say Farewell"], "zh": ["道别"]},
            "answer": {"en": ["Bye."], "zh": ["再见"]},
        },
    },
}

Written = Callable[[Any], Path]


@pytest.fixture
def written(tmp_path: Path) -> Written:
    def write(content: Any) -> Path:
        path = tmp_path / "phrases.yaml"
        text = content if isinstance(content, str) else yaml.safe_dump(content, allow_unicode=True, sort_keys=False)
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def small(written: Written) -> phrases.PhraseBook:
    return phrases.load(written(SMALL))


@pytest.fixture(scope="module")
def shipped() -> phrases.PhraseBook:
    return phrases.load(CONFIG / "offline.yaml")


def changed(*path_and_value: Any) -> dict[str, Any]:
    """SMALL with one value put in at a path."""
    *path, last, value = path_and_value
    content = copy.deepcopy(SMALL)
    place = content
    for key in path:
        place = place.setdefault(key, {})
    place[last] = value
    return content


def faults(path: Path) -> dict[str, str]:
    """Key -> what was expected, of a file that is refused."""
    with pytest.raises(SettingsError) as refused:
        phrases.load(path)
    return {fault.key.removeprefix("phrases.yaml: "): fault.expected for fault in refused.value.faults}


# --- patterns ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pattern, sentences",
    [
        ("hello", ["hello"]),
        ("a [b] c", ["a b c", "a c"]),
        ("(a|b c) d", ["a d", "b c d"]),
        ("[a|b] c", ["a c", "b c", "c"]),
        ("a|b", ["a", "b"]),
        ("[[a] b] c", ["a b c", "b c", "c"]),
        ("a [b] [b]", ["a b b", "a b", "a"]),
        ("set <number> [percent]", ["set <number> percent", "set <number>"]),
        ("[把]音量<number>", ["把 音量 <number>", "音量 <number>"]),
    ],
)
def test_a_pattern_stands_for_sentences(pattern: str, sentences: list[str]) -> None:
    assert [" ".join(sentence.words) for sentence in patterns.expand(pattern)] == sentences


@pytest.mark.parametrize(
    "pattern, complaint",
    [
        ("", "empty"),
        ("[a]", "left out"),
        ("[a", "no ']'"),
        ("(a", "no '\\)'"),
        ("a)", "unexpected '\\)'"),
        ("a]", "unexpected ']'"),
        ("(a|) b", "nothing between"),
        ("() b", "nothing between"),
        ("a < b", "a slot is written"),
        ("<two words>", "a slot is written"),
        ("(a|b) " * 10, "more than 1000"),
        ("(" * 3000 + "a", "nested too deeply"),
    ],
)
def test_what_is_no_pattern_is_explained(pattern: str, complaint: str) -> None:
    with pytest.raises(patterns.PatternError, match=complaint):
        patterns.expand(pattern)


@given(st.text(alphabet="ab[]()|<> 一", max_size=30))
def test_any_text_is_a_pattern_or_explained(text: str) -> None:
    try:
        sentences = patterns.expand(text)
    except patterns.PatternError as error:
        assert str(error)
    else:
        assert sentences and all(sentence.words for sentence in sentences)


# --- numbers ----------------------------------------------------------------------------------------------------------


@given(st.integers(0, numerals.MAX_SPOKEN))
def test_english_numbers_are_read_as_they_are_said(value: int) -> None:
    assert patterns.canonical_words(" ".join(numerals.number_words(value)), "en") == [value]


@pytest.mark.parametrize(
    "text, parts",
    [
        ("a hundred", [100]),
        ("hundred percent", [100, "percent"]),
        ("two hundred and five", [205]),
        ("one hundred and me", [100, "and", "me"]),
        ("twenty one two", [21, 2]),
        ("twenty eleven", [20, 11]),
        ("zero hundred", [0, 100]),
        ("7 up", [7, "up"]),
        ("a volume of 1234567", ["a", "volume", "of", "1234567"]),
    ],
)
def test_numbers_among_words(text: str, parts: list[str | int]) -> None:
    assert patterns.canonical_words(text, "en") == parts


@pytest.mark.parametrize(
    "text, value",
    [
        ("零", 0), ("〇", 0), ("十", 10), ("两", 2), ("十五", 15), ("二十", 20), ("四十五", 45), ("九十九", 99),
        ("一百",
        100),
        ("一百零五", 105), ("一百五", 150), ("一百一十五", 115), ("三五", 35), ("80", 80), ("十十", None), ("百", None),
        ("1234567",
        None),
    ],
)  # fmt: skip
def test_chinese_numbers(text: str, value: int | None) -> None:
    assert numerals.han_number(text) == value


@pytest.mark.parametrize("value", [-1, 1000])
def test_other_numbers_cannot_be_said(value: int) -> None:
    with pytest.raises(ValueError, match="not within"):
        numerals.number_words(value)


# --- matching ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, rule, number",
    [
        ("what time is it", "time", None),
        ("What time is it now?", "time", None),
        ("Hey, can you -- what time is it, please!", "time", None),
        ("请问现在几点了？", "time", None),
        ("几点了吗", "time", None),
        ("volume fifty", "volume", 50),
        ("volume 50%", "volume", 50),
        ("Volume one hundred percent", "volume", 100),
        ("音量四十五", "volume", 45),
        ("音量百分之80", "volume", 80),
        ("vol 7", "volume", 7),
        ("please stop", "volume", None),  # not "stop" with padding
        ("goodbye", "bye", None),
    ],
)
def test_what_is_understood(small: phrases.PhraseBook, text: str, rule: str, number: int | None) -> None:
    match = small.match(text)
    assert match is not None
    assert (match.name, match.number, match.mentioned) == (rule, number, False)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "?!",
        "50",
        "what time",
        "volume",
        "volume 101",
        "volume one thousand",
        "time is it what",
        "please",
        "x" * 10_000,
        "再",
    ],
)
def test_what_is_not_understood(small: phrases.PhraseBook, text: str) -> None:
    assert small.match(text) is None


@pytest.mark.parametrize(
    "text", ["The user is silent. Say farewell in a warm voice.", "请你用依依不舍的话和用户道别吧！"]
)
def test_an_instruction_that_mentions_a_rule(small: phrases.PhraseBook, text: str) -> None:
    match = small.match(text)
    assert match is not None
    assert (match.name, match.mentioned) == ("bye", True)


@given(st.text(max_size=300))
def test_any_text_is_understood_or_not(text: str) -> None:
    match = phrases.load(CONFIG / "offline.yaml").match(text)
    assert match is None or match.name


def test_what_is_listened_for_is_english_in_words(small: phrases.PhraseBook) -> None:
    assert small.spoken == [
        "what time is it now", "what time is it", "volume five percent", "volume ten percent", "volume five",
        "volume ten", "please stop",
        "goodbye",
    ]  # fmt: skip


# --- faults -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content, key, expected",
    [
        (changed("version", 2), "version", "1"),
        (changed("rules", {}), "rules", "at least 1"),
        (changed("rules", "time", "awnser", "x"), "rules.time.awnser", "did you mean 'answer'?"),
        (changed("rules", "time", "answer", "en", []), "rules.time.answer.en", "at least 1"),
        (changed("rules", "time", "answer", "en", ["{tme}"]), "rules.time.answer.en.0", "{tme} must be one of"),
        (changed("rules", "time", "answer", "en", ["{time"]), "rules.time.answer.en.0", "braces hold a name"),
        (changed("rules", "time", "say", "en", ["ok", "what ("]), "rules.time.say.en.1", "no ')'"),
        (
            changed("rules", "time", "say", "zh", ["<nix>"]),
            "rules.time.say.zh.0",
            "<nix> is not among the slots: number",
        ),
        (
            changed("rules", "time", "say", "en", ["<number> <number>"]),
            "rules.time.say.en.0",
            "a phrase may have 2 slots, each once",
        ),
        (changed("rules", "time", "typed", {"en": ["Goodbye!"]}), "rules.bye.say.en.0", "rules.time has it too"),
        (
            changed("rules", "volume", "tool", "arguments", {"volume": 1.5}),
            "rules.volume.tool.arguments.volume",
            "a text, a whole number",
        ),
        (changed("rules", "volume", "tool", "name", []), "rules.volume.tool.name", "at least 1"),
        (changed("slots", "number", "spoken", [101]), "slots.number", "must lie between"),
        (changed("slots", "number", "least", 101), "slots.number", "must not be above"),
        (changed("slots", "number", "most", 1000), "slots.number.most", "less than or equal to 999"),
        (changed("pronunciations", "xiaozhi", "SH OU"), "pronunciations.xiaozhi", "phonemes, each one of"),
        (changed("replies", {}), "replies.unknown", "required"),
        ("", "version", "required"),
    ],
)
def test_a_fault_is_named_with_its_place(written: Written, content: Any, key: str, expected: str) -> None:
    found = faults(written(content))
    assert expected in found[key]


def test_all_faults_are_told_at_once(written: Written) -> None:
    content = changed("rules", "time", "answer", "en", ["{tme}", "{"])
    content["rules"]["volume"]["say"]["en"] = ["volume <level>", "volume ["]
    content["rules"]["bye"]["answer"]["zh"] = ["{nix}"]
    assert sorted(faults(written(content))) == [
        "rules.bye.answer.zh.0", "rules.time.answer.en.1", "rules.volume.say.en.0", "rules.volume.say.en.1"
    ]  # fmt: skip


def test_lines_of_what_is_no_yaml(written: Written) -> None:
    path = written("version: 1\nrules:\n  a: [\n")
    (key,) = faults(path)
    assert key.startswith(f"{path} line ")


def test_a_rule_that_stands_twice_is_a_fault(written: Written) -> None:
    path = written(yaml.safe_dump(SMALL, allow_unicode=True) + "rules: {}\n")
    assert any("the first is in line" in expected for expected in faults(path).values())


def test_too_much_to_listen_for(written: Written) -> None:
    everything = "(" + "|".join(f"w{number}" for number in range(100)) + ")"
    content = changed("slots", "number", {"least": 0, "most": 999})
    content["rules"]["time"]["say"]["en"] = [f"{everything} <number>"]
    assert "at most 5000" in faults(written(content))["rules"]


def test_no_file(tmp_path: Path) -> None:
    path = tmp_path / "nowhere.yaml"
    assert faults(path) == {str(path): "a file that exists"}


def test_a_file_is_read_once_until_it_changes(written: Written) -> None:
    path = written(SMALL)
    first = phrases.load(path)
    assert phrases.load(path) is first

    path = written(changed("rules", "bye", "say", "en", ["farewell then"]))
    os.utime(path, ns=(1, 1))
    assert phrases.load(path).match("farewell then") is not None


def test_checking_a_configuration_finds_them(written: Written) -> None:
    """`--check-config` reports the phrase file, once, though two modules read it; and words that nobody can
    pronounce."""

    def keys(path: Path) -> list[str]:
        modules = {
            "selected_module": {"ASR": "PocketSphinx"},
            "ASR": {"PocketSphinx": {"phrases": str(path)}},
            "LLM": {"Offline": {"phrases": str(path)}},
        }
        return [str(fault) for fault in check(load_settings(environ={}, overrides=modules))]

    assert keys(written(SMALL)) == []
    (misspelt,) = keys(written(changed("rules", "time", "answer", "en", ["{tme}"])))
    assert misspelt.startswith("phrases.yaml: rules.time.answer.en.0: ")
    (unspeakable,) = keys(written(changed("rules", "time", "say", "en", ["what tyme is it"])))
    assert "'tyme'" in unspeakable and "what tyme is it" in unspeakable
    (silent,) = keys(written({**SMALL, "rules": {"time": {**SMALL["rules"]["time"], "say": {"zh": ["几点了"]}}}}))
    assert "no English phrases" in silent
    (missing,) = keys(Path("nowhere.yaml"))
    assert "nowhere.yaml" in missing


# --- the shipped file -------------------------------------------------------------------------------------------------


FILLED: dict[str, tuple[str, str]] = {
    "sum": ("three plus five", "三加五"),
    "day": ("the day after tomorrow", "后天"),
    "time": ("half an hour", "半个小时以后"),
    "thing": ("lamp", "台灯"),
    "words": ("buy green apples", "买一斤苹果"),
    "name": ("anna", "小明"),
}


def every_phrase(book: phrases.PhraseBook) -> Iterator[tuple[str, str]]:
    """(rule, a sentence of it) of all its patterns, slots filled with 40, or with the most that they take."""
    number: dict[str, dict[str, str]] = {"en": {}, "zh": {}}
    for name, slot in book.file.slots.items():
        value = min(40, slot.most)
        english, chinese = FILLED.get(slot.kind, (" ".join(numerals.number_words(value)), str(value)))
        number["en"][f"<{name}>"], number["zh"][f"<{name}>"] = english, chinese
    for name, rule in book.file.rules.items():
        for language, glue in (("en", " "), ("zh", "")):
            for pattern in (*getattr(rule.say, language), *getattr(rule.typed, language)):
                for sentence in patterns.expand(pattern):
                    yield name, glue.join(number[language].get(word, word) for word in sentence.words)


def test_every_phrase_that_is_shipped_means_its_rule(shipped: phrases.PhraseBook) -> None:
    said = list(every_phrase(shipped))
    assert len(said) > 500
    first = dict(reversed(said))
    before = {name: first.get(rule.after, "") for name, rule in shipped.file.rules.items()}
    found = [(rule, text, shipped.match(text, before[rule])) for rule, text in said]
    assert [(rule, text) for rule, text, match in found if match is None or match.name != rule] == []


def test_every_phrase_that_is_listened_for_is_understood(shipped: phrases.PhraseBook) -> None:
    assert [text for text in shipped.spoken if shipped.match(text) is None] == []
    assert all(text == text.lower().strip() and not any(char.isdigit() for char in text) for text in shipped.spoken)


def test_the_goodbye_of_the_default_configuration_is_understood(shipped: phrases.PhraseBook) -> None:
    """After a long silence the language model is asked to say goodbye, in the words of `end_prompt`."""
    match = shipped.match(load_settings(environ={}).settings.end_prompt.prompt)
    assert match is not None
    assert (match.name, match.mentioned) == ("goodbye", True)


def test_the_shipped_file_has_no_faults() -> None:
    assert offline.OfflineLlm.faults(offline.OfflineLlmOptions(), CONFIG) == []
    assert pocketsphinx.PocketsphinxAsr.faults(pocketsphinx.PocketsphinxAsrOptions(), CONFIG) == []
