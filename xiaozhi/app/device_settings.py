"""Whether a device's own settings can be used: asked before they are kept, and again when they are.

Part of the composition root: `settings/` knows the keys, the providers know their options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from xiaozhi.app import wiring
from xiaozhi.devices.directory import DeviceDirectory, UnknownDevice
from xiaozhi.errors import Fault, SettingsError
from xiaozhi.protocol.device_id import normal_device_id
from xiaozhi.settings import Loaded, lay_over
from xiaozhi.settings.device_settings import parse_assignments, with_settings, without_settings


def check_own(overlay: Mapping[str, Any], loaded: Loaded, source: str) -> None:
    """Raises SettingsError with every fault of a device's own settings; what would have no effect is one."""
    if not overlay:
        return
    laid = laid_own(overlay, loaded, source)
    faults = wiring.check(laid, loaded.settings)
    idle = [
        Fault(source, "no effect", warning.removeprefix(f"{source}: "))
        for warning in wiring.warnings(laid, loaded.settings)
    ]
    if faults or idle:
        raise SettingsError([*faults, *idle])


def laid_own(overlay: Mapping[str, Any], loaded: Loaded, source: str) -> Loaded:
    """The configuration with a device's own settings over it. Raises SettingsError."""
    return lay_over(loaded, overlay, source, trusted=False) if overlay else loaded


def change_own(
    directory: DeviceDirectory,
    loaded: Loaded,
    device: str,
    values: Mapping[str, Any] | Sequence[str],
    removed: Sequence[str] = (),
    *,
    who: str,
) -> Mapping[str, Any]:
    """Set and unset keys of a device; its own settings now. `values`: by dotted key, or as `key=value` texts. `who`
    changes them: kept with the settings of before. Blocks for the database. Raises SettingsError with every fault,
    StorageError, Overloaded."""
    before = directory.settings_of(device)
    given = values if isinstance(values, Mapping) else parse_assignments(values, loaded, before)
    after = with_settings(without_settings(before, removed, loaded), given, loaded)
    return _replace(directory, loaded, device, before, after, who)


def restore_own(
    directory: DeviceDirectory, loaded: Loaded, device: str, version: int, *, who: str
) -> Mapping[str, Any]:
    """Put a device's settings back to what they were before the change `version`; its own settings now. Blocks and
    raises as `change_own`; raises UnknownDevice when that version is not kept (any more)."""
    before = directory.settings_of(device)
    found = next((kept for kept in directory.versions_of(device) if kept.id == version), None)
    if found is None:
        raise UnknownDevice("these earlier settings are not kept any more")
    return _replace(directory, loaded, device, before, found.settings, who)


def _replace(
    directory: DeviceDirectory,
    loaded: Loaded,
    device: str,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    who: str,
) -> Mapping[str, Any]:
    source = f"device {normal_device_id(device)}"
    check_own(after, loaded, source)

    def replace(now: Mapping[str, Any]) -> Mapping[str, Any]:
        if now != before:
            raise SettingsError([Fault(source, "changed meanwhile", "one change at a time; try again")])
        return after

    return directory.change_settings(device, replace, who=who)
