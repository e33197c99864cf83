"""What is known of vendors beforehand: their hosts, how many requests at once they usually allow, and which are no
longer there. Not how they are spoken to, which is a provider's business, nor which block names they have
(`config/vendors.yaml`).

An address may belong to another vendor than the name of its block: samples are copied, and with them the address of the
sample above; the key of one vendor is then sent to another, who says no more than that it is wrong. Models with open
weights are served by many: a block named after such a model may have the address of any of them.

The limits are the recommendation that this product was ordered with, about a third of what accounts are given; a block
or `ai_providers` overrides them."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from xiaozhi.settings.vendor_limits import UNKNOWN_VENDOR

ADDRESSES: Final = ("base_url", "api_url", "url", "ws_url", "api_base", "endpoint", "host")
"""Names under which a block has its vendor's address, the usual one first."""


@dataclass(frozen=True, slots=True)
class _Vendor:
    """`named`: a pattern of block names. `open_weights`: the name is a model's that others serve too. `serves`: whose
    models its hosts have. `chat`: where its language models are asked. `types`: provider types that talk to nobody
    else, unless their block names another address. `limits`: kind -> requests at the same time."""

    name: str
    named: str
    domains: tuple[str, ...]
    chat: str = ""
    open_weights: bool = False
    serves: Literal["own", "open weights", "everybody's"] = "own"
    types: tuple[str, ...] = ()
    limits: Mapping[str, int] = field(default_factory=dict)


_VENDORS: Final = (
    # Many name their block "OpenaiLLM" for whatever has the same interface.
    _Vendor("OpenAI", r"(?!)", ("openai.com",), limits={"llm": 15, "tts": 8, "asr": 10}),
    _Vendor(
        "Aliyun",
        r"ali(?:yun|bl|llm|app|tts|asr)|dashscope",
        ("aliyuncs.com",),
        "https://dashscope.aliyuncs.com/compatible-mode/v1",
        serves="open weights",
        types=("aliyun", "aliyun_stream", "aliyunbl_stream", "qwen3_asr_flash", "alibl_stream", "AliBL"),
        limits={"llm": 20, "tts": 10, "asr": 15},
    ),
    _Vendor("Qwen", r"qwen|tongyi", ("aliyuncs.com",), open_weights=True),
    _Vendor(
        "Volcengine",
        r"doubao|volc|huoshan",
        ("volces.com", "volcengine.com", "bytedance.com", "bytepluses.com", "302.ai", "302ai.cn"),
        "https://ark.cn-beijing.volces.com/api/v3",
        serves="open weights",
        types=("doubao", "doubao_stream", "huoshan_double_stream"),
        limits={"llm": 12, "tts": 6, "asr": 8},
    ),
    _Vendor("DeepSeek", r"deepseek", ("deepseek.com",), "https://api.deepseek.com", open_weights=True),
    _Vendor(
        "Zhipu",
        r"chatglm|zhipu|bigmodel",
        ("bigmodel.cn", "z.ai"),
        "https://open.bigmodel.cn/api/paas/v4",
        open_weights=True,
        limits={"llm": 10, "tts": 5},
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
    _Vendor(
        "Tencent",
        r"tencent|hunyuan",
        ("tencentcloudapi.com", "tencent.com"),
        serves="open weights",
        types=("tencent", "tencent_stream"),
        limits={"llm": 15, "tts": 8, "asr": 10},
    ),
    _Vendor("Baidu", r"baidu|qianfan", ("baidubce.com", "baidu.com"), serves="open weights"),
    _Vendor("Coze", r"coze", ("coze.cn", "coze.com")),
)


_GONE: Final[Mapping[tuple[str, str], str]] = {
    ("tts", "linkerai"): "LinkerAI",
    ("tts", "ttson"): "ACGN (ttson)",
    ("tts", "acgn"): "ACGN (ttson)",
    ("tts", "acgntts"): "ACGN (ttson)",
    ("tts", "gizwits"): "Gizwits",
}
"""Types that the server whose files are read here once had, and has dropped with their services in 2025."""
_GONE_HOSTS: Final[Mapping[str, str]] = {
    "linkerai.cn": "LinkerAI",
    "ttson.cn": "ACGN (ttson)",
    "gizwitsapi.com": "Gizwits",
}
"""Where they were. Blocks of other types may have their addresses."""
_INSTEAD: Final = "`type: edge` needs no key, `type: doubao` has similar voices"
_RENAMED: Final[Mapping[tuple[str, str], str]] = {
    ("asr", "vosk_local"): "vosk",
    ("llm", "chatglm"): "openai",
    ("llm", "doubao"): "openai",
    ("tts", "302ai"): "doubao",
    ("tts", "gsv"): "gpt_sovits_v2",
    ("tts", "huoshan"): "huoshan_double_stream",
    ("tts", "indexstream"): "index_stream",
    ("tts", "minimax"): "minimax_httpstream",
    ("tts", "minimax_websocket"): "minimax_httpstream",
}
"""Types that are called otherwise by now, there and here; consoles that were set up long ago still list them."""


def advice_for(kind: str, type_name: str) -> str | None:
    """What to use in place of a type whose service is gone, or which has another name now; None for all others."""
    known = kind, type_name.casefold()
    if (service := _GONE.get(known)) is not None:
        return f"another type: {service} is no longer offered; {_INSTEAD}"
    if (renamed := _RENAMED.get(known)) is not None and renamed != type_name:
        return f"`type: {renamed}`, as it is called now; its keys are in docs/providers.md"
    return None


def usual_limit(kind: str, type_name: str, block: Mapping[str, Any]) -> int:
    """Requests at the same time that a block's vendor usually allows, by its address or else by its type;
    UNKNOWN_VENDOR where nothing is known. Models that look at pictures count as language models."""
    host = _host(block)
    owner = next(
        (
            vendor
            for vendor in _VENDORS
            if vendor.limits
            and (any(_within(host, domain) for domain in vendor.domains) if host else type_name in vendor.types)
        ),
        None,
    )
    return owner.limits.get("llm" if kind == "vllm" else kind, UNKNOWN_VENDOR) if owner is not None else UNKNOWN_VENDOR


def foreign_address(name: str, block: Mapping[str, Any]) -> str | None:
    """What is odd about the address of the block `name`; None: nothing is."""
    for key in ADDRESSES:
        host = _host_in(str(block.get(key) or ""))
        if gone := next((service for domain, service in _GONE_HOSTS.items() if _within(host, domain)), ""):
            return f"{key}: {host} belongs to {gone}, which is no longer offered; {_INSTEAD}"
    named = [vendor for vendor in _VENDORS if re.search(vendor.named, name.lower())]
    if not named:
        return None
    for key in ADDRESSES:
        host = _host_in(str(block.get(key) or ""))
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


def _host(block: Mapping[str, Any]) -> str:
    """The host that a block is directed to, "" when it names none."""
    written = (str(block.get(key) or "").strip() for key in ADDRESSES)
    return next((_host_in(address) or address for address in written if address), "")


def _host_in(address: str) -> str:
    try:
        found = urllib.parse.urlsplit(address if "//" in address else f"//{address}").hostname
    except ValueError:
        return ""  # which is a fault that others tell
    return (found or "").rstrip(".").lower()
