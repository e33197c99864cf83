"""What measured times of vendors mean for whoever waits for an answer: which of several is the fastest, and how long
the silence that ends an utterance may be.

Pure: numbers in, sentences out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

GOOD_MS = 1_500
"""From the last word to the first sound of the answer: longer feels slow."""
SHORTEST_SILENCE_MS = 200
"""Shorter ones cut people off between two words."""
LONGEST_SILENCE_MS = 1_200
_STEP_MS = 50
_KINDS: Mapping[str, tuple[str, str]] = {
    "asr": ("recogniser", "to the text"),
    "llm": ("language model", "to the first words"),
    "tts": ("voice", "to the first sound"),
}


@dataclass(frozen=True, slots=True)
class Timing:
    """The first result of one block, ms. `used`: it is selected, not a fallback or a spare."""

    kind: str
    block: str
    first_ms: float
    used: bool


@dataclass(frozen=True, slots=True)
class EndOfUtterance:
    """How the end of an utterance is found. `silence_ms`: silence that ends one. `prepared`: what is done in it: "off",
    "asr", "llm". `lead_ms`: how long before its end that begins."""

    silence_ms: float
    prepared: str
    lead_ms: float


def advice(timings: Iterable[Timing], turns: EndOfUtterance) -> list[str]:
    """One sentence per line."""
    measured = list(timings)
    found = [*_fastest(measured)]
    used = {timing.kind: timing.first_ms for timing in measured if timing.used}
    if all(kind in used for kind in _KINDS):
        found += _silence(used, turns)
    return found


def answer_ms(used: Mapping[str, float], turns: EndOfUtterance, silence_ms: float) -> float:
    """From the last word to the first sound of the answer, when `silence_ms` of silence end an utterance. `used`: kind
    -> ms. What is prepared in the silence has `lead_ms` of it, and less of a shorter one."""
    hidden = {"asr": used["asr"], "llm": used["asr"] + used["llm"]}.get(turns.prepared, 0.0)
    rest = used["asr"] + used["llm"] + used["tts"] - hidden
    return silence_ms + max(0.0, hidden - min(turns.lead_ms, silence_ms)) + rest


def _fastest(measured: Sequence[Timing]) -> Iterable[str]:
    for kind, (what, until) in _KINDS.items():
        same = sorted((timing for timing in measured if timing.kind == kind), key=lambda timing: timing.first_ms)
        if len(same) < 2:
            continue
        best = same[0]
        chosen = next((timing for timing in same if timing.used), None)
        if chosen is None or chosen is best:
            yield f"{best.block} is the fastest {what}: {best.first_ms:.0f} ms {until}."
        else:
            yield (
                f"{best.block} is the fastest {what}: {best.first_ms:.0f} ms {until}; "
                f"{chosen.block}, which is selected, takes {chosen.first_ms:.0f} ms."
            )


def _silence(used: Mapping[str, float], turns: EndOfUtterance) -> Iterable[str]:
    now = answer_ms(used, turns, turns.silence_ms)
    yield (
        f"From the last word to the first sound: about {now:.0f} ms with {turns.silence_ms:.0f} ms of silence at the "
        f"end (recognition {used['asr']:.0f}, first words {used['llm']:.0f}, first sound {used['tts']:.0f})."
    )
    fitting = [
        silence
        for silence in range(SHORTEST_SILENCE_MS, LONGEST_SILENCE_MS + 1, _STEP_MS)
        if answer_ms(used, turns, silence) <= GOOD_MS
    ]
    if not fitting:
        yield (
            f"Even with {SHORTEST_SILENCE_MS} ms of silence it is more than {GOOD_MS} ms: the vendors decide, not "
            "min_silence_duration_ms."
        )
    elif now > GOOD_MS:
        yield f"min_silence_duration_ms: {fitting[-1]} would keep it within {GOOD_MS} ms."
    elif fitting[-1] > turns.silence_ms:
        yield (
            f"Up to {fitting[-1]} ms of silence stay within {GOOD_MS} ms: a larger min_silence_duration_ms lets people "
            "think."
        )
