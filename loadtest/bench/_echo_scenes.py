"""Scenes for the bench of echo cancelling: what the microphone of a device hears that plays an answer in a room, and
when server and device send what. Sample by sample, without a clock.

A room is its response at the microphone: the direct sound, four early reflections and a tail of noise that decays
(reverberation time RT60). The loudspeaker is some centimetres away, the direct sound 10 dB above the rest where the
room is hardest; somebody who speaks is one or two metres away, with as much of either."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
import soxr

from loadtest.bench.offline_voices import spoken_by
from loadtest.simulator.speech import speak_all
from xiaozhi.audio.opus import Decoder, Encoder
from xiaozhi.audio.pcm import Resampler
from xiaozhi.speech.pacing import Pacer

Sound = npt.NDArray[np.float64]

RATE, FRAME_MS, FRAME = 16_000, 60, 960
TROUBLES = ("none", "jump", "loss", "clipping")
UPLINK_MS = 20
ECHO_DB = -22.0
"""Level of the echo at the microphone, dBFS; clipped softly from some -10 on."""


@dataclass(frozen=True, slots=True)
class Material:
    """What scenes are made of. `rooms`: RT60, s; `echoes`: (samples, share) of the early reflections; `delays_ms`: from
    a frame's sending to its sound at the microphone, where the device does not buffer it; `device` and `person`:
    voices, see `spoken`."""

    rooms: tuple[float, ...]
    echoes: tuple[tuple[int, float], ...]
    delays_ms: tuple[int, ...]
    answers: tuple[str, ...]
    questions: tuple[str, ...]
    device: str
    person: str


TUNED = Material(
    (0.2, 0.4, 0.7),
    ((25, 0.5), (70, -0.35), (133, 0.25), (260, -0.15)),
    (40, 120, 300),
    (
        "It is twenty three degrees and sunny in the city today, with a little wind.",
        "Once upon a time there was a robot that lived in a small house by the sea.",
        "I have set a timer for ten minutes and turned off the light in the kitchen.",
        "今天天气晴，气温二十三度，适合出去散步。",
        "从前有一个小机器人，它住在海边的一座小房子里。",
    ),
    (
        "What is the weather tomorrow?",
        "Please stop that and turn on the light.",
        "No, wait, I meant something else.",
        "停一下，我想问别的问题。",
        "现在几点了？请告诉我。",
    ),
    "",
    "+f3",
)
"""The thresholds were chosen with it."""
HELD_OUT = Material(
    (0.3, 0.5, 0.6),
    ((37, -0.4), (58, 0.45), (171, -0.3), (214, 0.2), (333, 0.1)),
    (70, 180, 240),
    (
        "The library opens at nine in the morning and closes late in the evening on weekdays.",
        "Your train leaves from platform four, and you should be there in half an hour.",
        "Elephants are the largest animals on land, and they remember places for many years.",
        "明天上午有小雨，出门的时候请记得带上雨伞。",
        "这首歌是去年最受欢迎的歌曲之一，很多人都喜欢听。",
    ),
    (
        "Can you turn the volume down a little?",
        "Thank you, that is enough for now.",
        "How long does it take to get there?",
        "别说了，帮我把音量调小一点。",
        "谢谢，我已经知道了。",
    ),
    "neural",
    "neural man",
)
"""Other rooms, delays, words and voices: looked at when nothing is changed any more."""


@dataclass(frozen=True, slots=True)
class Scene:
    """`seed` chooses the words and all chance."""

    rt60: float
    delay_ms: int
    trouble: str
    told: bool
    """The device sends timestamps."""
    seed: int
    voice_db: float | None = None
    """How much louder than the echo somebody is who speaks over the answer; None: nobody."""
    material: Material = TUNED


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


@cache
def spoken(texts: Sequence[str], voice: str) -> tuple[tuple[npt.NDArray[np.int16], float], ...]:
    """(16 kHz sound, s until the voice begins) of each; `voice`: a variant of eSpeak's, "" for its own; "neural": those
    of the offline default, "neural man": another speaker in Mandarin, and a deeper one in English."""
    if voice.startswith("neural"):
        return tuple(_neural(text, voice.endswith("man")) for text in texts)
    made: dict[str, tuple[npt.NDArray[np.int16], float]] = {}
    for language in ("en-us", "cmn"):
        mine = [text for text in texts if text.isascii() == (language == "en-us")]
        for text, speech in zip(mine, speak_all(mine, voice=language + voice), strict=True):
            made[text] = np.frombuffer(speech.pcm, np.int16), speech.voice_from_ms / 1_000
    return tuple(made[text] for text in texts)


def _neural(text: str, man: bool) -> tuple[npt.NDArray[np.int16], float]:
    language = "en" if text.isascii() else "zh"
    sound = np.frombuffer(spoken_by(text, language, "zm_yunxi" if man else "zf_xiaoxiao"), np.int16)
    if man and language == "en":
        sound = soxr.resample(sound, 1.0, 1.18).astype(np.int16)  # slower, and so deeper
    level = np.sqrt(np.convolve(sound.astype(float) ** 2, np.ones(160) / 160, "same"))
    return sound, float(np.argmax(level > level.max() / 30)) / RATE


@cache
def _room(rt60: float, indirect: float, echoes: tuple[tuple[int, float], ...]) -> Sound:
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


def _packets(pcm: npt.NDArray[np.int16]) -> list[bytes]:
    resampler = Resampler(RATE, 24_000)
    sound = resampler.feed(pcm.tobytes()) + resampler.flush()
    return Encoder(24_000, FRAME_MS).encode(sound + bytes(-len(sound) % (2 * 1_440)))


def play(scene: Scene, answers: int = 2) -> Played:
    """Some answers with a second between them; over the last one somebody speaks, if the scene says so."""
    chance = np.random.default_rng(scene.seed)
    material = scene.material
    sounds = spoken(material.answers, material.device)
    down_s, out = scene.delay_ms / 3_000, scene.delay_ms * RATE * 2 // 3_000
    sent: list[tuple[float, bytes, int]] = []
    starts: list[tuple[int, int]] = []  # (sample at which the device begins to put a frame out, its timestamp)
    speaker = np.zeros(20 * RATE)
    now, device_free = 1.0, 0
    last_began = now
    for number in range(answers):
        last_began = now
        pacer, decoder = Pacer(FRAME_MS), Decoder(RATE)
        for index, packet in enumerate(_packets(sounds[(scene.seed + number) % len(sounds)][0])):
            now = max(now, pacer.due(now))
            pacer.sent(now, now)
            sent.append((now, packet, (index + 1) * FRAME_MS))
            start = max(device_free, int((now + down_s) * RATE))
            if scene.trouble == "jump" and index == 25:
                start += 40 * RATE // 1_000
            device_free = start + FRAME
            starts.append((start, (index + 1) * FRAME_MS))
            pcm = np.frombuffer(decoder.decode(packet), np.int16)
            if not (scene.trouble == "loss" and chance.random() < 0.03):
                speaker[start + out : start + out + FRAME] = pcm
        now = pacer.play_end + 1.0
    until = device_free / RATE
    # A small loudspeaker that is too loud clips; so does one at a usual level, a little.
    limit = 4_000.0 if scene.trouble == "clipping" else 16_000.0
    speaker = np.tanh(_at_level(speaker, ECHO_DB) / limit) * limit
    microphone = _at_level(_heard_in(_room(scene.rt60, 0.3, material.echoes), speaker), ECHO_DB)
    voice_at = None
    if scene.voice_db is not None:
        words, from_s = spoken(material.questions, material.person)[scene.seed % len(material.questions)]
        begins = last_began + 0.8 + 1.2 * chance.random()
        voice = _at_level(
            _heard_in(_room(scene.rt60, 1.0, material.echoes), words.astype(float)), ECHO_DB + scene.voice_db
        )
        at = int(begins * RATE)
        microphone[at : at + len(voice)] += voice
        voice_at = begins + from_s
    microphone += chance.standard_normal(len(microphone)) * 10
    size = int((until + 1.5) * RATE) // FRAME * FRAME
    pcm = np.clip(microphone[:size], -32_768, 32_767).astype(np.int16)
    return Played(tuple(sent), tuple(_uplink(scene, pcm, starts, chance)), voice_at, until)


def _uplink(
    scene: Scene, pcm: npt.NDArray[np.int16], starts: Sequence[tuple[int, int]], chance: np.random.Generator
) -> list[tuple[float, bytes, int]]:
    lag = scene.seed % 2  # frames that the device's queue of timestamps is behind
    heard: list[tuple[float, bytes, int]] = []
    arrival, played, before = 0.0, 0, 0
    for index, packet in enumerate(Encoder(RATE, FRAME_MS, bitrate=17_000).encode(pcm.tobytes())):
        end = (index + 1) * FRAME
        arrival = max(arrival, end / RATE + UPLINK_MS / 1_000 + chance.exponential(0.01))
        while played < len(starts) and starts[played][0] <= end - (1 + lag) * FRAME:
            played += 1
        latest = starts[played - 1] if played else (0, 0)
        # Each timestamp is sent once.
        told = latest[1] if scene.told and played > before else 0
        before = played
        lost = scene.trouble == "loss" and chance.random() < 0.03
        heard.append((arrival, b"", 0) if lost else (arrival, packet, told))
    return heard
