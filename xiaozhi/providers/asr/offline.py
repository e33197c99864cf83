"""Recognition on this machine as it comes out of the box: English by Moonshine, Chinese and all other languages by
Whisper; where their models are not, the English phrases of `config/offline.yaml` by PocketSphinx.

Which language is spoken is heard utterance by utterance: Moonshine comes first, because it is the quickest, and knows
only English; what it finds improbable is heard by Whisper, which finds the language out. What that costs and how often
it is wrong: docs/offline.md. `server.py models fetch default` brings the models; a server that runs uses them as soon
as they are there."""

from __future__ import annotations

import importlib.util
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt
from pydantic import Field, ValidationInfo, field_validator

from xiaozhi.chat import CallContext
from xiaozhi.errors import Fault, SettingsError, VendorTimeout
from xiaozhi.models.catalogue import FOLDER
from xiaozhi.models.speech import MOONSHINE_TINY_EN, WHISPER_BASE
from xiaozhi.providers.contracts.asr import AsrTraits, BatchAsr, Transcript
from xiaozhi.providers.contracts.provider import ProviderOptions, Services
from xiaozhi.providers.families.invented_speech import is_invented
from xiaozhi.providers.families.local_utterance import readable
from xiaozhi.providers.families.model_files import checked, missing_model
from xiaozhi.providers.families.moonshine import FILES as MOONSHINE_FILES
from xiaozhi.providers.families.moonshine import MoonshineText
from xiaozhi.providers.families.moonshine_listener import MoonshineListener, is_moonshine
from xiaozhi.providers.families.offline_phrases import load
from xiaozhi.providers.families.phrase_listener import PhraseListener, faults_of
from xiaozhi.providers.families.sherpa_recognisers import as_floats, checked_language
from xiaozhi.providers.families.whisper import LANGUAGES, WANTED, loops, pieces_of
from xiaozhi.providers.families.whisper_listener import WhisperListener, is_whisper
from xiaozhi.providers.registry import provider
from xiaozhi.runtime.logs import get_logger

log = get_logger(__name__)

LEAST_ENGLISH: Final = -0.25
"""Mean log-probability from which on what Moonshine hears is English (docs/offline.md)."""
LEAST_POSSIBLE: Final = -0.55
"""Below it, it is no English at all; single words are between the two."""
EXPECTED: Final = ("zh", "en")
"""Another language is heard when it is nearly sure."""
PREPARE_S: Final = 30.0
LOOK_EVERY_S: Final = 5.0
"""How often it is looked whether models have arrived."""

Samples = npt.NDArray[np.float32]


class OfflineAsrOptions(ProviderOptions):
    """`language`: "auto", or a code such as zh: then nothing else is heard. `whisper_dir`, `moonshine_dir`: folders of
    the models, where they are not the usual ones. `phrases`, `unheard_reply`: what PocketSphinx hears without models,
    and what is said to the rest. `timeout`: seconds from the end of speech to its text."""

    language: str = "auto"
    whisper_dir: str = str(FOLDER / WHISPER_BASE)
    moonshine_dir: str = str(FOLDER / MOONSHINE_TINY_EN)
    phrases: Path = Path("offline.yaml")
    unheard_reply: str = "Sorry, I did not understand that. Ask me: what can you do?"
    timeout: float = Field(20.0, gt=0, le=120)

    @field_validator("language", "whisper_dir", "moonshine_dir", "timeout", mode="before")
    @classmethod
    def _empty_is_default(cls, value: Any, info: ValidationInfo) -> Any:
        return cls.model_fields[info.field_name or ""].default if value == "" else value

    @field_validator("whisper_dir", "moonshine_dir")
    @classmethod
    def _is_there(cls, folder: str, info: ValidationInfo) -> str:
        whisper = info.field_name == "whisper_dir"
        if folder == cls.model_fields[info.field_name or ""].default:
            return folder  # it may not be there yet
        if (is_whisper if whisper else is_moonshine)(Path(folder)):
            return folder
        wanted, name = (WANTED, WHISPER_BASE) if whisper else (", ".join(MOONSHINE_FILES), MOONSHINE_TINY_EN)
        return checked(folder, missing_model(folder, wanted, name))

    @field_validator("language")
    @classmethod
    def _is_a_code(cls, language: str) -> str:
        code = checked_language("whisper", language)
        if code != "auto" and code not in LANGUAGES:
            raise ValueError("auto, or a code of two letters such as zh or en")
        return code


