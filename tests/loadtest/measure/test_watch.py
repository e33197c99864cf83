"""The look at processes from outside: real children, and the arithmetic on made-up samples."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest
from gevent.pywsgi import WSGIServer

from loadtest.measure.watch import Watch, listeners, scrape
from loadtest.report.usage import Sample, usage_between
from tests.waiting import wait_for

BUSY = """
import subprocess, sys, threading, time
child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
threading.Thread(target=lambda: time.sleep(60), daemon=True).start()
print("up", flush=True)
input()
while time.process_time() < 0.5:
    pass
print("worked", flush=True)
input()
child.stdin.close()
child.wait()
"""


@pytest.fixture
def busy() -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([sys.executable, "-c", BUSY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None and process.stdout is not None
    try:
        assert process.stdout.readline() == "up\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def go_on(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def test_a_tree_is_seen_with_its_threads_memory_and_work(busy: subprocess.Popen[str]) -> None:
    watch = Watch([busy.pid])
    before = watch.look()
    go_on(busy)
    assert busy.stdout is not None and busy.stdout.readline() == "worked\n"
    after = watch.look()

    assert before.processes == 2
    assert before.threads == 3
    assert before.rss > 5_000_000
    assert before.descriptors >= 6
    assert after.cpu_s - before.cpu_s > 0.2
    assert after.voluntary >= before.voluntary > 0


def test_what_ended_processes_used_is_not_forgotten(busy: subprocess.Popen[str]) -> None:
    watch = Watch([busy.pid])
    go_on(busy)
    assert busy.stdout is not None and busy.stdout.readline() == "worked\n"
    worked = watch.look()
    go_on(busy)
    busy.wait()
    ended = watch.look()

    assert (ended.processes, ended.threads) == (0, 0)
    assert ended.cpu_s >= worked.cpu_s > 0.4


def test_samples_are_taken_while_it_is_open():
    seen: list[Sample] = []
    with Watch([os.getpid()], every_s=0.01, on_sample=seen.append) as watch:
        wait_for(lambda: len(seen) >= 3)

    assert watch.samples == seen
    assert [sample.at for sample in seen] == sorted(sample.at for sample in seen)


def sample(at: float, cpu: float = 0.0, threads: int = 5, rss: int = 100) -> Sample:
    return Sample(at, 1, threads, rss, cpu, int(at * 10), int(at), 20, 0.5)


def test_usage_is_counted_between_the_samples_around_it():
    samples = [
        sample(0),
        sample(1, 1.0),
        sample(2, 3.0, threads=7, rss=300),
        sample(3, 5.0),
        sample(4, 9.0, threads=9),
    ]

    usage = usage_between(samples, 1.5, 2.5)

    assert usage is not None
    assert (usage.seconds, usage.cpu_s, usage.cores) == (2, 4, 2)
    assert (usage.threads, usage.rss, usage.voluntary_per_s, usage.machine_busy) == (7, 300, 10, 0.5)


def test_one_sample_tells_no_usage():
    assert usage_between([sample(0)], 0, 1) is None


def test_a_server_of_this_machine_is_found_by_its_port():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        port = listening.getsockname()[1]

        assert listeners(f"ws://127.0.0.1:{port}/xiaozhi/v1/") == [os.getpid()]
        assert listeners(f"ws://server.example:{port}/xiaozhi/v1/") == []


def test_metrics_of_several_workers_are_added_and_a_missing_page_is_not_minded():
    page = b'# HELP a b\na 1.5\nb{x="1"} 2\nc_total 4\n'

    def serve(environ: dict[str, object], start_response: object) -> list[bytes]:
        start_response("200 OK", [])  # type: ignore[operator]
        return [page]

    server = WSGIServer(("127.0.0.1", 0), serve, log=None)
    server.start()
    try:
        url = f"http://127.0.0.1:{server.server_port}/metrics"
        assert scrape([url, url]) == {"a": 3.0, "c_total": 8.0}
    finally:
        server.stop()
    assert scrape([url]) == {}
