"""What the console says of each device: asked once per connection, one question per device at a time, with the last
good answer in the place of a console that fails.

Not the agent that is made of it (the composition root does that) and not its validation. A console that is slow is
waited for; where there is a last good answer, not as long. What it answers too late counts for the next connection."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson
from cachetools import LRUCache
from gevent.event import AsyncResult

from xiaozhi.errors import ConsoleRefused, Overloaded, VendorError, VendorTimeout, XiaozhiError, forget_trace
from xiaozhi.management.client import AGENT_GONE, CODE_PENDING, DEVICE_UNKNOWN, NAME, ConsoleClient
from xiaozhi.management.last_good import LastGood
from xiaozhi.management.translate import PrivateConfig, is_server_base, private_config
from xiaozhi.runtime.logs import get_logger
from xiaozhi.runtime.tasks import Tasks

log = get_logger(__name__)

PATIENCE_S: Final = 8.0
"""How long a device waits for its settings; longer than the 5 s that a console under load takes."""
PATIENCE_WITH_COPY_S: Final = 6.0
WORDS_PATIENCE_S: Final = 1.0
"""How long pronunciations may take when the settings are there."""
REMEMBERED: Final = 2_000
"""Devices whose last answer is in memory; of the others it is on the disk."""
_UNBOUND: Final = (DEVICE_UNKNOWN, CODE_PENDING, AGENT_GONE)


class PrivateConfigs:
    """One per process. `selected`: section -> block for VAD and ASR as the server has them. `offload`: runs what blocks
    for the disk, off the hub."""

    def __init__(
        self,
        client: ConsoleClient,
        copies: LastGood,
        *,
        selected: Callable[[], Mapping[str, str]],
        offload: Callable[[Callable[[], Any]], Any],
        patience_s: float = PATIENCE_S,
        patience_with_copy_s: float = PATIENCE_WITH_COPY_S,
    ) -> None:
        self._client = client
        self._copies = copies
        self._selected = selected
        self._offload = offload
        self._patience_s = patience_s
        self._patience_with_copy_s = patience_with_copy_s
        self._flights: dict[str, AsyncResult] = {}
        # device -> (settings, digest of the answer that they were made of)
        self._known: LRUCache[str, tuple[PrivateConfig, bytes]] = LRUCache(REMEMBERED)
        self._told: LRUCache[str, None] = LRUCache(REMEMBERED)
        self._tasks = Tasks()

    def of(self, device_id: str, written_id: str, client_id: str) -> PrivateConfig:
        """The settings of a device. `written_id`: its id as it wrote it, which is how the console knows it. Blocks for
        a few seconds at most.

        Raises ConsoleRefused for a device that is not bound, or bound to an agent that is gone; VendorError,
        CircuitOpen and Overloaded when there is neither a console nor a last good answer."""
        kept = self.last(device_id)
        flight = self._flights.get(device_id)
        if flight is None:
            flight = self._flights[device_id] = AsyncResult()
            self._tasks.spawn("private-config", self._fetch, flight, device_id, written_id, client_id)
        flight.wait(timeout=self._patience_s if kept is None else self._patience_with_copy_s)
        outcome: PrivateConfig | XiaozhiError = (
            flight.value if flight.ready() else VendorTimeout(NAME, "the console is slow, its answer is still awaited")
        )
        if isinstance(outcome, PrivateConfig):
            return outcome
        if is_unbound(outcome):
            raise outcome
        if kept is not None:
            log.warning("the console does not answer, the last good settings count", reason=str(outcome)[:200])
            return kept
        raise outcome

    def known(self, device_id: str) -> PrivateConfig | None:
        """The last answer, if it is in memory. Never blocks."""
        found = self._known.get(device_id)
        return found[0] if found is not None else None

    def last(self, device_id: str) -> PrivateConfig | None:
        """The last good answer, of an earlier process too. May block for the disk."""
        return self.known(device_id) or self._read(device_id)

    def close(self) -> None:
        """Ask nobody any more. Idempotent."""
        self._tasks.kill()

    # --- one question -------------------------------------------------------------------------------------------------

    def _fetch(self, flight: AsyncResult, device_id: str, written_id: str, client_id: str) -> None:
        try:
            flight.set(self._asked(device_id, written_id, client_id))
        except (VendorError, Overloaded) as error:
            forget_trace(error)
            flight.set(error)
        finally:
            del self._flights[device_id]
            if not flight.ready():
                flight.set(VendorTimeout(NAME, "given up"))

    def _asked(self, device_id: str, written_id: str, client_id: str) -> PrivateConfig:
        # At the same time; pronunciations are not worth waiting for, nor failing for.
        words = self._tasks.spawn("correct-words", self._words, device_id, written_id)
        try:
            answer = self._client.agent_models(written_id, client_id, self._selected())
        except ConsoleRefused as error:
            words.kill(block=False)
            if is_unbound(error):
                self._known.pop(device_id, None)
                self._on_disk(lambda: self._copies.forget(device_id))
            raise
        except BaseException:
            words.kill(block=False)
            raise
        words.join(timeout=WORDS_PATIENCE_S)
        if not words.ready():
            words.kill(block=False)
        heard = {
            "agent": answer,
            "words": words.value if isinstance(words.value, list) else self._earlier_words(device_id),
            "mac": written_id,
        }
        if is_server_base(answer):
            return PrivateConfig()  # nobody's: of an id that the console made for itself
        return self._keep(device_id, heard)

    def _words(self, device_id: str, written_id: str) -> list[str] | None:
        try:
            return self._client.correct_words(written_id)
        except (VendorError, Overloaded) as error:
            log.warning("pronunciations not known", reason=str(error)[:200])
            return None

    def _earlier_words(self, device_id: str) -> list[str]:
        kept = self.known(device_id)
        return list(kept.overlay.get("correct_words", ())) if kept is not None else []

    def _keep(self, device_id: str, heard: Mapping[str, Any]) -> PrivateConfig:
        digest = hashlib.sha256(orjson.dumps(heard, option=orjson.OPT_SORT_KEYS)).digest()
        known = self._known.get(device_id)
        if known is not None and known[1] == digest:
            return known[0]
        config = private_config(heard["agent"], heard["words"], heard["mac"])
        for note in config.notes:
            if note not in self._told:  # an agent may have many devices
                self._told[note] = None
                log.warning("console", note=note)
        self._known[device_id] = config, digest
        self._on_disk(lambda: self._copies.write(device_id, heard))
        return config

    def _read(self, device_id: str) -> PrivateConfig | None:
        """The copy of an earlier process."""
        kept = self._on_disk(lambda: self._copies.read(device_id))
        if kept is None or not isinstance(kept.get("agent"), dict):
            return None
        words = kept.get("words")
        return private_config(kept["agent"], words if isinstance(words, list) else [], str(kept.get("mac") or ""))

    def _on_disk(self, function: Callable[[], Any]) -> Any:
        """Do it off the hub; None when that cannot be done now: a device is not refused for lack of a copy."""
        try:
            return self._offload(function)
        except (XiaozhiError, OSError) as error:
            log.warning("the copy of a device's settings is out of reach", reason=str(error)[:200])
            return None


def is_unbound(error: BaseException) -> bool:
    """Whether the console says that this device has no agent: then an earlier answer does not count any more."""
    return isinstance(error, ConsoleRefused) and error.code in _UNBOUND
