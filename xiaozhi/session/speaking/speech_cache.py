"""Ready-made speech: the frames of sentences that were synthesised before, by voice, format and text. Greetings cost a
vendor call once.

Not a cache of answers (that is the language model's business) and not a place where anything is synthesised:
`get_or_make` is handed the work. Bounded by bytes, least recently used out first. One key is being made by at most one
greenlet; the others wait for it, share its failure, and take over when it was killed: a greeting must not die with the
device that happened to ask first."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

import gevent
from cachetools import LRUCache
from gevent.event import AsyncResult

from xiaozhi.errors import VendorTimeout

Frames = tuple[bytes, ...]

# What CPython adds to the bytes of a packet, and to an entry.
_PACKET_OVERHEAD: Final = 41
_ENTRY_OVERHEAD: Final = 400
# One entry may take this share of the cache: a fairy tale must not push all greetings out.
_LARGEST_SHARE: Final = 4


@dataclass(frozen=True, slots=True)
class SpeechKey:
    """What the sound depends on. `voice_key`: the provider's (voice, speed, model); always mono."""

    voice_key: str
    format: str
    sample_rate: int
    frame_ms: int
    text: str


class SpeechCache:
    """At most `max_bytes` of ready frames; 0 keeps nothing. Belongs to the process; to be used by greenlets only."""

    def __init__(self, max_bytes: int) -> None:
        self._largest = max_bytes // _LARGEST_SHARE
        self._kept: LRUCache[SpeechKey, Frames] = LRUCache(max(1, max_bytes), getsizeof=_size)
        self._making: dict[SpeechKey, AsyncResult] = {}
        self.hits = 0
        self.misses = 0

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def size_bytes(self) -> int:
        """What the frames take, bookkeeping included."""
        return int(self._kept.currsize)

    def get(self, key: SpeechKey) -> Frames | None:
        """The frames, now the most recently used; None when there are none."""
        frames = self._kept.get(key)
        if frames is None:
            self.misses += 1
            return None
        self.hits += 1
        return frames

    def put(self, key: SpeechKey, frames: Iterable[bytes]) -> bool:
        """Keep the whole sound of a text; False when it is empty or too large to be kept."""
        whole = tuple(frames)
        if not whole or _size(whole) > self._largest:
            return False
        self._kept[key] = whole
        return True

    def clear(self) -> None:
        """Forget everything, such as after a change of voices that their keys do not show."""
        self._kept.clear()

    def get_or_make(self, key: SpeechKey, make: Callable[[], Iterable[bytes]], *, deadline: float) -> Frames:
        """The frames from the cache, else from `make`, which only one greenlet per key runs at a time.

        `deadline` (s) bounds the wait for another greenlet's work, not `make` itself. Raises what `make` raises, in all
        who wait, and VendorTimeout."""
        with gevent.Timeout(deadline, VendorTimeout("reply-cache", f"not made within {deadline:g} s")):
            while True:
                frames = self.get(key)
                if frames is not None:
                    return frames
                making = self._making.get(key)
                if making is None:
                    break
                shared: Frames | None = making.get()
                if shared is not None:
                    return shared
                # Whoever made it was killed: look again, and make it if nobody else has begun.
            promise = self._making[key] = AsyncResult()
        try:
            frames = tuple(make())
        except Exception as error:
            promise.set_exception(error)
            raise
        else:
            self.put(key, frames)
            promise.set(frames)
            return frames
        finally:
            del self._making[key]
            if not promise.ready():
                promise.set(None)


def _size(frames: Frames) -> int:
    return _ENTRY_OVERHEAD + sum(len(frame) + _PACKET_OVERHEAD for frame in frames)
