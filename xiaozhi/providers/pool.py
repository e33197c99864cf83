"""The live providers of this process, leased by what they are made of.

A lease names a block of a configuration. Leases of the same content (kind, name, block, the files that the block names,
limits) get the same provider object, whether two devices have equal settings or a reload has changed nothing: a model
is not loaded twice, a vendor is not driven twice as hard while two configurations are in use, and an open breaker stays
open. A provider is warmed up once, before its first lease is given, and closed when its last lease has been released.

Which class serves a block is found by `registry.py`. This module and the wrappers are the only part of `providers/`
that other rooms build providers with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from cachetools import LRUCache
from gevent.event import AsyncResult
from pydantic import ValidationError

from xiaozhi.errors import Fault, SettingsError, VendorTimeout, VendorUnavailable, XiaozhiError
from xiaozhi.providers import registry
from xiaozhi.providers.contracts.provider import Provider, Services
from xiaozhi.providers.contracts.tts import Tts
from xiaozhi.providers.known_vendors import ADDRESSES, usual_limit
from xiaozhi.providers.probe import is_tried, probe
from xiaozhi.providers.remedies import remedies_of
from xiaozhi.providers.wrappers import VendorLimits, guard, with_fallback
from xiaozhi.runtime.inference import InferencePool
from xiaozhi.runtime.logs import get_logger
from xiaozhi.runtime.resilience import Breaker, BreakerOptions, BreakerState, Guard
from xiaozhi.runtime.resilience import Observer as VendorObserver
from xiaozhi.runtime.tasks import Tasks
from xiaozhi.settings import Loaded, Settings, checks, zone_of
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
    "end_of_turn": "asr",
}
"""Guarded kinds, and where their limits stand in `ai_providers`."""
MAX_MODELS = 16
"""Different providers of one kind that work on this machine, at once: each may hold a model of hundreds of MB."""
MAX_CLIENTS = 500
"""Different providers of one kind that only talk to a vendor, at once: each holds a pool of connections."""
WARM_UP_SECONDS = 300.0
"""How long a lease waits for a warm-up that another one has begun."""
CLOSE_SECONDS = 10.0
MAX_KEYS = 256
_MODEL_KINDS = ("vad", "asr", "llm", "vllm", "tts", "end_of_turn")
OWN_LIMITS = ("max_concurrent", "queue_size", "enable_queue", "timeout")
"""Keys of a provider's own block that override `ai_providers.<kind>`."""
_LONGEST_PATH = 4096


def vendor_limits(settings: Settings, kind: str, name: str) -> VendorLimits:
    """The limits of one block: its own, else those of its kind, else what its vendor usually allows. Raises
    SettingsError with every fault."""
    general = getattr(settings.ai_providers, LIMITED_BY[kind])
    block = settings.block(kind, name)
    own = {key: block[key] for key in OWN_LIMITS if block.get(key) not in (None, "")}
    if isinstance(own.get("timeout"), Mapping):
        del own["timeout"]  # deadlines of single steps, which are the provider's alone
    try:
        limits = type(general).model_validate({**general.model_dump(), **own})
    except ValidationError as error:
        raise SettingsError(checks.field_faults(error, prefix=f"{registry.block_key(kind, name)}.")) from error
    allowed = limits.max_concurrent or usual_limit(kind, registry.type_of(name, block), block)
    return VendorLimits(allowed, limits.queue_size, limits.enable_queue, float(limits.timeout))


@dataclass(slots=True, eq=False)
class _LiveProvider:
    """One provider, and who uses it."""

    key: str
    kind: str
    provider: Any
    referred: dict[tuple[str, str], Lease]
    """Leases of the providers that it works with, by kind and name."""
    guard: Guard | None = None
    listener: Callable[[str, BreakerState], None] | None = None
    """Of its breaker, which may outlive it."""
    users: int = 0
    warm: bool = False
    warming: AsyncResult | None = None
    """Of the greenlet that warms it up; set to None or to its error."""
    closed: bool = False

    def close(self) -> None:
        """Nobody uses it any more. May block; raises nothing. Idempotent."""
        if self.closed:
            return
        self.closed = True
        if self.guard is not None and self.guard.breaker is not None and self.listener is not None:
            self.guard.breaker.listeners.remove(self.listener)
        _closed_whatever_happens(self.provider.close)
        for lease in self.referred.values():
            lease.release()


