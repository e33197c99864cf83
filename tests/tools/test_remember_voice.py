"""A voice is kept only after the user was asked and has said yes aloud, in a later turn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.tools.fakes import context, recorded
from xiaozhi.chat import ToolCall
from xiaozhi.errors import VendorRejected
from xiaozhi.speech.voice_likeness import VoiceSample, sample_of
from xiaozhi.tools.base import Action, AskedQuestion, ToolContext, ToolOutcome, ToolServices
from xiaozhi.tools.registry import select
from xiaozhi.tools.toolbox import Toolbox
from xiaozhi.tools.voices import VoiceBook

ANNA = sample_of(np.array([1, 0.1], np.float32), "m", 2.0)
ANNA_BEFORE = sample_of(np.array([1, 0.2], np.float32), "m", 2.0)
BEN = sample_of(np.array([0, 1], np.float32), "m", 2.0)


class FakeBook:
    """Keeps voices in memory; refuses while `full`."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], tuple[VoiceSample, ...]] = {}
        self.consents: list[str] = []
        self.full = False

    def remember(self, owner: str, name: str, samples: Sequence[VoiceSample], consent: str) -> None:
        if self.full:
            raise VendorRejected("local", "full")
        self.kept[owner, name] = tuple(samples)
        self.consents.append(consent)

    def forget(self, owner: str, name: str = "") -> list[str]:
        gone = [key for key in self.kept if key[0] == owner and name in ("", key[1])]
        for key in gone:
            del self.kept[key]
        return [key[1] for key in gone]

    def names(self, owner: str) -> list[str]:
        return [name for of, name in self.kept if of == owner]


class Talk:
    """One session: `says` is one turn in which the model calls a tool."""

    def __init__(self, book: VoiceBook | None, language: str = "en", user: str = "") -> None:
        chosen = select(["remember_voice", "forget_voice"], {})
        self.toolbox = Toolbox(chosen.build(ToolServices(voices=book)).source)
        self.context: ToolContext = replace(context(language), user=user)
        self.turn = 0

    def says(
        self,
        text: str,
        tool: str = "remember_voice",
        *,
        voice: VoiceSample | None = ANNA,
        spoken: bool = True,
        same_turn: bool = False,
        speaker: str = "",
        **arguments: Any,
    ) -> ToolOutcome:
        self.turn += not same_turn
        asked = AskedQuestion(self.turn, text, spoken, voice, speaker)
        return self.toolbox.call(ToolCall("call-1", tool, arguments), replace(self.context, question=asked))


@pytest.fixture
def book() -> FakeBook:
    return FakeBook()


def test_asked_answered_kept(book: FakeBook) -> None:
    talk = Talk(book, user="owner")

    question = talk.says("remember my voice, I am Anna", name="Anna")
    assert question.action is Action.SPEAK and "May I?" in question.text and "no recording" in question.text
    assert not book.kept, "nothing is kept before the answer"

    kept = talk.says("yes please", voice=None, name="Anna", confirmed=True)
    assert kept.action is Action.SPEAK and "I know your voice now" in kept.text
    assert book.kept == {("owner", "Anna"): (ANNA,)} and book.consents == ["spoken"]
    assert recorded(talk.context).enrolment.samples == (), "it is not needed any more"


def test_in_chinese(book: FakeBook) -> None:
    talk = Talk(book, "zh-CN")

    assert "可以吗" in talk.says("记住我的声音，我是小明", name="小明").text
    assert "记住你的声音了" in talk.says("可以", name="小明", confirmed=True).text
    assert list(book.kept) == [("11:22:33:44:55:66", "小明")]


def test_other_utterances_of_the_same_voice_are_used(book: FakeBook) -> None:
    talk = Talk(book)
    recorded(talk.context).recent_voices = (BEN, ANNA_BEFORE, ANNA)

    talk.says("remember me", name="Anna")
    talk.says("yes", name="Anna", confirmed=True)

    assert list(book.kept.values()) == [(ANNA, ANNA_BEFORE)]


@pytest.mark.parametrize("answer", ["no", "not now", "what time is it", "可以不要吗"])
def test_what_is_no_yes_keeps_nothing_whatever_the_model_says(book: FakeBook, answer: str) -> None:
    talk = Talk(book)
    talk.says("remember me", name="Anna")

    refused = talk.says(answer, name="Anna", confirmed=True)

    assert "keep nothing" in refused.text and not book.kept
    assert recorded(talk.context).enrolment.samples == ()
    assert "May I?" in talk.says("yes", name="Anna", confirmed=True).text, "it has to be asked again"


def test_a_model_that_confirms_by_itself_is_not_believed(book: FakeBook) -> None:
    talk = Talk(book)

    assert "May I?" in talk.says("yes remember me, yes", name="Anna", confirmed=True).text, "nobody was asked"
    outcome = talk.says("yes remember me, yes", same_turn=True, name="Anna", confirmed=True)

    assert outcome.action is Action.ERROR and not book.kept
    talk.says("yes", name="Anna", confirmed=True)
    assert book.kept


def test_a_typed_yes_is_none_and_the_question_stays(book: FakeBook) -> None:
    talk = Talk(book)
    talk.says("remember me", name="Anna")

    assert talk.says("yes", spoken=False, voice=None, name="Anna", confirmed=True).action is Action.ERROR
    assert not book.kept
    talk.says("yes", name="Anna", confirmed=True)
    assert book.kept


