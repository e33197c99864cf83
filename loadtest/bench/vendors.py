"""What talking to vendors costs: CPU of this process per completion, transcription and sentence, with the vendor in a
process of its own.

`rows` for `python -m loadtest.bench`; `python -m loadtest.bench.vendors` prints them alone. CPU time, not wall time:
the vendor answers at once, 16 requests are in flight, connections are warm. A plain `requests` client with the same
line parser is there for comparison."""

from __future__ import annotations

import sys

if __name__ == "__main__" and sys.argv[1:2] == ["measure"]:
    from gevent import monkey

    monkey.patch_all()

import functools
import json
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import gevent
import orjson
import requests
from gevent.pool import Pool

from loadtest import ROOT
from loadtest.vendors.sounds import hum
from xiaozhi.chat import CallContext, Message
from xiaozhi.providers.contracts.provider import Services
from xiaozhi.providers.contracts.tts import SpeechEnds
from xiaozhi.providers.registry import build
from xiaozhi.providers.wrappers import VendorLimits, guard, open_speech
from xiaozhi.runtime.inference import InferencePool

Row = tuple[str, float, str, str]

IN_FLIGHT = 16
REQUESTS = 400
ROUNDS = 3
CONTEXT = CallContext()
MESSAGES = [Message("system", "Be brief. " * 80), Message("user", "What time is it?")]
SENTENCE = "It has a second sentence, so that there is something to look ahead to."


def rows() -> list[Row]:
    """Everything, about half a minute."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--port", str(port), "--asr-ms", "0", "--llm-ms", "0", "--tts-ms", "0", "--formats", "wav,opus,mp3"]
    vendor = subprocess.Popen([sys.executable, "-m", "loadtest.vendors", *options], cwd=ROOT, stdout=subprocess.PIPE)
    try:
        assert vendor.stdout is not None
        vendor.stdout.readline()  # it listens
        command = [sys.executable, "-m", "loadtest.bench.vendors", "measure", f"http://127.0.0.1:{port}/v1"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr[-500:])
        return [tuple(row) for row in json.loads(done.stdout.splitlines()[-1])]
    finally:
        vendor.terminate()
        vendor.wait(10)


def measure(url: str) -> list[Row]:
    """In a patched process: CPU per request of every kind."""
    pool = InferencePool(workers=2)
    services = Services(inference=pool)

    def made(kind: str, **block: Any) -> Any:
        return build(
            kind, kind, {"type": "openai", "base_url": url, "model_name": "m", "api_key": "key", **block}, services
        )

    llm, asr = made("llm"), made("asr")
    guarded = guard("llm", llm, VendorLimits(max_concurrent=100))
    voices = {form: made("tts", response_format=form) for form in ("opus", "wav", "mp3")}
    pcm = hum(3.0, 16_000)
    session = requests.Session()
    session.mount("http://", requests.adapters.HTTPAdapter(pool_connections=4, pool_maxsize=64))
    found: list[Row] = [
        (
            "completion of 19 events, provider",
            _ms(lambda: list(llm.chat(MESSAGES, [], CONTEXT))),
            "ms CPU",
            "requests below, halved",
        ),
        ("completion, provider behind its guard", _ms(lambda: list(guarded.chat(MESSAGES, [], CONTEXT))), "ms CPU", ""),
        ("completion, requests with the same parser", _ms(lambda: _plain(session, url)), "ms CPU", ""),
        ("transcription of 3 s", _ms(lambda: asr.transcribe(pcm, CONTEXT)), "ms CPU", ""),
    ]
    for form, voice in voices.items():
        found.append(
            (f"sentence of 5 s as {form}, sound only", _ms(functools.partial(_synthesize, voice)), "ms CPU", "")
        )
    found.append(
        ("sentence of 5 s as opus, through SentenceStream", _ms(lambda: _stream(voices["opus"])), "ms CPU", "")
    )
    pool.close()
    return found


def _synthesize(voice: Any) -> None:
    for _ in voice.synthesize(SENTENCE, CONTEXT):
        pass


def _ms(work: Callable[[], Any]) -> float:
    """The least CPU (ms of the whole process) that one call took in any round: a busy machine only adds."""

    def rounds() -> float:
        crowd = Pool(IN_FLIGHT)
        began = time.process_time()
        for _ in range(REQUESTS):
            crowd.spawn(work)
        crowd.join(raise_error=True)
        return (time.process_time() - began) / REQUESTS * 1000

    rounds()
    return round(min(rounds() for _ in range(ROUNDS)), 3)


def _stream(voice: Any) -> None:
    with closing(open_speech(voice, CONTEXT)) as stream:
        stream.say(SENTENCE)
        stream.finish()
        while not isinstance(stream.receive(10.0), SpeechEnds):
            pass


def _plain(session: requests.Session, url: str) -> None:
    body = {
        "model": "m",
        "stream": True,
        "messages": [{"role": message.role, "content": message.content} for message in MESSAGES],
    }
    headers = {"Content-Type": "application/json", "Authorization": "Bearer key"}
    with session.post(
        f"{url}/chat/completions", data=orjson.dumps(body), headers=headers, stream=True, timeout=(3, 15)
    ) as reply:
        rest = b""
        for piece in reply.iter_content(None):
            lines = (rest + piece).split(b"\n")
            rest = lines.pop()
            for line in lines:
                if line.startswith(b"data: {"):
                    orjson.loads(line[6:])


def main() -> None:
    """Print all rows, or a child's measurements."""
    if sys.argv[1:2] == ["measure"]:
        print(json.dumps(measure(sys.argv[2])))
        return
    for name, value, unit, aim in rows():
        print(f"{name:64} {value:9.3f} {unit:10} {aim}")


if __name__ == "__main__":
    main()
    gevent.get_hub().destroy()
