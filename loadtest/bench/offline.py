"""What the offline default understands, refuses and costs: real synthesised speech, through Opus as devices send it.

`rows` for `python -m loadtest.bench`; `python -m loadtest.bench.offline` prints them alone, and then every sentence that was not heard as it
was said. Every English phrase of config/offline.yaml counts once per voice and rate; of those that differ in a number only, one in thirteen.
"""

from __future__ import annotations

import sys

if __name__ == "__main__":
    from gevent import monkey

    monkey.patch_all()

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gevent.pool import Pool

from loadtest.speech import Speech, from_pcm, speak_all
from xiaozhi.audio.opus import Decoder
from xiaozhi.chat import CallContext
from xiaozhi.providers import registry
from xiaozhi.providers._offline_patterns import number_words
from xiaozhi.providers._offline_phrases import PhraseBook, load
from xiaozhi.providers.base import Services
from xiaozhi.runtime.inference import InferencePool

Row = tuple[str, float, str, str]

CONFIG = Path(__file__).resolve().parents[2] / "config"
PHRASES = CONFIG / "offline.yaml"
VOICES = ("en-us", "en-gb")
RATES = (140, 175)
"""Words per minute."""
NUMBERED_STEP = 13
BEFORE_MS, AFTER_MS = 300, 700
"""Silence around the words, as the listener hands them on: pre-roll, and what ends an utterance."""
CONTEXT = CallContext()

UNRELATED = (
    "the quick brown fox jumps over the lazy dog",
    "i would like to order a large pizza with mushrooms",
    "my sister lives in a small town near the river",
    "can you play some jazz music for me",
    "the train leaves from platform nine tomorrow morning",
    "please remind me to water the plants on friday",
    "how do i get to the airport from here",
    "she bought three apples and a bottle of milk",
    "what is the capital of australia",
    "it was raining so we stayed at home all day",
    "call my mother and tell her i am late",
    "the meeting has been moved to next week",
    "there is a spider under the kitchen table",
    "i lost my keys somewhere in the garden",
    "turn on the lights in the living room",
    "what is the weather like in london",
    "open the window because it is hot in here",
    "read me the news headlines",
    "why is the sky blue",
    "add eggs and butter to my shopping list",
    "the old man walked slowly across the bridge",
    "my computer has stopped working again",
    "what did you have for breakfast",
    "how long does it take to boil an egg",
    "is there any milk left in the fridge",
    "what is the meaning of this word",
    "the plane landed two hours late",
    "who wrote romeo and juliet",
    "start a timer for ten minutes",
    "how do you spell necessary",
    "which team scored the most goals",
    "what is the square root of eighty one",
)
"""Sentences of some length that no phrase resembles."""

CONFUSABLE = (
    "open the door",
    "where is my phone",
    "what is the weather",
    "turn on the light",
    "come here",
    "no",
    "what did you say",
    "that is great",
    "what time does the shop open",
    "how old is he",
    "tell me a story",
    "set an alarm for seven",
    "what is for dinner",
    "see you on monday",
    "never mind",
    "thank god",
    "where are you",
    "the volume of a sphere",
    "how much is it",
    "he made me laugh",
)
"""Short ones that share words or sounds with phrases."""


@dataclass(frozen=True, slots=True)
class Heard:
    """One sentence and what was made of it ("": refused)."""

    said: str
    voice: str
    rate: int
    text: str


def rows() -> list[Row]:
    """Everything, about a minute on one free core."""
    found, _ = measure()
    return found


