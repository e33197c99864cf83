"""A session between fakes: what it is given, and a device that talks to it without a socket."""

from __future__ import annotations

import datetime
import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import gevent
from gevent.event import Event

from tests.fakes.inference import InlineInference
from tests.fakes.providers import provider_set
from tests.fakes.sender import RecordingSender
from tests.fakes.sound import silence, tone
from tests.fakes.voice import FakeTts
from xiaozhi.audio.clips import Clips
from xiaozhi.audio.decode import decode_file
from xiaozhi.chat import Message
from xiaozhi.devices.dialogues import ResumeStore
from xiaozhi.history.entries import EndedSession, HistoryEntry, KeptSound
from xiaozhi.protocol import messages as wire
from xiaozhi.runtime.tasks import Tasks
from xiaozhi.session.agent import Agent
from xiaozhi.session.link import Identity
from xiaozhi.session.services import SessionServices
from xiaozhi.session.session import Session
from xiaozhi.session.speaking.encoder import VoiceFormat
from xiaozhi.session.speaking.phrases import Phrases
from xiaozhi.session.speaking.speech_cache import SpeechCache
from xiaozhi.session.turn_record import TurnRecord
from xiaozhi.session.turns.context import LiveContext
from xiaozhi.session.turns.prompt import Prompter
from xiaozhi.settings import Settings
from xiaozhi.settings.loading import CONFIG_DIR
from xiaozhi.speech.line_quality import LineCounters
from xiaozhi.tools.base import Action, FixedTools, Tool
from xiaozhi.tools.device_mcp import Vision

FRAME_MS = 60
MS_PER_CHAR = 4
"""Speech that is soon over."""
DEVICE = "02:00:00:00:00:01"


class ShiftedClock:
    """time.monotonic, but for the jumps that a test makes: what is paced goes on at its pace."""

    def __init__(self) -> None:
        self._shift = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self._shift

    def advance(self, seconds: float) -> float:
        """Let `seconds` pass at once; returns the new time."""
        self._shift += seconds
        return self()


class FakeLink:
    """A `Link` whose other end is a `RecordingSender`."""

    def __init__(self, identity: Identity, sender: RecordingSender | None = None) -> None:
        self.identity = identity
        self.line: LineCounters | None = None
        self.sender = sender or RecordingSender()
        self.send_text = self.sender.send_text
        self.send_binary = self.sender.send_binary
        self.close = self.sender.close


class FakeTelemetry:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.turns: list[tuple[str, TurnRecord]] = []
        self.in_vain = 0
        self.frames: list[float] = []
        self.drops: list[str] = []
        self.tool_calls: list[tuple[str, Action]] = []

    def turn_ended(self, device_id: str, record: TurnRecord) -> None:
        self.turns.append((device_id, record))

    def prepared_in_vain(self) -> None:
        self.in_vain += 1

    def frame_sent(self, late_s: float) -> None:
        self.frames.append(late_s)

    def tool_called(self, source: str, seconds: float, action: Action) -> None:
        self.tool_calls.append((source, action))

    def dropped(self, queue: str) -> None:
        self.drops.append(queue)

    @property
    def outcomes(self) -> list[str]:
        """Of the turns that ended, in order."""
        return [record.outcome.value for _, record in self.turns]


class FakeMemories:
    """Keeps what is handed in: (memory, device, messages, session). `settled` is clear while something is left to be
    saved."""

    def __init__(self) -> None:
        self.saved: list[tuple[Any, str, tuple[Message, ...], str]] = []
        self.noted: list[tuple[Any, str, tuple[Message, ...], str]] = []
        self.settled = Event()
        self.settled.set()
        self.asked: list[Any] = []
        """Memories for which somebody waited."""

    def settle(self, memory: Any, seconds: float) -> bool:
        self.asked.append(memory)
        return bool(self.settled.wait(seconds))

    def note(self, memory: Any, device_id: str, messages: Sequence[Message], session_id: str) -> None:
        self.noted.append((memory, device_id, tuple(messages), session_id))

    def save(self, memory: Any, device_id: str, messages: Sequence[Message], session_id: str) -> None:
        self.saved.append((memory, device_id, tuple(messages), session_id))


