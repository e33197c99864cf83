"""What a simulated device got for an utterance: the messages, the sound, and when everything came. All times are
monotonic seconds."""

from __future__ import annotations

import wave
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loadtest.simulator import opus


@dataclass(frozen=True, slots=True)
class HeardMessage:
    """One JSON message from the server."""

    at: float
    data: dict[str, Any]

    @property
    def type(self) -> str:
        """Its `type`, "" when it has none."""
        return str(self.data.get("type", ""))


@dataclass(slots=True)
class HeardAnswer:
    """Everything from the first message about an utterance to `tts stop`.

    `frames` stays empty for devices that do not keep sound; `arrivals` never does."""

    spoken_until: float | None = None
    """When the device had sent the last of the voice (auto, realtime) or `listen stop` (manual)."""
    stt: str | None = None
    stt_at: float | None = None
    emotion: str | None = None
    sentences: list[str] = field(default_factory=list)
    started_at: float | None = None
    """tts start"""
    stopped_at: float | None = None
    """tts stop"""
    failure: str = ""
    """Why the server apologised instead of answering."""
    frames: list[bytes] = field(default_factory=list)
    arrivals: list[float] = field(default_factory=list)
    messages: list[HeardMessage] = field(default_factory=list)
    sample_rate: int = 24_000
    audio_format: str = "opus"

    @property
    def text(self) -> str:
        """The sentences, joined."""
        return " ".join(self.sentences)

    @property
    def gaps_ms(self) -> list[float]:
        """Milliseconds between one audio frame and the next."""
        return [(later - earlier) * 1000 for earlier, later in zip(self.arrivals, self.arrivals[1:], strict=False)]

    def timings(self) -> dict[str, float]:
        """Seconds from the end of speech to each stage that was reached: stt, tts_start, first_audio, last_audio,
        stop."""
        if self.spoken_until is None:
            return {}
        stages = {
            "stt": self.stt_at,
            "tts_start": self.started_at,
            "first_audio": self.arrivals[0] if self.arrivals else None,
            "last_audio": self.arrivals[-1] if self.arrivals else None,
            "stop": self.stopped_at,
        }
        return {name: at - self.spoken_until for name, at in stages.items() if at is not None}

    def pcm(self) -> bytes:
        """The sound as s16le mono PCM at `sample_rate`. Raises av.FFmpegError for what is no Opus."""
        if self.audio_format == "pcm":
            return b"".join(self.frames)
        return opus.decode(self.frames, self.sample_rate)

    def write_wav(self, path: Path) -> float:
        """Save the sound; returns its length in seconds."""
        pcm = self.pcm()
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(self.sample_rate)
            file.writeframes(pcm)
        return len(pcm) / 2 / self.sample_rate
