"""The configuration in force, those that visits under way still use, and how one follows another.

Part of the composition root. A reload builds everything of the new configuration beside the old (what did not change is
taken over, see `provider_pool.py`), and swaps when all of it works: a configuration with a fault is refused whole and
leaves nothing behind. Visits keep what they began with. A replaced generation is closed when the last of its visits has
left and what they are remembered by has been saved."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import gevent
from gevent.lock import BoundedSemaphore

from xiaozhi.app import wiring
from xiaozhi.app.telemetry import Observer
from xiaozhi.errors import Fault, SettingsError
from xiaozhi.providers.pool import ProviderPool
from xiaozhi.runtime import tasks
from xiaozhi.runtime.inference import InferencePool
from xiaozhi.runtime.logs import get_logger
from xiaozhi.runtime.resilience import Guard
from xiaozhi.session.services import SessionServices
from xiaozhi.settings import Loaded

log = get_logger(__name__)

SETTLE_SECONDS = 120.0
"""How long a replaced generation waits for the memories of its visits before it closes what they are saved with."""


class Generation:
    """Everything that belongs to one reading of the configuration, and how many visits use it."""

    def __init__(
        self, loaded: Loaded, provider_pool: ProviderPool, kit: SessionServices, retire: Callable[[Generation], None]
    ) -> None:
        self.loaded = loaded
        self.provider_pool = provider_pool
        self.kit = kit
        self.sessions = 0
        self.replaced = False
        self._retire = retire

    def enter(self) -> None:
        """A visit begins to use it."""
        self.sessions += 1

    def leave(self) -> None:
        """A visit that used it has ended."""
        self.sessions -= 1
        self._retire_if_unused()

    def replace(self) -> None:
        """Another generation is in force now."""
        self.replaced = True
        self._retire_if_unused()

    def _retire_if_unused(self) -> None:
        if self.replaced and self.sessions <= 0:
            self._retire(self)


class Generations:
    """`open` the first, `reload` as often as asked, `close` all. `read` reads the configuration anew, and raises
    SettingsError.

    `adopt(old, new)` puts into force what outlives a generation, such as limits; it raises SettingsError before it has
    changed anything."""

    def __init__(
        self,
        *,
        read: Callable[[], Loaded],
        adopt: Callable[[Loaded, Loaded], None],
        fixtures: wiring.Fixtures,
        inference: InferencePool,
        observer: Observer,
        on_reload: Callable[[bool], None] = lambda accepted: None,
    ) -> None:
        self.current: Generation | None = None
        self._read = read
        self._adopt = adopt
        self._fixtures = fixtures
        self._inference = inference
        self._observer = observer
        self._on_reload = on_reload
        self._replaced: list[Generation] = []
        self._reloading = BoundedSemaphore(1)
        self._closed = False

    @property
    def in_use(self) -> int:
        """Generations that are not closed yet."""
        return len(self._replaced) + (self.current is not None)

    def guards(self) -> list[Guard]:
        """Those of the vendors in force."""
        return self.current.provider_pool.guards if self.current is not None else []

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

    def close(self) -> None:
        """Close every generation. Idempotent."""
        self._closed = True
        current, self.current = self.current, None
        for generation in [*self._replaced, *([current] if current is not None else [])]:
            generation.provider_pool.close()
        self._replaced.clear()

    def _reload(self) -> Sequence[Fault]:
        with self._reloading:
            old, generation = self.current, None
            try:
                if old is None:
                    raise _stopping()
                loaded = self._read()
                # Reading, checking and making each keep the hub for tens of ms; sound that is due goes out in between.
                gevent.sleep(0)
                if self._closed:
                    raise _stopping()
                generation = self._make(loaded, old)
                if self._closed:
                    raise _stopping()
                self._adopt(old.loaded, loaded)
            except Exception as error:
                if generation is not None:
                    generation.provider_pool.close()
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
            old.replace()
            return ()

    def _put_in_force(self, generation: Generation) -> None:
        self.current = generation
        self._observer.watch_vad(generation.kit.providers.vad)
        generation.kit.phrases.prepare(wiring.usual_voice(generation.loaded.settings))

    def _make(self, loaded: Loaded, predecessor: Generation | None = None) -> Generation:
        faults = wiring.check(loaded)
        gevent.sleep(0)
        if faults:
            raise SettingsError(faults)
        provider_pool = ProviderPool(
            loaded,
            self._inference,
            self._observer.vendor_called,
            self._observer.breaker_changed,
            database=self._fixtures.database,
            predecessor=predecessor.provider_pool if predecessor is not None else None,
        )
        try:
            kit, warnings = wiring.session_kit(loaded, provider_pool, self._fixtures)
            gevent.sleep(0)
            provider_pool.warm_up()
        except SettingsError:
            provider_pool.close()
            raise
        except Exception as error:
            provider_pool.close()
            log.exception("a provider does not start")
            raise SettingsError(
                [Fault("providers", f"{type(error).__name__}: {error}"[:300], "providers that start")]
            ) from error
        except BaseException:
            provider_pool.close()
            raise
        for warning in [*loaded.warnings, *warnings]:
            log.warning("configuration", note=warning)
        return Generation(loaded, provider_pool, kit, self._retire)

    def _retire(self, generation: Generation) -> None:
        if generation in self._replaced:
            tasks.spawn("retire", self._close_when_settled, generation)

    def _close_when_settled(self, generation: Generation) -> None:
        if not self._fixtures.memories.settle(generation.kit.providers.memory, SETTLE_SECONDS):
            log.warning("a replaced memory is closed before it has saved everything")
        if generation in self._replaced:
            self._replaced.remove(generation)
            generation.provider_pool.close()
            log.info("old configuration closed")


def _stopping() -> SettingsError:
    return SettingsError([Fault("the server", "is stopping", "a server that goes on")])
