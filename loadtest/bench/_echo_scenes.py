"""Scenes for the bench of echo cancelling: what the microphone of a device hears that plays an answer in a room, and
when server and device send what. Sample by sample, without a clock. What they are made of is in `_echo_sets.py`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xiaozhi.audio.opus import Decoder, Encoder
from xiaozhi.audio.pcm import Resampler
from xiaozhi.speech.pacing import Pacer

Sound = npt.NDArray[np.float64]
Pcm = npt.NDArray[np.int16]
Chance = np.random.Generator
Speech = tuple[Pcm, float]
"""(16 kHz sound, s until the voice begins)."""

RATE, FRAME_MS, FRAME = 16_000, 60, 960
UPLINK_MS = 20
ECHO_DB = -22.0
"""Level of the echo at the microphone, dBFS; the loudspeaker clips softly from some -10 on."""


@dataclass(frozen=True, slots=True)
class Material:
    """What scenes are made of."""

    name: str
    rooms: tuple[tuple[Sound, Sound], ...]
    """The responses from the loudspeaker and from a person to the microphone."""
    delays_ms: tuple[int, ...]
    """From a frame's sending to its sound at the microphone, where the device does not buffer it."""
    troubles: tuple[str, ...]
    """"none"; "jump": the delay changes in mid-answer; "loss": packets are lost in both directions; "clipping": the
    loudspeaker clips; "louder": the volume rises by 6 dB in mid-answer; "fan": a steady noise."""
    answers: tuple[Pcm, ...]
    questions: tuple[Speech, ...]
    said: tuple[str, ...]
    """The text of each question."""
    jump_ms: int = 40
    lost: float = 0.03
    """Share of packets that are lost."""
    jitter_s: float = 0.01
    """Mean delay of a packet of the device beyond the shortest."""
    pause_s: float = 1.0
    """Between two answers."""
    levels_db: tuple[float, ...] = (ECHO_DB,)
    """Of the echo, dBFS; scenes take turns."""
    drifts_ppm: tuple[float, ...] = (0.0,)
    """By which the device's clock is fast; scenes take turns."""


@dataclass(frozen=True, slots=True)
class Scene:
    """`seed` chooses the words and all chance."""

    room: int
    delay_ms: int
    trouble: str
    told: bool
    """The device sends timestamps."""
    seed: int
    voice_db: float | None = None
    """How much louder than the echo a person is who speaks over the last answer; None: nobody."""
    stops_at: float | None = None
    """When the server stops sending, s from the beginning; None: it sends to the end."""


@dataclass(frozen=True, slots=True)
class Played:
    """A scene, played. Times in s from its beginning."""

    sent: tuple[tuple[float, bytes, int], ...]
    """What the server sent: (at, packet, timestamp)."""
    heard: tuple[tuple[float, bytes, int], ...]
    """What the device sent: (arrival, packet, timestamp); b"": a packet was lost, which its number tells."""
    voice_at: float | None
    """When somebody begins to speak over it."""
    until: float
    """When the last answer ends."""


def reflections(rt60: float, indirect: float, echoes: Sequence[tuple[int, float]]) -> Sound:
    """A response: the direct sound, early reflections (samples, share) and a tail of noise that decays (`rt60`: s).
    `indirect`: how loud all but the direct sound is."""
    noise = np.random.default_rng(int(rt60 * 10)).standard_normal(int(rt60 * RATE))
    response = 0.03 * indirect * noise * np.exp(-6.9 * np.arange(len(noise)) / (rt60 * RATE))
    response[0] = 1.0
    for at, share in echoes:
        response[at] += share * indirect
    return response


def _heard_in(room: Sound, sound: Sound) -> Sound:
    size = len(room) + len(sound)
    both: Sound = np.fft.irfft(np.fft.rfft(room, size) * np.fft.rfft(sound, size), size)
    return both[: len(sound)]


def _at_level(sound: Sound, db: float) -> Sound:
    loud = sound[np.abs(sound) > 200]
    power = np.sqrt(np.mean(loud**2)) if len(loud) else 1.0
    return sound * (32_768 * 10 ** (db / 20) / power)


def _packets(pcm: Pcm) -> list[bytes]:
    resampler = Resampler(RATE, 24_000)
    sound = resampler.feed(pcm.tobytes()) + resampler.flush()
    return Encoder(24_000, FRAME_MS).encode(sound + bytes(-len(sound) % (2 * 1_440)))


