"""A simulated device: speaks the protocol to a server over a real socket, in real time, and writes down what came back
and when.

Blocking style, made for gevent (patch before you import this). For people (`talk.py`), for tests and for load: five
hundred of them share a core with their server, so what is sent often is prepared once for all devices (`framing.py`),
an answer is assembled as it arrives (`inbox.py`), and a device that only waits costs one greenlet.

    with SimulatedDevice(url, tools=DeviceTools()) as device:
        device.hello()
        answer = device.ask(speech.speak("what time is it"))
        print(answer.stt, answer.text, answer.timings())
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlencode, urlsplit, urlunsplit

import gevent
from gevent.lock import BoundedSemaphore

from loadtest.simulator import framing, speech
from loadtest.simulator.answer import HeardAnswer, HeardMessage
from loadtest.simulator.device_tools import DeviceTools
from loadtest.simulator.inbox import Inbox
from loadtest.simulator.microphone import Microphone
from loadtest.simulator.mqtt import MqttWire
from loadtest.simulator.wire import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Closed, Wire, WireFrame, masked

Mode = Literal["auto", "manual", "realtime"]
DEFAULT_URL = "ws://127.0.0.1:8000/xiaozhi/v1/"
PATIENCE_S = 60.0
"""How long is waited, unless told otherwise, for what has to come; only a failure takes so long."""
PINGS_KEPT = 100
MAX_SILENCE_MS = 5000
"""How long a device in auto mode goes on sending silence when the server does not react."""


@dataclass(frozen=True, slots=True)
class HelloAnswer:
    """The server's hello."""

    session_id: str
    sample_rate: int
    frame_ms: int
    audio_format: str
    data: Mapping[str, Any]


