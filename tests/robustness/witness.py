"""Somebody who minds their own business: a device that talks all the time while others misbehave, and notices
everything.

Every answer must be the one to its question, whole, in order, with nothing between the answers. The scripted vendor
answers with the last two things it was told (`Mirror`), so that another's words, or a lost exchange, would be heard.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import gevent

from loadtest.simulator.device import SimulatedDevice
from loadtest.simulator.inbox import DeviceClosed, DeviceTimeout
from loadtest.simulator.speech import Speech
from loadtest.simulator.wire import Closed
from loadtest.vendors.http_vendor import Script, VendorAnswer, VendorRequest
from loadtest.vendors.openai_vendor import ASR, CHAT, TTS, OpenAiVendor
from tests.e2e.stage import Stage, utter
from tests.robustness.logbook import SAID
from tests.subtitles import shown
from tests.waiting import PATIENCE_S, wait_for

HEARD = f"{SAID} aloud"
"""What every spoken utterance is understood as."""
LONG_WORDS = "please tell me a very long story about ships and the sea and everything in it"
"""What another device says that a vendor is to know by its length."""
LONG_WORDS_BYTES = 32_000 * 3
VOICE = Script(answer=("wav", 0.06))

WAYS = ("typed", "auto", "manual", "realtime")


class Mirror:
    """Lets a scripted vendor answer every chat that no script answers with the last question and the one before.

    `rules`: (kind, test of the request, script); the first that applies is followed instead of what is scripted. So one
    device can have a vendor that fails while all others have one that works."""

    def __init__(self, vendor: OpenAiVendor) -> None:
        self.rules: list[tuple[str, Callable[[VendorRequest], bool], Script]] = []
        self.met: Counter[str] = Counter()
        """Requests that a rule applied to, by kind."""
        self._vendor = vendor
        self._answer = vendor.answer
        self._follow = vendor.follow
        vendor.heard = HEARD
        vendor.answer = self._reflect  # type: ignore[method-assign]
        vendor.follow = self._obey  # type: ignore[method-assign]

    def begin(self) -> None:
        """No rules, short sounds, and reflections."""
        self.rules.clear()
        self.met.clear()
        self._vendor.stand(CHAT, Script())
        self._vendor.stand(TTS, VOICE)

    def when(self, kind: str, said: str, script: Script) -> None:
        """Follow `script` for requests of `kind` whose body has `said` in it; for recognition: which are longer than a
        witness's."""
        if kind == ASR:
            self.rules.append((kind, lambda request: len(request.body) > LONG_WORDS_BYTES, script))
        else:
            self.rules.append((kind, lambda request: said.encode() in request.body.rpartition(b'"user"')[2], script))

    def when_asked(self, question: str, script: Script) -> None:
        """Follow `script` for the chat that has `question` as its last message; what comes behind a tool's result is
        answered as usual."""
        self.rules.append(
            (CHAT, lambda request: request.json()["messages"][-1] == {"role": "user", "content": question}, script)
        )

    def _obey(self, line: Any, request: VendorRequest, script: Script) -> bool:
        kind = self._vendor.kind(request)
        for ruled, applies, other in self.rules:
            if ruled == kind and applies(request):
                script = other
                self.met[kind] += 1
                break
        return self._follow(line, request, script)

    def _reflect(self, request: VendorRequest, script: Script) -> VendorAnswer:
        if self._vendor.kind(request) == CHAT and script.answer is None:
            questions = [str(message["content"]) for message in request.json()["messages"] if message["role"] == "user"]
            script = replace(script, answer=reflected(*questions[-2:]))
        return self._answer(request, script)


def calling(tool: str, arguments: str = "{}") -> Script:
    """A model that calls a tool."""
    return Script(
        answer=[{"tool_calls": [{"index": 0, "id": "c1", "function": {"name": tool, "arguments": arguments}}]}]
    )


def reflected(*questions: str) -> str:
    """The answer to the last of `questions`."""
    return f"{' then '.join(questions)}."


def hush(device: SimulatedDevice) -> None:
    """Stop whatever this device has brought about, and forget it."""
    device.abort()
    device.ping()
    device.replies.forget_answers()
    device.replies.messages.clear()


class Witness:
    """One device that talks in a greenlet of its own. See `talking`."""

    def __init__(self, device: SimulatedDevice, words: Speech, patience: float = PATIENCE_S) -> None:
        self.device = device
        self.exchanges = 0
        self.complaints: list[str] = []
        self._words = words
        self._before = ""
        self._patience = patience
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
        answer = device.collect_answer(self._patience)
        expected = shown(reflected(*filter(None, (self._before, question))))
        self._before = question
        kinds = [message.data.get("state") or message.type for message in answer.messages]
        if answer.stt != question or answer.sentences != [expected]:
            self.complaints.append(
                f"{way}: {question!r} was heard as {answer.stt!r} and "
                f"answered with {answer.sentences!r}, not {expected!r}"
            )
        if kinds != ["stt", "start", "llm", "sentence_start", "stop"]:
            self.complaints.append(f"{way}: messages {kinds}")
        if not answer.frames:
            self.complaints.append(f"{way}: no sound")

    def check(self) -> None:
        """Nothing was ever odd. Raises AssertionError."""
        replies = self.device.replies
        assert not self.complaints, "\n".join(self.complaints)
        assert not replies.stray, "sound between the answers"
        assert not replies.bad_frames
        assert replies.closed is None
        left = [message.data for message in replies.messages if message.type != "hello"]
        assert not left, f"messages nobody asked for: {left[:5]}"


@contextmanager
def talking(stage: Stage, words: Speech) -> Iterator[Witness]:
    """A witness talks before the block, while it runs, and until the exchange under way has ended; nothing may have
    been odd."""
    witness = Witness(stage.device(), words)
    try:
        wait_for(lambda: witness.exchanges or witness.complaints, "the witness's first answer")
        yield witness
        witness.stop()
    finally:
        witness.kill()
    witness.check()
