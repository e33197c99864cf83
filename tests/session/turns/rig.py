"""A turn with everything around it: a real outbox, playback and phrases, a socket that records, and a pipeline that is
a function of the test.

Frames are of 20 ms and sentences of about one frame, so a whole answer takes a moment of real time; the turn's own
clock is the test's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gevent

from tests.fakes.clock import FakeClock
from tests.fakes.inference import InlineInference
from tests.fakes.sender import RecordingSender
from tests.fakes.voice import FakeTts
from tests.waiting import PATIENCE_S
from xiaozhi.audio.clips import Clips
from xiaozhi.audio.decode import decode_file
from xiaozhi.chat import CallContext
from xiaozhi.protocol.frames import codec_for
from xiaozhi.providers.contracts.tts import Tts
from xiaozhi.runtime.tasks import Tasks
from xiaozhi.session.listening.utterance import Ending
from xiaozhi.session.speaking.encoder import VoiceFormat
from xiaozhi.session.speaking.outbox import Outbox
from xiaozhi.session.speaking.phrases import Phrases
from xiaozhi.session.speaking.speech_cache import SpeechCache
from xiaozhi.session.speaking.voice import DeviceVoice
from xiaozhi.session.turn_record import Outcome, TurnOptions, TurnRecord
from xiaozhi.session.turns.opening import Opening
from xiaozhi.session.turns.pipeline import OutputLimit, TurnControl
from xiaozhi.session.turns.spoken_text import SpokenText
from xiaozhi.session.turns.turn import Turn, TurnHooks

APOLOGY = "Sorry."


class FakeUtterance:
    """What the user said: `transcribe` gives `text`, or raises it."""

    def __init__(self, text: str | Exception = "hello", *, voiced_ms: float = 1_000.0, pcm: bytes = b"") -> None:
        self.text = text
        self.voiced_ms = voiced_ms
        self.pcm = pcm
        self.trace = "trace-of-the-utterance"
        self.ended_at = 990.0
        self.ending: Ending | None = None
        self.closed = False

    def transcribe(self) -> Any:
        if isinstance(self.text, Exception):
            raise self.text
        return FakeTranscript(self.text)

    def close(self) -> None:
        self.closed = True


class FakeTranscript:
    def __init__(self, text: str) -> None:
        self.text = text


def spoken(utterance: FakeUtterance) -> Opening:
    """The opening by an utterance."""
    return Opening(utterance=utterance)  # type: ignore[arg-type]


class ScriptedPipeline:
    """`work` is its `run`; without it, `words` are said with the voice of the rig."""

    def __init__(
        self, voice: Tts, words: str = "", work: Callable[[TurnControl], Outcome | None] | None = None
    ) -> None:
        self.voice = voice
        self.words = words
        self.work = work
        self.runs = 0
        self.greenlet: Any = None

    def run(self, turn: TurnControl) -> Outcome:
        self.runs += 1
        self.greenlet = gevent.getcurrent()
        if self.work is not None:
            return self.work(turn) or Outcome.ANSWERED
        say(turn, self.voice, self.words)
        return Outcome.ANSWERED


def say(turn: TurnControl, voice: Tts, words: str) -> None:
    """Ask the opening's text, and answer with `words`."""
    playback = turn.open_playback(voice)
    turn.exchange.asked(turn.opening.text)
    text = SpokenText(playback, turn.timeline, turn.options.correct_words, turn.clock)
    text.write(words)
    text.end()
    turn.exchange.answered(words)


