"""How well the offline default hears, refuses and speaks: phrases of `config/offline.yaml` through a voice, Opus and
the recogniser.

Each function returns rows (name, value, unit, aim) for `python -m loadtest.bench`; `python -m loadtest.bench.offline`
prints them, and what was heard wrong. Every phrase is said (of those with a number, every thirteenth), by two voices at
two rates, coded as a device codes it: 16 kHz Opus, 60 ms, speech. Synthetic voices are not people: the figures compare
versions of this tree, no more.

CPU per second of speech is process time, wall time of a busy machine does not enter.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from loadtest import ROOT
from loadtest.simulator.speech import Speech, from_pcm, speak_all
from xiaozhi.audio.opus import Decoder
from xiaozhi.chat import CallContext
from xiaozhi.providers import registry
from xiaozhi.providers.contracts.asr import BatchAsr
from xiaozhi.providers.contracts.provider import Services
from xiaozhi.providers.contracts.tts import Pcm, SentenceTts
from xiaozhi.providers.families.offline_phrases import PhraseBook, load
from xiaozhi.runtime.inference import InferencePool

Row = tuple[str, float, str, str]

CONFIG = ROOT / "config"
CONTEXT = CallContext()
VOICES = ("en-us", "en")
OTHER_VOICE = "en-us+f3"
RATES = (140, 175)
NUMBERS_EVERY = 13
BEFORE, AFTER = bytes(32 * 300), bytes(32 * 700)
"""Silence around the words, as the listener hands them on: 300 ms of pre-roll, 700 ms that end an utterance."""

LONG = (
    "the old man walked slowly across the bridge",
    "could you recommend a good restaurant around here",
    "my computer has stopped working again",
    "they finished building the house in september",
    "what did you have for breakfast",
    "the cat is sleeping on the sofa",
    "i have been learning spanish for two years",
    "book a table for four people at seven",
    "the doctor said i should drink more water",
    "how long does it take to boil an egg",
    "our neighbours have a very noisy dog",
    "send an email to my boss about the report",
    "is there any milk left in the fridge",
    "the museum is closed on mondays",
    "she plays the piano beautifully",
    "how far is the moon from the earth",
    "let us meet in front of the station",
    "he forgot to lock the door last night",
    "what is the meaning of this word",
    "the plane landed two hours late",
    "order me a taxi to the hotel",
    "my favourite colour is dark green",
    "where did you put the scissors",
    "this soup needs a little more salt",
    "who wrote romeo and juliet",
    "the price of petrol has gone up again",
    "start a timer for ten minutes",
    "we watched a film about dolphins",
    "how do you spell necessary",
    "the flowers in the garden are beautiful",
    "i will see the dentist on thursday",
    "which team scored the most goals",
    "there was a big fire in the old factory",
    "can you find my phone please",
    "he is allergic to peanuts and shellfish",
    "what is the square root of eighty one",
    "the teacher gave us a lot of homework",
    "switch off the television in the bedroom",
    "are there any good books about history",
    "nobody knows what happened to the ship",
)
"""Sentences that are no phrase. Thresholds were set on others than these."""

SHORT = (
    "play the radio", "i am tired", "open the fridge", "it is cold", "call the police", "wait for me", "not today",
    "that was fun", "give me the keys", "where are we", "feed the cat", "i do not know", "read a book",
    "what is for lunch", "you are wrong", "turn left here", "stay at home", "one more time", "dance with me",
    "the bus is late",
)  # fmt: skip
"""Remarks about as long as a phrase: the hard case. Thresholds were set on others than these."""

CONFUSABLE = (
    "open the door", "where is my phone", "what is the weather", "turn on the light", "come here", "no",
    "what did you say", "that is great", "what time does the shop open", "how old is he", "tell me a story",
    "set an alarm for seven", "what is for dinner", "see you on monday", "never mind", "thank god", "where are you",
    "the volume of a sphere", "how much is it", "he made me laugh",
)  # fmt: skip
"""Short ones that share words or sounds with phrases."""

SPOKEN = {
    "English": "It is three twenty five in the afternoon, and today is Friday, November 20th.",
    "Mandarin": "现在是下午三点二十五分，今天是十一月二十日，星期五。",
}


@dataclass(slots=True)
class Heard:
    """What became of some sentences."""

    exact: int = 0
    alike: int = 0
    """Taken for another phrase with the same answer, such as "what time is it" for "what time is it now"."""
    refused: int = 0
    wrong: int = 0
    seconds: float = 0.0
    cpu: float = 0.0
    mistakes: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        return self.exact + self.alike + self.refused + self.wrong

    def __add__(self, other: Heard) -> Heard:
        sums = (
            getattr(self, name) + getattr(other, name)
            for name in ("exact", "alike", "refused", "wrong", "seconds", "cpu", "mistakes")
        )
        return Heard(*sums)

    def share(self, count: int) -> float:
        """Percent."""
        return 100 * count / max(1, self.total)


def rows() -> list[Row]:
    """Everything, about a minute and a half."""
    return [*hearing(), *speaking()]


def hearing(mistakes: list[str] | None = None) -> list[Row]:
    """Phrases found and other sentences refused; what was heard wrong is added to `mistakes`."""
    pool = InferencePool(workers=2)
    pool.start()
    services = Services(inference=pool, config_dir=CONFIG)
    asr: BatchAsr = registry.build("asr", "PocketSphinx", {"type": "pocketsphinx"}, services)
    try:
        asr.warm_up()
        return _hearing(asr, load(CONFIG / "offline.yaml"), mistakes if mistakes is not None else [])
    finally:
        asr.close()
        pool.close()


def _hearing(asr: BatchAsr, book: PhraseBook, mistakes: list[str]) -> list[Row]:
    phrases = _phrases(book)
    found: list[Row] = []
    both = Heard()
    for voice in (*VOICES, OTHER_VOICE):
        for rate in RATES:
            heard = _listen(asr, phrases, voice, rate, book=book)
            mistakes += heard.mistakes
            aim = ">= 85" if voice in VOICES else ""
            found.append((f"phrases exact, voice {voice}, {rate} words/min", heard.share(heard.exact), "%", aim))
            if voice in VOICES:
                both += heard
    found.append((f"phrases exact, both voices and rates ({both.total})", both.share(both.exact), "%", ">= 85"))
    found.append(("phrases answered rightly", both.share(both.exact + both.alike), "%", ""))
    found.append(("phrases answered wrongly", both.share(both.wrong), "%", "< 5"))
    unrelated = (
        ("unrelated sentences", LONG, ">= 90"),
        ("unrelated short remarks", SHORT, ">= 75"),
        ("short, and like a phrase", CONFUSABLE, ""),
    )
    for name, sentences, aim in unrelated:
        other = sum((_listen(asr, sentences, voice, 160) for voice in VOICES), Heard())
        mistakes += other.mistakes
        found.append((f"{name} refused ({other.total})", other.share(other.exact), "%", aim))
    found.append(("recogniser, CPU per second of sound", both.cpu / both.seconds, "s", "< 0.1"))
    return found


def _phrases(book: PhraseBook) -> list[str]:
    plain: list[str] = []
    numbered: list[str] = []
    for phrase in book.spoken:
        match = book.match(phrase)
        (numbered if match is not None and match.number is not None else plain).append(phrase)
    return plain + numbered[::NUMBERS_EVERY]


def _listen(asr: BatchAsr, sentences: Sequence[str], voice: str, rate: int, *, book: PhraseBook | None = None) -> Heard:
    """`book`: they are phrases of it; None: to be refused."""
    heard = Heard()
    for sentence, speech in zip(sentences, speak_all(sentences, voice=voice, words_per_minute=rate), strict=True):
        pcm = _through_opus(speech)
        began = time.process_time()
        text = asr.transcribe(pcm, CONTEXT).text
        heard.cpu += time.process_time() - began
        heard.seconds += len(pcm) / 32_000
        wanted = sentence if book is not None else ""
        if text == wanted:
            heard.exact += 1
        elif text and book is not None and book.match(text) == book.match(sentence):
            heard.alike += 1
        elif text:
            heard.wrong += 1
        else:
            heard.refused += 1
        if text != wanted:
            heard.mistakes.append(f"{voice} {rate}: {sentence!r} heard as {text!r}")
    return heard


def _through_opus(speech: Speech) -> bytes:
    decoder = Decoder(16_000)
    return b"".join(map(decoder.decode, from_pcm(BEFORE + speech.pcm + AFTER).packets(60)))


def speaking() -> list[Row]:
    """What a sentence costs."""
    pool = InferencePool(workers=2)
    pool.start()
    tts: SentenceTts = registry.build("tts", "Espeak", {"type": "espeak"}, Services(inference=pool, config_dir=CONFIG))
    try:
        tts.warm_up()
        found: list[Row] = []
        for language, sentence in SPOKEN.items():
            rounds = 20
            began = time.process_time()
            size = sum(
                len(sound.data)
                for _ in range(rounds)
                for sound in tts.synthesize(sentence, CONTEXT)
                if isinstance(sound, Pcm)
            )
            cost = (time.process_time() - began) / rounds * 1000
            seconds = size / rounds / 2 / tts.traits.sample_rate
            found.append((f"espeak, one {language} sentence of {seconds:.1f} s", cost, "ms of CPU", "< 50"))
        return found
    finally:
        tts.close()
        pool.close()


if __name__ == "__main__":
    wrong: list[str] = []
    measured = [*hearing(wrong), *speaking()]
    print("\n".join(wrong), file=sys.stderr)
    for name, value, unit, aim in measured:
        print(f"{name:64} {value:9.3f} {unit:10} {aim}")
