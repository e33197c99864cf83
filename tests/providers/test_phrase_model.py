"""The dictionary, the language model and the way from what was heard to a phrase."""

from __future__ import annotations

import math
from collections import defaultdict
from pathlib import Path

import pytest

from xiaozhi.providers.families.frequent_words import FREQUENT_WORDS
from xiaozhi.providers.families.sphinx_phrases import SoundIndex, dictionary_text, language_model_text, read_dictionary

SOUNDS = {
    "what": ["W AH T", "HH W AH T"],
    "time": ["T AY M"],
    "is": ["IH Z"],
    "it": ["IH T"],
    "day": ["D EY"],
    "volume": ["V AA L Y UW M"],
    "ten": ["T EH N"],
    "tin": ["T IH N"],
    "five": ["F AY V"],
    "dime": ["D AY M"],
    "the": ["DH AH"],
}
PHRASES = ["what time is it", "what day is it", "volume ten", "volume five", "volume"]


# --- dictionary -------------------------------------------------------------------------------------------------------


def test_only_wanted_words_are_read_with_all_their_sounds(tmp_path: Path) -> None:
    path = tmp_path / "words.dict"
    path.write_text("a AH\na(2) EY\nat AE T\nread R EH D\nread(2) R IY D\n'tis T IH Z\n", encoding="utf-8")

    assert read_dictionary(path, ["a", "read", "'tis", "nowhere"]) == {
        "a": ["AH", "EY"],
        "read": ["R EH D", "R IY D"],
        "'tis": ["T IH Z"],
    }


def test_a_dictionary_is_written_as_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "words.dict"
    path.write_text(dictionary_text(SOUNDS), encoding="utf-8")

    assert "what W AH T\nwhat(2) HH W AH T\n" in path.read_text(encoding="utf-8")
    assert read_dictionary(path, SOUNDS) == SOUNDS


def test_the_frequent_words_are_words_once_each() -> None:
    assert len(set(FREQUENT_WORDS)) == len(FREQUENT_WORDS) > 300
    assert all(word == word.lower().strip() and " " not in word for word in FREQUENT_WORDS)


# --- language model ---------------------------------------------------------------------------------------------------


class Arpa:
    """A back-off model read from its text, as ngram-format(5) of SRILM defines it."""

    def __init__(self, text: str) -> None:
        self.probability: dict[tuple[str, ...], float] = {}
        self.back_off: dict[tuple[str, ...], float] = defaultdict(lambda: 1.0)
        self.declared: dict[int, int] = {}
        self.found: dict[int, int] = defaultdict(int)
        order = 0
        for line in text.splitlines():
            if line.startswith("ngram "):
                size, count = line.removeprefix("ngram ").split("=")
                self.declared[int(size)] = int(count)
            elif line.startswith("\\") and line.endswith("-grams:"):
                order = int(line[1])
            elif line and not line.startswith("\\"):
                fields = line.split()
                words = tuple(fields[1 : order + 1])
                self.found[order] += 1
                self.probability[words] = 10 ** float(fields[0])
                if len(fields) > order + 1:
                    self.back_off[words] = 10 ** float(fields[-1])

    def of(self, word: str, history: tuple[str, ...]) -> float:
        """P(word | history)."""
        known = self.probability.get((*history, word))
        if known is not None or not history:
            return known or 0.0
        return self.back_off[history] * self.of(word, history[1:])


@pytest.fixture
def arpa() -> Arpa:
    return Arpa(language_model_text(PHRASES, ["the", "is", "dime"]))


def test_the_counts_are_true(arpa: Arpa) -> None:
    assert arpa.declared == dict(arpa.found)


@pytest.mark.parametrize(
    "history", [(), ("what",), ("<s>",), ("<s>", "what"), ("is", "it"), ("volume",), ("<s>", "volume"), ("dime",)]
)
def test_what_may_follow_adds_up_to_one(arpa: Arpa, history: tuple[str, ...]) -> None:
    words = {words[0] for words in arpa.probability if len(words) == 1} - {"<s>"}
    assert math.fsum(arpa.of(word, history) for word in words) == pytest.approx(1.0, abs=2e-3)


def test_phrases_are_likelier_than_anything_else(arpa: Arpa) -> None:
    def chance(sentence: str) -> float:
        words = ["<s>", *sentence.split(), "</s>"]
        return math.prod(arpa.of(words[at], tuple(words[max(0, at - 2) : at])) for at in range(1, len(words)))

    assert chance("what time is it") > 100 * chance("what is the time") > 0
    assert chance("what time is it") > 5 * chance("volume ten"), "there are many sentences with numbers"


def test_the_begin_is_never_predicted(arpa: Arpa) -> None:
    assert arpa.of("<s>", ()) < 1e-90


# --- from what was heard to a phrase ----------------------------------------------------------------------------------


@pytest.fixture
def index() -> SoundIndex:
    return SoundIndex(PHRASES, SOUNDS)


@pytest.mark.parametrize("phrase", PHRASES)
def test_a_phrase_is_itself(index: SoundIndex, phrase: str) -> None:
    nearest = index.nearest(phrase)
    assert nearest is not None
    assert (nearest.phrase, nearest.distance) == (phrase, 0.0)


def test_what_sounds_nearly_alike_is_near(index: SoundIndex) -> None:
    nearest = index.nearest("what dime is it")  # one phoneme of ten
    assert nearest is not None
    assert nearest.phrase == "what time is it"
    assert nearest.distance == pytest.approx(0.1)


def test_unlike_things_are_far(index: SoundIndex) -> None:
    nearest = index.nearest("the the the")
    assert nearest is None or nearest.distance > 0.6


def test_a_number_is_never_made_up(index: SoundIndex) -> None:
    found = [index.nearest(heard) for heard in ("the volume ten", "five", "volume tin")]
    # "tin" sounds nearly like "ten", and is no number.
    assert [nearest and nearest.phrase for nearest in found] == ["volume ten", "volume five", "volume"]
    assert index.nearest("five five") is None, "no phrase has two"


@pytest.mark.parametrize("heard", ["", "unheardof", " "])
def test_nothing_is_near_nothing(index: SoundIndex, heard: str) -> None:
    assert index.nearest(heard) is None
