"""The bench's table: aims, verdicts, choosing, and what counts as watching in a profile."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from loadtest.bench import __main__ as bench
from loadtest.bench.ops import watching_share


@pytest.mark.parametrize(
    "value,aim,good",
    [
        (59.0, "<= 60", True),
        (60.0, "<= 60", True),
        (60.0, "< 60", False),
        (85.0, ">= 85 %", True),
        (84.9, "≥ 85", False),
        (1.49, "< 1.5", True),
        (1.0, "", None),
        (1.0, "as small as can be", None),
        (None, "< 1", None),
    ],
)
def test_an_aim_is_met_or_missed_or_not_there(value: float | None, aim: str, good: bool | None) -> None:
    assert bench.met(value, aim) is good


@pytest.mark.parametrize("value,text", [(None, "–"), (12345.6, "12,346"), (3.0, "3"), (0.123456, "0.1235")])
def test_numbers_are_shown_as_long_as_they_say_something(value: float | None, text: str) -> None:
    assert bench.shown(value) == text


def test_all_benches_are_found_in_the_order_of_a_turn():
    found = bench.names()

    assert found.index("ears") < found.index("connections") < found.index("turns") < found.index("ops")
    assert bench.chosen("") == found


def test_some_can_be_chosen_down_to_one_function():
    assert bench.chosen("turns, ears.opus_decoding") == ["turns", "ears.opus_decoding"]
    with pytest.raises(ValueError, match="no such bench: turn"):
        bench.chosen("turn")


def test_the_table_has_a_verdict_for_every_aim():
    console = Console(record=True, width=100, file=io.StringIO())
    console.print(
        bench.table_of("a bench", [("one [x]", 1.0, "ms", "< 2"), ("two", 3.0, "ms", "< 2"), ("three", None, "", "")])
    )
    shown = console.export_text()

    assert shown.count("met") == 1 and shown.count("missed") == 1
    assert "one [x]" in shown


def test_rows_go_to_the_table_and_to_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def measure(name: str) -> list[bench.Row]:
        if name == "ops":
            raise RuntimeError("ops ended with code 1")
        return [("first audio", 650.0, "ms", "< 600")]

    monkeypatch.setattr(bench, "measure", measure)
    code = bench.main(["--only", "turns,ops", "--json", str(tmp_path / "bench.json")])

    rows = json.loads((tmp_path / "bench.json").read_text())["rows"]
    assert rows == [
        {"bench": "turns", "name": "first audio", "value": 650.0, "unit": "ms", "aim": "< 600", "met": False}
    ]
    assert "1 aims missed" in capsys.readouterr().out
    assert code == 1  # one broke down


def test_stacks_through_metrics_or_logs_count_as_watching():
    profile = [
        "main (/s/server.py:1);turn_ended (/s/xiaozhi/observing.py:40);inc (/v/prometheus_client/metrics.py:1) 3",
        "main (/s/server.py:1);info (/s/xiaozhi/runtime/logs.py:9) 1",
        "main (/s/server.py:1);ask (/s/xiaozhi/session/turn.py:9) 6",
        "run (/v/gevent/threadpool.py:1);acquire_with_timeout (/v/gevent/_threading.py:36) 50",
        "nonsense",
    ]

    assert watching_share(profile) == (4, 10)
    assert watching_share([]) is None
