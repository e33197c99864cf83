"""The verdict on a run, in words."""

from __future__ import annotations

from typing import Any

import pytest

from loadtest.report import verdict
from tests.loadtest.figures import a_step


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (a_step(25), "25 devices: GOOD: nothing failed, p95 to first audio is 6"),
        (a_step(25, first_audio=1500.0), "25 devices: LATE: nothing failed, but p95 to first audio is 1,5"),
        (a_step(failures={"closed 1011": 2, "no <answer>": 1}), "10 devices: FAILED: 3 failures, mostly: closed 1011."),
        (
            a_step(failures={"refused: HTTP 503": 5, "closed 1011": 1}),
            "10 devices: REFUSED: the server refused 5 times (5 x refused: HTTP 503); 1 more failed.",
        ),
        (
            a_step(failures={"unexpected answer: Sorry": 4}) | {"turns_refused": 4},
            "10 devices: REFUSED: the server refused 4 times (4 turns, overloaded).",
        ),
        (a_step() | {"ms": {}}, "10 devices: EMPTY: no turn was completed."),
        (a_step() | {"ms": {}, "talking": 0}, "10 devices: GOOD: no failure."),
    ],
    ids=["good", "late", "failed", "refused at the door", "turns refused", "empty", "nobody talks"],
)
def test_a_run_is_judged_in_a_sentence(step: dict[str, Any], said: str) -> None:
    assert verdict.sentence(step).startswith(said)


def test_a_saturated_load_generator_is_a_doubt() -> None:
    step = a_step()
    step["client"]["saturated"] = True
    assert "saturated" in verdict.sentence(step) and "saturated" not in verdict.sentence(a_step())
