"""What a measurement ran on: a number without its machine and date says little."""

from __future__ import annotations

import datetime
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil

from loadtest import ROOT


def describe() -> dict[str, Any]:
    """Processor, cores, memory, system, Python, the commit of this tree, the date and the command."""
    return {
        "date": datetime.datetime.now().astimezone().isoformat(timespec="minutes"),
        "command": command(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
        "python": platform.python_version(),
        "commit": _commit(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def in_words(machine: dict[str, Any]) -> str:
    """One line for people."""
    return (
        f"{machine['cores']} cores ({machine['processor']}), {machine['memory_gb']:g} GB, {machine['system']}, "
        f"Python {machine['python']}, {machine['date']}"
        + (f", commit {machine['commit']}" if machine["commit"] else "")
    )


def command() -> str:
    """How this programme was called, to be called again."""
    module = getattr(sys.modules.get("__main__"), "__spec__", None)
    name = module.name.removesuffix(".__main__") if module is not None else ""
    return shlex.join(["python", *(["-m", name] if name else [Path(sys.argv[0]).name]), *sys.argv[1:]])


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()


def _commit() -> str:
    """Short id of the commit, with + behind it when files have been changed since; "" outside a repository."""
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--exclude=*"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return found.stdout.strip()
