"""The assistant becomes somebody else: a new system prompt for the rest of the session."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field, StringConstraints
from rapidfuzz import fuzz, process

from xiaozhi.errors import ToolError
from xiaozhi.tools.base import Action, ToolContext, ToolOptions, ToolOutcome
from xiaozhi.tools.registry import tool

NAME_PLACE = "{{assistant_name}}"
MAX_NAME_CHARS = 40
# 0..100; "the English teacher" still finds "English teacher", "doctor" finds nobody.
MIN_LIKENESS = 60

_TEACHER = (
    f"You are {NAME_PLACE}, a patient English teacher who also speaks Chinese. Help the learner to speak: use simple "
    "words, keep every reply to one or two sentences, end with a question, and correct mistakes gently. When asked "
    "about something else, lead the talk back to English."
)
_FRIEND = (
    f"你是{NAME_PLACE}，一个说话直爽、爱开玩笑的台湾女生。回答要短，口气亲近，偶尔吐槽一下对方，但始终是在关心他。"
    "不要长篇大论。"
)
_BOY = (
    f"你是{NAME_PLACE}，一个八岁的小男孩，对什么都好奇。你会用孩子的口吻分享知道的小知识，常常反问“为什么呀”，"
    "句子简短，充满惊喜。"
)

DEFAULT_ROLES: Mapping[str, str] = {
    "英语老师": _TEACHER,
    "机车女友": _FRIEND,
    "好奇小男孩": _BOY,
    "English teacher": _TEACHER,
}

Prompt = Annotated[str, StringConstraints(strict=True, pattern=r"\S")]


class ChangeRoleOptions(ToolOptions):
    """`plugins.change_role`."""

    roles: dict[str, Prompt] = Field(
        dict(DEFAULT_ROLES),
        min_length=1,
        description="Prompts by name of the role; {{assistant_name}} in a prompt becomes the name the user asked for.",
    )

    def words(self) -> Mapping[str, str]:
        return {"roles": "、".join(self.roles)}


@tool("change_role", ChangeRoleOptions, late_after=0)
def change_role(
    context: ToolContext,
    options: ChangeRoleOptions,
    role: Annotated[str, Field(description="One of: {roles}. 角色。")],
    role_name: Annotated[
        str, Field(description="The name the role shall go by, if the user gave one. 角色的名字。")
    ] = "",
) -> ToolOutcome:
    """Call it when the user wants you to play another role or character. Roles on offer: {roles}.
    用户想切换角色或性格时调用。"""
    match = process.extractOne(
        role, list(options.roles), scorer=fuzz.WRatio, processor=str.lower, score_cutoff=MIN_LIKENESS
    )
    if match is None:
        raise ToolError(f"There is no such role. Roles on offer: {'、'.join(options.roles)}.")
    chosen = match[0]
    # Braces would reach the template that the prompt is put into.
    name = role_name.replace("{", "").replace("}", "").strip()[:MAX_NAME_CHARS] or chosen
    context.actions.set_prompt(options.roles[chosen].replace(NAME_PLACE, name))
    if context.chinese:
        return ToolOutcome(Action.SPEAK, f"好的，我现在是{chosen if name == chosen else chosen + name}。")
    return ToolOutcome(
        Action.SPEAK,
        f"All right, I am your {chosen} now." if name == chosen else f"All right, I am {name}, your {chosen}, now.",
    )
