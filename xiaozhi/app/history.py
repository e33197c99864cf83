"""The history of one process: the journal, its delivery, the local store; from settings to what runs.

Part of the composition root. Under a management console it is the console that is told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from xiaozhi.history.entries import HistorySink
from xiaozhi.history.journal import Journal
from xiaozhi.history.pages import HistoryPages
from xiaozhi.history.reporter import Reporter
from xiaozhi.history.store import LocalHistory, Retention
from xiaozhi.runtime.metrics import Metrics
from xiaozhi.runtime.readings import HistoryFigures
from xiaozhi.runtime.watchdog import Watchdog
from xiaozhi.settings import Settings
from xiaozhi.storage.database import Database

DIRECTORY: Final = "history"
"""Of the journals, in the data directory."""
JOURNAL_PULSE_S: Final = 120.0
SWEEPER_PULSE_S: Final = 2 * 3_600.0
"""Loops that have not run for so long are replaced."""
STOP_S: Final = 5.0


class History:
    """`start`, then `keeper` for the sessions, `stop` when all of them have ended. `current`: the settings in force;
    `sinks`: those who are told instead of the local store, such as a console."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        *,
        current: Callable[[], Settings],
        sinks: Sequence[HistorySink] = (),
    ) -> None:
        self._soon = settings.history.mode != "off"
        self.keeper = Journal(settings.data_dir / DIRECTORY, max_bytes=settings.history.max_bytes)
        self.store = LocalHistory(database, lambda: retention(current()))
        self.pages = HistoryPages(database)
        self._reporter = Reporter(self.keeper, sinks or [self.store])

    def start(self, watchdog: Watchdog, metrics: Metrics) -> None:
        """Deliver what earlier processes left, and whatever comes. Blocks while that is read; raises nothing."""
        self._reporter.start(soon=self._soon)
        self.store.revive()
        watchdog.expect("history journal", lambda: self.keeper.beat, JOURNAL_PULSE_S, self.keeper.revive)
        watchdog.expect("history sweeper", lambda: self.store.beat, SWEEPER_PULSE_S, self.store.revive)
        metrics.watch_history(self.figures)

    def stop(self, seconds: float = STOP_S) -> bool:
        """Deliver what waits within about `seconds`, put the rest aside for the next start, and end; False when
        something was put aside."""
        delivered = self._reporter.flush(seconds)
        self._reporter.close()
        self.store.close()
        self.keeper.close(seconds)
        return delivered

    def figures(self) -> HistoryFigures:
        """What became of what was said."""
        journal, reporter = self.keeper, self._reporter
        records, sounds = journal.dropped
        return HistoryFigures(
            kept=journal.kept,
            lost={"turn": journal.lost + records, "sound": journal.lost_sounds + sounds},
            refused={sink: counts.given_up for sink, counts in reporter.counts.items()},
            waiting={"disk": journal.waiting, **reporter.waiting},
            failing={"disk": bool(journal.failing), **reporter.failing},
            bytes=journal.size,
        )


def retention(settings: Settings) -> Retention:
    """How long the local store keeps what was said."""
    return Retention(settings.history.days, settings.history.sound_days)