class Told:
    """Records what the turn asks and tells its session; answers as it is set."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.records: list[TurnRecord] = []
        self.limit: OutputLimit | Exception | None = None
        self.takes_text = True
        self.quiet: Callable[[], None] = lambda: None
        self.on_end: Callable[[], None] = lambda: None

    def hooks(self) -> TurnHooks:
        return TurnHooks(
            output_limit=self._output_limit,
            on_text=self._on_text,
            await_quiet=lambda: self.quiet(),
            on_open=lambda: self.calls.append("open"),
            on_end=self._on_end,
            on_discard=lambda: self.calls.append("discard"),
        )

    def _output_limit(self, language: str) -> OutputLimit | None:
        if isinstance(self.limit, Exception):
            raise self.limit
        return self.limit

    def _on_text(self, text: str) -> bool:
        self.calls.append(f"text {text}")
        return self.takes_text

    def _on_end(self, turn: Turn, record: TurnRecord) -> None:
        assert turn.record is record
        self.calls.append(f"end {record.outcome}")
        self.records.append(record)
        self.on_end()


class TurnRig:
    """See the module. `emergency`: the voice that needs no network."""

    def __init__(self, *, emergency: Tts | None = None, **options: Any) -> None:
        self.clock = FakeClock()
        self.sender = RecordingSender()
        self.tasks = Tasks()
        self.told = Told()
        self.options = TurnOptions(**{"apology": {"": APOLOGY}, "tts_stall": 5.0, **options})
        self.tts = FakeTts(ms_per_char=1)
        self.outbox = Outbox(
            send_text=self.sender.send_text,
            send_binary=self.sender.send_binary,
            codec=codec_for(1, False),
            session_id="s",
            frame_ms=20,
            tasks=self.tasks,
            on_overflow=lambda reason: None,
            linger_s=0.02,
        )
        self.inference = InlineInference()
        inference: Any = self.inference
        cache = SpeechCache(1_000_000)
        self.phrases = Phrases(
            self.tts, texts=(), correct_words=(), replies=cache, inference=inference, emergency=lambda: emergency
        )
        self.voice = DeviceVoice(
            outbox=self.outbox,
            inference=inference,
            replies=cache,
            clips=Clips(decode_file),
            voice=VoiceFormat(frame_ms=20),
        )
        self.turns: list[Turn] = []

    def turn(
        self,
        opening: Opening | None = None,
        *,
        words: str = "",
        work: Callable[[TurnControl], Outcome | None] | None = None,
        pipeline: Any = None,
        **options: Any,
    ) -> Turn:
        """A turn that has not started."""
        turn = Turn(
            len(self.turns) + 1,
            opening if opening is not None else Opening(text="what is up"),
            pipeline=pipeline or ScriptedPipeline(self.tts, words, work),
            context=CallContext(device_id="d", session_id="s", turn_id=len(self.turns) + 1),
            options=self.options,
            phrases=self.phrases,
            speaker=self.voice,
            outbox=self.outbox,
            hooks=self.told.hooks(),
            clock=self.clock,
            **options,
        )
        self.turns.append(turn)
        return turn

    def run(self, opening: Opening | None = None, **options: Any) -> TurnRecord:
        """Play a turn to its end."""
        turn = self.turn(opening, **options)
        turn.start(prepared=False)
        assert turn.wait(PATIENCE_S)
        assert turn.record is not None
        settle()
        return turn.record

    @property
    def sent(self) -> list[str]:
        """What the device was told, without sound: types, states and texts, but not which face to show."""
        return [
            body["type"] if body["type"] == "llm" else " ".join(filter(None, map(body.get, ("type", "state", "text"))))
            for body in self.sender.messages
        ]

    @property
    def sentences(self) -> list[str]:
        """The subtitles that the device was shown."""
        return [body["text"] for body in self.sender.messages if body.get("state") == "sentence_start"]

    @property
    def frames(self) -> int:
        return len(self.sender.binaries)

    def wait_for(self, message: str) -> None:
        """Until the device was told this."""
        self.sender.wait_for(lambda sender: message in self.sent)

    def close(self) -> None:
        for turn in self.turns:
            turn.interrupt("the test is over")
        self.outbox.close()
        self.phrases.close()
        self.inference.calls.clear()  # each knows the object whose work it was, such as an open sound file
        assert self.tasks.kill()


def settle() -> None:
    """Let every ready greenlet have its turn."""
    for _ in range(10):
        gevent.sleep(0)


def rig_factory() -> Iterator[Callable[..., TurnRig]]:
    """Makes rigs and closes them."""
    made: list[TurnRig] = []

    def build(**options: Any) -> TurnRig:
        made.append(TurnRig(**options))
        return made[-1]

    yield build
    for rig in made:
        rig.close()


def fail(error: Exception) -> Callable[[TurnControl], None]:
    """A pipeline that fails at once."""

    def work(turn: TurnControl) -> None:
        raise error

    return work
