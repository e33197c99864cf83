"""supervisord.conf: what it says, and what a real supervisord makes of it with a stand-in for the server."""

from __future__ import annotations

import inspect
import os
import shutil
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
from supervisor.options import ServerOptions

from tests.ops.programs import ROOT, run
from tests.ops.site import CONF, Site
from tests.waiting import PATIENCE_S, wait_for
from xiaozhi.app import server as server_module
from xiaozhi.runtime import connections
from xiaozhi.settings import Settings

pytestmark = pytest.mark.slow

STAND_IN = ROOT / "tests/ops/worker.py"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Not started."""
    made = Site(tmp_path, 2, STAND_IN)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def _lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("site"), 2, STAND_IN)
    made.settings(
        'XIAOZHI_LLM_MODEL="a model"', "XIAOZHI__LOG__LOG_FILE=same.log", f"XIAOZHI__SERVER__PORT={made.port}"
    )
    made.start()
    yield made
    made.stop()


@pytest.fixture
def up(_lasting: Site) -> Site:
    """Two workers that run, shared by several tests because supervisord takes its seconds."""
    wait_for(lambda: _lasting.ready() and _lasting.control("status").count("RUNNING") == 2)
    return _lasting


# --- what it says ---------------------------------------------------------------------------------------------------


def parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **environ: str) -> Any:
    """supervisor's own reading of the file."""
    (tmp_path / "tmp").mkdir(exist_ok=True)
    shutil.copy(CONF, tmp_path)
    for name, value in {"XIAOZHI_WORKERS": "3", **environ}.items():
        monkeypatch.setenv(name, value)
    options = ServerOptions()
    options.realize(["-c", str(tmp_path / "supervisord.conf")])
    assert options.parse_warnings == []
    return options


def test_as_many_workers_as_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [group] = parsed(tmp_path, monkeypatch).process_group_configs

    assert [worker.name for worker in group.process_configs] == ["xiaozhi-0", "xiaozhi-1", "xiaozhi-2"]


def test_workers_are_given_time_to_finish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [group] = parsed(tmp_path, monkeypatch).process_group_configs
    flushes = inspect.getsource(server_module.Server).count("FLUSH_SECONDS") + 1  # the two HTTP ports are one line
    longest = (
        Settings().server.drain_seconds + 2 * connections.DRAIN_GRACE_SECONDS + flushes * server_module.FLUSH_SECONDS
    )

    for worker in group.process_configs:
        assert worker.stopsignal == signal.SIGTERM
        assert worker.stopwaitsecs > longest
        assert not worker.stopasgroup
        assert worker.killasgroup


def test_logs_are_rotated_and_errors_kept_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = parsed(tmp_path, monkeypatch)
    [group] = options.process_group_configs
    files = [name for worker in group.process_configs for name in (worker.stdout_logfile, worker.stderr_logfile)]

    assert len(set(files)) == 6
    assert all(Path(name).parent == tmp_path / "tmp" for name in files)
    for worker in group.process_configs:
        assert not worker.redirect_stderr
        assert 0 < worker.stdout_logfile_maxbytes <= 100 << 20
        assert 0 < worker.stderr_logfile_maxbytes <= 100 << 20
        assert worker.stderr_logfile_backups > 0
    assert 0 < options.logfile_maxbytes <= 100 << 20


def test_only_the_owner_may_command_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [control] = parsed(tmp_path, monkeypatch).server_configs

    assert control["family"] == socket.AF_UNIX
    assert control["file"] == str(tmp_path / "tmp/supervisor.sock")
    assert control["chmod"] == 0o700


def test_make_supervise_says_everything_the_file_needs() -> None:
    recipe = run("make", "--dry-run", "supervise", cwd=ROOT).stdout

    assert "mkdir -p tmp" in recipe, "supervisord does not make the directory of its log"
    assert "XIAOZHI_WORKERS" in recipe, "supervisord has no default for what it takes from the environment"


# --- what becomes of it ---------------------------------------------------------------------------------------------