class Lease:
    """The use of one provider, until `release`."""

    __slots__ = ("_live", "_pool", "provider")

    def __init__(self, pool: ProviderPool, live: _LiveProvider) -> None:
        self.provider: Any = live.provider
        self._pool = pool
        self._live: _LiveProvider | None = live

    def release(self) -> None:
        """Give it back; returns at once. Idempotent."""
        live, self._live = self._live, None
        if live is not None:
            self._pool._left(live)


class ProviderPool:
    """`lease` gives a provider of a configuration. One object per process. `observer` is told of every call of a
    guarded vendor, `on_breaker` ("LLM.OpenaiLLM", state) of every change of a breaker."""

    def __init__(
        self,
        inference: InferencePool,
        observer: VendorObserver,
        on_breaker: Callable[[str, BreakerState], None] = lambda name, state: None,
        *,
        database: Database | None = None,
        max_models: int = MAX_MODELS,
        max_clients: int = MAX_CLIENTS,
    ) -> None:
        self._inference = inference
        self._observer = observer
        self._on_breaker = on_breaker
        self._database = database
        self._max_models = max_models
        self._max_clients = max_clients
        self._live: dict[str, _LiveProvider] = {}
        self._keys: LRUCache[tuple[str, str], tuple[Settings, str]] = LRUCache(MAX_KEYS)
        """The last content key of a block, and the settings that it was made of: what a device's own settings leave
        alone is not looked at again, nor the files that it names."""
        # Those who share a breaker hold it; when the last of them is gone, so is it.
        self._breakers: WeakValueDictionary[tuple[str, str], Breaker] = WeakValueDictionary()
        self._closing = Tasks()
        self._closed = False

    def __len__(self) -> int:
        return len(self._live)

    @property
    def guards(self) -> list[Guard]:
        """Of all live providers that have one, oldest first. Names may occur more than once: the same block in two
        configurations."""
        return [live.guard for live in self._live.values() if live.guard is not None]

    def lease(self, loaded: Loaded, kind: str, name: str) -> Lease:
        """The provider of a block, guarded and warmed up; the same object for the same content. Blocks for as long as a
        new one takes to warm up.

        Raises SettingsError (a faulty block, or too many different providers of this kind), VendorUnavailable when the
        pool is closed, VendorTimeout, and whatever the provider's warm-up raises; a provider that failed is not kept.
        """
        if self._closed:
            raise VendorUnavailable(name, "the server is stopping")
        key = self._key(loaded, kind, name)
        live = self._live.get(key) or self._made(loaded, kind, name, key)
        live.users += 1
        try:
            self._warm_up(live)
        except BaseException:
            self._left(live)
            raise
        return Lease(self, live)

    def close(self, seconds: float = CLOSE_SECONDS) -> None:
        """Wait at most `seconds` for providers whose closing is under way, close those that are still in use, and wait
        for them as long again. Idempotent."""
        self._closed = True
        self._closing.join(seconds)
        while self._live:
            _, live = self._live.popitem()
            log.warning("a provider was still in use", kind=live.kind, name=live.provider.name)
            self._closing.spawn("close-provider", live.close)
        if not self._closing.join(seconds):
            log.warning("providers do not end", count=len(self._closing))
            self._closing.kill()

    def _key(self, loaded: Loaded, kind: str, name: str) -> str:
        known = self._keys.get((kind, name))
        if known is not None and _alike(kind, loaded.settings, known[0]):
            return known[1]
        key = _content_key(loaded, kind, name)
        self._keys[kind, name] = loaded.settings, key
        return key

    # --- one provider -----------------------------------------------------------------------------------------------

    def _left(self, live: _LiveProvider) -> None:
        live.users -= 1
        if live.users == 0:
            self._forget(live)
            # Not here: whoever releases must not wait for a vendor's goodbye.
            self._closing.spawn("close-provider", live.close)

    def _forget(self, live: _LiveProvider) -> None:
        if self._live.get(live.key) is live:
            del self._live[live.key]

    def _warm_up(self, live: _LiveProvider) -> None:
        """Warm it up, or wait for whoever does. When that one is killed, the next of those who wait takes over."""
        while not live.warm:
            if live.warming is not None:
                _await_success(live.warming, live.provider.name)
                continue
            warming = live.warming = AsyncResult()
            try:
                live.provider.warm_up()
            except Exception as error:
                self._forget(live)
                warming.set_exception(error)
                raise
            else:
                live.warm = True
            finally:
                live.warming = None
                if not warming.ready():
                    warming.set(None)

    def _made(self, loaded: Loaded, kind: str, name: str, key: str) -> _LiveProvider:
        referred = self._referred(loaded, kind, name)
        try:
            # Leasing those may have taken a while, in which somebody else has made this one.
            live = self._live.get(key) or self._new(loaded, kind, name, key, referred)
        except BaseException:
            for lease in referred.values():
                lease.release()
            raise
        if live.referred is not referred:
            for lease in referred.values():
                lease.release()
        return live

    def _referred(self, loaded: Loaded, kind: str, name: str) -> dict[tuple[str, str], Lease]:
        leases: dict[tuple[str, str], Lease] = {}
        try:
            for other in _refers_to(loaded.settings, kind, name):
                leases["llm", other] = self.lease(loaded, "llm", other)
        except BaseException:
            for lease in leases.values():
                lease.release()
            raise
        return leases

    def _new(
        self, loaded: Loaded, kind: str, name: str, key: str, referred: dict[tuple[str, str], Lease]
    ) -> _LiveProvider:
        settings = loaded.settings
        here = zone_of(settings)

        def provider(kind: str, name: str) -> Any:
            if (kind, name or settings.selected(kind)) != next(iter(referred), None):
                raise VendorUnavailable(name or kind, "is not a provider that this one may use")
            return with_fallback([lease.provider for lease in referred.values()])

        services = Services(
            inference=self._inference,
            data_dir=settings.data_dir,
            config_dir=loaded.config_dir,
            provider=provider,
            database=self._database,
            now=lambda: datetime.now(here),
        )
        built: Provider = registry.build(kind, name, settings.block(kind, name), services)
        if isinstance(built, Tts):
            built.traits = replace(built.traits, voice_key=key)
        self._check_room(kind, built)
        live = _LiveProvider(key, kind, built, referred)
        if kind in LIMITED_BY and not built.traits.offline:
            self._guard(live, built, loaded)
        self._live[key] = live
        return live

    def _check_room(self, kind: str, built: Provider) -> None:
        local = built.traits.offline and kind in _MODEL_KINDS
        limit = self._max_models if local else self._max_clients
        alike = [
            live
            for live in self._live.values()
            if live.kind == kind and live.provider.traits.offline == built.traits.offline
        ]
        if len(alike) >= limit:
            _closed_whatever_happens(built.close)
            where = "on this machine" if local else "at vendors"
            found = f"one more {SECTIONS.get(kind, kind)} {where}, beside {limit} different ones"
            raise SettingsError(
                [Fault(f"{SECTIONS.get(kind, kind)}.{built.name}", found, "the same settings for more devices")]
            )

    def _guard(self, live: _LiveProvider, built: Provider, loaded: Loaded) -> None:
        settings, kind = loaded.settings, live.kind
        name = registry.block_key(kind, built.name)
        endpoint = _endpoint(settings, kind, built.name)
        breaker = self._breakers.get(endpoint)
        if breaker is None:
            breaker = self._breakers[endpoint] = Breaker(name, BreakerOptions())
        guarded = guard(
            kind,
            built,
            vendor_limits(settings, kind, built.name),
            breaker=breaker,
            observer=self._observer,
            explain=remedies_of(kind, built.name, settings.block(kind, built.name)).explain,
        )
        if guarded is built:
            return

        def listener(_: str, state: BreakerState) -> None:
            self._on_breaker(name, state)

        breaker.listeners.append(listener)
        live.provider, live.guard, live.listener = guarded, guarded.guard, listener


