"""What every session of one configuration shares: built once by the composition root, swapped as one on a reload.

Not a service locator: it is taken apart by `Session` and `SessionParts`, and no smaller object ever sees it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from xiaozhi.audio.clips import Clips
from xiaozhi.protocol import messages as wire
from xiaozhi.runtime.inference import InferencePool
from xiaozhi.runtime.tasks import Tasks
from xiaozhi.session.agent import ProviderSet
from xiaozhi.session.link import Identity
from xiaozhi.session.memory import MemoryWriter
from xiaozhi.session.speaking.phrases import Phrases
from xiaozhi.session.speaking.speech_cache import SpeechCache
from xiaozhi.session.turn_record import TurnRecord
from xiaozhi.session.turns.answer_cache import AnswerCache
from xiaozhi.session.turns.cascade import Cascade
from xiaozhi.session.turns.dialogue import ResumeStore
from xiaozhi.session.turns.pipeline import PipelineFactory
from xiaozhi.session.turns.prompt import Prompter
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
class SessionServices:
    """See the module. Callables are non-blocking unless they say otherwise."""

    settings: Settings
    providers: ProviderSet
    inference: InferencePool
    replies: SpeechCache
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
    pipeline: PipelineFactory = Cascade
    """What makes the answers."""
