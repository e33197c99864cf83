"""Two tools of one file that share an HTTP client and a count."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tests.tools.samples.house_options import HouseOptions
from xiaozhi.tools.base import Action, ToolContext, ToolOutcome, ToolServices
from xiaozhi.tools.registry import tool

Entity = Annotated[str, Field(description="Id of the thing, in one of: {rooms}.")]


class House:
    """What the tools of this file share."""

    def __init__(self, options: HouseOptions, services: ToolServices) -> None:
        self._base_url = options.base_url
        key = options.api_key.get_secret_value()
        self._http = services.http("house", total=5.0, headers={"Authorization": f"Bearer {key}"}, secrets=[key])
        self._asked = 0

    @tool("house_get_state", HouseOptions)
    def get_state(self, entity: Entity) -> str:
        """Tells the state of a thing in the house."""
        self._asked += 1
        return str(self._http.json("GET", f"{self._base_url}/states/{entity}")["state"])

    @tool("house_set_state", HouseOptions, uninterruptible=True, timeout=7.5)
    def set_state(self, context: ToolContext, entity: Entity, on: bool = True) -> ToolOutcome:
        """Switches a thing in the house."""
        word = "on" if on else "off"
        return ToolOutcome(Action.SPEAK, f"{entity} is {word}, for {context.device_id}, after {self._asked} questions.")
