"""Streamed speech and recognition to the end, for the tests of vendors."""

from __future__ import annotations

import contextlib

import gevent

from tests.fakes.voice import speech_of
from xiaozhi.providers.contracts.asr import AsrStream, Transcript
from xiaozhi.providers.contracts.tts import OpusPackets, Pcm, SentenceBegins, SpeechEvent, TtsStream

PIECE_BYTES = 1920


def hear(stream: AsrStream, pcm: bytes) -> Transcript:
    """What is recognised in `pcm` (s16le, 16 kHz), fed by 60 ms."""
    with contextlib.closing(stream):
        for start in range(0, len(pcm), PIECE_BYTES):
            stream.feed(pcm[start : start + PIECE_BYTES])
            gevent.sleep(0)
        return stream.finish()


def speak(stream: TtsStream, *sentences: str) -> list[SpeechEvent]:
    """Everything that comes for these sentences."""
    with contextlib.closing(stream):
        for sentence in sentences:
            stream.say(sentence)
        stream.finish()
        return list(speech_of(stream))


def texts(events: list[SpeechEvent]) -> list[str]:
    """The sentences, in the order in which they begin."""
    return [event.text for event in events if isinstance(event, SentenceBegins)]


def seconds_by_sentence(events: list[SpeechEvent]) -> dict[str, float]:
    """Sentence -> seconds of its sound."""
    seconds: dict[str, float] = {}
    current = ""
    for event in events:
        if isinstance(event, SentenceBegins):
            current = event.text
            seconds[current] = 0.0
        elif isinstance(event, Pcm):
            seconds[current] += len(event.data) / 2 / event.rate
        elif isinstance(event, OpusPackets):
            seconds[current] += len(event.packets) * event.frame_ms / 1000
    return seconds
