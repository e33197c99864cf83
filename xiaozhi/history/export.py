"""What was kept of one device or of some sessions, as files: JSON for programmes, CSV for spreadsheets, WAV for ears.

    history.json   a list of sessions, each with its turns: everything that is kept
    turns.csv      one line per turn; UTF-8 with a mark, which spreadsheets ask for
    sound/         <session, 8 digits>-<turn>.wav: what the user said, PCM, 16 bit, mono, 16 kHz

One session, or one sound, is in memory at a time. Texts in the CSV that a spreadsheet would take for a formula begin
with an apostrophe; the JSON has them as they were said."""

from __future__ import annotations

import csv
import datetime
import os
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from xiaozhi.history.entries import KeptSound
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

ExportedFile = tuple[str, Iterator[bytes]]
"""A path within the export, and the pieces of its content, to be read before the next file."""


@dataclass(frozen=True, slots=True)
class ExportCounts:
    """What was written."""

    sessions: int
    turns: int
    sounds: int


class Export:
    """The files of some sessions. Times in `zone`. `wav` makes a WAV file of a sound, which takes a while. Iterating
    blocks, and raises StorageError, Overloaded. `counts` is complete when all has been read."""

    def __init__(
        self,
        store: LocalHistory,
        sessions: Sequence[SessionRow],
        zone: datetime.tzinfo,
        wav: Callable[[KeptSound], bytes] = KeptSound.wav,
    ) -> None:
        self._store = store
        self._sessions = sessions
        self._zone = zone
        self._wav = wav
        self._turns = self._sounds = 0

    @property
    def counts(self) -> ExportCounts:
        """What was read so far."""
        return ExportCounts(len(self._sessions), self._turns, self._sounds)

    def files(self) -> Iterator[ExportedFile]:
        """All of them."""
        yield JSON_FILE, self.json()
        yield CSV_FILE, self.csv()
        for session in self._sessions:
            for turn in self._store.sound_turns(session.id):
                sound = self._store.sound(session.id, turn)
                if sound is not None:  # else its time came meanwhile
                    self._sounds += 1
                    yield sound_file(session.id, turn), iter([self._wav(sound)])

    def json(self) -> Iterator[bytes]:
        """history.json."""
        yield b"["
        for number, session in enumerate(self._sessions):
            kept = self._store.turns(session.id)
            self._turns += len(kept)
            body = _session_body(session, kept, self._names(session), self._zone)
            yield (b",\n" if number else b"\n") + orjson.dumps(body, option=orjson.OPT_INDENT_2)
        yield b"\n]\n"

    def csv(self) -> Iterator[bytes]:
        """turns.csv."""
        yield b"\xef\xbb\xbf" + _lines([_COLUMNS])
        for session in self._sessions:
            names = self._names(session)
            yield _lines(_row(turn, names, self._zone) for turn in self._store.turns(session.id))

    def _names(self, session: SessionRow) -> dict[int, str]:
        """Turn -> the file of its sound."""
        return {turn: sound_file(session.id, turn) for turn in self._store.sound_turns(session.id)}


def sound_file(session: str, turn: int) -> str:
    """Where the sound of a turn is within an export."""
    return f"{SOUND}/{session[:8]}-{turn}.wav"


def export(store: LocalHistory, device_id: str, directory: Path, zone: datetime.tzinfo) -> ExportCounts:
    """Write everything of a device into `directory`, which is made if need be; readable for its owner only. Times in
    `zone`. Blocks. Raises FileExistsError where an export is already, OSError, StorageError, Overloaded."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = Export(store, store.sessions(device_id), zone)
    for name, content in made.files():
        path = directory / name
        path.parent.mkdir(mode=0o700, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.writelines(content)
    return made.counts


def zipped(files: Iterable[ExportedFile]) -> Iterator[bytes]:
    """A zip file, piece by piece. Nothing in it is compressed: that would keep the hub of a server busy."""
    pipe = _Pipe()
    with zipfile.ZipFile(pipe, "w") as archive:
        for name, content in files:
            with archive.open(zipfile.ZipInfo(name, time.localtime()[:6]), "w") as file:
                for piece in content:
                    file.write(piece)
                    yield pipe.take()
            yield pipe.take()
    yield pipe.take()


class _Pipe:
    """What `zipfile` writes to: it can neither seek nor be read, so sizes come behind each entry."""

    def __init__(self) -> None:
        self._written: list[bytes] = []

    def write(self, data: Any, /) -> int:
        self._written.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing waits."""

    def close(self) -> None:
        """Nothing is open."""

    def take(self) -> bytes:
        """What was written since the last time."""
        taken = b"".join(self._written)
        self._written.clear()
        return taken


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


def _row(turn: KeptTurn, files: dict[int, str], zone: datetime.tzinfo) -> tuple[object, ...]:
    return (
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


def _lines(rows: Iterable[Sequence[object]]) -> bytes:
    lines = _Lines()
    csv.writer(lines).writerows([_harmless(cell) for cell in row] for row in rows)
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
