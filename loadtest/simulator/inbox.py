"""What came back to a simulated device: messages, answers with their sound, sound that should not have come, and the
end of the connection.

Filled by the device's reader; read by whoever waits. The reader assembles an answer while it arrives, so that a load of
devices wakes nobody per audio frame; only who asks for `every_frame` is awake for each."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from gevent.event import Event

from loadtest.simulator.answer import HeardAnswer, HeardMessage

T = TypeVar("T")


class DeviceTimeout(TimeoutError):
    """What was waited for did not come; the message tells what did."""


class DeviceClosed(ConnectionError):
    """The server closed the connection while something was awaited."""

    def __init__(self, code: int, reason: str) -> None:
        self.code = code
        self.reason = reason
        super().__init__(f"the server closed the connection: {code} {reason}".rstrip())


class Inbox:
    """One device's incoming side. `keep_audio` False: only the arrival times of sound are kept."""

    def __init__(self, *, keep_audio: bool = True) -> None:
        self.closed: tuple[int, str] | None = None
        """(code, reason) once the connection is over."""
        self.speaking = False
        """True between tts start and tts stop."""
        self.stray: list[float] = []
        """When sound came although nothing was being spoken."""
        self.frames_received = 0
        self.bad_frames: list[str] = []
        """Why binary frames could not be understood."""
        self.messages: deque[HeardMessage] = deque()
        """Messages nobody has taken yet."""
        self.answers: deque[HeardAnswer] = deque()
        """Complete answers nobody has taken yet."""
        self.answer = HeardAnswer()
        """The answer that is arriving now."""
        self.spoken_until: float | None = None
        """When the device ended what it said last; the next answer counts from here."""
        self._keep_audio = keep_audio
        self._audio = ("opus", 24_000)
        self._changed = Event()
        self._awake_for_audio = 0

    # --- for the reader

    def heard_audio(self, packet: bytes) -> None:
        """A packet has come."""
        self.frames_received += 1
        now = time.monotonic()
        if self.speaking:
            self.answer.arrivals.append(now)
            if self._keep_audio:
                self.answer.frames.append(packet)
        else:
            self.stray.append(now)
        if self._awake_for_audio:
            self._changed.set()

    def heard_message(self, message: HeardMessage) -> None:
        """A message has come."""
        self.messages.append(message)
        answer, data = self.answer, message.data
        match message.type, data.get("state"):
            case "stt", _:
                answer.stt, answer.stt_at = str(data.get("text", "")), message.at
            case "llm", _:
                answer.emotion = data.get("emotion")
            case "tts", "start":
                self.speaking = True
                answer.started_at = message.at
            case "tts", "sentence_start":
                answer.sentences.append(str(data.get("text", "")))
            case "tts", "stop":
                self.speaking = False
                answer.stopped_at = message.at
                answer.failure = str(data.get("failure", ""))
        if message.type in ("stt", "llm", "tts"):
            answer.messages.append(message)
        if answer.stopped_at is not None:
            answer.spoken_until = self.spoken_until
            self.answers.append(answer)
            self._begin_answer()
        self._changed.set()

    def ended(self, code: int, reason: str) -> None:
        """The connection is over; only the first reason counts."""
        self.closed = self.closed or (code, reason)
        self._changed.set()

    def touch(self) -> None:
        """Let whoever waits look again."""
        self._changed.set()

    # --- for the device

    def expect(self, audio_format: str, sample_rate: int) -> None:
        """From now on sound comes in this form (the server's hello said so)."""
        self._audio = (audio_format, sample_rate)
        self._begin_answer()

    def forget_answers(self) -> None:
        """Drop complete and half answers: a new question begins."""
        self.answers.clear()
        self._begin_answer()

    def next_json(self, kind: str, timeout: float, fields: dict[str, Any]) -> HeardMessage:
        """The oldest message not yet taken of this type and with these fields; "" is any type. Raises DeviceTimeout,
        DeviceClosed."""

        def take() -> HeardMessage | None:
            for message in self.messages:
                if kind in ("", message.type) and all(message.data.get(key) == value for key, value in fields.items()):
                    self.messages.remove(message)
                    return message
            return None

        return self.wait(take, timeout, f"a message {kind} {fields or ''}".rstrip())

    def collect_answer(self, timeout: float) -> HeardAnswer:
        """The oldest complete answer not yet taken; takes its messages too. Raises DeviceTimeout, DeviceClosed."""
        answer = self.wait(lambda: self.answers.popleft() if self.answers else None, timeout, "the end of an answer")
        taken = {id(message) for message in answer.messages}
        self.messages = deque(message for message in self.messages if id(message) not in taken)
        return answer

    def wait(
        self,
        take: Callable[[], T | None],
        timeout: float,
        what: str,
        *,
        or_closed: bool = True,
        every_frame: bool = False,
    ) -> T:
        """What `take` returns as soon as it is not None; asked again whenever something comes. Raises DeviceTimeout,
        DeviceClosed."""
        deadline = time.monotonic() + timeout
        self._awake_for_audio += every_frame
        try:
            while True:
                self._changed.clear()
                found = take()
                if found is not None:
                    return found
                if or_closed and self.closed is not None:
                    raise DeviceClosed(*self.closed)
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    raise DeviceTimeout(f"{what} did not come within {timeout:g} s; {self._summary()}")
                self._changed.wait(remaining)
        finally:
            self._awake_for_audio -= every_frame

    def _summary(self) -> str:
        seen = dict.fromkeys(
            json.dumps(message.data, ensure_ascii=False)[:200] for message in [*self.answer.messages, *self.messages]
        )
        return f"{self.frames_received} audio frames and these messages came: {' '.join(list(seen)[-8:]) or 'none'}"

    def _begin_answer(self) -> None:
        audio_format, sample_rate = self._audio
        self.answer = HeardAnswer(sample_rate=sample_rate, audio_format=audio_format)
