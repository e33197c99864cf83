"""How well the offline default does what it is told: 136 English and 208 Chinese commands, typed and spoken, more of
each, typed, and nine hundred sentences that are none.

On the list "known" the tolerances were chosen; "first" and "second" are those of `fresh_commands.py`, each half said by
one of the two Chinese voices; so is "recogniser's" (`recogniser_commands.py`).

`rows()` needs the models of the offline default for what is spoken (`make tools`, or server.py models fetch default)
and leaves it out otherwise; `python -m loadtest.bench.offline_commands` also prints what went wrong. A command is right
when it does exactly what its plain wording does: the same rule, the same tool with the same arguments, the same time.
Said by the voices of the offline default; those are not people, see docs/offline.md."""

from gevent import monkey; monkey.patch_all()  # noqa: I001,E702  # fmt: skip

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from loadtest import ROOT
from loadtest.bench import (
    family_words,
    fresh_commands,
    fresh_sentences,
    independent_words,
    open_speech,
    own_words,
    recogniser_commands,
    spoken_sounds,
    unrelated_sentences,
)
from loadtest.bench.offline import AFTER, BEFORE
from loadtest.bench.spoken_commands import CHINESE, ENGLISH
from loadtest.simulator.speech import speak_all
from xiaozhi.chat import CallContext, Message, ToolCall, ToolSpec
from xiaozhi.errors import VendorTimeout
from xiaozhi.providers import registry
from xiaozhi.providers.contracts.asr import BatchAsr
from xiaozhi.providers.contracts.llm import Llm
from xiaozhi.providers.contracts.provider import Services
from xiaozhi.providers.families.offline_days import day_of
from xiaozhi.providers.families.offline_phrases import PhraseBook, load
from xiaozhi.reminders.understanding import understand
from xiaozhi.runtime.inference import InferencePool

Row = tuple[str, float | None, str, str]

NOW = datetime(2026, 11, 20, 15, 5, tzinfo=UTC)
CONTEXT = CallContext()
ROUNDS = 5
CHINESE_SPEAKERS = ("zf_xiaoxiao", "zm_yunxi")
Commands = Sequence[tuple[str, str]]
"""(what is said, a plain wording of the same)."""


def _one_by_one(lists: Mapping[str, Sequence[str]]) -> Commands:
    return [(text, plain) for plain, texts in lists.items() for text in texts]


COMMANDS: tuple[tuple[str, str, Commands], ...] = (
    ("en", "known", [(text, text) for text, _ in ENGLISH]),
    ("en", "first", fresh_commands.FIRST_ENGLISH),
    ("en", "second", fresh_commands.SECOND_ENGLISH),
    ("en", "third", _one_by_one(own_words.THIRD_ENGLISH)),
    ("en", "fourth", _one_by_one(own_words.FOURTH_ENGLISH)),
    ("en", "fifth", _one_by_one(own_words.FIFTH_ENGLISH)),
    ("en", "sixth", _one_by_one(family_words.SIXTH_ENGLISH)),
    ("en", "seventh", _one_by_one(family_words.SEVENTH_ENGLISH)),
    ("en", "independent", _one_by_one(independent_words.ENGLISH)),
    ("zh", "known", [(text, text) for text, _ in CHINESE]),
    ("zh", "first", fresh_commands.FIRST_CHINESE),
    ("zh", "second", fresh_commands.SECOND_CHINESE),
    ("zh", "recogniser's", recogniser_commands.THIRD_CHINESE),
    ("zh", "third", _one_by_one(own_words.THIRD_CHINESE)),
    ("zh", "fourth", _one_by_one(own_words.FOURTH_CHINESE)),
    ("zh", "fifth", _one_by_one(own_words.FIFTH_CHINESE)),
    ("zh", "sixth", _one_by_one(family_words.SIXTH_CHINESE)),
    ("zh", "seventh", _one_by_one(family_words.SEVENTH_CHINESE)),
    ("zh", "independent", _one_by_one(independent_words.CHINESE)),
)
TYPED_ONLY = ("third", "fourth", "fifth", "sixth", "independent")
"""Not spoken, or the bench takes ten minutes."""
OTHERS: tuple[tuple[str, str, Sequence[str]], ...] = (
    ("en", "known", unrelated_sentences.ENGLISH),
    ("en", "fresh", fresh_sentences.ENGLISH),
    ("en", "about the words", own_words.NO_ORDERS_ENGLISH),
    ("en", "independent", independent_words.NO_ORDERS_ENGLISH),
    ("zh", "known", unrelated_sentences.CHINESE),
    ("zh", "fresh", fresh_sentences.CHINESE),
    ("zh", "about the words", own_words.NO_ORDERS_CHINESE),
    ("zh", "independent", independent_words.NO_ORDERS_CHINESE),
)
HOUSE = "客厅,灯,light.living_room\n卧室,窗帘,cover.bedroom"


