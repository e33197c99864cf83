"""Ids and switches that consoles of platforms hand out, as they stand in configuration files."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator


def _real_id(value: str) -> str:
    value = value.strip()
    if not value or not value.isascii():
        raise ValueError("expected the id that the vendor's console shows; the sample text is still there")
    return value


def _or_none(value: Any) -> Any:
    if value is True:
        raise ValueError("expected the id that the vendor's console shows, or false")
    return None if value is False or str(value).strip().lower() in ("", "false", "none", "null") else value


PlatformId = Annotated[str, AfterValidator(_real_id)]
"""Sample text in Chinese is refused."""
PlatformIdOrFalse = Annotated[PlatformId | None, BeforeValidator(_or_none)]
