"""What is kept of what was said, and for how long."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from xiaozhi.settings.fields import OffIsAWord, Section

_CONSOLE = ("off", "text", "sound")
"""The management console's `chat_history_conf`: 0, 1, 2."""


def _named(value: Any) -> Any:
    known = {str(number): name for number, name in enumerate(_CONSOLE)}
    return value if isinstance(value, bool) else known.get(str(value).strip(), value)


class HistorySettings(Section):
    """What is kept of what was said, and for how long."""

    mode: Annotated[Literal["off", "text", "sound"], OffIsAWord, BeforeValidator(_named)] = Field(
        default="text", description="What is kept of a turn: nothing, its text, or the user's sound as well."
    )
    days: int = Field(default=30, ge=0, le=36_500, description="How long turns are kept, days; 0: for ever.")
    sound_days: int = Field(
        default=7, ge=0, le=36_500, description="How long the user's sound is kept, days; 0: as long as its turn."
    )
    max_bytes: int = Field(
        default=268_435_456,
        ge=1_048_576,
        le=1_099_511_627_776,
        description="What may wait on the disk of this process until it is stored, bytes; then the oldest sound goes.",
    )
