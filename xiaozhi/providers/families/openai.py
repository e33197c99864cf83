"""What the OpenAI-compatible providers share: where their endpoints are, how their errors read. Others answer with the
same kinds of errors.

Not a client: each of `llm/openai`, `asr/openai`, `tts/openai` and `vllm/openai` speaks its own endpoint. Source:
platform.openai.com/docs/api-reference, and what compatible servers make of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xiaozhi.errors import VendorBusy, VendorError, VendorRejected, VendorTimeout, VendorUnavailable
from xiaozhi.net.http_errors import MAX_DETAILS, redact


def endpoint(url: str, path: str) -> str:
    """The full address of `path` ("audio/speech"): `url` may be it already, or the base it hangs on."""
    bare, _, query = url.partition("?")
    if not bare.endswith(f"/{path}"):
        bare = f"{bare.rstrip('/')}/{path}"
    return f"{bare}?{query}" if query else bare


_ERROR_KINDS = ("type", "code", "status", "error_code", "status_code", "errcode", "Code")
_ERROR_MESSAGES = (
    "message",
    "msg",
    "error_msg",
    "error_message",
    "errorMessage",
    "status_msg",
    "detail",
    "Message",
    "err_msg",
    "error",
)
# Vendors whose errors are numbers. Source: www.xfyun.cn/doc/spark/Web.html (error codes),
# docs.bigmodel.cn/cn/api/api-code.
_CODES: Mapping[str, tuple[tuple[type[VendorError], frozenset[str]], ...]] = {
    "xf-yun.com": (
        (VendorBusy, frozenset({"10007", "10008", "10010", "11201", "11202", "11203"})),
        (VendorRejected, frozenset({"10013", "10014", "10015", "10016", "10019", "10163", "10907", "11200"})),
    ),
    "bigmodel.cn": (
        (VendorBusy, frozenset({"1302", "1303", "1305", "1308"})),
        (VendorRejected, frozenset({*map(str, range(1000, 1005)), "1112", "1113", "1211", "1214", "1301"})),
    ),
}
_ERROR_SIGNS: tuple[tuple[type[VendorError], tuple[str, ...]], ...] = (
    (VendorBusy, ("rate_limit", "429", "overloaded", "busy", "throttl")),
    (VendorTimeout, ("timeout", "408", "504")),
    (VendorUnavailable, ("tool_use_failed",)),  # the model wrote a call that its server could not read
    (
        VendorRejected,
        (
            "invalid", "auth", "permission", "billing", "not_found", "quota", "filter", "inspection", "sensitive",
            "400", "401", "402", "403", "404", "413", "422",
        ),
    ),
)  # fmt: skip
# For vendors that say nothing but a sentence.
_MESSAGE_SIGNS: tuple[tuple[type[VendorError], tuple[str, ...]], ...] = (
    (VendorBusy, ("rate limit", "too many requests", "overloaded", "限流", "请求过于频繁")),
    (
        VendorRejected,
        (
            "api key",
            "unauthorized",
            "authentication",
            "insufficient",
            "context length",
            "not support",
            "余额",
            "欠费",
            "inappropriate",
            "敏感",
            "违规",
        ),
    ),
)


def error_in_answer(vendor: str, error: Any) -> VendorError:
    """The typed error of an error object inside an answer that began with 200."""
    fields = error if isinstance(error, Mapping) else {"message": str(error)}
    words = " ".join(str(fields[key]) for key in _ERROR_KINDS if fields.get(key)).lower()
    message = next((str(fields[key]) for key in _ERROR_MESSAGES if fields.get(key)), "")
    whole = f"{words} {message}".strip() or str(error)
    text, details = redact(whole), redact(whole, limit=MAX_DETAILS)
    kinds = set(words.split())
    numbered = next((codes for domain, codes in _CODES.items() if vendor.endswith(domain)), ())
    for made, numbers in numbered:
        if not numbers.isdisjoint(kinds):
            return made(vendor, text, details=details)
    for made, signs in _ERROR_SIGNS:
        if any(sign in words for sign in signs):
            return made(vendor, text, details=details)
    said = message.lower()
    for made, signs in _MESSAGE_SIGNS:
        if any(sign in said for sign in signs):
            return made(vendor, text, details=details)
    return VendorUnavailable(vendor, text, details=details)
