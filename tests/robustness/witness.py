"""Somebody who minds their own business: a device that talks all the time while others misbehave, and notices everything.

Every answer must be the one to its question, whole, in order, with nothing between the answers. The scripted vendor answers with the last
two things it was told (`mirrored`), so that another's words, or a lost exchange, would be heard.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import gevent

from loadtest.device import SimulatedDevice
from loadtest.http_vendor import Answer, Request, Script
from loadtest.replies import DeviceClosed, DeviceTimeout
from loadtest.speech import Speech
from loadtest.vendors import CHAT, OpenAiVendor
from loadtest.wire import Closed
from tests.e2e.stage import Stage, utter, wait_until
from tests.robustness.logbook import SAID

HEARD = f"{SAID} aloud"
"""What every spoken utterance is understood as."""
PATIENCE_S = 20.0
WAYS = ("typed", "auto", "manual", "realtime")


def mirrored(vendor: OpenAiVendor) -> None:
    """Let `vendor` answer every chat that no script answers with the last question and the one before."""
    scripted = vendor.answer

    def answer(request: Request, script: Script) -> Answer:
        if vendor.kind(request) == CHAT and script.answer is None:
            questions = [str(message["content"]) for message in request.json()["messages"] if message["role"] == "user"]
            script = replace(script, answer=reflected(*questions[-2:]))
        return scripted(request, script)

    vendor.answer = answer  # type: ignore[method-assign]


def reflected(*questions: str) -> str:
    """The answer to the last of `questions`."""
    return f"{' then '.join(questions)}."


class Witness:
    """One device that talks in a greenlet of its own. See `talking`."""

    def __init__(self, device: SimulatedDevice, words: Speech) -> None:
        self.device = device
        self.exchanges = 0
        self.complaints: list[str] = []
        self._words = words
        self._before = ""
        self._enough = False
        self._greenlet = gevent.spawn(self._talk)
        self._greenlet.name = "witness"

    def stop(self) -> None:
        """Finish the exchange under way."""
        self._enough = True
        self._greenlet.join()

    def kill(self) -> None:
        """Stop at once."""
        self._greenlet.kill()

    def _talk(self) -> None:
        while not self._enough:
            try:
                self._exchange(WAYS[self.exchanges % len(WAYS)])
            except (DeviceTimeout, DeviceClosed, Closed) as error:
                self.complaints.append(f"exchange {self.exchanges + 1}: {error}")
                return
            self.exchanges += 1

    def _exchange(self, way: str) -> None:
        device = self.device
        question = HEARD
        if way == "typed":
            question = f"{SAID} number {self.exchanges}"
            device.detect(question)
        else:
            utter(device, self._words, way)
        answer = device.collect_answer(PATIENCE_S)
        expected = reflected(*filter(None, (self._before, question)))
        self._before = question
        kinds = [message.data.get("state") or message.type for message in answer.messages]
        if answer.stt != question or answer.sentences != [expected]:
            self.complaints.append(f"{way}: {question!r} was heard as {answer.stt!r} and answered with {answer.sentences!r}, not {expected!r}")
        if kinds != ["stt", "start", "llm", "sentence_start", "stop"]:
            self.complaints.append(f"{way}: messages {kinds}")
        if len(answer.frames) < 4:
            self.complaints.append(f"{way}: {len(answer.frames)} frames of a quarter of a second")

    def check(self, exchanges: int) -> None:
        """Nothing was ever odd, and there were so many exchanges. Raises AssertionError."""
        replies = self.device.replies
        assert not self.complaints, "\n".join(self.complaints)
        assert not replies.stray, "sound between the answers"
        assert not replies.bad_frames
        assert replies.closed is None
        left = [message.data for message in replies.messages if message.type != "hello"]
        assert not left, f"messages nobody asked for: {left[:5]}"
        assert self.exchanges >= exchanges, f"{self.exchanges} exchanges only"


@contextmanager
def talking(stage: Stage, words: Speech, exchanges: int = 2) -> Iterator[Witness]:
    """A witness talks while the block runs, and until it has had so many whole exchanges; afterwards nothing may have been odd."""
    witness = Witness(stage.device(), words)
    try:
        wait_until(lambda: witness.exchanges or witness.complaints, "the witness's first answer", PATIENCE_S)
        yield witness
        wait_until(lambda: witness.exchanges > exchanges or witness.complaints, "the witness", PATIENCE_S)
        witness.stop()
    finally:
        witness.kill()
    witness.check(exchanges)
