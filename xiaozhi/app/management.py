"""The management console as this process uses it: who asks it, what of its answers is in force, and what follows when
it comes back.

Part of the composition root. The calls, their translation and the copies of the last good answers are in
`management/`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import gevent

from xiaozhi.app.generations import Generations
from xiaozhi.app.management_agents import ManagementAgents
from xiaozhi.app.management_notes import ManagementNotes
from xiaozhi.errors import Overloaded, SettingsError, VendorError
from xiaozhi.management.address_book import ConsoleAddressBook
from xiaozhi.management.client import ConsoleClient
from xiaozhi.management.last_good import LastGood
from xiaozhi.management.private_config import PrivateConfigs
from xiaozhi.management.reports import ConsoleReports
from xiaozhi.management.server_base import ServerBase
from xiaozhi.management.translate import PrivateConfig
from xiaozhi.management.unusable import without
from xiaozhi.protocol.device_id import normal_device_id
from xiaozhi.runtime.inference import InferencePool
from xiaozhi.runtime.logs import get_logger
from xiaozhi.runtime.resilience import RetryOptions
from xiaozhi.runtime.tasks import Tasks
from xiaozhi.session.link import Identity
from xiaozhi.session.turns.wakeup import is_wake_word
from xiaozhi.settings import Examined, Settings
from xiaozhi.settings.loading import CONSOLE
from xiaozhi.settings.overlay import code_faults

log = get_logger(__name__)

MENDS: Final = 8
"""Times that the configuration is read without what was found to be unusable."""
DISK_S: Final = 5.0
_ASK_AGAIN: Final = RetryOptions(first=2.0, longest=60.0)


class ManagementConsole:
    """`at_start` before there is a server, `join` with it, `close` when it stops. `settings`: those of this machine."""

    def __init__(self, settings: Settings) -> None:
        api = settings.manager_api
        self.notes = ManagementNotes()
        self.client = ConsoleClient(api.url, settings.management_secret.get_secret_value(), timeout=api.timeout)
        self.address_book = ConsoleAddressBook(
            self.client, lambda device_id: self._last_config(device_id).mac or device_id
        )
        self.agents: ManagementAgents | None = None
        self.reports = ConsoleReports(
            self.client,
            config=self._last_config,
            woke=self._woke,
            offload=self._offload,
        )
        """A sink of the history."""
        self._generations: Generations | None = None
        self._attempts = api.max_retries + 1
        self._longest_pause_s = api.retry_delay
        self._copies = LastGood(settings.data_dir)
        self._base = ServerBase(self.client, self._copies)
        self._configs: PrivateConfigs | None = None
        self._inference: InferencePool | None = None
        self._tasks = Tasks()

    @property
    def stale(self) -> str:
        """Why last good settings are in force; "" when the console has answered."""
        return self._base.stale

    @property
    def failing(self) -> list[str]:
        """What is wrong with the console and its settings, a sentence each, fit for everybody."""
        away = ["the console does not answer: its last good settings are in force"] if self.stale else []
        return [*away, *self.notes.shown]

    # --- the configuration of the server ------------------------------------------------------------------------------

    def at_start(self, say: Callable[[str], None]) -> None:
        """Ask for the settings of the server. `say`: tells the person who waits. Blocks. Raises SettingsError when
        there is neither an answer nor a copy of one."""
        try:
            self._base.at_start(attempts=self._attempts, longest_pause_s=self._longest_pause_s, say=say)
        except BaseException:
            self.close()
            raise

    def examine(self, examine: Callable[[Mapping[str, Any]], Examined]) -> Examined:
        """What is right and wrong with the configuration that the console's settings are a layer of, which `examine`
        reads. What of them cannot be used is left out. Uses nothing of gevent."""
        self.notes.forget()
        tree: Mapping[str, Any] = self._base.tree
        for _ in range(MENDS):
            examined = examine(tree)
            faults = [*code_faults(tree, CONSOLE), *examined.faults]
            if not faults:
                return examined
            tree, unusable = without(tree, faults)
            if not unusable:
                break
            for fault in unusable:
                self.notes.add(fault)
        return Examined(examined.loaded, faults, examined.warnings)

    # --- with the server ----------------------------------------------------------------------------------------------

    def join(
        self,
        generations: Generations,
        inference: InferencePool,
        arrive: Callable[[Identity], object] = lambda identity: None,
    ) -> ManagementAgents:
        """Decide which agents the devices of a server get. `arrive`: see ManagementAgents."""
        self._generations, self._inference = generations, inference

        def selected() -> Mapping[str, str]:
            current = generations.current
            settings = current.loaded.settings if current is not None else Settings()
            return {"VAD": settings.selected("vad"), "ASR": settings.selected("asr")}

        self._configs = PrivateConfigs(self.client, self._copies, selected=selected, offload=self._offload)
        self.agents = ManagementAgents(generations, self._configs, self.notes, arrive)
        return self.agents

    def start(self, reload: Callable[[], object]) -> None:
        """The server serves. `reload`: reads its configuration anew; called when a console that was away is back."""
        self.notes.tell()
        if self.stale:
            log.warning("the last good settings of the console are in force", reason=self.stale)
            self._tasks.spawn("console-return", self._await_return, reload)

    def refresh(self) -> None:
        """Before the configuration is read anew. Raises SettingsError when the console refuses to answer; when it does
        not answer, its last settings count."""
        if self.agents is not None:
            self.agents.forget_mends()
        self.notes.tell()
        try:
            self._base.refresh(self._offload)
        except (VendorError, Overloaded):
            log.warning("the last good settings of the console are in force", reason=self.stale)

    def close(self) -> None:
        """Ask nobody any more. Idempotent."""
        self._tasks.kill()
        if self.agents is not None:
            self.agents.close()
        if self._configs is not None:
            self._configs.close()
        self.client.close()

    def _last_config(self, device_id: str) -> PrivateConfig:
        last = self._configs.last(normal_device_id(device_id)) if self._configs is not None else None
        return last or PrivateConfig()

    def _woke(self, text: str) -> bool:
        current = self._generations.current if self._generations is not None else None
        return current is not None and is_wake_word(text, current.loaded.settings.wakeup_words)

    def _await_return(self, reload: Callable[[], object]) -> None:
        """Ask again and again; when the console answers, have the configuration read anew."""
        retry = 0
        while self.stale:
            retry += 1
            gevent.sleep(_ASK_AGAIN.wait(min(retry, 10), 1.0))
            try:
                changed = self._base.refresh(self._offload)
            except (SettingsError, VendorError, Overloaded):
                continue
            log.info("the console answers again", changed=changed)
            if changed:
                reload()

    def _offload(self, function: Callable[[], Any]) -> Any:
        assert self._inference is not None, "the console was not joined with a server"
        return self._inference.run(function, kind="other", deadline=DISK_S)
