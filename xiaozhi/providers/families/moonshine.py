"""Moonshine (English speech to text) on onnxruntime: the sound itself goes in, no spectrogram; pieces of words come out
one by one, each from the cached state of those before it.

Not by sherpa-onnx: at 1.13.8, the release that the published voices need, its decoder fails for sound of ten seconds
(seen: "Attempting to broadcast an axis ... 2 by 413"). Source: https://github.com/moonshine-ai/moonshine (MIT)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from xiaozhi.providers.families.onnx_sessions import open_session

FILES: Final = ("encoder_model.ort", "decoder_model_merged.ort", "tokenizer.bin")
SHORTEST: Final = 1_600
"""Samples: its encoder wants about a tenth of a second."""
_BEGIN, _END = 1, 2
_PIECES_PER_S = 6.5
"""More is a loop: its authors' own bound."""

Samples = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class MoonshineText:
    """`log_prob`: mean of the pieces', natural logarithm."""

    text: str
    log_prob: float


class Moonshine:
    """One model for all threads of the inference pool."""

    def __init__(self, folder: Path) -> None:
        """Raises OSError, and what onnxruntime raises for files it cannot use."""
        self._encoder = open_session(folder / FILES[0], lean=True, arena=False)
        self._decoder = open_session(folder / FILES[1], lean=True, arena=False)
        self._pieces = pieces_of((folder / FILES[2]).read_bytes())
        names = [given.name for given in self._decoder.get_inputs()]
        self._past = [name for name in names if name.startswith("past_key_values.")]
        heads = next(given.shape for given in self._decoder.get_inputs() if given.name == self._past[0])
        self._nothing = np.zeros((1, int(heads[1]), 0, int(heads[3])), np.float32)

    def hear(self, samples: Samples) -> MoonshineText:
        """`samples`: -1..1 at 16 kHz. Runs in a pool thread."""
        if len(samples) < SHORTEST:
            return MoonshineText("", 0.0)
        sound = samples[None]
        mask = np.ones(sound.shape, np.int64)
        (states,) = self._encoder.run(None, {"input_values": sound, "attention_mask": mask})
        given: dict[str, Any] = dict.fromkeys(self._past, self._nothing)
        given["encoder_hidden_states"] = states
        given["encoder_attention_mask"] = mask  # of the sound: the decoder takes each 384th of it for a state
        found: list[int] = []
        log_prob, piece = 0.0, _BEGIN
        for step in range(int(len(samples) / 16_000 * _PIECES_PER_S) + 2):
            given["input_ids"] = np.array([[piece]], np.int64)
            given["use_cache_branch"] = np.array([step > 0])
            logits, *present = self._decoder.run(None, given)
            scores = logits[0, -1]
            piece = int(scores.argmax())
            log_prob -= float(np.log(np.exp(scores - scores[piece]).sum()))
            if piece == _END:
                break
            found.append(piece)
            for name, state in zip(self._past, present, strict=True):
                if step == 0 or ".decoder." in name:  # what belongs to the sound is computed once
                    given[name] = state
        return MoonshineText(self._text(found), log_prob / (len(found) + 1))

    def _text(self, found: list[int]) -> str:
        joined = b"".join(self._pieces[piece] for piece in found if piece < len(self._pieces))
        return joined.decode("utf-8", "replace").replace("▁", " ").strip()


def pieces_of(table: bytes) -> list[bytes]:
    """The pieces of `tokenizer.bin`: each is its length (one byte, or from 128 on two) and its bytes; marks such as
    <s> say nothing."""
    pieces = []
    place = 0
    while place < len(table):
        length = table[place]
        place += 1
        if length >= 128 and place < len(table):
            length = table[place] * 128 + length - 128
            place += 1
        piece = table[place : place + length]
        place += length
        pieces.append(b"" if piece.startswith(b"<") and piece.endswith(b">") and len(piece) > 2 else piece)
    return pieces
