"""What the server says: every JSON message to a device, as a frozen dataclass, their one encoder, and the parser a
simulated device needs.

Not when it is said (`session/turn.py` keeps the order the firmware needs). Rooms above import these names from
`messages.py`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import ClassVar, Final, Literal, Protocol

from xiaozhi.errors import ProtocolError
from xiaozhi.protocol import fields
from xiaozhi.protocol.device import (
    MAX_TYPE_CHARS,
    AudioParams,
    Goodbye,
    Mcp,
    Unknown,
    message_type,
    read_goodbye,
    read_mcp,
)
from xiaozhi.protocol.jsontext import parse, render


class TtsPhase(Enum):
    """Where an answer is."""

    START = "start"
    SENTENCE_START = "sentence_start"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class UdpOffer:
    """Where a device that speaks MQTT sends its sound and gets the server's, and what it is encrypted with."""

    server: str
    """Host name or address."""
    port: int
    key: bytes = field(repr=False)
    """16 bytes, AES-128."""
    nonce: bytes = field(repr=False)
    """16 bytes: the head of every packet, with length, timestamp and sequence left at 0."""

    def body(self) -> dict[str, object]:
        """As JSON."""
        return {
            "server": self.server,
            "port": self.port,
            "encryption": "aes-128-ctr",
            "key": self.key.hex(),
            "nonce": self.nonce.hex(),
        }


@dataclass(frozen=True, slots=True)
class HelloReply:
    """The answer to hello. `audio` is what the server really encodes with, never an echo of what the device records
    with. `udp`: for a device whose sound goes by UDP."""

    type: ClassVar[str] = "hello"
    audio: AudioParams
    transport: str = "websocket"
    version: int = 1
    session_id: str = ""
    udp: UdpOffer | None = None

    def body(self) -> dict[str, object]:
        """As JSON, without the session id."""
        body: dict[str, object] = {
            "type": self.type,
            "version": self.version,
            "transport": self.transport,
            "audio_params": self.audio.body(),
        }
        return body if self.udp is None else body | {"udp": self.udp.body()}


@dataclass(frozen=True, slots=True)
class Stt:
    """What the user was understood to say."""

    type: ClassVar[str] = "stt"
    text: str
    session_id: str = ""

    def body(self) -> dict[str, object]:
        """As JSON, without the session id."""
        return {"type": self.type, "text": self.text}


@dataclass(frozen=True, slots=True)
class LlmEmotion:
    """The face to draw: one of the firmware's emotions, and the emoji that shows it."""

    type: ClassVar[str] = "llm"
    emotion: str
    text: str
    session_id: str = ""

    def body(self) -> dict[str, object]:
        """As JSON, without the session id."""
        return {"type": self.type, "emotion": self.emotion, "text": self.text}


@dataclass(frozen=True, slots=True)
class TtsState:
    """An answer begins, comes to its next sentence (with `text`), or has been played to its end. `failure`: why there
    was an apology instead; devices do not look at it, whoever tries the server does."""

    type: ClassVar[str] = "tts"
    state: TtsPhase
    text: str | None = None
    session_id: str = ""
    failure: str = ""

    def body(self) -> dict[str, object]:
        """As JSON, without the session id."""
        body: dict[str, object] = {"type": self.type, "state": self.state.value}
        if self.failure:
            body["failure"] = self.failure
        return body if self.text is None else body | {"text": self.text}


@dataclass(frozen=True, slots=True)
class IotCommands:
    """Orders for things of older firmware: {"name", "method", "parameters"} each."""

    type: ClassVar[str] = "iot"
    commands: tuple[dict[str, object], ...] = field(hash=False)
    session_id: str = ""

    def body(self) -> dict[str, object]:
        """As JSON, without the session id."""
        return {"type": self.type, "commands": list(self.commands)}


@dataclass(frozen=True, slots=True)
class SystemCommand:
    """An order to the firmware itself; it knows "reboot"."""

    type: ClassVar[str] = "system"
    command: str
    session_id: str = ""

    def body(self) -> dict[str, object]:
        """As JSON, without the session id."""
        return {"type": self.type, "command": self.command}


@dataclass(frozen=True, slots=True)
class Alert:
    """A notice on the screen with a sound: title, text, face."""

    type: ClassVar[str] = "alert"
    status: str
    message: str
    emotion: str = "neutral"
    session_id: str = ""

    def body(self) -> dict[str, object]:
        """As JSON, without the session id."""
        return {"type": self.type, "status": self.status, "message": self.message, "emotion": self.emotion}


@dataclass(frozen=True, slots=True)
class Subtitle:
    """A line of a Notify and when it is shown, ms from the start of its sound."""

    start_ms: int
    text: str


@dataclass(frozen=True, slots=True)
class Notify:
    """Newer firmware: fetch a sound and play it. Belongs to no session, and must not carry a session id."""

    type: ClassVar[str] = "notify"
    audio_url: str
    subtitles: tuple[Subtitle, ...] = ()

    def body(self) -> dict[str, object]:
        """As JSON."""
        body: dict[str, object] = {"type": self.type, "audio_url": self.audio_url}
        if self.subtitles:
            body["subtitles"] = [{"start_ms": line.start_ms, "text": line.text} for line in self.subtitles]
        return body


