"""Whether the address of a block belongs to another vendor than its name. Samples are copied, and with them the address
of the sample above; the key of one vendor is then sent to another, who says no more than that it is wrong.

Only names of vendors and hosts that are known here count. Models with open weights are served by many: a block named
after such a model may have the address of any of them."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

ADDRESSES: Final = ("base_url", "api_url", "url", "ws_url", "api_base", "endpoint", "host")
"""Names under which a block has its vendor's address, the usual one first."""


@dataclass(frozen=True, slots=True)
class _Vendor:
    """`named`: a pattern of block names. `open_weights`: the name is a model's that others serve too. `serves`: whose
    models its hosts have. `chat`: where its language models are asked."""

    name: str
    named: str
    domains: tuple[str, ...]
    chat: str = ""
    open_weights: bool = False
    serves: Literal["own", "open weights", "everybody's"] = "own"


_VENDORS: Final = (
    _Vendor(
        "Aliyun",
        r"ali(?:yun|bl|llm|app|tts|asr)|dashscope",
        ("aliyuncs.com",),
        "https://dashscope.aliyuncs.com/compatible-mode/v1",
        serves="open weights",
    ),
    _Vendor("Qwen", r"qwen|tongyi", ("aliyuncs.com",), open_weights=True),
    _Vendor(
        "Volcengine",
        r"doubao|volc|huoshan",
        ("volces.com", "volcengine.com", "bytedance.com", "bytepluses.com", "302.ai", "302ai.cn"),
        "https://ark.cn-beijing.volces.com/api/v3",
        serves="open weights",
    ),
    _Vendor("DeepSeek", r"deepseek", ("deepseek.com",), "https://api.deepseek.com", open_weights=True),
    _Vendor(
        "Zhipu",
        r"chatglm|zhipu|bigmodel",
        ("bigmodel.cn", "z.ai"),
        "https://open.bigmodel.cn/api/paas/v4",
        open_weights=True,
    ),
    _Vendor("Kimi", r"kimi|moonshot", ("moonshot.cn", "moonshot.ai"), "https://api.moonshot.cn/v1", open_weights=True),
    _Vendor("Xunfei", r"xunfei|xfyun|spark", ("xf-yun.com", "xfyun.cn"), "https://spark-api-open.xf-yun.com/v1"),
    _Vendor("Groq", r"groq", ("groq.com",), "https://api.groq.com/openai/v1", serves="open weights"),
    _Vendor("OpenRouter", r"openrouter", ("openrouter.ai",), "https://openrouter.ai/api/v1", serves="everybody's"),
    _Vendor(
        "SiliconFlow",
        r"siliconflow",
        ("siliconflow.cn", "siliconflow.com"),
        "https://api.siliconflow.cn/v1",
        serves="open weights",
    ),
    _Vendor("Gemini", r"gemini", ("googleapis.com",)),
    _Vendor("Claude", r"claude|anthropic", ("anthropic.com",)),
    _Vendor("MiniMax", r"minimax", ("minimax.io", "minimaxi.com", "minimax.chat")),
    _Vendor("Tencent", r"tencent|hunyuan", ("tencentcloudapi.com", "tencent.com"), serves="open weights"),
    _Vendor("Baidu", r"baidu|qianfan", ("baidubce.com", "baidu.com"), serves="open weights"),
    _Vendor("Coze", r"coze", ("coze.cn", "coze.com")),
)


def foreign_address(name: str, block: Mapping[str, Any]) -> str | None:
    """What is odd about the address of the block `name`; None: nothing is."""
    named = [vendor for vendor in _VENDORS if re.search(vendor.named, name.lower())]
    if not named:
        return None
    for key in ADDRESSES:
        host = (urllib.parse.urlsplit(str(block.get(key) or "")).hostname or "").lower()
        owners = [vendor for vendor in _VENDORS if any(_within(host, domain) for domain in vendor.domains)]
        if not owners or any(vendor in named for vendor in owners):
            continue
        served = {owner.serves for owner in owners}
        if "everybody's" in served or ("open weights" in served and all(vendor.open_weights for vendor in named)):
            continue
        where = f", which is asked at {named[0].chat}" if named[0].chat and "llm" in name.lower() else ""
        return f"{key}: {host} belongs to {owners[0].name}, and the block is named after {named[0].name}{where}"
    return None


def _within(host: str, domain: str) -> bool:
    return host == domain or host.endswith(f".{domain}")
