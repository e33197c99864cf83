"""How the blocks of language and vision models are written, whatever the API behind them: the keys of existing
configuration files, in all their spellings."""

from __future__ import annotations

from typing import Any

from pydantic import AliasChoices, Field

from xiaozhi.providers.families.http_options import KeyedOptions
from xiaozhi.providers.families.learnt_limits import chooses_to_think
from xiaozhi.providers.families.thinking_switches import Switches


class ModelOptions(KeyedOptions):
    """What is said about an answer."""

    model_name: str = Field(min_length=1, validation_alias=AliasChoices("model_name", "model"))
    temperature: float | None = Field(None, ge=0, le=2)
    max_tokens: int | None = Field(None, ge=1)
    top_p: float | None = Field(None, ge=0, le=1)
    extra_body: dict[str, Any] = {}
    """Added to every request as it is, such as {enable_thinking: false}."""
    thinking: bool = False
    """False: reasoning is switched off, or made short, where a switch is known."""

    def fixed(self, *keys: str, stream: bool = True) -> dict[str, Any]:
        """What every request of the block says alike, in OpenAI's form: those of `keys` that it sets, too."""
        given = {key: getattr(self, key) for key in ("temperature", "max_tokens", "top_p", *keys)}
        said = {key: value for key, value in given.items() if value is not None}
        return {"model": self.model_name, "stream": stream, **said, **self.extra_body}

    def chosen(self, switches: Switches) -> Switches:
        """`switches`, unless the block wants thinking, or says by itself how much."""
        return () if self.thinking or chooses_to_think(self.extra_body) else switches
