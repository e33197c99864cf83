"""How often somebody who only pauses is cut off, against how long everybody waits: plain silence, the last words, the
sound, and both together, in English and Chinese.

The material: where people pause in recordings that packages and repositories ship: pauses of their own in mid-sentence,
pauses spliced in between two words (at most three per sentence, chosen by chance), and the ends of their sentences. For
each, what a small recogniser wrote of the sound up to there (Moonshine tiny for English, Whisper base for Chinese), and
what Smart Turn v3.2 said of it. A part of both files is no recording but spoken by neural voices: sentences of this
repository's lists, drawn by chance, every second one with a hesitation in it.

Words, scores and limits were chosen with `endpointing.json`. `endpointing_held_out.json` has other recordings, drawn by
chance, whose texts were not looked at while that was done: its figures are the honest ones.

Texts and judgements are kept in the files, so this bench needs no sound and takes a second; `python -m
loadtest.bench.endpointing --fetch FOLDER` brings the recordings (checked by SHA-256), and `--recordings FOLDER` has the
model judge them anew and writes what it says into the files. `--make FOLDER FILE` makes such a file of any recordings
in FOLDER/en and FOLDER/zh (`_pauses.py`), and `--material FILE` shows its curves.

How it is counted. What silence ends each pause is decided by the product's own code (`speech/last_words.py`,
`speech/end_of_turn.py`). Each pause in mid-sentence stands for twenty lengths: quantiles of a log-normal distribution
with a median of 550 ms (spontaneous speech; a tenth is longer than 1.2 s). A length beyond the silence is a false
cut-off. The delay is the silence at the ends, on average. The plain silence runs from 250 to 1,500 ms, which draws a
curve; rows compare the curves at mean delays of at most so much. A verdict is taken to be there when the shortest
silence is over.

A "–" stands where a curve has no delay so short: the witnesses lengthen some ends by mistake. Rows "as it ships" are
one point: the plain silence of config/default.yaml. The model is quantised: the last bits of arithmetic move what it
says of the same sound by 0.02 on average, and by up to 0.2, so its rows differ by a per cent from run to run."""

from __future__ import annotations

import argparse
import itertools
import json
import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist, fmean
from typing import Any

from loadtest import ROOT
from loadtest.bench._hesitations import cost_rows, fetched, judged_anew
from loadtest.measure.run import REPORTS
from loadtest.report.charts import lines
from xiaozhi.speech.end_of_turn import SilenceBounds, silence_needed
from xiaozhi.speech.language import spoken_language
from xiaozhi.speech.last_words import finished

Row = tuple[str, float | None, str, str]

HELD_OUT = Path(__file__).with_name("endpointing_held_out.json")
MATERIAL = {"tuned on": Path(__file__).with_suffix(".json"), "held out": HELD_OUT}
LANGUAGES = ("en", "zh")
DELAYS_MS = (300, 400, 500, 600, 800, 1_000)
PLAIN_MS = range(250, 1_525, 25)
SHIPPED_MS = 600
MEDIAN_MS, SIGMA, QUANTILES = 550.0, 0.6, 20
PAUSES_MS = [
    MEDIAN_MS * math.exp(SIGMA * NormalDist().inv_cdf((number + 0.5) / QUANTILES)) for number in range(QUANTILES)
]
AIM = {"en": 0.5, "zh": 1.0}
"""False cut-offs to those of plain silence, at most,"""
AIMED_MS = {"en": DELAYS_MS[1:], "zh": DELAYS_MS}
"""at these mean delays."""
_BOUNDS = SilenceBounds()


@dataclass(frozen=True, slots=True)
class Pause:
    """One place. `end`: of a sentence. `sound`: probability that it is one."""

    language: str
    end: bool
    text: str
    sound: float

    @property
    def words(self) -> float:
        """What the last words say, in the language that they show, as `session/listening/end_of_turn.py` has it."""
        return finished(self.text, spoken_language(self.text, usual=self.language) or self.language)


@dataclass(frozen=True, slots=True)
class Point:
    """Mean silence at ends, and share of pauses taken for an end, with one plain silence (all ms)."""

    plain_ms: float
    delay_ms: float
    cut_off: float


Said = tuple[float, float | None]
"""The score of the words, and the probability that a model gives."""
WITNESSES: dict[str, Callable[[Pause], Said]] = {
    "plain silence": lambda pause: (0.0, None),
    "words": lambda pause: (pause.words, None),
    "sound": lambda pause: (0.0, pause.sound),
    "words and sound": lambda pause: (pause.words, pause.sound),
    "sound where words are unsure": lambda pause: (pause.words, None if abs(pause.words) >= 1 else pause.sound),
}
"""The last one is not what ships: it shows what asking the model less often would cost."""


def rows(material_of: Mapping[str, Path] = MATERIAL) -> list[Row]:
    """All of it; the curves go to a file beside the other reports."""
    found: list[Row] = []
    drawn: list[str] = []
    for (part, path), language in itertools.product(material_of.items(), LANGUAGES):
        own = [pause for pause in material(path) if pause.language == language]
        if not {pause.end for pause in own} >= {True, False}:
            continue
        curves = {name: curve(own, score) for name, score in WITNESSES.items()}
        found += _rows_of(f"{language}, {part}", language, own, curves)
        series = {name: [(point.delay_ms, point.cut_off * 100) for point in points] for name, points in curves.items()}
        title = f"False cut-offs against delay ({language}, {part})"
        drawn.append(lines(title, "mean silence at the end of a sentence, ms", "pauses cut off, %", series))
    REPORTS.mkdir(parents=True, exist_ok=True)
    (REPORTS / "endpointing.html").write_text("<!doctype html>" + "".join(drawn), encoding="utf-8")
    return found


