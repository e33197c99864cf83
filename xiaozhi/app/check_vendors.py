"""`server.py check` (or `providers check`): tries and measures every vendor that is configured, and shows what came of
it as a table, and what it means."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from xiaozhi.app import wiring
from xiaozhi.app.vendor_advice import EndOfUtterance, Timing, advice
from xiaozhi.app.vendor_health import FAILED, try_vendors
from xiaozhi.app.vendor_trials import VendorTrial, measure
from xiaozhi.errors import SettingsError, XiaozhiError
from xiaozhi.providers import registry
from xiaozhi.providers.contracts.vad import Vad
from xiaozhi.providers.pool import LIMITED_BY, LeasedProviders, ProviderPool
from xiaozhi.runtime.inference import InferencePool
from xiaozhi.session.parts import LEAD_MS
from xiaozhi.session.turn_record import Speculation
from xiaozhi.settings import SECTIONS, Loaded, Settings
from xiaozhi.settings.layers import ships

THREADS = 2
UNDERSTOOD = 80
"""Per cent of the sentence, from which on a recogniser need not be remarked on."""
WIDTH = 120
"""Columns where the output is no terminal."""


def check_vendors(loaded: Loaded) -> int:
    """Ask, measure, print a table and what it means; 0 when all vendors in use have answered, else 1. Blocks for half a
    minute at most per vendor."""
    inference = InferencePool(THREADS)
    inference.start()
    database = wiring.make_database(loaded.settings)  # asked by memories only, which are not tried
    pool = ProviderPool(inference, lambda report: None, database=database)
    used = loaded.settings.in_use()
    blocks = [*used, *_written_otherwise(loaded)]
    leased = LeasedProviders(pool, loaded)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)
    try:
        with console.status("asking every vendor once") as status:
            verdicts = list(try_vendors(loaded, pool, blocks))
            named = [(name, verdict) for (_, name), verdict in zip(blocks, verdicts, strict=True)]
            trials = list(
                measure(leased, loaded.settings, named, lambda block: status.update(f"measuring {escape(block)}"))
            )
        turns = _end_of_utterance(leased, loaded.settings)
    finally:
        leased.release()
        pool.close()
        inference.close()
    needed = {registry.block_key(*block) for block in used}
    _show(console, trials, needed)
    timings = [
        Timing(kind, trial.verdict.block, trial.trial.first_ms, used=loaded.settings.selected(kind) == name)
        for (kind, name), trial in zip(blocks, trials, strict=True)
        if trial.trial is not None
    ]
    for sentence in advice(timings, turns) if turns is not None else ():
        console.print(escape(sentence))
    return 1 if any(trial.verdict.failed and trial.verdict.block in needed for trial in trials) else 0


def _end_of_utterance(leased: LeasedProviders, settings: Settings) -> EndOfUtterance | None:
    """How the end of an utterance is found; None when the voice detector cannot be had."""
    try:
        detector: Vad = leased.selected("vad")
    except (XiaozhiError, OSError, ImportError):
        return None
    prepared = settings.conversation.speculative
    return EndOfUtterance(detector.traits.min_silence_ms, prepared, LEAD_MS[Speculation(prepared)])


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


def _show(console: Console, trials: Sequence[VendorTrial], needed: set[str]) -> None:
    table = Table(
        "kind",
        "block",
        "verdict",
        *(Column(name, justify="right") for name in ("connect", "first", "total", "sound")),
        "what to do, or what it cannot do",
        show_edge=False,
        pad_edge=False,
    )
    for each in trials:
        verdict, trial = each.verdict, each.trial
        section, _, name = verdict.block.partition(".")
        unused = "" if verdict.block in needed else "not in use; "
        table.add_row(
            section,
            escape(name),
            f"[red]{FAILED}[/red]" if verdict.failed else verdict.state,
            _ms(each.connect_ms),
            _ms(trial.first_ms if trial is not None else verdict.milliseconds),
            _ms(trial.total_ms if trial is not None else None),
            f"{trial.sound_s:.1f} s" if trial is not None and trial.sound_s else "",
            escape(f"{unused if verdict.failed else ''}{verdict.found or _remark(each)}"),
        )
    console.print(table)
    console.print(
        "\n[dim]ms: connect, what the first request took longer than the next; first, to the first words or sound, or "
        "from the end of speech to its text.[/dim]"
    )
    asked = [each.verdict for each in trials if each.verdict.milliseconds is not None]
    failed = [verdict for verdict in asked if verdict.failed]
    if not asked:
        console.print("\nNo vendor is configured: everything works on this machine.")
    else:
        console.print(f"\n{len(asked) - len(failed)} of {len(asked)} vendors answer.")


def _remark(each: VendorTrial) -> str:
    """What is worth knowing of a block that answers."""
    remarks = []
    if each.alike is not None and each.alike < UNDERSTOOD:
        heard = each.trial.text if each.trial is not None else ""
        remarks.append(f"it understood {heard!r} ({each.alike:.0f} % of the sentence)")
    if each.verdict.limitations:
        remarks.append(f"it cannot do: {', '.join(each.verdict.limitations)} (docs/providers.md)")
    return "; ".join(remarks)


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}"
