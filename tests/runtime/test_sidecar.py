"""The sidecar, with a real child: calls, items, failures, its death in the middle of a call, its end with the
server."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import psutil
import pytest
from structlog.testing import capture_logs

from tests.waiting import PATIENCE_S, wait_for
from xiaozhi.errors import VendorError, VendorGarbage, VendorTimeout, VendorUnavailable
from xiaozhi.runtime import sidecar as module
from xiaozhi.runtime.resilience import RetryOptions
from xiaozhi.runtime.sidecar import Sidecar, SidecarOptions
from xiaozhi.sidecar import wire

ROOT = Path(__file__).resolve().parent.parent.parent
ECHO = {"echo": "tests.runtime.echo_service:Echo", "absent": "tests.runtime.no_such_module:Nothing"}
AT_ONCE = RetryOptions(attempts=0, first=0.01, longest=0.05)


@pytest.fixture(autouse=True)
def lines() -> Iterator[list[Any]]:
    with capture_logs() as captured:
        yield captured


@pytest.fixture
def sidecar() -> Iterator[Sidecar]:
    made = Sidecar(ECHO, options=SidecarOptions(beat_seconds=0, restart=AT_ONCE))
    yield made
    made.stop(PATIENCE_S)


def ask(sidecar: Sidecar, method: str, deadline: float = PATIENCE_S, **params: Any) -> Any:
    return sidecar.request("echo", method, params, deadline)


def ask_again(sidecar: Sidecar, value: Any) -> Any:
    """The echo of a child that has been started anew; its death may not have been seen yet."""

    def echo() -> Any:
        with contextlib.suppress(VendorUnavailable):
            return ask(sidecar, "echo", value=value)
        return None

    return wait_for(echo, "the next child")


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


# --- calls ------------------------------------------------------------------------------------------------------------


def test_nothing_runs_before_it_is_needed(sidecar: Sidecar) -> None:
    assert sidecar.pid is None
    assert not sidecar.started
    assert sidecar.resident_bytes == 0


def test_a_call_brings_its_result(sidecar: Sidecar) -> None:
    value = {"text": "你好 🎈", "numbers": [1, 2.5, None], "long": "x" * 100_000}

    assert ask(sidecar, "echo", value=value) == value
    assert sidecar.resident_bytes > 1_000_000
    assert sidecar.calls == 0


def test_calls_run_side_by_side(sidecar: Sidecar) -> None:
    ask(sidecar, "echo", value=0)
    waiting = gevent.spawn(lambda: pytest.raises(VendorUnavailable, ask, sidecar, "never"))

    answers = [gevent.spawn(ask, sidecar, "echo", value=number) for number in range(200)]
    gevent.joinall(answers, timeout=PATIENCE_S)

    assert [answer.value for answer in answers] == list(range(200))
    sidecar.stop()
    waiting.join(timeout=PATIENCE_S)
    assert waiting.successful()


@pytest.mark.parametrize(
    ("service", "method", "words"),
    [
        ("echo", "fail", "not today"),
        ("echo", "break", "KeyError"),
        ("echo", "no_such_method", "there is no echo.no_such_method"),
        ("nobody", "echo", "there is no service nobody"),
        ("absent", "echo", "ModuleNotFoundError"),
    ],
)
def test_a_call_that_fails_says_why(sidecar: Sidecar, service: str, method: str, words: str) -> None:
    with pytest.raises(VendorError, match=words):
        sidecar.request(service, method, {}, PATIENCE_S)

    assert ask(sidecar, "echo", value=1) == 1


def test_a_call_that_takes_too_long_is_cancelled(sidecar: Sidecar) -> None:
    ask(sidecar, "echo", value=0)

    with pytest.raises(VendorTimeout):
        ask(sidecar, "never", 0.05)

    wait_for(lambda: ask(sidecar, "counts") == 1, "the cancel")
    assert sidecar.calls == 0


def test_a_greenlet_that_is_killed_cancels_its_call(sidecar: Sidecar) -> None:
    ask(sidecar, "echo", value=0)
    caller = gevent.spawn(ask, sidecar, "never")
    wait_for(lambda: sidecar.calls == 1, "the call")

    caller.kill()

    wait_for(lambda: ask(sidecar, "counts") == 1, "the cancel")
    assert sidecar.calls == 0


def test_what_is_too_long_is_refused_on_both_sides(sidecar: Sidecar) -> None:
    with pytest.raises(VendorGarbage):
        ask(sidecar, "echo", value="x" * (wire.MAX_FRAME + 1))
    with pytest.raises(VendorError, match="FrameTooLong"):
        ask(sidecar, "long", bytes=wire.MAX_FRAME + 1)

    assert ask(sidecar, "echo", value=1) == 1


# --- items and events -------------------------------------------------------------------------------------------------


def test_items_come_before_the_result(sidecar: Sidecar) -> None:
    with sidecar.stream("echo", "count", {"to": 500}, PATIENCE_S) as call:
        assert list(call) == list(range(500))
        assert call.result == "counted"


def test_who_reads_slowly_holds_the_child_back(sidecar: Sidecar) -> None:
    with sidecar.stream("echo", "count", {"to": 10_000}, PATIENCE_S) as call:
        items = iter(call)
        assert next(items) == 0
        assert ask(sidecar, "echo", value="others are not held back") == "others are not held back"

        assert ask(sidecar, "progress") <= wire.WINDOW + 2
        assert sum(1 for _ in items) == 9_999


def test_a_stream_that_nobody_reads_any_more_is_cancelled(sidecar: Sidecar) -> None:
    with sidecar.stream("echo", "count", {"to": 1_000_000}, PATIENCE_S) as call:
        assert next(iter(call)) == 0

    assert sidecar.calls == 0
    before = ask(sidecar, "progress")
    assert ask(sidecar, "progress") == before


def test_events_are_told_until_nobody_listens(sidecar: Sidecar) -> None:
    told: list[tuple[str, Any]] = []
    unlisten = sidecar.listen("echo", lambda event, data: told.append((event, data)))
    ask(sidecar, "tell", what="dinner")
    assert told == [("said", "dinner")]

    unlisten()
    unlisten()
    ask(sidecar, "tell", what="lunch")

    assert told == [("said", "dinner")]


# --- its end ----------------------------------------------------------------------------------------------------------


def test_killed_in_mid_call_the_caller_gets_an_error_and_the_child_comes_back(sidecar: Sidecar) -> None:
    told: list[str] = []
    sidecar.listen("echo", lambda event, data: told.append(event))
    ask(sidecar, "echo", value=0)
    first = sidecar.pid
    callers = [gevent.spawn(ask, sidecar, "never") for _ in range(20)]
    wait_for(lambda: sidecar.calls == 20, "the calls")

    assert first is not None
    os.kill(first, signal.SIGKILL)
    gevent.joinall(callers, timeout=PATIENCE_S)

    assert all(isinstance(caller.exception, VendorUnavailable) for caller in callers)
    assert told == ["down"]
    assert ask_again(sidecar, "back") == "back"
    assert sidecar.pid not in (None, first)
    assert sidecar.restarts == 1


def test_what_a_killed_child_had_started_is_ended_by_the_next_one(sidecar: Sidecar) -> None:
    orphan = ask(sidecar, "start")
    assert sidecar.pid is not None
    os.kill(sidecar.pid, signal.SIGKILL)

    assert ask_again(sidecar, "here") == "here"
    wait_for(lambda: gone(orphan), "the end of the orphan")


def test_a_child_that_does_not_answer_is_ended() -> None:
    sidecar = Sidecar(ECHO, options=SidecarOptions(beat_seconds=0.3, restart=AT_ONCE))
    try:
        ask(sidecar, "echo", value=0)
        with pytest.raises(VendorUnavailable):
            ask(sidecar, "block", seconds=PATIENCE_S)
        assert ask_again(sidecar, "back") == "back"
    finally:
        sidecar.stop(PATIENCE_S)


def test_a_child_that_grows_too_large_is_ended() -> None:
    options = SidecarOptions(beat_seconds=0.2, memory_bytes=150_000_000, restart=AT_ONCE)
    sidecar = Sidecar(ECHO, options=options)
    try:
        with contextlib.suppress(VendorUnavailable):
            ask(sidecar, "eat", bytes=300_000_000)
        wait_for(lambda: sidecar.restarts, "the end of the large child")
    finally:
        sidecar.stop(PATIENCE_S)


def test_stopping_lets_services_end_and_calls_fail(sidecar: Sidecar) -> None:
    told: list[str] = []
    sidecar.listen("echo", lambda event, data: told.append(event))
    started = ask(sidecar, "start")
    caller = gevent.spawn(ask, sidecar, "never")
    wait_for(lambda: sidecar.calls == 1, "the call")
    pid = sidecar.pid

    assert sidecar.stop(PATIENCE_S)

    caller.join(timeout=PATIENCE_S)
    assert isinstance(caller.exception, VendorUnavailable)
    assert told == ["closing", "down"]
    assert pid is not None
    assert gone(pid)
    assert gone(started)
    with pytest.raises(VendorError):
        ask(sidecar, "echo", 0.05, value=0)


def test_a_child_that_does_not_want_to_stop_is_killed(sidecar: Sidecar) -> None:
    ask(sidecar, "echo", value=0)
    caller = gevent.spawn(ask, sidecar, "block", seconds=PATIENCE_S)
    wait_for(lambda: sidecar.calls == 1, "the call")
    pid = sidecar.pid

    assert not sidecar.stop(0.2)

    caller.join(timeout=PATIENCE_S)
    assert pid is not None
    assert gone(pid)


def test_a_program_that_cannot_be_started_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    sidecar = Sidecar(ECHO, options=SidecarOptions(beat_seconds=0, restart=AT_ONCE))
    with monkeypatch.context() as patched:
        patched.setattr(module.sys, "executable", "/nonexistent/python")
        with pytest.raises(VendorTimeout):
            ask(sidecar, "echo", 0.2, value=0)
    try:
        assert ask(sidecar, "echo", value="at last") == "at last"
    finally:
        sidecar.stop(PATIENCE_S)


SERVER = """
from gevent import monkey; monkey.patch_all()
import sys, gevent
from xiaozhi.runtime.sidecar import Sidecar
sidecar = Sidecar({"echo": "tests.runtime.echo_service:Echo"})
started = sidecar.request("echo", "start", {}, 60)
print("pids", sidecar.pid, started, flush=True)
if sys.argv[1] == "block":
    gevent.spawn(sidecar.request, "echo", "block", {"seconds": 60}, 60)
