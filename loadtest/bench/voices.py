"""The neural voices of this machine (`type: local_neural`): how soon something is heard, what it costs, what two at
once do to the hub, and whether a recogniser understands what they say.

Needs `make setup WITH=speech` and `server.py models fetch default`; without them there are no rows. CPU figures are
process time: the wall time of a busy machine does not enter; the first sound is wall time, the best of some tries."""

from __future__ import annotations

import re
import resource
import time
from collections.abc import Sequence
from functools import partial
from typing import Final

import gevent
import numpy as np
import psutil
import soxr

from loadtest import ROOT
from loadtest.bench.open_speech import longest_gap_of
from xiaozhi.app import process
from xiaozhi.chat import CallContext
from xiaozhi.providers.contracts.provider import Services
from xiaozhi.providers.contracts.tts import Pcm
from xiaozhi.providers.families.mandarin_numbers import spelled_out
from xiaozhi.providers.families.whisper_listener import WhisperListener
from xiaozhi.providers.tts.local_neural import MODEL, LocalNeuralTts, LocalNeuralTtsOptions
from xiaozhi.runtime.inference import InferencePool

Row = tuple[str, float | None, str, str]

MODELS: Final = ROOT / "models"
ENGLISH: Final = "I have set an alarm for half past seven tomorrow."
CHINESE: Final = (
    "今天天气很好，我们一起去公园散步吧。",
    "请把客厅的灯打开，然后把空调调到二十六度。",
    "我已经为您设置了一个十分钟的闹钟。",
    "从前有一座山，山上有一座庙，庙里有一个老和尚在讲故事。",
    "对不起，我没有听清楚，请您再说一遍。",
    "银行在学校旁边，走路大概需要五分钟。",
    "孩子们长大以后都想当科学家。",
    "你好，我是小智，很高兴认识你。",
    "明天下午三点有雨，气温零下3.5度，出门记得带伞。",
    "音量已经调到50%。",
)
MIXED: Final = (
    "请打开WiFi，然后连接手机。",
    "我们用Python写了一个程序。",
    "你可以说OK，也可以说Hello。",
    "请把文件发到我的email里。",
    "这首歌是Michael Jackson唱的。",
)
_TRIES = 3
_CONTEXT = CallContext()


def rows() -> list[Row]:
    """Everything, one to three minutes; nothing where the models are not here."""
    if not (MODELS / MODEL).is_dir():
        return []
    pool = InferencePool(workers=2)
    pool.start()
    process.prepare()
    memory = psutil.Process()
    before = memory.memory_info().rss
    tts = LocalNeuralTts(
        LocalNeuralTtsOptions(model_dir=str(MODELS / MODEL), overflow_s=30.0), Services(inference=pool)
    )
    try:
        tts.warm_up()
        found = [*_speed(tts), *_hub(tts)]
        found.append(("RSS that both models add, after speaking", (memory.memory_info().rss - before) / 1e6, "MB", ""))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        found.append(("the same at its highest, in the middle of a clause", (peak - before) / 1e6, "MB", ""))
        if (MODELS / "faster-whisper-base").is_dir():
            listener = WhisperListener(MODELS / "faster-whisper-base", pool, lambda: "bench")
            for name, sentences, aim in (("Mandarin", CHINESE, "< 12"), ("Mandarin with English words", MIXED, "")):
                wrong = character_errors(tts, listener, sentences)
                found.append((f"{name}, characters that Whisper base hears wrong", 100 * wrong, "%", aim))
            listener.release()
        return found
    finally:
        tts.close()
        pool.close()


def character_errors(tts: LocalNeuralTts, listener: WhisperListener, sentences: Sequence[str]) -> float:
    """The share of characters that a recogniser hears wrong, its own mistakes included."""
    wrong = length = 0
    for sentence in sentences:
        pcm, rate = _said(tts, sentence)
        samples = soxr.resample(np.frombuffer(pcm, "<i2").astype(np.float32) / 32_768, rate, 16_000)
        heard = listener.hear(samples, "zh", 120.0).text
        expected = _letters(sentence)
        wrong += _distance(expected, _letters(heard))
        length += len(expected)
    return wrong / length


def _speed(tts: LocalNeuralTts) -> list[Row]:
    found: list[Row] = []
    for name, sentence, aim in (
        ("English, 10 words", ENGLISH, "< 100"),
        ('Mandarin, first clause "好的，"', "好的，空调已经打开了。", "< 900"),
        ("Mandarin, first clause of six characters", "今天天气很好，我们去散步吧。", ""),
    ):
        walls, cpus = [], []
        for _ in range(_TRIES):
            wall, cpu = time.perf_counter(), time.process_time()
            next(iter(tts.synthesize(sentence, _CONTEXT)))
            walls.append(time.perf_counter() - wall)
            cpus.append(time.process_time() - cpu)
        found += [(f"{name}: first sound", 1000 * min(walls), "ms", aim)]
        found += [(f"{name}: CPU until then", 1000 * min(cpus), "ms", "")]
    for name, sentences in (("English", [ENGLISH]), ("Mandarin", CHINESE[:4])):
        cpu = time.process_time()
        seconds = sum(len(pcm) / 2 / rate for pcm, rate in (_said(tts, sentence) for sentence in sentences))
        found.append((f"{name}: CPU per second of speech", (time.process_time() - cpu) / seconds, "s", ""))
    return found


def _hub(tts: LocalNeuralTts) -> list[Row]:
    """What other programs on the machine do to the hub is in both rows."""
    began = time.perf_counter()
    busy = longest_gap_of([partial(_said, tts, sentence) for sentence in (CHINESE[1], ENGLISH, CHINESE[3])])
    idle = longest_gap_of([partial(gevent.sleep, time.perf_counter() - began)])
    return [
        ("longest gap of the hub while three speak", 1000 * busy, "ms", "< 15"),
        ("the same, for as long, while nobody does", 1000 * idle, "ms", ""),
    ]


def _said(tts: LocalNeuralTts, sentence: str) -> tuple[bytes, int]:
    sounds = [sound for sound in tts.synthesize(sentence, _CONTEXT) if isinstance(sound, Pcm)]
    return b"".join(sound.data for sound in sounds), sounds[0].rate


def _letters(text: str) -> str:
    return re.sub(r"[^\u3400-\u9fffa-z]", "", spelled_out(text).lower())


def _distance(left: str, right: str) -> int:
    row = list(range(len(right) + 1))
    for number, char in enumerate(left, 1):
        before, row[0] = row[0], number
        for place, other in enumerate(right, 1):
            before, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, before + (char != other))
    return row[-1]
