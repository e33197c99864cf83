"""What devices do in each role and what they note down, against a scripted server that answers after so many frames."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import gevent
import pytest
from gevent.lock import Semaphore
from gevent.server import StreamServer

from loadtest.simulator import abuse, speech
from loadtest.simulator.inbox import DeviceClosed, DeviceTimeout
from loadtest.simulator.record import ABORT, ANSWER, BARGE_IN, FIRST_AUDIO, GAP, HANDSHAKE, HELLO, STT, Record
from loadtest.simulator.scenario import Scenario
from loadtest.simulator.visits import BadAnswer, Visitor, reason_of
from loadtest.simulator.wire import Closed, UpgradeRefused
from tests.fakes.sound import silence, tone
from tests.loadtest.server import Gone, Peer, serving
from tests.loadtest.simulator.test_device import PACKETS, answer_with
from tests.waiting import PATIENCE_S

BEEP = speech.from_pcm(tone(180) + silence(60), text="beep")
FRAMES_OF_BEEP = len(BEEP.packets())


@pytest.fixture(autouse=True)
def _beeps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speech, "speak", lambda text: BEEP)


@dataclass
class Run:
    """A record, and a way to let one device play a role."""

    url: str
    record: Record

    def play(self, role: str, number: int = 0, **scenario: Any) -> Record:
        options = {"turns": 2, "pause": 0.0, "patience": 2.0} | scenario
        getattr(Visitor(self.url, Scenario(**options), number, self.record), role)()
        return self.record


def visiting(script: Callable[[Peer], None]) -> Iterator[Run]:
    with serving(script) as url:
        yield Run(url, Record())


def hear(peer: Peer, frames: int = FRAMES_OF_BEEP) -> None:
    """Until that much has been said."""
    while frames:
        frames -= isinstance(peer.receive(), bytes)


def hear_voice(peer: Peer) -> None:
    """Until the question has been said, however much silence is streamed around it."""
    left = FRAMES_OF_BEEP
    while left:
        message = peer.receive()
        left -= isinstance(message, bytes) and message != speech.silence()


def parrot(peer: Peer) -> None:
    """Answers everything that is said."""
    peer.hello()
    while True:
        hear(peer)
        answer_with(peer)


def test_a_talker_notes_every_stage_of_every_turn():
    for run in visiting(parrot):
        record = run.play("talker")

    assert record.counts["turns"] == record.counts["turns in all"] == 2
    assert {name: record.spread(name).count for name in (HANDSHAKE, HELLO, STT, FIRST_AUDIO, ANSWER)} == {
        HANDSHAKE: 1,
        HELLO: 1,
        STT: 2,
        FIRST_AUDIO: 2,
        ANSWER: 2,
    }
    assert record.spread(GAP).count == 2 * (len(PACKETS) - 1)
    assert record.counts["frames"] == 2 * len(PACKETS)
    assert not record.failures


def test_a_talker_comes_back_after_a_failure_and_goes_on():
    visits = []

    def script(peer: Peer) -> None:
        visits.append(peer.headers["device-id"])
        if len(visits) == 1:
            peer.hello()
            hear(peer, 1)
            raise Gone
        parrot(peer)

    for run in visiting(script):
        record = run.play("talker", number=3)

    assert record.failures == {"closed 1006": 1}
    assert record.counts["turns"] == 1
    assert visits == ["02:6c:00:00:00:03"] * 2


def test_push_to_talk_ends_its_question_itself():
    modes = []

    def script(peer: Peer) -> None:
        peer.hello()
        modes.append(peer.receive_json(type="listen", state="start")["mode"])
        peer.receive_json(type="listen", state="stop")
        answer_with(peer)
        hear(peer)

    for run in visiting(script):
        record = run.play("push_to_talk", turns=1)

    assert modes == ["manual"]
    assert (record.counts["turns"], record.failures) == (1, {})


def test_a_gateway_talker_frames_its_sound_as_the_gateway_does():
    targets = []

    def script(peer: Peer) -> None:
        targets.append(peer.request.target)
        peer.hello()
        hear(peer)
        answer_with(peer, framing="gateway")
        hear(peer, 1_000)

    for run in visiting(script):
        record = run.play("gateway", turns=1)

    assert targets == ["/xiaozhi/v1/?from=mqtt_gateway"]
    assert (record.counts["turns"], record.failures) == (1, {})


def test_an_answer_without_sound_or_with_an_apology_is_a_failure():
    def script(peer: Peer) -> None:
        peer.hello()
        hear(peer)
        answer_with(peer, packets=())
        hear(peer)
        answer_with(peer)
        hear(peer, 1_000)

    for run in visiting(script):
        record = run.play("talker", expect="another text")

    assert record.failures == {"answer without sound": 1, "unexpected answer: Good day.": 1}
    assert record.counts["connections"] == 1  # which was fine


def test_a_deaf_server_is_told_from_one_that_falls_silent():
    def deaf(peer: Peer) -> None:
        peer.hello()
        hear(peer, 1_000)

    def thoughtful(peer: Peer) -> None:
        peer.hello()
        peer.receive_json(type="listen", state="stop")
        peer.send({"type": "stt", "text": "yes?"})
        hear(peer, 1_000)

    for script, reason in ((deaf, "not heard: no stt"), (thoughtful, "no answer after stt")):
        for run in visiting(script):
            assert run.play("push_to_talk", turns=1, patience=0.8).failures == {reason: 1}


def test_an_interrupter_measures_an_abort_and_a_barge_in():
    def script(peer: Peer) -> None:
        peer.hello()
        hear_voice(peer)
        peer.send({"type": "stt", "text": "one"})
        peer.send({"type": "tts", "state": "start"})
        speak(peer)
        peer.receive_json(type="abort")
        peer.send({"type": "tts", "state": "stop"})
        hear_voice(peer)
        peer.send({"type": "stt", "text": "two"})
        peer.send({"type": "tts", "state": "start"})
        speak(peer)
        hear_voice(peer)
        peer.send({"type": "tts", "state": "stop"})
        answer_with(peer)
        hear(peer, 1_000)

    def speak(peer: Peer) -> None:
        for packet in PACKETS * 2:
            peer.send(packet)

    for run in visiting(script):
        record = run.play("interrupter")

    assert not record.failures
    assert (record.spread(ABORT).count, record.spread(BARGE_IN).count) == (1, 1)
    assert (record.counts["aborts"], record.counts["barge-ins"], record.counts["turns"]) == (1, 1, 2)


def test_sound_after_tts_stop_is_counted_as_stray():
    def script(peer: Peer) -> None:
        peer.hello()
        hear(peer)
        answer_with(peer)
        peer.send(PACKETS[0])
        hear(peer)
        answer_with(peer)
        hear(peer, 1_000)

    for run in visiting(script):
        record = run.play("talker")

    assert record.counts["stray frames"] == 1


def test_a_holder_minds_being_sent_away():
    def script(peer: Peer) -> None:
        peer.hello()
        peer.send_raw(b"\x88\x02\x03\xe9")  # close 1001

    for run in visiting(script):
        record = run.play("holder")

    assert record.failures == {"idle device closed 1001": 1}
    assert record.counts["holding"] == record.counts["finished"] == 1


def test_devices_come_from_several_addresses():
    seen = []

    def take(connected: socket.socket, address: tuple[str, int]) -> None:
        seen.append(address[0])

    server = StreamServer(("127.0.0.1", 0), take)
    server.start()
    try:
        for number in range(4):
            run = Run(f"ws://127.0.0.1:{server.server_port}/", Record())
            run.play("talker", number=number, turns=1, sources=3)
    finally:
        server.stop()

    assert seen == ["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.1"]
    assert sum(run.record.failures.values()) == 1


@pytest.mark.parametrize(
    "error,reason",
    [
        (BadAnswer("no good"), "no good"),
        (DeviceTimeout("a message hello did not come within 5 s; nothing"), "timeout: a message hello"),
        (DeviceClosed(1013, "full"), "closed 1013"),
        (Closed(1006, "reset"), "closed 1006"),
        (UpgradeRefused(503, {}, "full"), "refused: HTTP 503"),
        (ConnectionRefusedError(111, "refused"), "connect: ECONNREFUSED"),
        (TimeoutError("timed out"), "connect: timed out"),
    ],
)
def test_reasons_are_short_and_shared(error: Exception, reason: str) -> None:
    assert reason_of(error) == reason


@pytest.mark.parametrize("role", [abuse.garbage, abuse.reconnector, abuse.slow_reader])
def test_abusers_go_on_whatever_the_server_does(
    role: Callable[[Visitor], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(abuse, "GARBAGE_PAUSE_S", 0.0)
    monkeypatch.setattr(abuse, "QUESTIONS_OF_A_DEAF_DEVICE", 0)
    visits = Semaphore(0)

    def script(peer: Peer) -> None:
        visits.release()
        peer.hello()
        while peer.socket.recv(65_536):  # whatever it is
            pass

    with serving(script) as url:
        record = Record()
        abuser = gevent.spawn(role, Visitor(url, Scenario(), 1, record))
        try:
            assert all(visits.acquire(timeout=PATIENCE_S) for _ in range(3))
        finally:
            abuser.kill()

    assert record.counts["finished"] == 1
    assert record.counts["abusive connections"] >= 2
    assert not record.failures
