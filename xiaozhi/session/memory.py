"""Saves what a visit left behind, off the hot path and without losing it when the server stops.

Not a memory provider: it only sees to it that `Memory.save` is called once per visit, by few workers, with a bounded
backlog. What cannot be saved before the process ends is written to `pending-memories.jsonl` in the data directory and
taken up by the next start."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from gevent.event import Event
from gevent.queue import Empty, Full, Queue

from xiaozhi.chat import Message
from xiaozhi.errors import Overloaded, VendorError
from xiaozhi.providers.contracts.memory import Memory
from xiaozhi.runtime.logs import get_logger
from xiaozhi.runtime.tasks import Tasks

log = get_logger(__name__)

MAX_WAITING = 500
WORKERS = 4
PENDING_FILE = "pending-memories.jsonl"

_Job = tuple[Memory, str, tuple[Message, ...], str]


class MemoryWriter:
    """A bounded queue of finished visits. Overflow goes to disk at once: nothing is dropped."""

    def __init__(self, data_dir: Path, *, workers: int = WORKERS) -> None:
        self._path = data_dir / PENDING_FILE
        self._queue: Queue[_Job] = Queue(MAX_WAITING)
        self._tasks = Tasks()
        self._workers = workers
        self._busy: dict[int, _Job] = {}
        self._progress = Event()
        self.saved = 0
        self.failed = 0

    @property
    def waiting(self) -> int:
        """Visits not saved yet."""
        return int(self._queue.qsize()) + len(self._busy)

    def start(self, memory: Callable[[], Memory]) -> None:
        """Take up what an earlier process could not save (with today's provider); what the queue cannot hold waits on
        disk again."""
        for device_id, messages, session_id in self._take_pending():
            self.save(memory(), device_id, messages, session_id)

    def save(self, memory: Memory, device_id: str, messages: Sequence[Message], session_id: str) -> None:
        """Hand in a visit; never blocks."""
        if not messages or not memory.traits.remembers:
            return
        job = (memory, device_id, tuple(messages), session_id)
        try:
            self._queue.put_nowait(job)
        except Full:
            self._spill([job])
            return
        if len(self._tasks) < self._workers:
            self._tasks.spawn("memory-writer", self._work)

    def settle(self, memory: Memory, seconds: float) -> bool:
        """Wait until nothing is left to be saved with `memory`, at most `seconds`; True when nothing is."""
        until = time.monotonic() + seconds
        while any(job[0] is memory for job in (*self._queue.queue, *self._busy.values())):
            self._progress.clear()
            if not self._progress.wait(timeout=max(0.0, until - time.monotonic())):
                return False
        return True

    def flush(self, seconds: float) -> bool:
        """Wait for the backlog at most `seconds`, then put the rest on disk; True when nothing had to be."""
        until = time.monotonic() + seconds
        if self._tasks.join(timeout=max(0.0, until - time.monotonic())) and self._queue.empty():
            return True
        left = list(self._busy.values())
        self._tasks.kill(timeout=1.0)
        while True:
            try:
                left.append(self._queue.get_nowait())
            except Empty:
                break
        self._spill(left)
        return not left

    def _work(self) -> None:
        while True:
            try:
                job = self._queue.get_nowait()
            except Empty:
                return
            self._busy[id(job)] = job
            memory, device_id, messages, session_id = job
            try:
                memory.save(device_id, messages, session_id)
                self.saved += 1
            except (VendorError, Overloaded) as error:
                self.failed += 1
                log.warning("memory not saved", vendor=memory.name, error=str(error)[:200])
                if isinstance(error, Overloaded) or error.retryable:
                    self._spill([job])
            except Exception:
                # A bug in one provider must not cost the visits that wait behind this one.
                self.failed += 1
                log.exception("memory not saved")
            finally:
                self._busy.pop(id(job), None)
                self._progress.set()

    def _spill(self, jobs: Sequence[_Job]) -> None:
        if not jobs:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            for _, device_id, messages, session_id in jobs:
                said = [
                    [message.role, message.content]
                    for message in messages
                    if message.role in ("user", "assistant") and message.content
                ]
                file.write(
                    json.dumps({"device": device_id, "session": session_id, "said": said}, ensure_ascii=False) + "\n"
                )

    def _take_pending(self) -> list[tuple[str, list[Message], str]]:
        mine = self._path.with_suffix(f".{os.getpid()}.jsonl")
        try:
            # First the name: another worker that starts now must not take the same visits, nor one that stops add to a
            # file about to go.
            self._path.replace(mine)
        except FileNotFoundError:
            return []
        lines = mine.read_text(encoding="utf-8").splitlines()
        mine.unlink()
        pending = []
        for line in lines:
            try:
                entry = json.loads(line)
                messages = [
                    Message(role, str(content)) for role, content in entry["said"] if role in ("user", "assistant")
                ]
                pending.append((str(entry["device"]), messages, str(entry["session"])))
            except (ValueError, KeyError, TypeError):
                log.warning("unreadable pending memory skipped")
        return pending
