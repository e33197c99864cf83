"""Where somebody pauses in a folder of recordings, what is recognised up to there, and what the model hears: how
`endpointing.json` and its held-out companion were made.

Whisper writes the words of a recording with their times, and Silero finds its silences. A silence of a fifth of a
second within a sentence is a pause; one of a quarter behind a full stop is an end, and so is the end of the recording,
unless it goes on beyond what is looked at. Pauses are spliced in between two words, at the quietest place nearby, at
most three per sentence, chosen by chance. Each is then heard as a server hears it: from the start of the sentence to
the pause, faded out, and the room's own noise for as long as a pause lasts before it is judged.

Recordings are 1 to 24 s long; what is longer is cut off. LibriSpeech and the like cut their recordings at pauses: take
their last end out of the file."""

from __future__ import annotations

import hashlib
import itertools
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from loadtest.bench._hesitations import RATE, heard_by, sound_of, up_to
from xiaozhi.audio.log_mel import log_mel
from xiaozhi.providers import registry
from xiaozhi.providers.contracts.provider import Services
from xiaozhi.providers.families.moonshine import Moonshine
from xiaozhi.providers.families.whisper import Whisper, frames_for
from xiaozhi.providers.families.whisper_listener import simplified
from xiaozhi.providers.families.whisper_pieces import text_of
from xiaozhi.runtime.inference import InferencePool

_WINDOW_S: Final = 0.032
_VOICE: Final = 0.5
_FRAME_S: Final = 0.02
"""Of Whisper's alignment."""
_AFTER_VOICE_S: Final = 0.064
_PAUSE_S, _END_S = 0.19, 0.25
_SHORTEST_S: Final = 0.8
_APART_S: Final = 0.7
_SPLICED: Final = 3
_LONGEST_S: Final = 24
_ENGLISH_S: Final = 9
_KEPT: Final = 120
"""Characters of a text."""
_STOPS = re.compile(r"[.?!。？！]$")

Span = tuple[float, float]
Word = tuple[str, float]


@dataclass(frozen=True, slots=True)
class Cut:
    """A sentence from `start` to a place where its voice stops, seconds."""

    start: float
    at: float
    kind: str
    """"end", "natural" (a pause of the speaker's own) or "spliced"."""


class PauseFinder:
    """The models, loaded. `models`: the folder that has theirs; `turn`: that of Smart Turn."""

    def __init__(self, models: Path, turn: Path, pool: InferencePool) -> None:
        whisper = models / "faster-whisper-base"
        import ctranslate2

        self._library: Any = ctranslate2
        self._aligner = ctranslate2.models.Whisper(str(whisper), device="cpu", compute_type="int8", intra_threads=1)
        self._pieces = whisper.joinpath("vocabulary.txt").read_text(encoding="utf-8").split("\n")
        self._whisper = Whisper(whisper, 1)
        self._moonshine = Moonshine(models / "moonshine-tiny-en")
        services = Services(inference=pool)
        self._vad = registry.build("vad", "SileroVAD", {"type": "silero"}, services)
        block = {"type": "smart_turn", "model_dir": str(turn), "deadline_ms": 10_000}
        self._turn = registry.build("end_of_turn", "SmartTurn", block, services)
        self._vad.warm_up()
        self._turn.warm_up()

    def pauses_of(self, path: Path, language: str, chance: random.Random) -> list[list[Any]]:
        """[start ms, pause ms, kind, text, probability], by time; [] where nobody speaks."""
        sound = sound_of(path)
        if len(sound) < RATE:
            return []
        found = []
        for cut in cuts_of(self._silences(sound), self._words(sound, language), sound, chance):
            start_ms, at_ms = round(cut.start * 1_000), round(cut.at * 1_000)
            pcm = up_to(sound, start_ms, at_ms)
            found.append([start_ms, at_ms, cut.kind, self._text(pcm, language), round(heard_by(self._turn, pcm), 4)])
        return found

    def _text(self, pcm: bytes, language: str) -> str:
        samples = np.frombuffer(pcm, "<i2").astype(np.float32) / np.float32(32_768)
        if language == "en":
            text = self._moonshine.hear(samples[-_ENGLISH_S * RATE :]).text
        else:
            text = simplified(self._whisper.hear(samples, language).text)
        return text.strip()[-_KEPT:].replace('"', "'").replace("\ufffd", "")

    def _silences(self, sound: Any) -> list[Span]:
        """Spans without a voice, s; the first and the last are before and behind it."""
        stream = self._vad.open()
        pcm = (sound * 32_767).astype("<i2").tobytes()
        seconds = (pcm[at : at + 2 * RATE] for at in range(0, len(pcm), 2 * RATE))
        voiced = [probability >= _VOICE for second in seconds for probability in stream.feed(second)]
        return [(at * _WINDOW_S, end * _WINDOW_S) for at, end in _runs(voiced)]

    def _words(self, sound: Any, language: str) -> list[Word]:
        """Words (in Chinese characters) and when they begin, s."""
        mel = log_mel(sound, frames_for(len(sound)))
        features = self._library.StorageView.from_array(np.ascontiguousarray(mel[None]))
        marks = ["<|startoftranscript|>", f"<|{language}|>", "<|transcribe|>", "<|notimestamps|>"]
        prompt = [self._pieces.index(mark) for mark in marks]
        (found,) = self._aligner.generate(features, [prompt], beam_size=1, max_length=200)
        pieces = [piece for piece in found.sequences_ids[0] if piece < prompt[0]]
        (aligned,) = self._aligner.align(features, prompt, [pieces], mel.shape[1])
        begins: dict[int, float] = {}
        for piece, frame in aligned.alignments:
            begins.setdefault(piece, frame * _FRAME_S)
        return list(_joined([self._pieces[piece] for piece in pieces], begins, spaced=language == "en"))