class FakeQuota:
    """`allowance` characters; None: no limit. `error` is raised when own limits are asked for."""

    def __init__(self, allowance: int | None = None) -> None:
        self.allowance = allowance
        self.spent: list[tuple[str, int]] = []
        self.own_limits = False
        self.error: Exception | None = None

    def allow_own_limits(self) -> None:
        if self.error is not None:
            raise self.error
        self.own_limits = True

    def left(self, device: str, limit: int | None = None) -> int | None:
        return self.allowance if limit is None else limit - sum(spent for _, spent in self.spent)

    def spend(self, device: str, characters: int) -> None:
        self.spent.append((device, characters))


class NotedPhrases(Phrases):
    """Keeps the formats for which phrases were to be prepared."""

    def __init__(self, tts: Any) -> None:
        cache = SpeechCache(1_000_000)
        super().__init__(tts, texts=(), correct_words=(), replies=cache, inference=InlineInference())  # type: ignore[arg-type]
        self.prepared: list[VoiceFormat] = []

    def prepare(self, voice: VoiceFormat) -> None:
        self.prepared.append(voice)


class NotedContext(LiveContext):
    """Keeps the devices whose data was to be fetched."""

    def __init__(self) -> None:
        super().__init__(())
        self.fetched: list[str] = []

    def prefetch(self, identity: Identity) -> None:
        self.fetched.append(identity.device_id)


_template = Prompter(
    base_prompt="", template_dir=CONFIG_DIR / "prompts", template_name="agent-base-prompt.txt", zone=datetime.UTC
)


def make_prompter(prompt: str = "You are a test.", context: LiveContext | None = None, **options: Any) -> Prompter:
    """A prompter whose template was compiled before."""
    return Prompter(
        base_prompt=prompt,
        template_dir=CONFIG_DIR / "prompts",
        template_name="agent-base-prompt.txt",
        zone=datetime.UTC,
        context=context,
        like=_template,
        **options,
    )


def make_agent(settings: Mapping[str, Any] | None = None, *, tools: Sequence[Tool] = (), **parts: Any) -> Agent:
    """An agent of fakes. `settings` as in the file; `parts` are fields of Agent, or providers."""
    fields = {"prompter", "phrases", "answers", "on_unused", "close", "output_limit", "shared_tools"}
    voice = {"tts": FakeTts(ms_per_char=MS_PER_CHAR)}
    providers = provider_set(**voice | {kind: part for kind, part in parts.items() if kind not in fields})
    given = {name: part for name, part in parts.items() if name in fields}
    given.setdefault("prompter", make_prompter(context=NotedContext()))
    given.setdefault("phrases", NotedPhrases(providers.tts))
    return Agent(
        settings=Settings.model_validate(dict(settings or {})),
        providers=providers,
        plugins=FixedTools("plugins", tools),
        **given,
    )


class FakeAgents:
    """An `AgentSource`: `default_agent`, and for devices of `own` (lower case) what stands there: an agent, an error,
    or a function that gives an agent."""

    def __init__(self, default: Agent | None = None) -> None:
        self.default_agent = default or make_agent()
        self.own: dict[str, Agent | Exception | Callable[[], Agent]] = {}
        self.asked: list[tuple[Identity, wire.Hello | None]] = []

    def default(self) -> Agent:
        return self.default_agent.hold()

    def has_own(self, identity: Identity) -> bool:
        return identity.device_id in self.own

    def resolve(self, identity: Identity, hello: wire.Hello | None) -> Agent:
        self.asked.append((identity, hello))
        found = self.own[identity.device_id]
        if isinstance(found, Exception):
            raise found
        return found.hold() if isinstance(found, Agent) else found()


class FakeHistory:
    """A `HistoryKeeper` that remembers."""

    def __init__(self) -> None:
        self.entries: list[HistoryEntry] = []
        self.sounds: list[bytes | KeptSound] = []
        self.voices: list[Sequence[KeptSound]] = []
        self.ended: list[EndedSession] = []

    def append(self, entry: HistoryEntry, sound: bytes | KeptSound = b"", voices: Sequence[KeptSound] = ()) -> None:
        self.entries.append(entry)
        self.sounds.append(sound)
        self.voices.append(voices)

    def end(self, ended: EndedSession) -> None:
        self.ended.append(ended)


