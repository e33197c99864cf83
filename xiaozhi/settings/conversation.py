"""The section `conversation`: how turns are taken and what is remembered within a visit."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from xiaozhi.settings.boards import Echo
from xiaozhi.settings.fields import OffIsAWord, Seconds, SecondsOrOff, Section, TextByLanguage
from xiaozhi.settings.fixed_texts import TOOL_FILLER


class Conversation(Section):
    """How turns are taken and what is remembered within a visit."""

    max_utterance_ms: int = Field(
        default=30_000, ge=1_000, le=300_000, description="Longest utterance; then it is cut, ms."
    )
    pre_roll_frames: int = Field(default=10, ge=0, le=100, description="Frames kept from before speech was noticed.")
    min_utterance_frames: int = Field(
        default=15, ge=0, le=200, description="Shorter utterances are not recognised, frames."
    )
    pause_ms: Literal["auto"] | Annotated[int, Field(ge=0, le=10_000)] = Field(
        default="auto",
        description="Silence after which an answer is prepared ahead of time, ms; auto: in time to be ready; 0: never.",
    )
    speculative: Annotated[Literal["off", "asr", "llm"], OffIsAWord] = Field(
        default="asr", description="How far to prepare on a pause."
    )
    echo: Echo = Field(
        default="auto",
        description="Echo cancelling on the server, in realtime mode: off, auto (devices that ask for it), on (all).",
    )
    resume_seconds: SecondsOrOff = Field(
        default=120.0, description="How long a dialogue waits for its device to come back, s; 0: not at all."
    )
    history_turns: int = Field(default=20, ge=1, le=1_000, description="Past turns the language model is shown.")
    history_tokens: int = Field(
        default=6_000, ge=100, le=10_000_000, description="Past tokens (estimated) the language model is shown."
    )
    tool_depth: int = Field(default=5, ge=1, le=50, description="Rounds of tool calls within one answer.")
    tool_filler_seconds: SecondsOrOff = Field(default=4.0, description="Tools take longer: words follow, s; 0: none.")
    tool_filler: TextByLanguage = Field(
        default_factory=lambda: dict(TOOL_FILLER), description="Those words: one text, or one per language."
    )
    late_answer_seconds: SecondsOrOff = Field(
        default=15.0, description="A tool takes longer: its result is told later, s; 0: it is waited for."
    )
    late_answer_limit: Seconds = Field(default=600.0, description="Longest life of such a call, s.")
    reply_cache_bytes: int = Field(
        default=33_554_432, ge=0, le=17_179_869_184, description="Memory for ready-made speech, bytes; 0: none."
    )
    llm_cache: bool = Field(default=False, description="Reuse answers to exactly repeated, context-free questions.")
