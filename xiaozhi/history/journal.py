"""The journal of what was said: on the disk before it goes anywhere else.

    append, end ─► [waiting, bounded] ─► writer: a batch ─► journal's thread: write, fsync
                                                                └─► read ─► a sink ─► take

`append` never blocks and never fails. A turn is acknowledged (`kept`) once it is on the disk, some `GATHER_S` later:
what was acknowledged survives a kill at any moment and is delivered at the next start, by whichever process of the
machine takes the directory over.

Not a store: whatever every sink has been given is removed, at the latest `RENEW_S` after it. While the disk is full or
cannot be written, turns wait in memory, of which there is a bound; beyond it the oldest sounds are dropped, then the
oldest turns. Both are counted, and `failing` raises an alert. No conversation ever waits for it. A journal that is
never asked to keep anything makes no file and no thread."""

from __future__ import annotations

import contextlib
import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gevent import Greenlet
from gevent.event import Event
from gevent.lock import BoundedSemaphore

from xiaozhi.errors import Overloaded, VendorTimeout
from xiaozhi.history.encoding import body_of, compressed, packed, packed_voices, record_of
from xiaozhi.history.entries import EndedSession, HistoryEntry, KeptSound, SessionInfo
from xiaozhi.history.segments import Segments
from xiaozhi.runtime import tasks
from xiaozhi.runtime.inference import InferenceClosed, InferencePool
from xiaozhi.runtime.logs import get_logger

log = get_logger(__name__)

GATHER_S: Final = 0.1
"""From the first turn to the writing of it and what came meanwhile."""
BATCH: Final = 64
RENEW_S: Final = 60.0
"""So long after the last delivery nothing of it is left in the journal."""
NOTE_S: Final = 1.0
"""From a delivery to the note of it: what is killed in between is delivered again."""
_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 30.0
"""Between two tries while the disk fails; it begins with twice `_PAUSE_S` and doubles."""
MEMORY_BYTES: Final = 32 * 1024 * 1024
"""What may wait in memory, sounds included."""
MAX_WAITING: Final = 20_000
"""Records that may wait in memory."""
THREAD_S: Final = 30.0
"""For one job of the thread. A batch that took longer may be written twice; keys tell."""
_RECORD_BYTES: Final = 2_000
"""What a record without sound takes in memory, about."""
READ_BYTES: Final = 8 * 1024 * 1024
"""Of sound that is read in one go."""

_FAILURES: Final = (OSError, VendorTimeout, Overloaded, InferenceClosed)

Record = HistoryEntry | EndedSession


@dataclass(slots=True, eq=False)
class _Waiting:
    record: Record
    sound: bytes
    """PCM, or what is in `packed`."""
    packed: bytes | None = None
    voices: bytes = b""

    @property
    def size(self) -> int:
        return _RECORD_BYTES + self.sound_bytes

    @property
    def sound_bytes(self) -> int:
        return len(self.sound) + len(self.voices)

    def drop_sounds(self) -> None:
        self.sound = self.voices = b""


