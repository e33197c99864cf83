"""Entries as sessions make them, and sinks that a test can have fail."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from xiaozhi.history.entries import EndedSession, HistoryEntry, SessionInfo, ToolUse

DEVICE = "02:00:00:00:00:01"
AT = 1_790_000_000.0


def session(number: int = 1, device: str = DEVICE) -> SessionInfo:
    """A session."""
    return SessionInfo(f"{number:032x}", device, "client", AT)


def entry(turn: int, number: int = 1, said: str = "", device: str = DEVICE, at: float = 0.0) -> HistoryEntry:
    """A turn of session `number`."""
    return HistoryEntry(
        session(number, device),
        turn,
        at or AT + turn,
        said=said or f"question {turn}",
        spoken=(f"Answer {turn}.", "Really."),
        tools=(ToolUse("get_time", {"zone": "UTC"}, "done", "noon", 12),),
        timings={"model": 100, "ended": 900},
    )


def ended(number: int = 1, turns: int = 1, device: str = DEVICE) -> EndedSession:
    """The end of a session."""
    return EndedSession(session(number, device), AT + 100, turns)


class RecordingSink:
    """A `HistorySink` that remembers; `before(entries)` may raise or wait."""

    def __init__(self, name: str = "sink", before: Callable[[Sequence[HistoryEntry]], None] | None = None) -> None:
        self.name = name
        self.before = before or (lambda entries: None)
        self.before_end: Callable[[EndedSession], None] = lambda ended: None
        self.calls: list[list[str]] = []
        self.entries: list[HistoryEntry] = []
        self.log: list[str] = []
        """Keys of turns, and "end" with the number of the session, in the order in which they were taken."""

    def deliver(self, entries: Sequence[HistoryEntry]) -> None:
        self.calls.append([entry.key for entry in entries])
        self.before(entries)
        self.entries += entries
        self.log += [short(entry) for entry in entries]

    def session_ended(self, ended: EndedSession) -> None:
        self.before_end(ended)
        self.log.append(f"end {int(ended.session.id, 16)}")


def short(entry: HistoryEntry) -> str:
    """Session and turn."""
    return f"{int(entry.session.id, 16)}:{entry.turn}"
