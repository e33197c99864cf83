"""The sets of scenes of the bench of echo cancelling: rooms, delays, troubles, sentences and voices. The figures of the
canceller were chosen on `tuned` and `tuned2`; on `held_out` and `harder` one value was refused, what was missed on
`harder` and `last` is known; `unseen` was not looked into.

The voices are neural where the models are here (`offline_voices`), else others of eSpeak's."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Final

import numpy as np
import soxr

from loadtest.bench import offline_voices
from loadtest.bench._echo_scenes import RATE, Material, Pcm, Sound, Speech, reflections
from loadtest.simulator.speech import from_pcm, speak

_SOUND_OF: Final = 343.0
"""Metres a second."""
_ENCLOSURE: Final = 0.25
"""What is left of the direct way from loudspeaker to microphone, which look to different sides of a case: -12 dB."""
_INDIRECT: Final = (0.3, 1.0)
"""Of a loudspeaker some centimetres from the microphone, of a person one or two metres from it."""
Shoebox = tuple[tuple[float, ...], float, tuple[float, ...], tuple[float, ...], tuple[float, ...]]
"""(size in m, RT60 in s, microphone, loudspeaker beside it, person)."""


@cache
def tuned() -> Material:
    """The set on which figures are chosen."""
    answers = (
        "It is twenty three degrees and sunny in the city today, with a little wind.",
        "Once upon a time there was a robot that lived in a small house by the sea.",
        "I have set a timer for ten minutes and turned off the light in the kitchen.",
        "今天天气晴，气温二十三度，适合出去散步。",
        "从前有一个小机器人，它住在海边的一座小房子里。",
    )
    questions = (
        "What is the weather tomorrow?",
        "Please stop that and turn on the light.",
        "No, wait, I meant something else.",
        "停一下，我想问别的问题。",
        "现在几点了？请告诉我。",
    )
    return Material(
        name="tuned on",
        rooms=_by_reflections((0.2, 0.4, 0.7), ((25, 0.5), (70, -0.35), (133, 0.25), (260, -0.15))),
        delays_ms=(40, 120, 300),
        troubles=("none", "jump", "loss", "clipping"),
        answers=tuple(_espeak(text)[0] for text in answers),
        questions=tuple(_espeak(text, "+f3") for text in questions),
        said=questions,
    )


@cache
def held_out() -> Material:
    """Rooms as in `tuned`, with other reflections; other delays, sentences and voices."""
    answers = (
        "The library opens at nine in the morning and closes late in the evening on weekdays.",
        "Your train leaves from platform four, and you should be there in half an hour.",
        "Elephants are the largest animals on land, and they remember places for many years.",
        "明天上午有小雨，出门的时候请记得带上雨伞。",
        "这首歌是去年最受欢迎的歌曲之一，很多人都喜欢听。",
    )
    questions = (
        "Can you turn the volume down a little?",
        "Thank you, that is enough for now.",
        "How long does it take to get there?",
        "别说了，帮我把音量调小一点。",
        "谢谢，我已经知道了。",
    )
    return Material(
        name="held out",
        rooms=_by_reflections((0.3, 0.5, 0.6), ((37, -0.4), (58, 0.45), (171, -0.3), (214, 0.2), (333, 0.1))),
        delays_ms=(70, 180, 240),
        troubles=("none", "jump", "loss", "clipping"),
        answers=tuple(_neural(text, "zf_xiaoxiao")[0] for text in answers),
        questions=tuple(_neural(text, "zm_yunxi", slower=1.18) for text in questions),
        said=questions,
    )


@cache
def harder() -> Material:
    """Rooms of image sources, up to 0.9 s; the volume is turned up; a fan; larger jumps and more loss."""
    answers = (
        "The train to the airport leaves every fifteen minutes from platform four.",
        "Your shopping list has milk, two loaves of bread and some green apples on it.",
        "A whale is not a fish; it breathes air and feeds its young with milk.",
        "好的，已经帮你把卧室的空调调到二十六度了。",
        "小兔子跑进了森林，遇见了一只爱唱歌的小鸟。",
        "你今天下午三点有一个会议，别忘了带电脑。",
    )
    questions = (
        "Stop, that is enough for now.",
        "Can you say that again more slowly?",
        "Turn down the volume, please.",
        "别说了，帮我放一首歌。",
        "等一下，明天会下雨吗？",
        "我不想听这个，换一个故事。",
    )
    rooms: tuple[Shoebox, ...] = (
        ((2.6, 2.1, 2.4), 0.25, (0.6, 1.0, 0.9), (0.64, 1.05, 0.9), (1.5, 1.2, 1.5)),
        ((4.2, 3.3, 2.6), 0.45, (1.1, 0.7, 0.8), (1.16, 0.75, 0.82), (2.0, 1.4, 1.2)),
        ((5.8, 4.1, 2.9), 0.6, (2.0, 2.2, 1.0), (2.05, 2.28, 0.97), (3.1, 3.2, 1.6)),
        ((6.5, 5.0, 3.1), 0.9, (0.4, 2.5, 1.2), (0.46, 2.5, 1.12), (1.8, 2.9, 1.1)),
    )
    english = [_espeak(text, "+m3") for text in questions[:3]]
    return Material(
        name="harder",
        rooms=_by_images(rooms),
        delays_ms=(70, 200, 380),
        troubles=("none", "jump", "loss", "clipping", "louder", "fan"),
        answers=tuple(_neural(text, "zf_xiaoxiao")[0] for text in answers),
        questions=(*english, *[_neural(text, "zm_yunxi") for text in questions[3:]]),
        said=questions,
        jump_ms=90,
        lost=0.05,
        jitter_s=0.02,
    )


@cache
def last() -> Material:
    """Known by now: levels 6 dB apart either way, a clock that is off, long pauses."""
    answers = (
        "The post office is closed today, but it opens again on Monday morning at eight.",
        "There are three new messages for you, and the last one is from your sister.",
        "To make tea for four people you need a litre of water and five spoons of leaves.",
        "火车站离这里不远，坐地铁大概需要二十分钟。",
        "明天是妈妈的生日，记得给她打个电话。",
        "大熊猫主要吃竹子，每天要吃很长时间。",
    )
    questions = (
        "Wait a moment, who sent the second message?",
        "Set a timer for five minutes instead.",
        "I have heard that before, tell me something new.",
        "等等，地铁几点开始运行？",
        "不用了，换成明天早上提醒我。",
        "好了好了，先讲到这里吧。",
    )
    rooms: tuple[Shoebox, ...] = (
        ((3.4, 2.8, 2.5), 0.35, (1.7, 0.5, 0.75), (1.7, 0.56, 0.78), (2.2, 1.9, 1.3)),
        ((5.1, 3.6, 2.7), 0.55, (0.7, 1.9, 1.1), (0.73, 1.96, 1.05), (2.1, 2.4, 1.55)),
        ((7.2, 4.4, 2.8), 0.8, (3.0, 0.6, 0.85), (3.06, 0.6, 0.9), (3.8, 2.1, 1.65)),
    )
    return Material(
        name="last",
        rooms=_by_images(rooms),
        delays_ms=(100, 330),
        troubles=("none", "jump", "loss", "louder"),
        answers=tuple(_neural(text, "zm_yunxi", slower=1.1)[0] for text in answers),
        questions=(
            *[_espeak(text, "+f2") for text in questions[:3]],
            *[_neural(text, "zf_xiaoxiao") for text in questions[3:]],
        ),
        said=questions,
        jump_ms=70,
        lost=0.04,
        jitter_s=0.015,
        pause_s=20.0,
        levels_db=(-28.0, -22.0, -16.0),
        drifts_ppm=(100.0, -100.0),
    )


@cache
def tuned2() -> Material:
    """The second set on which figures are chosen: troubles of `harder` and `last`; other rooms, voices, sentences."""
    answers = (
        "The museum is open from ten until six, and children do not have to pay.",
        "Your parcel was sent on Thursday and should be at your door by Saturday noon.",
        "Bees dance to show each other where the best flowers are to be found.",
        "今天的新闻有三条，第一条是关于新修的地铁线路。",
        "客厅的灯已经打开了，亮度调到了百分之五十。",
        "很久很久以前，山上住着一位会画画的老爷爷。",
    )
    questions = (
        "Hold on, what time does it close?",
        "Never mind, play some music for me.",
        "Who told you that?",
        "先停一停，把灯关掉。",
        "不对，我问的是昨天的新闻。",
        "换一个吧，这个我听过了。",
    )
    rooms: tuple[Shoebox, ...] = (
        ((3.0, 2.4, 2.5), 0.3, (0.9, 0.6, 0.85), (0.95, 0.62, 0.87), (1.7, 1.5, 1.4)),
        ((4.7, 3.9, 2.6), 0.5, (1.5, 2.9, 0.9), (1.5, 2.96, 0.86), (2.7, 2.0, 1.5)),
        ((6.1, 4.6, 3.0), 0.75, (0.8, 1.2, 1.0), (0.85, 1.22, 0.95), (2.2, 2.0, 1.6)),
    )
    return Material(
        name="tuned on, 2",
        rooms=_by_images(rooms),
        delays_ms=(80, 260),
        troubles=("none", "jump", "loss", "louder", "fan"),
        answers=tuple(_neural(text, "zm_yunxi", slower=1.05)[0] for text in answers),
        questions=(
            *[_espeak(text, "+f4") for text in questions[:3]],
            *[_neural(text, "zf_xiaoxiao") for text in questions[3:]],
        ),
        said=questions,
        jump_ms=80,
        lost=0.04,
        jitter_s=0.015,
        pause_s=12.0,
        levels_db=(-27.0, -23.0, -17.0),
        drifts_ppm=(80.0, -80.0, 0.0),
    )


@cache
def unseen() -> Material:
    """Made before anything was chosen on `tuned2`, and heard once, at the end."""
    answers = (
        "The swimming pool is heated in winter, but it is closed for cleaning on Tuesdays.",
        "Your brother called twice this morning, and he would like you to call him back.",
        "Most of the bread here is baked at night, so that it is fresh when the shop opens.",
        "附近有三家餐厅，最近的一家走路只要五分钟。",
        "您的快递已经到了，放在门口的柜子里。",
        "月亮绕着地球转一圈大约需要二十七天。",
    )
    questions = (
        "Okay, call him back now.",
        "What about the other shop?",
        "Please be quiet for a while.",
        "可以了，帮我订一个位子。",
        "停，我想听点轻松的音乐。",
        "那太阳呢？它有多大？",
    )
    rooms: tuple[Shoebox, ...] = (
        ((2.9, 3.3, 2.4), 0.28, (2.1, 0.7, 0.8), (2.06, 0.74, 0.8), (1.3, 1.9, 1.35)),
        ((5.4, 4.0, 2.5), 0.5, (0.5, 3.1, 0.95), (0.56, 3.1, 0.92), (1.9, 2.3, 1.5)),
        ((6.8, 3.7, 2.9), 0.7, (4.4, 1.1, 1.05), (4.4, 1.04, 1.0), (3.2, 2.2, 1.6)),
        ((4.9, 5.6, 3.2), 0.85, (2.3, 4.6, 0.7), (2.35, 4.63, 0.72), (3.4, 3.4, 1.2)),
    )
    return Material(
        name="unseen",
        rooms=_by_images(rooms),
        delays_ms=(60, 290),
        troubles=("none", "jump", "loss", "louder", "fan"),
        answers=tuple(_neural(text, "zf_xiaoxiao")[0] for text in answers),
        questions=(
            *[_espeak(text, "+m2") for text in questions[:3]],
            *[_neural(text, "zm_yunxi", slower=1.12) for text in questions[3:]],
        ),
        said=questions,
        jump_ms=60,
        lost=0.05,
        jitter_s=0.02,
        pause_s=9.0,
        levels_db=(-26.0, -20.0, -23.0),
        drifts_ppm=(60.0, -110.0, 20.0),
    )


def _espeak(text: str, variant: str = "") -> Speech:
    speech = speak(text, voice=("en-us" if text.isascii() else "cmn") + variant)
    return np.frombuffer(speech.pcm, np.int16), speech.voice_from_ms / 1_000


def _neural(text: str, speaker: str, slower: float = 1.0) -> Speech:
    """`speaker`: of Mandarin; English has one, which is made `slower` and so deeper to be another."""
    if not offline_voices.are_here():
        return _espeak(text, "+f5" if speaker.startswith("zf") else "+m3")
    language = "en" if text.isascii() else "zh"
    pcm: Pcm = np.frombuffer(offline_voices.spoken_by(text, language, speaker), np.int16)
    if language == "en" and slower != 1.0:
        pcm = soxr.resample(pcm, 1.0, slower).astype(np.int16)
    return pcm, from_pcm(pcm.tobytes()).voice_from_ms / 1_000


def _by_reflections(rt60s: Sequence[float], echoes: Sequence[tuple[int, float]]) -> tuple[tuple[Sound, Sound], ...]:
    loudspeaker, person = _INDIRECT
    return tuple((reflections(rt60, loudspeaker, echoes), reflections(rt60, person, echoes)) for rt60 in rt60s)


def _by_images(rooms: Sequence[Shoebox]) -> tuple[tuple[Sound, Sound], ...]:
    return tuple(
        (_images(size, rt60, ear, loudspeaker, _ENCLOSURE), _images(size, rt60, ear, person, 1.0))
        for size, rt60, ear, loudspeaker, person in rooms
    )


def _images(size: Sequence[float], rt60: float, ear: Sequence[float], mouth: Sequence[float], direct: float) -> Sound:
    """The response from `mouth` to `ear`; as loud as it arrives on the direct way without a case.
    Source: J. Allen, D. Berkley, "Image method for efficiently simulating small-room acoustics", JASA 1979."""
    volume = float(np.prod(size))
    surface = 2 * (size[0] * size[1] + size[1] * size[2] + size[0] * size[2])
    reflects = np.sqrt(max(0.0, 1 - min(0.95, 0.161 * volume / (surface * rt60))))
    length = int(min(rt60, 0.5) * RATE)
    orders = [
        np.arange(-count, count + 1) for count in (int(length / RATE * _SOUND_OF / (2 * side)) + 1 for side in size)
    ]
    ways, bounces = [], []
    for axis, order in enumerate(orders):
        there = np.stack([2 * order * size[axis] + mouth[axis], 2 * order * size[axis] - mouth[axis]]) - ear[axis]
        walls = np.stack([np.abs(2 * order), np.abs(order - 1) + np.abs(order)])
        ways.append(there.ravel() ** 2)
        bounces.append(walls.ravel())
    far = np.sqrt(ways[0][:, None, None] + ways[1][None, :, None] + ways[2][None, None, :]).ravel()
    hits = (bounces[0][:, None, None] + bounces[1][None, :, None] + bounces[2][None, None, :]).ravel()
    at = far / _SOUND_OF * RATE
    near = at < length - 1
    at, gain = at[near], np.where(hits[near] == 0, direct, reflects ** hits[near]) / far[near]
    response = np.zeros(length)
    whole = at.astype(int)
    np.add.at(response, whole, gain * (1 - (at - whole)))
    np.add.at(response, whole + 1, gain * (at - whole))
    return response * float(np.linalg.norm(np.subtract(ear, mouth)))
