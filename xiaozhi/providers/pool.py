"""The providers of one configuration: built once each, guarded, put together with their fallbacks, closed together.

Part of the composition root; which class serves a block is found by `providers/registry.py`. A provider_pool that
replaces another takes over every provider whose block (and the files it names) has not changed, with its window and its
breaker: a model is not loaded twice, a vendor is not driven twice as hard while visits of both configurations are under
way, and what is known to be down stays known. Whoever uses such a provider last closes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from xiaozhi.errors import Fault, SettingsError, VendorUnavailable, XiaozhiError
from xiaozhi.providers import registry
from xiaozhi.providers.contracts.provider import Provider, Services
from xiaozhi.providers.contracts.tts import Tts
from xiaozhi.providers.wrappers import VendorLimits, guard, with_fallback
from xiaozhi.runtime.inference import InferencePool
from xiaozhi.runtime.logs import get_logger
from xiaozhi.runtime.resilience import Breaker, BreakerOptions, BreakerState, Guard
from xiaozhi.runtime.resilience import Observer as VendorObserver
from xiaozhi.settings import Loaded, Settings
from xiaozhi.settings.schema import REFERRING, SECTIONS
from xiaozhi.storage.database import Database

log = get_logger(__name__)

EMERGENCY_VOICE = "Espeak"
"""The block under TTS that speaks when the chosen voice cannot: it works without a network."""
LIMITED_BY: Mapping[str, str] = {
    "asr": "asr",
    "llm": "llm",
    "tts": "tts",
    "vllm": "llm",
    "memory": "memory",
    "intent": "intent",
    "voiceprint": "voiceprint",
}
"""Guarded kinds, and where their limits stand in `ai_providers`."""
_OWN_LIMITS = ("max_concurrent", "queue_size", "enable_queue", "timeout")
"""Keys of a provider's own block that override `ai_providers.<kind>`."""
_ADDRESSES = ("base_url", "api_url", "url", "ws_url", "api_base", "endpoint", "host")
_LONGEST_PATH = 4096


def vendor_limits(settings: Settings, kind: str, name: str) -> VendorLimits:
    """The limits of one block: its own, else those of its kind. Raises SettingsError with every fault."""
    general = getattr(settings.ai_providers, LIMITED_BY[kind])
    block = settings.block(kind, name)
    own = {key: block[key] for key in _OWN_LIMITS if block.get(key) not in (None, "")}
    if isinstance(own.get("timeout"), Mapping):
        del own["timeout"]  # deadlines of single steps, which are the provider's alone
    try:
        limits = type(general).model_validate({**general.model_dump(), **own})
    except ValidationError as error:
        where = f"{SECTIONS[kind]}.{name}"
        faults = [
            Fault(f"{where}.{problem['loc'][0]}", repr(problem["input"])[:80], problem["msg"])
            for problem in error.errors()
        ]
        raise SettingsError(faults) from error
    return VendorLimits(limits.max_concurrent, limits.queue_size, limits.enable_queue, float(limits.timeout))


@dataclass(slots=True)
class _Stock:
    """One provider, what it was made of, and how many shops use it."""

    provider: Any
    made_of: object
    guard: Guard | None = None
    listener: Callable[[str, BreakerState], None] | None = None
    """Of its breaker, which may outlive it."""
    users: int = 1
    warm: bool = False

    def close(self) -> None:
        """Nobody uses it any more."""
        if self.guard is not None and self.guard.breaker is not None and self.listener is not None:
            self.guard.breaker.listeners.remove(self.listener)
        _closed_whatever_happens(self.provider.close)


