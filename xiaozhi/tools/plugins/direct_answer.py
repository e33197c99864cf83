"""A pretended tool: answering, for models that must call a tool (`tool_choice: required`, or small models that cannot
help it).

List it among `functions` of the intent for such a model. The turn speaks what is in `response` as if the model had
simply said it. Not for models that answer by themselves: text inside a tool call arrives whole, so its first sentence
is heard later."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from xiaozhi.tools.base import Action, ToolOutcome
from xiaozhi.tools.registry import tool


@tool("direct_answer", answers_directly="response")
def direct_answer(
    response: Annotated[str, Field(description="What to say, in the user's language. 要说的话，使用用户的语言。")],
) -> ToolOutcome:
    """Answer the user in words. Call it whenever no other tool fits: small talk, questions, explanations.
    没有其他工具合适时，用它直接回答用户。"""
    return ToolOutcome(Action.SPEAK, response)
