"""How hard vendors may be driven."""

from __future__ import annotations

from pydantic import Field

from xiaozhi.settings.fields import Seconds, Section

UNKNOWN_VENDOR = 100
"""Requests at the same time to a vendor of which nothing is known, unless the configuration says otherwise."""


class VendorLimitSettings(Section):
    """How hard one kind of vendor may be driven, all devices together."""

    max_concurrent: int = Field(
        default=0,
        ge=0,
        le=100_000,
        description="Requests at the same time; 0: what the vendor usually allows, or 100 where nothing is known.",
    )
    timeout: Seconds = Field(default=30.0, description="Until the first result, waiting for a place included, s.")
    enable_queue: bool = Field(default=True, description="Wait for a place; off: refuse at once.")
    queue_size: int = Field(default=200, ge=0, le=100_000, description="Requests that may wait for a place.")


class AiProviders(Section):
    """Limits by kind of vendor."""

    llm: VendorLimitSettings = Field(default=VendorLimitSettings(timeout=30.0), description="Language models.")
    tts: VendorLimitSettings = Field(default=VendorLimitSettings(timeout=15.0), description="Speech synthesis.")
    asr: VendorLimitSettings = Field(default=VendorLimitSettings(timeout=20.0), description="Speech recognition.")
    memory: VendorLimitSettings = Field(default=VendorLimitSettings(timeout=60.0), description="Memory services.")
    intent: VendorLimitSettings = Field(default=VendorLimitSettings(timeout=10.0), description="Intent recognition.")
    voiceprint: VendorLimitSettings = Field(
        default=VendorLimitSettings(timeout=5.0), description="Voiceprint services."
    )