class ProviderPool:
    """Builds the providers of one configuration. `predecessor`: whose unchanged providers are taken over until
    `warm_up` has ended."""

    def __init__(
        self,
        loaded: Loaded,
        inference: InferencePool,
        observer: VendorObserver,
        on_breaker: Callable[[str, BreakerState], None] = lambda name, state: None,
        *,
        database: Database | None = None,
        predecessor: ProviderPool | None = None,
    ) -> None:
        self._loaded = loaded
        self._settings = loaded.settings
        self._observer = observer
        self._on_breaker = on_breaker
        self._predecessor = predecessor
        self._also_closed: list[Callable[[], None]] = []
        settings = loaded.settings
        here = timezone(timedelta(hours=settings.server.timezone_offset))
        self._services = Services(
            inference=inference,
            data_dir=settings.data_dir,
            config_dir=loaded.config_dir,
            provider=self.get,
            database=database,
            now=lambda: datetime.now(here),
        )
        self._built: dict[tuple[str, str], Any] = {}
        self._stock: dict[tuple[str, str], _Stock] = {}
        self._breakers: dict[tuple[str, str], Breaker] = {}
        self._closed = False

    @property
    def guards(self) -> list[Guard]:
        """Of all providers that have one, for metrics."""
        return [stock.guard for stock in self._stock.values() if stock.guard is not None]

    def get(self, kind: str, name: str = "") -> Any:
        """The provider of a block (the selected one by default), guarded; built on first use. Raises SettingsError, and
        VendorUnavailable when the provider_pool has been closed before that."""
        key = (kind, name or self._settings.selected(kind))
        if key not in self._built:
            if self._closed:
                raise VendorUnavailable(key[1], "its configuration has been replaced")
            stock = self._stock[key] = self._taken_over(*key) or self._new(*key)
            self._built[key] = stock.provider
        return self._built[key]

    def selected(self, kind: str) -> Any:
        """The selected provider of a kind with its fallbacks behind it."""
        names = (self._settings.selected(kind), *self._settings.fallbacks(kind))
        chain = [self.get(kind, name) for name in dict.fromkeys(names)]
        return chain[0] if len(chain) == 1 else with_fallback(chain)

    def emergency_voice(self) -> Tts | None:
        """The voice that needs no network, loaded on the first call; None when this installation has none. May block
        for seconds."""
        if EMERGENCY_VOICE not in self._settings.modules("tts"):
            return None
        try:
            voice: Tts = self.get("tts", EMERGENCY_VOICE)
            voice.warm_up()
        except (XiaozhiError, ImportError, OSError) as error:
            log.warning("no emergency voice", error=str(error)[:200])
            return None
        return voice

    def close_with_me(self, close: Callable[[], None]) -> None:
        """Call `close` when the providers are closed, before them."""
        self._also_closed.append(close)

    def warm_up(self) -> None:
        """Load models and open pools of what was not taken over; blocks for seconds. Raises whatever a provider
        raises."""
        for stock in list(self._stock.values()):
            if not stock.warm:
                stock.provider.warm_up()
                stock.warm = True
        self._predecessor = None

    def close(self) -> None:
        """Close what works with the providers, then every provider that nobody else uses. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._predecessor = None
        for close in self._also_closed:
            _closed_whatever_happens(close)
        for stock in self._stock.values():
            stock.users -= 1
            if stock.users == 0:
                stock.close()

    # --- one provider -----------------------------------------------------------------------------------------------

    def _taken_over(self, kind: str, name: str) -> _Stock | None:
        """The predecessor's, if it would be built the same way again."""
        # Those that refer to others would keep asking the predecessor for them; they are cheap.
        if self._predecessor is None or kind in REFERRING:
            return None
        stock = self._predecessor._stock.get((kind, name))
        if stock is None or stock.users == 0 or stock.made_of != self._made_of(kind, name):
            return None
        stock.users += 1
        if stock.guard is not None and stock.guard.breaker is not None:
            self._breakers.setdefault(self._endpoint(kind, name), stock.guard.breaker)
        return stock

    def _new(self, kind: str, name: str) -> _Stock:
        made_of = self._made_of(kind, name)
        limits = vendor_limits(self._settings, kind, name) if kind in LIMITED_BY else None
        built: Provider = registry.build(kind, name, self._settings.block(kind, name), self._services)
        if limits is None or built.traits.offline:
            return _Stock(built, made_of)
        breaker = self._breakers.setdefault(self._endpoint(kind, name), Breaker(f"{kind}:{name}", BreakerOptions()))
        guarded = guard(kind, built, limits, breaker=breaker, observer=self._observer)
        if guarded is built:
            return _Stock(built, made_of)

        def listener(_: str, state: BreakerState) -> None:
            self._on_breaker(f"{kind}:{name}", state)

        breaker.listeners.append(listener)
        return _Stock(guarded, made_of, guarded.guard, listener)

    def _endpoint(self, kind: str, name: str) -> tuple[str, str]:
        """What shares a breaker: the same service at the same address, under whatever names. A fallback has one of its
        own, or the failures that it is there to cure would shut it off as well."""
        if name in self._settings.fallbacks(kind):
            return kind, f"fallback {name}"
        block = self._settings.block(kind, name)
        address = next((str(block[key]).rstrip("/") for key in _ADDRESSES if block.get(key)), "")
        return kind, address or f"type {block.get('type')}"

    def _made_of(self, kind: str, name: str) -> object:
        """Equal when building the provider again would make the same thing."""
        settings, block = self._settings, self._settings.block(kind, name)
        options = registry.validate(kind, name, block).model_dump()
        roots = (Path(), self._loaded.config_dir, settings.data_dir)
        files = [_stamp(root / text) for text in sorted(set(_texts(options))) for root in roots]
        limits = vendor_limits(settings, kind, name) if kind in LIMITED_BY else None
        return (
            block,
            limits,
            files,
            self._endpoint(kind, name) if limits else None,
            settings.data_dir,
            self._loaded.config_dir,
        )


def _texts(value: Any) -> Iterator[str]:
    """Every text in options that could be the path of a file."""
    if isinstance(value, Path):
        yield str(value)
    elif isinstance(value, str):
        if 0 < len(value) <= _LONGEST_PATH and "\0" not in value and "\n" not in value:
            yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            yield from _texts(item)


def _stamp(path: Path) -> tuple[str, int, int] | None:
    """What changes when a file does; None where there is none."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return str(path), status.st_mtime_ns, status.st_size


def _closed_whatever_happens(close: Callable[[], None]) -> None:
    try:
        close()
    except Exception:
        log.exception("a provider could not be closed")
