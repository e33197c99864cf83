"""The witnesses of the end of a turn, asked once per pause of the voice: the words as far as they are recognised while
the pause lasts, and a model that hears the sound, unless the words show already that more is to come.

Not the decision (`speech/end_of_turn.py`) and not the silence (`speech/segmenter.py`). The model has a greenlet per
pause, the words come from whoever has the paused utterance recognised (a prepared turn) or, where a recogniser gives
partial texts, at once. What comes after the pause is over changes nothing; what fails leaves the silence as it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gevent import Greenlet

from xiaozhi.errors import Overloaded, VendorError
from xiaozhi.providers.contracts.asr import Transcript
from xiaozhi.providers.contracts.end_of_turn import EndOfTurn
from xiaozhi.runtime.logs import get_logger
from xiaozhi.runtime.tasks import Tasks
from xiaozhi.session.listening.utterance import Utterance
from xiaozhi.speech.end_of_turn import SilenceBounds, silence_needed
from xiaozhi.speech.language import spoken_language
from xiaozhi.speech.last_words import finished
from xiaozhi.speech.transcripts import heard

log = get_logger(__name__)

_OPEN = -1.0
"""The score of words behind which no sound makes an end."""
PAUSE_MS = 150.0
"""So early a pause is told at the latest: what is recognised from then on comes soon after the shortest silence."""


@dataclass(frozen=True, slots=True)
class Witnesses:
    """Who is asked. `model` None: nobody hears the sound. `words`: languages in which the words count. `language`: that
    of the conversation ("" while it is not known), for what does not show its own."""

    model: EndOfTurn | None
    words: frozenset[str]
    bounds: SilenceBounds
    language: Callable[[], str]


class JudgedPause:
    """What is said about one pause, from `ask` to `close`. `require` is told how much silence ends the utterance (ms),
    each time that changes; it is called in greenlets of others and must not block."""

    def __init__(
        self,
        witnesses: Witnesses,
        utterance: Utterance,
        plain_ms: float,
        require: Callable[[float], None],
        tasks: Tasks,
    ) -> None:
        self._witnesses = witnesses
        self._utterance = utterance
        self._plain_ms = plain_ms
        self._needed_ms = plain_ms
        self._require = require
        self._tasks = tasks
        self._language = witnesses.language()
        self._words = 0.0
        self._sound: float | None = None
        self._asking: Greenlet | None = None
        self._closed = False

    def ask(self) -> None:
        """Ask everybody; returns at once."""
        witnesses, utterance = self._witnesses, self._utterance
        if witnesses.words:
            utterance.on_transcript = self._recognised
            if partial := utterance.partial:
                # It lags behind the voice: it can show that more is to come, but not that this was all.
                self._words = min(0.0, self._score(partial, ""))
        model = witnesses.model
        if model is not None and self._words > _OPEN and self._counts(model):
            self._asking = self._tasks.spawn("end-of-turn", self._listen, model, utterance.tail(model.traits.sound_ms))
        self._decide()

    def close(self) -> None:
        """The pause is over: the voice goes on, or the utterance has ended. Idempotent."""
        self._closed = True
        self._utterance.on_transcript = None
        if self._asking is not None:
            self._asking.kill(block=False)
            self._asking = None

    def _counts(self, model: EndOfTurn) -> bool:
        languages = model.traits.languages
        return not languages or not self._language or self._language in languages

    def _recognised(self, transcript: Transcript) -> None:
        self._words = self._score(transcript.text, transcript.language)
        self._decide()

    def _score(self, text: str, language: str) -> float:
        text = heard(text)
        told = language or self._language
        self._language = spoken_language(text, usual=told) or told
        return finished(text, self._language) if self._language in self._witnesses.words else 0.0

    def _listen(self, model: EndOfTurn, pcm: bytes) -> None:
        try:
            probability = model.judge(pcm)
        except (VendorError, Overloaded) as error:
            log.warning("end of turn not judged", error=str(error)[:200])
            return
        self._asking = None
        if probability is not None:
            self._sound = probability
            self._decide()

    def _decide(self) -> None:
        if self._closed:
            return
        model, sound = self._witnesses.model, self._sound
        # The first words of a conversation tell its language, perhaps after the model has judged.
        if model is None or (model.traits.languages and self._language not in model.traits.languages):
            sound = None
        needed = silence_needed(self._plain_ms, self._witnesses.bounds, self._words, sound)
        if needed != self._needed_ms:
            self._needed_ms = needed
            self._require(needed)
