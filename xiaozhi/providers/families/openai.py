"""What the OpenAI-compatible providers share: how their blocks are written, where their endpoints are, how their errors
read.

Not a client: each of `llm/openai`, `asr/openai`, `tts/openai` and `vllm/openai` speaks its own endpoint. The keys are
those that existing configuration files use, in all their spellings. Source: platform.openai.com/docs/api-reference, and
what compatible servers make of it."""

from __future__ import annotations

import urllib.parse
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, AliasChoices, BaseModel, ConfigDict, Field, SecretStr, model_validator

from xiaozhi.errors import VendorBusy, VendorError, VendorRejected, VendorTimeout, VendorUnavailable
from xiaozhi.net.http import VendorHttp
from xiaozhi.net.http_errors import MAX_DETAILS, redact
from xiaozhi.providers.contracts.provider import ProviderOptions


def _http_url(value: str) -> str:
    parts = urllib.parse.urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("expected an address such as https://api.openai.com/v1")
    return value.rstrip("/")


def _real_key(value: SecretStr) -> SecretStr:
    # A header can hold nothing else; in practice this is the placeholder of a sample file.
    if not value.get_secret_value().isascii():
        raise ValueError("expected the vendor's key; the sample text is still there")
    return value


HttpUrl = Annotated[str, AfterValidator(_http_url)]
ApiKey = Annotated[SecretStr, AfterValidator(_real_key)]


class Timeouts(BaseModel):
    """Seconds. A plain number in the configuration is the total."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    connect: float = Field(3.0, gt=0)
    first_byte: float = Field(15.0, gt=0, validation_alias=AliasChoices("first_byte", "first_token", "read"))
    gap: float = Field(15.0, gt=0, validation_alias=AliasChoices("gap", "read"))
    """Between two pieces of a streamed answer."""
    total: float = Field(60.0, gt=0)

    @model_validator(mode="before")
    @classmethod
    def _as_written(cls, value: Any) -> Any:
        if isinstance(value, (int, float, str)):
            total = float(value)
            # Existing files write 0 for "whatever is usual".
            return {"total": total, "first_byte": min(15.0, total), "gap": min(15.0, total)} if total else {}
        if isinstance(value, Mapping):
            value = {key: item for key, item in value.items() if item not in ("", None)}
            if "total" not in value and isinstance(value.get("read"), (int, float, str)):
                value["total"] = max(60.0, float(value["read"]))
        return value


class OpenAiOptions(ProviderOptions):
    """Keys common to all four kinds. Empty values count as absent, as management consoles send them."""

    api_key: ApiKey = SecretStr("")
    timeout: Timeouts = Timeouts()
    proxy: str | None = Field(None, validation_alias=AliasChoices("proxy", "https_proxy", "http_proxy"))
    """URL of a proxy; unset: the usual environment variables."""
    verify_tls: bool = True
    headers: dict[str, str] = {}
    """Sent with every request, for gateways."""

    @model_validator(mode="before")
    @classmethod
    def _without_blanks(cls, value: Any) -> Any:
        return (
            {key: item for key, item in value.items() if item not in ("", None)}
            if isinstance(value, Mapping)
            else value
        )

    def credentials(self) -> dict[str, str]:
        """The headers that carry the key."""
        key = self.api_key.get_secret_value()
        return {"Authorization": f"Bearer {key}"} if key else {}

    def secrets(self) -> list[str]:
        """What no message may show: the key, and what stands in the headers, where gateways have theirs."""
        written = [word for value in self.headers.values() for word in value.split()[-1:]]
        return [secret for secret in (self.api_key.get_secret_value(), *written) if len(secret) > 3]

    def client(self, url: str) -> VendorHttp:
        """The HTTP client for an endpoint; errors name its host."""
        return VendorHttp(
            urllib.parse.urlsplit(url).hostname or "openai",
            connect=self.timeout.connect,
            first_byte=self.timeout.first_byte,
            read=self.timeout.gap,
            total=self.timeout.total,
            headers={**self.credentials(), **self.headers},
            secrets=self.secrets(),
            proxy=self.proxy,
            verify=self.verify_tls,
        )


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
