"""One block of options for the tools of several files."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import SecretStr

from xiaozhi.tools.base import ToolOptions


class HouseOptions(ToolOptions):
    """`plugins.house`, or `plugins.house_state` as consoles name it."""

    blocks = ("house", "house_state")

    base_url: str = ""
    api_key: SecretStr = SecretStr("")
    rooms: tuple[str, ...] = ()

    def words(self) -> Mapping[str, str]:
        return {"rooms": ", ".join(self.rooms)}

    def missing(self) -> str:
        return "" if self.base_url else "base_url: no address is given"
