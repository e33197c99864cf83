"""What a device says: every JSON message it sends, as a frozen dataclass, and the one parser of them.

Not what is done about it (`session/`). Wire facts: the public firmware 78/xiaozhi-esp32 (`protocols/protocol.cc`),
and the browsers and bridges that speak like it. Rooms above import these names from `messages.py`.

A message is read for what it needs: its type, and of `listen` the state, of `mcp` the payload, of `server` the action.
Every other field takes its default when it is absent or odd (`fields.py`).

Two ways for a text to be no message. `ProtocolError`: it is JSON, but not a message that can be understood; count it
and go on. `Bare`: it is no JSON at all, or just an integer; the existing server sends such text back as it came, and
connection checkers rely on that."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, StrEnum
from typing import ClassVar, Final

from xiaozhi.errors import ProtocolError
from xiaozhi.protocol import fields
from xiaozhi.protocol.jsontext import NotJson, parse

MAX_BARE_CHARS: Final = 4096
"""Longer text that is no JSON is a ProtocolError: an echo must not become a way to make the server send."""
MAX_TYPE_CHARS: Final = 64
"""Of a type nobody knows, of the reason of an abort and of the action of a command, which stand in logs; of what a
hello calls its transport and of a session id, which are kept."""
MAX_SPOKEN_CHARS: Final = 8_000
"""Of typed text: ten minutes of speech. What makes text speakable takes longer than in proportion to its length."""
MAX_HELLO_CHARS: Final = 16_384
"""A hello is kept as long as the visit lasts; real ones have 300 characters. Of a longer one only the fields that this
server knows are kept."""
DEVICE_SAMPLE_RATE: Final = 16_000
"""Hz, what the firmware records with."""
DEVICE_FRAME_MS: Final = 60


class ListenState(Enum):
    """What a `listen` message says about the microphone."""

    START = "start"
    STOP = "stop"
    DETECT = "detect"


class ListenMode(Enum):
    """Who decides where an utterance ends: the voice detector, the button, or the voice detector while the server may
    be speaking."""

    AUTO = "auto"
    MANUAL = "manual"
    REALTIME = "realtime"


class AudioFormat(StrEnum):
    """What binary frames carry. `pcm` is s16le mono."""

    OPUS = "opus"
    PCM = "pcm"


@dataclass(frozen=True, slots=True)
class AudioParams:
    """How one side encodes sound. `sample_rate` in Hz, `frame_duration` in ms."""

    format: str = AudioFormat.OPUS.value
    sample_rate: int = DEVICE_SAMPLE_RATE
    channels: int = 1
    frame_duration: int = DEVICE_FRAME_MS

    def body(self) -> dict[str, object]:
        """As JSON."""
        return {
            "format": self.format,
            "sample_rate": self.sample_rate,
            "channels": self.channels,
            "frame_duration": self.frame_duration,
        }

    @classmethod
    def read(cls, body: Mapping[str, object]) -> AudioParams:
        """From JSON; fields that are left out or odd get the defaults of the firmware."""
        kind = fields.choice(body, "format", AudioFormat) or AudioFormat.OPUS
        return cls(
            kind.value,
            fields.integer(body, "sample_rate", 8_000, 48_000) or DEVICE_SAMPLE_RATE,
            fields.integer(body, "channels", 1, 2) or 1,
            fields.integer(body, "frame_duration", 1, 120) or DEVICE_FRAME_MS,
        )


@dataclass(frozen=True, slots=True)
class Features:
    """What a device can do, as far as this server cares; `raw` is everything it said about it."""

    mcp: bool = False
    aec: bool = False
    """The server is to cancel the echo: its microphone stays open while it plays."""
    emoji: bool = True
    """False: no emoji in texts and no `llm` message."""
    glyph_push: bool = False
    raw: Mapping[str, object] = field(default_factory=dict, hash=False)

    @classmethod
    def read(cls, body: Mapping[str, object]) -> Features:
        """From JSON. Any value counts by its truth, as variants send 1, "on" or an object; null is as good as
        absent."""
        emoji = body.get("emoji")
        return cls(
            mcp=bool(body.get("mcp")),
            aec=bool(body.get("aec")),
            emoji=emoji is None or bool(emoji),
            glyph_push=bool(body.get("glyph_push")),
            raw=body,
        )


@dataclass(frozen=True, slots=True)
class Hello:
    """The first message. Its `version` is not read: clients exist that write any number there, and every one of them
    frames its sound as the upgrade's header `Protocol-Version` says."""

    type: ClassVar[str] = "hello"
    transport: str = "websocket"
    features: Features = Features()
    audio: AudioParams = AudioParams()
    session_id: str = ""
    text_font: Mapping[str, object] = field(default_factory=dict, hash=False)

    def body(self) -> dict[str, object]:
        """As JSON, without the session id."""
        body: dict[str, object] = {"type": self.type, "transport": self.transport, "features": dict(self.features.raw)}
        if self.text_font:
            body["text_font"] = dict(self.text_font)
        return body | {"audio_params": self.audio.body()}