def test_workers_share_the_port_and_have_metrics_and_logs_of_their_own(up: Site) -> None:
    given = [up.metrics(worker)["given"] for worker in range(2)]

    assert [one["XIAOZHI_LLM_MODEL"] for one in given] == ["a model"] * 2
    assert [one["XIAOZHI__SERVER__PORT"] for one in given] == [str(up.port)] * 2
    assert [one["XIAOZHI__SERVER__REUSE_PORT"] for one in given] == ["true"] * 2
    assert [one["XIAOZHI__LOG__LOG_FILE"] for one in given] == ["server-0.log", "server-1.log"]
    assert [one["XIAOZHI_WORKER"] for one in given] == ["0", "1"]
    assert wait_for(lambda: {up.work(0) for _ in range(8)} == {"done by 0", "done by 1"})
    assert (up.directory / "tmp/xiaozhi-1.out.log").read_text(encoding="utf-8").startswith("listening\n")
    assert (up.directory / "tmp/xiaozhi-1.err.log").read_text(encoding="utf-8").startswith("trouble\n")


def test_a_killed_worker_comes_back_and_the_other_goes_on(up: Site) -> None:
    victim, other = up.metrics(0)["pid"], up.metrics(1)["pid"]

    os.kill(victim, signal.SIGKILL)
    reborn = wait_for(lambda: (now := up.metrics(0).get("pid")) and now != victim and now)

    assert reborn != victim
    assert up.metrics(1)["pid"] == other


def test_a_worker_that_was_told_to_end_is_replaced(up: Site) -> None:
    asked = up.metrics(1)["pid"]

    os.kill(asked, signal.SIGTERM)

    assert wait_for(lambda: (now := up.metrics(1).get("pid")) and now != asked)


def test_a_rolling_restart_replaces_everybody_and_loses_nothing(up: Site) -> None:
    before = [up.metrics(worker)["pid"] for worker in range(2)]
    over = False
    answers: list[str] = []

    def customer() -> None:
        while not over:
            answers.append(up.work(0.1))

    customers = [gevent.spawn(customer) for _ in range(8)]
    ended = up.rolling_restart()
    over = True
    gevent.joinall(customers, timeout=PATIENCE_S)

    assert ended == 0
    assert not {up.metrics(worker)["pid"] for worker in range(2)} & set(before)
    assert [customer.exception for customer in customers] == [None] * 8
    assert set(answers) == {"done by 0", "done by 1"}


def test_a_rolling_restart_stops_at_the_first_worker_that_does_not_come_back(up: Site) -> None:
    other = up.metrics(1)["pid"]
    settings = (up.directory / "config/local.env").read_text(encoding="utf-8")
    up.settings(settings, "XIAOZHI_TEST_REFUSE=1")
    try:
        ended = up.rolling_restart()
    finally:
        up.settings(settings)

    assert ended != 0
    assert up.metrics(1)["pid"] == other
    assert "cannot be used" in (up.directory / "tmp/xiaozhi-0.err.log").read_text(encoding="utf-8")


def test_with_a_step_every_worker_has_ports_of_its_own(site: Site) -> None:
    site.start(XIAOZHI_PORT_STEP="10")
    wait_for(site.ready)
    given = [site.metrics(worker)["given"] for worker in range(2)]

    assert [one["XIAOZHI__SERVER__PORT"] for one in given] == [str(site.port), str(site.port + 10)]
    assert [one["XIAOZHI__SERVER__HTTP_PORT"] for one in given] == ["8003", "8013"]
    assert all("XIAOZHI__SERVER__REUSE_PORT" not in one for one in given)


def test_stopping_waits_for_the_work_in_hand(site: Site) -> None:
    site.start()
    wait_for(site.ready)
    work = [gevent.spawn(site.work, 1.0) for _ in range(6)]
    wait_for(
        lambda: (
            sum(path.read_text(encoding="utf-8").count("at work") for path in site.directory.glob("tmp/*.out.log")) == 6
        )
    )

    assert site.stop() == 0
    gevent.joinall(work, timeout=PATIENCE_S)

    assert [job.exception for job in work] == [None] * 6
    assert all(job.value.startswith("done by") for job in work)


def test_an_environment_file_that_was_named_must_be_there(site: Site) -> None:
    site.start(XIAOZHI_ENV_FILE="config/nobody.env")

    errors = site.directory / "tmp/xiaozhi-0.err.log"
    assert wait_for(lambda: errors.exists() and "nobody.env" in errors.read_text(encoding="utf-8"))


def test_secrets_of_the_environment_file_are_not_committed() -> None:
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()

    assert "/config/local.env" in ignored
