"""The user wants to stop: say goodbye, then close. Not the exit commands of the configuration, which close at once and
ask no model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xiaozhi.chat import ToolSpec
from xiaozhi.tools.base import Action, FunctionTool, Tool, ToolContext, ToolOutcome
from xiaozhi.tools.plugins import PluginServices

_SPEC = ToolSpec(
    "handle_exit_intent",
    "Call it when the user says goodbye or wants to end the conversation; it speaks your farewell and hangs up. "
    "用户想结束对话或退出时调用。",
    {
        "type": "object",
        "properties": {
            "say_goodbye": {
                "type": "string",
                "description": "A short, friendly farewell in the user's language. 用用户的语言写的简短告别语。",
            }
        },
        "required": [],
    },
)


def build(options: Mapping[str, Any], services: PluginServices) -> Tool:
    """The tool; it has no options."""

    def say_goodbye(arguments: Mapping[str, Any], context: ToolContext) -> ToolOutcome:
        farewell = str(arguments.get("say_goodbye") or "").strip()
        context.actions.close_after_reply()
        return ToolOutcome(
            Action.SPEAK, farewell or ("再见，下次再聊！" if context.chinese else "Goodbye, talk to you soon!")
        )

    return FunctionTool(_SPEC, say_goodbye)
