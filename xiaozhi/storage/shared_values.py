"""What is kept in the shared store: dialogues to resume, answers, the sound of fixed phrases. Each value has a lifetime
and a bound on its size; whatever cannot be had there is done without.

Reading asks at once, within the store's deadline; writing is done behind (`write_behind.py`)."""

from __future__ import annotations

import hashlib
import struct
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from xiaozhi.errors import StorageError
from xiaozhi.storage.shared_store import SharedStore, key
from xiaozhi.storage.write_behind import WriteBehind

if TYPE_CHECKING:
    from redis import Redis

DIALOGUE_BYTES: Final = 256 * 1024
"""A dialogue that is larger stays with its worker."""
TEXT_BYTES: Final = 16 * 1024
SPEECH_BYTES: Final = 1 << 20
"""Of one phrase."""
ALL_SPEECH_BYTES: Final = 64 << 20
SPEECH_S: Final = 7 * 86_400
LOOK_UP_S: Final = 0.5
"""Longer than other questions may take: it is asked once, when a device comes, and what is not heard in time is a
conversation that goes on from an older place."""
GATHER_S: Final = 0.05
"""Short: what was said last must outlive a process that is killed."""
WAITING: Final = 5_000
_SAID_AT: Final = struct.Struct("!d")
_LENGTH: Final = struct.Struct("!H")

# KEYS: the dialogue. ARGV: time and snapshot, the time, seconds. A server that was away for a while hands in what
# others have gone on from.
_PUT_NEWER: Final = """
local kept = redis.call('GETRANGE', KEYS[1], 0, 7)
if #kept == 8 and struct.unpack('>d', kept) > tonumber(ARGV[2]) then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[3])
return 1
"""
# KEYS: the value, the order of arrival, the sizes. ARGV: the value, its name, now, seconds, the bound of all sizes
# together, what names begin with.
_PUT_BOUNDED: Final = """
local old = tonumber(redis.call('HGET', KEYS[3], ARGV[2]) or '0')
local total = tonumber(redis.call('HGET', KEYS[3], 'total') or '0') - old + #ARGV[1]
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[4])
redis.call('ZADD', KEYS[2], ARGV[3], ARGV[2])
redis.call('HSET', KEYS[3], ARGV[2], #ARGV[1])
while total > tonumber(ARGV[5]) do
  local oldest = redis.call('ZPOPMIN', KEYS[2])
  if #oldest == 0 then total = 0 break end
  total = total - tonumber(redis.call('HGET', KEYS[3], oldest[1]) or '0')
  redis.call('HDEL', KEYS[3], oldest[1])
  redis.call('DEL', ARGV[6] .. oldest[1])
end
redis.call('HSET', KEYS[3], 'total', total)
redis.call('EXPIRE', KEYS[2], ARGV[4])
redis.call('EXPIRE', KEYS[3], ARGV[4])
"""


class SharedDialogues:
    """What was said last with each device, for `seconds`; whoever it comes to goes on with it."""

    def __init__(self, store: SharedStore, seconds: float) -> None:
        self._store = store
        self._seconds = max(1, round(seconds))
        self._writes: WriteBehind[tuple[str, str], tuple[bytes, float]] = WriteBehind(
            "shared dialogues", store, self._write, gather=GATHER_S, capacity=WAITING
        )
        store.on_back.append(self._writes.flush)

    def start(self) -> None:
        """Have dialogues written; may be called again."""
        self._writes.start()

    def close(self, seconds: float) -> None:
        """Write what waits, within about `seconds`."""
        self._writes.close(seconds)

    def keep(self, device: str, client: str, snapshot: bytes, said_at: float) -> None:
        """Have it written within GATHER_S. Does not block. `said_at`: seconds since 1970."""
        if len(snapshot) <= DIALOGUE_BYTES:
            self._writes.put((device, client), (snapshot, said_at))

    def flush(self) -> bool:
        """Write what waits, now; False when the store is away."""
        return self._writes.flush()

    def look_up(self, device: str, client: str) -> tuple[bytes, float] | None:
        """Snapshot and time. Raises StorageError."""
        found = self._store.ask(lambda store: store.get(_dialogue(device, client)), deadline_s=LOOK_UP_S)
        if not isinstance(found, bytes) or len(found) <= _SAID_AT.size:
            return None
        return found[_SAID_AT.size :], _SAID_AT.unpack_from(found)[0]

    def _write(self, store: Redis, batch: Mapping[tuple[str, str], tuple[bytes, float]]) -> None:
        with store.pipeline(transaction=False) as pipeline:
            for (device, client), (snapshot, said_at) in batch.items():
                value = _SAID_AT.pack(said_at) + snapshot
                pipeline.eval(_PUT_NEWER, 1, _dialogue(device, client), value, said_at, self._seconds)
            pipeline.execute()


