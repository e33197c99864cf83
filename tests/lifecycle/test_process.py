"""The server as a process: signals, exit codes, the restart that keeps its process id, and what is on disk afterwards.

(Several workers under supervisord: tests/ops/test_supervised_server.py.)
"""

from __future__ import annotations

import http.client
import json
import signal
import socket
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loadtest.simulator.device import SimulatedDevice
from loadtest.simulator.wire import UpgradeRefused
from loadtest.vendors.http_vendor import Script, VendorAnswer, VendorRequest
from loadtest.vendors.openai_vendor import CHAT, TTS, OpenAiVendor
from loadtest.vendors.sounds import Sounds
from tests.e2e.stage import SHORT, ask
from tests.lifecycle.child import Child, running
from tests.lifecycle.house import SECRET
from tests.subtitles import shown
from tests.waiting import PATIENCE_S, wait_for

pytestmark = pytest.mark.slow

STORY = "Once upon a time there was a server."
SUMMARY = "The user likes stories."


class Storyteller(OpenAiVendor):
    """Takes its time for the story, and for nothing else: a child prepares its phrases whenever it likes."""

    seconds = 1.0

    def answer(self, request: VendorRequest, script: Script) -> VendorAnswer:
        if self.kind(request) == TTS and request.json().get("input") == STORY:
            script = Script(answer=("wav", self.seconds))
        return super().answer(request, script)


@pytest.fixture
def vendor(sounds: Sounds) -> Iterator[Storyteller]:
    """What the child talks to."""
    with Storyteller(sounds=sounds, reply="Fine.", keep_alive=False) as made:
        assert isinstance(made, Storyteller)
        made.stand(TTS, SHORT)
        yield made


def tell_story(vendor: Storyteller, device: SimulatedDevice, seconds: float) -> None:
    """An answer that takes so long has begun."""
    device.replies.forget_answers()
    vendor.seconds = seconds
    vendor.script(CHAT, Script(answer=STORY))
    device.detect("tell me a story")
    device.wait_until(lambda: len(device.replies.answer.arrivals) >= 3, PATIENCE_S, "sound")