@dataclass(frozen=True, slots=True)
class Listen:
    """The microphone opens, closes, or has heard a wake word. `mode` None: as before."""

    type: ClassVar[str] = "listen"
    state: ListenState
    mode: ListenMode | None = None
    text: str = ""
    """With DETECT: the wake word, typed text, or a call."""
    session_id: str = ""

    def body(self) -> dict[str, object]:
        """As JSON, without the session id."""
        body: dict[str, object] = {"type": self.type, "state": self.state.value}
        if self.mode is not None:
            body["mode"] = self.mode.value
        if self.text:
            body["text"] = self.text
        return body


@dataclass(frozen=True, slots=True)
class Abort:
    """Stop speaking now."""

    type: ClassVar[str] = "abort"
    reason: str = ""
    session_id: str = ""

    def body(self) -> dict[str, object]:
        """As JSON, without the session id."""
        body: dict[str, object] = {"type": self.type}
        return body | {"reason": self.reason} if self.reason else body


@dataclass(frozen=True, slots=True)
class Mcp:
    """A JSON-RPC 2.0 message of the device's tools, either way."""

    type: ClassVar[str] = "mcp"
    payload: dict[str, object] = field(hash=False)
    session_id: str = ""

    def body(self) -> dict[str, object]:
        """As JSON, without the session id."""
        return {"type": self.type, "payload": self.payload}


@dataclass(frozen=True, slots=True)
class Iot:
    """Things of older firmware: what they are, and how they are."""

    type: ClassVar[str] = "iot"
    descriptors: tuple[dict[str, object], ...] = field(default=(), hash=False)
    states: tuple[dict[str, object], ...] = field(default=(), hash=False)
    session_id: str = ""

    def body(self) -> dict[str, object]:
        """As JSON, without the session id."""
        body: dict[str, object] = {"type": self.type}
        if self.descriptors:
            body["descriptors"] = list(self.descriptors)
        if self.states:
            body["states"] = list(self.states)
        return body


@dataclass(frozen=True, slots=True)
class Ping:
    """Still there? Answered with Pong."""

    type: ClassVar[str] = "ping"
    session_id: str = ""

    def body(self) -> dict[str, object]:
        """As JSON, without the session id."""
        return {"type": self.type}


@dataclass(frozen=True, slots=True)
class Goodbye:
    """The session is over, either way."""

    type: ClassVar[str] = "goodbye"
    session_id: str = ""

    def body(self) -> dict[str, object]:
        """As JSON, without the session id."""
        return {"type": self.type}


@dataclass(frozen=True, slots=True)
class ServerCommand:
    """An order of the management API. `secret` is what it claims to know (compare in constant time); `content` is
    without it."""

    type: ClassVar[str] = "server"
    action: str
    secret: str = field(default="", repr=False)
    content: Mapping[str, object] = field(default_factory=dict, hash=False)
    session_id: str = ""

    def body(self) -> dict[str, object]:
        """As JSON, without the session id."""
        content = dict(self.content) | ({"secret": self.secret} if self.secret else {})
        return {"type": self.type, "action": self.action, "content": content}


