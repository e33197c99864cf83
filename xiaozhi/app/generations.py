"""The configuration in force, those that sessions under way still use, and how one follows another.

Part of the composition root. A reload makes everything of the new configuration beside the old (what did not change is
the same provider, see `providers/pool.py`), and swaps when all of it works: a configuration with a fault is refused
whole and leaves nothing behind. Sessions keep what they began with. An agent is closed when nobody holds it any more
and what its sessions are remembered by has been saved."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gevent
from cachetools import LRUCache
from gevent.lock import BoundedSemaphore

from xiaozhi.app import wiring
from xiaozhi.app.telemetry import Observer
from xiaozhi.errors import Fault, Overloaded, SettingsError, StorageError
from xiaozhi.providers.pool import ProviderPool
from xiaozhi.runtime import tasks
from xiaozhi.runtime.logs import get_logger
from xiaozhi.runtime.tasks import Tasks
from xiaozhi.session.agent import Agent
from xiaozhi.session.services import SessionServices
from xiaozhi.settings import Loaded, lay_over

log = get_logger(__name__)

SETTLE_SECONDS = 120.0
"""How long an agent that nobody uses waits for the memories of its sessions before it is closed."""
READ_SECONDS = 60.0
"""How long reading the configuration may take."""
MAX_TOLD = 1_000
MAKERS = 4
"""Agents of devices with settings of their own that are made at the same time; the others wait."""


class Generation:
    """One reading of the configuration and its agents: the default one, which the generation itself holds until it is
    replaced, and those of devices with settings of their own."""

    def __init__(self, loaded: Loaded, agent: Agent) -> None:
        self.loaded = loaded
        self.agent = agent
        self.own: dict[str, Agent] = {}
        """Agents that are held, by the content of the devices' own settings."""
        self.alive = {agent}
        """Agents that are not closed: held, or with a memory to be saved."""
        self.replaced = False

    @property
    def sessions(self) -> int:
        """Those that work with the default agent."""
        return self.agent.holders.count - (not self.replaced)


