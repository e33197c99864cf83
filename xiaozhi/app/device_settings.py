"""Whether a device's own settings can be used: asked before they are kept, and again when they are.

Part of the composition root: `settings/` knows the keys, the providers know their options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from xiaozhi.app import wiring
from xiaozhi.devices.directory import DeviceDirectory
from xiaozhi.errors import Fault, SettingsError
from xiaozhi.protocol.device_id import normal_device_id
from xiaozhi.settings import Loaded, lay_over
from xiaozhi.settings.device_settings import parse_assignments, with_settings, without_settings


def check_own(overlay: Mapping[str, Any], loaded: Loaded, source: str) -> None:
    """Raises SettingsError with every fault of a device's own settings; what would have no effect is one."""
    if not overlay:
        return
    laid = lay_over(loaded, overlay, source, trusted=False)
    faults = wiring.check(laid, loaded.settings)
    idle = [
        Fault(source, "no effect", warning.removeprefix(f"{source}: "))
        for warning in wiring.warnings(laid, loaded.settings)
    ]
    if faults or idle:
        raise SettingsError([*faults, *idle])


def change_own(
    directory: DeviceDirectory,
    loaded: Loaded,
    device: str,
    values: Mapping[str, Any] | Sequence[str],
    removed: Sequence[str] = (),
) -> Mapping[str, Any]:
    """Set and unset keys of a device; its own settings now. `values`: by dotted key, or as `key=value` texts. Blocks
    for the database. Raises SettingsError with every fault, StorageError, Overloaded."""
    source = f"device {normal_device_id(device)}"
    before = directory.settings_of(device)
    given = values if isinstance(values, Mapping) else parse_assignments(values, loaded, before)
    after = with_settings(without_settings(before, removed, loaded), given, loaded)
    check_own(after, loaded, source)

    def replace(now: Mapping[str, Any]) -> Mapping[str, Any]:
        if now != before:
            raise SettingsError([Fault(source, "changed meanwhile", "one change at a time; try again")])
        return after

    return directory.change_settings(device, replace)