gevent.sleep(600)
"""


@pytest.mark.parametrize("state", ["idle", "block"])
def test_the_child_and_its_children_end_with_the_server_however_that_one_ends(state: str) -> None:
    server = subprocess.Popen([sys.executable, "-c", SERVER, state], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        said = next(line for line in server.stdout if line.startswith("pids"))
        pid, started = map(int, said.split()[1:])
        server.stdout.close()
        assert not gone(pid)
    finally:
        server.kill()
        server.wait()

    wait_for(lambda: gone(pid), "the end of the sidecar")
    wait_for(lambda: gone(started), "the end of what it has started")


# --- what it is -------------------------------------------------------------------------------------------------------


def test_the_child_is_not_patched_and_knows_no_other_room(sidecar: Sidecar) -> None:
    modules = ask(sidecar, "modules")

    assert not [name for name in modules if name.split(".")[0] in ("gevent", "greenlet")]
    rooms = {name.split(".")[1] for name in modules if name.startswith("xiaozhi.")}
    assert rooms == {"sidecar"}


def test_the_server_itself_imports_no_sdk() -> None:
    code = (
        "from gevent import monkey; monkey.patch_all()\n"
        "import sys, xiaozhi.app.main\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('mcp', 'anyio', 'httpx2')])"
    )
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)

    assert said.stdout.strip() == "[]"


def test_what_the_child_writes_is_logged_at_a_bounded_rate(sidecar: Sidecar, lines: list[Any]) -> None:
    ask(sidecar, "write", lines=1_000)
    ask(sidecar, "echo", value=0)

    wait_for(lambda: len([line for line in lines if "line" in line]) >= module.LINES, "the lines")
    sidecar.stop(PATIENCE_S)

    assert len([line for line in lines if "line" in line]) == module.LINES
