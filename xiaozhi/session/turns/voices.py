"""Who is speaking: asks a voiceprint service beside the recogniser, and tells the language model when the speaker
changes.

The name stands in the user's message, `{"speaker": "Li", "content": "hello"}`, as models that were made for the
existing server know it, and only where it is news: while one person speaks, it would be noise. A service that fails or
is late costs nothing but the name. One object per session."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import gevent
import orjson
from gevent import Greenlet

from xiaozhi.chat import UNKNOWN_SPEAKER
from xiaozhi.errors import ConnectionClosed, Overloaded, VendorError
from xiaozhi.providers.contracts.voiceprint import HeardVoice, Voiceprint
from xiaozhi.runtime.logs import get_logger
from xiaozhi.runtime.tasks import Tasks
from xiaozhi.session.listening.utterance import Utterance
from xiaozhi.speech.voice_likeness import VoiceSample

log = get_logger(__name__)

MIN_VOICED_MS: Final = 400
"""Nobody is known by less."""
MAX_RECENT: Final = 8


class AskedVoice:
    """Who spoke one utterance, once that is known."""

    def __init__(self, asking: Greenlet | None = None, wait_seconds: float = 0.0) -> None:
        """Without `asking`, nobody is asked."""
        self._asking = asking
        self._wait_seconds = wait_seconds

    def name(self, language: str) -> str:
        """Who spoke, in words for the model; "" when nothing is known. Waits at most `wait_seconds`."""
        if self._asking is None:
            return ""
        gevent.joinall([self._asking], timeout=self._wait_seconds)
        if not self._asking.dead:
            log.info("speaker not identified in time", wait_ms=round(self._wait_seconds * 1000))
            return ""
        heard = self._heard
        if heard is None or not heard.comparable:
            return ""
        if heard.speaker is None:
            return UNKNOWN_SPEAKER["zh" if language.startswith(("zh", "yue")) else ""]
        return heard.speaker.name

    @property
    def sample(self) -> VoiceSample | None:
        """What the voice can be remembered by, as far as it is known by now."""
        return self._heard.sample if self._heard is not None else None

    @property
    def _heard(self) -> HeardVoice | None:
        value = self._asking.value if self._asking is not None else None
        return value if isinstance(value, HeardVoice) else None


NOBODY_ASKED: Final = AskedVoice()


class Voices:
    """See the module. `wait_seconds`: how much longer than for the text an answer waits for the name. `owner`: gives
    the name under which the user of the device is remembered."""

    def __init__(self, voiceprint: Voiceprint, wait_seconds: float, owner: Callable[[], str]) -> None:
        self.recent: deque[VoiceSample] = deque(maxlen=MAX_RECENT)
        """What the last voices of this session can be remembered by, the latest last."""
        self._voiceprint = voiceprint
        self._wait_seconds = wait_seconds
        self._owner = owner
        self._last = ""

    @contextmanager
    def listening(self, utterance: Utterance) -> Iterator[AskedVoice]:
        """Ask who spoke, while the block does something else; what is not wanted any more is broken off."""
        if utterance.voiced_ms < MIN_VOICED_MS:
            yield NOBODY_ASKED
            return
        group = Tasks()
        asking = group.spawn("voiceprint", self._identify, utterance.pcm)
        try:
            yield AskedVoice(asking, self._wait_seconds)
        finally:
            group.kill(timeout=0)

    def told(self, text: str, name: str) -> str:
        """What the model reads as the user's message."""
        if not name or name == self._last:
            return text
        return orjson.dumps({"speaker": name, "content": text}).decode()

    def spoke(self, name: str) -> None:
        """What was told has become part of the dialogue."""
        self._last = name or self._last

    def _identify(self, pcm: bytes) -> HeardVoice | None:
        """None when nothing is known."""
        try:
            heard = self._voiceprint.identify(pcm, self._owner())
        except (VendorError, Overloaded, ConnectionClosed) as error:
            log.warning("speaker not identified", error=str(error)[:200])
            return None
        if heard.sample is not None:
            self.recent.append(heard.sample)
        return heard
