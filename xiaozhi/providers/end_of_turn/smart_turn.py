"""Smart Turn v3.2 (https://github.com/pipecat-ai/smart-turn, BSD-2): hears in the last eight seconds of sound whether
the speaker has finished; on this machine, in the pool.

Input: the log-mel spectrogram of 8 s (`audio/log_mel.py`) whose sound has been brought to mean 0 and variance 1 and
ends with the pause; what is missing is silence in front. Output: a probability. Devices that pause in the same
milliseconds share one call.

It was trained on pauses of conversations in 23 languages. Measured on people who hesitate (`python -m loadtest.bench
--only endpointing`, docs/performance.md): beside the words it takes away another third of the false cut-offs, in
English and in Chinese, so `languages` is these two unless the configuration says otherwise."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
from pydantic import Field, field_validator

from xiaozhi.audio.log_mel import log_mel
from xiaozhi.errors import Fault, Overloaded, SettingsError, VendorUnavailable
from xiaozhi.providers.contracts.end_of_turn import EndOfTurn, EndOfTurnTraits
from xiaozhi.providers.contracts.provider import ProviderOptions, Services
from xiaozhi.providers.families.model_files import checked, missing_model
from xiaozhi.providers.families.onnx_sessions import open_session
from xiaozhi.providers.registry import provider
from xiaozhi.runtime.batching import Batcher, BatcherClosed

FILE: Final = "smart-turn-v3.2-cpu.onnx"
MODEL: Final = "smart-turn-v3.2"
SHA256: Final = "2bb026316b14a660486a75b1733cd3fbab8c2fd0314dc9af7be49f8cca967e4f"
SOUND_MS: Final = 8_000
_SAMPLES: Final = SOUND_MS * 16
_FRAMES: Final = 800
_BATCH: Final = 4
"""One judgement is 50 ms of a core: more in one call would make the first one late."""
_EPSILON: Final = 1e-7
_WARM_UP_S: Final = 60.0


class SmartTurnOptions(ProviderOptions):
    """`model_dir`: the folder with the model file. `sha256` of that file; "": whatever lies there. `languages`: in
    which it is asked; empty: in all."""

    model_dir: str = Field(f"models/{MODEL}", validate_default=True)
    sha256: str = SHA256
    languages: tuple[str, ...] = ("en", "zh")
    deadline_ms: int = Field(500, ge=20, le=10_000)

    @field_validator("model_dir")
    @classmethod
    def _is_there(cls, model_dir: str) -> str:
        found = (Path(model_dir) / FILE).is_file()
        model = "" if found else missing_model(model_dir, FILE, MODEL)
        return checked(model_dir, model)


@provider("end_of_turn", "smart_turn", SmartTurnOptions)
class SmartTurn(EndOfTurn):
    """See the module. One model for all devices."""

    needs_services: ClassVar[bool] = True

    def __init__(self, options: SmartTurnOptions, services: Services) -> None:
        self.traits = EndOfTurnTraits(
            offline=True,
            languages=options.languages,
            sound_ms=SOUND_MS,
        )
        self._options = options
        self._inference = services.inference
        self._session: Any = None
        self._batcher: Batcher[bytes, float] = Batcher(
            self._judge_all,
            services.inference,
            kind="end_of_turn",
            max_batch=_BATCH,
            deadline=options.deadline_ms / 1000,
            max_waiting=64,
        )

    def warm_up(self) -> None:
        """Load the model: 0.1 s. Raises SettingsError for a file with other bytes than it should have."""
        if self._session is None:
            path = Path(self._options.model_dir) / FILE
            found = hashlib.sha256(path.read_bytes()).hexdigest()
            if self._options.sha256 not in ("", found):
                where = f"EndOfTurn.{self.name or self.type_name}.model_dir"
                expected = f"{FILE} with SHA-256 {self._options.sha256}, or another one under sha256"
                raise SettingsError([Fault(where, f"{path} with {found}", expected)])
            self._session = open_session(path)
        self._inference.run(self._judge_all, [bytes(2 * _SAMPLES)], kind="end_of_turn", deadline=_WARM_UP_S)

    def judge(self, pcm: bytes) -> float:
        """As the contract says."""
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

    def _judge_all(self, sounds: list[bytes]) -> Sequence[float]:
        """In a pool thread."""
        session = self._session
        if session is None:
            raise RuntimeError("no model loaded")
        features = np.stack([_features(pcm) for pcm in sounds])
        probabilities = session.run(None, {"input_features": features})[0]
        judged: list[float] = probabilities[:, 0].tolist()
        return judged


def _features(pcm: bytes) -> Any:
    """s16le mono 16 kHz -> float32 (80, 800)."""
    sound = np.frombuffer(pcm[-2 * _SAMPLES :], dtype="<i2").astype(np.float32)
    sound = np.pad(sound, (_SAMPLES - len(sound), 0)) / np.float32(32_768)
    sound = (sound - sound.mean()) / np.sqrt(sound.var() + np.float32(_EPSILON))
    return log_mel(sound)[:, :_FRAMES]