class LeasedProviders:
    """The providers of one configuration, leased when they are first asked for and given back together."""

    def __init__(self, pool: ProviderPool, loaded: Loaded) -> None:
        self._pool = pool
        self._loaded = loaded
        self._leases: dict[tuple[str, str], Lease] = {}
        self._released = False

    def get(self, kind: str, name: str = "") -> Any:
        """The provider of a block, the selected one by default. Blocks and raises as `ProviderPool.lease`; raises
        VendorUnavailable when all have been given back."""
        key = (kind, name or self._loaded.settings.selected(kind))
        if key not in self._leases:
            if self._released:
                raise VendorUnavailable(key[1], "its configuration has been replaced")
            lease = self._pool.lease(self._loaded, *key)
            if self._released or key in self._leases:
                lease.release()
                return self.get(*key)
            self._leases[key] = lease
        return self._leases[key].provider

    def selected(self, kind: str) -> Any:
        """The selected provider of a kind with its fallbacks behind it."""
        settings = self._loaded.settings
        names = (settings.selected(kind), *settings.fallbacks(kind))
        chain = [self.get(kind, name) for name in dict.fromkeys(names)]
        return chain[0] if len(chain) == 1 else with_fallback(chain)

    def probe(self, kind: str, name: str) -> str:
        """Ask the vendor of a block once, past its window and its breaker: "ok"; "local" when it works on this machine,
        "not tried" when there is no harmless question. Raises VendorError, and what `get` raises."""
        provider = self.get(kind, name)
        if provider.traits.offline:
            return "local"
        if not is_tried(kind, provider):
            return "not tried"
        probe(kind, provider)
        return "ok"

    def emergency_voice(self) -> Tts | None:
        """The voice that needs no network, loaded on the first call; None when this installation has none. May block
        for seconds."""
        if EMERGENCY_VOICE not in self._loaded.settings.modules("tts"):
            return None
        try:
            voice: Tts = self.get("tts", EMERGENCY_VOICE)
        except (XiaozhiError, ImportError, OSError) as error:
            log.warning("no emergency voice", error=str(error)[:200])
            return None
        return voice

    def release(self) -> None:
        """Give all of them back; returns at once. Idempotent."""
        self._released = True
        for lease in self._leases.values():
            lease.release()


