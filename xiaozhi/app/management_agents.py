"""Which agent a device gets where a management console decides: one made of what the console says of the device.

Part of the composition root. What the console says is asked for by `management/private_config.py`. What of it this
server cannot use is left out, and told once; a device that the console does not know hears what its owner has to do."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson
from cachetools import LRUCache
from gevent import Greenlet

from xiaozhi.app.generations import Generations
from xiaozhi.app.management_notes import ManagementNotes
from xiaozhi.errors import ConsoleRefused, NotServed, Overloaded, SettingsError, VendorError, XiaozhiError
from xiaozhi.management.client import AGENT_GONE, CODE_PENDING
from xiaozhi.management.private_config import PrivateConfigs, is_unbound
from xiaozhi.management.translate import PrivateConfig
from xiaozhi.management.unusable import without, without_modules
from xiaozhi.protocol import messages as wire
from xiaozhi.protocol.device_id import normal_device_id
from xiaozhi.providers.contracts.vllm import Vllm
from xiaozhi.runtime.tasks import Tasks
from xiaozhi.session.agent import Agent
from xiaozhi.session.link import Identity
from xiaozhi.settings import Settings
from xiaozhi.settings.fields import text_in
from xiaozhi.settings.fixed_texts import ENTER_CODE, NOT_KNOWN
from xiaozhi.speech.language import home_language

RESOLVE_S: Final = 9.5
"""Less than a session waits for its agent."""
MENDS: Final = 6
"""Times that an agent is tried without what was found to be unusable."""
LATE_S: Final = 30.0
"""How long an agent that came too late waits for its device to ask again."""
REMEMBERED: Final = 2_000


class ManagementAgents:
    """An `AgentSource`. `arrive`: looks up what this server keeps of a device, such as what it said last, unless that
    was done at the door. `seconds`: how long `resolve` may take."""

    def __init__(
        self,
        generations: Generations,
        configs: PrivateConfigs,
        notes: ManagementNotes,
        arrive: Callable[[Identity], object] = lambda identity: None,
        *,
        seconds: float = RESOLVE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._generations = generations
        self._configs = configs
        self._notes = notes
        self._arrive = arrive
        self._seconds = seconds
        self._clock = clock
        self._making = Tasks()
        # Digest of a device's settings -> the same without what is unusable.
        self._mended: LRUCache[bytes, Mapping[str, Any]] = LRUCache(REMEMBERED)
        self._overlays: LRUCache[str, Mapping[str, Any]] = LRUCache(REMEMBERED)
        """Settings that the agents of devices were made of."""

    def default(self) -> Agent:
        """See AgentSource. Raises Overloaded before the start and after the end."""
        generation = self._generations.current
        if generation is None:
            raise Overloaded("server")
        return generation.agent.hold()

    def has_own(self, identity: Identity) -> bool:
        """See AgentSource."""
        return True

    def resolve(self, identity: Identity, hello: wire.Hello | None) -> Agent:
        """See AgentSource. Raises NotServed."""
        until = self._clock() + self._seconds
        self._arrive(identity)
        try:
            config = self._configs.of(identity.device_id, identity.written_id, identity.client_id)
        except (VendorError, Overloaded) as error:
            raise self._not_served(error) from error
        if not config.overlay:
            return self.default()
        return self._agent(identity.device_id, config, max(0.0, until - self._clock()))

    def vllm(self, device_id: str) -> Vllm | None:
        """The model that looks at the pictures of a device; None when there is none."""
        overlay = self._overlays.get(normal_device_id(device_id))
        own = self._generations.own_agent_in_use(overlay) if overlay is not None else None
        return own.providers.vllm if own is not None else None

    def forget_mends(self) -> None:
        """The configuration has changed: what could not be used may be usable now."""
        self._mended.clear()

    def close(self) -> None:
        """Make no more agents. Idempotent."""
        self._making.kill()

    # --- one agent ----------------------------------------------------------------------------------------------------

    def _agent(self, device_id: str, config: PrivateConfig, seconds: float) -> Agent:
        """Made aside: whoever stops waiting, or leaves, does not stop models from loading."""
        making = self._making.spawn("console-agent", self._made, device_id, config)
        taken = False
        try:
            making.join(timeout=seconds)
            made = making.value if making.ready() else None
            if isinstance(made, Agent):
                taken = True
                return made
        finally:
            if not taken:
                making.link(self._keep_for_a_while)
        raise self._not_served(made or Overloaded("the loading of its models"))

    def _keep_for_a_while(self, making: Greenlet) -> None:
        if isinstance(making.value, Agent):
            self._making.spawn_later(LATE_S, "late-agent", making.value.release)

    def _made(self, device_id: str, config: PrivateConfig) -> Agent | XiaozhiError:
        digest = hashlib.sha256(orjson.dumps(config.overlay, option=orjson.OPT_SORT_KEYS)).digest()
        overlay = self._mended.get(digest, config.overlay)
        for mend in range(MENDS):
            try:
                agent = self._generations.own_agent(overlay, f"the console, for {device_id}", trusted=False)
            except SettingsError as error:
                if mend == MENDS - 1:
                    return error
                overlay, unusable = without(overlay, error.faults)
                if not unusable:
                    # A provider that does not start is not named: the server's own take over.
                    overlay, unusable = without_modules(overlay), list(error.faults)
                for fault in unusable:
                    self._notes.add(fault)
                self._notes.tell()
                self._mended[digest] = overlay
            except XiaozhiError as error:
                return error
            else:
                self._overlays[device_id] = overlay
                return agent
        raise AssertionError("unreachable")

    # --- what a device without an agent is told -----------------------------------------------------------------------

    def _not_served(self, error: XiaozhiError) -> NotServed:
        settings = self._settings()
        language = home_language(settings.wakeup_words)
        apology = text_in(settings.system_error_response, language)
        if not isinstance(error, ConsoleRefused) or not is_unbound(error):
            return NotServed(str(error), spoken=apology)
        if error.code == AGENT_GONE:
            return NotServed("the agent that it was bound to is gone", spoken=apology)
        code = error.said.strip()
        if error.code != CODE_PENDING or not code:
            return NotServed("the console does not know it", spoken=text_in(NOT_KNOWN, language))
        text = text_in(ENTER_CODE, language)
        # Digit by digit: as a number nobody would understand it.
        return NotServed(
            "nobody has bound it yet", spoken=text.format(code=" ".join(code)), shown=text.format(code=code)
        )

    def _settings(self) -> Settings:
        generation = self._generations.current
        if generation is None:
            raise Overloaded("server")
        return generation.loaded.settings
