"""A tool that only carries an answer, and one that is no tool."""

from __future__ import annotations

from xiaozhi.tools.registry import tool


@tool("say_it", answers_directly="words")
def say_it(words: str) -> str:
    """Says something."""
    return words


def not_a_tool() -> str:
    """Has no decorator."""
    return ""
