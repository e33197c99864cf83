"""Which agent a device gets: the configuration's, or one of its own.

Part of the composition root. Today a device's own settings come from a mapping in memory; stores and the management API
will be further sources of the same kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xiaozhi.app.generations import Generations
from xiaozhi.errors import Overloaded
from xiaozhi.protocol import messages as wire
from xiaozhi.protocol.device_id import normal_device_id
from xiaozhi.providers.contracts.vllm import Vllm
from xiaozhi.session.agent import Agent
from xiaozhi.session.link import Identity

Overlays = Mapping[str, Mapping[str, Any]]
"""Device id in its normal form -> the device's own settings, see `settings/overlay.py`. May change at any time: a
session begins with what holds then."""


class ConfiguredAgents:
    """An `AgentSource`."""

    def __init__(self, generations: Generations, overlays: Overlays) -> None:
        self._generations = generations
        self._overlays = overlays

    def default(self) -> Agent:
        """See AgentSource. Raises Overloaded before the start and after the end."""
        generation = self._generations.current
        if generation is None:
            raise Overloaded("server")
        return generation.agent.hold()

    def has_own(self, identity: Identity) -> bool:
        """See AgentSource."""
        return identity.device_id in self._overlays

    def resolve(self, identity: Identity, hello: wire.Hello | None) -> Agent:
        """See AgentSource. Raises SettingsError with every fault of the device's own settings."""
        overlay = self._overlays.get(identity.device_id)
        if overlay is None:
            return self.default()
        return self._generations.own_agent(overlay, f"device {identity.device_id}")

    def vllm(self, device_id: str) -> Vllm | None:
        """The model that looks at the pictures of a device; None when there is none."""
        overlay = self._overlays.get(normal_device_id(device_id))
        own = self._generations.own_agent_in_use(overlay) if overlay is not None else None
        if own is not None:
            return own.providers.vllm
        return self._generations.current.agent.providers.vllm if self._generations.current is not None else None
