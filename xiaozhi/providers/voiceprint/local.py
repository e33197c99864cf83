"""Speakers told apart on this machine, by a voice encoder in numpy: Resemblyzer's, or CAM++ where its model lies in
`model_dir`, which is better for Mandarin and takes three times as long.

Of a voice a vector of some 200 numbers is kept, in the server's database and by user: people of one device are no
business of another. Sound is never kept. It is no proof of identity: a recording, and sometimes a brother, is taken for
the person. Vectors of one model say nothing to the other: after a change people have to say again who they are.

The models come with: server.py models fetch resemblyzer, or campplus."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import Field, field_validator

from xiaozhi.errors import Fault, Overloaded, SettingsError, StorageError, VendorRejected, VendorUnavailable
from xiaozhi.providers.contracts.provider import ProviderOptions, Services
from xiaozhi.providers.contracts.voiceprint import HeardVoice, LearningVoiceprint, Speaker, VoiceprintTraits
from xiaozhi.providers.families import campplus, resemblyzer
from xiaozhi.providers.families.loaded_models import ModelLease
from xiaozhi.providers.families.model_files import checked, missing_model, unsound
from xiaozhi.providers.families.torch_tensors import BadTensorFile
from xiaozhi.providers.registry import provider
from xiaozhi.speech.voice_likeness import KnownVoice, closest, sample_of, together
from xiaozhi.speech.voice_likeness import VoiceSample as Sample
from xiaozhi.storage import voices
from xiaozhi.storage.database import Database
from xiaozhi.storage.voices import KeptVoice

T = TypeVar("T")

MOST_PEOPLE: Final = 20
"""By user."""
LOAD_S: Final = 60.0
STORE_S: Final = 5.0


class VoiceEmbedder(Protocol):
    """What makes a vector of a voice."""

    def embed(self, pcm: bytes) -> tuple[npt.NDArray[np.float32], float] | None:
        """(a vector, seconds of voice that it was made of) of s16le mono 16 kHz; None when there is too little."""


@dataclass(frozen=True, slots=True)
class EncoderModel:
    """`file` tells which model lies in a folder. `threshold`: cosine from which on a voice is the known one. `cost`:
    seconds of one core, for 3 s of voice."""

    name: str
    file: str
    load: Callable[[Path], VoiceEmbedder]
    threshold: float
    cost: float


MODELS: Final = (
    EncoderModel(resemblyzer.MODEL, resemblyzer.FILE, resemblyzer.load, 0.74, 0.04),
    EncoderModel(campplus.MODEL, campplus.FILE, campplus.load, 0.5, 0.1),
)


def model_in(folder: str) -> EncoderModel | None:
    """The model that lies there."""
    return next((model for model in MODELS if folder and (Path(folder) / model.file).is_file()), None)


class LocalVoiceprintOptions(ProviderOptions):
    """The section `voiceprint` of the configuration."""

    model_dir: str = Field(f"models/{resemblyzer.MODEL}", validate_default=True)
    similarity_threshold: float | None = Field(None, ge=0, le=1)
    """Cosine from which on a voice is the known one; None: the model's own."""
    timeout: float = Field(5.0, gt=0)

    @field_validator("model_dir")
    @classmethod
    def _is_there(cls, model_dir: str) -> str:
        if model_in(model_dir) is not None:
            return checked(model_dir, "")
        wanted = MODELS[1] if Path(model_dir).name == campplus.MODEL else MODELS[0]
        return checked(model_dir, missing_model(model_dir, wanted.file, wanted.name))


@provider("voiceprint", "local", LocalVoiceprintOptions)
class LocalVoiceprint(LearningVoiceprint):
    """Computes in the inference pool (kind "other")."""

    needs_services: ClassVar[bool] = True
    traits = VoiceprintTraits(offline=True)

    def __init__(self, options: LocalVoiceprintOptions, services: Services) -> None:
        self._options = options
        self._which = model_in(options.model_dir) or MODELS[0]
        threshold = options.similarity_threshold
        self._threshold = self._which.threshold if threshold is None else threshold
        self._inference = services.inference
        self._kept_in = services.database
        key = (self._which.name, str(Path(options.model_dir).resolve()))
        self._model: ModelLease[VoiceEmbedder] = ModelLease(key, self._load)

    def warm_up(self) -> None:
        """Load the model. Raises SettingsError when its file cannot be used."""
        self._model.get()

    def close(self) -> None:
        self._model.release()

    def identify(self, pcm: bytes, owner: str) -> HeardVoice:
        """See Voiceprint. Raises VendorUnavailable, VendorTimeout, Overloaded."""
        model, deadline = self._model.get(), self._options.timeout
        found = self._inference.run(model.embed, pcm, kind="other", deadline=deadline, cost=self._which.cost)
        if found is None:
            return HeardVoice(None, comparable=False)
        sample = sample_of(found[0], self._which.name, found[1])
        known = self._ask(lambda database: database.read(lambda c: voices.of(c, owner), deadline=deadline))
        nearest = closest(sample, known)
        if nearest is None:
            return HeardVoice(None, sample, comparable=False)
        if nearest[1] < self._threshold:
            return HeardVoice(None, sample)
        voice, similarity = nearest
        return HeardVoice(Speaker(voice.name, voice.name, "", similarity), sample)

    def remember(self, owner: str, name: str, samples: Sequence[Sample], consent: str) -> None:
        """See LearningVoiceprint. Raises VendorRejected when there are too many people already."""
        kept = KeptVoice(owner, KnownVoice(name, together(samples)), time.time(), consent)
        stored = self._ask(lambda database: database.run(lambda c: voices.keep(c, kept, MOST_PEOPLE), deadline=STORE_S))
        if not stored:
            raise VendorRejected(self.name, f"{MOST_PEOPLE} voices are kept already; forget one first")

    def forget(self, owner: str, name: str = "") -> list[str]:
        """See LearningVoiceprint."""
        return self._ask(lambda database: database.run(lambda c: voices.erase(c, owner, name), deadline=STORE_S))

    def names(self, owner: str) -> list[str]:
        """See LearningVoiceprint."""
        known = self._ask(lambda database: database.read(lambda c: voices.of(c, owner), deadline=STORE_S))
        return [voice.name for voice in known]

    def _load(self) -> VoiceEmbedder:
        folder = Path(self._options.model_dir)

        def checked_and_loaded() -> VoiceEmbedder:
            if wrong := unsound(folder):
                raise BadTensorFile(wrong)
            return self._which.load(folder)

        try:
            return self._inference.run(checked_and_loaded, kind="load", deadline=LOAD_S)
        except (BadTensorFile, OSError) as error:
            fault = Fault("voiceprint.model_dir", self._options.model_dir, f"a model that can be used ({error})")
            raise SettingsError([fault]) from error

    def _ask(self, query: Callable[[Database], T]) -> T:
        if self._kept_in is None:
            raise VendorUnavailable(self.name, "no database to keep voices in")
        try:
            return query(self._kept_in)
        except (StorageError, Overloaded) as error:
            raise VendorUnavailable(self.name, str(error)) from error
