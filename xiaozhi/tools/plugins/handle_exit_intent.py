"""The user wants to stop: say goodbye, then close. Not the exit commands of the configuration, which close at once and
ask no model."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from xiaozhi.tools.base import Action, ToolContext, ToolOutcome
from xiaozhi.tools.registry import tool


@tool("handle_exit_intent", late_after=0)
def handle_exit_intent(
    context: ToolContext,
    say_goodbye: Annotated[
        str, Field(description="A short, friendly farewell in the user's language. 用用户的语言写的简短告别语。")
    ] = "",
) -> ToolOutcome:
    """Call it when the user says goodbye or wants to end the conversation; it speaks your farewell and hangs up.
    用户想结束对话或退出时调用。"""
    context.actions.close_after_reply()
    usual = "再见，下次再聊！" if context.chinese else "Goodbye, talk to you soon!"
    return ToolOutcome(Action.SPEAK, say_goodbye.strip() or usual)
