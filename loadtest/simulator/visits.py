"""What one simulated device does during a run, by role, and what it notes down: talkers, idle holders, push-to-talk,
interrupters, gateway.

Blocking style, one greenlet per device; knows nothing of locust. Those who mean harm are in `abuse.py`.
"""

from __future__ import annotations

import errno
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import gevent

from loadtest.simulator import speech
from loadtest.simulator.answer import HeardAnswer
from loadtest.simulator.device import SimulatedDevice
from loadtest.simulator.device_tools import DeviceTools
from loadtest.simulator.inbox import DeviceClosed, DeviceTimeout
from loadtest.simulator.mqtt_device import MqttDevice
from loadtest.simulator.record import (
    ABORT,
    ANSWER,
    BARGE_IN,
    FIRST_AUDIO,
    FIRST_AUDIO_BY,
    GAP,
    HANDSHAKE,
    HELLO,
    STT,
    WORST_GAP,
    Record,
)
from loadtest.simulator.scenario import Scenario
from loadtest.simulator.wire import Closed, UpgradeRefused

CONNECT_S = 15.0
FRAMES_BEFORE_INTERRUPT = 8
STRAY_WATCH_S = 0.3
"""How long after an interrupt stray sound is waited for."""
FOREVER_S = 1e6
TEXT_SHOWN = 40
"""Characters of an unexpected answer. As a rule it is one of few apologies; numbers are left out, so that many devices
share a reason."""


class BadAnswer(Exception):
    """An answer came, but not a good one; the message says what was wrong."""


FAILURES = (DeviceTimeout, DeviceClosed, Closed, UpgradeRefused, BadAnswer, OSError)


def reason_of(error: BaseException, device: SimulatedDevice | None = None) -> str:
    """A short reason that many devices share."""
    match error:
        case BadAnswer():
            return str(error)
        case DeviceTimeout() if "the end of an answer" in str(error) and device is not None:
            answer = device.replies.answer
            if answer.stt_at is None:
                return "not heard: no stt"
            if answer.started_at is None:
                return "no answer after stt"
            return "answer without end" if answer.arrivals else "no sound after tts start"
        case DeviceTimeout():
            return f"timeout: {str(error).partition(' did not come')[0]}"
        case DeviceClosed() | Closed():
            # A sender only sees a broken pipe; the reader may know the server's reason.
            known = device.closed if device is not None else None
            return f"closed {known[0] if known is not None else error.code}"
        case UpgradeRefused():
            return f"refused: HTTP {error.status}" if error.status else "refused: no HTTP answer"
        case TimeoutError():
            return "connect: timed out"
        case OSError():
            return f"connect: {errno.errorcode.get(error.errno or 0, type(error).__name__)}"
    return type(error).__name__