@dataclass(frozen=True, slots=True)
class Unknown:
    """A message of a type this server has never heard of; newer firmware may send such."""

    type: str


@dataclass(frozen=True, slots=True)
class Bare:
    """Text that is no message at all: no JSON, or just an integer. To be sent back as it came."""

    text: str


DeviceMessage = Hello | Listen | Abort | Mcp | Iot | Ping | Goodbye | ServerCommand | Unknown | Bare


def parse_device(text: str) -> DeviceMessage:
    """The message in a text from a device. Raises ProtocolError, never anything else."""
    try:
        body = parse(text)
    except NotJson:
        return _bare(text)
    if isinstance(body, int) and not isinstance(body, bool):
        return _bare(text)
    kind, body = message_type(body)
    read = _READERS.get(kind)
    if read is None:
        return Unknown(kind[:MAX_TYPE_CHARS])
    message = read(body)
    if isinstance(message, Hello) and len(text) > MAX_HELLO_CHARS:
        return replace(message, features=replace(message.features, raw={}), text_font={})
    return message


def message_type(body: object) -> tuple[str, dict[str, object]]:
    """(type, body) of a parsed message. Raises ProtocolError when it is no object, or has no type."""
    if not isinstance(body, dict):
        raise ProtocolError("message is not an object")
    kind = fields.text(body, "type").strip().lower()
    if not kind:
        raise ProtocolError("message has no type")
    return kind, body


def _bare(text: str) -> Bare:
    if len(text) > MAX_BARE_CHARS:
        raise ProtocolError("long text that is not JSON")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ProtocolError("text is not Unicode") from error
    return Bare(text)


def _session(body: Mapping[str, object]) -> str:
    return fields.text(body, "session_id")[:MAX_TYPE_CHARS]


def _hello(body: dict[str, object]) -> Hello:
    return Hello(
        fields.text(body, "transport", "websocket")[:MAX_TYPE_CHARS],
        Features.read(fields.mapping(body, "features")),
        AudioParams.read(fields.mapping(body, "audio_params")),
        _session(body),
        fields.mapping(body, "text_font"),
    )


def _listen(body: dict[str, object]) -> Listen:
    state = fields.required(fields.choice(body, "state", ListenState), "state")
    said = fields.text(body, "text", longest=MAX_SPOKEN_CHARS) if state is ListenState.DETECT else ""
    return Listen(state, fields.choice(body, "mode", ListenMode), said, _session(body))


def _abort(body: dict[str, object]) -> Abort:
    # Cut, not refused: whatever it is called, it must be obeyed.
    return Abort(fields.text(body, "reason")[:MAX_TYPE_CHARS], _session(body))


def read_mcp(body: dict[str, object]) -> Mcp:
    """Shared with the other direction."""
    payload = fields.mapping(body, "payload")
    if not payload:
        raise ProtocolError("payload is missing")
    return Mcp(payload, _session(body))


def _iot(body: dict[str, object]) -> Iot:
    return Iot(fields.objects(body, "descriptors"), fields.objects(body, "states"), _session(body))


def _ping(body: dict[str, object]) -> Ping:
    return Ping(_session(body))


def read_goodbye(body: dict[str, object]) -> Goodbye:
    """Shared with the other direction."""
    return Goodbye(_session(body))


def _server_command(body: dict[str, object]) -> ServerCommand:
    content = dict(fields.mapping(body, "content"))
    secret = fields.text(content, "secret")
    content.pop("secret", None)
    action = fields.text(body, "action", longest=MAX_TYPE_CHARS)
    if not action:
        raise ProtocolError("action is missing")
    return ServerCommand(action, secret, content, _session(body))


_READERS: Final[Mapping[str, Callable[[dict[str, object]], DeviceMessage]]] = {
    Hello.type: _hello,
    Listen.type: _listen,
    Abort.type: _abort,
    Mcp.type: read_mcp,
    Iot.type: _iot,
    Ping.type: _ping,
    Goodbye.type: read_goodbye,
    ServerCommand.type: _server_command,
}