@provider("asr", "offline", OfflineAsrOptions)
class OfflineAsr(BatchAsr):
    """Hears in the inference pool (kind "asr")."""

    needs_services: ClassVar[bool] = True
    traits = AsrTraits(offline=True, streaming=False)

    def __init__(self, options: OfflineAsrOptions, services: Services) -> None:
        """Raises SettingsError: the phrase file."""
        self._book = load(services.config_dir / options.phrases)
        self._options = options
        self._inference = services.inference
        self._config_dir = services.config_dir
        self._language = "" if options.language == "auto" else options.language
        self._whisper: WhisperListener | None = None
        self._moonshine: MoonshineListener | None = None
        self._phrases: PhraseListener | None = None
        self._next_look = 0.0
        self._closed = False
        if not self._models_here():
            # Those who arrive later change nothing of this: traits do not change, and a reload makes them anew.
            self.traits = replace(self.traits, unheard_reply=options.unheard_reply)
            self._phrases = self._phrase_listener()

    @classmethod
    def faults(cls, options: OfflineAsrOptions, config_dir: Path) -> list[Fault]:
        """Those of the phrase file, and words that nobody can pronounce."""
        return faults_of(options.phrases, config_dir)

    def warm_up(self) -> None:
        """Load what is here. Raises VendorUnavailable, VendorTimeout, Overloaded."""
        self._look()
        if self._phrases is not None:
            self._phrases.warm_up()

    def transcribe(self, pcm: bytes, context: CallContext) -> Transcript:
        """Raises VendorUnavailable, VendorTimeout, Overloaded."""
        ends = time.monotonic() + self._options.timeout
        self._look()
        if self._whisper is None and self._moonshine is None:
            if self._phrases is None:
                self._phrases = self._phrase_listener()
            return self._phrases.hear(pcm, self._options.timeout)
        return joined([self._heard(piece, ends) for piece in pieces_of(as_floats(pcm))])

    def close(self) -> None:
        self._closed = True
        for listener in (self._whisper, self._moonshine):
            if listener is not None:
                listener.release()
        if self._phrases is not None:
            self._phrases.close()

    def _heard(self, piece: Samples, ends: float) -> Transcript:
        heard = self._recognised(piece, ends)
        return Transcript("") if is_invented(heard.text, piece) else heard

    def _recognised(self, piece: Samples, ends: float) -> Transcript:
        english = None
        if self._moonshine is not None and self._language in ("", "en"):
            english = self._moonshine.hear(piece, _left(ends))
        if self._whisper is None or (english is not None and is_english(english)):
            return chosen(english, Transcript(""))
        other = self._whisper.hear(
            piece,
            self._language,
            _left(ends),
            expected=EXPECTED,
            second_look=english is None or english.log_prob < LEAST_POSSIBLE,
            known=self._is_request,
        )
        return chosen(english, other)

    def _is_request(self, text: str) -> bool:
        # In a thread of the pool.
        match = self._book.match(text)
        return match is not None and not match.mentioned

    def _look(self) -> None:
        """Load models that have arrived. What cannot be loaded is told and left alone."""
        now = time.monotonic()
        if self._closed or now < self._next_look or (self._whisper is not None and self._moonshine is not None):
            return
        self._next_look = now + LOOK_EVERY_S
        options = self._options
        if self._whisper is None and _has_library() and is_whisper(Path(options.whisper_dir)):
            whisper = WhisperListener(Path(options.whisper_dir), self._inference, lambda: self._key("whisper_dir"))
            if self._usable(whisper):
                self._whisper = whisper
                # What tells requests apart is made now, and not while the first utterance is being recognised.
                self._inference.run(self._book.prepare, "zh", kind="asr", deadline=PREPARE_S)
        if self._moonshine is None and is_moonshine(Path(options.moonshine_dir)):
            moonshine = MoonshineListener(
                Path(options.moonshine_dir), self._inference, lambda: self._key("moonshine_dir")
            )
            if self._usable(moonshine):
                self._moonshine = moonshine

    def _usable(self, listener: WhisperListener | MoonshineListener) -> bool:
        try:
            listener.get()
        except SettingsError as error:
            log.warning("a model cannot be used", error=str(error)[:500])
            listener.release()
            self._next_look = float("inf")
            return False
        return True

    def _models_here(self) -> bool:
        whisper = _has_library() and is_whisper(Path(self._options.whisper_dir))
        return whisper or is_moonshine(Path(self._options.moonshine_dir))

    def _phrase_listener(self) -> PhraseListener:
        phrases = self._options.phrases
        return PhraseListener(self._config_dir / phrases, self._inference, name=phrases.name)

    def _key(self, option: str) -> str:
        return f"ASR.{self.name or self.type_name}.{option}"


def is_english(heard: MoonshineText) -> bool:
    """Whether Moonshine, which writes everything as English, has heard some."""
    return bool(heard.text) and heard.log_prob >= LEAST_ENGLISH and not loops(heard.text)


def chosen(english: MoonshineText | None, other: Transcript) -> Transcript:
    """What was said, of what Moonshine made of it (None: it was not asked) and Whisper ("": not asked, or noise). A
    single word is improbable to both, so the better of two English texts counts, and Moonshine's where Whisper hears
    nothing."""
    if english is None or not english.text or english.log_prob < LEAST_POSSIBLE:
        return other
    confidence = round(float(np.exp(english.log_prob)), 3)
    if other.text and (other.language != "en" or (other.confidence or 0.0) > confidence):
        return other
    return Transcript(english.text, language="en", confidence=confidence)


def joined(pieces: list[Transcript]) -> Transcript:
    """One utterance of its pieces: the language of the first that says anything, the lowest confidence."""
    spoken = [piece for piece in pieces if piece.text]
    if len(spoken) <= 1:
        return spoken[0] if spoken else Transcript("")
    known = [piece.confidence for piece in spoken if piece.confidence is not None]
    text = readable(" ".join(piece.text for piece in spoken))
    return Transcript(text, language=spoken[0].language, confidence=min(known, default=None))


def _has_library() -> bool:
    return all(importlib.util.find_spec(name) is not None for name in ("ctranslate2", "opencc"))


def _left(ends: float) -> float:
    left = ends - time.monotonic()
    if left <= 0:
        raise VendorTimeout("offline", "no time is left for the rest of a long utterance")
    return left
