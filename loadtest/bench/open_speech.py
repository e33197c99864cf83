"""How the offline default hears open speech with its models: errors, CPU and memory, and what it costs everybody else.

`rows()` speaks with espeak's English voices, which every machine has; `python -m loadtest.bench.open_speech FOLDER`
hears WAV files of a folder instead (16 kHz mono; `meta.json`: file name without .wav -> what is said), recordings or
other voices, in Chinese or English. Models: server.py models fetch default, or make tools."""

from gevent import monkey; monkey.patch_all()  # noqa: I001,E702  # fmt: skip

import json
import sys
import time
import wave
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import gevent
import psutil
from rapidfuzz.distance import Levenshtein

from loadtest import ROOT
from loadtest.bench.offline import AFTER, BEFORE, LONG
from loadtest.simulator.speech import speak_all
from xiaozhi.chat import CallContext
from xiaozhi.models.fetching import is_here
from xiaozhi.models.speech import RECOGNITION
from xiaozhi.providers import registry
from xiaozhi.providers.contracts.asr import BatchAsr
from xiaozhi.providers.contracts.provider import Services
from xiaozhi.runtime.inference import InferencePool

Row = tuple[str, float | None, str, str]
Spoken = tuple[str, bytes]
"""(what is said, s16le mono 16 kHz)."""

CONTEXT = CallContext()
PARENTS = (ROOT / ".tools/models", ROOT / "models")
"""Where models are looked for."""
VOICES = ("en-us", "en")
BEAT_S = 0.001


def rows() -> list[Row]:
    """About half a minute; one row that says nothing where there are no models."""
    if models() is None:
        return [("models of the offline default: make tools", None, "", "")]
    before = psutil.Process().memory_info().rss
    with recogniser() as asr:
        loaded = psutil.Process().memory_info().rss
        found: list[Row] = [("memory of the models, loaded", (loaded - before) / 1e6, "MB", "<= 300")]
        for voice in VOICES:
            spoken = [(one.text, BEFORE + one.pcm + AFTER) for one in speak_all(LONG, voice=voice)]
            found += heard_rows(asr, spoken, f"espeak {voice}")
        found.append(("hub gap, two recognitions running", 1_000 * longest_gap(asr, spoken[:4]), "ms", "<= 15"))
        used = psutil.Process().memory_info().rss
        found.append(("memory of the models, used", (used - before) / 1e6, "MB", ""))
    return found


def models() -> dict[str, str] | None:
    """Options of the recogniser with the folders of its models; None where they are not."""
    for parent in PARENTS:
        if all(is_here(model, parent / model.folder) for model in RECOGNITION):
            whisper, moonshine = (str(parent / model.folder) for model in RECOGNITION)
            return {"whisper_dir": whisper, "moonshine_dir": moonshine}
    return None


@contextmanager
def recogniser() -> Iterator[BatchAsr]:
    """With its models, in a pool that runs two recognitions at once."""
    pool = InferencePool(workers=3)
    pool.start()
    block = {"type": "offline", **(models() or {})}
    asr: BatchAsr = registry.build("asr", "Offline", block, Services(inference=pool, config_dir=ROOT / "config"))
    try:
        asr.warm_up()
        yield asr
    finally:
        asr.close()
        pool.close()


def heard_rows(asr: BatchAsr, spoken: list[Spoken], name: str, mistakes: list[str] | None = None) -> list[Row]:
    """Errors (of characters where the text is Chinese, of words otherwise), wrong languages, CPU of an utterance."""
    wrong = total = exact = strange = 0
    began = time.process_time()
    for said, pcm in spoken:
        found = asr.transcribe(pcm, CONTEXT)
        expected, heard = units(said), units(found.text)
        errors = Levenshtein.distance(expected, heard)
        wrong, total, exact = wrong + errors, total + len(expected), exact + (errors == 0)
        strange += bool(found.text) and (found.language == "zh") != is_chinese(said)
        if errors and mistakes is not None:
            mistakes.append(f"{said} | {found.text} ({found.language}, {found.confidence})")
    cpu = (time.process_time() - began) / len(spoken)
    return [
        (f"{name}: wrong ({len(spoken)} utterances)", 100 * wrong / total, "%", ""),
        (f"{name}: heard word for word", 100 * exact / len(spoken), "%", ""),
        (f"{name}: taken for another language", 100 * strange / len(spoken), "%", "<= 1"),
        (f"{name}: CPU of an utterance", 1_000 * cpu, "ms", "<= 500"),
    ]


def longest_gap(asr: BatchAsr, spoken: list[Spoken]) -> float:
    """Seconds that the hub was away while two utterances were being heard."""
    return longest_gap_of([lambda: _hear_all(asr, spoken)] * 2)


def longest_gap_of(jobs: Sequence[Callable[[], object]]) -> float:
    """Seconds that the hub was away while `jobs` were being done, each in a greenlet."""
    sys.setswitchinterval(0.0005)  # as the server does
    gaps: list[float] = []
    heart = gevent.spawn(_beat, gaps)
    gevent.joinall([gevent.spawn(job) for job in jobs], raise_error=True)
    heart.kill()
    return max(gaps)


def _hear_all(asr: BatchAsr, spoken: list[Spoken]) -> None:
    for _, pcm in spoken:
        asr.transcribe(pcm, CONTEXT)


def _beat(gaps: list[float]) -> None:
    last = time.monotonic()
    while True:
        gevent.sleep(BEAT_S)
        now = time.monotonic()
        gaps.append(now - last - BEAT_S)
        last = now


def is_chinese(text: str) -> bool:
    """Whether there is a Chinese character in it."""
    return any("\u4e00" <= letter <= "\u9fff" for letter in text)


def units(text: str) -> list[str]:
    """What is compared: characters of Chinese, else words, without case and punctuation."""
    plain = "".join(letter for letter in text.lower() if letter.isalnum() or letter in " '")
    return list(plain.replace(" ", "")) if is_chinese(text) else plain.split()


def main(folder: Path) -> None:
    """Print the rows of a folder, and what was heard wrong."""
    texts: dict[str, str] = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    spoken = []
    for name, text in texts.items():
        with wave.open(str(folder / f"{name}.wav")) as file:
            spoken.append((text, file.readframes(file.getnframes())))
    mistakes: list[str] = []
    with recogniser() as asr:
        for language in (True, False):
            some = [(text, pcm) for text, pcm in spoken if is_chinese(text) is language]
            for name, value, unit, _ in heard_rows(asr, some, "zh" if language else "en", mistakes) if some else []:
                print(f"{name:50} {value:8.2f} {unit}")
    print("\n".join(mistakes))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
