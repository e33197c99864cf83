"""Empty values of a block count as absent: management consoles send every key of their form, and "" for the ones that
nobody has filled in.

    class AcmeOptions(ProviderOptions):
        _without_blanks = without_blanks
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import model_validator


def _no_blanks(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    return {key: item for key, item in value.items() if item is not None and item != ""}


without_blanks = model_validator(mode="before")(_no_blanks)
"""A validator for a model's body."""
