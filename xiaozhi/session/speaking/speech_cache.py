"""Speech cache: the frames of sentences that were synthesised before, by voice, device format and text. A greeting
costs one vendor call, not one per device.

It caches sound, not answers (`turns/answer_cache.py`), and synthesises nothing: `voice.py` asks it and `phrases.py`
fills it ahead of need. Bounded by bytes; the least recently used entry goes first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass
from typing import Final, Protocol

from cachetools import LRUCache

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


class SharedFrames(Protocol):
    """Frames that other servers have made (`storage/shared_values.py`). Both block for a moment."""

    def get(self, *sound: object) -> Frames | None:
        """Those that depend on this, None when there are none."""

    def put(self, frames: Frames, *sound: object) -> bool:
        """Keep them; False when that cannot be."""


class SpeechCache:
    """At most `max_bytes` of ready frames; 0 keeps nothing. One for the process; to be used by greenlets only.
    `shared`: where `fetch` and `share` look, for what is worth it: phrases that every device hears."""

    def __init__(self, max_bytes: int, shared: SharedFrames | None = None) -> None:
        self._shared = shared
        self._largest = max_bytes // _LARGEST_SHARE
        self._kept: LRUCache[SpeechKey, Frames] = LRUCache(max(1, max_bytes), getsizeof=_size)
        self.hits = 0
        self.misses = 0

    def __len__(self) -> int:
        return len(self._kept)

    def __iter__(self) -> Iterator[SpeechKey]:
        return iter(list(self._kept))

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

    def fetch(self, key: SpeechKey) -> Frames | None:
        """As `get`, and what another server has made. Blocks for a moment."""
        frames = self.get(key)
        if frames is None and self._shared is not None:
            frames = self._shared.get(*astuple(key))
            if frames is not None:
                self.put(key, frames)
        return frames

    def share(self, key: SpeechKey, frames: Frames) -> None:
        """As `put`, for all servers. Blocks for a moment."""
        if self.put(key, frames) and self._shared is not None:
            self._shared.put(frames, *astuple(key))

    def clear(self) -> None:
        """Forget everything, such as after a change of voices that their keys do not show."""
        self._kept.clear()


def _size(frames: Frames) -> int:
    return _ENTRY_OVERHEAD + sum(len(frame) + _PACKET_OVERHEAD for frame in frames)
