"""The server itself under a real supervisord: talked to, stopped, restarted and killed, with simulated devices and a
scripted vendor."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import gevent
import orjson
import pytest
from gevent.event import Event
from prometheus_client.parser import text_string_to_metric_families

from loadtest.simulator import speech
from loadtest.simulator.device import SimulatedDevice
from loadtest.simulator.inbox import DeviceClosed, DeviceTimeout
from loadtest.simulator.wire import Closed, UpgradeRefused
from loadtest.vendors.openai_vendor import OpenAiVendor
from tests.ops.programs import ROOT
from tests.ops.site import Site
from tests.waiting import PATIENCE_S, wait_for

SENTENCES = ["This is the first sentence of it.", "Here comes the second one.", "And a third one to end with."]
SECRET = "the-secret-of-the-management"
SUBTITLES = ["This is the first sentence of it", "Here comes the second one", "And a third one to end with"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.leaks("workers keep connections to the vendor open between two tests"),
    pytest.mark.blocks_hub("what is tested has processes of its own; this one only plays its users, on the same cores"),
]


@pytest.fixture(scope="module")
def _running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with OpenAiVendor(reply=" ".join(SENTENCES)) as vendor:
        site = Site(tmp_path_factory.mktemp("server"), 2, ROOT / "server.py")
        vendors = {"BASE_URL": vendor.base_url, "MODEL": "scripted"}
        lines = [f"XIAOZHI_{kind}_{key}={value}" for kind in ("LLM", "ASR", "TTS") for key, value in vendors.items()]
        site.settings(
            *lines,
            f"XIAOZHI__SERVER__HTTP_PORT={site.port + 1}",
            f"XIAOZHI__SERVER__SECRET={SECRET}",
            "XIAOZHI__SERVER__IP=127.0.0.1",
            "OMP_NUM_THREADS=1",
        )
        site.start()
        try:
            yield site
        finally:
            site.stop()


@pytest.fixture
def site(_running: Site) -> Site:
    """Two workers, ready."""
    wait_for(lambda: _running.ready() and _running.control("status").count("RUNNING") == 2)
    return _running


def device_at(site: Site, number: int) -> SimulatedDevice:
    """A device, not connected yet."""
    return SimulatedDevice(
        f"ws://127.0.0.1:{site.port}/xiaozhi/v1/", device_id=f"02:00:00:00:01:{number:02x}", keep_audio=False
    )


def connected(site: Site, number: int) -> SimulatedDevice:
    """A device that has said hello."""
    device = device_at(site, number).connect()
    device.hello()
    return device


def measured(site: Site, worker: int, name: str, **labels: str) -> float:
    """One sample of a worker's own metrics; 0 when there is none."""
    samples = [
        sample for family in text_string_to_metric_families(site.ask(worker, "/metrics")) for sample in family.samples
    ]
    return next((one.value for one in samples if one.name == name and labels.items() <= one.labels.items()), 0.0)


def connections(site: Site, worker: int) -> float:
    """Devices connected to a worker."""
    return measured(site, worker, "xiaozhi_connections")


@dataclass
class Tally:
    """What became of the turns of some devices."""

    whole: int = 0
    lost: int = 0
    goodbyes: int = 0


def chat(site: Site, number: int, tally: Tally, over: Event) -> None:
    """Talk until it is over; come back whenever the connection ends."""
    while not over.is_set():
        device = device_at(site, number)
        try:
            device.connect()
            device.hello()
            while not over.is_set():
                device.replies.forget_answers()
                device.detect("tell me something")
                answer = device.collect_answer()
                complete = answer.sentences == SUBTITLES
                tally.whole += complete
                tally.lost += not complete
        except (DeviceClosed, Closed):
            tally.goodbyes += 1
            tally.lost += device.replies.speaking
            assert device.closed is not None
            assert device.closed[0] in (1001, 1012), device.closed
        except (OSError, UpgradeRefused, DeviceTimeout):
            gevent.sleep(0.2)  # sleep: no worker had its port open; a device comes back after a pause
        finally:
            device.close()


def test_a_conversation(site: Site) -> None:
    device = connected(site, 1)
    with device:
        answer = device.ask(speech.speak("what time is it"))

    assert answer.stt
    assert answer.sentences == SUBTITLES


def test_a_killed_worker_costs_only_its_own_devices(site: Site) -> None:
    devices = [connected(site, number) for number in range(16)]
    assert wait_for(lambda: connections(site, 0) + connections(site, 1) == 16)
    mine, other = connections(site, 0), connections(site, 1)
    victim, survivor = site.pid(0), site.pid(1)
    assert mine
    assert other, "the kernel gave all sixteen to one worker"

    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: sum(device.closed is not None for device in devices) == mine)
    left = [device for device in devices if device.closed is None]
    left[0].detect("are you still there")
    answer = left[0].collect_answer()

    assert len(left) == other
    assert answer.sentences == SUBTITLES
    assert wait_for(lambda: site.ask(0, "/readyz"))
    assert site.pid(0) != victim
    assert site.pid(1) == survivor
    for device in devices:
        device.close()


