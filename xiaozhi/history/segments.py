"""The journal's files: an append-only log in segments, each a file of texts and, beside it, one of sounds.

    journal-0/  lock   0000000000000001.text  0000000000000001.sound   0000000000000094.text  ...

A record is a length, a checksum and JSON; a record with sound says where in the file of sounds it lies. What `write`
has returned from is on the disk (fsync): a process or a machine that dies later loses none of it. A record that was cut
off in the middle is skipped when the file is read, and so is whatever stands behind it.

Sounds have files of their own, because they go first when the journal reaches its size, or the disk is full: the oldest
file of sounds is removed, then the next one; only then the oldest texts.

Files are named by the first number in them. Every record has a number, rising by one; a file is removed when everybody
has been given all of it. One process owns a directory, by a lock that ends with it; `claim` also takes what dead
processes left. Everything here blocks: it belongs on the journal's thread and uses nothing of gevent."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import struct
import zlib
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

import orjson

_HEAD: Final = struct.Struct("<II")
"""Length and CRC-32 of the body."""
MAX_RECORD: Final = 16 * 1024 * 1024
"""Bytes; a length above this is damage."""
SEGMENTS: Final = 16
"""About so many fill the journal's size."""
MIN_SEGMENT: Final = 64 * 1024
AT_ONCE: Final = 100
"""Records that are taken over in one go."""
NAME: Final = "journal-"
_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True, slots=True)
class Stored:
    """One record as it is read. `sound`: None where there was none, or it is gone."""

    number: int
    body: Mapping[str, Any]
    sound: bytes | None


@dataclass(slots=True)
class _Segment:
    first: int
    text: Path
    numbers: list[int] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    text_bytes: int = 0
    sounds: int = 0
    sound_bytes: int = 0

    @property
    def sound(self) -> Path:
        return self.text.with_suffix(".sound")

    @property
    def size(self) -> int:
        return self.text_bytes + self.sound_bytes

    @property
    def last(self) -> int:
        return self.numbers[-1] if self.numbers else self.first - 1


