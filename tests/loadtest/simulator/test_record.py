"""Records: the window, pieces that are sent while it fills, and that nothing is lost or counted twice on the way."""

from __future__ import annotations

import json

from loadtest.simulator.record import FIRST_AUDIO, GAP, HELLO, Record


def test_durations_outside_the_window_are_not_kept_but_failures_are():
    record = Record(window=(10, 20))
    record.measured(FIRST_AUDIO, 500, at=9)
    record.measured(FIRST_AUDIO, 600, at=15)
    record.measured(FIRST_AUDIO, 700, at=21)
    record.measured(HELLO, 1)
    record.failed("closed 1006")

    assert record.quantile(FIRST_AUDIO, 1) == 600
    assert record.points == [(15, 600)]
    assert record.quantile(HELLO, 1) == 1
    assert record.failures == {"closed 1006": 1}


def test_pieces_add_up_to_the_whole():
    worker, parent = Record(), Record()
    for number in range(3):
        worker.measured(FIRST_AUDIO, 500 + number, at=number)
        worker.spread(GAP).add(60.0)
        worker.count("turns")
        worker.failed("no answer")
        worker.clients["7"] = {"cpu_s": float(number)}
        parent.merge(Record.unpacked(json.loads(json.dumps(worker.take()))))

    assert parent.counts == {"turns": 3}
    assert parent.failures == {"no answer": 3}
    assert (parent.spread(FIRST_AUDIO).count, parent.spread(GAP).count, len(parent.points)) == (3, 3, 3)
    assert parent.clients == {"7": {"cpu_s": 2.0}}  # the last word, not a sum
    assert worker.take()["counts"] == {}


def test_listeners_hear_of_what_is_measured():
    record, heard = Record(window=(0, 1)), []
    record.on_measured = lambda name, ms: heard.append((name, ms))
    record.on_failed = heard.append
    record.measured(FIRST_AUDIO, 5, at=0.5)
    record.measured(FIRST_AUDIO, 5, at=2)
    record.failed("why")

    assert heard == [(FIRST_AUDIO, 5), "why"]


def test_nothing_measured_has_no_quantile():
    assert Record().quantile(FIRST_AUDIO, 0.5) is None