# --- what a provider is made of --------------------------------------------------------------------------------------


def _content_key(loaded: Loaded, kind: str, name: str) -> str:
    """Equal when building the provider again would make the same thing. A digest, as blocks hold secrets. Raises
    SettingsError."""
    settings, block = loaded.settings, loaded.settings.block(kind, name)
    options = registry.validate(kind, name, block).model_dump()
    roots = (Path(), loaded.config_dir, settings.data_dir)
    limits = vendor_limits(settings, kind, name) if kind in LIMITED_BY else None
    parts = {
        "kind": kind,
        "name": name,
        "block": block,
        "files": [_stamp(root / text) for text in sorted(set(_texts(options))) for root in roots],
        "limits": asdict(limits) if limits is not None else None,
        "endpoint": _endpoint(settings, kind, name) if limits is not None else None,
        "places": [str(settings.data_dir), str(loaded.config_dir), str(zone_of(settings))],
        "refers to": [[other, _content_key(loaded, "llm", other)] for other in _refers_to(settings, kind, name)],
    }
    return hashlib.blake2b(json.dumps(parts, sort_keys=True, default=str).encode(), digest_size=16).hexdigest()


def _alike(kind: str, settings: Settings, other: Settings) -> bool:
    """Whether nothing that a content key of this kind is made of differs: both lie over the same reading of the
    configuration, and leave all of it alone."""
    kinds = {kind, "llm", *REFERRING} if kind == "llm" or kind in REFERRING else {kind}
    return (
        all(settings.shares(each, other) for each in kinds)
        and settings.selected_module is other.selected_module
        and settings.fallback is other.fallback
    )


def _refers_to(settings: Settings, kind: str, name: str) -> tuple[str, ...]:
    """The language model that a provider of this block works with, and those that take over for it; none when it works
    with none."""
    block = settings.block(kind, name)
    if kind not in REFERRING or not registry.registration(kind, name, block).cls.needs_services:
        return ()
    named = block.get("llm")
    other = named if isinstance(named, str) and named else settings.selected("llm")
    return other, *settings.fallbacks("llm", other)


def _takes_over(settings: Settings, kind: str, name: str) -> bool:
    """Whether a block is there for others that fail."""
    if name in settings.fallbacks(kind):
        return True
    models = [_refers_to(settings, other, settings.selected(other)) for other in REFERRING] if kind == "llm" else []
    return any(name in others[1:] for others in models)


def _endpoint(settings: Settings, kind: str, name: str) -> tuple[str, str]:
    """What shares a breaker: the same service at the same address, under whatever names. A fallback has one of its own,
    or the failures that it is there to cure would shut it off as well."""
    block = settings.block(kind, name)
    address = next((str(block[key]).rstrip("/") for key in ADDRESSES if block.get(key)), "")
    place = address or f"type {block.get('type') or name}"
    return kind, f"fallback {name} at {place}" if _takes_over(settings, kind, name) else place


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


def _await_success(warming: AsyncResult, name: str) -> None:
    """Wait for another one's warm-up. Raises its error, or VendorTimeout."""
    warming.wait(timeout=WARM_UP_SECONDS)
    if not warming.ready():
        raise VendorTimeout(name, "is not ready in time")
    if warming.exception is not None:
        raise warming.exception


def _closed_whatever_happens(close: Callable[[], None]) -> None:
    try:
        close()
    except Exception:
        log.exception("a provider could not be closed")