def _tool(name: str, description: str = "", **types: str) -> ToolSpec:
    properties = {key: {"type": kind} for key, kind in types.items()}
    return ToolSpec(name, description, {"type": "object", "properties": properties})


TOOLS = (
    _tool("self_get_device_status"),
    _tool("self_audio_speaker_set_volume", volume="integer"),
    _tool("self_screen_set_brightness", brightness="integer"),
    _tool("lamp_turn_on", "desk lamp, 台灯: switch on"),
    _tool("lamp_turn_off", "desk lamp, 台灯: switch off"),
    _tool("self_fan_set_power", "Switches the fan, 风扇开关", on="boolean"),
    _tool("set_reminder", when="string", text="string", kind="string"),
    *map(_tool, ("list_reminders", "snooze_reminder")),
    _tool("cancel_reminder", which="string"),
    _tool("play_music", song_name="string"),
    _tool("control_music", action="string"),
    _tool("hass_set_state", entity_id="string", state="object"),
)


class OfflineAssistant:
    """The offline assistant, on a device that offers TOOLS."""

    def __init__(self, pool: InferencePool) -> None:
        self.book: PhraseBook = load(ROOT / "config/offline.yaml")
        services = Services(inference=pool, config_dir=ROOT / "config", now=lambda: NOW)
        self._llm: Llm = registry.build("llm", "Offline", {"type": "offline"}, services)

    def deed(self, text: str) -> str:
        """What comes of a text: the rule with what stands in its slots, and the first call; "": nothing."""
        match = self.book.match(text)
        if match is None:
            return ""
        answer = list(self._llm.chat([Message("system", HOUSE), Message("user", text)], TOOLS, CONTEXT))
        calls = [item for item in answer if isinstance(item, ToolCall)]
        if not calls:
            deed = match.rule.tool
            is_thing = deed is not None and bool(deed.of)
            return "" if is_thing else " ".join((match.name, *map(_plain, match.values.values())))
        arguments: dict[str, Any] = dict(calls[0].arguments)
        if "when" in arguments:
            arguments["when"] = str(understand(str(arguments["when"]), NOW))
        name = match.name.removesuffix("_when")
        return f"{name} {calls[0].name} {json.dumps(arguments, ensure_ascii=False, sort_keys=True)}"


def _plain(value: str | int) -> str:
    """What stands in a slot; a day as its date, however it is written."""
    return str(day_of(str(value), NOW.date()) or value)


def rows(mistakes: list[str] | None = None) -> list[Row]:
    """Some four minutes with models, one and a half when the sounds are there, a second without models."""
    wrong = mistakes if mistakes is not None else []
    pool = InferencePool(workers=3)
    pool.start()
    try:
        assistant = OfflineAssistant(pool)
        found = typed_rows(assistant, wrong)
        found += cost_rows(assistant.book)
        if open_speech.models() is None:
            return [*found, ("spoken commands need models: make tools", None, "", "")]
        return found + spoken_rows(assistant, pool, wrong)
    finally:
        pool.close()


