"""Small neural voices on this machine, one for each language: Mandarin by Kokoro-82M, English by hibari, every other
language by eSpeak NG; no network, no key.

Each sentence is spoken by the voice of its own language. English words in a Chinese sentence are spoken by the English
voice. A voice whose model or package is not here is replaced by eSpeak, so the same block works on a machine without
models. English takes a hundredth of the time that it sounds; Mandarin nearly half, so a sentence is cut into clauses
of which the first is heard while the others are made, and eSpeak speaks the sentences that would come too late because
others speak (`overflow_s`). Their sound is marked as a substitute's, so that no cache keeps it; so is eSpeak's Mandarin
while the model may still arrive.

Source: https://github.com/hexgrad/kokoro and https://github.com/MMWilliams/hibari. Models: server.py models fetch
kokoro-zh; packages: make setup WITH=speech."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Final, TypeVar

from pydantic import AliasChoices, Field, ValidationInfo, field_validator, model_validator

from xiaozhi.chat import CallContext
from xiaozhi.errors import Fault, SettingsError, VendorTimeout, VendorUnavailable
from xiaozhi.models.catalogue import FOLDER
from xiaozhi.providers.contracts.provider import Services
from xiaozhi.providers.contracts.tts import Pcm, SentenceTts, Sound, TtsTraits
from xiaozhi.providers.families.espeak_ng import checked_voice
from xiaozhi.providers.families.espeak_speech import JOINT_MS, EspeakVoices, espeak_pcm, espeak_sounds, voice_runs
from xiaozhi.providers.families.loaded_models import ModelLease
from xiaozhi.providers.families.mandarin_numbers import spelled_out
from xiaozhi.providers.families.mandarin_pinyin import HAN, PACKAGE, load_readings
from xiaozhi.providers.families.mandarin_speech import mandarin_clauses
from xiaozhi.providers.families.model_files import checked, first_of, missing_model, missing_package, unsound
from xiaozhi.providers.families.neural_voices import (
    ENGLISH_PACKAGE,
    KOKORO_FILE,
    RATE_HZ,
    TAIL_MS,
    ChineseVoice,
    EnglishVoice,
    KokoroSpeaker,
    english_modules,
    is_installed,
    library_errors,
)
from xiaozhi.providers.families.speech_backlog import SpeechBacklog
from xiaozhi.providers.families.voice_scales import RateScale, scaled
from xiaozhi.providers.registry import provider
from xiaozhi.runtime.logs import get_logger
from xiaozhi.speech.language import spoken_language

log = get_logger(__name__)

T = TypeVar("T")

MODEL: Final = "kokoro-zh"
MODEL_FILES: Final = (KOKORO_FILE, "*.onnx")
MODEL_DIR: Final = str(FOLDER / MODEL)
_LOAD_S = 60.0
LOOK_EVERY_S: Final = 5.0
"""How often it is looked whether the model has arrived."""
_ENGLISH_COST_S = 0.1
_PIECE_BYTES = RATE_HZ // 2 * 2
"""Half a second, as eSpeak's."""
_HAS_HAN = re.compile(f"[{HAN}]")
_HAS_LATIN = re.compile(r"[A-Za-zÀ-ɏ]")


class LocalNeuralTtsOptions(RateScale):
    """`model_dir`: Kokoro's folder. `voice`: the Mandarin speaker, a file there without its ".bin"; consoles call it
    private_voice. `speed`: more is faster. `overflow_s`: eSpeak speaks a Mandarin sentence that would be heard later
    than this because others speak, and one of which nothing is heard after twice as long."""

    model_dir: str = MODEL_DIR
    voice: str = Field(
        "zf_xiaoxiao", pattern=r"^[\w-]+$", validation_alias=AliasChoices("private_voice", "voice", "voice_zh")
    )
    speed: float = Field(1.0, ge=0.5, le=2.0)
    overflow_s: float = Field(3.0, ge=0.5, le=30)
    timeout: float = Field(30.0, gt=0, le=120)

    @field_validator("model_dir", "voice", "speed", "overflow_s", "timeout", "rate_percent", mode="before")
    @classmethod
    def _empty_is_default(cls, value: Any, info: ValidationInfo) -> Any:
        return cls.model_fields[info.field_name or ""].default if value == "" else value

    @field_validator("model_dir")
    @classmethod
    def _is_there(cls, model_dir: str) -> str:
        if model_dir == MODEL_DIR:
            return model_dir  # without it eSpeak speaks; a folder that somebody names must be there
        found = first_of(Path(model_dir), *MODEL_FILES)
        model = "" if found else missing_model(model_dir, f"Kokoro's model ({KOKORO_FILE})", MODEL)
        return checked(model_dir, missing_package(PACKAGE, "speech"), model)

    @model_validator(mode="after")
    def _has_the_voice(self) -> LocalNeuralTtsOptions:
        folder = Path(self.model_dir)
        voices = sorted(path.stem for path in folder.glob("*.bin"))
        if first_of(folder, *MODEL_FILES) and self.voice not in voices:
            raise ValueError(f"voice {self.voice!r} is not in {self.model_dir}; there are: {', '.join(voices)}")
        return self