def test_every_worker_reads_its_configuration_again_in_mid_conversation(site: Site) -> None:
    def reloads() -> list[float]:
        return [measured(site, worker, "xiaozhi_reloads_total", result="accepted") for worker in range(2)]

    before = reloads()
    with connected(site, 1) as device:
        device.replies.forget_answers()
        device.detect("tell me something")
        device.wait_until(lambda: device.replies.speaking, PATIENCE_S, "the beginning of the answer")

        site.control("signal", "HUP", "xiaozhi:*")
        answer = device.collect_answer()

    assert answer.sentences == SUBTITLES
    assert wait_for(lambda: reloads() == [count + 1 for count in before])


def test_a_rolling_restart_under_load_loses_no_turn(site: Site) -> None:
    before = {site.pid(worker) for worker in range(2)}
    tally = Tally()
    over = Event()
    users = [gevent.spawn(chat, site, number, tally, over) for number in range(10)]

    ended = site.rolling_restart()
    over.set()
    gevent.joinall(users, timeout=60.0)

    assert ended == 0
    assert [user.exception for user in users] == [None] * 10
    assert tally.lost == 0
    assert tally.whole > 10
    assert tally.goodbyes >= 1
    assert before.isdisjoint({site.pid(worker) for worker in range(2)})


def test_an_order_to_restart_lets_answers_end_and_takes_all_workers_with_it(site: Site) -> None:
    """Given to whichever worker the kernel chose; the processes stay the same, so supervisord has nothing to do."""
    before = [site.pid(worker) for worker in range(2)]
    starts = [count_starts(site, worker) for worker in range(2)]
    device, console = connected(site, 1), device_at(site, 99).connect()
    device.replies.forget_answers()
    device.detect("tell me something")
    device.wait_until(lambda: device.replies.speaking, PATIENCE_S, "the beginning of the answer")

    console.send_json({"type": "server", "action": "restart", "content": {"secret": SECRET}})

    reply = console.next_json("server").data
    assert (reply["status"], reply["content"]) == ("success", {"action": "restart"})
    assert console.wait_closed() == (1012, "restarting")
    assert device.collect_answer().sentences == SUBTITLES
    assert device.wait_closed() == (1012, "restarting")
    device.close(), console.close()
    wait_for(lambda: [count_starts(site, worker) for worker in range(2)] == [count + 1 for count in starts], "a start")
    wait_for(site.ready, "the workers")
    assert [site.pid(worker) for worker in range(2)] == before
    again = connected(site, 1)
    assert again.ask(speech.speak("what time is it")).sentences == SUBTITLES
    again.close()


def count_starts(site: Site, worker: int) -> int:
    """How often a worker was told to become itself anew."""
    return (site.directory / f"tmp/server-{worker}.log").read_text(encoding="utf-8").count('"event":"restarting"')


def test_stopping_lets_answers_end_and_exits_with_0(site: Site) -> None:
    devices = [connected(site, number) for number in range(6)]
    for device in devices:
        device.replies.forget_answers()
        device.detect("tell me something")
    for device in devices:
        device.wait_until(lambda device=device: device.replies.speaking, PATIENCE_S, "the beginning of the answer")

    stopped = site.control("stop", "xiaozhi:*")

    for device in devices:
        answer = device.collect_answer(5.0)
        assert answer.sentences == SUBTITLES
        assert device.wait_closed() == (1001, "server stopping")
        device.close()
    log = (site.directory / "tmp/supervisord.log").read_text(encoding="utf-8")
    endings = re.findall(r"stopped: (\S+) \((.*)\)", log)[-2:]
    assert stopped.count("stopped") == 2
    assert sorted(endings) == [("xiaozhi-0", "exit status 0"), ("xiaozhi-1", "exit status 0")]
    site.control("start", "xiaozhi:*")


def test_every_worker_writes_its_own_log(site: Site) -> None:
    for worker in range(2):
        lines = (site.directory / f"tmp/server-{worker}.log").read_text(encoding="utf-8").splitlines()

        assert lines
        assert all("event" in orjson.loads(line) for line in lines)


def test_nothing_was_written_into_the_project(site: Site) -> None:
    assert (site.directory / "data").is_dir()
    assert Path("/proc", str(site.pid(0)), "cwd").resolve() == site.directory.resolve()