class SharedAnswers:
    """Answers by key, for `seconds`."""

    def __init__(self, store: SharedStore, seconds: float) -> None:
        self._store = store
        self._seconds = max(1, round(seconds))
        self._writes: WriteBehind[str, str] = WriteBehind("shared answers", store, self._write, capacity=WAITING)
        store.on_back.append(self._writes.flush)

    def start(self) -> None:
        """Have answers written; may be called again."""
        self._writes.start()

    def close(self, seconds: float) -> None:
        """Write what waits, within about `seconds`."""
        self._writes.close(seconds)

    def get(self, question: str) -> str:
        """The answer, "" when there is none or nobody can say."""
        try:
            found = self._store.ask(lambda store: store.get(key("answer", question)))
        except StorageError:
            return ""
        return found.decode("utf-8", "replace") if isinstance(found, bytes) else ""

    def put(self, question: str, answer: str) -> None:
        """Have it written soon. Does not block."""
        if len(answer.encode()) <= TEXT_BYTES:
            self._writes.put(question, answer)

    def _write(self, store: Redis, batch: Mapping[str, str]) -> None:
        with store.pipeline(transaction=False) as pipeline:
            for question, answer in batch.items():
                pipeline.set(key("answer", question), answer.encode(), ex=self._seconds)
            pipeline.execute()


class SharedSpeech:
    """The frames of phrases by what they depend on, all together at most `max_bytes`; those that were put in longest
    ago go first."""

    def __init__(
        self, store: SharedStore, max_bytes: int = ALL_SPEECH_BYTES, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._max_bytes = max_bytes
        self._clock = clock

    def get(self, *sound: object) -> tuple[bytes, ...] | None:
        """The frames, None when there are none or nobody can say. `sound`: what they depend on."""
        try:
            found = self._store.ask(lambda store: store.get(_speech(_digest(*sound))))
        except StorageError:
            return None
        return _frames(found) if isinstance(found, bytes) else None

    def put(self, frames: tuple[bytes, ...], *sound: object) -> bool:
        """Keep them; False when they are too large or the store is away. Blocks for at most the store's deadline."""
        data = b"".join(_LENGTH.pack(len(frame)) + frame for frame in frames)
        if not frames or len(data) > min(SPEECH_BYTES, self._max_bytes):
            return False
        name = _digest(*sound)
        arguments: list[Any] = [data, name, self._clock(), SPEECH_S, self._max_bytes, _speech("")]
        keys = [_speech(name), key("order", group="speech"), key("sizes", group="speech")]
        try:
            self._store.ask(lambda store: store.eval(_PUT_BOUNDED, len(keys), *keys, *arguments))
        except StorageError:
            return False
        return True


def _digest(*words: object) -> str:
    return hashlib.sha256("\0".join(map(str, words)).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _dialogue(device: str, client: str) -> str:
    # What a device calls itself may be long, and anything.
    return key("dialogue", _digest(client), group=device)


def _speech(name: str) -> str:
    return key("phrase", name, group="speech")


def _frames(data: bytes) -> tuple[bytes, ...] | None:
    frames, at = [], 0
    while at + _LENGTH.size <= len(data):
        (size,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size + size
        frames.append(data[at - size : at])
    return tuple(frames) if frames and at == len(data) else None
