"""Has an idle device play a message: the text in the voice of the device's own agent, as a file that the device
fetches (`notify`).

Which firmware can do this is not known beforehand: it came to 78/xiaozhi-esp32 after version 2.4.2 (pull request 2191,
August 2026), no release names it, and boards count their versions as they like. So a board is tried (`boards`: auto):
one that fetches the file can, and one that does not is shown an alert instead, and is not tried again for a day, or
until it runs other firmware.

Part of the composition root."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import gevent
from cachetools import LRUCache
from gevent.lock import BoundedSemaphore

from xiaozhi.app.known_devices import KnownDevices
from xiaozhi.app.wiring import usual_voice
from xiaozhi.audio.ogg import ogg_opus
from xiaozhi.devices.report import BOARD_NAMES, PLAYS
from xiaozhi.devices.standing import StandingConnection
from xiaozhi.errors import Overloaded, StorageError, VendorTimeout, XiaozhiError
from xiaozhi.protocol import messages as wire
from xiaozhi.runtime.deadlines import at_most
from xiaozhi.runtime.inference import InferencePool
from xiaozhi.runtime.logs import get_logger
from xiaozhi.session.agent import Agent, AgentSource
from xiaozhi.session.link import Identity
from xiaozhi.session.speaking.encoder import VoiceFormat, work_on_sound
from xiaozhi.session.speaking.rendering import render
from xiaozhi.settings import Settings
from xiaozhi.storage import device_sounds
from xiaozhi.storage.database import Database

log = get_logger(__name__)

GOOD_FOR_S: Final = 600.0
MAX_SOUNDS: Final = 500
MAX_BYTES: Final = 32 * 1024 * 1024
"""Of all sounds in the database: an hour and a half."""
AT_ONCE: Final = 2
"""Texts that are spoken for this at the same time; a message to all devices is spoken once for each voice."""
PATIENCE_S: Final = 20.0
FETCH_S: Final = 6.0
"""A device that plays messages begins to fetch at once."""
LOOK_S: Final = 0.2
REMEMBERED: Final = 16
TRY_AGAIN_S: Final = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class _Sound:
    file: bytes
    subtitles: tuple[wire.Subtitle, ...]
    seconds: float


class NotifySounds:
    """`play` for one message; `fetch` for who serves the files. `address`: where a device fetches one, by its standing
    connection and the name of the file. `clock`: seconds since 1970."""

    def __init__(
        self,
        database: Database,
        known: KnownDevices,
        inference: InferencePool,
        *,
        agents: Callable[[], AgentSource],
        address: Callable[[StandingConnection, str], str],
        current: Callable[[], Settings],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._directory = known.directory
        self._boards = known.boards
        self._inference = inference
        self._agents = agents
        self._address = address
        self._current = current
        self._clock = clock
        self._speaking = BoundedSemaphore(AT_ONCE)
        self._spoken: LRUCache[tuple[object, ...], _Sound] = LRUCache(REMEMBERED)

    def play(self, standing: StandingConnection, text: str) -> float | None:
        """Have a device play a text: how many seconds that takes; None: it has to be told in another way. Blocks until
        it has begun to fetch the sound, for about `PATIENCE_S` and `FETCH_S` at most."""
        try:
            report = self._directory.of(standing.device).report or {}
            if not self._may(standing.device, report):
                return None
            sound = self._sound_for(standing.device, text, report)
            fetched = self._send(standing, sound)
            self._learn(standing.device, report, fetched)
        except XiaozhiError as error:
            log.warning("a message is shown, not played", device=standing.device, error=str(error)[:200])
            return None
        return sound.seconds if fetched else None

    def fetch(self, name: str, whole: bool) -> bytes | None:
        """A file; None when there is none of this name. `whole`: it is fetched, not only asked about. Blocks. Raises
        StorageError, Overloaded."""
        now = self._clock()
        sound = self._database.read(lambda connection: device_sounds.of(connection, name, now))
        if sound is not None and whole:
            self._database.run(lambda connection: device_sounds.note_fetched(connection, name, now))
        return sound

    # --- whether ------------------------------------------------------------------------------------------------------

    def _may(self, device: str, report: Mapping[str, Any]) -> bool:
        names = [*self._boards.names(device), *map(str, report.get(BOARD_NAMES, ()))]
        wanted = self._current().board_for(names).notify
        known = report.get(PLAYS)
        if wanted != "auto":
            return wanted
        if not isinstance(known, Mapping) or known.get("firmware") != report.get("firmware", ""):
            return True
        return bool(known.get("yes")) or self._clock() - float(known.get("at", 0.0)) > TRY_AGAIN_S

    def _learn(self, device: str, report: Mapping[str, Any], fetched: bool) -> None:
        known = report.get(PLAYS)
        if isinstance(known, Mapping) and known.get("yes") and known.get("firmware") == report.get("firmware", ""):
            return  # busy this once, or out of reach of the HTTP port
        learnt = {"firmware": report.get("firmware", ""), "yes": fetched, "at": self._clock()}
        self._directory.saw(device, {PLAYS: learnt})

    # --- the sound ----------------------------------------------------------------------------------------------------

    def _sound_for(self, device: str, text: str, report: Mapping[str, Any]) -> _Sound:
        agent = self._agents().resolve(Identity(device, str(report.get("client", ""))), None)
        try:
            with at_most(PATIENCE_S, VendorTimeout(agent.phrases.fixed.name, f"gave no sound in {PATIENCE_S:g} s")):
                return self._speak(agent, text)
        finally:
            agent.release()

    def _speak(self, agent: Agent, text: str) -> _Sound:
        tts, usual = agent.phrases.fixed, usual_voice(self._current())
        voice = VoiceFormat("opus", usual.sample_rate, usual.frame_ms)
        key = tts.name, tts.traits.voice_key, tuple(agent.settings.correct_words), voice, text
        with self._speaking:
            sound = self._spoken.get(key)
            if sound is None:
                speech = render(tts, text, voice, self._inference, correct_words=agent.settings.correct_words)
                file = work_on_sound(self._inference, _file, speech.frames, voice)
                sound = _Sound(file, tuple(wire.Subtitle(*each) for each in speech.sentences), speech.seconds)
                self._spoken[key] = sound
            return sound

    def _send(self, standing: StandingConnection, sound: _Sound) -> bool:
        """Whether the device has fetched it."""
        name, now = secrets.token_urlsafe(24), self._clock()
        self._database.run(
            lambda connection: device_sounds.keep(
                connection,
                name,
                standing.device,
                sound.file,
                now=now,
                expires_at=now + GOOD_FOR_S,
                count=MAX_SOUNDS,
                size=MAX_BYTES,
            )
        )
        if not standing.push(wire.Notify(self._address(standing, name), sound.subtitles)):
            return False
        until = time.monotonic() + FETCH_S
        while time.monotonic() < until:
            gevent.sleep(LOOK_S)
            try:
                if self._database.read(lambda connection: device_sounds.was_fetched(connection, name)):
                    return True
            except (StorageError, Overloaded):
                continue  # until the time is over
        return False


def _file(frames: tuple[bytes, ...], voice: VoiceFormat) -> bytes:
    """In a thread of the pool."""
    return ogg_opus(frames, packet_ms=voice.frame_ms, sample_rate=voice.sample_rate)
