"""`server.py history ...` and `server.py privacy`: what is kept of what was said, shown, exported and erased.

For people at a terminal, beside a server that may be running: all of it is in the database, which both may use."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import orjson
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from xiaozhi.app.banner import show_faults
from xiaozhi.app.history import DIRECTORY, retention
from xiaozhi.app.wiring import make_database
from xiaozhi.devices.directory import KEPT_VERSIONS
from xiaozhi.devices.quota import KEPT_DAYS
from xiaozhi.errors import Fault, Overloaded, SettingsError, StorageError
from xiaozhi.history.export import export
from xiaozhi.history.store import KeptTurn, LocalHistory
from xiaozhi.management.last_good import DIRECTORY as ANSWERS
from xiaozhi.providers import registry
from xiaozhi.session.memory import KEPT_S
from xiaozhi.settings import Loaded, Settings, zone_of
from xiaozhi.storage import kept_data
from xiaozhi.storage.database import Database
from xiaozhi.storage.turn_history import HistoryTotals

SHOWN: Final = 50
"""Turns that `history show` prints."""
WIDTH: Final = 160
"""Columns where the output is no terminal."""
USAGE: Final = ("history show DEVICE", "history export DEVICE DIRECTORY", "history erase DEVICE", "privacy")
EXIT_FAILED: Final = 1

_Command = Callable[[Loaded, Database, LocalHistory, Sequence[str]], int]


def is_history_command(words: Sequence[str]) -> bool:
    """Whether `run` knows what to do."""
    return _command(words) is not None


def run(words: Sequence[str], loaded: Loaded) -> int:
    """Do it; the exit code. Blocks for the database."""
    found = _command(words)
    assert found is not None
    command, arguments = found
    database = make_database(loaded.settings)
    try:
        database.start()
        return command(loaded, database, LocalHistory(database, lambda: retention(loaded.settings)), arguments)
    except SettingsError as error:
        show_faults(error.faults)
    except (StorageError, Overloaded) as error:
        show_faults([Fault("storage.url", database.shown_url, f"a database that answers: {error}")])
    except OSError as error:
        show_faults(
            [Fault(words[-1], error.strerror or str(error), "a directory that can be written and has no export")]
        )
    finally:
        database.close()
    return EXIT_FAILED


def _command(words: Sequence[str]) -> tuple[_Command, Sequence[str]] | None:
    match list(words):
        case ["history", "show", device]:
            return _show, [device]
        case ["history", "export", device, directory]:
            return _export, [device, directory]
        case ["history", "erase", device]:
            return _erase, [device]
        case ["privacy"]:
            return _privacy, []
    return None


def _show(loaded: Loaded, database: Database, store: LocalHistory, arguments: Sequence[str]) -> int:
    turns = store.newest(arguments[0], SHOWN)
    if not turns:
        print(f"Nothing is kept of {arguments[0]}{_why_not(loaded.settings)}.")
        return 0
    zone, session = zone_of(loaded.settings), ""
    for turn in turns:
        if turn.session != session:
            session = turn.session
            print(f"--- session {session}")
        for line in _lines(turn, zone):
            print(line)
    return 0


def _why_not(settings: Settings) -> str:
    return ": history.mode is off" if settings.history.mode == "off" else ""


def _lines(turn: KeptTurn, zone: datetime.tzinfo) -> Iterable[str]:
    at = datetime.datetime.fromtimestamp(turn.at, zone).strftime("%Y-%m-%d %H:%M:%S")
    who = turn.speaker or "user"
    yield f"{at}  {who}: {turn.said}" if turn.said else f"{at}  (nobody asked)"
    for use in turn.tools:
        took = "" if use.ms is None else f", {use.ms} ms"
        arguments = orjson.dumps(dict(use.arguments)).decode()
        yield f"{'':21}tool {use.name} {arguments}: {use.outcome}{took}"
    if turn.spoken:
        yield f"{'':21}assistant: {' '.join(turn.spoken)}"
    if turn.outcome != "answered":
        yield f"{'':21}({turn.outcome}{': ' if turn.reason else ''}{turn.reason})"


def _export(loaded: Loaded, database: Database, store: LocalHistory, arguments: Sequence[str]) -> int:
    device, directory = arguments
    counts = export(store, device, Path(directory), zone_of(loaded.settings))
    print(f"{counts.turns} turns of {counts.sessions} sessions and {counts.sounds} sounds are in {directory}.")
    return 0


def _erase(loaded: Loaded, database: Database, store: LocalHistory, arguments: Sequence[str]) -> int:
    turns, sounds = store.erase(arguments[0])
    print(
        f"{turns} turns and {sounds} sounds of {arguments[0]} are erased; what waits in a journal is not stored any "
        "more. What a memory provider, the management console and the vendors keep is theirs to erase."
    )
    return 0


# --- the privacy ledger -----------------------------------------------------------------------------------------------


def _privacy(loaded: Loaded, database: Database, store: LocalHistory, arguments: Sequence[str]) -> int:
    settings = loaded.settings
    rows, totals = database.read(kept_data.rows_by_table), store.totals()
    columns = [Column(name, overflow="fold") for name in ("what", "where", "how long", "now")]
    table = Table(*columns, show_edge=False, pad_edge=False)
    for row in (*_kept_in_the_database(settings, database, rows, totals), *_kept_elsewhere(settings), *_sent(settings)):
        table.add_row(*map(escape, row))
    Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH).print(table)
    return 0


_Row = tuple[str, str, str, str]


def _kept_in_the_database(
    settings: Settings, database: Database, rows: Mapping[str, int], totals: HistoryTotals
) -> list[_Row]:
    where, history = database.shown_url, settings.history
    turn_days = _days(history.days)
    sound_days = _days(history.sound_days) if history.sound_days else turn_days
    off, silent = history.mode == "off", history.mode != "sound"
    return [
        ("turns: what was said and answered", where, "not kept" if off else turn_days, f"{totals.turns} turns"),
        (
            "the user's voice",
            where,
            "not kept" if silent else sound_days,
            f"{totals.sounds} sounds, {_size(totals.sound_bytes)}",
        ),
        ("memories: what the local memory knows", where, "until replaced", f"{rows['memory_summary']} devices"),
        ("voices: what people are known by, no sound", where, "until forgotten", f"{rows['voice']} people"),
        (
            "conversations whose memory is not made yet",
            where,
            f"{KEPT_S / 86_400:.0f} days at most",
            f"{rows['pending_memory']} sessions",
        ),
        ("characters spoken per day", where, _days(KEPT_DAYS), f"{rows['output_count']} counts"),
        (
            "dialogues to be resumed",
            where,
            f"{settings.conversation.resume_seconds:g} s after the connection",
            f"{rows['dialogue']} devices",
        ),
        ("devices and their client ids", where, "until forgotten", f"{rows['enrolment']} devices"),
        ("devices that wait for approval", where, "a day", f"{rows['waiting_device']} devices"),
        ("what devices say of themselves, when they were seen", where, "until forgotten", f"{rows['device']} devices"),
        ("devices' own settings", where, "until forgotten", f"{rows['device_settings']} devices"),
        (
            "earlier settings of devices",
            where,
            f"the last {KEPT_VERSIONS} of each",
            f"{rows['settings_version']} versions",
        ),
        ("the last picture of a device's screen", where, "until the next one", f"{rows['device_picture']} devices"),
    ]


def _kept_elsewhere(settings: Settings) -> list[_Row]:
    journals = settings.data_dir / DIRECTORY
    size = sum(path.stat().st_size for path in journals.glob("*/*")) if journals.exists() else 0
    log, conversation = settings.log, settings.conversation
    log_files = sorted(Path(log.log_dir).glob(f"{log.log_file}*")) if log.log_dir else []
    words = "what is said is logged (log.content)" if log.content else "without what is said"
    rows: list[_Row] = []
    if settings.under_console:
        copies = settings.data_dir / ANSWERS
        rows.append(
            (
                "the console's agents, with keys and memories",
                str(copies),
                "until its next answer, or it forgets a device",
                _size(sum(path.stat().st_size for path in copies.glob("*"))),
            )
        )
    if settings.server.redis:
        rows.append(("dialogues to be resumed, answers", "server.redis", "as in this process", ""))
    return [
        *rows,
        (
            "turns that are not stored yet",
            str(journals),
            f"until stored; at most {_size(settings.history.max_bytes)} a process",
            _size(size),
        ),
        (
            "the dialogue of a device that left",
            "memory of the process",
            f"{conversation.resume_seconds:g} s",
            "",
        ),
        (
            f"the log, {words}",
            f"{log.log_dir}/{log.log_file}" if log.log_dir else "the terminal only",
            f"{log.backups + 1} files of {_size(log.max_bytes)}" if log.log_dir else "",
            _size(sum(path.stat().st_size for path in log_files)),
        ),
    ]


def _sent(settings: Settings) -> list[_Row]:
    """Whom what was said is sent to."""
    names = ", ".join(registry.block_key(kind, name) for kind, name in settings.in_use())
    sent: list[_Row] = [("sent to providers while a turn lasts", names, "as they say; local ones keep nothing", "")]
    if settings.under_console:
        told = "told to the console, by its setting for a device: nothing, turns, or turns and both voices"
        sent.append((told, settings.manager_api.url, "as the console says", ""))
    return sent


def _days(days: int) -> str:
    return f"{days} days" if days else "for ever"


def _size(size: float) -> str:
    for unit in ("bytes", "KB", "MB"):
        if size < 1_024:
            return f"{size:.0f} {unit}"
        size /= 1_024
    return f"{size:.1f} GB"
