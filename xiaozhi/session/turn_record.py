"""What a turn is measured by and what remains of it: options in, timeline and record out.

Plain data; the only decisions here are which setting a turn's option comes from and how stages become durations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from xiaozhi.chat import Message
from xiaozhi.history.entries import KeptSound, ToolUse
from xiaozhi.settings import Settings
from xiaozhi.speech.language import home_language, named_language


class Outcome(StrEnum):
    """How a released turn ended. UNHEARD: nothing intelligible was said, so there was nothing to answer."""

    ANSWERED = "answered"
    INTERRUPTED = "interrupted"
    FAILED = "failed"
    OVERLOADED = "overloaded"
    UNHEARD = "unheard"


class Speculation(StrEnum):
    """How far a turn may be prepared during a pause."""

    OFF = "off"
    ASR = "asr"
    LLM = "llm"


_ACCOUNT: Final = (
    ("detector", "quiet"),
    ("silence", "silent"),
    ("grid", "arrived"),
    ("detector", "released"),
    ("recognition", "heard"),
    ("model", "llm_first"),
    ("first_sentence", "tts_asked"),
    ("voice", "tts_first"),
    ("encode", "encoded"),
    ("pacing", "first_frame"),
)
"""What is waited for, and the stage that ends the wait; in order. A stage that was reached before the one in front of
it (in a prepared turn) or not at all cost nothing. detector: until it hears the voice no more, and what judging the
last window took; with a button: until the button's message. grid: the rest of the packet in which the silence became
long enough. model: with intent, memory and the wait for a place at the vendor. pacing: with the wait for somebody who
speaks."""
SHARES: Final = tuple(dict.fromkeys(share for share, _ in _ACCOUNT))


@dataclass(slots=True)
class CallTimes:
    """When a tool was called (monotonic s), and what followed."""

    tool: str
    began: float
    ended: float | None = None
    """None: the turn ended before it."""
    outcome: str = ""


@dataclass(slots=True)
class Timeline:
    """When each stage of a turn was reached (monotonic s); None: not reached."""

    voice_ended: float | None = None
    """As far as it can be known; a detector's lag is taken off."""
    quiet: float | None = None
    """The detector heard no voice any more; this and the next two: see `listening.utterance.Ending`."""
    silent: float | None = None
    arrived: float | None = None
    prepared: float | None = None
    released: float | None = None
    heard: float | None = None
    llm_asked: float | None = None
    llm_first: float | None = None
    tts_asked: float | None = None
    tts_first: float | None = None
    encoded: float | None = None
    first_frame: float | None = None
    ended: float | None = None
    calls: list[CallTimes] = field(default_factory=list)
    """Of tools, in the order in which they began."""

    def since_voice(self, stage: str) -> float | None:
        """Seconds from the end of the user's voice to `stage`; None when either is unknown."""
        reached = getattr(self, stage)
        return None if reached is None or self.voice_ended is None else max(0.0, reached - self.voice_ended)

    def account(self) -> dict[str, int]:
        """Where the time from the end of the voice to the first frame went: ms by share, all of `SHARES`, the sum of
        which is the whole. Empty when there was no frame."""
        if self.voice_ended is None or self.first_frame is None:
            return {}
        account = dict.fromkeys(SHARES, 0)
        reached = 0
        for share, stage in _ACCOUNT:
            at: float | None = getattr(self, stage)
            # Rounded where stages meet, so that nothing is lost in a sum.
            if at is not None:
                until = max(reached, round((min(at, self.first_frame) - self.voice_ended) * 1000))
                account[share] += until - reached
                reached = until
        return account


@dataclass(frozen=True, slots=True)
class TurnOptions:
    """What a turn needs of the settings; all times in seconds."""

    speculative: Speculation = Speculation.ASR
    llm_first_token: float = 15.0
    llm_stall: float = 15.0
    llm_total: float = 90.0
    tts_stall: float = 10.0
    tool_depth: int = 5
    tool_filler_seconds: float = 0.0
    """0: nothing is said while tools work."""
    tool_filler: Mapping[str, str] = field(default_factory=dict)
    """By language, see `text_in`."""
    show_tool_calls: bool = False
    """Show the names of called tools on the device."""
    apology: Mapping[str, str] = field(default_factory=dict)
    """By language, see `text_in`; empty: none."""
    language: str = ""
    """Of fixed texts, whatever is spoken; "": that of the conversation."""
    home_language: str = ""
    """Of a conversation whose language is not known yet."""
    correct_words: Sequence[str] = ()
    emotes: bool = True
    chime: bool = False
    keeps_sound: bool = False
    """The user's voice is part of the record."""
    keeps_answers: bool = False
    """So is the assistant's: a management console plays both."""

    @classmethod
    def of(cls, settings: Settings, *, emotes: bool) -> TurnOptions:
        """The options a configuration stands for."""
        return cls(
            speculative=Speculation(settings.conversation.speculative),
            llm_first_token=settings.llm_timeout.first_token,
            llm_stall=settings.llm_timeout.stall,
            llm_total=settings.llm_timeout.total,
            tts_stall=settings.tts_timeout,
            tool_depth=settings.conversation.tool_depth,
            tool_filler_seconds=settings.conversation.tool_filler_seconds,
            tool_filler=settings.conversation.tool_filler,
            show_tool_calls=settings.show_tool_calls,
            apology=settings.system_error_response,
            language=named_language(settings.language),
            home_language=home_language(settings.wakeup_words),
            correct_words=tuple(settings.correct_words),
            emotes=emotes,
            chime=settings.enable_stop_tts_notify,
            keeps_sound=settings.history.mode == "sound",
            keeps_answers=settings.history.mode == "sound" and settings.under_console,
        )


@dataclass(slots=True)
class TurnRecord:
    """What remains of a turn when it is over: for the log line, the metrics and the history."""

    turn_id: int
    outcome: Outcome
    timeline: Timeline
    speculative: bool
    announcement: bool = False
    """Nobody had asked: an alarm, a call, an operator."""
    reason: str = ""
    failed_vendor: str = ""
    user_text: str = ""
    speaker: str = ""
    """Who asked, as far as speakers are told apart."""
    characters: int = 0
    sentences: int = 0
    tool_calls: int = 0
    script: list[Message] = field(default_factory=list)
    spoken: tuple[str, ...] = ()
    """Every sentence whose sound was sent, apologies too."""
    tools: tuple[ToolUse, ...] = ()
    sound: bytes | KeptSound = b""
    """What the user said, s16le mono 16 kHz, or as the device sent it; empty where it is not kept."""
    voices: tuple[KeptSound, ...] = ()
    """The sound of `spoken`, as it was sent; empty where it is not kept."""
    trace: str = ""
    """Ties the lines and spans of this turn together."""

    @property
    def reply(self) -> str:
        """What the assistant said, as far as it was heard."""
        return " ".join(message.content for message in self.script if message.role == "assistant" and message.content)
