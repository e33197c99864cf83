"""File descriptors are shared out before they run out."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting import PATIENCE_S
from xiaozhi.app.descriptors import Descriptors, Fitted, Wanted, in_use, share

WANTED = Wanted(devices=500, http=500, handshakes=2048, vendors=300)


def test_where_there_are_enough_everybody_gets_what_is_wanted() -> None:
    assert share(1 << 20, 40, WANTED) == Fitted(500, 500, 2048)


@pytest.mark.parametrize("limit", [64, 100, 256, 512, 1024, 2048, 4096, 20_000])
@pytest.mark.parametrize("devices", [1, 50, 500, 50_000])
def test_no_more_is_let_in_than_there_are(limit: int, devices: int) -> None:
    used = 40
    wanted = Wanted(devices, 500, 2048, 300)
    fitted = share(limit, used, wanted)
    assert used + fitted.devices + fitted.http + fitted.handshakes <= limit
    assert all(1 <= given <= asked for given, asked in zip(_parts(fitted), _parts(wanted), strict=True))


def test_devices_come_first() -> None:
    fitted = share(1024, 40, WANTED)
    assert fitted.devices > 400
    assert fitted.http > 90 and fitted.handshakes > 90


def test_the_soft_limit_is_raised_and_what_does_not_fit_is_told() -> None:
    """In a process of its own, whose limits are its own."""
    script = (
        "import resource; from xiaozhi.app.descriptors import Descriptors, Wanted;"
        "d = Descriptors();"
        "print(d.limit, resource.getrlimit(resource.RLIMIT_NOFILE)[0]);"
        "print(d.warning(Wanted(500, 500, 2048, 300)));"
        "print(d.warning(Wanted(5, 5, 2048, 3)))"
    )

    def lower() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 256))

    root = Path(__file__).parents[2]
    ran = subprocess.run(
        [sys.executable, "-c", script],
        preexec_fn=lower,
        cwd=root,
        check=True,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    limits, warned, quiet = ran.stdout.split("\n")[:3]
    assert limits == "256 256"
    assert warned.startswith("256 file descriptors are too few for 500 devices") and "ulimit -n" in warned
    assert quiet == ""


def test_this_process_has_what_the_system_allows() -> None:
    assert Descriptors().limit == resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def _parts(sockets: Wanted | Fitted) -> tuple[int, int, int]:
    return sockets.devices, sockets.http, sockets.handshakes


def test_what_is_open_is_counted_against_what_may_be(tmp_path: Path) -> None:
    before, limit = in_use()
    with (tmp_path / "one").open("w"), (tmp_path / "two").open("w"):
        assert in_use() == (before + 2, limit)
    assert 0 < before < limit
