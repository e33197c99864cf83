"""What a device says of itself when it asks at its start (OTA), as far as it is kept: a flat mapping for the database
and for operators. The body is that of 78/xiaozhi-esp32 (`Board::GetSystemInfoJson`); every field may be missing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

BOARD_NAMES: Final = "board_names"
PLAYS: Final = "plays_messages"
"""Not said by the device: whether it has fetched a message to play (`app/notify_sounds.py`)."""
INTERNAL: Final = (BOARD_NAMES, PLAYS)
"""Keys that are not for people."""
_MAX_CHARS: Final = 128
_TEXTS: Final = {
    "chip": ("chip_model_name",),
    "language": ("language",),
    "board_ip": ("board", "ip"),
    "network": ("board", "ssid"),
    "partition": ("ota", "label"),
}
"""Key of the report -> where it stands in the body."""
_NUMBERS: Final = {
    "rssi": ("board", "rssi"),
    "free_heap": ("minimum_free_heap_size",),
    "flash_size": ("flash_size",),
}
_LARGEST: Final = 1 << 53


def report_of(body: Mapping[str, Any]) -> dict[str, Any]:
    """The kept part of a body; only what the device said. `rssi` in dBm, `free_heap` and `flash_size` in bytes,
    `screen` as "240x240"."""
    report: dict[str, Any] = {}
    for key, path in _TEXTS.items():
        text = _at(body, path)
        if isinstance(text, str) and text.strip():
            report[key] = _plain(text)
    for key, path in _NUMBERS.items():
        number = _at(body, path)
        if isinstance(number, int | float) and not isinstance(number, bool) and abs(number) < _LARGEST:
            report[key] = int(number)
    width, height = (_at(body, ("display", side)) for side in ("width", "height"))
    if all(isinstance(side, int) and 0 < side < 100_000 for side in (width, height)):
        report["screen"] = f"{width}x{height}"
    return report


def _at(body: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    found: Any = body
    for key in path:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def _plain(text: str) -> str:
    return "".join(filter(str.isprintable, text))[:_MAX_CHARS].strip()
