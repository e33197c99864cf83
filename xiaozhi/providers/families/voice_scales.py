"""How fast, how loud and how high a voice speaks, as management consoles set it: -100 to 100; 0, where their sliders
stand until somebody moves them, for what the block says. Every vendor has ranges of its own; `scaled` finds the place
in one.

    class AcmeTtsOptions(RateScale, VolumeScale):
        speed: float = Field(1.0, ge=0.5, le=2.0)

    speed = scaled(options.rate_percent, 0.5, 1.0, 2.0, otherwise=options.speed)
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import AfterValidator, AliasChoices, Field

from xiaozhi.providers.contracts.provider import ProviderOptions


def _moved(percent: float | None) -> float | None:
    return percent or None


Slider: TypeAlias = Annotated[float | None, AfterValidator(_moved)]


class RateScale(ProviderOptions):
    """`ttsRate` replaces the speed that the block sets in the vendor's own range; None: the block counts."""

    rate_percent: Slider = Field(None, ge=-100, le=100, validation_alias=AliasChoices("ttsRate", "rate_percent"))


class VolumeScale(ProviderOptions):
    """`ttsVolume`, as `ttsRate`."""

    volume_percent: Slider = Field(None, ge=-100, le=100, validation_alias=AliasChoices("ttsVolume", "volume_percent"))


class PitchScale(ProviderOptions):
    """`ttsPitch`, as `ttsRate`."""

    pitch_percent: Slider = Field(None, ge=-100, le=100, validation_alias=AliasChoices("ttsPitch", "pitch_percent"))


class VoiceScales(RateScale, VolumeScale, PitchScale):
    """All three. A vendor without one of them inherits the others only: the key that means nothing is then told."""


def scaled(percent: float | None, low: float, middle: float, high: float, *, otherwise: float) -> float:
    """-100 -> `low`, 0 -> `middle`, 100 -> `high`, linear on either side; `otherwise` for None. At most two decimals;
    round it where the vendor wants whole numbers."""
    if percent is None:
        return otherwise
    return round(middle + percent / 100 * (high - middle if percent > 0 else middle - low), 2)
