"""When is a frame of sound due, and when has the device really played everything? Pure arithmetic on a clock that
others read.

Not a timer and not a queue (session/outbox.py is both). The model of a device is a buffer that is filled by what is
sent and drained in real time, so one number describes it: `play_end`, the moment its last frame will have been played.

- The first `prebuffer_frames` go out at once, then one per `frame_ms`: a frame is due when the device holds one frame
  less than the pre-buffer. Being a few milliseconds late does not move the frames behind, so nothing drifts.
- With a longer lead (`lead_frames`) those behind the first go out two per `frame_ms` until the device holds so many: a
  line that jitters needs more sound ahead, and boards cannot take a bigger burst.
- Underrun: when sound was late by so much that the device has played all it had, it starts over: pre-buffer at once,
  then one by one.
- A slow socket is no underrun. Frames that became due while a send was blocked go out at most two per `frame_ms`: late,
  not bunched.
- With `fixed_delay_ms` (the existing server's `tts_audio_send_delay`) frames behind the pre-buffer follow each other at
  that distance.

Due times are put on a grid common to all devices (where `grid_ms` divides the frame duration and there is a pre-buffer
to spare), so that a hub with hundreds of devices wakes 200 times a second and not 8,000 times; a device's frames stay
exactly `frame_ms` apart, as its place on the grid never changes.

All times are seconds unless named `_ms`.
"""

from __future__ import annotations

import math
from typing import Final

PREBUFFER_FRAMES: Final = 3
"""Devices hold 5 to 40 packets, and a burst of 5 crashes ESP32-C3 boards."""
GRID_MS: Final = 5
TAIL_MS: Final = 100
"""Network and the device's own output buffer: what playback lags behind the model."""
# Dry for less than this is a timer's jitter, not an underrun.
_JITTER_S: Final = 0.01


class Pacer:
    """The playback clock of one turn: ask `due`, send, tell `sent`. `restart` makes it ready for the next turn."""

    __slots__ = (
        "_burst_left",
        "_fixed_delay",
        "_frame",
        "_grid",
        "_last_sent",
        "_lead",
        "_prebuffer",
        "_tail",
        "frames",
        "play_end",
        "underruns",
    )

    def __init__(
        self,
        frame_ms: float,
        *,
        prebuffer_frames: int = PREBUFFER_FRAMES,
        lead_frames: int = 0,
        fixed_delay_ms: float = 0,
        grid_ms: float = GRID_MS,
        tail_ms: float = TAIL_MS,
    ) -> None:
        if frame_ms <= 0 or prebuffer_frames < 1 or fixed_delay_ms < 0 or grid_ms < 0:
            raise ValueError("frame_ms > 0, prebuffer_frames >= 1, fixed_delay_ms >= 0, grid_ms >= 0")
        self._frame = frame_ms / 1000
        self._prebuffer = prebuffer_frames
        self._lead = (max(prebuffer_frames, lead_frames) - 1) * self._frame
        self._fixed_delay = fixed_delay_ms / 1000
        # A grid that does not divide the frame would make frames arrive unevenly.
        useful = grid_ms and frame_ms % grid_ms == 0 and prebuffer_frames > 1 and not fixed_delay_ms
        self._grid = grid_ms / 1000 if useful else 0.0
        self._tail = tail_ms / 1000
        self.restart()

    def restart(self) -> None:
        """A new turn: nothing sent, nothing playing."""
        self.frames = 0
        """Frames sent in this turn."""
        self.underruns = 0
        """How often the device ran dry between two frames of this turn."""
        self.play_end = -math.inf
        """When the last frame sent will have been played, by the model; -inf before the first."""
        self._burst_left = 0
        self._last_sent = -math.inf

    def due(self, now: float) -> float:
        """When the next frame should be sent; `now` or earlier means at once."""
        if self._burst_left:
            return now
        if self._fixed_delay:
            return max(now, self._last_sent + self._fixed_delay)
        if now >= self.play_end:
            return now
        due = self.play_end - self._lead
        if self._grid:
            # The small shift keeps a due time that lies on the grid from being rounded up by an error in its last bit.
            due = math.ceil(due / self._grid - 1e-6) * self._grid
        # Holds back only what follows a late frame; otherwise frames are a whole frame apart anyway.
        earliest = self._last_sent + self._frame / 2
        return due if due >= earliest else earliest

    def sent(self, began: float, ended: float) -> None:
        """A frame was handed to the socket from `began` to `ended`."""
        # A fixed delay longer than a frame runs the device dry by intention; only a pause of the source starts over.
        if began > self.play_end + _JITTER_S and (
            not self._fixed_delay or began > self._last_sent + self._fixed_delay + self._frame
        ):
            if self.frames:
                self.underruns += 1
            self._burst_left = self._prebuffer - 1
        elif self._burst_left:
            self._burst_left -= 1
        if ended - began > self._frame / 2:
            self._burst_left = 0  # the socket is slow: a burst would only fill its buffer
        if ended > self.play_end:
            self.play_end = ended
        self.play_end += self._frame
        self._last_sent = ended
        self.frames += 1

    def ended_at(self) -> float:
        """When everything sent so far has really been heard: the model's end plus the tail; -inf when nothing was
        sent."""
        return self.play_end + self._tail

    def played_ms(self, now: float) -> float:
        """Milliseconds of this turn's sound that the device has played by `now`, by the model."""
        ahead = max(0.0, self.play_end - now)
        return max(0.0, self.frames * self._frame - ahead) * 1000