class Segments:
    """One journal's files. `claim` first. `max_bytes`: of all files together."""

    def __init__(self, root: Path, *, max_bytes: int) -> None:
        self.dropped_sounds = 0
        self.dropped_records = 0
        """Removed for want of room before everybody had been given them."""
        self.cut_off = 0
        """Files of which the end cannot be read."""
        self.taken_over = 0
        """Records that dead processes had left."""
        self.taken: dict[str, int] = {}
        """Sink -> the number up to which it has been given everything."""
        self._root = root
        self._max_bytes = max_bytes
        self._segment_bytes = max(MIN_SEGMENT, max_bytes // SEGMENTS)
        self._directory: Path | None = None
        self._lock: IO[bytes] | None = None
        self._segments: list[_Segment] = []
        self._broken = True
        """There is no file to append to, or one that holds half a record."""
        self._noted: dict[str, int] = {}
        self._next = 1
        self._floor = 0
        """Up to here everybody has been given everything."""

    @property
    def claimed(self) -> bool:
        """Whether `claim` has succeeded."""
        return self._directory is not None

    @property
    def last(self) -> int:
        """The number of the newest record; 0 while there is none."""
        return self._next - 1

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(segment.size for segment in self._segments)

    def claim(self) -> None:
        """Become the owner of a directory, a new one if need be, and take over the records in it and in those whose
        owners are dead. Raises OSError."""
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        number = 0
        while not self._lock_directory(self._root / f"{NAME}{number}"):
            number += 1
        assert self._directory is not None
        for path in sorted(self._directory.glob("*.text")):
            self._recover(path)
        for other in sorted(self._root.glob(f"{NAME}*")):
            if other != self._directory:
                self._take_over(other)

    def write(self, records: Sequence[tuple[Mapping[str, Any], bytes | None]]) -> list[int]:
        """Append (body, sound) pairs; their numbers. They are on the disk when this returns. Raises OSError; then
        nothing has been appended."""
        room = sum(len(orjson.dumps(body)) + _HEAD.size + len(sound or b"") for body, sound in records)
        self._make_room(room)
        while True:
            try:
                return self._append(records)
            except OSError as error:
                self._undo()
                if error.errno not in _FULL or not self._drop_oldest_sound():
                    raise

    def read(self, after: int, limit: int, max_bytes: int, *, sounds: bool = True) -> list[Stored]:
        """The records behind number `after`, at most `limit`, and about `max_bytes` (but one); with their `sounds`, or
        without. Raises OSError."""
        found: list[Stored] = []
        size = 0
        for segment in self._segments:
            at = bisect_right(segment.numbers, after)
            if at == len(segment.numbers):
                continue
            with segment.text.open("rb") as file, _sounds_of(segment) as sound_file:
                for index in range(at, len(segment.numbers)):
                    if len(found) >= limit or size >= max_bytes:
                        return found
                    file.seek(segment.offsets[index])
                    body = _next_body(file)
                    if body is None:
                        raise OSError(errno.EIO, "a record cannot be read again", str(segment.text))
                    sound = _sound_at(sound_file, body.get("sound")) if sounds else None
                    found.append(Stored(segment.numbers[index], body, sound))
                    size += len(sound or b"") + 1_000
        return found

    def forget(self, taken: Mapping[str, int], floor: int) -> None:
        """Sinks have been given everything up to `taken`, all of them up to `floor`: what lies below is removed. The
        newest file stays, see `renew`."""
        self.taken = dict(taken)
        self._floor = floor
        while len(self._segments) > 1 and self._segments[0].last <= floor:
            self._remove(self._segments.pop(0))

    def note_taken(self) -> None:
        """Write down what sinks have been given, so that it is not given to them again after a kill. Not forced onto
        the disk. Raises OSError."""
        if not self._segments or self._broken or self._noted == self.taken:
            return
        line = _line({"taken": self.taken})
        try:
            _put(self._segments[-1].text, line, sync=False)
        except OSError:
            self._undo()
            raise
        self._segments[-1].text_bytes += len(line)
        self._noted = dict(self.taken)

    def renew(self) -> None:
        """Remove also the newest file, if everybody has been given everything: what people said must not stay in a
        journal. Raises OSError."""
        if self._segments and self._segments[-1].numbers and self._segments[-1].last <= self._floor:
            self._begin_segment()
            self.forget(self.taken, self._floor)

    def close(self) -> None:
        """Give the directory back; removes it when nothing in it is wanted any more."""
        if self._directory is not None and all(segment.last <= self._floor for segment in self._segments):
            shutil.rmtree(self._directory, ignore_errors=True)
        if self._lock is not None:
            self._lock.close()
        self._directory = self._lock = None

    # --- directories --------------------------------------------------------------------------------------------------

    def _lock_directory(self, directory: Path) -> bool:
        lock = _locked(directory)
        if lock is not None:
            self._directory, self._lock = directory, lock
        return lock is not None

    def _recover(self, path: Path) -> None:
        """Learn what is in a file."""
        segment = _Segment(int(path.stem), path)
        end = 0
        for offset, after, body in self._bodies(path):
            end = after
            self.taken.update(body.get("taken", {}))
            number = body.get("n")
            if number is None:
                continue
            segment.numbers.append(number)
            segment.offsets.append(offset)
            segment.sounds += body.get("sound") is not None
        segment.text_bytes = path.stat().st_size
        segment.sound_bytes = segment.sound.stat().st_size if segment.sound.exists() else 0
        if segment.text_bytes > end:
            self.cut_off += 1
        self._segments.append(segment)
        self._next = max(self._next, segment.last + 1, segment.first)

    def _bodies(self, path: Path) -> Iterator[tuple[int, int, dict[str, Any]]]:
        with path.open("rb") as file:
            while True:
                offset = file.tell()
                body = _next_body(file)
                if body is None:
                    return
                yield offset, file.tell(), body

    def _take_over(self, directory: Path) -> None:
        """Append what a dead process left, then remove it."""
        lock = _locked(directory)
        if lock is None:
            return
        with lock:
            paths = sorted(directory.glob("*.text"))
            taken: dict[str, int] = {}
            for path in paths:
                for _, _, body in self._bodies(path):
                    taken.update(body.get("taken", {}))
            floor = min(taken.values(), default=0)
            for path in paths:
                with _sounds_of(_Segment(0, path)) as sounds:
                    left = [body for _, _, body in self._bodies(path) if body.get("n", 0) > floor]
                    for start in range(0, len(left), AT_ONCE):
                        piece = left[start : start + AT_ONCE]
                        self.write([(body, _sound_at(sounds, body.get("sound"))) for body in piece])
                    self.taken_over += len(left)
            shutil.rmtree(directory, ignore_errors=True)

    # --- writing ------------------------------------------------------------------------------------------------------

    def _append(self, records: Sequence[tuple[Mapping[str, Any], bytes | None]]) -> list[int]:
        if self._broken or self._segments[-1].size >= self._segment_bytes:
            self._begin_segment()
        segment = self._segments[-1]
        numbers: list[int] = []
        offsets: list[int] = []
        lines: list[bytes] = []
        sounds: list[bytes] = []
        at, sound_at = segment.text_bytes, segment.sound_bytes
        for body, sound in records:
            number = self._next + len(numbers)
            where = None if sound is None else [sound_at, len(sound), zlib.crc32(sound)]
            line = _line({**body, "n": number, "sound": where})
            numbers.append(number)
            offsets.append(at)
            lines.append(line)
            at += len(line)
            if sound is not None:
                sounds.append(sound)
                sound_at += len(sound)
        if sounds:
            _put(segment.sound, b"".join(sounds))
        _put(segment.text, b"".join(lines))
        segment.numbers += numbers
        segment.offsets += offsets
        segment.text_bytes, segment.sound_bytes = at, sound_at
        segment.sounds += len(sounds)
        self._next += len(numbers)
        return numbers

    def _undo(self) -> None:
        """Cut off what a failed `_append` may have left; where that fails too, go on in another file."""
        if self._broken:
            return
        segment = self._segments[-1]
        try:
            os.truncate(segment.text, segment.text_bytes)
            if segment.sound.exists():
                os.truncate(segment.sound, segment.sound_bytes)
        except OSError:
            self._broken = True

    def _begin_segment(self) -> None:
        assert self._directory is not None
        segment = _Segment(self._next, self._directory / f"{self._next:016d}.text")
        if self._segments and self._segments[-1].first == segment.first:
            self._remove(self._segments.pop())  # nothing was ever written to it
        head = _line({"taken": self.taken})
        try:
            _put(segment.text, head)
            _sync_directory(self._directory)
        except OSError:
            segment.text.unlink(missing_ok=True)
            self._broken = True
            raise
        segment.text_bytes = len(head)
        self._broken = False
        self._noted = dict(self.taken)
        self._segments.append(segment)

    # --- room ---------------------------------------------------------------------------------------------------------

    def _make_room(self, room: int) -> None:
        while self._segments and self.size + room > self._max_bytes:
            if not self._drop_oldest_sound() and not self._drop_oldest():
                return

    def _drop_oldest_sound(self) -> bool:
        for segment in self._segments:
            if not segment.sound_bytes:
                continue
            segment.sound.unlink(missing_ok=True)
            if segment.last > self._floor:
                self.dropped_sounds += segment.sounds
            segment.sounds = segment.sound_bytes = 0
            return True
        return False

    def _drop_oldest(self) -> bool:
        segment = self._segments[0]
        if not segment.numbers:
            return False
        self._broken = self._broken or len(self._segments) == 1
        self._segments.pop(0)
        self.dropped_records += sum(number > self._floor for number in segment.numbers)
        self._remove(segment)
        return True

    def _remove(self, segment: _Segment) -> None:
        segment.sound.unlink(missing_ok=True)
        segment.text.unlink(missing_ok=True)


def _locked(directory: Path) -> IO[bytes] | None:
    """The lock of a directory, which is made if need be; None when another process has it."""
    while True:
        directory.mkdir(mode=0o700, exist_ok=True)
        try:
            lock = (directory / "lock").open("ab")
        except FileNotFoundError:
            continue  # its owner has just removed it
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            return None
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(lock.fileno()), (directory / "lock").stat()):
                return lock
        lock.close()  # locked, but removed meanwhile