def ready(child: Child) -> tuple[int, dict[str, Any]]:
    """What /readyz says; (0, {}) when nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", child.http_port, timeout=PATIENCE_S)
    try:
        connection.request("GET", "/readyz")
        reply = connection.getresponse()
        return reply.status, json.loads(reply.read())
    except OSError:
        return 0, {}
    finally:
        connection.close()


def rows(path: Path, query: str) -> list[tuple[Any, ...]]:
    """What stands in a database of the child."""
    database = sqlite3.connect(path)
    try:
        return database.execute(query).fetchall()
    finally:
        database.close()


def test_sigterm_lets_the_answer_end_and_keeps_everything(tmp_path: Path, vendor: Storyteller) -> None:
    memory = {
        "selected_module": {"Memory": "mem_local_short"},
        "Memory": {"mem_local_short": {"type": "mem_local_short", "llm": "Vendor"}},
    }
    server = {"admin_token": "the-admin-token-of-tests"}
    with running(tmp_path, vendor, {**memory, "device_max_output_size": 1000, "server": server}) as child:
        talking, idle = child.device(), child.device()
        ask(talking, "hello")
        assert ready(child) == (200, {"ready": True, "reasons": []})
        tell_story(vendor, talking, 1.0)
        vendor.stand(CHAT, Script(answer=SUMMARY))

        child.send(signal.SIGTERM)

        assert idle.wait_closed() == (1001, "server stopping"), "who is not being answered is told at once"
        assert talking.replies.speaking
        assert wait_for(lambda: ready(child)[0] == 503 and ready(child), "readiness") == (
            503,
            {"ready": False, "reasons": ["draining"]},
        )
        with pytest.raises((OSError, UpgradeRefused)):
            child.device()
        answer = talking.collect_answer()
        assert answer.sentences == [shown(STORY)]
        assert len(answer.frames) >= 16, "to the last frame"
        assert talking.wait_closed() == (1001, "server stopping")
        assert child.exit_code() == 0

    talker = talking.device_id
    assert rows(tmp_path / "data/xiaozhi.sqlite", "SELECT device, summary FROM memory_summary") == [(talker, SUMMARY)]
    assert rows(tmp_path / "data/xiaozhi.sqlite", "SELECT device, characters FROM output_count") == [
        (talker, len("Fine.") + len(STORY))
    ]
    assert [line["outcome"] for line in child.log("turn")] == ["answered", "answered"]
    assert [line["signal"] for line in child.log("stopping")] == ["SIGTERM"]
    assert len(child.log("stopped")) == 1
    assert len(child.log("session ended")) == 2
    assert child.log("task failed") == []
    assert "Traceback" not in child.complaints()
    for secret in ("test-key", "the-admin-token-of-tests", SECRET, STORY, "tell me a story", SUMMARY):
        assert secret not in child.log_text(), secret


@pytest.mark.parametrize("order", ["stop", "restart"])
def test_requests_without_an_end_do_not_spoil_the_end(tmp_path: Path, vendor: Storyteller, order: str) -> None:
    """One body is being waited for, one head, one upgrade."""
    with running(tmp_path, vendor, {"server": {"drain_seconds": 0.5}}) as child:
        heads = (
            (
                child.http_port,
                b"POST /xiaozhi/ota/ HTTP/1.1\r\nHost: x\r\nDevice-Id: 02:00:00:00:00:01\r\n"
                b"Content-Length: 100\r\n\r\n{",
            ),
            (child.http_port, b"POST /xiaozhi/ota/ HTTP/1.1\r\n"),
            (child.port, b"GET /xiaozhi/v1/ HTTP/1.1\r\nUpgrade: "),
        )
        peers = [socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) for port, _ in heads]
        try:
            for peer, (_, head) in zip(peers, heads, strict=True):
                peer.sendall(head)
            assert ready(child)[0] == 200, "they have been accepted"

            if order == "stop":
                child.send(signal.SIGTERM)
                assert child.exit_code() == 0
            else:
                device = child.device()
                device.send_json({"type": "server", "action": "restart", "content": {"secret": SECRET}})
                child.wait_ready(2)
                assert ready(child)[0] == 200
        finally:
            for peer in peers:
                peer.close()
        assert len(child.log("stopped")) == 1
        assert child.log("not stopped as it should be") == []
        assert "Traceback" not in child.complaints()


def test_an_answer_that_takes_longer_than_the_drain_is_cut(tmp_path: Path, vendor: Storyteller) -> None:
    with running(tmp_path, vendor, {"server": {"drain_seconds": 0.5}}) as child:
        device = child.device()
        tell_story(vendor, device, 10.0)

        child.send(signal.SIGINT)

        assert device.wait_closed() == (1001, "server stopping")
        assert child.exit_code(10) == 0
        assert [(line["outcome"], line["sentences"]) for line in child.log("turn")] == [("interrupted", 1)]


def test_a_second_signal_ends_it_at_once(tmp_path: Path, vendor: Storyteller) -> None:
    with running(tmp_path, vendor) as child:
        device = child.device()
        tell_story(vendor, device, 10.0)
        child.send(signal.SIGTERM)
        wait_for(lambda: child.log("stopping"), "the first signal")

        child.send(signal.SIGTERM)

        assert child.exit_code(5) == 130
        assert child.log("second signal, leaving at once")
        assert child.log("stopped") == []


def test_a_reload_by_signal_in_mid_answer(tmp_path: Path, vendor: Storyteller) -> None:
    with OpenAiVendor(reply="I am the new one.", keep_alive=False) as other, running(tmp_path, vendor) as child:
        device = child.device()
        tell_story(vendor, device, 1.0)
        child.change({"LLM": {"Vendor": {"base_url": other.base_url}}})

        child.send(signal.SIGHUP)

        wait_for(lambda: child.log("configuration reloaded"), "the reload")
        answer = device.collect_answer()
        assert answer.sentences == [shown(STORY)]
        assert len(answer.frames) >= 16
        assert ask(device, "who are you").sentences == ["Fine"]
        assert ask(child.device(), "who are you").sentences == ["I am the new one"]

        child.change({"LLM": {"Vendor": {"base_url": "nowhere"}}, "server": {"max_connections": 0}})
        child.send(signal.SIGHUP)

        refused = wait_for(lambda: child.log("configuration refused, the old one stays"), "the refusal")
        assert len(refused[0]["faults"]) == 1, "what the schema knows is told before providers are asked"
        assert ask(child.device(), "who are you").sentences == ["I am the new one"]

        (tmp_path / "settings.yaml").write_text("server: [not, a, mapping", encoding="utf-8")
        child.send(signal.SIGHUP)

        wait_for(lambda: len(child.log("configuration refused, the old one stays")) == 2, "the second refusal")

        (tmp_path / "settings.yaml").write_text("", encoding="utf-8")  # an editor has begun to write it
        child.send(signal.SIGHUP)

        refused = wait_for(lambda: child.log("configuration refused, the old one stays")[2:], "the third refusal")
        assert "settings.yaml: holds nothing any more" in refused[0]["faults"][0]
        assert ask(child.device(), "who are you").sentences == ["I am the new one"]


def test_a_restart_finishes_answers_keeps_its_process_and_comes_back(tmp_path: Path, vendor: Storyteller) -> None:
    def restart(console: SimulatedDevice, secret: str) -> dict[str, Any]:
        console.send_json({"type": "server", "action": "restart", "content": {"secret": secret}})
        return dict(console.next_json("server").data)

    with running(tmp_path, vendor) as child:
        assert child.process is not None
        device, console = child.device(), child.device()
        assert restart(console, "wrong")["status"] == "error"
        assert "content" not in console.next_json("server").data, "what ends the wait of the console's page"
        tell_story(vendor, device, 1.0)

        reply = restart(console, SECRET)

        assert (reply["status"], reply["content"]) == ("success", {"action": "restart"})
        assert console.wait_closed() == (1012, "restarting")
        assert device.closed is None
        answer = device.collect_answer()
        assert answer.sentences == [shown(STORY)]
        assert len(answer.frames) >= 16
        assert device.wait_closed() == (1012, "restarting")
        child.wait_ready(starts=2)
        assert child.process.poll() is None, "the same process"
        again = child.device()
        assert ask(again, "are you back").sentences == ["Fine"]
        assert Path(f"/proc/{child.process.pid}/cmdline").read_bytes().count(b"settings.yaml") == 1, (
            "with the same arguments"
        )

        tell_story(vendor, again, 1.0)
        console = child.device()
        restart(console, SECRET)
        console.wait_closed()
        child.send(signal.SIGTERM)

        assert again.collect_answer().sentences == [shown(STORY)]
        assert child.exit_code() == 0, "who is told to stop during a restart does not come back"
        assert child.starts == 2


SLOW_START = """
from pathlib import Path
import gevent
from xiaozhi.providers.contracts.provider import ProviderOptions
from xiaozhi.providers.memory.nomem import NoMemory
from xiaozhi.providers.registry import provider

