"""What is kept of a turn and of a session, and who is given it.

Plain data and one Protocol, for everybody who makes entries or takes them. The way of an entry: a session makes it when
a turn ends, the journal (`journal.py`) writes it to the disk, the reporter (`reporter.py`) delivers it to every sink.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from xiaozhi.audio.opus import Decoder, OpusError
from xiaozhi.audio.pcm import wav_file

SOUND_RATE: Final = 16_000
"""Hz of kept sound, mono."""
SOUND_FRAME_MS: Final = 60


@dataclass(frozen=True, slots=True)
class KeptSound:
    """What was said, as sound: Opus packets in order, as they were sent, or of 60 ms, mono, 16 kHz."""

    packets: tuple[bytes, ...]

    @property
    def size(self) -> int:
        """Bytes of all packets."""
        return sum(map(len, self.packets))

    def wav(self) -> bytes:
        """The sound as a WAV file: PCM, 16 bit, mono, 16 kHz. Takes about 0.4 ms a second of sound: not for the hub.
        Packets that cannot be decoded are silence."""
        decoder, pcm = Decoder(SOUND_RATE), bytearray()
        for packet in self.packets:
            try:
                pcm += decoder.decode(packet)
            except OpusError:
                pcm += bytes(SOUND_RATE * SOUND_FRAME_MS // 1000 * 2)
        return wav_file(bytes(pcm), SOUND_RATE)


@dataclass(frozen=True, slots=True)
class ToolUse:
    """One call of a tool within a turn."""

    name: str
    arguments: Mapping[str, Any]
    outcome: str
    """"done", "failed"; "started": interrupted while it worked, its effect is unknown; "skipped": never begun."""
    result: str = ""
    """As the language model was told; empty unless the call has ended."""
    ms: int | None = None
    """How long it took; None when it has not ended."""


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """One session: from a device's connection to its end."""

    id: str
    """32 hexadecimal digits."""
    device_id: str
    """In its normal form (`protocol/device_id.py`)."""
    client_id: str
    began_at: float
    """Seconds since 1970."""


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One turn: what the user said and what was answered, together. Only of devices whose history is kept."""

    session: SessionInfo
    turn: int
    """1, 2, ... within the session; not without gaps, as turns that were never released leave no entry."""
    at: float
    """When the user had said it, or the server began of itself; seconds since 1970."""
    said: str = ""
    """What the user said (recognised, typed, or a wake word); empty when nobody asked or nothing was understood."""
    spoken: tuple[str, ...] = ()
    """The sentences whose sound was really sent, in order."""
    tools: tuple[ToolUse, ...] = ()
    """In the order in which the model called them."""
    outcome: str = "answered"
    """As `session.turn_record.Outcome`: answered, interrupted, failed, overloaded, unheard."""
    reason: str = ""
    """Of an interruption or a failure, in a word or two."""
    announcement: bool = False
    """Nobody had asked: an alarm, a call, an operator."""
    timings: Mapping[str, int] = field(default_factory=dict)
    """Where the time until the first sound went, ms by share (`session.turn_record.Timeline.account`); "ended": from
    the end of the user's voice to the end of the turn."""
    speaker: str = ""
    """Who spoke, where voices are told apart."""
    sound: KeptSound | None = None
    """The user's voice; None where it is not kept, was typed, or had to be dropped."""
    voices: tuple[KeptSound, ...] = ()
    """The assistant's voice, one for each of `spoken`; empty where it is not kept, or had to be dropped."""

    @property
    def key(self) -> str:
        """The same for every delivery of this turn, and for no other turn."""
        return f"{self.session.id}:{self.turn}"


@dataclass(frozen=True, slots=True)
class EndedSession:
    """A session that is over, of which at least one entry was delivered."""

    session: SessionInfo
    ended_at: float
    """Seconds since 1970; of the last turn where the process was killed."""
    turns: int
    """How many entries there were, as far as it is known."""


class HistorySink(Protocol):
    """Somebody who is given the history: the local store, a management console.

    Both methods are called in greenlets, may block, and are called for several sessions side by side. They raise a
    VendorError, StorageError or Overloaded: with one that is `retryable`, and with Overloaded, the same is delivered
    again later; otherwise it is given up for this sink. Everything is delivered at least once: the same key may come
    twice."""

    name: str
    """Of the journal's account of what was delivered: never changes for one kind of sink. For metrics and logs too."""

    def deliver(self, entries: Sequence[HistoryEntry]) -> None:
        """Entries of one session, in order; an entry comes after all earlier ones of its session were taken."""

    def session_ended(self, ended: EndedSession) -> None:
        """All entries of this session have been taken, or given up."""
