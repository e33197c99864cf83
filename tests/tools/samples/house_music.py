"""A tool of another file with the same options."""

from __future__ import annotations

from tests.tools.samples.house_options import HouseOptions
from tests.tools.samples.roll_dice import roll_dice
from xiaozhi.tools.registry import tool

__all__ = ["roll_dice"]  # what is only imported here is not declared here


@tool("house_play_music", HouseOptions)
def house_play_music(options: HouseOptions) -> str:
    """Plays music in the house."""
    return options.base_url