class Generations:
    """`open` the first, `reload` as often as asked, `close` all. `read` reads the configuration anew, in a thread of
    the pool, and raises SettingsError; `before_read` does before that what needs the hub, and raises it too.

    `adopt(old, new)` puts into force what outlives a generation, such as limits; it raises SettingsError before it has
    changed anything."""

    def __init__(
        self,
        *,
        read: Callable[[], Loaded],
        adopt: Callable[[Loaded, Loaded], None],
        services: SessionServices,
        provider_pool: ProviderPool,
        observer: Observer,
        before_read: Callable[[], None] = lambda: None,
        on_reload: Callable[[bool], None] = lambda accepted: None,
    ) -> None:
        self.current: Generation | None = None
        self._read = read
        self._before_read = before_read
        self._adopt = adopt
        self._services = services
        self._provider_pool = provider_pool
        self._observer = observer
        self._on_reload = on_reload
        self._replaced: list[Generation] = []
        self._reloading = BoundedSemaphore(1)
        self._making = BoundedSemaphore(MAKERS)
        self._retiring = Tasks()
        self._told: LRUCache[str, None] = LRUCache(MAX_TOLD)
        """Warnings about devices' own settings: many devices have the same, and come often."""
        self._closed = False

    @property
    def in_use(self) -> int:
        """Generations that are not closed yet."""
        return len(self._all)

    @property
    def _all(self) -> list[Generation]:
        """The newest first."""
        return [*([self.current] if self.current is not None else []), *reversed(self._replaced)]

    def open(self, loaded: Loaded) -> Generation:
        """The first generation, ready to be used. Raises SettingsError with every fault."""
        generation = self._make(loaded)
        self._put_in_force(generation)
        return generation

    def reload(self) -> Sequence[Fault]:
        """Put the configuration as it is now into force; the faults for which it was refused, if any. Blocks while
        models load.

        Goes on even if the caller gives up waiting, such as an HTTP request with a deadline."""
        worker = tasks.spawn("reload", self._reload)
        worker.join()
        faults: Sequence[Fault] | None = worker.value
        return (
            faults
            if faults is not None
            else (Fault("the configuration", "not read", "no internal error; see the log"),)
        )

    def own_agent(self, overlay: Mapping[str, Any], source: str, *, trusted: bool = True) -> Agent:
        """The agent of a device with settings of its own, in the configuration in force, held for the caller: the same
        one for the same settings. `source`: what to call the settings in faults. `trusted`: see `lay_over`. Blocks
        while models load.

        Raises SettingsError with every fault."""
        generation, key = self.current, _key_of(overlay)
        if generation is None:
            raise _stopping()
        known = generation.own.get(key)
        if known is not None:
            return known.hold()
        # The generation must not be closed before it has this agent.
        default = generation.agent.hold()
        try:
            with self._making:
                agent = generation.own.get(key) or self._make_own(generation, overlay, source, trusted)
                if agent in generation.alive:
                    return agent.hold()
                known = generation.own.get(key)
                if known is not None:  # somebody else with the same settings was quicker
                    agent.close()
                    return known.hold()
                generation.own[key] = agent
                generation.alive.add(agent)
                return agent
        finally:
            default.release()

    def own_agent_in_use(self, overlay: Mapping[str, Any]) -> Agent | None:
        """The agent of devices with these settings, if a session works with it now; not held for the caller."""
        key = _key_of(overlay)
        return next((generation.own[key] for generation in self._all if key in generation.own), None)

    def close(self) -> None:
        """Close every generation. Idempotent."""
        self._closed = True
        generations = self._all
        self.current = None
        self._replaced.clear()
        self._retiring.kill()
        for generation in generations:
            for agent in generation.alive:
                agent.close()

    def _reload(self) -> Sequence[Fault]:
        with self._reloading:
            old, generation = self.current, None
            try:
                if old is None:
                    raise _stopping()
                self._before_read()
                # In a thread: to read a large file, or a broken one, takes seconds of Python.
                loaded = self._services.inference.run(self._read, deadline=READ_SECONDS)
                emptied = _emptied(old.loaded, loaded)
                if emptied:
                    raise SettingsError(emptied)
                if self._closed:
                    raise _stopping()
                generation = self._make(loaded)
                if self._closed:
                    raise _stopping()
                self._adopt(old.loaded, loaded)
            except Exception as error:
                if generation is not None:
                    generation.agent.close()
                if not isinstance(error, SettingsError):
                    log.exception("configuration cannot be read")
                faults = (
                    error.faults
                    if isinstance(error, SettingsError)
                    else [Fault("the configuration", "unreadable", "see the log")]
                )
                self._on_reload(False)
                log.error("configuration refused, the old one stays", faults=[str(fault) for fault in faults])
                return faults
            self._put_in_force(generation)
            self._replaced.append(old)
            self._on_reload(True)
            log.info("configuration reloaded", sessions_on_the_old_one=old.sessions)
            old.replaced = True
            old.agent.release()
            return ()

    def _put_in_force(self, generation: Generation) -> None:
        self.current = generation
        self._observer.watch_vad(generation.agent.providers.vad)
        generation.agent.phrases.prepare(wiring.usual_voice(generation.loaded.settings))

    def _make(self, loaded: Loaded) -> Generation:
        faults = wiring.check(loaded)
        gevent.sleep(0)
        if faults:
            raise SettingsError(faults)
        return Generation(loaded, self._make_agent(loaded))

    def _make_own(self, generation: Generation, overlay: Mapping[str, Any], source: str, trusted: bool) -> Agent:
        loaded = lay_over(generation.loaded, overlay, source, trusted=trusted)
        faults = wiring.check(loaded, generation.loaded.settings)
        gevent.sleep(0)
        if faults:
            raise SettingsError(faults)
        self._count_output(loaded, generation.loaded)
        agent = self._make_agent(loaded, generation.agent, source)
        self._observer.watch_vad(agent.providers.vad)
        return agent

    def _count_output(self, loaded: Loaded, below: Loaded) -> None:
        """See to it that a limit of its own can be kept. Raises SettingsError."""
        limit = loaded.settings.device_max_output_size
        if limit and limit != below.settings.device_max_output_size:
            try:
                self._services.quota.allow_own_limits()
            except (StorageError, Overloaded) as error:
                expected = f"a limit whose counts can be kept ({error})"
                raise SettingsError([Fault("device_max_output_size", str(limit), expected)]) from error

    def _make_agent(self, loaded: Loaded, like: Agent | None = None, source: str = "") -> Agent:
        """Raises SettingsError."""
        try:
            agent = wiring.make_agent(loaded, self._provider_pool, self._services, on_unused=self._retire, like=like)
        except SettingsError:
            raise
        except Exception as error:
            log.exception("a provider does not start")
            raise SettingsError(
                [Fault("providers", f"{type(error).__name__}: {error}"[:300], "providers that start")]
            ) from error
        for warning in wiring.warnings(loaded, like.settings if like is not None else None):
            told = warning.replace(source, "") if source else warning
            if like is None or told not in self._told:
                log.warning("configuration", note=warning)
            self._told[told] = None
        return agent

    def _retire(self, agent: Agent) -> None:
        """Nobody holds this agent any more."""
        generation = next((generation for generation in self._all if agent in generation.alive), None)
        if generation is None:
            return  # everything is being closed
        for key in [key for key, own in generation.own.items() if own is agent]:
            del generation.own[key]
        self._retiring.spawn("retire", self._close_when_settled, generation, agent)

    def _close_when_settled(self, generation: Generation, agent: Agent) -> None:
        memory = agent.providers.memory
        others = [other for each in self._all for other in each.alive if other is not agent]
        if not any(other.providers.memory is memory for other in others) and not self._services.memories.settle(
            memory, SETTLE_SECONDS
        ):
            log.warning("a memory is closed before it has saved everything")
        agent.close()
        generation.alive.discard(agent)
        if not generation.alive and generation in self._replaced:
            self._replaced.remove(generation)
            log.info("old configuration closed")


def _emptied(before: Loaded, now: Loaded) -> list[Fault]:
    """Files that held settings and hold none now: they are being written, and do not mean "all defaults"."""
    return [
        Fault(source, "holds nothing any more", "its settings, or no such file; is it being written just now?")
        for source in before.sources
        if source in now.empty and source not in before.empty
    ]


def _key_of(overlay: Mapping[str, Any]) -> str:
    """Equal for equal settings; a digest, as they may hold secrets."""
    return hashlib.sha256(json.dumps(overlay, sort_keys=True, default=str).encode()).hexdigest()


def _stopping() -> SettingsError:
    return SettingsError([Fault("the server", "is stopping", "a server that goes on")])