@provider("memory", "slow_start", ProviderOptions)
class SlowStart(NoMemory):
    def warm_up(self):
        Path("begun").touch()
        while not Path("go").exists():
            gevent.sleep(0.01)
"""


def test_a_reload_that_comes_too_early_does_not_end_it(tmp_path: Path, vendor: Storyteller) -> None:
    (tmp_path / "slow_start.py").write_text(SLOW_START, encoding="utf-8")
    slow = {"selected_module": {"Memory": "Slow"}, "Memory": {"Slow": {"type": "slow_start:SlowStart"}}}
    child = Child(tmp_path, vendor, slow)
    try:
        child.spawn(PYTHONPATH=str(tmp_path))
        wait_for((tmp_path / "begun").exists, "the start")

        child.send(signal.SIGHUP)
        (tmp_path / "go").touch()

        child.wait_ready()
        assert ask(child.device(), "are you there").sentences == ["Fine"]
        child.send(signal.SIGTERM)
        assert child.exit_code() == 0
    finally:
        child.end()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"server": {"max_connections": 0, "port": 70000}}, ["server.max_connections", "server.port"]),
        ({"log": {"log_dir": "/dev/null/log"}}, ["log.log_dir"]),
        ({"log": {"data_dir": "/sys"}}, ["/sys/auth_key"]),  # may be read only, whoever asks
        ({"log": {"data_dir": "/sys"}, "server": {"auth_key": "Zp3-q8Wm_x71LrTb0uHcYd2KeVfG5sJa"}}, ["storage.url"]),
        ({"LLM": {"Vendor": {"max_concurrent": "many"}}}, ["LLM.Vendor.max_concurrent"]),
    ],
)
def test_what_cannot_be_used_is_told_and_nothing_is_started(
    tmp_path: Path, vendor: Storyteller, settings: dict[str, Any], told: list[str]
) -> None:
    child = Child(tmp_path, vendor, settings)
    try:
        child.spawn()
        assert child.exit_code() == 1
        assert all(f"  - {key}: " in child.complaints() for key in told)
        assert "Traceback" not in child.complaints()
        assert child.starts == 0
    finally:
        child.end()


@pytest.mark.parametrize("key", ["port", "http_port"])
def test_a_port_that_is_taken_is_told(tmp_path: Path, vendor: Storyteller, key: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        child = Child(tmp_path, vendor, {"server": {key: port}})
        try:
            child.spawn()
            assert child.exit_code() == 1
            assert f"  - server.{key}: {port} on 127.0.0.1" in child.complaints()
            assert "Traceback" not in child.complaints()
        finally:
            child.end()