@dataclass(frozen=True, slots=True)
class Pong:
    """The answer to Ping. `timestamp`: ms since 1970."""

    type: ClassVar[str] = "pong"
    timestamp: int
    session_id: str = ""

    def body(self) -> dict[str, object]:
        """As JSON, without the session id."""
        return {"type": self.type, "timestamp": self.timestamp}


@dataclass(frozen=True, slots=True)
class ServerReply:
    """What became of a ServerCommand. `action` empty: it was not even looked at."""

    type: ClassVar[str] = "server"
    status: Literal["success", "error"]
    message: str
    action: str = ""
    session_id: str = ""

    def body(self) -> dict[str, object]:
        """As JSON, without the session id."""
        body: dict[str, object] = {"type": self.type, "status": self.status, "message": self.message}
        return body | ({"content": {"action": self.action}} if self.action else {})


ServerMessage = (
    HelloReply
    | Stt
    | LlmEmotion
    | TtsState
    | Mcp
    | IotCommands
    | SystemCommand
    | Alert
    | Notify
    | Goodbye
    | Pong
    | ServerReply
    | Unknown
)


class Sendable(Protocol):
    """Any message of either direction, except Unknown and Bare."""

    def body(self) -> dict[str, object]:
        """As JSON, without the session id."""


def encode(message: Sendable, session_id: str = "") -> str:
    """The text of a message, with the session id where it may carry one and it is not empty.

    Raises ProtocolError when an `Mcp` payload or the like cannot be said in JSON.
    """
    body = message.body()
    if session_id and not isinstance(message, Notify):
        body["session_id"] = session_id
    return render(body)


def parse_server(text: str) -> ServerMessage:
    """The message in a text from the server, for a simulated device. Raises ProtocolError, never anything else."""
    kind, body = message_type(parse(text))
    read = _READERS.get(kind)
    return read(body) if read is not None else Unknown(kind[:MAX_TYPE_CHARS])


def _session(body: Mapping[str, object]) -> str:
    return fields.text(body, "session_id")


def _hello_reply(body: dict[str, object]) -> HelloReply:
    audio = AudioParams.read(fields.mapping(body, "audio_params"))
    version = fields.integer(body, "version", 0, 0xFFFF)
    return HelloReply(
        audio,
        fields.text(body, "transport", "websocket"),
        1 if version is None else version,
        _session(body),
        _udp_offer(fields.mapping(body, "udp")),
    )


def _udp_offer(body: Mapping[str, object]) -> UdpOffer | None:
    if not body:
        return None
    try:
        key, nonce = (bytes.fromhex(fields.text(body, name)) for name in ("key", "nonce"))
    except ValueError:
        raise ProtocolError("key or nonce is not hexadecimal") from None
    return UdpOffer(fields.text(body, "server"), fields.integer(body, "port", 1, 0xFFFF) or 0, key, nonce)


def _stt(body: dict[str, object]) -> Stt:
    return Stt(fields.text(body, "text"), _session(body))


def _llm(body: dict[str, object]) -> LlmEmotion:
    return LlmEmotion(fields.text(body, "emotion"), fields.text(body, "text"), _session(body))


def _tts(body: dict[str, object]) -> TtsState:
    phase = fields.required(fields.choice(body, "state", TtsPhase), "state")
    text = None if body.get("text") is None else fields.text(body, "text")
    return TtsState(phase, text, _session(body), fields.text(body, "failure", ""))


def _iot(body: dict[str, object]) -> IotCommands:
    return IotCommands(fields.objects(body, "commands"), _session(body))


def _system(body: dict[str, object]) -> SystemCommand:
    return SystemCommand(fields.text(body, "command"), _session(body))


def _alert(body: dict[str, object]) -> Alert:
    return Alert(
        fields.text(body, "status"),
        fields.text(body, "message"),
        fields.text(body, "emotion", "neutral"),
        _session(body),
    )


def _notify(body: dict[str, object]) -> Notify:
    lines = fields.objects(body, "subtitles")
    return Notify(
        fields.text(body, "audio_url"),
        tuple(Subtitle(fields.integer(line, "start_ms", 0, 2**31) or 0, fields.text(line, "text")) for line in lines),
    )


def _pong(body: dict[str, object]) -> Pong:
    return Pong(fields.integer(body, "timestamp", 0, 2**63) or 0, _session(body))


def _server_reply(body: dict[str, object]) -> ServerReply:
    status = fields.text(body, "status")
    if status not in ("success", "error"):
        raise ProtocolError("status is not one of success, error")
    action = fields.text(fields.mapping(body, "content"), "action")
    return ServerReply(
        "success" if status == "success" else "error", fields.text(body, "message"), action, _session(body)
    )


_READERS: Final[Mapping[str, Callable[[dict[str, object]], ServerMessage]]] = {
    HelloReply.type: _hello_reply,
    Stt.type: _stt,
    LlmEmotion.type: _llm,
    TtsState.type: _tts,
    Mcp.type: read_mcp,
    IotCommands.type: _iot,
    SystemCommand.type: _system,
    Alert.type: _alert,
    Notify.type: _notify,
    Pong.type: _pong,
    Goodbye.type: read_goodbye,
    ServerReply.type: _server_reply,
}
