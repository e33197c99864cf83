"""Tells other devices of the household something: "tell the kitchen that dinner is ready"."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

from pydantic import Field

from xiaozhi.errors import ToolError
from xiaozhi.tools.base import Action, ToolContext, ToolOptions, ToolOutcome, ToolServices
from xiaozhi.tools.household import AskingDevice, Told, ToldWhen
from xiaozhi.tools.registry import tool

MAX_MESSAGE_CHARS: Final = 500
MAX_NAMED: Final = 4
"""In one spoken answer."""

_SAID: Final = {
    ToldWhen.NOW: ("已经告诉{}了。", "I have told {}."),
    ToldWhen.WHEN_BACK: ("{}现在不在线，等回来了我会转告。", "{} is away; I will pass it on later."),
    ToldWhen.AFTER_QUIET_HOURS: (
        "{}现在是免打扰时间，结束后我会转告。",
        "{} has quiet hours now; I will pass it on afterwards.",
    ),
    ToldWhen.NEVER: ("没能告诉{}。", "I could not tell {}."),
}


class TellDevice:
    """The tool."""

    def __init__(self, options: ToolOptions, services: ToolServices) -> None:
        self._others = services.others

    @tool("tell_device", timeout=15.0)
    def tell_device(
        self,
        context: ToolContext,
        to: Annotated[
            str,
            Field(
                description="The device or the group by its name, such as a room, or 'everyone'. "
                "设备或分组的名字，例如房间名，或“所有人”。",
                min_length=1,
            ),
        ],
        message: Annotated[
            str, Field(description="What they are to hear, as it is said to them. 要转告的话。", min_length=1)
        ],
    ) -> ToolOutcome:
        """Says something on other devices of this household. Call it when the user wants you to tell another room,
        a group or everyone something. 给家里其他设备传话，例如“告诉厨房饭好了”。"""
        text = message.strip()[:MAX_MESSAGE_CHARS]
        if not text:
            raise ToolError("There is nothing to be told. 没有要转告的话。")
        told = self._others.tell(AskingDevice(context.device_id, context.client_id), to, text)
        return ToolOutcome(Action.SPEAK, said(told, chinese=context.chinese))


def said(told: Sequence[Told], *, chinese: bool) -> str:
    """What the user hears of it."""
    sentences: list[str] = []
    for when, (zh, en) in _SAID.items():
        names = [one.name for one in told if one.when is when]
        if names:
            listed = ("、" if chinese else ", ").join(names[:MAX_NAMED])
            if len(names) > MAX_NAMED:
                more = len(names) - MAX_NAMED
                listed += f"等{len(names)}台设备" if chinese else f" and {more} more"
            sentences.append((zh if chinese else en).format(listed))
    return "".join(sentences) if chinese else " ".join(sentences)
