"""Programs of the operating system that check our files: found, or a reason to skip. In CI a missing one is a failure,
never a gap."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
RUN_SECONDS = 60.0


def need(program: str) -> str:
    """The path of `program`. Skips the test without it; in CI fails it."""
    places = [os.environ.get("PATH", ""), "/usr/sbin", "/sbin", str(ROOT / ".tools" / "bin")]
    found = shutil.which(program, path=os.pathsep.join(places))
    if found:
        return found
    missing = f"{program} is missing: make tools"
    if os.environ.get("CI"):
        pytest.fail(missing)
    pytest.skip(missing)


def run(*command: str, cwd: Path | None = None, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run to the end; never raises for an exit code."""
    return subprocess.run(
        command, cwd=cwd, input=stdin, capture_output=True, text=True, timeout=RUN_SECONDS, check=False
    )


def check(*command: str, cwd: Path | None = None, stdin: str = "") -> str:
    """Run and fail the test with everything that was said, unless it ends with 0. Returns stdout."""
    done = run(*command, cwd=cwd, stdin=stdin)
    if done.returncode != 0:
        pytest.fail(f"{_shown(command)} ended with {done.returncode}\n{done.stdout}{done.stderr}", pytrace=False)
    return done.stdout


def _shown(command: Sequence[str]) -> str:
    return " ".join(command)
