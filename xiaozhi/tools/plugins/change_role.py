"""The assistant becomes somebody else: a new system prompt for the rest of the visit.

Options: `roles: {name: prompt}` replaces the roles below; `{{assistant_name}}` in a prompt becomes the name the user
asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rapidfuzz import fuzz, process

from xiaozhi.chat import ToolSpec
from xiaozhi.errors import Fault, SettingsError
from xiaozhi.tools.base import Action, FunctionTool, Tool, ToolContext, ToolOutcome
from xiaozhi.tools.plugins import PluginServices

NAME_PLACE = "{{assistant_name}}"
MAX_NAME_CHARS = 40
# 0..100; "the English teacher" still finds "English teacher", "doctor" finds nobody.
MIN_LIKENESS = 60

_TEACHER = (
    f"You are {NAME_PLACE}, a patient English teacher who also speaks "
    "Chinese. Help the learner to speak: use simple words, keep every "
    "reply to one or two sentences, end with a question, and correct "
    "mistakes gently. When asked about something else, lead the talk "
    "back to English."
)
_FRIEND = (
    f"你是{NAME_PLACE}，一个说话直爽、爱开玩笑的台湾女生。"
    "回答要短，口气亲近，偶尔吐槽一下对方，但始终是在关心他。不要长篇大论。"
)
_BOY = (
    f"你是{NAME_PLACE}，一个八岁的小男孩，对什么都好奇。"
    "你会用孩子的口吻分享知道的小知识，常常反问“为什么呀”，句子简短，充满惊喜。"
)

DEFAULT_ROLES: Mapping[str, str] = {
    "英语老师": _TEACHER,
    "机车女友": _FRIEND,
    "好奇小男孩": _BOY,
    "English teacher": _TEACHER,
}


def build(options: Mapping[str, Any], services: PluginServices) -> Tool:
    """The tool, with the roles of `options`. Raises SettingsError when they are not texts by name."""
    roles = _roles(options.get("roles"))
    names = "、".join(roles)
    spec = ToolSpec(
        "change_role",
        "Call it when the user wants you to play another role "
        f"or character. Roles on offer: {names}. 用户想切换角色或性格时调用。",
        {
            "type": "object",
            "properties": {
                "role": {"type": "string", "description": f"One of: {names}. 角色。"},
                "role_name": {
                    "type": "string",
                    "description": "The name the role shall go by, if the user gave one. 角色的名字。",
                },
            },
            "required": ["role"],
        },
    )

    def change_role(arguments: Mapping[str, Any], context: ToolContext) -> ToolOutcome:
        wanted = str(arguments["role"])
        match = process.extractOne(
            wanted, list(roles), scorer=fuzz.WRatio, processor=str.lower, score_cutoff=MIN_LIKENESS
        )
        if match is None:
            return ToolOutcome(Action.ERROR, f"There is no such role. Roles on offer: {names}.")
        role = match[0]
        # Braces would reach the template that the prompt is put into.
        name = (
            str(arguments.get("role_name") or role).replace("{", "").replace("}", "").strip()[:MAX_NAME_CHARS] or role
        )
        context.actions.set_prompt(roles[role].replace(NAME_PLACE, name))
        if name == role:
            return ToolOutcome(
                Action.SPEAK, f"好的，我现在是{role}。" if context.chinese else f"All right, I am your {role} now."
            )
        return ToolOutcome(
            Action.SPEAK,
            f"好的，我现在是{role}{name}。" if context.chinese else f"All right, I am {name}, your {role}, now.",
        )

    return FunctionTool(spec, change_role)


def _roles(configured: Any) -> Mapping[str, str]:
    if configured is None:
        return DEFAULT_ROLES
    key = "plugins.change_role.roles"
    if not isinstance(configured, Mapping) or not configured:
        raise SettingsError([Fault(key, repr(configured)[:80], "a mapping of role names to prompts")])
    faults = [
        Fault(f"{key}.{name}", repr(prompt)[:80], "a prompt (text)")
        for name, prompt in configured.items()
        if not isinstance(prompt, str) or not prompt.strip()
    ]
    if faults:
        raise SettingsError(faults)
    return {str(name): prompt for name, prompt in configured.items()}
