"""Who is speaking: asks a voiceprint service beside the recogniser, and tells the language model when the speaker
changes.

The name stands in the user's message, `{"speaker": "Li", "content": "hello"}`, as models that were made for the
existing server know it, and only where it is news: while one person speaks, it would be noise. A service that fails or
is late costs nothing but the name. One object per session."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import gevent
import orjson
from gevent import Greenlet

from xiaozhi.errors import ConnectionClosed, Overloaded, VendorError
from xiaozhi.providers.contracts.voiceprint import Voiceprint
from xiaozhi.runtime.logs import get_logger
from xiaozhi.runtime.tasks import Tasks
from xiaozhi.session.listening.utterance import Utterance

log = get_logger(__name__)

MIN_VOICED_MS: Final = 400
"""Nobody is known by less."""
_UNKNOWN: Final = {"zh": "未知说话人", "": "unknown speaker"}

Name = Callable[[str], str]
"""language -> who spoke, in words for the model; "" when that is not known. Waits at most `wait_seconds`."""


class Voices:
    """See the module. `wait_seconds`: how much longer than for the text an answer waits for the name."""

    def __init__(self, voiceprint: Voiceprint, wait_seconds: float) -> None:
        self._voiceprint = voiceprint
        self._wait_seconds = wait_seconds
        self._last = ""

    @contextmanager
    def listening(self, utterance: Utterance) -> Iterator[Name]:
        """Ask who spoke, while the block does something else; what is not wanted any more is broken off."""
        if utterance.voiced_ms < MIN_VOICED_MS:
            yield lambda language: ""
            return
        group = Tasks()
        asking = group.spawn("voiceprint", self._identify, utterance.pcm)
        try:
            yield lambda language: self._name(asking, language)
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

    def _identify(self, pcm: bytes) -> str | None:
        """The name, "" for somebody who is not known, None when nothing is known."""
        try:
            speaker = self._voiceprint.identify(pcm)
        except (VendorError, Overloaded, ConnectionClosed) as error:
            log.warning("speaker not identified", error=str(error)[:200])
            return None
        return speaker.name if speaker is not None else ""

    def _name(self, asking: Greenlet, language: str) -> str:
        gevent.joinall([asking], timeout=self._wait_seconds)
        if not asking.dead:
            log.info("speaker not identified in time", wait_ms=round(self._wait_seconds * 1000))
            return ""
        name = asking.value
        if not isinstance(name, str):
            return ""
        return name or _UNKNOWN["zh" if language.startswith(("zh", "yue")) else ""]