def _line(body: Mapping[str, Any]) -> bytes:
    text = orjson.dumps(body)
    return _HEAD.pack(len(text), zlib.crc32(text)) + text


def _next_body(file: IO[bytes]) -> dict[str, Any] | None:
    """The record at the file's position; None at the end, and where it is cut off or damaged."""
    head = file.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    length, checksum = _HEAD.unpack(head)
    text = file.read(length) if length <= MAX_RECORD else b""
    if len(text) < length or zlib.crc32(text) != checksum:
        return None
    body: dict[str, Any] = orjson.loads(text)
    return body


@contextlib.contextmanager
def _sounds_of(segment: _Segment) -> Iterator[IO[bytes] | None]:
    """The file of a segment's sounds; None when there is none."""
    try:
        file = segment.sound.open("rb")
    except FileNotFoundError:
        yield None
        return
    with file:
        yield file


def _sound_at(sounds: IO[bytes] | None, where: Sequence[int] | None) -> bytes | None:
    if where is None or sounds is None:
        return None
    at, length, checksum = where
    sounds.seek(at)
    sound = sounds.read(length)
    return sound if len(sound) == length and zlib.crc32(sound) == checksum else None


def _put(path: Path, content: bytes, *, sync: bool = True) -> None:
    """Append all of it, and see it onto the disk. Not kept open: a batch is written some times a second at most."""
    number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(number, view) :]
        if sync:
            os.fsync(number)
    finally:
        os.close(number)


def _sync_directory(directory: Path) -> None:
    number = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