def test_consent_is_for_one_name_and_for_a_while(book: FakeBook) -> None:
    talk = Talk(book)
    talk.says("remember me", name="Anna")
    assert "May I?" in talk.says("yes", name="Ben", confirmed=True).text, "another name is another question"
    assert "May I?" in talk.says("I am Anna", name="Anna").text
    talk.turn += 3

    assert "May I?" in talk.says("yes", name="Anna", confirmed=True).text, "too long ago"
    assert not book.kept


@pytest.mark.parametrize("voice", [None, sample_of(np.ones(2, np.float32), "m", 1.0)])
def test_too_little_voice_is_told(book: FakeBook, voice: VoiceSample | None) -> None:
    talk = Talk(book)

    assert "longer sentence" in talk.says("I am Anna", voice=voice, name="Anna").text
    talk.says("yes", voice=voice, name="Anna", confirmed=True)
    assert not book.kept


def test_a_full_book_is_told(book: FakeBook) -> None:
    talk = Talk(book)
    talk.says("remember me", name="Anna")
    book.full = True

    assert "forget one first" in talk.says("yes", name="Anna", confirmed=True).text


def test_voices_are_forgotten(book: FakeBook) -> None:
    talk = Talk(book)
    for name in ("Anna", "Ben"):
        talk.says("remember me", name=name)
        talk.says("yes", name=name, confirmed=True)
    other = Talk(book, user="somebody else")
    other.says("remember me", name="Zoe")
    other.says("yes", name="Zoe", confirmed=True)

    assert "Anna" in talk.says("forget the voice of Anna", "forget_voice", name="Anna").text
    unknown = talk.says("forget Zoe", "forget_voice", name="Zoe")
    assert unknown.action is Action.ERROR and "Ben" in unknown.text and list(book.kept) != []
    assert "Ben" in talk.says("forget all voices", "forget_voice").text
    assert "nobody" in talk.says("forget all voices", "forget_voice").text
    assert list(book.kept) == [("somebody else", "Zoe")]


def test_names_are_cleaned(book: FakeBook) -> None:
    talk = Talk(book)
    name = ' "Anna {{x}}" \n O\'Neill ' + "y" * 90
    talk.says("remember me", name=name)
    talk.says("yes", name=name, confirmed=True)

    ((_, kept),) = book.kept
    assert kept.startswith("Anna x O'Neill yyy") and len(kept) <= 40
    assert talk.says("remember me", name="{}").action is Action.ERROR


def test_where_voices_are_not_learnt_the_model_is_told() -> None:
    outcome = Talk(None).says("remember me", name="Anna")

    assert outcome.action is Action.ERROR and "voiceprint.type" in outcome.text


@pytest.mark.parametrize("words", ["forget my voice", "please forget me", "忘掉我的声音"])
@pytest.mark.parametrize("guessed", ["Anna", ""])
def test_my_voice_is_that_of_who_was_identified_in_this_turn(book: FakeBook, words: str, guessed: str) -> None:
    """A model remembers who spoke before, and an empty name would erase everybody."""
    talk = Talk(book)
    for name in ("Anna", "Ben"):
        book.remember(talk.context.device_id, name, (ANNA,), "spoken")

    unknown = talk.says(words, "forget_voice", name=guessed)
    assert "do not know whose" in unknown.text and len(book.kept) == 2

    talk.says(words, "forget_voice", name=guessed, speaker="Ben")
    assert [name for _, name in book.kept] == ["Anna"]


@pytest.mark.parametrize("words", ["forget it", "forget all I told you", "forget all about my voice", "忘了吧"])
def test_an_empty_name_erases_nobody_unless_all_voices_are_meant(book: FakeBook, words: str) -> None:
    talk = Talk(book)
    book.remember(talk.context.device_id, "Anna", (ANNA,), "spoken")

    assert "do not know whose" in talk.says(words, "forget_voice").text and len(book.kept) == 1


@pytest.mark.parametrize(
    "words",
    [
        "Forget all the voices",
        "forget everyone",
        "delete everybody's voice",
        "erase everyones voice",
        "忘掉所有人的声音",
        "把声音都忘掉",
    ],
)
def test_all_voices_are_forgotten_when_the_words_say_so(book: FakeBook, words: str) -> None:
    talk = Talk(book)
    book.remember(talk.context.device_id, "Anna", (ANNA,), "spoken")

    assert "Anna" in talk.says(words, "forget_voice").text and not book.kept


def test_a_short_name_inside_a_word_was_not_said(book: FakeBook) -> None:
    talk = Talk(book)
    for name in ("Al", "Ben"):
        book.remember(talk.context.device_id, name, (ANNA,), "spoken")

    talk.says("forget my voice and all that", "forget_voice", name="Al", speaker="Ben")

    assert [name for _, name in book.kept] == ["Al"]


def test_a_yes_of_another_voice_is_no_consent(book: FakeBook) -> None:
    talk = Talk(book)
    talk.says("remember me", name="Anna", voice=ANNA)

    refused = talk.says("yes, you may do that", name="Anna", voice=BEN, confirmed=True)
    assert "another voice" in refused.text and not book.kept

    talk.says("yes, you may do that", name="Anna", voice=ANNA, confirmed=True)
    assert [name for _, name in book.kept] == ["Anna"]


def test_a_yes_too_short_to_judge_the_voice_is_taken(book: FakeBook) -> None:
    talk = Talk(book)
    talk.says("remember me", name="Anna", voice=ANNA)

    talk.says("yes", name="Anna", voice=replace(BEN, seconds=0.5), confirmed=True)

    assert [name for _, name in book.kept] == ["Anna"]
