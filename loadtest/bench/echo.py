"""Echo cancelling on the server: does a device interrupt itself, is somebody heard who speaks over it, what does the
recogniser make of it, what does it cost. Rows (name, value, unit, aim) for `python -m loadtest.bench`;
docs/performance.md has them.

Real canceller, voice detector (Silero), endpointing and recognisers; rooms, delays, troubles and voices are synthetic.
On the sets `tuned` and `tuned2` the figures of the canceller were chosen; see `_echo_sets.py` for the others. The
way there and back, jitter included, is counted in the times."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from typing import Any, TypeVar

from rapidfuzz.distance import Levenshtein

from loadtest.bench import _echo_sets, open_speech
from loadtest.bench._echo_scenes import FRAME_MS, RATE, Material, Played, Scene, play
from xiaozhi.audio.opus import Decoder
from xiaozhi.chat import CallContext
from xiaozhi.protocol.messages import ListenMode
from xiaozhi.providers import registry
from xiaozhi.providers.contracts.asr import BatchAsr, Transcript
from xiaozhi.providers.contracts.provider import Services
from xiaozhi.providers.contracts.vad import Vad
from xiaozhi.runtime.inference import InferencePool
from xiaozhi.runtime.tasks import Tasks
from xiaozhi.session.listening.decoder import Packet, Sound
from xiaozhi.session.listening.echo import LoudspeakerEcho
from xiaozhi.session.listening.listener import ListenerOptions, ListenerStats, Utterance
from xiaozhi.session.listening.utterance import RecogniserAccess
from xiaozhi.session.listening.voice_segment import VoiceSegment

Row = tuple[str, float | None, str, str]
T = TypeVar("T")

ANSWERS = 2
"""In a scene: one without and one with a voice over it, or two without."""
HEARD_S = 0.5
SOME = 3
"""Rows without an aim look at every so many scenes."""
NOT_CANCELLED, RECOGNISED = 25, 12
"""The same for those without a canceller, and for those whose words are recognised."""

GIVEN = {"": "as the recogniser is given it", "suppressed": "suppressed as for the detector", "raw": "not cancelled"}


def rows() -> list[Row]:
    """Everything, about a quarter of an hour."""
    return [*unseen(), *held_out(), *harder(), *last(), *words(), *cost()]


def tuned() -> list[Row]:
    """The set on which figures were chosen."""
    return _barge_in(_echo_sets.tuned())


def held_out() -> list[Row]:
    """Other reflections, delays, sentences and voices."""
    return _barge_in(_echo_sets.held_out())


def harder() -> list[Row]:
    """Rooms of image sources, more troubles."""
    return _barge_in(_echo_sets.harder())


def last() -> list[Row]:
    """Other levels, a clock that is off, long pauses."""
    return _barge_in(_echo_sets.last())


def tuned2() -> list[Row]:
    """The second set on which figures were chosen."""
    return _barge_in(_echo_sets.tuned2())


def unseen() -> list[Row]:
    """Made before, heard after the figures were chosen on `tuned2`."""
    return _barge_in(_echo_sets.unseen())


def words() -> list[Row]:
    """What the recogniser of the offline default makes of sentences that are begun over an answer. It stops when they
    are noticed. The sound that the recogniser is given, and others that it might be."""
    name = "words wrong, a voice"
    if open_speech.models() is None:
        return [(f"{name}: make tools", None, "", "")]
    found: list[Row] = []
    with _parts(silence_ms=700) as (vad, pool), open_speech.recogniser() as asr:
        for material in (_echo_sets.held_out(), _echo_sets.harder()):
            for voice_db in (6.0, 0.0, -6.0):
                wrong = dict.fromkeys(GIVEN, 0)
                total = 0
                for scene in _some(material, voice_db, RECOGNISED):
                    played = _until_noticed(vad, pool, material, scene)
                    if played is None:
                        continue
                    expected = open_speech.units(material.said[scene.seed % len(material.said)])
                    total += len(expected)
                    for given in GIVEN:
                        heard = open_speech.units(_text(vad, pool, asr, played, given))
                        wrong[given] += Levenshtein.distance(expected, heard)
                for given, what in GIVEN.items():
                    row = f"{material.name}: {name} {voice_db:+g} dB, {what} ({total} words or characters)"
                    found.append((row, 100 * wrong[given] / total, "%", ""))
    return found


def cost() -> list[Row]:
    """CPU and memory of one device that speaks."""
    found: list[Row] = []
    with _parts() as (_, pool):
        for name, voice_db in (("is cancelled", None), ("is cancelled with a voice over it", 0.0)):
            played = play(_echo_sets.tuned(), Scene(1, 120, "none", True, 1, voice_db), ANSWERS)
            echo, at = _canceller(pool)
            decoder = Decoder(RATE)
            sounds = iter([decoder.decode(packet) for _, packet, _ in played.heard])
            process, hub = time.process_time(), time.thread_time()
            _feed(played, echo, at, lambda packet, echo=echo, sounds=sounds: echo.cancel(next(sounds), packet))  # type: ignore[misc]
            process, hub = time.process_time() - process, time.thread_time() - hub
            seconds = len(played.heard) * FRAME_MS / 1_000
            found += [
                (f"CPU of a device that speaks and {name}", 100 * process / seconds, "% of a core", "< 2"),
                ("  of it on the hub", 100 * hub / seconds, "% of a core", ""),
                ("  memory", echo.held_bytes / 1_000, "kB", ""),
            ]
    return found


class _PatientPool(InferencePool):
    """Waits on a busy machine, on which sound would else be given up that was not cancelled in time."""

    def run(self, function: Callable[..., T], *args: Any, kind: str = "other", deadline: float, cost: float = 0.0) -> T:
        return super().run(function, *args, kind=kind, deadline=60.0, cost=cost)


@contextmanager
def _parts(silence_ms: int = 200) -> Iterator[tuple[Vad, InferencePool]]:
    pool = _PatientPool(workers=2)
    pool.start()
    block = {"type": "silero", "min_silence_duration_ms": silence_ms, "max_wait_ms": 0, "deadline_ms": 10_000}
    vad: Vad = registry.build("vad", "SileroVAD", block, Services(pool))
    try:
        vad.warm_up()
        yield vad, pool
    finally:
        vad.close()
        pool.close()


def _scenes(material: Material, voice_db: float | None) -> Iterator[Scene]:
    """Every room, delay and trouble, with and without timestamps."""
    every = product(range(len(material.rooms)), material.delays_ms, material.troubles, (True, False))
    for number, (room, delay_ms, trouble, told) in enumerate(every):
        yield Scene(room, delay_ms, trouble, told, number, voice_db)


def _some(material: Material, voice_db: float | None, step: int) -> list[Scene]:
    """One of each `step` scenes, chosen by chance but always the same."""
    every = list(_scenes(material, voice_db))
    return random.Random(step).sample(every, len(every) // step)


def _barge_in(material: Material) -> list[Row]:
    with _parts() as (vad, pool):
        return [*_alone(vad, pool, material), *_over_it(vad, pool, material)]


def _alone(vad: Vad, pool: InferencePool, material: Material) -> Iterator[Row]:
    played = [(scene.told, play(material, scene, ANSWERS)) for scene in _scenes(material, None)]
    some = played[:: len(played) // NOT_CANCELLED * 2 + 1]
    uncancelled = sum([len(_starts(vad, pool, one, cancels=False)) for _, one in some])
    name = f"{material.name}: not cancelled, false barge-ins in {ANSWERS * len(some)} answers"
    yield name, float(uncancelled), "", ""
    for told, how in ((True, "with timestamps"), (False, "without")):
        mine = [one for is_told, one in played if is_told is told]
        false = sum([len(_starts(vad, pool, one)) for one in mine])
        name = f"{material.name}: the device alone, {how}: false barge-ins in {ANSWERS * len(mine)} answers"
        yield name, float(false), "", "<= 0"


def _over_it(vad: Vad, pool: InferencePool, material: Material) -> Iterator[Row]:
    for voice_db, step, aim in ((6.0, SOME, ""), (0.0, 1, ">= 95"), (-6.0, SOME, "")):
        late: list[float] = []
        early = 0
        for scene in _some(material, voice_db, step):
            played = play(material, scene, ANSWERS)
            assert played.voice_at is not None
            starts = _starts(vad, pool, played)
            early += sum(at < played.voice_at for at in starts)
            late.append(min([at - played.voice_at for at in starts if at >= played.voice_at], default=99.0))
        late.sort()
        name = f"{material.name}: a voice {voice_db:+g} dB over it, {len(late)} times"
        share = 100 * sum(seconds <= HEARD_S for seconds in late) / len(late)
        yield f"{name}: heard within {HEARD_S * 1_000:g} ms", share, "%", aim
        yield f"{name}: median", late[len(late) // 2] * 1_000, "ms", ""
        yield f"{name}: false barge-ins before it", float(early), "", "<= 0"


def _canceller(pool: InferencePool) -> tuple[LoudspeakerEcho, list[float]]:
    """And the clock that it looks at."""
    at = [0.0]
    return LoudspeakerEcho(pool, frame_ms=FRAME_MS, audio_format="opus", sample_rate=24_000, clock=lambda: at[0]), at


def _feed(played: Played, echo: LoudspeakerEcho, at: list[float], hear: Callable[[Packet], object]) -> None:
    """Both directions in the order of time."""
    waiting = list(reversed(played.sent))
    for arrival, payload, timestamp in played.heard:
        while waiting and waiting[-1][0] <= arrival:
            at[0], sound, name = waiting.pop()
            echo.sent(sound, name)
        at[0] = arrival
        hear(Packet(payload, arrival, timestamp))


class _Deaf(BatchAsr):
    def transcribe(self, pcm: bytes, context: CallContext) -> Transcript:
        return Transcript("")


class _Sink:
    """Writes down when somebody is noticed, and keeps the sound of what ended."""

    def __init__(self, at: list[float]) -> None:
        self.noticed: list[float] = []
        self.ended: list[tuple[float, bytes]] = []
        self._at = at

    def speech_started(self) -> None:
        self.noticed.append(self._at[0])

    def utterance_paused(self, utterance: Utterance) -> None: ...

    def utterance_resumed(self) -> None: ...

    def utterance_ended(self, utterance: Utterance) -> None:
        self.ended.append((self._at[0], utterance.pcm))
        utterance.close()

    def utterance_dropped(self, reason: str) -> None: ...


class _Canceller:
    """The canceller, or none; the recogniser is given another sound, if `given` says so."""

    def __init__(self, echo: LoudspeakerEcho, given: str) -> None:
        self._echo = echo
        self._given = given

    @property
    def somebody(self) -> bool:
        return self._echo.somebody

    @property
    def held_bytes(self) -> int:
        return self._echo.held_bytes

    def cancel(self, pcm: bytes, packet: Packet) -> Sound:
        sound = self._echo.cancel(pcm, packet)
        match self._given:
            case "raw":
                return Sound(sound.for_detector, pcm)
            case "suppressed":
                return Sound(sound.for_detector, sound.for_detector)
            case _:
                return sound

    def forget(self) -> None:
        self._echo.forget()


def _listened(vad: Vad, pool: InferencePool, played: Played, *, cancels: bool = True, given: str = "") -> _Sink:
    echo, at = _canceller(pool)
    sink, tasks = _Sink(at), Tasks()
    segment = VoiceSegment(
        ListenMode.REALTIME,
        vad,
        ListenerOptions(pause_ms=0),
        RecogniserAccess(_Deaf(), CallContext(), tasks, 15.0),
        sink,
        ListenerStats(),
        _Canceller(echo, given) if cancels else None,
    )
    _feed(played, echo, at, lambda packet: segment.hear([packet]))
    segment.stop()
    tasks.kill()
    return sink


def _starts(vad: Vad, pool: InferencePool, played: Played, *, cancels: bool = True) -> list[float]:
    """When a voice was noticed, up to the end of the last answer, s."""
    return [at for at in _listened(vad, pool, played, cancels=cancels).noticed if at <= played.until]


def _until_noticed(vad: Vad, pool: InferencePool, material: Material, scene: Scene) -> Played | None:
    """The scene in which the answer stops when the voice over it is noticed; None where it is not noticed."""
    played = play(material, scene, ANSWERS)
    assert played.voice_at is not None
    noticed = [at for at in _starts(vad, pool, played) if at >= played.voice_at]
    return play(material, replace(scene, stops_at=noticed[0]), ANSWERS) if noticed else None


def _text(vad: Vad, pool: InferencePool, asr: BatchAsr, played: Played, given: str) -> str:
    ended = _listened(vad, pool, played, given=given).ended
    sounds = [pcm for at, pcm in ended if played.voice_at is not None and at > played.voice_at]
    return " ".join([asr.transcribe(pcm, CallContext()).text for pcm in sounds])