class Journal:
    """`start`; `append` and `end` while sessions live; `read` and `take` for those who deliver; `close`.

    `directory`: of all journals of the machine's processes. `max_bytes`: of this one's files."""

    def __init__(
        self,
        directory: Path,
        *,
        max_bytes: int,
        memory_bytes: int = MEMORY_BYTES,
        max_waiting: int = MAX_WAITING,
        gather: float = GATHER_S,
    ) -> None:
        self.kept = 0
        """Turns and ends of sessions that are on the disk; only rises."""
        self.lost = 0
        """Turns that were dropped from memory because the disk failed for too long."""
        self.lost_sounds = 0
        self.failing = ""
        """Why nothing can be written now; "" when all is well."""
        self._directory = directory
        self._files = Segments(directory, max_bytes=max_bytes)
        self._memory_bytes = memory_bytes
        self._max_waiting = max_waiting
        self._gather = gather
        self._thread = InferencePool(1, 64, reserved=0, name="journal")
        self._thread_started = False
        self._waiting: deque[_Waiting] = deque()
        self._sounding: deque[_Waiting] = deque()
        """Those of them that have sound."""
        self._writing: list[_Waiting] = []
        self._bytes = 0
        self._wanted = Event()
        self._closing = Event()
        self._writer: Greenlet | None = None
        self._one_at_a_time = BoundedSemaphore(1)
        self._opened = False
        self._taken: dict[str, int] = {}
        self._sinks: tuple[str, ...] = ()
        self._on_written: list[Callable[[], None]] = []
        self._newest = 0
        self._size = 0
        self._tidy_at = math.inf
        """When the writer looks after what was delivered (monotonic seconds)."""
        self._renew_at = 0.0
        """When nothing that was delivered is to be left in the files."""
        self._beat = time.monotonic()

    # --- its life -----------------------------------------------------------------------------------------------------

    def start(self, sinks: Sequence[str], on_written: Callable[[], None], *, soon: bool = True) -> None:
        """Begin; take over what earlier processes left. `sinks`: who is to be given everything; `on_written` is called
        whenever there is more to read. `soon`: there will be something to keep; else nothing is made before that.
        Blocks while old journals are read; raises nothing: a disk that cannot be used is logged and tried again."""
        self._sinks = tuple(sinks)
        self._on_written.append(on_written)
        if soon or self._directory.exists():
            self.revive()
            if self._open_files():
                on_written()

    @property
    def beat(self) -> float:
        """When the writer last began a round (monotonic seconds); now, while it has nothing to do."""
        return self._beat if self._waiting or self._writing else time.monotonic()

    def revive(self) -> None:
        """Have a writer, in the place of one that has failed or hangs."""
        if self._writer is not None:
            self._writer.kill(block=False)
        self._beat = time.monotonic()
        self._writer = tasks.spawn("history-journal", self._work)

    def flush(self, seconds: float) -> bool:
        """Have everything written that was handed in; waits at most about `seconds`; False when it could not be."""
        until = time.monotonic() + seconds
        while self.waiting and time.monotonic() < until:
            if not self._write(max(0.0, until - time.monotonic())):
                break
        return not self.waiting

    def close(self, seconds: float) -> int:
        """Write what waits and stop, within about `seconds`; how many records were lost. Idempotent."""
        self._closing.set()
        self._wanted.set()
        if self._writer is not None:
            self._writer.join(timeout=seconds)
            tasks.end(self._writer)
            self._writer = None
        self.flush(seconds)
        left = self.waiting
        if left:
            self.lost += left
            log.error("history lost at the stop of the server", count=left, why=self.failing)
            self._waiting.clear()
            self._sounding.clear()
        if self._thread_started:
            with contextlib.suppress(*_FAILURES):
                self._thread.run(self._shut, self._account(), kind="other", deadline=seconds)
            self._thread.close(seconds)
            self._thread_started = False
        return left

    # --- handing in ---------------------------------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """Records that are not on the disk yet."""
        return len(self._waiting) + len(self._writing)

    def append(self, entry: HistoryEntry, sound: bytes | KeptSound = b"", voices: Sequence[KeptSound] = ()) -> None:
        """Keep a turn. `sound`: the user's, s16le, mono, 16 kHz, which is encoded, or in packets already; empty:
        none. `voices`: see HistoryEntry."""
        together = packed(sound) if isinstance(sound, KeptSound) else None
        said = sound if isinstance(sound, bytes) else together or b""
        self._hand_in(_Waiting(entry, said, together, packed_voices(voices)))

    def end(self, ended: EndedSession) -> None:
        """A session is over; all its turns were handed in before."""
        self._hand_in(_Waiting(ended, b""))

    def _hand_in(self, item: _Waiting) -> None:
        if self._closing.is_set():
            self.lost += 1
            return
        self._waiting.append(item)
        self._bytes += item.size
        if item.sound_bytes:
            self._sounding.append(item)
        if self._bytes > self._memory_bytes or len(self._waiting) > self._max_waiting:
            self._make_room()
        if self._writer is None or self._writer.dead:
            self.revive()
        if not self._wanted.is_set():
            self._wanted.set()

    def _make_room(self) -> None:
        while self._bytes > self._memory_bytes and self._sounding:
            item = self._sounding.popleft()
            if item.sound_bytes:
                self._bytes -= item.sound_bytes
                item.drop_sounds()
                self.lost_sounds += 1
        while self._waiting and (self._bytes > self._memory_bytes or len(self._waiting) > self._max_waiting):
            self._bytes -= self._waiting.popleft().size
            if not self.lost:
                log.error("history is lost, further turns are only counted", why=self.failing)
            self.lost += 1

    # --- delivering ---------------------------------------------------------------------------------------------------

    @property
    def newest(self) -> int:
        """The number of the newest record that can be read."""
        return self._newest

    @property
    def size(self) -> int:
        """Bytes of its files."""
        return self._size

    @property
    def dropped(self) -> tuple[int, int]:
        """(records, sounds) that were removed before everybody had been given them, as the journal had no room."""
        return self._files.dropped_records, self._files.dropped_sounds

    def taken(self, sink: str) -> int:
        """Up to this number `sink` has been given everything."""
        return self._taken.get(sink, 0)

    def take(self, sink: str, through: int) -> None:
        """`sink` has been given everything up to this number; what all have been given is removed soon."""
        self._taken[sink] = through
        now = time.monotonic()
        self._renew_at = now + RENEW_S
        self._tidy_at = min(self._tidy_at, now + NOTE_S)
        if not self._wanted.is_set():
            self._wanted.set()

    def read(self, after: int, limit: int) -> list[tuple[int, Record | None]]:
        """The records behind number `after`, with their numbers; None for one that only a later version understands.
        Blocks for the thread; empty when there is nothing to read, or the disk fails."""
        if not self._opened or after >= self._newest:
            return []
        try:
            return self._thread.run(self._read, after, limit, kind="other", deadline=THREAD_S)
        except _FAILURES as error:
            self._failed(error)
            return []

    # --- the writer ---------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        pause = self._gather
        while not self._closing.is_set():
            self._beat = time.monotonic()
            left = self._tidy_at - time.monotonic()
            self._wanted.wait(timeout=None if left == math.inf else max(0.0, left))
            self._wanted.clear()
            if self._waiting:
                self._closing.wait(timeout=pause)
                pause = self._gather if self._write(THREAD_S) else min(max(pause, _PAUSE_S) * 2, LONGEST_PAUSE_S)
                if self._waiting:
                    self._wanted.set()
            if time.monotonic() >= self._tidy_at:
                self._tidy()

    def _write(self, deadline: float) -> bool:
        """Write one batch; False when the disk fails, and then it waits on."""
        with self._one_at_a_time:
            if not self._open_files():
                return False
            batch = self._writing = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
            try:
                self._newest, self._size = self._thread.run(
                    self._append, batch, self._account(), kind="other", deadline=deadline
                )
            except BaseException as error:
                self._waiting.extendleft(reversed(batch))
                if isinstance(error, _FAILURES):
                    self._failed(error)
                    return False
                raise
            finally:
                self._writing = []
            self._let_go(batch)
        self.kept += len(batch)
        self._works()
        for tell in self._on_written:
            tell()
        return True

    def _let_go(self, batch: Sequence[_Waiting]) -> None:
        for item in batch:
            self._bytes -= item.size
            item.drop_sounds()
        while self._sounding and not self._sounding[0].sound_bytes:
            self._sounding.popleft()

    def _tidy(self) -> None:
        """Note what was delivered; a while later remove it."""
        renew = time.monotonic() >= self._renew_at
        self._tidy_at = math.inf if renew else self._renew_at
        try:
            self._size = self._thread.run(self._forget, self._account(), renew, kind="other", deadline=THREAD_S)
        except _FAILURES as error:
            self._tidy_at = time.monotonic() + LONGEST_PAUSE_S
            self._failed(error)

    def _account(self) -> tuple[Mapping[str, int], int]:
        return dict(self._taken), min((self.taken(sink) for sink in self._sinks), default=0)

    def _open_files(self) -> bool:
        """Have the directory; False when that fails."""
        if self._opened:
            return True
        try:
            self._start_thread()
            opened = self._thread.run(self._open, kind="other", deadline=THREAD_S)
        except _FAILURES as error:
            self._failed(error)
            return False
        self._newest, self._size, self._taken = opened
        self._opened = True
        files = self._files
        if self._newest:
            log.info(
                "history of earlier processes", records=self._newest, of_others=files.taken_over, cut_off=files.cut_off
            )
        return True

    def _start_thread(self) -> None:
        if not self._thread_started:
            self._thread_started = True
            self._thread.start()

    def _failed(self, error: Exception) -> None:
        reason = (error.strerror if isinstance(error, OSError) else "") or str(error)
        if not self.failing:
            log.error(
                "history cannot be written, it waits in memory",
                why=reason,
                directory=str(self._directory),
                remedy="free space on this disk, or make the directory writable",
            )
        self.failing = reason

    def _works(self) -> None:
        if self.failing:
            log.warning("history is written again", lost=self.lost, lost_sounds=self.lost_sounds)
        self.failing = ""

    # --- on the journal's thread: nothing of gevent -------------------------------------------------------------------

    def _open(self) -> tuple[int, int, dict[str, int]]:
        files = self._files
        files.claim()
        self._end_sessions()
        return files.last, files.size, dict(files.taken)

    def _end_sessions(self) -> None:
        """Sessions that a kill has ended are over, too."""
        open_sessions: dict[str, tuple[SessionInfo, float, int]] = {}
        after = 0
        while stored := self._read(after, BATCH, sounds=False):
            after = stored[-1][0]
            for _, record in stored:
                if record is None:
                    continue
                if isinstance(record, EndedSession):
                    open_sessions.pop(record.session.id, None)
                else:
                    turns = open_sessions.get(record.session.id, (None, 0.0, 0))[2]
                    open_sessions[record.session.id] = record.session, record.at, turns + 1
        ends = [EndedSession(*facts) for facts in open_sessions.values()]
        if ends:
            self._files.write([(body_of(end), None) for end in ends])

    def _append(self, batch: Sequence[_Waiting], account: tuple[Mapping[str, int], int]) -> tuple[int, int]:
        files = self._files
        records: list[tuple[dict[str, Any], bytes | None]] = []
        for item in batch:
            if item.sound and item.packed is None:
                item.packed = packed(compressed(item.sound))
            said = item.packed if item.sound and item.packed else b""
            records.append((body_of(item.record), said + item.voices or None))
        files.forget(*account)
        files.write(records)
        with contextlib.suppress(OSError):
            files.note_taken()
        return files.last, files.size

    def _forget(self, account: tuple[Mapping[str, int], int], renew: bool) -> int:
        files = self._files
        files.forget(*account)
        if renew:
            files.renew()
        else:
            files.note_taken()
        return files.size

    def _read(self, after: int, limit: int, sounds: bool = True) -> list[tuple[int, Record | None]]:
        found: list[tuple[int, Record | None]] = []
        for stored in self._files.read(after, limit, READ_BYTES, sounds=sounds):
            try:
                found.append((stored.number, record_of(stored.body, stored.sound)))
            except (KeyError, TypeError):
                found.append((stored.number, None))
        return found

    def _shut(self, account: tuple[Mapping[str, int], int]) -> None:
        files = self._files
        if files.claimed:
            with contextlib.suppress(OSError):
                files.forget(*account)
                files.note_taken()
            files.close()