class _Mandarin:
    """Kokoro and the work that waits for it; one for all blocks and devices."""

    def __init__(self, voice: ChineseVoice, workers: int) -> None:
        self.voice = voice
        self.backlog = SpeechBacklog(workers)


@provider("tts", "local_neural", LocalNeuralTtsOptions)
class LocalNeuralTts(SentenceTts):
    """Speaks in the inference pool (kind "tts"). Each sound carries its voice's rate."""

    needs_services: ClassVar[bool] = True
    traits = TtsTraits(offline=True, streaming=False, sample_rate=RATE_HZ)

    def __init__(
        self, options: LocalNeuralTtsOptions, services: Services, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._options = options
        self._inference = services.inference
        self._clock = clock
        self._speed = scaled(options.rate_percent, 0.5, 1.0, 2.0, otherwise=options.speed)
        usual = EspeakVoices()
        self._espeak = replace(usual, rate=round(usual.rate * self._speed), rate_zh=round(usual.rate_zh * self._speed))
        self._closed = False
        self._mandarin: ModelLease[_Mandarin] | None = None
        self._kokoro_speaker: KokoroSpeaker | None = None
        self._english: ModelLease[EnglishVoice] | None = None
        self._next_look = 0.0
        self._mandarin_may_come = is_installed(PACKAGE)
        if is_installed(ENGLISH_PACKAGE):
            self._english = ModelLease((ENGLISH_PACKAGE,), self._load_english)

    def warm_up(self) -> None:
        """Load the models that are here. Raises SettingsError for a file that cannot be used, VendorUnavailable."""
        self._inference.run(espeak_pcm, "hello", self._espeak, kind="tts", deadline=_LOAD_S)
        if self._mandarin_lease() is None:
            log.info("mandarin is spoken by espeak", get="server.py models fetch " + MODEL, needs=PACKAGE)
        if self._english is None:
            log.info("english is spoken by espeak", get="make setup WITH=speech")
        else:
            self._english.get()

    def synthesize(self, sentence: str, context: CallContext) -> Iterator[Sound]:
        """Yield s16le mono PCM. Raises VendorUnavailable, VendorTimeout, Overloaded."""
        self._check_open()
        language = language_of(sentence, otherwise=context.language)
        mandarin = self._mandarin_lease() if language == "zh" else None
        if mandarin is not None:
            yield from self._speak_mandarin(sentence, self._model(mandarin))
        elif language == "en" and self._english is not None:
            yield from self._speak_english(sentence, self._model(self._english))
        elif language == "zh" and self._mandarin_may_come:
            yield from self._instead(sentence)  # not to be cached: the model may arrive
        else:
            yield from self._by_espeak(sentence, language)

    def close(self) -> None:
        """Idempotent. What is being made in the pool keeps its model until it is done."""
        self._closed = True
        for lease in (self._mandarin, self._english):
            if lease is not None:
                lease.release()

    def _speak_mandarin(self, sentence: str, mandarin: _Mandarin) -> Iterator[Sound]:
        clauses = mandarin_clauses(sentence)
        if clauses and mandarin.backlog.is_late(len(clauses[0]), self._clock(), self._options.overflow_s):
            yield from self._instead(sentence)
            return
        heard = False
        for clause in clauses:
            runs = voice_runs(spelled_out(clause))
            for place, run in enumerate(runs):
                tail_ms = TAIL_MS if place == len(runs) - 1 else JOINT_MS
                if _HAS_HAN.search(run) or not _HAS_LATIN.search(run):
                    try:
                        pcm = self._mandarin_pcm(run, mandarin, tail_ms, first=not heard)
                    except VendorTimeout:
                        if heard:
                            raise
                        yield from self._instead(sentence)  # the machine is slower than was to be expected
                        return
                    yield from _pieces(pcm)
                elif self._english is not None:
                    yield from self._speak_english(run, self._model(self._english), tail_ms)
                else:
                    yield from self._by_espeak(run, "en")
                heard = True

    def _instead(self, sentence: str) -> Iterator[Sound]:
        for sound in self._by_espeak(sentence, "zh"):
            yield replace(sound, substitute=True)

    def _speak_english(self, text: str, english: EnglishVoice, tail_ms: int = TAIL_MS) -> Iterator[Sound]:
        yield from _pieces(self._run(partial(english.speak, text, self._speed, tail_ms), cost=_ENGLISH_COST_S))

    def _mandarin_pcm(self, text: str, mandarin: _Mandarin, tail_ms: int, *, first: bool) -> bytes:
        work = partial(mandarin.voice.speak, text, self._speaker(), self._speed, tail_ms)
        piece = mandarin.backlog.begin(len(text), self._clock())
        worked_s = 0.0
        try:
            deadline = 2 * self._options.overflow_s if first else self._options.timeout
            pcm, worked_s = self._run(partial(_timed, work), cost=piece.cost_s, deadline=deadline)
            return pcm
        finally:
            mandarin.backlog.end(piece, self._clock(), worked_s=worked_s)

    def _by_espeak(self, sentence: str, language: str) -> Iterator[Pcm]:
        voices = self._espeak
        if language not in ("zh", "en", ""):
            voice = _espeak_voice(language)
            voices = replace(voices, other=voice, chinese=voice, rate_zh=voices.rate)
        for sound in espeak_sounds(sentence, voices, self._inference, self._options.timeout):
            self._check_open()
            yield sound

    def _run(self, work: Callable[[], T], *, cost: float, deadline: float = 0.0) -> T:
        self._check_open()
        try:
            return self._inference.run(work, kind="tts", deadline=deadline or self._options.timeout, cost=cost)
        except library_errors() as error:
            raise VendorUnavailable(self.name, f"its model failed: {error}"[:300]) from error

    def _mandarin_lease(self) -> ModelLease[_Mandarin] | None:
        """None while the model is not here; one that was fetched meanwhile is used from the next sentence on."""
        now = self._clock()
        if self._mandarin is None and now >= self._next_look and not self._closed:
            self._next_look = now + LOOK_EVERY_S
            folder = Path(self._options.model_dir)
            model = first_of(folder, *MODEL_FILES)
            if model is not None and first_of(folder, f"{self._options.voice}.bin") and is_installed(PACKAGE):
                self._next_look = float("inf")  # one greenlet loads it; until then eSpeak speaks for the others
                key = ("kokoro", str(model.resolve()), model.stat().st_mtime_ns)
                self._mandarin = self._usable(ModelLease(key, partial(self._load_mandarin, model)))
        return self._mandarin

    def _usable(self, lease: ModelLease[_Mandarin]) -> ModelLease[_Mandarin] | None:
        """The lease, loaded; None when its files are no good and nobody named them. Raises SettingsError when the
        configuration does."""
        try:
            self._speaker()
            lease.get()
        except SettingsError as error:
            lease.release()
            if self._options.model_dir != MODEL_DIR:
                raise
            log.warning("mandarin is spoken by espeak", error=str(error)[:500])
            self._mandarin_may_come = False
            return None
        return lease

    def _model(self, lease: ModelLease[T]) -> T:
        if lease.released:
            raise VendorUnavailable(self.name, "closed")
        return lease.get()

    def _check_open(self) -> None:
        if self._closed:
            raise VendorUnavailable(self.name, "closed")

    def _speaker(self) -> KokoroSpeaker:
        if self._kokoro_speaker is None:
            try:
                self._kokoro_speaker = KokoroSpeaker.of(Path(self._options.model_dir) / f"{self._options.voice}.bin")
            except (OSError, ValueError) as error:
                raise self._unusable("voice", self._options.voice, str(error)) from error
        return self._kokoro_speaker

    def _load_mandarin(self, model: Path) -> _Mandarin:
        def load() -> _Mandarin:
            fault = unsound(model.parent)
            if fault:
                raise ValueError(fault)
            return _Mandarin(ChineseVoice(model, load_readings()), self._inference.slow_workers)

        faults: tuple[type[Exception], ...] = (OSError, ValueError, *library_errors())
        try:
            return self._inference.run(load, kind="tts", deadline=_LOAD_S)
        except faults as error:
            raise self._unusable("model_dir", self._options.model_dir, str(error)[:300]) from error

    def _load_english(self) -> EnglishVoice:
        modules = english_modules()
        return self._inference.run(EnglishVoice, modules, kind="tts", deadline=_LOAD_S)

    def _unusable(self, key: str, value: str, fault: str) -> SettingsError:
        return SettingsError([Fault(f"TTS.{self.name or self.type_name}.{key}", value, f"files of Kokoro ({fault})")])


def language_of(sentence: str, *, otherwise: str) -> str:
    """Whose voice speaks a sentence: "zh" for anything with Chinese characters that is not Japanese or Korean, else the
    language of most words; `otherwise` for a sentence that shows none ("25.")."""
    found = spoken_language(sentence, usual=otherwise)
    if _HAS_HAN.search(sentence) and found not in ("ja", "ko"):
        return "zh"
    return found or otherwise or "en"


def _espeak_voice(language: str) -> str:
    try:
        return checked_voice(language)
    except ValueError:
        return EspeakVoices().other


def _timed(work: Callable[[], bytes]) -> tuple[bytes, float]:
    began = time.perf_counter()
    return work(), time.perf_counter() - began


def _pieces(pcm: bytes) -> Iterator[Pcm]:
    for start in range(0, len(pcm), _PIECE_BYTES):
        yield Pcm(pcm[start : start + _PIECE_BYTES], RATE_HZ)
