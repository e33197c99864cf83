"""Which vendors fail: what was found when they were tried, and whose breaker is open. `try_vendors` tries them all.

Part of the composition root. Words only, without secrets and addresses: they are shown to everybody who may ask the
HTTP port. Details are in the log, and in the table of `server.py check`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from xiaozhi.errors import SettingsError, VendorError, XiaozhiError
from xiaozhi.providers import registry
from xiaozhi.providers.pool import LeasedProviders, ProviderPool
from xiaozhi.runtime.logs import get_logger
from xiaozhi.runtime.resilience import BreakerState, CallReport, Guard
from xiaozhi.runtime.tasks import Tasks
from xiaozhi.settings import Loaded

log = get_logger(__name__)

FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class VendorVerdict:
    """What came of trying one block."""

    kind: str
    block: str
    """As in the configuration: "LLM.OpenaiLLM"."""
    state: str
    """ok, FAILED, local (it works on this machine), or not tried."""
    milliseconds: float | None = None
    found: str = ""
    """What failed, and what to do: block, setting and address."""
    shown: str = ""
    """The same without address and vendor's words."""
    limitations: tuple[str, ...] = ()
    """What the vendor was found to be unable to do."""

    @property
    def failed(self) -> bool:
        return self.state == FAILED


class VendorHealth:
    """What is known of the vendors of one process. `guards`: of those in use."""

    def __init__(self, guards: Callable[[], Iterable[Guard]]) -> None:
        self._guards = guards
        self._failed: dict[str, str] = {}
        self._probing = Tasks()

    def probe_soon(self, loaded: Loaded, pool: ProviderPool) -> None:
        """Ask every vendor in use once, in the background, if the settings say so."""
        if loaded.settings.monitoring.probe_at_start:
            self._probing.spawn("probe vendors", self._probe, loaded, pool)

    def close(self) -> None:
        """Ask nobody any more. Idempotent."""
        self._probing.kill()

    def _probe(self, loaded: Loaded, pool: ProviderPool) -> None:
        for verdict in try_vendors(loaded, pool):
            self.tried(verdict)
            if verdict.failed:
                log.warning("vendor does not answer", vendor=verdict.block, error=verdict.found)

    def tried(self, verdict: VendorVerdict) -> None:
        """A vendor was tried."""
        self._failed.pop(verdict.block, None)
        if verdict.failed:
            self._failed[verdict.block] = verdict.shown

    def called(self, report: CallReport) -> None:
        """Somebody has asked a vendor."""
        if self._failed and report.outcome == "ok":
            self._failed.pop(report.vendor, None)

    @property
    def failing(self) -> list[str]:
        """One sentence for each vendor that fails."""
        found = dict.fromkeys(self.refusing, "it has failed too often and is not asked for a while") | self.reasons
        return [f"{block}: {said}" for block, said in sorted(found.items())]

    @property
    def reasons(self) -> dict[str, str]:
        """What was found when vendors in use were tried that have not answered since: what to do, by block."""
        in_use = {guard.name for guard in self._guards()}
        return {block: said for block, said in self._failed.items() if block in in_use}

    @property
    def refusing(self) -> list[str]:
        """Blocks that have failed too often and are not asked for a while."""
        guards = ((guard.name, guard.breaker) for guard in self._guards())
        return sorted({name for name, breaker in guards if breaker and breaker.state is not BreakerState.CLOSED})

    @property
    def limitations(self) -> Mapping[str, tuple[str, ...]]:
        """What vendors were found to be unable to do, by block."""
        found = {guard.name: tuple(guard.limitations()) for guard in self._guards()}
        return {block: names for block, names in sorted(found.items()) if names}


def try_vendors(
    loaded: Loaded, pool: ProviderPool, blocks: Iterable[tuple[str, str]] | None = None
) -> Iterator[VendorVerdict]:
    """Ask the vendor of every block (kind, name), by default of those in use, all at the same time; in order.
    Blocks."""
    leased = LeasedProviders(pool, loaded)
    group = Tasks()
    wanted = loaded.settings.in_use() if blocks is None else blocks
    try:
        asked = [group.spawn("probe", _tried, leased, kind, name) for kind, name in wanted]
        for each in asked:
            verdict: VendorVerdict = each.get()
            yield verdict
    finally:
        group.kill()
        leased.release()


def _tried(leased: LeasedProviders, kind: str, name: str) -> VendorVerdict:
    block = registry.block_key(kind, name)
    began = time.monotonic()
    try:
        state = leased.probe(kind, name)
    except (XiaozhiError, OSError, ImportError, ValueError) as error:
        return VendorVerdict(kind, block, FAILED, (time.monotonic() - began) * 1000, *words_of(block, error))
    if state != "ok":
        return VendorVerdict(kind, block, state)
    limitations = leased.get(kind, name).limitations
    return VendorVerdict(kind, block, state, (time.monotonic() - began) * 1000, limitations=limitations)


def words_of(block: str, error: Exception) -> tuple[str, str]:
    """(all that is known, what may be shown to everybody)."""
    if isinstance(error, SettingsError):
        return "; ".join(map(str, error.faults)), "its block cannot be used"
    if isinstance(error, VendorError):
        return str(error).removeprefix(f"{block}: "), error.remedy or "it does not answer"
    return f"{type(error).__name__}: {error}", "it does not start"