def typed_rows(assistant: OfflineAssistant, wrong: list[str]) -> list[Row]:
    """Commands as they are written, and sentences that are none."""
    found: list[Row] = []
    for language, age, commands in COMMANDS:
        missed = [text for text, plain in commands if assistant.deed(text) != assistant.deed(plain)]
        wrong += [f"typed, not understood: {text} ({assistant.deed(text)})" for text in missed]
        aim = ">= 100" if age == "known" else ""
        exact = _percent(len(commands) - len(missed), len(commands))
        found.append((f"commands exact, typed, {language}, {age} ({len(commands)})", exact, "%", aim))
    for language, age, others in OTHERS:
        taken = [text for text in others if assistant.deed(text)]
        wrong += [f"taken for a command: {text} ({assistant.deed(text)})" for text in taken]
        name = f"unrelated sentences taken for one, {language}, {age} ({len(others)})"
        found.append((name, _percent(len(taken), len(others)), "%", "<= 0"))
    return found


def cost_rows(book: PhraseBook) -> list[Row]:
    """CPU of a match; of a sentence that is no command it is the most: it is looked up in every way."""
    found: list[Row] = []
    for language, texts in (("en", unrelated_sentences.ENGLISH), ("zh", unrelated_sentences.CHINESE)):
        costs = []
        for text in texts:
            best = min(_cpu(book, text) for _ in range(ROUNDS))
            costs.append(1_000 * best)
        found.append((f"a match, {language}, mean", sum(costs) / len(costs), "ms of CPU", "<= 1"))
        found.append((f"a match, {language}, longest", max(costs), "ms of CPU", "<= 1"))
    return found


def _cpu(book: PhraseBook, text: str) -> float:
    began = time.process_time()
    book.match(text)
    return time.process_time() - began


def spoken_rows(assistant: OfflineAssistant, pool: InferencePool, wrong: list[str]) -> list[Row]:
    """Commands through a voice and the recogniser."""
    found: list[Row] = []
    with open_speech.recogniser() as asr:
        for name, aim, commands, sounds in _spoken(pool):
            right = 0
            for (text, plain), sound in zip(commands, sounds, strict=True):
                heard = _heard(asr, sound)
                good = assistant.deed(heard) == assistant.deed(plain)
                right += good
                if not good:
                    wrong.append(f"{name}: {text!r} heard as {heard!r}, taken for {assistant.deed(heard)!r}")
            found.append(
                (f"commands exact, spoken, {name} ({len(commands)})", _percent(right, len(commands)), "%", aim)
            )
    return found


def _heard(asr: BatchAsr, sound: bytes) -> str:
    try:
        return asr.transcribe(BEFORE + sound + AFTER, CONTEXT).text
    except VendorTimeout:
        return ""  # a busy machine; a device hears an apology


def _spoken(pool: InferencePool) -> Iterator[tuple[str, str, Commands, Sequence[bytes]]]:
    """(name, aim, commands, their sounds) of every list and voice."""
    for language, age, commands in COMMANDS:
        if age in TYPED_ONLY:
            continue
        if language == "en":
            texts = [_sentence(text) for text, _ in commands]
            yield f"en, {age}, hibari", ">= 95", commands, spoken_sounds.said(pool, {}, texts, "en")
            spoken = [one.pcm for one in speak_all([text for text, _ in commands], voice="en-us")]
            yield f"en, {age}, espeak en-us", "", commands, spoken
            continue
        for place, speaker in enumerate(CHINESE_SPEAKERS):
            block = spoken_sounds.mandarin_block(speaker)
            some = commands if age == "known" else commands[place :: len(CHINESE_SPEAKERS)]
            if block is not None:
                sounds = spoken_sounds.said(pool, block, [text for text, _ in some], "zh")
                yield f"zh, {age}, {speaker}", ">= 80", some, sounds


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _percent(part: int, whole: int) -> float:
    return 100 * part / whole


if __name__ == "__main__":
    missed: list[str] = []
    for name, value, unit, aim in rows(missed):
        print(f"{name:60} {'-' if value is None else f'{value:9.3f}'} {unit:10} {aim}")
    print("\n".join(missed), file=sys.stderr)