def _rows_of(part: str, language: str, pauses: Sequence[Pause], curves: dict[str, list[Point]]) -> list[Row]:
    ends = sum(pause.end for pause in pauses)
    found: list[Row] = [(f"{part}: pauses in mid-sentence", float(len(pauses) - ends), "", "")]
    found.append((f"{part}: ends of sentences", float(ends), "", ""))
    for delay in DELAYS_MS:
        plain = at(curves["plain silence"], delay)
        for name, points in curves.items():
            share = at(points, delay)
            aimed = plain is not None and share is not None and delay in AIMED_MS[language] and name != "plain silence"
            aim = f"<= {plain * AIM[language] * 100:.3g}" if aimed and plain is not None else ""
            shown = None if share is None else share * 100
            found.append((f"{part}: cut off at a mean delay of at most {delay} ms, {name}", shown, "%", aim))
    for name, points in curves.items():
        point = next(point for point in points if point.plain_ms == SHIPPED_MS)
        found.append((f"{part}: as it ships, {name}: mean delay", point.delay_ms, "ms", ""))
        found.append((f"{part}: as it ships, {name}: cut off", point.cut_off * 100, "%", ""))
    return found


def material(path: Path) -> list[Pause]:
    """Every pause of the file."""
    told = json.loads(path.read_text(encoding="utf-8"))
    return [
        Pause(recording["language"], kind == "end", text, sound)
        for recording in told["recordings"]
        for _, _, kind, text, sound in recording["pauses"]
    ]


def curve(pauses: Sequence[Pause], asked: Callable[[Pause], Said]) -> list[Point]:
    """One point for each plain silence."""
    said = [(pause.end, asked(pause)) for pause in pauses]
    points = []
    for plain in PLAIN_MS:
        delays = [silence_needed(plain, _BOUNDS, *witnesses) for end, witnesses in said if end]
        needed = [silence_needed(plain, _BOUNDS, *witnesses) for end, witnesses in said if not end]
        cut_off = fmean(fmean(length > silence for length in PAUSES_MS) for silence in needed)
        points.append(Point(plain, fmean(delays), cut_off))
    return points


def at(points: Sequence[Point], delay_ms: float) -> float | None:
    """The share that is cut off at a mean delay of at most `delay_ms`, between two points in proportion; None where the
    curve has none so short."""
    ordered = sorted(points, key=lambda point: point.delay_ms)
    below = [point for point in ordered if point.delay_ms <= delay_ms]
    above = [point for point in ordered if point.delay_ms >= delay_ms]
    if not below:
        return None
    if not above:
        return min(point.cut_off for point in ordered)
    first, second = below[-1], above[0]
    if first.delay_ms == second.delay_ms:
        return first.cut_off
    part = (delay_ms - first.delay_ms) / (second.delay_ms - first.delay_ms)
    return first.cut_off + part * (second.cut_off - first.cut_off)


def written(told: dict[str, Any]) -> str:
    """The file, a line for each pause."""
    text = json.dumps(told, ensure_ascii=False, indent=1)
    return (
        re.sub(r"\[\s+(\d+),\s+(\d+),\s+(\"\w+\"),\s+(\".*?\"),\s+([\d.]+)\s+\]", r"[\1, \2, \3, \4, \5]", text) + "\n"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """0 unless a recording is missing."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.bench.endpointing", description=__doc__)
    parser.add_argument("--fetch", type=Path, metavar="FOLDER", help="bring the recordings (about 350 MB)")
    parser.add_argument("--recordings", type=Path, metavar="FOLDER", help="judge them with the model in models/")
    parser.add_argument("--make", type=Path, nargs=2, metavar=("FOLDER", "FILE"), help="cut other recordings")
    parser.add_argument("--material", type=Path, metavar="FILE", help="the curves of such a file, nothing else")
    parser.add_argument("--models", type=Path, default=ROOT / "models", help="folder with the default models (--make)")
    parser.add_argument("--seed", type=int, default=1, help="where pauses are spliced in (--make)")
    options = parser.parse_args(arguments)
    if options.make is not None:
        from loadtest.bench._pauses import recordings_in

        folder, made = options.make
        told = recordings_in(folder, options.models, ROOT / "models" / "smart-turn-v3.2", options.seed)
        made.write_text(written(told), encoding="utf-8")
        print(f"{made}: {len(told['recordings'])} recordings")
        return 0
    if options.material is not None:
        _show(rows({options.material.name: options.material}))
        return 0
    missing = 0
    for path in MATERIAL.values():
        told = json.loads(path.read_text(encoding="utf-8"))
        missing += fetched(told["recordings"], options.fetch) if options.fetch is not None else 0
        if options.recordings is not None:
            differs = judged_anew(told["recordings"], options.recordings)
            path.write_text(written(told), encoding="utf-8")
            print(
                f"{path.name}: {len(differs)} judged; largest difference to the file: {max(differs, default=0.0):.3f}"
            )
    _show(rows())
    _show(cost_rows(ROOT / "models" / "smart-turn-v3.2"))
    return 1 if missing else 0


def _show(found: Sequence[Row]) -> None:
    for name, value, unit, aim in found:
        print(f"{name:72} {'–' if value is None else format(value, '.4g'):>8} {unit:3} {aim}")


if __name__ == "__main__":
    sys.exit(main())
