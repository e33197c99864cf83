"""The pipeline seam: what makes one answer out of what opens a turn, and what a turn lets it do.

    Opening ─► Turn ── run(turn) ─► Pipeline (Cascade: ASR ▸ intent ▸ LLM ⇄ tools; another: speech to speech)
                 ▲                     │
                 └──── TurnControl ◄───┘   wait for the release, open, playback, exchange

A pipeline decides what is said. The turn decides when it may be heard and how it ends: release, stt and tts start,
interrupts, fixed speech (greeting, refusal, apology), the record and what the dialogue remembers are the same for every
pipeline. So a pipeline never sees the outbox, the device or another turn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from xiaozhi.chat import CallContext, Message
from xiaozhi.providers.contracts.tts import Tts
from xiaozhi.session.agent import ProviderSet
from xiaozhi.session.speaking.playback import Playback
from xiaozhi.session.turn_record import Outcome, Timeline, TurnOptions
from xiaozhi.session.turns.answer_cache import AnswerCache
from xiaozhi.session.turns.dialogue import Exchange
from xiaozhi.session.turns.opening import Opening
from xiaozhi.session.turns.voices import Voices
from xiaozhi.tools.base import ToolContext
from xiaozhi.tools.music import Track
from xiaozhi.tools.toolbox import Toolbox


@dataclass(frozen=True, slots=True)
class Briefing:
    """What the language model is to know before the question."""

    history: list[Message]
    """The system prompt and the past."""
    cache_key: str = ""
    """Where an answer to this question would be kept; "": it cannot be answered from the cache."""


@dataclass(frozen=True, slots=True)
class OutputLimit:
    """How much a device may still be told."""

    characters: int
    """0: nothing."""
    words: str
    """What is said instead of the rest."""


@dataclass(frozen=True, slots=True)
class PipelineParts:
    """What one answer is made with."""

    providers: ProviderSet
    toolbox: Toolbox
    tool_context: ToolContext
    brief: Callable[[str], Briefing]
    """question -> briefing; may block for the memory."""
    answers: AnswerCache | None = None
    """None: the language model is always asked."""
    voices: Voices | None = None
    """None: speakers are not told apart."""


class TurnControl(Protocol):
    """What a pipeline may know of its turn and ask of it. Its methods are for the greenlet that runs the pipeline; they
    raise TurnClosed once there is nothing more to say, and a kill interrupts each of them."""

    @property
    def opening(self) -> Opening:
        """What is to be answered."""

    @property
    def context(self) -> CallContext:
        """For calls of providers."""

    @property
    def options(self) -> TurnOptions:
        """Deadlines, speculation, tool rounds."""

    @property
    def timeline(self) -> Timeline:
        """Where a pipeline writes when it reached the stages that only it knows (`llm_asked`, `llm_first` ...)."""

    @property
    def exchange(self) -> Exchange:
        """What the dialogue is to remember: a pipeline writes what was asked, called and answered; the turn adds which
        sentences were heard."""

    @property
    def clock(self) -> Callable[[], float]:
        """Monotonic seconds, as in the timeline."""

    @property
    def language(self) -> str:
        """Of the conversation, by what was said and how the server is set ("zh", "en"); "" when it is not known."""

    def heard(self, text: str) -> None:
        """The user's words are known: they are shown when the turn opens, and stand in the record."""

    def wait_release(self) -> None:
        """Return once the user has finished. Raises TurnClosed when that is never decided."""

    def open(self) -> None:
        """Wait for the release, then tell the device stt and tts start; once. Before anything with an effect, such as a
        tool call. Raises TurnClosed when the session has dealt with the text itself (an exit command)."""

    def output_limit(self) -> OutputLimit | None:
        """How much may be answered; None: there is no limit. Raises Overloaded."""

    def open_playback(self, voice: Tts) -> Playback:
        """A playback for this answer, which replaces the one before. A released turn opens now, a prepared one at its
        release, ahead of the first sound; until then nothing leaves the server. When `run` returns, the turn plays to
        its end what was given to the last playback."""

    def take_back(self, voice: Tts, heard: int) -> Playback:
        """What was said behind the first `heard` sentences that were heard was no answer: what is not sent yet never
        will be, and what was heard is not remembered. A playback for the answer itself."""

    def speak_fixed(self, text: str) -> None:
        """Speak a ready text in the voice for fixed phrases; opens the turn."""

    def show_call(self, tool: str) -> None:
        """A tool of this name is called: show it on the device, where that is wanted. Returns at once."""

    def play(self, track: Track) -> None:
        """Play a sound file after the words of this answer."""


class Pipeline(Protocol):
    """Makes one answer; used once. It must not keep `turn` when `run` has ended."""

    def run(self, turn: TurnControl) -> Outcome:
        """Answer `turn.opening`; returns when everything that is to be said was given to the playback, not when it was
        heard. ANSWERED, or UNHEARD when there was nothing to answer.

        Raises VendorError and Overloaded, for which the turn apologises."""


PipelineFactory = Callable[[PipelineParts], Pipeline]
"""Makes the pipeline of one turn. Must not block."""
