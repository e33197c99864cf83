"""What a device sends while it is not known yet which agent it gets: kept in order, within bounds.

Full: the oldest sound makes room for newer sound, as in the listener's queue; a message is refused, because a later one
may depend on it. It exists only while a session waits for its agent."""

from __future__ import annotations

from collections import deque
from typing import Final

from xiaozhi.protocol import messages as wire
from xiaozhi.protocol.frames import Frame

MAX_FRAMES: Final = 200
"""12 s of 60 ms frames, as many as the listener keeps."""
MAX_SOUND_BYTES: Final = 512 * 1024
MAX_MESSAGES: Final = 64
MAX_MESSAGE_CHARS: Final = 256 * 1024


class PendingInput:
    """`add_*` in the order of arrival, `take` in the same order."""

    def __init__(
        self,
        *,
        max_frames: int = MAX_FRAMES,
        max_sound_bytes: int = MAX_SOUND_BYTES,
        max_messages: int = MAX_MESSAGES,
        max_message_chars: int = MAX_MESSAGE_CHARS,
    ) -> None:
        self._max_frames = max_frames
        self._max_sound_bytes = max_sound_bytes
        self._max_messages = max_messages
        self._max_message_chars = max_message_chars
        self._arrived = 0
        # With their numbers of arrival.
        self._frames: deque[tuple[int, Frame]] = deque()
        self._messages: deque[tuple[int, int, wire.DeviceMessage]] = deque()
        self._sound_bytes = 0
        self._message_chars = 0

    def __len__(self) -> int:
        return len(self._frames) + len(self._messages)

    @property
    def held_bytes(self) -> int:
        """About how much memory it all takes."""
        return self._sound_bytes + self._message_chars

    def add_sound(self, frame: Frame) -> int:
        """Keep a frame; how many frames had to go for it (it may be one of them)."""
        self._arrived += 1
        self._frames.append((self._arrived, frame))
        self._sound_bytes += len(frame.payload)
        dropped = 0
        while len(self._frames) > self._max_frames or self._sound_bytes > self._max_sound_bytes:
            self._sound_bytes -= len(self._frames.popleft()[1].payload)
            dropped += 1
        return dropped

    def add_message(self, message: wire.DeviceMessage, chars: int) -> bool:
        """Keep a message that came as a text of `chars` characters; False: there is no room."""
        if len(self._messages) >= self._max_messages or self._message_chars + chars > self._max_message_chars:
            return False
        self._arrived += 1
        self._messages.append((self._arrived, chars, message))
        self._message_chars += chars
        return True

    def take(self) -> Frame | wire.DeviceMessage | None:
        """What came first of all that is still here; None when nothing is."""
        if self._frames and (not self._messages or self._frames[0][0] < self._messages[0][0]):
            _, frame = self._frames.popleft()
            self._sound_bytes -= len(frame.payload)
            return frame
        if self._messages:
            _, chars, message = self._messages.popleft()
            self._message_chars -= chars
            return message
        return None

    def drop_sound(self) -> None:
        """Forget all sound."""
        self._frames.clear()
        self._sound_bytes = 0

    def clear(self) -> None:
        """Forget everything."""
        self.drop_sound()
        self._messages.clear()
        self._message_chars = 0