class Visitor:
    """One device of a run. `number` makes its identity, its words and its chance; `ends_at` (monotonic s) is for runs
    of a fixed time. `begins_at` (monotonic s): it is there before, but says nothing."""

    def __init__(
        self,
        url: str,
        scenario: Scenario,
        number: int,
        record: Record,
        *,
        begins_at: float = 0.0,
        ends_at: float | None = None,
    ) -> None:
        self.url = url
        self.scenario = scenario
        self.number = number
        self.by_mqtt = scenario.by_mqtt(number)
        self.record = record
        self.chance = scenario.rng(number)
        self._begins_at = begins_at
        self._ends_at = ends_at
        self._finished = False

    @property
    def device_id(self) -> str:
        """A MAC address of the locally administered kind."""
        number = self.scenario.first_device + self.number
        return ":".join(f"{byte:02x}" for byte in (0x02, 0x6C, *number.to_bytes(4, "big")))

    def device(self, **options: Any) -> SimulatedDevice:
        """The device, not yet connected."""
        scenario = self.scenario
        source = f"127.0.0.{1 + self.number % scenario.sources}" if scenario.sources > 1 else ""
        options = {
            "device_id": self.device_id,
            "client_id": f"load-{self.device_id}",
            "frame_ms": scenario.frame_ms,
            "tools": DeviceTools() if scenario.mcp else None,
            "keep_audio": False,
            "source_address": source,
            **options,
        }
        if self.by_mqtt:
            return MqttDevice(scenario.ota, **options)
        return SimulatedDevice(self.url, **{"protocol_version": scenario.protocol, "token": scenario.token, **options})

    def connect(self, *, greet: bool = True, **options: Any) -> SimulatedDevice:
        """Connected and greeted, both timed. Raises one of FAILURES. `greet` False: without hello."""
        device = self.device(**options)
        if isinstance(device, MqttDevice):
            device.ask_ota(CONNECT_S)
        began = time.monotonic()
        device.connect(CONNECT_S)
        try:
            upgraded = time.monotonic()
            if greet:
                device.hello(timeout=CONNECT_S)
        except BaseException:
            device.drop()
            raise
        now = time.monotonic()
        self.record.measured(HANDSHAKE, (upgraded - began) * 1000)
        if greet:
            self.record.measured(HELLO, (now - upgraded) * 1000)
        self.record.count("connections")
        return device

    def words(self, turn: int) -> speech.Speech:
        """What to say this time."""
        texts = self.scenario.words
        return speech.speak(texts[(self.number + turn) % len(texts)])

    def take_turns(self, turn: Callable[[SimulatedDevice, int], None], **options: Any) -> None:
        """Let `turn(device, number)` happen as often as the scenario wants; after a failure the device comes back and
        goes on."""
        device: SimulatedDevice | None = None
        try:
            for number in self._turns():
                try:
                    if device is None or device.closed is not None:
                        device = self.connect(**options)
                    if number == 0:
                        gevent.sleep(max(0.0, self._begins_at - time.monotonic()))
                    turn(device, number)
                except BadAnswer as error:  # the connection is fine
                    self.record.failed(str(error))
                except FAILURES as error:
                    self.record.failed(reason_of(error, device))
                    if device is not None:
                        device.drop()
                        device = None
                self.rest()
        finally:
            if device is not None:
                device.close()

    def finish(self) -> None:
        """Nothing more is to be expected of this device (it may stay, all the same). Idempotent."""
        if not self._finished:
            self._finished = True
            self.record.count("finished")

    def rest(self) -> None:
        """The pause between two turns."""
        gevent.sleep(self.scenario.pause * self.chance.uniform(0.5, 1.5))

    def note(self, device: SimulatedDevice, answer: HeardAnswer) -> None:
        """Write an answer down. Raises BadAnswer."""
        record, replies, at = self.record, device.replies, answer.spoken_until or time.monotonic()
        timings = answer.timings()
        for name, stage in ((STT, "stt"), (FIRST_AUDIO, "first_audio"), (ANSWER, "stop")):
            if stage in timings:
                record.measured(name, timings[stage] * 1000, at)
        if self.scenario.transport == "both" and "first_audio" in timings:
            record.measured(FIRST_AUDIO_BY[self.by_mqtt], timings["first_audio"] * 1000, at)
        if record.within(at):
            spread, gaps = record.spread(GAP), answer.gaps_ms
            for gap in gaps:
                spread.add(gap)
            if gaps:
                record.measured(WORST_GAP, max(gaps), at)
            record.count("turns")
            record.count("frames", len(answer.arrivals))
        record.count("turns in all")
        self._note_strays(device)
        if replies.bad_frames:
            complaint = replies.bad_frames.pop()
            replies.bad_frames.clear()
            raise BadAnswer(f"bad frame: {complaint[:40]}")
        if not answer.arrivals:
            raise BadAnswer("answer without sound")
        if self.scenario.expect not in answer.text:
            raise BadAnswer(f"unexpected answer: {re.sub('[0-9]+', '#', answer.text)[:TEXT_SHOWN] or '(no text)'}")

    def _note_strays(self, device: SimulatedDevice) -> None:
        strays = device.replies.stray
        if strays:
            self.record.count("stray frames", len(strays))
            strays.clear()

    def _turns(self) -> Iterator[int]:
        number = 0
        while (time.monotonic() < self._ends_at) if self._ends_at is not None else (number < self.scenario.turns):
            yield number
            number += 1

    # --- roles

    def talker(self) -> None:
        """Asks, waits for the whole answer, pauses, asks again."""
        self.take_turns(
            lambda device, turn: self.note(device, device.ask(self.words(turn), "auto", self.scenario.patience))
        )

    def push_to_talk(self) -> None:
        """The same with a button: the device says when the question ends."""
        self.take_turns(
            lambda device, turn: self.note(device, device.ask(self.words(turn), "manual", self.scenario.patience))
        )

    def gateway(self) -> None:
        """A talker behind the MQTT gateway: its framing, its headers."""
        self.take_turns(
            lambda device, turn: self.note(device, device.ask(self.words(turn), "auto", self.scenario.patience)),
            gateway=True,
        )

    def interrupter(self) -> None:
        """Streams all the time and interrupts: every other turn by an abort, the others by speaking."""
        self.take_turns(lambda device, turn: (self._abort if turn % 2 == 0 else self._barge_in)(device, turn))

    def holder(self) -> None:
        """Is connected and does nothing: by WebSocket after hello, by MQTT without. That the server ends it is a
        failure."""
        device = None
        try:
            device = self.connect(greet=not self.by_mqtt)
            self.record.count("holding")
            self.finish()
            code, _ = device.wait_closed(FOREVER_S)
            self.record.failed(f"idle device closed {code}")
        except FAILURES as error:
            self.record.failed(reason_of(error))
        finally:
            if device is not None:
                device.close()

    def _begin(self, device: SimulatedDevice, turn: int) -> None:
        """Ask, and wait until the answer can be heard."""
        replies = device.replies
        replies.forget_answers()
        device.say(self.words(turn), "realtime")
        device.wait_until(
            lambda: replies.speaking and len(replies.answer.arrivals) >= FRAMES_BEFORE_INTERRUPT,
            self.scenario.patience,
            "the end of an answer",
        )

    def _abort(self, device: SimulatedDevice, turn: int) -> None:
        self._begin(device, turn)
        before, at = device.replies.frames_received, time.monotonic()
        device.abort()
        answer = device.collect_answer(self.scenario.patience)
        self.record.measured(ABORT, ((answer.stopped_at or at) - at) * 1000, at)
        self.record.count("frames after an abort", device.replies.frames_received - before)
        gevent.sleep(STRAY_WATCH_S)
        self.record.count("aborts")
        self.note(device, answer)

    def _barge_in(self, device: SimulatedDevice, turn: int) -> None:
        self._begin(device, turn)
        words, at = self.words(turn + 1), time.monotonic()
        device.say(words, "realtime")
        cut = device.collect_answer(self.scenario.patience)
        voice_from = at + words.voice_from_ms / 1000
        self.record.measured(BARGE_IN, ((cut.stopped_at or at) - voice_from) * 1000, at)
        self.record.count("barge-ins")
        self.note(device, device.collect_answer(self.scenario.patience))