def make_services(**chosen: Any) -> SessionServices:
    """Services of fakes; `make_services(quota=FakeQuota(0))` replaces one."""
    services: dict[str, Any] = {
        "inference": InlineInference(),
        "speech_cache": SpeechCache(1_000_000),
        "clips": Clips(decode_file),
        "resume": ResumeStore(),
        "memories": FakeMemories(),
        "quota": FakeQuota(),
        "history": FakeHistory(),
        "lasting": Tasks(),
        "telemetry": FakeTelemetry(),
        "vision": lambda identity: Vision(url="http://127.0.0.1/vision", token="token"),
        "admit_turn": lambda: None,
        "server_command": lambda command, ip: [wire.ServerReply("success", f"done for {ip}", command.action)],
    }
    return SessionServices(**{**services, **chosen})


class Visitor:
    """A device and its session. `sender` has what the session sent."""

    def __init__(
        self,
        agents: FakeAgents | None = None,
        services: SessionServices | None = None,
        *,
        identity: Identity | None = None,
        agent_seconds: float = 5.0,
    ) -> None:
        self.clock = ShiftedClock()
        self.sender = RecordingSender(self.clock)
        self.agents = agents or FakeAgents()
        self.services: Any = services or make_services()
        self.identity = identity or Identity(DEVICE, "client", "192.0.2.1")
        link = FakeLink(self.identity, self.sender)
        self.session = Session(link, self.services, self.agents, agent_seconds=agent_seconds, clock=self.clock)

    @property
    def agent(self) -> Any:
        """The default agent."""
        return self.agents.default_agent

    def tell(self, kind: str, **fields: Any) -> None:
        """Send a message."""
        self.session.on_text(json.dumps({"type": kind, **fields}))

    def hello(self, **fields: Any) -> dict[str, Any]:
        """Say hello as a device that sends PCM; the answer."""
        known = len(self.messages("hello"))
        self.tell("hello", **{"version": 1, "audio_params": {"format": "pcm", "sample_rate": 16_000}, **fields})
        self.wait(lambda: len(self.messages("hello")) > known)
        return self.messages("hello")[-1]

    def detect(self, text: str) -> None:
        """Type a text, or report a wake word."""
        self.tell("listen", state="detect", text=text)

    def say(self, ms: int, silence_ms: int = 1_200) -> None:
        """So much voice, then so much silence, as fast as it goes."""
        pcm = tone(ms) + silence(silence_ms)
        step = 32 * FRAME_MS
        for at in range(0, len(pcm), step):
            self.session.on_binary(pcm[at : at + step])

    def messages(self, kind: str = "") -> list[dict[str, Any]]:
        """What was sent, of one type or all."""
        return [message for message in self.sender.messages if kind in ("", message["type"])]

    def spoken(self) -> list[str]:
        """Texts of the sentences so far."""
        return [message["text"] for message in self.messages("tts") if message["state"] == "sentence_start"]

    def stops(self) -> int:
        """How often it was told that the answer is over."""
        return sum(message["state"] == "stop" for message in self.messages("tts"))

    def wait(self, condition: Callable[[], Any], seconds: float = 10.0) -> None:
        """Until it holds."""
        self.sender.wait_for(lambda _: condition(), seconds)

    def wait_stops(self, count: int = 1) -> None:
        """Until that many answers are over."""
        self.wait(lambda: self.stops() >= count)

    def wait_turns(self, count: int = 1) -> None:
        """Until that many turns have ended."""
        self.wait(lambda: len(self.services.telemetry.turns) >= count)

    def close(self) -> None:
        """The link is gone."""
        self.sender.release()
        self.session.closed("1000")


@contextmanager
def visitor(*arguments: Any, **options: Any) -> Any:
    """A visitor that leaves in the end."""
    visiting = Visitor(*arguments, **options)
    try:
        yield visiting
    finally:
        visiting.close()
        visiting.services.lasting.kill()
        gevent.sleep(0)
