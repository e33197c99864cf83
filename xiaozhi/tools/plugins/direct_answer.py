"""The virtual tool: answering, for models that must call a tool (`tool_choice: required`, or small models that cannot
help it).

List it among `functions` of the intent for such a model. The answer itself is spoken by the turn, which knows this tool
by name and treats what is in `response` as if the model had simply said it; `run` is only reached by other callers. Not
for models that answer by themselves: text inside a tool call arrives whole, so its first sentence is heard later."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from xiaozhi.chat import ToolSpec
from xiaozhi.tools.base import Action, FunctionTool, Tool, ToolContext, ToolOutcome
from xiaozhi.tools.plugins import PluginServices

NAME: Final = "direct_answer"
RESPONSE: Final = "response"
_SPEC = ToolSpec(
    NAME,
    "Answer the user in words. Call it whenever no other tool fits: small talk, questions, explanations. "
    "没有其他工具合适时，用它直接回答用户。",
    {
        "type": "object",
        "properties": {
            RESPONSE: {
                "type": "string",
                "description": "What to say, in the user's language. 要说的话，使用用户的语言。",
            }
        },
        "required": [RESPONSE],
    },
)


def build(options: Mapping[str, Any], services: PluginServices) -> Tool:
    """The tool; it has no options."""

    def answer(arguments: Mapping[str, Any], context: ToolContext) -> ToolOutcome:
        return ToolOutcome(Action.SPEAK, str(arguments.get(RESPONSE) or ""))

    return FunctionTool(_SPEC, answer)
