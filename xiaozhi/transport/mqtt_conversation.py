"""One conversation of a device that is connected by MQTT: messages by its control connection, sound by UDP.

The second `MessageSocket` (`message_socket.py`). Not the control connection (`mqtt_control.py`), which lasts while
conversations come and go, and not the UDP port.

Reading: the control connection's reader and the UDP port's put what comes into one queue, and never wait. What does not
fit any more is dropped and counted: the reader of this conversation is slowed down only where the device costs too
much.

Writing never waits either: see `MqttSocket` and the channel. Ending: `close` tells the device goodbye with the id of
the session, unless the device has ended it itself or is not there any more."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Protocol

from gevent.queue import SimpleQueue

from xiaozhi.errors import ConnectionClosed
from xiaozhi.protocol import close_codes
from xiaozhi.protocol import messages as wire

MAX_QUEUED: Final = 256
"""Messages and frames that wait to be read: five seconds of sound, and some."""
MAX_QUEUED_BYTES: Final = 1 << 20


class SoundChannel(Protocol):
    """Where the sound of one conversation goes and comes from. Nothing here waits."""

    @property
    def key(self) -> bytes:
        """16 bytes."""

    @property
    def nonce(self) -> bytes:
        """16 bytes."""

    def send(self, frame: bytes) -> None:
        """Send a frame of `UdpCodec`; lost if it cannot be sent now."""

    def flush(self) -> None:
        """Deliver what waits for something that is missing."""

    def close(self) -> None:
        """Neither deliver nor send any more. Idempotent."""


class SoundPort(Protocol):
    """Makes channels."""

    @property
    def port(self) -> int:
        """Where devices send to."""

    def open(self, deliver: Callable[[bytes], None], *, audio_format: str = "opus") -> SoundChannel:
        """A channel; `deliver` is given each frame, and must not wait."""


class Publisher(Protocol):
    """The control connection. Neither waits."""

    def publish(self, text: str) -> None:
        """Send the device a message. Raises ConnectionClosed."""

    def conversation_ended(self, conversation: MqttConversation) -> None:
        """It takes no more messages."""


class MqttConversation:
    """See the module. `session_id`: that of its session. `dropped`: told "messages" or "frames" when one had to be
    dropped."""

    __slots__ = (
        "_channel",
        "_clock",
        "_control",
        "_device_left",
        "_dropped",
        "_ended",
        "_inbox",
        "bytes_in",
        "bytes_out",
        "closing_since",
        "held_bytes",
        "last_control",
        "received",
        "sent",
        "session_id",
    )

    def __init__(
        self,
        control: Publisher,
        sound: SoundPort,
        session_id: str,
        *,
        audio_format: str = "opus",
        dropped: Callable[[str], None] = lambda queue: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.session_id = session_id
        self.received = 0
        self.sent = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.held_bytes = 0
        """What waits to be read."""
        self.last_control = 0.0
        self.closing_since: float | None = None
        self._control = control
        self._dropped = dropped
        self._clock = clock
        self._inbox: SimpleQueue[str | bytes | None] = SimpleQueue()
        self._ended: tuple[int, str] | None = None
        self._device_left = False
        self._channel = sound.open(self.hear, audio_format=audio_format)

    def offer(self, host: str, port: int) -> wire.UdpOffer:
        """What the device is told of the channel for its sound."""
        return wire.UdpOffer(host, port, self._channel.key, self._channel.nonce)

    # --- what has come ------------------------------------------------------------------------------------------------

    def hear(self, message: str | bytes) -> None:
        """A message or a frame of the device. Never waits."""
        if self._ended is not None:
            return
        size = len(message)
        if self._inbox.qsize() >= MAX_QUEUED or (self.held_bytes and self.held_bytes + size > MAX_QUEUED_BYTES):
            self._dropped("frames" if isinstance(message, bytes) else "messages")
            return
        self.held_bytes += size
        self._inbox.put(message)

    def sound_ends(self) -> None:
        """The device says that its sound has ended: what waits for a lost packet waits no longer."""
        self._channel.flush()

    def goodbye(self, text: str) -> None:
        """The device ends it, and need not be told."""
        self._device_left = True
        self.hear(text)

    def lost(self, code: int, reason: str) -> None:
        """The device does not know it any more: it has begun another one, or is gone."""
        self._device_left = True
        self.close(code, reason)

    # --- MessageSocket ------------------------------------------------------------------------------------------------

    @property
    def ending(self) -> tuple[int, str]:
        """See MessageSocket."""
        return self._ended or (close_codes.ABNORMAL, "")

    def receive(self) -> str | bytes:
        """See MessageSocket."""
        message: str | bytes | None = self._inbox.get()
        # What the device said before it left is heard to its end; after our own goodbye nothing is.
        if message is None or (self._ended is not None and not self._device_left):
            raise ConnectionClosed(*self.ending)
        size = len(message)
        self.held_bytes -= size
        self.bytes_in += size
        self.received += 1
        return message

    def send_text(self, text: str, /) -> None:
        """See MessageSocket."""
        if self._ended is not None:
            raise ConnectionClosed(*self._ended)
        self._control.publish(text)
        self.sent += 1
        self.bytes_out += len(text)

    def send_binary(self, data: bytes, /) -> None:
        """See MessageSocket. What is lost on the way stays lost."""
        if self._ended is not None:
            raise ConnectionClosed(*self._ended)
        self._channel.send(data)
        self.sent += 1
        self.bytes_out += len(data)

    def ping(self) -> bool:
        """There is no such thing: it is the device that pings, on its control connection."""
        return False

    def close(self, code: int, reason: str) -> None:
        """See MessageSocket."""
        if self._ended is not None:
            return
        self._end(code, reason)
        if not self._device_left:
            try:
                self._control.publish(wire.encode(wire.Goodbye(), self.session_id))
            except ConnectionClosed:
                return  # nobody is left who could be told

    def abort(self, reason: str) -> None:
        """See MessageSocket."""
        self._end(close_codes.ABNORMAL, reason)

    def finish(self) -> None:
        """See MessageSocket."""
        self.close(close_codes.GOING_AWAY, "")

    def _end(self, code: int, reason: str) -> None:
        if self._ended is not None:
            return
        self._ended = (code, reason)
        self.closing_since = self._clock()
        self._channel.close()
        self._control.conversation_ended(self)
        self._inbox.put(None)