def measure(voices: Sequence[str] = VOICES, rates: Sequence[int] = RATES) -> tuple[list[Row], list[Heard]]:
    """The rows, and every sentence that was not heard as it was said or not refused as it should be."""
    book = load(PHRASES)
    pool = InferencePool(workers=1 + (os.cpu_count() or 1))  # one is kept free of recognition
    asr = registry.build("asr", "bench", {"type": "pocketsphinx"}, Services(inference=pool, config_dir=CONFIG))
    began = time.process_time()
    asr.warm_up()
    found: list[Row] = [("pocketsphinx: make and warm up", round(time.process_time() - began, 2), "s CPU", "")]
    phrases = sentences(book)
    right: list[Heard] = []
    wrong: list[Heard] = []
    cpu = seconds = 0.0
    for voice in voices:
        for rate in rates:
            sounds = [as_heard(said) for said in speak_all(phrases, voice=_voice(voice), words_per_minute=rate)]
            began = time.process_time()
            heard = _hear(asr, phrases, sounds, voice, rate)
            cpu += time.process_time() - began
            seconds += sum(map(len, sounds)) / 32_000
            exact = [one for one in heard if one.text == one.said]
            right += exact
            wrong += [one for one in heard if one.text != one.said]
            found.append((f"phrases heard exactly, {voice}, {rate} words/min", _share(len(exact), len(heard)), "%", ""))
    total = len(right) + len(wrong)
    acted = [one for one in wrong if one.text and not _same_rule(book, one)]
    found += [
        (f"phrases heard exactly, all ({total} utterances)", _share(len(right), total), "%", ">= 85"),
        ("phrases answered rightly", _share(len(right) + sum(_same_rule(book, one) for one in wrong), total), "%", ""),
        ("phrases taken for another", _share(len(acted), total), "%", ""),
        ("CPU per second of sound (real-time factor)", round(cpu / seconds, 4), "s", ""),
    ]
    for label, texts, aim in (("unrelated sentences", UNRELATED, ">= 90"), ("short sentences like a phrase", CONFUSABLE, "")):
        answers = [one for voice in voices for one in _hear(asr, texts, _sounds(texts, voice), voice, rates[-1])]
        refused = [one for one in answers if not one.text]
        wrong += [one for one in answers if one.text]
        found.append((f"{label} refused ({len(answers)} utterances)", _share(len(refused), len(answers)), "%", aim))
    asr.close()
    pool.close()
    return found, wrong


def sentences(book: PhraseBook) -> list[str]:
    """What is listened for; of sentences with a number, one in NUMBERED_STEP."""
    numbers = {word for value in range(101) for word in number_words(value)}
    plain = [said for said in book.spoken if not numbers & set(said.split())]
    numbered = [said for said in book.spoken if numbers & set(said.split())]
    return plain + numbered[::NUMBERED_STEP]


def as_heard(said: Speech) -> bytes:
    """`said` with silence around it, encoded and decoded: s16le mono 16 kHz, as a recogniser gets it."""
    whole = from_pcm(bytes(32 * BEFORE_MS) + said.pcm + bytes(32 * AFTER_MS))
    decoder = Decoder(16_000)
    return b"".join(map(decoder.decode, whole.packets()))


def _sounds(texts: Sequence[str], voice: str) -> list[bytes]:
    return [as_heard(said) for said in speak_all(texts, voice=_voice(voice), words_per_minute=RATES[-1])]


def _voice(name: str) -> str:
    return {"en-gb": "en"}.get(name, name)  # espeak's file for it


def _hear(asr: Any, texts: Sequence[str], sounds: Sequence[bytes], voice: str, rate: int) -> list[Heard]:
    crowd = Pool(2 * (os.cpu_count() or 1))
    heard = crowd.map(lambda pcm: asr.transcribe(pcm, CONTEXT).text, sounds)
    return [Heard(said, voice, rate, text) for said, text in zip(texts, heard, strict=True)]


def _same_rule(book: PhraseBook, heard: Heard) -> bool:
    meant, got = book.match(heard.said), book.match(heard.text) if heard.text else None
    return meant is not None and got is not None and (meant.rule, meant.number) == (got.rule, got.number)


def _share(part: int, whole: int) -> float:
    return round(100 * part / whole, 1)


def main() -> None:
    """Print all rows, then what went wrong."""
    found, wrong = measure()
    for name, value, unit, aim in found:
        print(f"{name:60} {value:8.3f} {unit:6} {aim}")
    for one in wrong:
        print(f"  {one.voice} {one.rate}: {one.said!r} -> {one.text!r}")


if __name__ == "__main__":
    main()
