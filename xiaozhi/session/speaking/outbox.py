"""Outbox: the only thing that writes to a device. An urgent lane for control, a paced lane for an answer, and a gate
between turns.

    urgent(message) ───────────────────────────────► [urgent lane] ─┐
    message / frames / mark(turn) ─► gate ─► [paced lane, in order] ─┴─► writer ─► socket

Not a queue between turns: only one turn is open at a time, so whatever lies in the paced lane is its own, and shutting
it empties the lane. The gate is looked at right before each send with nothing in between that could switch greenlets,
so a frame of a turn that was shut is never *begun* to be sent. When a frame is due is decided in speech/pacing.py; here
is only the clock and the waiting.

Overflow: the urgent lane never blocks; when it is full the device does not read, `on_overflow` is told, and the message
is dropped. The paced lane blocks whoever fills it (back-pressure up to the synthesiser) and gives up after
`ROOM_DEADLINE_S` without any room.

The writer greenlet is spawned by the first thing to send and ends after a short linger, so a device that only listens
costs its reader. Per frame it costs one timer, one `send_binary` and a handful of float operations; nothing is logged,
locked or counted by label here."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from gevent.event import Event

from xiaozhi.errors import ConnectionClosed, TurnClosed
from xiaozhi.protocol.frames import FrameCodec
from xiaozhi.protocol.messages import Sendable, encode
from xiaozhi.runtime.alarm import Alarm, HubAlarm
from xiaozhi.runtime.logs import get_logger
from xiaozhi.runtime.tasks import Tasks
from xiaozhi.speech.pacing import PREBUFFER_FRAMES, Pacer

log = get_logger(__name__)

LINGER_S: Final = 1.0
ROOM_DEADLINE_S: Final = 30.0
AHEAD_MS: Final = 960
"""Sound that the paced lane holds. Whoever fills it is let on when half of that is left, so nobody makes much more than
a second of sound ahead of its time: when many devices are answered in the same instant, the second second of one is not
encoded before the first of another (docs/performance.md)."""
# A timer may fire this much early; waiting again for so little would cost more than it is worth.
_EARLY_S: Final = 0.001
_MAX_SHUT_AHEAD: Final = 64
TOO_LATE_S: Final = 0.05
"""Short of one frame of the least pre-buffer."""


@dataclass(slots=True)
class OutboxStats:
    """What one device was sent; read by metrics, never reset."""

    frames: int = 0
    frame_bytes: int = 0
    messages: int = 0
    starved: int = 0
    """How often a device ran out of sound in the middle of a sentence, because there was none."""
    pauses: int = 0
    """The same at the end of a sentence."""
    server_late: int = 0
    """Frames that were sent `TOO_LATE_S` after they were due, or when the device had run out of sound, because this
    process was busy."""
    slow_sends: int = 0
    """Frames that the socket took so long to take."""
    dropped: int = 0
    """Frames and messages that a shut gate kept from being sent."""
    late_total_s: float = 0.0
    late_max_s: float = 0.0
    """Lateness of a frame: from when it was due until the socket had taken it."""


class _Turn:
    """What the outbox knows of the turn that may send."""

    __slots__ = ("drained", "id", "news", "pacer", "played_ms", "shut", "told_at")

    def __init__(self, turn_id: int, pacer: Pacer) -> None:
        self.id = turn_id
        self.pacer = pacer
        self.shut = False
        self.drained = False
        self.news = Event()
        self.played_ms = 0.0
        self.told_at = 0
        """Frames in front of the last message: where a sentence begins."""

    def all_sent(self) -> None:
        self.drained = True
        self.news.set()


class Outbox:
    """See the module. `send_text` and `send_binary` block at most the send deadline and raise ConnectionClosed.

    `frame_ms`: the sound in one frame. `ahead_ms`: the sound that may wait for its time. `fixed_delay_ms`: the existing
    server's `tts_audio_send_delay`, 0 for exact pacing. `on_frame` is told each frame's lateness in seconds, from the
    writer; it must be quick.

    `stats`: where to count. `lead` is asked at each turn how many frames to be ahead, where that is more than
    `prebuffer_frames`.

    `on_sent` is told each frame that the socket has taken: (packet, timestamp). The packet is Opus or s16le PCM in the
    device's format, without the framing of the wire; the timestamp (ms) is that of the turn's playback clock, which the
    device gets with the frame and sends back with what its microphone hears meanwhile. For an echo canceller; called
    from the writer, so it must be quick and raise nothing. It may be set or taken away at any time."""

    def __init__(
        self,
        *,
        send_text: Callable[[str], None],
        send_binary: Callable[[bytes], None],
        codec: FrameCodec,
        session_id: str,
        frame_ms: int,
        tasks: Tasks,
        on_overflow: Callable[[str], None],
        prebuffer_frames: int = PREBUFFER_FRAMES,
        lead: Callable[[], int] | None = None,
        stats: OutboxStats | None = None,
        fixed_delay_ms: float = 0,
        max_urgent: int = 256,
        ahead_ms: int = AHEAD_MS,
        linger_s: float = LINGER_S,
        on_frame: Callable[[float], None] | None = None,
        on_sent: Callable[[bytes, int], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        alarm: Alarm | None = None,
    ) -> None:
        self._send_text = send_text
        self._send_binary = send_binary
        self._codec = codec
        self._session_id = session_id
        self._frame_ms = frame_ms
        self._tasks = tasks
        self._on_overflow = on_overflow
        self.prebuffer_frames = prebuffer_frames
        """Frames sent ahead of time; a change counts from the next turn on."""
        self._lead = lead
        self.line_open = False
        """A gateway connects this device with another: ends of answers are not told, or it would begin to listen."""
        self._fixed_delay_ms = fixed_delay_ms
        self._max_urgent = max_urgent
        self._max_frames = max(prebuffer_frames + 1, ahead_ms // frame_ms)
        self._linger_s = linger_s
        self._on_frame = on_frame
        self.on_sent = on_sent
        self._clock = clock
        self._alarm: Alarm = alarm if alarm is not None else HubAlarm()
        # bytes: a packet; str: a message; a callable: a mark.
        self._urgent: deque[str | Callable[[], None]] = deque()
        self._lane: deque[bytes | str | Callable[[], None]] = deque()
        self._turn: _Turn | None = None
        self._last: _Turn | None = None
        self._opened_through = 0
        self._shut_ahead: set[int] = set()
        self._due: float | None = None
        self._filled_at = 0.0
        """When there was something in the paced lane again."""
        self._room = Event()
        self._waiting_for_room = 0
        self._writing = False
        self._closed = False
        self.stats = stats if stats is not None else OutboxStats()

    # --- what it holds ------------------------------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """True once the socket is gone or `close` was called; nothing is sent any more."""
        return self._closed

    @property
    def queued_frames(self) -> int:
        """Frames of the open turn that wait for their time."""
        return sum(type(item) is bytes for item in self._lane)

    @property
    def queued_bytes(self) -> int:
        """What both lanes hold."""
        return sum(len(item) for lane in (self._urgent, self._lane) for item in lane if isinstance(item, bytes | str))

    def played_ms(self, turn_id: int) -> float:
        """How much of this turn's sound the device has had time to play; stays what it was when the turn was shut."""
        turn = self._turn
        if turn is not None and turn.id == turn_id:
            return turn.pacer.played_ms(self._clock())
        turn = self._last
        return turn.played_ms if turn is not None and turn.id == turn_id else 0.0

    def sent_ms(self, turn_id: int) -> float:
        """How much of this turn's sound was sent so far, while it is open; 0 before and after."""
        turn = self._turn
        return turn.pacer.frames * self._frame_ms if turn is not None and turn.id == turn_id else 0.0

    # --- the gate -----------------------------------------------------------------------------------------------------

    def open_turn(self, turn_id: int) -> None:
        """This turn may send; whichever could before is shut. Turns open in the order of their ids, each once.

        Raises TurnClosed for a turn that was shut before it opened, or that a later one has replaced."""
        turn = self._turn
        if turn is not None and turn.id == turn_id:
            return
        if self._closed or turn_id <= self._opened_through or turn_id in self._shut_ahead:
            raise TurnClosed(f"turn {turn_id} may not open")
        if turn is not None:
            self.shut_turn(turn.id)
        self._opened_through = turn_id
        self._shut_ahead = {ahead for ahead in self._shut_ahead if ahead > turn_id}
        pacer = Pacer(
            self._frame_ms,
            prebuffer_frames=self.prebuffer_frames,
            lead_frames=self._lead() if self._lead is not None else 0,
            fixed_delay_ms=self._fixed_delay_ms,
        )
        self._turn = _Turn(turn_id, pacer)

    def shut_turn(self, turn_id: int) -> None:
        """Nothing of this turn is ever sent again, from now on; what it had queued is gone. Idempotent, never
        blocks."""
        turn = self._turn
        if turn is None or turn.id != turn_id:
            if turn_id > self._opened_through and not self._closed:
                if len(self._shut_ahead) >= _MAX_SHUT_AHEAD:
                    self._shut_ahead.discard(min(self._shut_ahead))
                self._shut_ahead.add(turn_id)
            return
        turn.played_ms = turn.pacer.played_ms(self._clock())
        turn.shut = True
        self._turn = None
        self._last = turn
        self._due = None
        self.stats.dropped += sum(not callable(item) for item in self._lane)
        self._lane.clear()
        turn.news.set()
        self._room.set()

    # --- what is to be sent -------------------------------------------------------------------------------------------

    def urgent(self, message: Sendable) -> None:
        """Send before everything that waits, at once. Never blocks; when the lane is full, `on_overflow` is told and it
        is dropped."""
        if self._closed:
            return
        if len(self._urgent) >= self._max_urgent:
            self._on_overflow("slow reader")
            return
        self._urgent.append(encode(message, self._session_id))
        self._wake()

    def flush(self, seconds: float) -> bool:
        """Wait until the socket has taken every urgent message, at most `seconds`; True when it has."""
        if self._closed or not (self._writing or self._urgent):
            return not self._closed
        sent = Event()
        self._urgent.append(sent.set)
        self._wake()
        return bool(sent.wait(timeout=seconds))

    def message(self, turn_id: int, message: Sendable) -> None:
        """Send in order with this turn's frames. Blocks while the lane is full. Raises TurnClosed."""
        self._put(turn_id, encode(message, self._session_id))

    def mark(self, turn_id: int, callback: Callable[[], None]) -> None:
        """Call `callback` in the writer once everything queued before it was sent. Blocks like `message`. Raises
        TurnClosed."""
        self._put(turn_id, callback)

    def frames(self, turn_id: int, packets: Sequence[bytes]) -> None:
        """Send packets, each `frame_ms` of sound, when they are due. Blocks while the lane is full. Raises
        TurnClosed."""
        self._admit(turn_id)
        lane, total, done = self._lane, len(packets), 0
        while done < total:
            room = self._max_frames - len(lane)
            if room <= 0:
                self._wait_for_room(turn_id)
                continue
            idle = not lane
            lane.extend(map(bytes, packets[done : done + room]))
            done += room
            if idle:
                self._filled_at = self._clock()
                self._wake()

    def finish(self, turn_id: int, deadline: float) -> bool:
        """Wait until the device has had time to play all that was queued; False when that takes longer than `deadline`
        seconds.

        Raises TurnClosed when the turn is shut meanwhile."""
        turn = self._admit(turn_id)
        until = self._clock() + deadline
        turn.drained = False
        self.mark(turn_id, turn.all_sent)
        while True:
            now = self._clock()
            left = until - now
            if turn.drained:
                heard = turn.pacer.ended_at() - now
                if heard <= 0:
                    return True
                left = min(left, heard)
            if now >= until:
                return False
            turn.news.wait(timeout=left)
            turn.news.clear()
            if turn.shut:
                raise TurnClosed(f"turn {turn_id} is shut")

    def take_back(self, turn_id: int) -> None:
        """Drop what this turn has queued, from its first frame that waits on; the turn goes on. Never blocks."""
        turn, lane = self._turn, self._lane
        if turn is None or turn.id != turn_id:
            return
        # In front of them stand the messages that open the turn.
        first = next((at for at, item in enumerate(lane) if not isinstance(item, str)), len(lane))
        self.stats.dropped += sum(not callable(item) for item in islice(lane, first, None))
        while len(lane) > first:
            lane.pop()
        self._due = None
        self._room.set()

    def close(self) -> None:
        """Send nothing more and let everybody who waits go (with TurnClosed). Idempotent, never blocks."""
        if self._closed:
            return
        if self._turn is not None:
            self.shut_turn(self._turn.id)
        self._closed = True
        self._urgent.clear()
        self._lane.clear()
        self._shut_ahead.clear()
        self._room.set()
        self._alarm.ring()

    def _admit(self, turn_id: int) -> _Turn:
        turn = self._turn
        if turn is None or turn.id != turn_id:
            raise TurnClosed(f"turn {turn_id} is shut")
        return turn

    def _put(self, turn_id: int, item: str | Callable[[], None]) -> None:
        self._admit(turn_id)
        while len(self._lane) >= self._max_frames:
            self._wait_for_room(turn_id)
        idle = not self._lane
        self._lane.append(item)
        if idle:
            self._filled_at = self._clock()
            self._wake()

    def _wait_for_room(self, turn_id: int) -> None:
        self._room.clear()
        self._waiting_for_room += 1
        try:
            if not self._room.wait(timeout=ROOM_DEADLINE_S):
                self._on_overflow("stuck outbox")
                self.close()
        finally:
            self._waiting_for_room -= 1
        self._admit(turn_id)

    def _wake(self) -> None:
        if self._writing:
            self._alarm.ring()
        else:
            self._writing = True
            self._tasks.spawn("writer", self._write)

    # --- the writer's greenlet ----------------------------------------------------------------------------------------

    def _write(self) -> None:
        finished = False
        try:
            finished = self._write_until_idle()
        except ConnectionClosed:
            log.debug("outbox ends with its socket")
        except Exception:
            # A device that can be heard but not spoken to is worse off than one that has to connect again.
            self._on_overflow("outbox failed")
            raise
        finally:
            self._writing = False
            if not finished:
                self.close()  # the socket is gone, or the writer was killed

    def _write_until_idle(self) -> bool:
        """True after a linger without work; False when the outbox was closed."""
        urgent, lane, clock, alarm, stats = self._urgent, self._lane, self._clock, self._alarm, self.stats
        low_water = self._max_frames // 2
        while not self._closed:
            if urgent:
                message = urgent.popleft()
                if isinstance(message, str):
                    stats.messages += 1
                    self._send_text(message)
                else:
                    self._call(message)
                continue
            if not lane:
                alarm.wait(self._linger_s)
                if not urgent and not lane and not self._closed:
                    return True
                continue
            item = lane[0]
            now = clock()
            due = self._due
            if due is None:
                # A message or mark waits with the frame behind it, if there is one: a subtitle comes with its sound,
                # not before.
                if type(item) is bytes or self.queued_frames:
                    assert self._turn is not None
                    due = self._due = self._turn.pacer.due(now)
                else:
                    due = now
            if due - now > _EARLY_S:
                alarm.wait(due - now)
                continue
            lane.popleft()
            if type(item) is bytes:
                self._due = None
                self._send_frame(item, now, due)
            elif isinstance(item, str):
                stats.messages += 1
                if self._turn is not None:
                    self._turn.told_at = self._turn.pacer.frames
                self._send_text(item)
            elif callable(item):
                self._call(item)
            if self._waiting_for_room and len(lane) <= low_water:
                self._room.set()
        return False

    def _send_frame(self, packet: bytes, now: float, due: float) -> None:
        # From here to send_binary nothing may switch greenlets: the turn is open, and stays so until the socket has the
        # frame.
        turn = self._turn
        assert turn is not None
        pacer = turn.pacer
        # The playback clock counts from one frame on: 0 means "no timestamp" to firmware with echo cancelling on the
        # server.
        timestamp = (pacer.frames + 1) * self._frame_ms
        self._send_binary(self._codec.pack(packet, timestamp))
        ended = self._clock()
        underruns = pacer.underruns
        pacer.sent(now, ended)
        late = ended - due
        stats = self.stats
        if late > TOO_LATE_S or pacer.underruns != underruns:
            self._note_gap(turn, now - max(due, self._filled_at), ended - now, pacer.underruns != underruns)
        stats.frames += 1
        stats.frame_bytes += len(packet)
        if late < 0.0:
            late = 0.0
        stats.late_total_s += late
        if late > stats.late_max_s:
            stats.late_max_s = late
        if self._on_frame is not None:
            self._on_frame(late)
        if self.on_sent is not None:
            self.on_sent(packet, timestamp)

    def _note_gap(self, turn: _Turn, waited_s: float, took_s: float, dry: bool) -> None:
        """A frame was sent too late: `waited_s` after it was due and there; the socket took it within `took_s`; `dry`:
        the device had nothing left to play."""
        stats = self.stats
        if max(waited_s, took_s) > TOO_LATE_S:
            if waited_s > took_s:
                stats.server_late += 1
            else:
                stats.slow_sends += 1
        elif dry and turn.told_at == turn.pacer.frames - 1:
            stats.pauses += 1
        elif dry:
            stats.starved += 1

    @staticmethod
    def _call(mark: Callable[[], None]) -> None:
        try:
            mark()
        except Exception:
            # The device must not lose its voice over somebody's bookkeeping.
            log.exception("mark failed")
