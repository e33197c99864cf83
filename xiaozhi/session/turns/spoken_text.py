"""Text as it comes from a model, made speakable, split into sentences and given to a playback.

Not the rules (`speech/cleanup.py`) and not the voice (`speaking/playback.py`): the line between them, used for streamed
answers as well as for ready texts. Text is split on the stream, so the first sentence is on its way to the synthesiser
while the model still writes.

How much may be said is bounded by the device's `Allowance`: it ends between two sentences."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import gevent

from xiaozhi.runtime.usage import charged
from xiaozhi.session.speaking.playback import Playback
from xiaozhi.session.turn_record import Timeline
from xiaozhi.speech.cleanup import ReplyText, slices
from xiaozhi.speech.sentences import Sentence


class AllowanceSpent(Exception):
    """The device has been told as much as it may be told today."""


class Allowance:
    """How many characters one answer may be long. The sentence that goes beyond is said, the next one is not."""

    def __init__(self, characters: int) -> None:
        self._left = characters

    def take(self, sentence: Sentence) -> None:
        """This sentence is to be said. Raises AllowanceSpent."""
        if self._left <= 0:
            raise AllowanceSpent
        self._left -= len(sentence.display)


class SpokenText:
    """One text: `write` its pieces, then `end`. Both may block for the playback, and raise what `Playback.say` raises;
    AllowanceSpent beyond the `allowance` (None: there is no limit)."""

    def __init__(
        self,
        playback: Playback,
        timeline: Timeline,
        correct_words: Sequence[str],
        clock: Callable[[], float],
        allowance: Allowance | None = None,
    ) -> None:
        self.said: list[str] = []
        """The sentences that were given to the playback."""
        self._playback = playback
        self._allowance = allowance
        self._timeline = timeline
        self._text = ReplyText(correct_words=correct_words)
        self._clock = clock

    def write(self, piece: str) -> None:
        """Say the sentences that `piece` completes."""
        first = True
        for part in slices(piece):
            if not first:
                gevent.sleep(0)  # others first: a long text is not to keep the hub
            first = False
            with charged():
                sentences = self._text.feed(part)
            self._say(sentences)

    def end(self) -> None:
        """The text is complete: say what is left, and show what cannot be said, such as an answer that is an emoji."""
        with charged():
            sentences = self._text.flush()
        self._say(sentences)
        if self._text.only_shown:
            self._say([Sentence(self._text.only_shown, "")])

    def _say(self, sentences: Iterable[Sentence]) -> None:
        for sentence in sentences:
            if self._allowance is not None:
                self._allowance.take(sentence)
            self._playback.emote(self._text.emotion)
            if sentence.spoken and self._timeline.tts_asked is None:
                self._timeline.tts_asked = self._clock()
            self.said.append(sentence.display)
            self._playback.say(sentence)
