"""Echo cancelling on the server: does a device interrupt itself, is somebody heard who speaks over it, what does it
cost. Rows (name, value, unit, aim) for `python -m loadtest.bench`; docs/performance.md has them.

Real canceller, voice detector (Silero) and endpointing; rooms, delays and troubles are synthetic (`_echo_scenes.py`),
as are the voices: eSpeak's in the scenes that thresholds were chosen with, neural ones in those that are held out. The
way there and back, jitter included, is counted in the times."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import chain, product

from loadtest.bench import offline_voices
from loadtest.bench._echo_scenes import FRAME_MS, HELD_OUT, TROUBLES, TUNED, Material, Played, Scene, play
from xiaozhi.chat import CallContext
from xiaozhi.protocol.messages import ListenMode
from xiaozhi.providers import registry
from xiaozhi.providers.contracts.asr import BatchAsr, Transcript
from xiaozhi.providers.contracts.provider import Services
from xiaozhi.providers.contracts.vad import Vad
from xiaozhi.runtime.inference import InferencePool
from xiaozhi.runtime.tasks import Tasks
from xiaozhi.session.listening.decoder import Packet
from xiaozhi.session.listening.echo import LoudspeakerEcho
from xiaozhi.session.listening.listener import ListenerOptions, ListenerStats, Utterance
from xiaozhi.session.listening.utterance import RecogniserAccess
from xiaozhi.session.listening.voice_segment import VoiceSegment

Row = tuple[str, float | None, str, str]

ANSWERS = 2
"""A scene has one without and one with a voice over it, or two without."""
HEARD_S = 0.5


def rows() -> list[Row]:
    """Everything, about three minutes."""
    pool = InferencePool(workers=2)
    pool.start()
    vad: Vad = registry.build(
        "vad", "SileroVAD", {"type": "silero", "min_silence_duration_ms": 200, "max_wait_ms": 0}, Services(pool)
    )
    vad.warm_up()
    try:
        found = [*_alone(vad, pool, TUNED), *_over_it(vad, pool, TUNED), *_cost(pool)]
        if offline_voices.are_here():
            held_out = chain(_alone(vad, pool, HELD_OUT), _over_it(vad, pool, HELD_OUT))
            found += [(f"held out, {name}", value, unit, aim) for name, value, unit, aim in held_out]
        return found
    finally:
        vad.close()
        pool.close()


def scenes(voice_db: float | None, rounds: int = 3, material: Material = TUNED) -> Iterator[Scene]:
    """Every room, delay and trouble, `rounds` times, with and without timestamps by turns."""
    places = product(range(rounds), material.rooms, material.delays_ms, TROUBLES)
    for number, (round_, rt60, delay_ms, trouble) in enumerate(places):
        yield Scene(rt60, delay_ms, trouble, (number + round_) % 2 == 0, number, voice_db, material)


def _alone(vad: Vad, pool: InferencePool, material: Material) -> Iterator[Row]:
    told, guessed, answers = 0, 0, 0
    uncancelled = 0
    for number, scene in enumerate(scenes(None, 3, material)):
        played = play(scene, ANSWERS)
        answers += ANSWERS
        starts = len(_starts(vad, pool, played))
        told, guessed = told + starts * scene.told, guessed + starts * (not scene.told)
        if number % 12 == 0:
            uncancelled += len(_starts(vad, pool, played, cancels=False))
    yield "without cancelling: false barge-ins in 18 answers", float(uncancelled), "", ""
    yield f"the device alone, with timestamps: false barge-ins in {answers // 2} answers", float(told), "", "<= 0"
    yield f"the device alone, without: false barge-ins in {answers // 2} answers", float(guessed), "", "<= 0"


def _over_it(vad: Vad, pool: InferencePool, material: Material) -> Iterator[Row]:
    for voice_db, aim in ((6.0, ""), (0.0, ">= 95"), (-6.0, "")):
        late: list[float] = []
        early = 0
        for scene in scenes(voice_db, 3 if aim else 1, material):
            played = play(scene, ANSWERS)
            assert played.voice_at is not None
            starts = _starts(vad, pool, played)
            early += sum(at < played.voice_at for at in starts)
            late.append(min([at - played.voice_at for at in starts if at >= played.voice_at], default=99.0))
        late.sort()
        name = f"a voice {voice_db:+g} dB over it, {len(late)} times"
        share = 100 * sum(seconds <= HEARD_S for seconds in late) / len(late)
        yield f"{name}: heard within {HEARD_S * 1_000:g} ms", share, "%", aim
        yield f"{name}: median", late[len(late) // 2] * 1_000, "ms", ""
        yield f"{name}: false barge-ins before it", float(early), "", "<= 0" if aim else ""


def _cost(pool: InferencePool) -> Iterator[Row]:
    played = play(Scene(0.4, 120, "none", True, 1), ANSWERS)
    stats = ListenerStats()
    echo, at = _canceller(pool)
    pcm = bytes(2 * 16 * FRAME_MS)
    heard = [Packet(b"", arrival, timestamp) for arrival, _, timestamp in played.heard]
    process, hub = time.process_time(), time.thread_time()
    _feed(played, heard, echo, at, lambda packet: echo.cancel(pcm, packet))
    process, hub = time.process_time() - process, time.thread_time() - hub
    seconds = len(heard) * FRAME_MS / 1_000
    yield "CPU of a device that speaks and is cancelled", 100 * process / seconds, "% of a core", "< 2"
    yield "  of it on the hub", 100 * hub / seconds, "% of a core", ""
    assert not stats.corrupt


def _canceller(pool: InferencePool) -> tuple[LoudspeakerEcho, list[float]]:
    """And the clock that it looks at."""
    at = [0.0]
    return LoudspeakerEcho(pool, frame_ms=FRAME_MS, audio_format="opus", sample_rate=24_000, clock=lambda: at[0]), at


def _feed(
    played: Played, heard: list[Packet], echo: LoudspeakerEcho, at: list[float], hear: Callable[[Packet], object]
) -> None:
    """Both directions in the order of time."""
    waiting = list(reversed(played.sent))
    for packet in heard:
        while waiting and waiting[-1][0] <= packet.arrived_at:
            at[0], sound, timestamp = waiting.pop()
            echo.sent(sound, timestamp)
        at[0] = packet.arrived_at
        hear(packet)


class _Deaf(BatchAsr):
    def transcribe(self, pcm: bytes, context: CallContext) -> Transcript:
        return Transcript("")


class _Starts:
    """Writes down when somebody is noticed."""

    def __init__(self, at: list[float]) -> None:
        self.noticed: list[float] = []
        self._at = at

    def speech_started(self) -> None:
        self.noticed.append(self._at[0])

    def utterance_paused(self, utterance: Utterance) -> None: ...

    def utterance_resumed(self) -> None: ...

    def utterance_ended(self, utterance: Utterance) -> None:
        utterance.close()

    def utterance_dropped(self, reason: str) -> None: ...


def _starts(vad: Vad, pool: InferencePool, played: Played, *, cancels: bool = True) -> list[float]:
    """When a voice was noticed, up to the end of the last answer, s."""
    echo, at = _canceller(pool)
    sink, tasks = _Starts(at), Tasks()
    segment = VoiceSegment(
        ListenMode.REALTIME,
        vad,
        ListenerOptions(pause_ms=0),
        RecogniserAccess(_Deaf(), CallContext(), tasks, 15.0),
        sink,
        ListenerStats(),
        echo if cancels else None,
    )
    heard = [Packet(packet, arrival, timestamp) for arrival, packet, timestamp in played.heard]
    _feed(played, heard, echo, at, lambda packet: segment.hear([packet]))
    segment.abandon()
    tasks.kill()
    return [noticed for noticed in sink.noticed if noticed <= played.until]
