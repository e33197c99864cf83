"""Which agent a device gets: the configuration's, or one of its own.

Part of the composition root. A device's own settings come from the database (`devices/directory.py`), or from a mapping
in memory, which goes first; the management API will be a further source of the same kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cachetools import LRUCache

from xiaozhi.app.generations import Generations
from xiaozhi.app.known_devices import KnownDevices
from xiaozhi.errors import Overloaded
from xiaozhi.protocol import messages as wire
from xiaozhi.protocol.device_id import normal_device_id
from xiaozhi.providers.contracts.vllm import Vllm
from xiaozhi.session.agent import Agent
from xiaozhi.session.link import Identity

Overlays = Mapping[str, Mapping[str, Any]]
"""Device id in its normal form -> the device's own settings, see `settings/overlay.py`. May change at any time: a
session begins with what holds then."""
MAX_REMEMBERED = 20_000


class ConfiguredAgents:
    """An `AgentSource`. Every device is looked up when it comes: also what it said last, which it goes on with, stands
    in the database."""

    def __init__(
        self,
        generations: Generations,
        overlays: Overlays,
        known: KnownDevices | None = None,
    ) -> None:
        """`known`: where settings of devices are kept; None: only `overlays` counts."""
        self._generations = generations
        self._overlays = overlays
        self._known = known
        self._given: LRUCache[str, Mapping[str, Any]] = LRUCache(MAX_REMEMBERED)
        """The own settings of devices, as of when they came last."""

    def default(self) -> Agent:
        """See AgentSource. Raises Overloaded before the start and after the end."""
        generation = self._generations.current
        if generation is None:
            raise Overloaded("server")
        return generation.agent.hold()

    def has_own(self, identity: Identity) -> bool:
        """See AgentSource."""
        if identity.device_id in self._overlays:
            return True
        return self._known is not None and not self._known.has_nothing_own(identity)

    def resolve(self, identity: Identity, hello: wire.Hello | None) -> Agent:
        """See AgentSource. Raises SettingsError with every fault of the device's own settings."""
        device, source = identity.device_id, f"device {identity.device_id}"
        stored = self._known.arrive(identity) if self._known is not None else None
        overlay = self._overlays.get(device, stored)
        if not overlay:
            self._given.pop(device, None)
            return self.default()
        agent = self._generations.own_agent(overlay, source, trusted=overlay is not stored)
        self._given[device] = overlay
        return agent

    def vllm(self, device_id: str) -> Vllm | None:
        """The model that looks at the pictures of a device; None when there is none."""
        overlay = self._given.get(normal_device_id(device_id))
        own = self._generations.own_agent_in_use(overlay) if overlay is not None else None
        if own is not None:
            return own.providers.vllm
        return self._generations.current.agent.providers.vllm if self._generations.current is not None else None
