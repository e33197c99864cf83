"""What is said of a device's line: the findings in English and Chinese, and the figures behind them."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from xiaozhi.devices.lines import Lines, read
from xiaozhi.speech.line_quality import LineFigures, findings
from xiaozhi.storage.devices import DeviceRecord


def described_line(lines: Lines, record: DeviceRecord) -> dict[str, Any]:
    """For people and their tools. `live`: of a visit under way at this process; else `at` is when the last one that
    was long enough ended (seconds since 1970), None when there was none."""
    live, figures = lines.of(record.device)
    at = None
    if figures is None or not (figures.sent or figures.received):
        kept = read(record.report or {})
        if kept is not None:
            live, (at, figures) = False, kept
    if figures is None:
        figures = LineFigures()
    rssi = (record.report or {}).get("rssi")
    if figures.rssi is None and isinstance(rssi, int):
        figures = replace(figures, rssi=rssi)  # which another worker, or this one before its restart, was told
    found = findings(figures)
    return {
        "live": live,
        "at": at,
        "sentence": {"en": found[0].en, "zh": found[0].zh},
        "findings": [finding._asdict() for finding in found],
        "figures": asdict(figures),
    }
