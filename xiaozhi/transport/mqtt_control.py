"""The control connection of one device that speaks MQTT: there while the device idles, and the way to it.

    reader ─► hello ─► a conversation: `MqttConversation`, run by `Connection` in a greenlet of its own
             others ─► the conversation; without one: answered, or ignored and counted
    push, publish ─► PUBLISH to the device's own topic. Firmware never subscribes, and takes any topic

Owns: the reader, the will, what the keepalive demands, which conversation is open. Not who may come in
(`mqtt_endpoint.py`) and not what is said. One greenlet while the device idles."""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from xiaozhi.devices.standing import StandingConnections
from xiaozhi.errors import ConnectionClosed, Overloaded, ProtocolError
from xiaozhi.net.origin import Origin
from xiaozhi.protocol import close_codes, fields, mqtt
from xiaozhi.protocol import messages as wire
from xiaozhi.protocol.device import message_type
from xiaozhi.protocol.jsontext import parse
from xiaozhi.runtime.limits import Admission, FloodGuard, Flow, Permit
from xiaozhi.runtime.logs import get_logger
from xiaozhi.runtime.tasks import Tasks
from xiaozhi.session.link import Identity
from xiaozhi.transport.connection import Connection, ConnectionServices
from xiaozhi.transport.mqtt_conversation import MqttConversation, SoundPort
from xiaozhi.transport.mqtt_socket import MqttSocket

log = get_logger(__name__)

TOPIC: Final = "devices/p2p/"
KEEPALIVES: Final = 1.5
"""Of the keepalive time a client may be silent for so long [MQTT-3.1.2-24]."""
MAX_LOGGED_FAULTS: Final = 3
MAX_SESSION_ID_CHARS: Final = 64
# Sent by a device that takes a conversation for open: one that this server has lost, or ended a moment ago.
_OF_A_CONVERSATION: Final = frozenset({"listen", "abort", "iot"})
_TELLING: Final = ('"hello"', '"goodbye"')


@dataclass(slots=True)
class MqttCounts:
    """What one endpoint has seen; read by metrics."""

    connected: int = 0
    """Connections that were accepted."""
    received: int = 0
    """Messages of devices."""
    sent: int = 0
    """Messages to devices."""
    refused: Counter[str] = field(default_factory=Counter)
    """Newcomers that were refused, by cause; "conversation": hellos for which there was no place."""
    ended: Counter[str] = field(default_factory=Counter)
    """Connections that have ended, by cause."""
    strays: int = 0
    """Messages without a conversation, which nobody could take."""
    malformed: int = 0
    """Messages that are no JSON object with a type where one was needed, or no UTF-8."""


@dataclass(frozen=True, slots=True)
class MqttServices:
    """What all control connections of a process share."""

    connections: ConnectionServices
    standing: StandingConnections
    admission: Admission
    """The server's own: a conversation takes one of its places."""
    sound: SoundPort
    udp_host: Callable[[Identity], str]
    """Where a device finds the UDP port."""
    foresee: Callable[[Identity], None] = lambda identity: None
    """A conversation is about to begin: look up what is known of the device. May block for a moment."""
    counts: MqttCounts = field(default_factory=MqttCounts)
    conversations: Tasks = field(default_factory=Tasks)
    clock: Callable[[], float] = time.monotonic


