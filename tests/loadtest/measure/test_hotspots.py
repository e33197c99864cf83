"""Profiles: what a sample is counted as, and threads by the kernel's own count."""

from __future__ import annotations

import io
import os
import time

from rich.console import Console

from loadtest.measure import hotspots
from tests.loadtest.figures import a_step

LINES = [
    "<module> (/me/house/server.py:1);run (/v/lib/python3.11/site-packages/gevent/hub.py:9) 5",
    "run (/me/house/xiaozhi/session/turns/turn.py:7);ask (/me/house/xiaozhi/providers/sound.py:3);"
    "send (/lib/python3.11/socket.py:4) 3",
    "run (/me/house/xiaozhi/session/turns/turn.py:8);run (/me/house/xiaozhi/session/turns/turn.py:9) 2",
    "run (/v/site-packages/gevent/threadpool.py:9);wait (/v/site-packages/gevent/_threading.py:9);"
    "acquire_with_timeout (/v/site-packages/gevent/_threading.py:4) 7",
    "this is no sample",
]


def test_a_sample_belongs_to_the_innermost_room_and_function():
    profile = hotspots.digest(LINES)

    assert (profile.total, profile.waiting) == (10, 7)
    assert profile.rooms == {"(none)": 5, "xiaozhi/providers": 3, "xiaozhi/session": 2}
    assert profile.own == {
        "run (gevent/hub.py)": 5,
        "send (3.11/socket.py)": 3,
        "run (xiaozhi/session/turns/turn.py)": 2,
    }
    assert profile.whole["run (xiaozhi/session/turns/turn.py)"] == 5  # once per stack, however often it is on it


def test_tables_show_shares_and_what_they_are_of_a_turn():
    console = Console(record=True, width=140, file=io.StringIO())
    hotspots.show(console, a_step(), hotspots.digest(LINES), {"hub": 3.0, "thread 8": 1.0})
    shown = console.export_text()

    assert "hub 75 %, thread 8 25 %" in shown
    assert "125.00 │ run (gevent/hub.py)" in shown or "125.00" in shown


def test_a_profiler_that_sees_nothing_is_told():
    console = Console(record=True, width=140, file=io.StringIO())
    hotspots.show(console, a_step(), hotspots.digest([]), {})

    assert "saw nothing" in console.export_text()


def test_the_kernel_counts_the_time_of_every_thread():
    before = sum(hotspots.thread_cpu(os.getpid()).values())
    began = time.thread_time()
    while time.thread_time() < began + 0.05:
        pass

    after = hotspots.thread_cpu(os.getpid())
    assert "hub" in after and sum(after.values()) - before >= 0.04
    assert hotspots.thread_cpu(2**22 + 1) == {}
