"""Everything that was kept of one device, as files: JSON for programmes, CSV for spreadsheets, WAV for ears.

    history.json   a list of sessions, each with its turns: everything that is kept
    turns.csv      one line per turn; UTF-8 with a mark, which spreadsheets ask for
    sound/         <session, 8 digits>-<turn>.wav: what the user said, PCM, 16 bit, mono, 16 kHz

One session is in memory at a time. Texts in the CSV that a spreadsheet would take for a formula begin with an
apostrophe; the JSON has them as they were said."""

from __future__ import annotations

import csv
import datetime
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Final

import orjson

from xiaozhi.history.store import KeptTurn, LocalHistory
from xiaozhi.storage.turn_history import SessionRow

JSON_FILE: Final = "history.json"
CSV_FILE: Final = "turns.csv"
SOUND: Final = "sound"
_COLUMNS: Final = (
    "time",
    "session",
    "turn",
    "speaker",
    "said",
    "spoken",
    "tools",
    "outcome",
    "reason",
    "announcement",
    "ended_ms",
    "sound",
)
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True, slots=True)
class ExportCounts:
    """What was written."""

    sessions: int
    turns: int
    sounds: int


def export(store: LocalHistory, device_id: str, directory: Path, zone: datetime.tzinfo) -> ExportCounts:
    """Write everything of a device into `directory`, which is made if need be; readable for its owner only. Times in
    `zone`. Blocks. Raises FileExistsError where an export is already, OSError, StorageError, Overloaded."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    turns = sounds = 0
    sessions = store.sessions(device_id)
    with _new(directory / JSON_FILE) as json_file, _new(directory / CSV_FILE) as csv_file:
        csv_file.write(b"\xef\xbb\xbf")
        json_file.write(b"[")
        for number, session in enumerate(sessions):
            kept = store.turns(session.id)
            files = _sounds(store, session, directory)
            json_file.write(b",\n" if number else b"\n")
            json_file.write(orjson.dumps(_session_body(session, kept, files, zone), option=orjson.OPT_INDENT_2))
            csv_file.write(_lines(kept, files, zone, header=not number))
            turns += len(kept)
            sounds += len(files)
        json_file.write(b"\n]\n")
    return ExportCounts(len(sessions), turns, sounds)


def _new(path: Path) -> IO[bytes]:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def _sounds(store: LocalHistory, session: SessionRow, directory: Path) -> dict[int, str]:
    """Turn -> the file of its sound, from `directory`."""
    files: dict[int, str] = {}
    for turn in store.sound_turns(session.id):
        sound = store.sound(session.id, turn)
        if sound is None:
            continue  # its time came meanwhile
        (directory / SOUND).mkdir(mode=0o700, exist_ok=True)
        name = f"{SOUND}/{session.id[:8]}-{turn}.wav"
        with _new(directory / name) as file:
            file.write(sound.wav())
        files[turn] = name
    return files


def _session_body(
    session: SessionRow, turns: list[KeptTurn], files: dict[int, str], zone: datetime.tzinfo
) -> dict[str, Any]:
    return {
        "session": session.id,
        "device": session.device,
        "client": session.client,
        "began": _time(session.began_at, zone),
        "ended": None if session.ended_at is None else _time(session.ended_at, zone),
        "turns": [{**asdict(turn), "at": _time(turn.at, zone), "sound": files.get(turn.turn)} for turn in turns],
    }


def _lines(turns: list[KeptTurn], files: dict[int, str], zone: datetime.tzinfo, *, header: bool) -> bytes:
    lines = _Lines()
    writer = csv.writer(lines)
    if header:
        writer.writerow(_COLUMNS)
    for turn in turns:
        row = (
            _time(turn.at, zone),
            turn.session,
            turn.turn,
            turn.speaker,
            turn.said,
            "\n".join(turn.spoken),
            "\n".join(f"{use.name}: {use.outcome}" for use in turn.tools),
            turn.outcome,
            turn.reason,
            int(turn.announcement),
            turn.timings.get("ended", ""),
            files.get(turn.turn, ""),
        )
        writer.writerow([_harmless(cell) for cell in row])
    return "".join(lines.written).encode()


class _Lines:
    """What `csv` writes to."""

    def __init__(self) -> None:
        self.written: list[str] = []

    def write(self, text: str) -> None:
        self.written.append(text)


def _harmless(cell: object) -> object:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell


def _time(at: float, zone: datetime.tzinfo) -> str:
    return datetime.datetime.fromtimestamp(at, zone).isoformat(timespec="milliseconds")
