from gevent import monkey; monkey.patch_all()  # noqa: I001  # fmt: skip
# ^ Nothing may be imported before the patch, so this line comes first and the explanation second.
#
# What every test gets without asking:
# * the hub watch: a greenlet, other than the one that runs the test, that keeps the hub for more than 100 ms by
#   computing or by a blocking call fails the test and is named with its stack (tests/guards.py). A busy machine is not
#   its fault;
# * a leak check: greenlets, threads and file descriptors that were not there before the test must be gone after it;
# * 300 s to finish (pyproject.toml), and reproducible hypothesis examples in CI.
# Opt out with a reason: @pytest.mark.blocks_hub("why"), @pytest.mark.leaks("why").

import gc
import os
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

# Native helper threads of numeric libraries appear at odd moments and are not ours; one thread each is also what the
# server uses.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

import gevent
import pytest
import structlog
from hypothesis import HealthCheck, settings

from tests.guards import HubWatch, Snapshot
from xiaozhi.app.process import NAME_THREADS

settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", parent=settings.get_profile("default"), derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")

# structlog's default (the server configures its own) paints tracebacks with rich: 30 to 100 ms each, and the hub watch
# would say so.
for _processor in structlog.get_config()["processors"]:
    if isinstance(_processor, structlog.dev.ConsoleRenderer):
        _processor.exception_formatter = structlog.dev.plain_traceback

_watch = HubWatch()


def pytest_configure(config: pytest.Config) -> None:
    """Start the watch and the threads that look names up; under xdist, keep the hub from believing that nobody can
    ever wake it."""
    _watch.start()
    gevent.config.threadpool_idle_task_timeout = 1e9
    gevent.get_hub().threadpool.size = NAME_THREADS  # as the server does; they outlive every test
    if os.environ.get("PYTEST_XDIST_WORKER"):
        # A worker gets its orders from a native thread that was there before the patch. The hub cannot see that thread,
        # and would raise LoopExit while it waits for the next test; one timer that always runs keeps it waiting.
        timer = gevent.get_hub().loop.timer(1.0, 1.0)
        timer.start(lambda: None)
        config.add_cleanup(timer.close)


def pytest_unconfigure() -> None:
    """Stop the watch."""
    _watch.stop()


def pytest_collection_finish() -> None:
    """What collection made lives until the end: keep it out of every later garbage collection."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Fail a test during which the hub was blocked."""
    _watch.reset()
    outcome = yield
    blocks = _watch.reset()
    if blocks and item.get_closest_marker("blocks_hub") is None:
        pytest.fail("the hub was blocked:\n" + "\n".join(map(str, blocks)), pytrace=False)
    return outcome


@pytest.fixture(autouse=True)
def _no_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves greenlets, threads or file descriptors behind; runs before and after the test's own
    fixtures."""
    before = Snapshot.take()
    yield
    structlog.contextvars.clear_contextvars()  # what a session has bound belongs to its own test
    if request.node.get_closest_marker("leaks") is None and (left := before.left_in_the_end()):
        pytest.fail("left behind:\n" + "\n".join(left), pytrace=False)


@pytest.fixture(scope="session")
def self_signed(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """A server's TLS context with a certificate that nobody has signed, made for this run."""
    folder: Path = tmp_path_factory.mktemp("tls")
    asked = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    files = ["-keyout", str(folder / "key"), "-out", str(folder / "cert")]
    try:
        subprocess.run(["openssl", *asked.split(), *files], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no openssl to make a certificate with")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert", folder / "key")
    return context
