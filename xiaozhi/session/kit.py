"""What every session of one configuration shares: built once by the composition root, swapped as one on a reload.

Not a service locator: it is taken apart by `Session` and `Equipment`, and no smaller object ever sees it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from xiaozhi.audio.clips import Clips
from xiaozhi.protocol import messages as wire
from xiaozhi.providers.base import ProviderSet
from xiaozhi.runtime.inference import InferencePool
from xiaozhi.runtime.tasks import Tasks
from xiaozhi.session.answers import AnswerCache
from xiaozhi.session.dialogue import ResumeStore
from xiaozhi.session.memories import MemoryWriter
from xiaozhi.session.phrases import Phrases
from xiaozhi.session.prompt import Prompter
from xiaozhi.session.record import TurnRecord
from xiaozhi.session.replies import ReplyCache
from xiaozhi.session.visit import Identity
from xiaozhi.settings import Settings
from xiaozhi.tools.base import ToolSource
from xiaozhi.tools.device_mcp import Vision


@dataclass(frozen=True, slots=True)
class Quota:
    """The daily allowance of spoken characters of a device."""

    left: Callable[[str], int | None]
    """device id -> characters left today, None: no limit."""
    spend: Callable[[str, int], None]


@dataclass(frozen=True, slots=True)
class SessionKit:
    """See the module. Callables are non-blocking unless they say otherwise."""

    settings: Settings
    providers: ProviderSet
    inference: InferencePool
    replies: ReplyCache
    phrases: Phrases
    clips: Clips
    answers: AnswerCache | None
    """None: every question is asked."""
    resume: ResumeStore
    prompter: Prompter
    memories: MemoryWriter
    quota: Quota
    plugins: ToolSource
    lasting: Tasks
    """Where tools that must not be cut in half run on when their turn is gone."""
    vision: Callable[[Identity], Vision | None]
    """Where the device may send pictures: address and token, or None."""
    admit_turn: Callable[[], None]
    """Raises Overloaded while the server sheds load or drains."""
    observe: Callable[[str, TurnRecord], None]
    """(device id, record) of every turn that ended."""
    on_discard: Callable[[], None]
    """A prepared answer was thrown away."""
    on_frame: Callable[[float], None] | None
    """Told the lateness (s) of every audio frame sent; must be quick."""
    on_drop: Callable[[str], None]
    """(queue) Something had to go because that queue was full."""
    server_command: Callable[[wire.ServerCommand, str], wire.ServerReply]
    """The management API's orders: (command, peer ip). May block."""
