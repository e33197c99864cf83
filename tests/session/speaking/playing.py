"""A playback with a scripted voice and an outbox that notes what it is given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gevent.event import Event

from tests.fakes.clock import FakeClock
from tests.fakes.inference import InlineInference
from tests.session.speaking.speech import (
    RATE,
    RecordingOutbox,
    Streamer,
)
from xiaozhi.audio.clips import Clips
from xiaozhi.audio.decode import decode_file
from xiaozhi.chat import CallContext
from xiaozhi.providers.contracts.tts import Tts
from xiaozhi.runtime.tasks import Tasks
from xiaozhi.session.speaking.encoder import VoiceFormat
from xiaozhi.session.speaking.playback import Playback
from xiaozhi.session.speaking.speech_cache import SpeechCache
from xiaozhi.session.speaking.voice import DeviceVoice, speech_key
from xiaozhi.session.turn_record import Timeline
from xiaozhi.speech.sentences import Sentence

STALL_S = 10.0


PCM = VoiceFormat("pcm", RATE, 60)


class Rig:
    """A playback and everything around it. `released=False`: the turn is prepared, and may not be heard yet."""

    def __init__(
        self,
        tts: Tts | None = None,
        *,
        form: VoiceFormat = PCM,
        released: bool = True,
        emotes: bool = True,
        stall: float = STALL_S,
        cache: SpeechCache | None = None,
    ) -> None:
        self.clock = FakeClock()
        self.outbox = RecordingOutbox()
        self.inference = InlineInference()
        self.cache = cache if cache is not None else SpeechCache(1 << 20)
        self.tts = tts if tts is not None else Streamer(self.clock)
        self.tasks = Tasks()
        self.audible = Event()
        if released:
            self.audible.set()
        self.timeline = Timeline()
        self.heard: list[str] = []
        self.on_heard: Callable[[str], None] = self.heard.append
        self.playback = Playback(
            DeviceVoice(
                outbox=self.outbox,  # type: ignore[arg-type]
                inference=self.inference,  # type: ignore[arg-type]
                replies=self.cache,
                clips=Clips(decode_file),
                voice=form,
            ),
            turn_id=1,
            tts=self.tts,
            context=CallContext(),
            audible=self.audible,
            tasks=self.tasks,
            timeline=self.timeline,
            on_heard=lambda text: self.on_heard(text),
            stall_seconds=stall,
            emotes=emotes,
            clock=self.clock,
        )

    @property
    def stream(self) -> Any:
        """The script of a streaming voice."""
        assert isinstance(self.tts, Streamer)
        return self.tts.stream

    def say(self, *texts: str) -> None:
        for text in texts:
            self.playback.say(Sentence(text, f"{text} spoken"))

    def key(self, text: str) -> Any:
        return speech_key(self.tts, PCM, f"{text} spoken")

    def known(self, text: str, frame: bytes) -> None:
        """The speech cache has the sound of `text`."""
        self.cache.put(self.key(text), (frame,))
