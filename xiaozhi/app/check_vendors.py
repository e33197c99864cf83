"""`server.py check`: tries every vendor that is configured, and shows what came of it as a table."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from xiaozhi.app import wiring
from xiaozhi.app.vendor_health import FAILED, VendorVerdict, try_vendors
from xiaozhi.errors import SettingsError
from xiaozhi.providers import registry
from xiaozhi.providers.pool import LIMITED_BY, ProviderPool
from xiaozhi.runtime.inference import InferencePool
from xiaozhi.settings import SECTIONS, Loaded
from xiaozhi.settings.layers import ships

THREADS = 2
WIDTH = 120
"""Columns where the output is no terminal."""


def check_vendors(loaded: Loaded) -> int:
    """Print the table; 0 when all vendors in use have answered, else 1. Blocks for half a minute at most."""
    inference = InferencePool(THREADS)
    inference.start()
    database = wiring.make_database(loaded.settings)  # asked by memories only, which are not tried
    pool = ProviderPool(inference, lambda report: None, database=database)
    used = loaded.settings.in_use()
    try:
        verdicts = list(try_vendors(loaded, pool, [*used, *_written_otherwise(loaded)]))
    finally:
        pool.close()
        inference.close()
    needed = {registry.block_key(*block) for block in used}
    _show(verdicts, needed)
    return 1 if any(verdict.failed and verdict.block in needed for verdict in verdicts) else 0


def _written_otherwise(loaded: Loaded) -> list[tuple[str, str]]:
    """Blocks of vendors that are not in use, and that somebody has written a key into."""
    used = set(loaded.settings.in_use())
    found = []
    for kind in LIMITED_BY:
        if kind not in SECTIONS:
            continue
        for name, block in loaded.settings.modules(kind).items():
            if (kind, name) not in used and _is_filled_in(loaded, kind, name, block):
                found.append((kind, name))
    return found


def _is_filled_in(loaded: Loaded, kind: str, name: str, block: dict[str, object]) -> bool:
    try:
        registry.validate(kind, name, block)
        secrets = registry.secrets_of(registry.registration(kind, name, block))
    except SettingsError:
        return False
    section = SECTIONS[kind]
    return any(block.get(key) and not ships(loaded.merged.origin((section, name, key))) for key in secrets)


def _show(verdicts: Sequence[VendorVerdict], needed: set[str]) -> None:
    table = Table("kind", "block", "verdict", "ms", "what to do, or what it cannot do", show_edge=False, pad_edge=False)
    for verdict in verdicts:
        section, _, name = verdict.block.partition(".")
        limits = f"it cannot do: {', '.join(verdict.limitations)} (docs/providers.md)" if verdict.limitations else ""
        unused = "" if verdict.block in needed else "not in use; "
        table.add_row(
            section,
            escape(name),
            f"[red]{FAILED}[/red]" if verdict.failed else verdict.state,
            "" if verdict.milliseconds is None else f"{verdict.milliseconds:.0f}",
            escape(f"{unused if verdict.failed else ''}{verdict.found or limits}"),
        )
    console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)
    console.print(table)
    tried = [verdict for verdict in verdicts if verdict.milliseconds is not None]
    failed = [verdict for verdict in tried if verdict.failed]
    if not tried:
        console.print("\nNo vendor is configured: everything works on this machine.")
    else:
        console.print(f"\n{len(tried) - len(failed)} of {len(tried)} vendors answer.")
