"""Music by voice: it plays, is interrupted, goes on where it stopped, gives way to the next song, gets quieter.

Each frame of a song holds one value, so that what a device hears tells which song it is and where in it."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loadtest.simulator.device import SimulatedDevice
from loadtest.vendors.sounds import Sounds, wav
from tests.e2e.stage import CHAT, Script, Stage, ask, hear_nothing_more, open_stage, tool_call
from tests.waiting import PATIENCE_S

RATE, FRAME_MS = 24_000, 60
FRAME_BYTES = RATE * FRAME_MS // 1000 * 2
PCM = {"format": "pcm", "sample_rate": RATE, "channels": 1, "frame_duration": FRAME_MS}
SONG_FRAMES = 400
FIRST, SECOND = 1, 10_001
"""The value of the first frame of the two songs; each frame's is one more."""


def song(first: int) -> bytes:
    frames = (struct.pack("<h", first + number) * (FRAME_BYTES // 2) for number in range(SONG_FRAMES))
    return wav(b"".join(frames), RATE)


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("music")
    (folder / "Aurora.wav").write_bytes(song(FIRST))
    (folder / "Boulder.wav").write_bytes(song(SECOND))
    return folder


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, sounds: Sounds, music: Path) -> Iterator[Stage]:
    settings = {
        "Intent": {"function_call": {"functions": ["play_music"]}},
        "plugins": {"play_music": {"music_dir": str(music), "music_ext": [".wav", ".mp3"], "refresh_time": 0}},
    }
    with open_stage(tmp_path_factory.mktemp("data"), sounds, settings) as opened:
        yield opened


def notes(frames: list[bytes]) -> list[int]:
    """The values of the frames that are music."""
    values = []
    for frame in frames:
        samples = struct.unpack(f"<{len(frame) // 2}h", frame)
        if min(samples) > 0 and max(samples) - min(samples) <= 1:  # a song may go on in the middle of a frame
            values.append(samples[0])
    return values


def wish(stage: Stage, device: SimulatedDevice, name: str, frames: int = 6, **arguments: Any) -> list[int]:
    """Ask for music, hear that many frames of it, and interrupt it; what was heard of it, in order."""
    stage.vendor.script(CHAT, Script(answer=[tool_call(name, **arguments)]))
    device.replies.forget_answers()
    device.detect(f"{name} please")
    answer = device.replies.answer
    device.wait_until(lambda: len(notes(answer.frames)) >= frames, PATIENCE_S, "music")
    device.abort()
    device.collect_answer()
    hear_nothing_more(device)
    return notes(answer.frames)


def test_music_that_speech_interrupts_goes_on_where_it_stopped(stage: Stage) -> None:
    device = stage.device(audio_params=PCM)
    heard = wish(stage, device, "play_music", frames=10, song_name="aurora")
    assert heard == list(range(FIRST, FIRST + len(heard)))

    ask(device, "what is that")
    ask(device, "and who made it")
    again = wish(stage, device, "control_music", action="resume")

    assert again == list(range(again[0], again[0] + len(again)))
    # What was sent ahead of its time was not heard.
    assert heard[-1] - 5 <= again[0] <= heard[-1] + 1
    assert again[0] > FIRST + 3


def test_the_next_song_and_the_one_before(stage: Stage) -> None:
    device = stage.device(audio_params=PCM)
    wish(stage, device, "play_music", song_name="aurora")

    assert wish(stage, device, "control_music", action="next")[0] == SECOND
    assert wish(stage, device, "control_music", action="previous")[0] == FIRST


def test_music_that_was_stopped_begins_anew(stage: Stage) -> None:
    device = stage.device(audio_params=PCM)
    wish(stage, device, "play_music", song_name="boulder")
    stage.vendor.script(CHAT, Script(answer=[tool_call("control_music", action="stop")]))

    answer = ask(device, "stop the music")

    assert answer.sentences == ["Stopped"]
    assert notes(answer.frames) == []
    assert wish(stage, device, "control_music", action="resume")[0] == SECOND


def test_quieter_music_goes_on(stage: Stage) -> None:
    device = stage.device(audio_params=PCM)
    heard = wish(stage, device, "play_music", song_name="boulder")

    quiet = wish(stage, device, "control_music", action="volume", volume=50)

    place = quiet[0] * 4 - SECOND
    assert heard[-1] - SECOND - 7 <= place <= heard[-1] - SECOND + 2


def test_a_broken_file_is_apologised_for_and_the_session_goes_on(stage: Stage, music: Path) -> None:
    device = stage.device(audio_params=PCM)
    broken = music / "Cactus.mp3"
    broken.write_bytes(b"this is no sound")
    try:
        stage.vendor.script(CHAT, Script(answer=[tool_call("play_music", song_name="cactus")]))
        answer = ask(device, "play cactus")
    finally:
        broken.unlink()

    assert answer.sentences[0] == "Here is Cactus"
    assert len(answer.sentences) > 1, "and an apology"
    assert ask(device, "well").sentences == ["Fine"]


def test_without_files_the_model_can_say_so(stage: Stage, music: Path) -> None:
    device = stage.device(audio_params=PCM)
    files = {path: path.read_bytes() for path in music.iterdir()}
    for path in files:
        path.unlink()
    try:
        stage.vendor.script(CHAT, Script(answer=[tool_call("play_music")]), Script(answer="No music here."))
        assert ask(device, "play something").sentences == ["No music here"]
    finally:
        for path, content in files.items():
            path.write_bytes(content)

    assert "There is no music" in stage.messages()[-1]["content"]
