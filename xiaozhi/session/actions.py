"""What others may ask of a session: its own tools (`tools.base.SessionActions`), and those who look for its device
(`OpenSession`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from xiaozhi.protocol.messages import Sendable
from xiaozhi.session.link import Identity
from xiaozhi.session.parts import SessionParts
from xiaozhi.session.turns.opening import Announcement, Delivery, Opening
from xiaozhi.session.turns.turn_taking import TurnTaking
from xiaozhi.settings.fields import text_in
from xiaozhi.speech.voice_likeness import VoiceSample
from xiaozhi.tools.calls import Rung
from xiaozhi.tools.device_mcp import DeviceMcp
from xiaozhi.tools.music import Music, Track
from xiaozhi.tools.voices import VoiceEnrolment


class Actions:
    """Those of one session. `leave`: the session is to end when the current answer has been spoken."""

    def __init__(
        self, identity: Identity, parts: SessionParts, turn_taking: TurnTaking, leave: Callable[[], None]
    ) -> None:
        self.device_id = identity.device_id
        self.origin = identity.origin
        self.music = Music()
        self.enrolment = VoiceEnrolment()
        self.called = False
        self._ready = False
        self._parts = parts
        self._turn_taking = turn_taking
        self._leave = leave

    def close_after_reply(self) -> None:
        """See SessionActions."""
        self._leave()

    def set_prompt(self, text: str) -> None:
        """See SessionActions."""
        self._parts.role = text

    @property
    def recent_voices(self) -> Sequence[VoiceSample]:
        """See SessionActions."""
        return tuple(self._parts.voices.recent) if self._parts.voices is not None else ()

    def play(self, path: Path, *, title: str = "", start_ms: float = 0.0, gain: float = 1.0) -> None:
        """See SessionActions."""
        if self._turn_taking.current is not None:
            self._turn_taking.current.play(Track(path, title or path.stem, start_ms, gain))

    def keep_line_open(self) -> None:
        """See SessionActions."""
        self._parts.outbox.line_open = True

    @property
    def mcp(self) -> DeviceMcp | None:
        """See OpenSession."""
        return self._parts.mcp

    def tell_late(self, opening: Opening) -> Announcement | None:
        """See OpenSession."""
        return self._turn_taking.announce(opening) if self._parts.hello is not None else None

    def ring(self, words: Mapping[str, str]) -> Rung:
        """See OpenSession."""
        if self._parts.hello is None:
            return Rung.AWAY
        if self._turn_taking.in_use:
            return Rung.BUSY
        text = text_in(words, self._parts.language(""))
        announcement = self._turn_taking.announce(Opening(fixed=text, shown=text), when="now")
        return Rung.AWAY if announcement.delivery is Delivery.DROPPED else Rung.RINGS

    @property
    def ready(self) -> bool:
        """See OpenSession."""
        return self._ready

    def begun(self) -> None:
        """Hello was said and the agent is known."""
        self._ready = True

    def announce(self, text: str, *, at_once: bool, seconds: float) -> Announcement:
        """See OpenSession."""
        return self._turn_taking.announce(
            Opening(fixed=text, shown=text), "now" if at_once else "idle", deadline=seconds
        )

    def push(self, message: Sendable) -> bool:
        """See OpenSession."""
        if self._parts.hello is None:
            return False
        self._parts.outbox.urgent(message)
        return True