def play(material: Material, scene: Scene, answers: int = 2) -> Played:
    """Some answers one after the other; over the last one a person speaks, if the scene says so."""
    chance = np.random.default_rng(scene.seed)
    sounds, level_db = material.answers, _turn(material.levels_db, scene)
    rate = RATE * (1 + _turn(material.drifts_ppm, scene) / 1e6)  # the device's samples in a second of the server's
    from_loudspeaker, from_person = material.rooms[scene.room]
    down_s, out = scene.delay_ms / 3_000, scene.delay_ms * RATE * 2 // 3_000
    sent: list[tuple[float, bytes, int]] = []
    starts: list[tuple[int, int]] = []  # (sample at which the device begins to put a frame out, its timestamp)
    speaker = np.zeros(int((20 + (answers - 1) * material.pause_s) * RATE))
    now, device_free = 1.0, 0
    last_began = now
    for number in range(answers):
        last_began = now
        pacer, decoder = Pacer(FRAME_MS), Decoder(RATE)
        for index, packet in enumerate(_packets(sounds[(scene.seed + number) % len(sounds)])):
            now = max(now, pacer.due(now))
            pacer.sent(now, now)
            lost = scene.trouble == "loss" and chance.random() < material.lost
            if scene.stops_at is not None and now > scene.stops_at:
                continue
            sent.append((now, packet, (index + 1) * FRAME_MS))
            start = max(device_free, int((now + down_s) * rate))
            if scene.trouble == "jump" and index == 25:
                start += material.jump_ms * RATE // 1_000
            device_free = start + FRAME
            starts.append((start, (index + 1) * FRAME_MS))
            pcm = np.frombuffer(decoder.decode(packet), np.int16)
            if not lost:
                speaker[start + out : start + out + FRAME] = pcm
        now = pacer.play_end + material.pause_s
    until = device_free / rate
    speaker = _at_level(speaker, level_db)
    if scene.trouble == "louder":
        speaker[int((last_began + 0.5) * rate) :] *= 2.0
    # A small loudspeaker that is too loud clips; so does one at a usual level, a little.
    limit = 4_000.0 if scene.trouble == "clipping" else 16_000.0
    speaker = np.tanh(speaker / limit) * limit
    microphone = _at_level(_heard_in(from_loudspeaker, speaker), level_db)
    voice_at = None
    size = until + 1.5
    if scene.voice_db is not None:
        words, from_s = material.questions[scene.seed % len(material.questions)]
        begins = last_began + 0.8 + 1.2 * chance.random()
        voice = _at_level(_heard_in(from_person, words.astype(float)), level_db + scene.voice_db)
        at = int(begins * rate)
        microphone[at : at + len(voice)] += voice
        voice_at = begins + from_s
        if scene.stops_at is not None:
            size = begins + len(words) / RATE + 1.5
    microphone += chance.standard_normal(len(microphone)) * (150 if scene.trouble == "fan" else 10)
    pcm = np.clip(microphone[: int(size * rate) // FRAME * FRAME], -32_768, 32_767).astype(np.int16)
    return Played(tuple(sent), tuple(_uplink(material, scene, pcm, rate, starts, chance)), voice_at, until)


def _turn(choices: Sequence[float], scene: Scene) -> float:
    return choices[scene.seed % len(choices)]


def _uplink(
    material: Material, scene: Scene, pcm: Pcm, rate: float, starts: Sequence[tuple[int, int]], chance: Chance
) -> list[tuple[float, bytes, int]]:
    lag = scene.seed % 2  # frames that the device's queue of timestamps is behind
    heard: list[tuple[float, bytes, int]] = []
    arrival, played, before = 0.0, 0, 0
    for index, packet in enumerate(Encoder(RATE, FRAME_MS, bitrate=17_000).encode(pcm.tobytes())):
        end = (index + 1) * FRAME
        arrival = max(arrival, end / rate + UPLINK_MS / 1_000 + chance.exponential(material.jitter_s))
        while played < len(starts) and starts[played][0] <= end - (1 + lag) * FRAME:
            played += 1
        latest = starts[played - 1] if played else (0, 0)
        # Each timestamp is sent once.
        told = latest[1] if scene.told and played > before else 0
        before = played
        lost = scene.trouble == "loss" and chance.random() < material.lost
        heard.append((arrival, b"", 0) if lost else (arrival, packet, told))
    return heard
