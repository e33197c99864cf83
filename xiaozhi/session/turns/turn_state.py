"""The states of a turn, and which follows which."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final


class TurnState(Enum):
    """Where a turn is in its life; see `turn.py`."""

    PREPARED = "prepared"
    RELEASED = "released"
    AUDIBLE = "audible"
    ENDED = "ended"
    DISCARDED = "discarded"


NEXT: Final[Mapping[TurnState, frozenset[TurnState]]] = {
    TurnState.PREPARED: frozenset({TurnState.RELEASED, TurnState.DISCARDED}),
    TurnState.RELEASED: frozenset({TurnState.AUDIBLE, TurnState.ENDED}),
    TurnState.AUDIBLE: frozenset({TurnState.ENDED}),
    TurnState.ENDED: frozenset(),
    TurnState.DISCARDED: frozenset(),
}
OVER: Final = (TurnState.ENDED, TurnState.DISCARDED)
