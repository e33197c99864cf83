"""Twenty devices talk to the real server at once, with the real load test around it: everybody is answered and no
thread is left over.

Nothing about time is asserted: build machines are busy.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEVICES, TURNS = 20, 2


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_twenty_devices_are_answered_and_leave_no_thread(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "loadtest", "run", "--devices", str(DEVICES), "--turns", str(TURNS)]
    command += ["--words", "how are you doing today", "--reply", "This is number {n}.", "--expect", "number"]
    command += ["--ramp", "1", "--pause", "0.3", "--patience", "60", "--out", str(tmp_path), "--name", "smoke"]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    step = json.loads((tmp_path / "smoke.json").read_text())["steps"][0]
    assert (step["failures"], step["turns"]) == ({}, DEVICES * TURNS)
    assert step["server"]["threads"] <= step["server"]["threads_before"]
