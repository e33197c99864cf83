"""Changing the configuration from the console: examined first, then written into config/local.yaml, then put into force
by the same reload as any other; where that refuses, the file is as it was.

Not the forms (`console_forms.py`), not the trying of vendors (`console_trials.py`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from gevent.lock import BoundedSemaphore

from xiaozhi.app import console_forms, listeners, wiring
from xiaozhi.app.console_presets import presets_for
from xiaozhi.app.console_trials import VendorTrials
from xiaozhi.errors import Fault, SettingsError, XiaozhiError
from xiaozhi.providers.pool import ProviderPool
from xiaozhi.runtime import tasks
from xiaozhi.runtime.inference import InferencePool
from xiaozhi.runtime.logs import get_logger
from xiaozhi.settings import Examined, Loaded
from xiaozhi.settings.layers import Path
from xiaozhi.settings.local_file import NAME, FileChanged, FileText, LocalFile
from xiaozhi.settings.masking import mask_text
from xiaozhi.settings.overlay import code_faults
from xiaozhi.settings.yaml_edit import Change, edited
from xiaozhi.settings.yaml_reader import read_text
from xiaozhi.web.console.settings import SettingsHooks

log = get_logger(__name__)

READ_S: Final = 60.0
BY_HAND: Final[tuple[Path, ...]] = (("mcp",), ("plugins", "dirs"))
"""What starts programs or loads code stands in a file that somebody has written on this machine."""
HEADER: Final = "# What is different on this machine from default.yaml. The console in the browser writes here too.\n\n"

NO_FILE: Final = "this server was started without a configuration file"

Preview = Callable[[str], Examined]
"""The configuration as it would be if config/local.yaml held this text. Uses nothing of gevent."""


class SettingsDesk:
    """`current`: the configuration in force. `preview` None: there is no file behind it, and nothing can be changed.
    `reload`: gives the faults for which it was refused."""

    def __init__(
        self,
        *,
        current: Callable[[], Loaded],
        preview: Preview | None,
        reload: Callable[[], Sequence[Fault]],
        pool: ProviderPool,
        inference: InferencePool,
    ) -> None:
        self._current = current
        self._preview = preview
        self._reload = reload
        self._inference = inference
        self._changing = BoundedSemaphore(1)
        self.trials = VendorTrials(pool, inference)

    def hooks(self) -> SettingsHooks:
        """What the page asks."""
        return SettingsHooks(
            overview=self.overview,
            block=lambda *block: self._in_thread(lambda: console_forms.block_form(self._current(), *block)),
            group=lambda group: self._in_thread(lambda: console_forms.group_form(self._current(), group)),
            preview=self.preview,
            save=self.save,
            undo=self.undo,
            check=lambda kind, name, changes: self.trials.check(self._tried(changes), kind, name, changes),
            voice=lambda name, text, changes: self.trials.voice(self._tried(changes), name, text, changes),
        )

    @property
    def new_installation(self) -> bool:
        """Whether recogniser, language model and voice are still those that ship."""
        return console_forms.new_installation(self._current())

    def overview(self) -> Mapping[str, Any]:
        """Everything but the forms. Raises FileUnusable."""
        loaded = self._current()
        shown: Mapping[str, Any] = self._in_thread(lambda: self._overview(loaded))
        return shown

    def _overview(self, loaded: Loaded) -> Mapping[str, Any]:
        file = LocalFile(loaded.config_dir / NAME)
        refusal = self._refusal(file)
        return {
            "file": f"config/{NAME}",
            "refusal": refusal,
            "digest": "" if refusal else file.read().digest,
            "managed_by": mask_text(loaded.settings.manager_api.url) if loaded.settings.under_console else "",
            "several_workers": loaded.settings.server.reuse_port,
            "new": console_forms.new_installation(loaded),
            "kinds": console_forms.kinds_shown(loaded),
            "groups": list(console_forms.GROUPS),
            "warnings": wiring.warnings(loaded),
            "presets": presets_for(loaded),
            "earlier": [{"number": each.number, "at": each.at} for each in ([] if refusal else file.earlier())],
        }

    def preview(self, changes: Sequence[Change]) -> Mapping[str, Any]:
        """What would come of these changes: faults, warnings, keys that take a restart. Raises SettingsError for what
        cannot be written at all."""
        self._refuse(changes)
        file = self._file
        text = self._in_thread(file.read)
        return self._outcome(self._examined(self._in_thread(lambda: _edited(text.text, changes))))

    def save(self, changes: Sequence[Change], seen: str) -> Mapping[str, Any]:
        """Write the changes and put them into force. `seen`: the digest of the file that was shown. Raises
        SettingsError with every fault, FileChanged, FileUnusable."""
        self._refuse(changes)
        return self._change(lambda file, text: _edited(text, changes), seen)

    def undo(self, number: int, seen: str) -> Mapping[str, Any]:
        """Put an earlier text of the file into force. Raises as `save`."""
        return self._change(lambda file, text: file.earlier_text(number), seen)

    # --- one change ---------------------------------------------------------------------------------------------------

    def _change(self, make: Callable[[LocalFile, str], str], seen: str) -> Mapping[str, Any]:
        """`make`: the new text of the file, from the present one; runs in a thread. Goes on to the end, also if the
        request is given up."""

        def work() -> Mapping[str, Any] | XiaozhiError:
            try:
                return self._put_in_force(make, seen)
            except XiaozhiError as error:
                return error

        worker = tasks.spawn("change-settings", work)
        worker.join()
        outcome: Mapping[str, Any] | XiaozhiError | None = worker.value
        if isinstance(outcome, XiaozhiError):
            raise outcome
        if outcome is None:
            raise SettingsError([Fault("the configuration", "not changed", "no internal error; see the log")])
        return outcome

    def _put_in_force(self, make: Callable[[LocalFile, str], str], seen: str) -> Mapping[str, Any]:
        file = self._file
        refusal = self._in_thread(lambda: self._refusal(file))
        if refusal:
            raise SettingsError([Fault(f"config/{NAME}", "cannot be changed from here", refusal)])
        with self._changing:
            before = self._in_thread(file.read)
            if before.digest != seen:
                raise FileChanged(file.path)
            text = self._in_thread(lambda: make(file, before.text))
            outcome = self._outcome(self._examined(text))
            if outcome["faults"]:
                return {**outcome, "saved": False}
            digest = self._in_thread(lambda: file.replace(_without_nothing(text), seen))
            faults: Sequence[Fault] = self._reload()
            if faults:
                self._take_back(file, before, digest)
                return {**outcome, "saved": False, "faults": list(map(told, faults))}
            return {**outcome, "saved": True, "digest": digest}

    def _take_back(self, file: LocalFile, before: FileText, digest: str) -> None:
        """What is written cannot be put into force, such as a model that is not there: the file is as it was."""
        try:
            self._in_thread(lambda: file.replace(before.text, digest))
        except XiaozhiError as error:
            log.error("the old configuration could not be put back", error=str(error))

    def _examined(self, text: str) -> Examined:
        """With the blocks of providers and tools. Raises SettingsError when there is nothing to be examined."""
        preview = self._preview
        if preview is None:
            raise SettingsError([Fault(f"config/{NAME}", "cannot be changed from here", NO_FILE)])

        def examine() -> Examined:
            examined = preview(_without_nothing(text))
            if examined.loaded is None:
                raise SettingsError(examined.faults)
            faults = [*examined.faults, *wiring.check(examined.loaded)]
            return Examined(examined.loaded, list(dict.fromkeys(faults)), wiring.warnings(examined.loaded))

        examined: Examined = self._in_thread(examine)
        return examined

    def _outcome(self, examined: Examined) -> dict[str, Any]:
        loaded = examined.loaded
        before = self._current()
        known = set(self._in_thread(lambda: wiring.warnings(before)))
        settled = listeners.settled_at_start(before.settings, loaded.settings) if loaded is not None else []
        return {
            "faults": list(map(told, examined.faults)),
            "warnings": [warning for warning in examined.warnings if warning not in known],
            "restart": settled,
        }

    def _tried(self, changes: Sequence[Change]) -> Loaded:
        """The configuration with changes that are not saved, for a trial; faults elsewhere do not matter to it. Raises
        SettingsError."""
        if not changes:
            return self._current()
        self._refuse(changes)
        file = self._file
        loaded = self._examined(self._in_thread(lambda: _edited(file.read().text, changes))).loaded
        assert loaded is not None, "else a SettingsError was raised"
        return loaded

    def _refuse(self, changes: Sequence[Change]) -> None:
        """Raises SettingsError for changes that would have no effect, and for what is not written from a page."""
        loaded = self._current()
        faults = []
        for change in changes:
            key = ".".join(change.path)
            origin = loaded.merged.origin(change.path)
            if origin in loaded.above_local:
                faults.append(Fault(key, f"set by {origin}", "a change there; it counts more than config/local.yaml"))
            if any(change.path[: len(by_hand)] == by_hand for by_hand in BY_HAND):
                faults.append(Fault(key, "not written from here", f"a change by hand in config/{NAME}"))
            tree: Any = change.value
            for part in reversed(change.path):
                tree = {part: tree}
            if change.value is not None:
                faults += code_faults(tree, "the console")
        if faults:
            raise SettingsError(list(dict.fromkeys(faults)))

    @property
    def _file(self) -> LocalFile:
        return LocalFile(self._current().config_dir / NAME)

    def _refusal(self, file: LocalFile) -> str:
        return NO_FILE if self._preview is None else file.refusal()

    def _in_thread(self, function: Callable[[], Any]) -> Any:
        """For the disk, for long texts, and for types of providers that have not been imported yet."""
        return self._inference.run(function, kind="other", deadline=READ_S)


def told(fault: Fault) -> dict[str, str]:
    """A fault, as pages get it."""
    return {"key": fault.key, "value": fault.value, "expected": fault.expected}


def _edited(text: str, changes: Iterable[Change]) -> str:
    """Raises SettingsError. Slow."""
    return edited(text or HEADER, changes, f"config/{NAME}")


def _without_nothing(text: str) -> str:
    """A file that holds no settings is none: an empty one looks as if it were just being written."""
    return text if read_text(text, NAME)[0] else ""
