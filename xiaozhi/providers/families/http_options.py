"""How blocks of vendors that are asked over HTTP are written, whatever they speak: addresses, keys, deadlines, proxy,
certificates. The keys are those that existing configuration files use, in all their spellings."""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, AliasChoices, BaseModel, ConfigDict, Field, SecretStr, model_validator

from xiaozhi.net.http import VendorHttp
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


def _without_blanks(value: Mapping[str, Any]) -> dict[str, Any]:
    return {key: item for key, item in value.items() if item not in ("", None)}


class BlankFree(ProviderOptions):
    """Empty values count as absent, as management consoles send them."""

    @model_validator(mode="before")
    @classmethod
    def _blanks_are_absent(cls, value: Any) -> Any:
        return _without_blanks(value) if isinstance(value, Mapping) else value


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
            value = _without_blanks(value)
            if "total" not in value and isinstance(value.get("read"), (int, float, str)):
                value["total"] = max(60.0, float(value["read"]))
        return value


class HttpOptions(BlankFree):
    """The block of a vendor that is asked over HTTP."""

    timeout: Timeouts = Timeouts()
    proxy: str | None = Field(None, validation_alias=AliasChoices("proxy", "https_proxy", "http_proxy"))
    """URL of a proxy; unset: the usual environment variables."""
    verify_tls: bool = True
    headers: dict[str, str] = {}
    """Sent with every request, for gateways."""

    def secrets(self) -> list[str]:
        """What no message may show: what stands in the headers, where gateways have their keys."""
        return [word for value in self.headers.values() for word in value.split()[-1:] if len(word) > 3]

    def http(self, vendor: str, secrets: Iterable[str] = (), headers: Mapping[str, str] | None = None) -> VendorHttp:
        """The HTTP client of this block. `secrets`, `headers`: further ones."""
        return VendorHttp(
            vendor,
            connect=self.timeout.connect,
            first_byte=self.timeout.first_byte,
            read=self.timeout.gap,
            total=self.timeout.total,
            headers={**(headers or {}), **self.headers},
            secrets=[*self.secrets(), *secrets],
            proxy=self.proxy,
            verify=self.verify_tls,
        )


class KeyedOptions(HttpOptions):
    """The block of a vendor that wants a bearer token, or none on one's own machine. A vendor that wants its key in
    another header overrides `credentials`."""

    api_key: ApiKey = SecretStr("")

    def credentials(self) -> dict[str, str]:
        """The headers that carry the key."""
        key = self.api_key.get_secret_value()
        return {"Authorization": f"Bearer {key}"} if key else {}

    def secrets(self) -> list[str]:
        """The key, too."""
        key = self.api_key.get_secret_value()
        return [*super().secrets(), *([key] if len(key) > 3 else [])]

    def client(self, url: str) -> VendorHttp:
        """The HTTP client for an endpoint; errors name its host."""
        return self.http(urllib.parse.urlsplit(url).hostname or self.type, headers=self.credentials())
