"""Dice: the smallest tool that has everything."""

from __future__ import annotations

import random
from typing import Annotated

from pydantic import Field

from xiaozhi.tools.base import ToolOptions
from xiaozhi.tools.registry import tool


class RollDiceOptions(ToolOptions):
    """`plugins.roll_dice`."""

    sides: int = Field(6, ge=2, le=100)


@tool("roll_dice", RollDiceOptions)
def roll_dice(
    options: RollDiceOptions, count: Annotated[int, Field(ge=1, le=9, description="How many dice.")] = 1
) -> str:
    """Rolls dice. Call it when the user wants a random number. 掷骰子。"""
    return " ".join(str(random.randint(1, options.sides)) for _ in range(count))
