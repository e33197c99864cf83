"""`make talk` as a person meets it: what it prints, what it saves, and what it says when something is wrong."""

from __future__ import annotations

import wave
from pathlib import Path

import pytest
from gevent.pywsgi import WSGIServer

from loadtest.simulator import speech, talk
from tests.fakes.sound import loudness, silence, tone
from tests.loadtest.server import Peer, serving
from tests.loadtest.simulator.test_device import answer_with

BEEP = speech.from_pcm(tone(200) + silence(60))


@pytest.fixture
def question(tmp_path: Path) -> Path:
    path = tmp_path / "question.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(BEEP.pcm)
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    code = talk.main([str(argument) for argument in arguments])
    return code, capsys.readouterr().out


def assistant(peer: Peer) -> None:
    """Asks for tools, listens to the end of an utterance, turns the volume down and answers with a beep."""
    peer.hello()
    peer.send(
        {
            "type": "mcp",
            "payload": {
                "jsonrpc": "2.0",
                "id": 1,
                "method": "tools/list",
                "params": {"cursor": "self.screen.set_brightness"},
            },
        }
    )
    while not (isinstance(message := peer.receive(), dict) and message.get("state") in ("stop", "detect")):
        pass
    arguments = {"name": "self.audio_speaker.set_volume", "arguments": {"volume": 5}}
    peer.send({"type": "mcp", "payload": {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": arguments}})
    answer_with(peer, BEEP.packets(), text=message.get("text", "what time is it"))
    while True:
        peer.receive()


def test_speaks_a_file_and_saves_the_reply(capsys, question, tmp_path):
    reply = tmp_path / "reply.wav"
    with serving(assistant) as url:
        code, shown = run(capsys, "--wav", question, "--url", url, "--mode", "manual", "--out", reply)

    assert code == 0
    for expected in (
        "what time is it",
        "Good day.",
        "happy",
        "first sound",
        str(reply),
        "set_volume with {'volume': 5}",
    ):
        assert expected in shown
    with wave.open(str(reply)) as file:
        assert loudness(file.readframes(file.getnframes())) > 500


def test_types_instead_of_speaking(capsys, tmp_path):
    with serving(assistant) as url:
        code, shown = run(
            capsys, "--type", "tell me a joke", "--url", url, "--no-tools", "--out", tmp_path / "reply.wav"
        )

    assert code == 0 and "tell me a joke" in shown


def test_an_apology_is_a_failure(capsys, question, tmp_path):
    def sorry(peer: Peer) -> None:
        peer.hello()
        peer.send({"type": "tts", "state": "start"})
        peer.send({"type": "tts", "state": "sentence_start", "text": "Sorry."})
        peer.send({"type": "tts", "state": "stop", "failure": "LLM.Mine: 401, the key in api_key was refused"})
        while True:
            peer.receive()

    with serving(sorry) as url:
        code, shown = run(capsys, "--type", "hello", "--url", url, "--no-tools", "--out", tmp_path / "reply.wav")

    assert code == 1
    assert "FAILED" in shown
    assert "LLM.Mine: 401, the key in api_key was refused" in shown


def test_says_how_to_start_the_server(capsys, question):
    with serving(assistant) as url:
        pass

    code, shown = run(capsys, "--wav", question, "--url", url)

    assert code == 1 and "make run" in shown


def test_says_that_a_token_is_wanted(capsys, question):
    with serving(lambda peer: peer.refuse(401, b"no")) as url:
        code, shown = run(capsys, "--wav", question, "--url", url)

    assert code == 1 and "--token" in shown


def test_says_what_came_when_no_answer_comes(capsys, question):
    def deaf(peer: Peer) -> None:
        peer.hello()
        while True:
            peer.receive()

    with serving(deaf) as url:
        code, shown = run(capsys, "--wav", question, "--url", url, "--mode", "manual", "--no-tools", "--timeout", "0.1")

    assert code == 1 and "nothing was recognised" in shown


def test_says_that_the_server_hung_up(capsys, question):
    with serving(lambda peer: peer.accept()) as url:
        code, shown = run(capsys, "--wav", question, "--url", url)

    assert code == 1 and "closed" in shown


@pytest.mark.parametrize("content", [None, b"not sound"])
def test_says_what_is_wrong_with_the_file(capsys, tmp_path, content):
    path = tmp_path / "question.wav"
    if content is not None:
        path.write_bytes(content)

    code, shown = run(capsys, "--wav", path)

    assert code == 1 and "question.wav" in shown and "Traceback" not in shown


def test_gets_address_and_token_from_ota(capsys, question, tmp_path):
    seen = []

    def check_token(peer: Peer) -> None:
        seen.append(peer.headers.get("authorization"))
        assistant(peer)

    with serving(check_token) as url:

        def ota(environ, start_response):
            start_response("200 OK", [("Content-Type", "application/json")])
            return [f'{{"websocket": {{"url": "{url}", "token": "abc.1"}}}}'.encode()]

        server = WSGIServer(("127.0.0.1", 0), ota, log=None)
        server.start()
        try:
            address = f"http://127.0.0.1:{server.server_port}/xiaozhi/ota/"
            code, _ = run(
                capsys, "--wav", question, "--ota", address, "--mode", "manual", "--out", tmp_path / "reply.wav"
            )
        finally:
            server.stop(timeout=1)

    assert (code, seen) == (0, ["Bearer abc.1"])
