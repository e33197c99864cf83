"""What all sessions of the process share, whatever the configuration: made once by the composition root.

What belongs to a configuration, or to one device's settings, is `agent.py`. Not a service locator: `Session` and
`SessionParts` take it apart and hand each smaller object what that one needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from xiaozhi.audio.clips import Clips
from xiaozhi.devices.boards import KnownBoards
from xiaozhi.devices.dialogues import ResumeStore
from xiaozhi.devices.lines import Lines
from xiaozhi.devices.messages import MessageSender, NoMessages
from xiaozhi.history.entries import EndedSession, HistoryEntry, KeptSound
from xiaozhi.protocol import messages as wire
from xiaozhi.reminders.book import ReminderBook
from xiaozhi.runtime.inference import InferencePool
from xiaozhi.runtime.tasks import Tasks
from xiaozhi.session.late_answers import LateAnswers
from xiaozhi.session.link import Identity
from xiaozhi.session.memory import MemoryWriter
from xiaozhi.session.open_sessions import OpenSessions
from xiaozhi.session.speaking.speech_cache import SpeechCache
from xiaozhi.session.telemetry import Telemetry
from xiaozhi.session.turns.answer_cache import SharedTexts
from xiaozhi.session.turns.cascade import Cascade
from xiaozhi.session.turns.pipeline import PipelineFactory
from xiaozhi.tools.calls import AddressBook, Ring
from xiaozhi.tools.device_mcp import Vision
from xiaozhi.tools.household import NoOtherDevices, OtherDevices
from xiaozhi.tools.shared_tools import SharedTools


class Quota(Protocol):
    """The daily allowance of spoken characters of a device (`devices/quota.py`). `left` and `spend` touch memory
    only."""

    def allow_own_limits(self) -> None:
        """Count from now on, whatever the general limit. May block. Raises StorageError, Overloaded."""

    def left(self, device: str, limit: int | None = None) -> int | None:
        """Characters left today of `limit`, None: of the general one; None: no limit."""

    def used(self, device: str) -> int | None:
        """Characters spoken today; None: not counted."""

    def spend(self, device: str, characters: int) -> None:
        """So many were spoken."""


class HistoryKeeper(Protocol):
    """Keeps what was said (`history/journal.py`). Both return at once and raise nothing."""

    def append(self, entry: HistoryEntry, sound: bytes | KeptSound = b"", voices: Sequence[KeptSound] = ()) -> None:
        """Keep a turn. `sound`: the user's, s16le, mono, 16 kHz, or in packets already; empty: none. `voices`: see
        HistoryEntry."""

    def end(self, ended: EndedSession) -> None:
        """A session is over; all its turns were handed in before."""


@dataclass(frozen=True, slots=True)
class SessionServices:
    """See the module. Callables do not block unless they say otherwise."""

    inference: InferencePool
    speech_cache: SpeechCache
    clips: Clips
    resume: ResumeStore
    memories: MemoryWriter
    quota: Quota
    history: HistoryKeeper
    lasting: Tasks
    """Where tools that must not be cut off run on when their turn is over."""
    telemetry: Telemetry
    vision: Callable[[Identity], Vision]
    """Where the device may send pictures: address and token."""
    admit_turn: Callable[[], None]
    """Raises Overloaded while the server sheds load."""
    server_command: Callable[[wire.ServerCommand, str], Sequence[wire.ServerReply]]
    """Carries out an order of the management API: (command, peer ip) -> what to answer. May block."""
    boards: KnownBoards = field(default_factory=KnownBoards)
    """Which board a device is: some have settings of their own."""
    lines: Lines = field(default_factory=Lines)
    """How good the lines of devices are."""
    address_book: AddressBook | None = None
    """A console's."""
    ring: Ring | None = None
    """Calls a device; None: only those of `sessions` are reached. May block."""
    others: OtherDevices = field(default_factory=NoOtherDevices)
    """What tools may ask of the other devices of the household. Its methods block."""
    sessions: OpenSessions = field(default_factory=OpenSessions)
    """Who is connected to this process."""
    messages: MessageSender = field(default_factory=NoMessages)
    """Takes what a device is to hear later, wherever it is then. Its methods block for the database."""
    reminders: ReminderBook | None = None
    """Timers, alarms and reminders of all devices; None: none are kept."""
    remembered_as: Callable[[Identity], str] = lambda identity: identity.device_id
    """The name under which the memory knows the user of a device, once its agent is known."""
    pipeline: PipelineFactory = Cascade
    """What makes the answers."""
    shared_answers: SharedTexts | None = None
    """Where answers of all servers are kept, where there are several."""
    late: LateAnswers = field(default_factory=LateAnswers)
    """Calls of slow tools that outlast their turn."""
    shared_tools: SharedTools = field(default_factory=SharedTools)
    """Connections with MCP servers and endpoints."""
