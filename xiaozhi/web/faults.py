"""Errors of views that ask the database and change settings, told as every part of this server tells them."""

from __future__ import annotations

from flask import Blueprint, Response

from xiaozhi.devices.directory import UnknownDevice
from xiaozhi.errors import SettingsError, StorageError, VendorError
from xiaozhi.web.app import failure


def tell_faults(blueprint: Blueprint) -> None:
    """Have these errors of a blueprint's views answered with a sentence."""
    blueprint.register_error_handler(UnknownDevice, _unknown)
    blueprint.register_error_handler(StorageError, _storage)
    blueprint.register_error_handler(SettingsError, _settings)
    blueprint.register_error_handler(VendorError, _vendor)


def _unknown(error: UnknownDevice) -> Response:
    return failure(404, str(error))


def _storage(error: StorageError) -> Response:
    return failure(503, "The database cannot be reached, please try again.", retry_after=5)


def _settings(error: SettingsError) -> Response:
    faults = [{"key": fault.key, "value": fault.value, "expected": fault.expected} for fault in error.faults]
    return failure(422, "These settings cannot be used; nothing was changed.", faults=faults)


def _vendor(error: VendorError) -> Response:
    return failure(502, str(error))
