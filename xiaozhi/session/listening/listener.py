"""The listener of one session: a bounded queue of packets, the listening modes, and one greenlet that works while there
is sound.

    reader ──hear()──► [queue: 200 packets, the oldest goes] ──► listener greenlet ──► sink
                                                                 decode ▸ VAD ▸ segmenter ▸ utterances

`hear`, `start`, `stop`, `pause` and the others never block: the reader calls them, and it must receive an abort while
everything else is stuck. The first packet spawns the greenlet; it ends after half a minute without a packet and takes
decoder and model state with it, so an idle device has none.

Modes:
- A new listener listens in auto mode. `start` begins a new segment in any mode and forgets the one before, unfinished
  utterance included.
- `stop` ends the utterance under way after everything that is queued. Then nothing is heard until the next `start`.
- `pause` is for the time the server speaks: nothing is heard, except in realtime mode, whose device cancels the echo.
- Before `ignore_until` voice is not heard (the device was just woken: that is the wake word). The button always is.
- `start`, `pause`, `reset` and `close` end an unfinished utterance without telling the sink: their caller knows.

When a device stops sending in mid-utterance, the utterance ends after two seconds, where its sound ended.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from gevent import Greenlet, getcurrent

from xiaozhi.chat import CallContext
from xiaozhi.protocol.messages import ListenMode
from xiaozhi.providers.contracts.asr import Asr
from xiaozhi.providers.contracts.vad import Vad
from xiaozhi.runtime.alarm import HubAlarm
from xiaozhi.runtime.logs import get_logger
from xiaozhi.runtime.tasks import Tasks
from xiaozhi.session.listening.decoder import EchoCanceller, Packet
from xiaozhi.session.listening.end_of_turn import Witnesses
from xiaozhi.session.listening.push_to_talk import PushToTalk
from xiaozhi.session.listening.segment import ListenerOptions, ListenerSink, ListenerStats, ListeningSegment
from xiaozhi.session.listening.utterance import RecogniserAccess, Utterance
from xiaozhi.session.listening.voice_segment import VoiceSegment
from xiaozhi.speech.line_quality import Arrivals
from xiaozhi.speech.pauses import PER_JUDGED_UTTERANCE, PER_UTTERANCE, PauseBudget

__all__ = ["Listener", "ListenerOptions", "ListenerSink", "ListenerStats", "Utterance"]

log = get_logger(__name__)

LINGER_S = 30.0
"""The loop ends after so long without a packet."""
STALL_S = 2.0
"""An utterance ends when its sound stops coming for so long."""
OWED_RETRY_S = 0.1
"""How soon an overloaded voice detector is asked again when no packet does."""
MAX_AT_ONCE = 8
"""Packets judged together when they have piled up."""


class Listener:
    """See the module. `on_drop` is told of every packet that the full queue pushed out. `arrivals` is told of each
    packet that is heard. `witnesses`: who is asked in a pause whether the user has finished; None: the silence decides
    alone."""

    def __init__(
        self,
        *,
        vad: Vad,
        asr: Asr,
        context: CallContext,
        options: ListenerOptions,
        sink: ListenerSink,
        tasks: Tasks,
        on_drop: Callable[[], None] = lambda: None,
        canceller: EchoCanceller | None = None,
        arrivals: Arrivals | None = None,
        witnesses: Witnesses | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.stats = ListenerStats()
        self.mode = ListenMode.AUTO
        self._vad = vad
        self._access = RecogniserAccess(asr, context, tasks, options.asr_deadline)
        self._options = options
        self._sink = sink
        self._tasks = tasks
        self._on_drop = on_drop
        self.canceller = canceller
        """Takes the loudspeaker's sound out of the microphone's, in realtime mode; counts from the next segment on."""
        self._arrivals = arrivals if arrivals is not None else Arrivals()
        self._clock = clock
        self._queue: deque[Packet] = deque()
        self._queued_bytes = 0
        self._wake = HubAlarm()
        self._loop: Greenlet | None = None
        self._segment: ListeningSegment | None = None
        self._witnesses = witnesses
        free = witnesses is not None and asr.traits.offline
        self._pauses = PauseBudget(PER_JUDGED_UTTERANCE if free else PER_UTTERANCE)
        self._listening = True
        self._stopping = False
        self._judged = False
        self._paused = False
        self._closed = False
        self._ignore_until = 0.0
        self._last_voice_at = clock()

    # --- what the device and the session say; none of it blocks -------------------------------------------------------

    def hear(self, payload: bytes, timestamp_ms: int | None = None) -> None:
        """One packet in the device's format, just arrived; b"": one that was lost. `timestamp_ms`: its playback clock,
        see `Packet`."""
        stats = self.stats
        if not self._listening or (self._paused and self.mode is not ListenMode.REALTIME):
            stats.ignored += 1
            return
        now = self._clock()
        if now < self._ignore_until and self.mode is not ListenMode.MANUAL:
            stats.ignored += 1
            return
        stats.packets += 1
        if payload:
            self._arrivals.packet(now)
        else:
            stats.lost += 1
            if self._loop is None:
                return  # nothing has been heard that the gap could be concealed with
        queue = self._queue
        if len(queue) >= self._options.queue_packets:
            self._queued_bytes -= len(queue.popleft().payload)
            stats.dropped += 1
            self._on_drop()
        queue.append(Packet(payload, now, timestamp_ms))
        self._queued_bytes += len(payload)
        self._awake()

    def start(self, mode: ListenMode) -> None:
        """Listen anew in `mode`; whatever was under way is forgotten."""
        if self._closed:
            return
        self.reset()
        self.mode = mode
        self._arrivals.restart()
        self._listening = True
        self._paused = False

    def stop(self) -> None:
        """End the utterance under way after what is queued, then listen no more until `start`."""
        if not self._listening:
            return
        self._listening = False
        self._stopping = True
        self._awake()

    def pause(self) -> None:
        """The server speaks: hear nothing until `resume` or `start`. No effect on what is heard in realtime mode."""
        self._paused = True
        if self.mode is not ListenMode.REALTIME:
            self.reset()

    def resume(self) -> None:
        """The server has spoken."""
        self._paused = False
        if self.mode is not ListenMode.REALTIME:
            self._arrivals.restart()

    def ignore_until(self, at: float) -> None:
        """Do not listen to voices before `at` (monotonic s)."""
        self._ignore_until = at

    def reset(self) -> None:
        """Forget what is queued and under way; mode, pause and the rest stay."""
        self._queue.clear()
        self._queued_bytes = 0
        self._stopping = False
        self._judged = False
        segment, self._segment = self._segment, None
        if segment is not None:
            self._note_voice(segment)
            segment.abandon()

    def close(self) -> None:
        """Hear nothing ever again. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._listening = False
        self.reset()
        self._wake.ring()
        if self._loop is not None and self._loop is not getcurrent():
            self._loop.kill(block=False)

    @property
    def listening(self) -> bool:
        """Whether a packet that came now would be heard (`ignore_until` apart)."""
        return self._listening and not (self._paused and self.mode is not ListenMode.REALTIME)

    @property
    def last_voice_at(self) -> float:
        """When a voice was last heard (monotonic s); at first, when the listener was made."""
        if self._segment is not None:
            self._note_voice(self._segment)
        return self._last_voice_at

    @property
    def queued_bytes(self) -> int:
        """Memory for sound: packets waiting, pre-roll, the utterance under way, and the echo canceller."""
        segment = self._segment.held_bytes if self._segment is not None else 0
        return self._queued_bytes + segment + (self.canceller.held_bytes if self.canceller is not None else 0)

    def _note_voice(self, segment: ListeningSegment) -> None:
        self._last_voice_at = max(self._last_voice_at, segment.last_voice_at)

    def _awake(self) -> None:
        if self._loop is None:
            self._loop = self._tasks.spawn("listener", self._run)
        else:
            self._wake.ring()

    # --- the loop -----------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._closed and self._await_work():
                try:
                    self._work()
                except Exception:
                    # Whatever it was, this device must not be deaf from now on.
                    log.exception("listening failed, listening anew")
                    self.reset()
        finally:
            # Nothing yields between the last look at the queue and here, so no packet is left behind, except by a kill.
            self._loop = None
            self.reset()
            if self.canceller is not None:
                self.canceller.forget()

    def _await_work(self) -> bool:
        """True when there is something to do; False when there has been nothing for so long that the loop may end."""
        if self._queue or self._stopping or self._judged:
            return True
        segment = self._segment
        patience = LINGER_S
        if segment is not None:
            patience = OWED_RETRY_S if segment.owed else STALL_S if segment.stalls else LINGER_S
        self._wake.wait(patience)
        wanted = self._queue or self._stopping or self._judged or self._closed
        return bool(wanted) or (segment is not None and patience < LINGER_S)

    def _work(self) -> None:
        queue = self._queue
        segment = self._segment
        if self._judged:
            self._judged = False
            if segment is not None:
                segment.settle()
            return
        if not queue:
            if self._stopping:
                self._finish(segment)
            elif segment is not None and segment.owed:
                segment.hear(())
            elif segment is not None and segment.stalls:
                segment.stop()
            return
        packets = [queue.popleft() for _ in range(min(len(queue), MAX_AT_ONCE))]
        self._queued_bytes -= sum([len(packet.payload) for packet in packets])
        if segment is None:
            segment = self._segment = self._new_segment()
        segment.hear(packets)

    def _new_segment(self) -> ListeningSegment:
        if self.mode is ListenMode.MANUAL:
            return PushToTalk(self.mode, self._vad, self._options, self._access, self._sink, self.stats)
        # In auto mode nobody is listened to while the loudspeaker plays.
        canceller = self.canceller if self.mode is ListenMode.REALTIME else None
        return VoiceSegment(
            *(self.mode, self._vad, self._options, self._access, self._sink, self.stats, canceller, self._pauses),
            witnesses=self._witnesses,
            on_judged=self._pause_judged,
        )

    def _pause_judged(self) -> None:
        self._judged = True
        self._awake()

    def _finish(self, segment: ListeningSegment | None) -> None:
        self._stopping = False
        if segment is not None:
            segment.stop()
            self._note_voice(segment)
            if self._segment is segment:
                self._segment = None
        elif self.mode is ListenMode.MANUAL:
            self._sink.utterance_dropped("no sound")
