"""The smallest pipeline: what was heard is played back. It proves that a turn needs no recogniser, no language model
and no synthesiser, as a model that listens and speaks by itself will not."""

from __future__ import annotations

from collections.abc import Iterator

from tests.fakes.voice import FakeTts
from xiaozhi.errors import VendorUnavailable
from xiaozhi.providers.contracts.asr import ASR_SAMPLE_RATE
from xiaozhi.providers.contracts.tts import Pcm
from xiaozhi.session.turn_record import Outcome
from xiaozhi.session.turns.pipeline import PipelineParts, TurnControl
from xiaozhi.speech.sentences import Sentence

CHUNK_BYTES = 3_200
"""A tenth of a second."""
SUBTITLE = "(what you said)"


class EchoVoice(FakeTts):
    """Says `pcm` (s16le mono 16 kHz), whatever it is asked to say."""

    def __init__(self, pcm: bytes) -> None:
        super().__init__(sample_rate=ASR_SAMPLE_RATE)
        self._pcm = pcm

    def sound_of(self, sentence: str) -> Iterator[Pcm]:
        for at in range(0, len(self._pcm), CHUNK_BYTES):
            yield Pcm(self._pcm[at : at + CHUNK_BYTES])


class Echo:
    """A `Pipeline`. What is typed has no sound, and fails. `voice`: what it speaks with, once it does."""

    def __init__(self, parts: PipelineParts) -> None:
        self._name = parts.providers.names.get("llm", "echo")
        self.voice: EchoVoice | None = None

    def run(self, turn: TurnControl) -> Outcome:
        """Play the utterance back."""
        utterance = turn.opening.utterance
        if utterance is None:
            raise VendorUnavailable(self._name, "nothing to play back")
        limit = turn.output_limit()
        if limit is not None and limit.characters <= 0:
            turn.speak_fixed(limit.words)
        else:
            self.voice = EchoVoice(utterance.pcm)
            turn.open_playback(self.voice).say(Sentence(SUBTITLE, SUBTITLE))
            turn.exchange.answered(SUBTITLE)
        return Outcome.ANSWERED