def cuts_of(silences: Sequence[Span], words: Sequence[Word], sound: Any, chance: random.Random) -> list[Cut]:
    """Where the recording is cut, by time. `silences`, `words`: as `PauseFinder` finds them."""
    length = len(sound) / RATE
    voice_from = silences[0][1] if silences and silences[0][0] == 0 else 0.0
    voice_to = silences[-1][0] if silences and silences[-1][1] >= length - _WINDOW_S else length
    if voice_to <= voice_from:
        return []
    start, sentences = max(0.0, voice_from - 0.3), []
    for (word, _), (_, following) in itertools.pairwise(words):
        if not _STOPS.search(word):
            continue
        behind = [(at, end) for at, end in silences if at - 0.25 <= following <= end + 0.35 and end - at >= _END_S]
        if behind and behind[0][0] - start > _APART_S:
            at, end = behind[0]
            sentences.append((start, at + _AFTER_VOICE_S))
            start = max(at, end - 0.3)
    if voice_to < _LONGEST_S - 0.3:
        sentences.append((start, min(length, voice_to + _AFTER_VOICE_S)))
    cuts: list[Cut] = []
    for start, end in sentences:
        if end - start >= _SHORTEST_S:
            cuts += [Cut(start, end, "end"), *_within((start, end), silences, words, sound, chance)]
    return sorted(cuts, key=lambda cut: cut.at)


def _within(
    sentence: Span, silences: Sequence[Span], words: Sequence[Word], sound: Any, chance: random.Random
) -> Iterator[Cut]:
    start, end = sentence
    own = []
    for at, until in silences:
        if at > start + 0.5 and until < end - 0.2 and until - at >= _PAUSE_S:
            before = [word for word, begins in words if begins <= at + 0.15]
            if not before or not _STOPS.search(before[-1]):
                own.append(at)
                yield Cut(start, at + _AFTER_VOICE_S, "natural")
    places = [
        begins
        for _, begins in words[1:]
        if start + 0.6 < begins < end - 0.35 and all(abs(begins - at) > 0.4 for at in own)
    ]
    chance.shuffle(places)
    chosen: list[float] = []
    for place in places:
        if len(chosen) < _SPLICED and all(abs(place - other) > _APART_S for other in chosen):
            chosen.append(place)
            yield Cut(start, _quietest(sound, place), "spliced")


def _quietest(sound: Any, near: float) -> float:
    """The quietest 30 ms within a tenth of a second of a place, s."""
    half = RATE * 15 // 1_000
    centres = range(round((near - 0.1) * RATE), round((near + 0.1) * RATE), RATE // 100)
    inside = [centre for centre in centres if half <= centre <= len(sound) - half]
    if not inside:
        return near
    return min(inside, key=lambda centre: float(np.mean(sound[centre - half : centre + half] ** 2))) / RATE


def _runs(voiced: Sequence[bool]) -> Iterator[tuple[int, int]]:
    """[from, to) of every run of False."""
    begun: int | None = None
    for at, voice in enumerate([*voiced, True]):
        if voice and begun is not None:
            yield begun, at
            begun = None
        elif not voice and begun is None:
            begun = at


def _joined(pieces: Sequence[str], begins: dict[int, float], *, spaced: bool) -> Iterator[Word]:
    """Words of pieces: where languages write no spaces, as soon as the bytes are whole characters."""
    word: list[str] = []
    first = 0
    for at, piece in enumerate(pieces):
        if word and (piece.startswith("Ġ") if spaced else "\ufffd" not in text_of(word)):
            yield text_of(word), begins.get(first, 0.0)
            word, first = [], at
        word.append(piece)
    if word:
        yield text_of(word), begins.get(first, 0.0)


def recordings_in(folder: Path, models: Path, turn: Path, seed: int) -> dict[str, Any]:
    """What `endpointing.json` has, of the recordings in `folder`/en and `folder`/zh."""
    pool = InferencePool(2)
    pool.start()
    chance = random.Random(seed)
    found = []
    try:
        finder = PauseFinder(models, turn, pool)
        for language in ("en", "zh"):
            for path in sorted((folder / language).glob("*.*")):
                pauses = finder.pauses_of(path, language, chance)
                if pauses:
                    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
                    found.append({"file": path.name, "sha256": sha256, "language": language, "pauses": pauses})
    finally:
        pool.close()
    return {"about": f"Pauses in recordings, cut with seed {seed}", "recordings": found}
