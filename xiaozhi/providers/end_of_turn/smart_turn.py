"""Smart Turn v3.2 (https://github.com/pipecat-ai/smart-turn, BSD-2): hears in the last eight seconds of sound whether
the speaker has finished; on this machine, in the pool.

Input: the log-mel spectrogram of 8 s (`audio/log_mel.py`) whose sound has been brought to mean 0 and variance 1 and
ends with the pause; what is missing is silence in front. Output: a probability. Devices that pause in the same
milliseconds share one call.

It was trained on pauses of conversations in 23 languages. Measured on people who hesitate (`python -m loadtest.bench
--only endpointing`, docs/performance.md): beside the words it takes away another third of the false cut-offs, in
English and in Chinese, so `languages` is these two unless the configuration says otherwise.

Its file comes with the default set of models (`server.py models fetch default`). A server that runs uses it as soon as
it is there; until then nobody is asked."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
from gevent.lock import BoundedSemaphore
from pydantic import Field, field_validator

from xiaozhi.audio.log_mel import log_mel
from xiaozhi.errors import Fault, Overloaded, SettingsError, VendorUnavailable
from xiaozhi.models.catalogue import FOLDER
from xiaozhi.providers.contracts.end_of_turn import EndOfTurn, EndOfTurnTraits
from xiaozhi.providers.contracts.provider import ProviderOptions, Services
from xiaozhi.providers.families.freed_memory import give_back
from xiaozhi.providers.families.model_files import checked, missing_model
from xiaozhi.providers.families.onnx_sessions import load_library, open_session
from xiaozhi.providers.registry import provider
from xiaozhi.runtime.batching import Batcher, BatcherClosed
from xiaozhi.runtime.logs import get_logger

log = get_logger(__name__)

FILE: Final = "smart-turn-v3.2-cpu.onnx"
MODEL: Final = "smart-turn-v3.2"
SHA256: Final = "2bb026316b14a660486a75b1733cd3fbab8c2fd0314dc9af7be49f8cca967e4f"
SOUND_MS: Final = 8_000
LOOK_EVERY_S: Final = 5.0
"""How often it is looked whether the file has arrived."""
_SAMPLES: Final = SOUND_MS * 16
_FRAMES: Final = 800
_BATCH: Final = 2
"""One judgement is 50 ms of a core and 30 MB while it lasts: more in one call would make the first one late."""
_EPSILON: Final = 1e-7
_WARM_UP_S: Final = 60.0


class SmartTurnOptions(ProviderOptions):
    """`model_dir`: the folder with the model file; the usual one may be filled later. `sha256` of that file; "":
    whatever lies there. `languages`: in which it is asked; empty: in all."""

    model_dir: str = Field(str(FOLDER / MODEL), validate_default=True)
    sha256: str = SHA256
    languages: tuple[str, ...] = ("en", "zh")
    deadline_ms: int = Field(500, ge=20, le=10_000)

    @field_validator("model_dir")
    @classmethod
    def _is_there(cls, model_dir: str) -> str:
        if Path(model_dir) == FOLDER / MODEL or (Path(model_dir) / FILE).is_file():
            return model_dir
        return checked(model_dir, missing_model(model_dir, FILE, MODEL))


@provider("end_of_turn", "smart_turn", SmartTurnOptions)
class SmartTurn(EndOfTurn):
    """See the module. One model for all devices."""

    needs_services: ClassVar[bool] = True

    def __init__(
        self, options: SmartTurnOptions, services: Services, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.traits = EndOfTurnTraits(
            offline=True,
            languages=options.languages,
            sound_ms=SOUND_MS,
        )
        self._options = options
        self._path = Path(options.model_dir) / FILE
        self._inference = services.inference
        self._clock = clock
        self._next_look = 0.0
        self._loading = BoundedSemaphore(1)
        self._session: Any = None
        self._batcher: Batcher[bytes, float] = Batcher(
            self._judge_all,
            services.inference,
            kind="end_of_turn",
            max_batch=_BATCH,
            deadline=options.deadline_ms / 1000,
            max_waiting=64,
            eager=True,  # before the recognition of the same pause, which may take longer than the pause
        )

    @classmethod
    def missing(cls, options: SmartTurnOptions) -> str:
        """The file, which may come later."""
        folder = options.model_dir
        return "" if (Path(folder) / FILE).is_file() else missing_model(folder, FILE, MODEL)

    def warm_up(self) -> None:
        """Load the model where it is: 0.1 s. Raises SettingsError for a file that cannot be used."""
        if self._path.is_file():
            self._load()

    def judge(self, pcm: bytes) -> float | None:
        """As the contract says; None while the file is not there."""
        if self._session is None and not self._arrived():
            return None
        try:
            return self._batcher.run(pcm)
        except Overloaded:
            raise
        except BatcherClosed as closed:
            raise VendorUnavailable(self.name or self.type_name, "closed") from closed
        except Exception as error:
            raise VendorUnavailable(self.name or self.type_name, f"model failed: {error}") from error

    def close(self) -> None:
        """Later judgements fail."""
        self._batcher.close()

    def _arrived(self) -> bool:
        """Whether there is a model now. What cannot be loaded is told once and left alone."""
        now = self._clock()
        if now < self._next_look:
            return False
        self._next_look = now + LOOK_EVERY_S
        if not self._path.is_file():
            return False
        try:
            self._load()
        except (SettingsError, Overloaded, VendorUnavailable) as error:
            log.warning("a model cannot be used", error=str(error)[:500])
            self._next_look = float("inf")
            return False
        return True

    def _load(self) -> None:
        load_library()
        with self._loading:
            if self._session is None:
                self._session = self._inference.run(self._opened, kind="end_of_turn", deadline=_WARM_UP_S)

    def _opened(self) -> Any:
        """The model, which has been run once. In a pool thread."""
        path, wanted = self._path, self._options.sha256
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        where = f"EndOfTurn.{self.name or self.type_name}.model_dir"
        if wanted not in ("", found):
            expected = f"{FILE} with SHA-256 {wanted}, or another one under sha256"
            raise SettingsError([Fault(where, f"{path} with {found}", expected)])
        session = open_session(path, lean=True, arena=False)
        _judged(session, [bytes(2 * _SAMPLES)])
        return session

    def _judge_all(self, sounds: list[bytes]) -> Sequence[float]:
        """In a pool thread."""
        return _judged(self._session, sounds)


def _judged(session: Any, sounds: list[bytes]) -> list[float]:
    features = np.stack([_features(pcm) for pcm in sounds])
    try:
        probabilities = session.run(None, {"input_features": features})[0]
    finally:
        give_back()  # it leaves 30 MB free in the allocator
    judged: list[float] = probabilities[:, 0].tolist()
    return judged


def _features(pcm: bytes) -> Any:
    """s16le mono 16 kHz -> float32 (80, 800)."""
    sound = np.frombuffer(pcm[-2 * _SAMPLES :], dtype="<i2").astype(np.float32)
    sound = np.pad(sound, (_SAMPLES - len(sound), 0)) / np.float32(32_768)
    sound = (sound - sound.mean()) / np.sqrt(sound.var() + np.float32(_EPSILON))
    return log_mel(sound)[:, :_FRAMES]
