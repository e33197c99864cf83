"""What keeps a model from thinking before it speaks, by the vendor's host and, where models of one host differ, by the
model. Thinking costs seconds that a spoken answer does not have.

A switch is what is added to a request. Of several the next is tried when the vendor refuses the one before
(`learnt_limits.py`), so that a model which cannot stop thinking at least thinks little.

Source: the vendors' pages on reasoning, such as help.aliyun.com/zh/model-studio/deep-thinking,
www.volcengine.com/docs/82379/1449737, docs.bigmodel.cn/cn/guide/capabilities/thinking, www.xfyun.cn/doc/spark/X1http,
console.groq.com/docs/reasoning, openrouter.ai/docs/use-cases/reasoning-tokens,
platform.openai.com/docs/guides/reasoning, ai.google.dev/gemini-api/docs/openai."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Mapping
from typing import Any, Final

Switches = tuple[Mapping[str, Any], ...]

_ENABLE: Final[Switches] = ({"enable_thinking": False},)
_DISABLED: Final[Switches] = ({"thinking": {"type": "disabled"}},)


def _efforts(*names: str) -> Switches:
    return tuple({"reasoning_effort": name} for name in names)


# Domain, models of it, switches.
_BY_HOST: Final[tuple[tuple[str, str, Switches], ...]] = (
    ("aliyuncs.com", "", _ENABLE),
    ("siliconflow.cn", "", _ENABLE),
    ("siliconflow.com", "", _ENABLE),
    ("modelscope.cn", "", _ENABLE),
    ("deepseek.com", "", _DISABLED),
    ("bigmodel.cn", "", _DISABLED),
    ("z.ai", "", _DISABLED),
    ("moonshot.cn", "", _DISABLED),
    ("moonshot.ai", "", _DISABLED),
    ("volces.com", "", _DISABLED),
    ("bytepluses.com", "", _DISABLED),
    ("xf-yun.com", r"x\d", _DISABLED),  # Lite to Ultra do not think
    ("groq.com", r"qwen|gpt-oss", _efforts("none", "low")),
    ("openrouter.ai", "", ({"reasoning": {"enabled": False}}, {"reasoning": {"effort": "low"}})),
    ("openai.com", r"(?:^|/)(?:gpt-[5-9]|o\d)", _efforts("none", "minimal", "low")),
    ("openai.azure.com", r"(?:^|/)(?:gpt-?[5-9]|o\d)", _efforts("none", "minimal", "low")),
    ("generativelanguage.googleapis.com", r"gemini-(?!1|2\.0)", _efforts("none", "minimal", "low")),
)


def thinking_switches(url: str, model: str) -> Switches:
    """The switches of a model at an address, the best one first; () where none is known, or needed."""
    host = (urllib.parse.urlsplit(url).hostname or "").lower()
    for domain, models, switches in _BY_HOST:
        if (host == domain or host.endswith(f".{domain}")) and re.search(models, model.lower()):
            return switches
    return ()