class MqttControl:
    """See the module. `run` is the reader; all the rest may be called from any greenlet and never waits.

    `address`: what limits per address count by; `exempt`: it speaks for many devices. `keepalive` in seconds, 0: none.
    Implements `devices.standing.StandingConnection`."""

    __slots__ = (
        "_address",
        "_conversation",
        "_exempt",
        "_faults",
        "_keepalive",
        "_last_heard",
        "_packets",
        "_services",
        "_socket",
        "_topic",
        "_will",
        "identity",
    )

    def __init__(
        self,
        socket: MqttSocket,
        identity: Identity,
        services: MqttServices,
        *,
        address: str,
        exempt: bool = False,
        keepalive: int = 0,
        will: mqtt.Will | None = None,
    ) -> None:
        now = services.clock()
        self.identity = identity
        self._socket = socket
        self._services = services
        self._address = address
        self._exempt = exempt
        self._keepalive = keepalive
        self._will = will
        self._topic = (TOPIC + identity.device_id.replace(":", "_")).encode()
        self._last_heard = now
        self._packets = FloodGuard(services.connections.rates.texts_per_second, now)
        self._conversation: MqttConversation | None = None
        self._faults = 0

    @property
    def device(self) -> str:
        """See StandingConnection."""
        return self.identity.device_id

    @property
    def origin(self) -> Origin | None:
        """See StandingConnection."""
        return self.identity.origin

    @property
    def talks(self) -> bool:
        """Whether a conversation is open."""
        return self._conversation is not None

    def run(self) -> None:
        """Serve the device until its connection has ended. Raises nothing."""
        services = self._services
        before = services.standing.join(self)
        if isinstance(before, MqttControl):
            before.close(close_codes.NORMAL, "taken over")
        services.counts.connected += 1
        try:
            self._read()
        except ConnectionClosed:
            pass  # the socket knows how it ended
        except ProtocolError as error:
            log.info("mqtt closed", device=self.device, reason=str(error))
            self.close(error.close_code or close_codes.PROTOCOL_ERROR, str(error))
        except Exception:
            log.exception("mqtt failed", device=self.device)
            self.close(close_codes.INTERNAL_ERROR, "internal error")
        finally:
            services.standing.leave(self)
            self._ended()

    def _read(self) -> None:
        socket, clock = self._socket, self._services.clock
        while True:
            packet = socket.receive()
            now = self._last_heard = clock()
            if isinstance(packet, mqtt.Publish):
                self._on_publish(packet, now)
                continue
            if not self._may(now):
                continue
            match packet:
                case mqtt.Pingreq():
                    if self._conversation is not None:
                        self._conversation.last_control = now
                    socket.send(mqtt.PINGRESP)
                case mqtt.Subscribe():
                    # Whatever it asks for, it gets what is sent to its device.
                    socket.send(mqtt.suback(packet.packet_id, len(packet.filters)))
                case mqtt.Unsubscribe():
                    socket.send(mqtt.unsuback(packet.packet_id))
                case mqtt.Disconnect():
                    self._will = None  # [MQTT-3.14.4-3]
                    self.close(close_codes.NORMAL, "disconnected")
                case mqtt.Connect():
                    raise ProtocolError("a second CONNECT")  # [MQTT-3.1.0-2]

    def _may(self, now: float) -> bool:
        """Whether one more packet that no conversation counts is to be looked at. Raises ProtocolError when there have
        been too many for too long."""
        if self._packets.take(now):
            return True
        if self._packets.excess(now) is Flow.CLOSE:
            raise ProtocolError("too many packets", close_code=close_codes.POLICY_VIOLATION)
        self._services.connections.events.dropped("messages")
        return False

    def _ended(self) -> None:
        """The connection is over: so is its conversation."""
        code, reason = self._socket.ending
        counts, conversation, will = self._services.counts, self._conversation, self._will
        counts.ended[str(code) if code in close_codes.NAMED else "other"] += 1
        if conversation is not None:
            if will is not None:
                try:
                    conversation.hear(will.payload.decode())
                except UnicodeDecodeError:
                    counts.malformed += 1
            conversation.lost(code, reason)
        log.debug("mqtt ended", device=self.device, code=code, reason=reason)

    # --- what the device says -----------------------------------------------------------------------------------------

    def _on_publish(self, packet: mqtt.Publish, now: float) -> None:
        if packet.qos == 2:
            raise ProtocolError("a message of QoS 2; devices use QoS 0 or 1")
        self._services.counts.received += 1
        try:
            self._on_text(packet.payload.decode(), now)
        except UnicodeDecodeError:
            self._malformed("not UTF-8")
        if packet.qos:
            self._socket.send(mqtt.puback(packet.packet_id))

    def _on_text(self, text: str, now: float) -> None:
        conversation = self._conversation
        # Within a conversation it is the session that parses; only these two need to be known here.
        if conversation is not None and not any(word in text for word in _TELLING):
            if '"listen"' in text and '"stop"' in text:
                conversation.sound_ends()
            conversation.hear(text)
            return
        if not self._may(now):
            return
        try:
            kind, body = message_type(parse(text))
        except ProtocolError as error:
            kind, body = "", {}
            if conversation is None:
                self._malformed(str(error))
                return
        session_id = fields.text(body, "session_id")
        if kind == "hello":
            self._open(text, body)
        elif conversation is None:
            self._stray(kind, session_id)
        elif kind != "goodbye":
            conversation.hear(text)
        elif session_id in ("", conversation.session_id):
            conversation.goodbye(text)
        else:
            self._services.counts.strays += 1  # the goodbye of an earlier one

    def _stray(self, kind: str, session_id: str) -> None:
        """A message that belongs to no conversation. A device that takes one for open is told that it is not."""
        self._services.counts.strays += 1
        if kind in _OF_A_CONVERSATION and 0 < len(session_id) <= MAX_SESSION_ID_CHARS:
            self.publish(wire.encode(wire.Goodbye(), session_id))

    def _malformed(self, reason: str) -> None:
        self._services.counts.malformed += 1
        self._faults += 1
        if self._faults <= MAX_LOGGED_FAULTS:
            log.info("malformed message", device=self.device, reason=reason)

    # --- conversations ------------------------------------------------------------------------------------------------

    def _open(self, text: str, body: dict[str, object]) -> None:
        """The device says hello: a new conversation, whatever became of the one before."""
        services = self._services
        if self._conversation is not None:
            self._conversation.lost(close_codes.NORMAL, "hello again")
        try:
            services.admission.check_handshake(self._address, exempt=self._exempt)
            permit = services.admission.enter(self.device, self._address, exempt=self._exempt)
        except Overloaded as refusal:
            # The device gives up by itself after ten seconds: there is no message that says no to a hello.
            services.counts.refused["conversation"] += 1
            log.info("refused", device=self.device, reason=str(refusal))
            return
        try:
            conversation = MqttConversation(
                self,
                services.sound,
                secrets.token_hex(16),
                audio_format=fields.text(fields.mapping(body, "audio_params"), "format", "opus"),
                dropped=services.connections.events.dropped,
                clock=services.clock,
            )
            offer = conversation.offer(services.udp_host(self.identity), services.sound.port)
            identity = replace(self.identity, udp=offer, session_id=conversation.session_id)
            self._conversation = conversation
            conversation.hear(text)
            services.conversations.spawn("mqtt-conversation", self._converse, conversation, identity, permit)
        except BaseException:
            permit.release()
            raise

    def _converse(self, conversation: MqttConversation, identity: Identity, permit: Permit) -> None:
        try:
            self._services.foresee(identity)
            Connection(conversation, identity, self._services.connections, line=conversation.line).run()
        finally:
            conversation.finish()
            permit.release()

    def conversation_ended(self, conversation: MqttConversation) -> None:
        """See Publisher."""
        if self._conversation is conversation:
            self._conversation = None

    # --- what is said to the device -----------------------------------------------------------------------------------

    def publish(self, text: str) -> None:
        """See Publisher. A device that does not read what it is sent is dropped."""
        self._socket.send(mqtt.publish(self._topic, text.encode("utf-8", "replace")))
        self._services.counts.sent += 1

    def push(self, message: wire.Sendable) -> bool:
        """See StandingConnection."""
        packet = mqtt.publish(self._topic, wire.encode(message).encode("utf-8", "replace"))
        try:
            taken = self._socket.offer(packet)
        except ConnectionClosed:
            return False
        self._services.counts.sent += taken
        return taken

    # --- ending -------------------------------------------------------------------------------------------------------

    def check(self, now: float) -> None:
        """Now and then: a device that is silent for longer than it promised is gone."""
        if self._keepalive and now - self._last_heard > KEEPALIVES * self._keepalive:
            self._socket.abort("no sign of life within the keepalive time")

    def close(self, code: int, reason: str) -> None:
        """End the connection, and its conversation. Idempotent."""
        self._socket.close(code, reason)
