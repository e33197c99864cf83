"""Measures every block that answers: one after the other, so that none slows another down, first the voices, whose
sound the recognisers then hear."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from rapidfuzz import fuzz

from xiaozhi.app.vendor_health import FAILED, VendorVerdict, words_of
from xiaozhi.app.wiring import likely_languages
from xiaozhi.errors import XiaozhiError
from xiaozhi.providers.contracts.asr import Asr
from xiaozhi.providers.pool import LeasedProviders
from xiaozhi.providers.trial import Trial, try_model, try_recogniser, try_voice
from xiaozhi.settings import Settings

QUESTIONS: Mapping[str, str] = {"zh": "现在几点了？", "en": "What time is it?"}
"""By language; the English one is a phrase that the recogniser of a new installation knows."""
_ORDER = ("tts", "asr", "llm")


@dataclass(frozen=True, slots=True)
class VendorTrial:
    """`trial` is None where nothing was measured. `connect_ms`: how much longer its first request took than this one.
    `alike`: how much of the sentence was understood, 0..100; None where nothing was spoken to it."""

    verdict: VendorVerdict
    trial: Trial | None = None
    connect_ms: float | None = None
    alike: float | None = None


def measure(
    leased: LeasedProviders,
    settings: Settings,
    verdicts: Iterable[tuple[str, VendorVerdict]],
    progress: Callable[[str], None] = lambda block: None,
) -> Iterator[VendorTrial]:
    """What came of each (name, verdict), in their order. Blocks; `progress` is told each block before it is tried."""
    wanted = list(verdicts)
    language = likely_languages(settings.language, settings.wakeup_words)[0][:2]
    question = QUESTIONS.get(language, QUESTIONS["en"])
    measured: dict[str, VendorTrial] = {}
    speech = b""
    for kind in _ORDER:
        if kind == "asr" and not speech:
            speech = _spoken_here(leased, question, language)
        for name, verdict in wanted:
            if verdict.kind != kind or verdict.failed:
                continue
            progress(verdict.block)
            try:
                result, spoken = _tried(leased, name, verdict, question, language, speech)
            except (XiaozhiError, OSError, ValueError) as error:
                found, shown = words_of(verdict.block, error)
                result = VendorTrial(replace(verdict, state=FAILED, found=found, shown=shown))
                spoken = b""
            measured[verdict.block] = result
            if spoken and (not speech or name == settings.selected("tts")):
                speech = spoken
    for _, verdict in wanted:
        yield measured.get(verdict.block, VendorTrial(verdict))


def _tried(
    leased: LeasedProviders, name: str, verdict: VendorVerdict, question: str, language: str, speech: bytes
) -> tuple[VendorTrial, bytes]:
    provider = leased.get(verdict.kind, name)
    if verdict.kind == "tts":
        trial, spoken = try_voice(provider, question, language)
        return VendorTrial(verdict, trial, _connect_ms(verdict, trial)), spoken
    if verdict.kind == "llm":
        trial = try_model(provider, question, language)
        return VendorTrial(verdict, trial, _connect_ms(verdict, trial)), b""
    if not speech:
        return VendorTrial(verdict), b""
    heard = _recognised(provider, verdict, question, language, speech)
    if heard.alike == 0 and verdict.milliseconds is None:
        # Works on this machine, and perhaps in English only.
        english = _spoken_here(leased, QUESTIONS["en"], "en")
        if english:
            heard = _recognised(provider, verdict, QUESTIONS["en"], "en", english)
    return heard, b""


def _recognised(recogniser: Asr, verdict: VendorVerdict, question: str, language: str, speech: bytes) -> VendorTrial:
    trial = try_recogniser(recogniser, speech, language)
    return VendorTrial(verdict, trial, alike=fuzz.ratio(_bare(question), _bare(trial.text)))


def _spoken_here(leased: LeasedProviders, question: str, language: str) -> bytes:
    """The question spoken on this machine, for recognisers where no voice works; b"" where that is not possible."""
    voice = leased.emergency_voice()
    if voice is None:
        return b""
    try:
        return try_voice(voice, question, language)[1]
    except XiaozhiError:
        return b""


def _connect_ms(verdict: VendorVerdict, trial: Trial) -> float | None:
    if verdict.milliseconds is None:
        return None  # it works on this machine
    return max(0.0, verdict.milliseconds - trial.first_ms)


def _bare(text: str) -> str:
    """Letters and digits only: a vendor's punctuation is its own."""
    return "".join(character for character in text.casefold() if character.isalnum())