class SimulatedDevice:
    """One device. Use it as a context manager (which connects), or call `connect` and `close`.

    `tools` None: a device without MCP. `keep_audio` False: only the arrival times of sound are kept. `on_message` is
    called with every JSON message, in the reader's greenlet. `source_address`, `receive_buffer`: see `Wire.connect`.
    What came back is in `replies`."""

    TRANSPORT = "websocket"
    """As hello calls it."""

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        device_id: str = "02:00:00:00:00:01",
        client_id: str = "",
        token: str = "",
        protocol_version: int = 1,
        gateway: bool = False,
        frame_ms: int = 60,
        tools: DeviceTools | None = None,
        keep_audio: bool = True,
        headers: Mapping[str, str] | None = None,
        verify_tls: bool = True,
        source_address: str = "",
        receive_buffer: int = 0,
        on_message: Callable[[HeardMessage], None] | None = None,
    ) -> None:
        self.url = _with_query(url, {"from": "mqtt_gateway"}) if gateway else url
        self.device_id = device_id
        # A device makes its id once and keeps it.
        self.client_id = client_id or str(uuid.uuid5(uuid.NAMESPACE_OID, device_id))
        self.protocol_version = 2 if gateway else protocol_version
        self.frame_ms = frame_ms
        self.tools = tools
        self.replies = Inbox(keep_audio=keep_audio)
        self.hello_reply: HelloAnswer | None = None
        self._framing = framing.framing_for(self.protocol_version, gateway)
        self.microphone = Microphone(self._send_sound, self._framing, frame_ms, f"device {device_id}")
        self._headers = {
            "Device-Id": device_id,
            "Client-Id": self.client_id,
            "Protocol-Version": str(self.protocol_version),
            **({"Authorization": f"Bearer {token}"} if token else {}),
            **(headers or {}),
        }
        self._verify_tls = verify_tls
        self._source_address = source_address
        self._receive_buffer = receive_buffer
        self._on_message = on_message
        self.pings: deque[float] = deque(maxlen=PINGS_KEPT)
        """When the server's pings came (monotonic s)."""
        self._wire: Wire | MqttWire | None = None
        self._reader: gevent.Greenlet | None = None
        self._sending = BoundedSemaphore(1)
        self._pieces = bytearray()
        self._piece_of = TEXT

    # --- the connection

    def connect(self, timeout: float = PATIENCE_S) -> SimulatedDevice:
        """Open the socket and begin to read. Raises OSError, loadtest.simulator.wire.Refused."""
        self._wire = self._open(timeout)
        self._reader = gevent.spawn(self._read, self._wire)
        self._reader.name = f"device {self.device_id} reader"
        return self

    def _open(self, timeout: float) -> Wire | MqttWire:
        return Wire.connect(
            self.url,
            self._headers,
            timeout=timeout,
            verify=self._verify_tls,
            source_address=self._source_address,
            receive_buffer=self._receive_buffer,
        )

    def __enter__(self) -> SimulatedDevice:
        return self if self._wire is not None else self.connect()

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Say goodbye as RFC 6455 wants it, give the server a second to say it too, and free everything. Idempotent."""
        self.microphone.close()
        if self._wire is not None and self.closed is None:
            with contextlib.suppress(Closed):  # then it is over anyway
                self._say_goodbye(code, reason)
            if self._reader is not None:
                self._reader.join(timeout=1.0)
        self._release(code, "closed by this device")

    def _say_goodbye(self, code: int, reason: str) -> None:
        self.send_raw(masked(CLOSE, struct.pack("!H", code) + reason.encode()))

    def drop(self) -> None:
        """Vanish without a word, as when the power fails: the socket is reset."""
        if self._wire is not None:
            self._wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._release(1006, "dropped by this device", shut_down=False)

    def stop_sending(self) -> None:
        """Close the sending half of the TCP connection; go on reading."""
        if self._wire is not None:
            self._wire.socket.shutdown(socket.SHUT_WR)

    def stop_reading(self) -> None:
        """From now on read nothing: a device that hangs. Its socket stays open."""
        if self._reader is not None:
            self._reader.kill()
            self._reader = None

    def wait_closed(self, timeout: float = PATIENCE_S) -> tuple[int, str]:
        """(code, reason) with which the server ended the connection. Raises DeviceTimeout."""
        return self.replies.wait(lambda: self.closed, timeout, "the end of the connection", or_closed=False)

    @property
    def address(self) -> tuple[str, int]:
        """Its own end of the open connection."""
        assert self._wire is not None
        host, port = self._wire.socket.getsockname()[:2]
        return str(host), int(port)

    @property
    def connected(self) -> bool:
        """The connection is open, as far as this device knows."""
        return self._wire is not None and self.closed is None

    @property
    def closed(self) -> tuple[int, str] | None:
        """(code, reason) once the connection is over."""
        return self.replies.closed

    def _release(self, code: int, reason: str, *, shut_down: bool = True) -> None:
        self.microphone.close()
        wire, self._wire = self._wire, None
        if wire is None:
            return
        if shut_down:
            wire.shut_down()
        self.stop_reading()
        wire.close()
        self.replies.ended(code, reason)

    # --- what a device says

    def hello(
        self,
        features: Mapping[str, Any] | None = None,
        audio_params: Mapping[str, Any] | None = None,
        timeout: float = PATIENCE_S,
        **more: Any,
    ) -> HelloAnswer:
        """Introduce the device and wait for the server's hello. Raises DeviceTimeout, DeviceClosed."""
        parameters = {
            "format": "opus",
            "sample_rate": 16_000,
            "channels": 1,
            "frame_duration": self.frame_ms,
            **(audio_params or {}),
        }
        message = {
            "type": "hello",
            "version": self.protocol_version,
            "transport": self.TRANSPORT,
            "audio_params": parameters,
        }
        told = {"mcp": True} if self.tools is not None else {}
        self.send_json({**message, "features": {**told, **(features or {})}, **more})
        reply = self.next_json("hello", timeout).data
        audio = reply.get("audio_params") or {}
        rate, frame_ms = int(audio.get("sample_rate", 24_000)), int(audio.get("frame_duration", 60))
        self.hello_reply = HelloAnswer(
            str(reply.get("session_id", "")), rate, frame_ms, str(audio.get("format", "opus")), reply
        )
        self.replies.expect(self.hello_reply.audio_format, rate)
        return self.hello_reply

    def listen_start(self, mode: Mode = "auto") -> None:
        """The microphone opens."""
        self.tell("listen", state="start", mode=mode)

    def listen_stop(self) -> None:
        """The button was released (manual mode): the utterance is complete."""
        self.tell("listen", state="stop")
        self.replies.spoken_until = time.monotonic()

    def detect(self, text: str) -> None:
        """A wake word was heard, or text was typed."""
        self.tell("listen", state="detect", text=text)
        self.replies.spoken_until = time.monotonic()

    def abort(self, reason: str = "wake_word_detected") -> None:
        """Be quiet!"""
        self.tell("abort", reason=reason)

    def ping(self, timeout: float = PATIENCE_S) -> HeardMessage:
        """Ask for a sign of life and wait for it."""
        self.tell("ping")
        return self.next_json("pong", timeout)

    def tell(self, kind: str, **fields: Any) -> None:
        """Send a message of a type, with the session id when there is one."""
        session = {"session_id": self.hello_reply.session_id} if self.hello_reply is not None else {}
        self.send_json({**session, "type": kind, **fields})

    def send_json(self, message: Mapping[str, Any]) -> None:
        """Send any message. Raises loadtest.simulator.wire.Closed."""
        self.send_text(json.dumps(message, ensure_ascii=False))

    def send_text(self, text: str) -> None:
        """Send any text."""
        self.send_raw(masked(TEXT, text.encode()))

    def send_binary(self, payload: bytes) -> None:
        """Send any binary frame as it is, without the protocol's header: garbage, for instance."""
        self.send_raw(masked(BINARY, payload))

    def send_raw(self, data: bytes) -> None:
        """Put bytes on the socket as they are. Raises loadtest.simulator.wire.Closed."""
        if self._wire is None:
            raise Closed(*(self.closed or (1006, "not connected")))
        with self._sending:
            self._wire.send(data)

    def _send_sound(self, ready: bytes) -> None:
        """Send what `framing.prepared` made."""
        self.send_raw(ready)

    def send_frames(
        self, packets: Sequence[bytes], *, realtime: bool = True, until: Callable[[], bool] | None = None
    ) -> int:
        """Send packets, one per frame duration on a monotonic clock (or as fast as it goes), stopping early once
        `until()`.

        Returns how many were sent. A call soon after another keeps its beat. Raises loadtest.simulator.wire.Closed."""
        return self.microphone.send(packets, realtime=realtime, until=until)

    def send_silence(self, ms: int, *, realtime: bool = True, until: Callable[[], bool] | None = None) -> int:
        """Send silence; see `send_frames`."""
        return self.send_frames(
            [speech.silence(self.frame_ms)] * max(1, ms // self.frame_ms), realtime=realtime, until=until
        )

    def say(
        self, words: speech.Speech, mode: Mode = "auto", *, max_silence_ms: int = MAX_SILENCE_MS, start: bool = True
    ) -> None:
        """Speak as a device does in `mode`: `listen start` (unless `start` is False), then the words.

        auto: then silence until the server begins to answer. manual: then `listen stop`. realtime: the microphone stays
        open in the background until `microphone.close()`; saying more while it is open interrupts. Returns when the
        voice (and silence) is sent."""
        packets = words.packets(self.frame_ms)
        last_voiced = min(len(packets), -(-words.voice_until_ms // self.frame_ms)) - 1
        self.replies.spoken_until = None
        if mode == "realtime":
            self._say_in_background(packets, last_voiced, start and not self.microphone.is_open)
            return
        if start:
            self.listen_start(mode)
        self.microphone.send(packets, on_sent=lambda index: self._voice_ends() if index == last_voiced else None)
        if mode == "manual":
            self.listen_stop()
            return
        replies, answered = self.replies, len(self.replies.answers)
        self.send_silence(max_silence_ms, until=lambda: replies.speaking or len(replies.answers) > answered)

    def ask(self, words: speech.Speech, mode: Mode = "auto", timeout: float = PATIENCE_S) -> HeardAnswer:
        """Say something and collect the answer. Raises DeviceTimeout, DeviceClosed, loadtest.simulator.wire.Closed."""
        self.replies.forget_answers()
        self.say(words, mode)
        return self.collect_answer(timeout)

    def _say_in_background(self, packets: tuple[bytes, ...], last_voiced: int, start: bool) -> None:
        if start:
            self.listen_start("realtime")
        self.microphone.say(packets, self.replies.touch)
        after_voice, longest = len(packets) - 1 - last_voiced, 5.0 + len(packets) * self.frame_ms / 1000
        self.replies.wait(
            lambda: self.microphone.left_to_say <= after_voice or None, longest, "the end of the own voice"
        )
        self._voice_ends()

    def _voice_ends(self) -> None:
        self.replies.spoken_until = time.monotonic()

    # --- what the server says

    def next_json(self, kind: str = "", timeout: float = PATIENCE_S, **fields: Any) -> HeardMessage:
        """The oldest message not yet taken that has this type and these fields; others stay. Raises DeviceTimeout,
        DeviceClosed."""
        return self.replies.next_json(kind, timeout, fields)

    def collect_answer(self, timeout: float = PATIENCE_S) -> HeardAnswer:
        """The oldest complete answer not yet taken: it ends with `tts stop`. Raises DeviceTimeout, DeviceClosed."""
        return self.replies.collect_answer(timeout)

    def wait_until(
        self, condition: Callable[[], object], timeout: float = PATIENCE_S, what: str = "the condition"
    ) -> None:
        """Return once `condition()`; looked at whenever a message or frame comes. Raises DeviceTimeout,
        DeviceClosed."""
        self.replies.wait(lambda: True if condition() else None, timeout, what, every_frame=True)

    def _read(self, wire: Wire | MqttWire) -> None:
        try:
            while self._on_frame(wire.receive()):
                pass
        except Closed as gone:
            self.replies.ended(gone.code, gone.reason)

    def _on_frame(self, frame: WireFrame) -> bool:
        """False when it was the last one."""
        if frame.opcode == CLOSE:
            self._on_close(frame.payload)
            return False
        if frame.opcode == PING:
            self.pings.append(time.monotonic())
            self.send_raw(masked(PONG, frame.payload))
        elif not frame.whole or frame.opcode == CONTINUATION:
            self._on_piece(frame)
        elif frame.opcode == BINARY:
            self._on_audio(frame.payload)
        elif frame.opcode == TEXT:
            self._on_text(frame.payload)
        return True

    def _on_audio(self, data: bytes) -> None:
        try:
            self.replies.heard_audio(framing.unwrap(self._framing, data))
        except ValueError as error:
            self.replies.bad_frames.append(str(error))

    def _on_text(self, data: bytes) -> None:
        try:
            parsed = json.loads(data.decode())  # UTF-8, as RFC 6455 has it; json would guess, and import codecs
        except ValueError:
            parsed = None
        message = HeardMessage(
            time.monotonic(),
            parsed if isinstance(parsed, dict) else {"type": "", "text": data.decode("utf-8", "replace")},
        )
        if self._on_message is not None:
            self._on_message(message)
        if message.type == "mcp" and self.tools is not None:
            reply = self.tools.answer(message.data.get("payload") or {})
            if reply is not None:
                self.tell("mcp", payload=reply)
            self.replies.touch()
        else:
            self.replies.heard_message(message)

    def _on_piece(self, frame: WireFrame) -> None:
        if frame.opcode != CONTINUATION:
            self._piece_of, self._pieces = frame.opcode, bytearray()
        self._pieces += frame.payload
        if frame.whole:
            (self._on_text if self._piece_of == TEXT else self._on_audio)(bytes(self._pieces))

    def _on_close(self, payload: bytes) -> None:
        code = struct.unpack_from("!H", payload)[0] if len(payload) >= 2 else 1005
        with contextlib.suppress(Closed):  # the server need not wait for our half
            self.send_raw(masked(CLOSE, payload[:2]))
        self.replies.ended(code, payload[2:].decode("utf-8", "replace"))


def _with_query(url: str, fields: Mapping[str, str]) -> str:
    parts = urlsplit(url)
    query = "&".join(piece for piece in (parts.query, urlencode(fields)) if piece)
    return urlunsplit(parts._replace(query=query))
