"""What blocks of vendors that are asked over HTTP with keys of their own kind have in common: deadlines, proxy,
certificates. Vendors that take a bearer token inherit `families/openai.py`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import AliasChoices, Field, model_validator

from xiaozhi.net.http import VendorHttp
from xiaozhi.providers.contracts.provider import ProviderOptions
from xiaozhi.providers.families.openai import Timeouts


class BlankFree(ProviderOptions):
    """Empty values count as absent, as management consoles send them."""

    @model_validator(mode="before")
    @classmethod
    def _without_blanks(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        return {key: item for key, item in value.items() if item not in ("", None)}


class HttpOptions(BlankFree):
    """The block of a vendor that is asked over HTTP."""

    timeout: Timeouts = Timeouts()
    proxy: str | None = Field(None, validation_alias=AliasChoices("proxy", "http_proxy"))
    """URL of a proxy; unset: the usual environment variables."""
    verify_tls: bool = True

    def http(self, vendor: str, secrets: Iterable[str] = ()) -> VendorHttp:
        """The HTTP client of this block."""
        return VendorHttp(
            vendor,
            connect=self.timeout.connect,
            first_byte=self.timeout.first_byte,
            read=self.timeout.gap,
            total=self.timeout.total,
            secrets=secrets,
            proxy=self.proxy,
            verify=self.verify_tls,
        )
