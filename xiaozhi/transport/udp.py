"""The UDP port for voice: one socket per process, one greenlet that reads it, a channel per conversation.

    datagram ─► type, length, ssrc ─► channel: sequence ▸ decipher ▸ jitter buffer ─► deliver(frame)
    send(frame) ─► channel: header ▸ encipher ─► kernel

What the bytes mean and in which order they are delivered is `protocol/udp_voice.py`. A channel is made when a device
has said hello by another way, which tells it key, nonce and port; its datagrams are found by the ssrc of the nonce.

The device's address is that of its first valid packet. It follows a change (a router that forgot its table) with the
first packet from elsewhere that is newer than all before and, deciphered, is sound of the same kind. Nothing is ever
sent in answer to a datagram that belongs to no channel, and none of them is logged: they are counted.

Until the address is known, the newest `HELD_FRAMES` frames wait, at most `HELD_S`, and are sent with the device's
first packet. Devices send their first packet when they begin to listen, which is about when a greeting begins. More
would not help: a burst of five frames crashes ESP32-C3 boards, and what is older belongs to a moment that has passed.
"""

from __future__ import annotations

import secrets
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import gevent
from gevent.hub import Waiter

from xiaozhi.audio.opus import packet_duration_ms
from xiaozhi.errors import ProtocolError
from xiaozhi.net.tcp import AddressError
from xiaozhi.protocol.udp_voice import (
    AUDIO,
    HEADER,
    KEY_BYTES,
    RESTART_AFTER,
    JitterBuffer,
    JitterMeter,
    SequenceVerdict,
    VoiceCipher,
    VoiceStats,
    nonce_template,
)
from xiaozhi.runtime.logs import get_logger
from xiaozhi.runtime.tasks import end, spawn

GATHER_S: Final = 0.002
"""From the first datagram to reading: what comes meanwhile costs no wake-up of its own (a hundred talking devices send
1,700 a second), and a message that came before the sound and by another socket ("listen start") is read before it."""
BATCH: Final = 64
"""Datagrams read before other greenlets get their turn."""
FLUSH_BATCHES: Final = 4
"""So many of them are read for a message that ends the sound."""
MAX_DATAGRAM: Final = 4096
"""Bytes; 60 ms of stereo PCM at 16 kHz fit. What is longer is cut by the kernel, and refused for its length."""
RECEIVE_BUFFER: Final = 4 << 20
"""Bytes asked of the kernel, which may grant less (net.core.rmem_max): what comes while the hub is busy."""
SEND_BUFFER: Final = 1 << 20
PORTS_TRIED: Final = 64
HELD_FRAMES: Final = 4
HELD_S: Final = 0.5
MAX_LOGGED_FAULTS: Final = 3
PCM_BYTES_PER_MS: Final = 32
"""s16le mono at 16 kHz."""

_READ: Final = 1
_HEAD_SIZE: Final = HEADER.size

log = get_logger(__name__)


@dataclass(slots=True)
class UdpPortStats:
    """Counts of one port, of what belongs to no channel."""

    unknown: int = 0
    """Datagrams for no channel that is open."""
    malformed: int = 0
    """Datagrams that are none of this protocol: too short, another type, another length than they say."""
    errors: int = 0
    """Times the kernel failed to give a datagram."""
    faults: int = 0
    """Frames at which the receiver of a channel failed."""


class UdpPort:
    """See the module. `start`; `open` for each conversation; `close`.

    `port` 0: any free one. `reuse`: other workers of this machine have the same settings. Then the first free port from
    `port` on is taken (`PORTS_TRIED` are tried): a datagram must reach the process that serves its device, and a port
    that is shared (SO_REUSEPORT) is shared out by address."""

    def __init__(
        self, host: str, port: int, *, reuse: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.stats = UdpPortStats()
        self._host = host
        self._wanted = port
        self._reuse = reuse
        self._clock = clock
        self._channels: dict[int, UdpChannel] = {}
        self._waiting: set[UdpChannel] = set()
        """Channels with a gap that has a deadline."""
        self._sock: Any = None
        self._readable: Any = None
        self._receiver: gevent.Greenlet | None = None

    def start(self) -> None:
        """Listen. Raises AddressError."""
        VoiceCipher(bytes(KEY_BYTES))  # loads its library now, not in the first conversation
        self._sock = self._bind()
        self._readable = gevent.get_hub().loop.io(self._sock.fileno(), _READ)
        self._receiver = spawn("udp", self._receive)

    def close(self) -> None:
        """Close all channels and the socket. Idempotent."""
        receiver, self._receiver = self._receiver, None
        if receiver is None:
            return
        for channel in list(self._channels.values()):
            channel.close()
        end(receiver)
        self._readable.close()
        self._sock.close()

    @property
    def port(self) -> int:
        """The port that is listened on; before `start` the one that was asked for."""
        return self._sock.getsockname()[1] if self._receiver is not None else self._wanted

    @property
    def channels(self) -> int:
        """Channels that are open."""
        return len(self._channels)

    def open(self, deliver: Callable[[bytes], None], *, audio_format: str = "opus") -> UdpChannel:
        """A new channel. `deliver(frame)` is called from the receiver's greenlet, in order, with what
        `UdpCodec.unpack` takes; it must not wait. `audio_format`: what the device sends, "opus" or "pcm"."""
        ssrc = 0
        while not ssrc or ssrc in self._channels:
            ssrc = secrets.randbits(32)
        channel = self._channels[ssrc] = UdpChannel(self, ssrc, deliver, audio_format, self._clock)
        return channel

    # --- for channels -----------------------------------------------------------------------------------------------

    def transmit(self, datagram: bytes, address: Any) -> bool:
        """Give a datagram to the kernel; False if it does not take it now."""
        try:
            self._sock.sendto(datagram, address)
        except OSError:
            return False
        return True

    def await_gap(self, channel: UdpChannel) -> None:
        """`channel` has a deadline now."""
        self._waiting.add(channel)

    def forget(self, channel: UdpChannel) -> None:
        """`channel` is closed."""
        self._channels.pop(channel.ssrc, None)
        self._waiting.discard(channel)

    # --- receiving --------------------------------------------------------------------------------------------------

    def _receive(self) -> None:
        while True:
            self._wait()
            gevent.sleep(GATHER_S)
            self.read()

    def read(self) -> bool:
        """Deliver what has come, at most `BATCH` datagrams: whoever floods the port gets no more of the hub. False when
        nothing is left. Does not wait; raises nothing."""
        try:
            more = self._drain()
            if self._waiting:
                self._expire()
        except Exception:
            more = True
            self.stats.faults += 1
            if self.stats.faults <= MAX_LOGGED_FAULTS:
                log.exception("a frame from UDP could not be delivered")
        return more

    def _wait(self) -> None:
        """Return when there is something to read, or the next gap is due."""
        hub = gevent.get_hub()
        waiter = Waiter(hub)
        timer = None
        if self._waiting:
            due = min([channel.deadline for channel in self._waiting])
            timer = hub.loop.timer(max(0.0, due - self._clock()))
            timer.start(waiter.switch, None)
        self._readable.start(waiter.switch, None)
        try:
            waiter.get()
        finally:
            self._readable.stop()
            if timer is not None:
                timer.stop()
                timer.close()

    def _drain(self) -> bool:
        recvfrom, unpack, channels, stats = self._sock.recvfrom, HEADER.unpack_from, self._channels, self.stats
        now = self._clock()
        for _ in range(BATCH):
            try:
                datagram, address = recvfrom(MAX_DATAGRAM)
            except BlockingIOError:
                return False
            except OSError:
                stats.errors += 1
                return False
            size = len(datagram) - _HEAD_SIZE
            if size <= 0:
                stats.malformed += 1
                continue
            kind, _, claimed, ssrc, timestamp, sequence = unpack(datagram)
            channel = channels.get(ssrc)
            if channel is None:
                stats.unknown += 1
            elif kind != AUDIO or claimed != size:
                stats.malformed += 1
            else:
                channel.receive(datagram, address, timestamp, sequence, now)
        return True

    def _expire(self) -> None:
        now = self._clock()
        for channel in list(self._waiting):
            if not channel.expire(now):
                self._waiting.discard(channel)

    def _bind(self) -> Any:
        last = self._wanted + (PORTS_TRIED if self._reuse and self._wanted else 1)
        for port in range(self._wanted, min(last, 65_536)):
            try:
                return _datagram_socket((self._host, port))
            except OSError as error:
                failure = AddressError(error, (self._host, port))
        raise failure


class UdpChannel:
    """One device's voice. `key` and `nonce` (16 bytes each) are what it is told. Everything but `receive` and `expire`,
    which are the port's, may be called from any greenlet; nothing waits."""

    __slots__ = (
        "_address",
        "_buffer",
        "_cipher",
        "_clock",
        "_far",
        "_held",
        "_meter",
        "_opus",
        "_port",
        "_sequence",
        "_toc",
        "key",
        "nonce",
        "ssrc",
        "stats",
    )

    def __init__(
        self, port: UdpPort, ssrc: int, deliver: Callable[[bytes], None], audio_format: str, clock: Callable[[], float]
    ) -> None:
        self.ssrc = ssrc
        self.key = secrets.token_bytes(KEY_BYTES)
        self.nonce = nonce_template(ssrc)
        self.stats = VoiceStats()
        self._port: UdpPort | None = port
        self._clock = clock
        self._cipher = VoiceCipher(self.key)
        self._buffer = JitterBuffer(deliver, self.stats)
        self._meter = JitterMeter(self.stats)
        self._opus = audio_format != "pcm"
        self._address: Any = None
        self._sequence = 0
        self._held: deque[tuple[float, bytes]] | None = None
        self._far: tuple[int, int, Any] = (0, 0, None)
        """(sequence that would continue a jump, packets that have, where they came from)."""
        self._toc = -1
        """The first byte of the device's last packet; -1: none yet, or it is not Opus."""

    @property
    def address(self) -> tuple[str, int] | None:
        """Where the device is; None: not known yet."""
        return None if self._address is None else (self._address[0], self._address[1])

    @property
    def deadline(self) -> float:
        """When the next gap is given up; now, if there is none."""
        return self._buffer.deadline or 0.0

    def send(self, frame: bytes) -> None:
        """Send a frame as `UdpCodec.pack` makes it. Never waits and never fails: what the kernel does not take is
        counted and lost, as on the way."""
        port = self._port
        if port is None:
            return
        address = self._address
        if address is None:
            self._hold(frame)
            return
        stats = self.stats
        self._sequence = sequence = self._sequence + 1
        header = frame[:4] + self.nonce[4:8] + frame[8:12] + sequence.to_bytes(4, "big")
        if port.transmit(header + self._cipher.apply(header, frame[_HEAD_SIZE:]), address):
            stats.sent += 1
            stats.bytes_out += len(frame)
        else:
            stats.send_dropped += 1

    def flush(self) -> None:
        """Deliver now what the kernel holds, and what waits for missing packets: for a message that ends the sound, and
        came by another way and perhaps faster."""
        port = self._port
        if port is not None:
            for _ in range(FLUSH_BATCHES):
                if not port.read():
                    break
            self._buffer.flush(self._clock())

    def close(self) -> None:
        """Neither deliver nor send any more. Idempotent."""
        port, self._port = self._port, None
        if port is not None:
            self._buffer.clear()
            self._held = None
            port.forget(self)

    def receive(self, datagram: bytes, address: Any, timestamp: int, sequence: int, now: float) -> None:
        """A datagram with this channel's ssrc and the length that it says."""
        buffer, stats = self._buffer, self.stats
        as_expected = sequence == buffer.expected and address == self._address
        verdict = SequenceVerdict.NEW if as_expected else self._judge(sequence, address)
        if verdict is None:
            return
        header = datagram[:_HEAD_SIZE]
        payload = self._cipher.apply(header, datagram[_HEAD_SIZE:])
        if as_expected:
            if payload[0] != self._toc:
                self._learn(payload)
        elif not self._plausible(payload) or (
            verdict is SequenceVerdict.FAR and not self._jumps(sequence, address, now)
        ):
            stats.refused += 1
            return
        elif address != self._address:
            self._found(address, payload, now)
        stats.received += 1
        stats.bytes_in += len(datagram)
        self._meter.arrived(sequence, now)
        buffer.put(sequence, timestamp, header + payload, now)
        if buffer.deadline is not None and self._port is not None:
            self._port.await_gap(self)

    def expire(self, now: float) -> bool:
        """Give up gaps that are due; False when none is left."""
        self._buffer.expire(now)
        return self._buffer.deadline is not None

    def _judge(self, sequence: int, address: Any) -> SequenceVerdict | None:
        """NEW or FAR; None, and counted, when the packet is not to be taken."""
        elsewhere = self._address is not None and address != self._address
        verdict = self._buffer.judge(sequence)
        if verdict is SequenceVerdict.LATE:
            self.stats.late += 1
        elif verdict is SequenceVerdict.DUPLICATE:
            self.stats.duplicates += 1
        elif elsewhere and (verdict is SequenceVerdict.FAR or sequence <= self._buffer.newest):
            self.stats.refused += 1
        else:
            return verdict
        return None

    def _plausible(self, payload: bytes) -> bool:
        """Whether it is sound of the device's kind: what was enciphered with another key, or not at all, seldom is."""
        if not self._opus:
            return len(payload) % 2 == 0
        try:
            duration_ms = packet_duration_ms(payload)
        except ProtocolError:
            return False
        return self._toc < 0 or duration_ms == self._meter.packet_ms

    def _jumps(self, sequence: int, address: Any, now: float) -> bool:
        """A packet far ahead: whether enough of them have come in a row to go on from there."""
        expected, came, where = self._far
        came = came + 1 if sequence == expected and address == where else 1
        self._far = (sequence + 1, came, address)
        if came < RESTART_AFTER:
            return False
        self._buffer.restart(sequence, now)
        return True

    def _learn(self, payload: bytes) -> None:
        """What kind of packets the device sends."""
        if self._opus:
            self._toc = payload[0]
            try:
                self._meter.packet_ms = packet_duration_ms(payload)
            except ProtocolError:
                self._toc = -1
        else:
            self._meter.packet_ms = len(payload) / PCM_BYTES_PER_MS

    def _found(self, address: Any, payload: bytes, now: float) -> None:
        """The device is at `address` from now on; it gets what was held."""
        if self._address is not None:
            self.stats.moved += 1
        self._address = address
        self._learn(payload)
        held, self._held = self._held, None
        for at, frame in held or ():
            if now - at <= HELD_S:
                self.send(frame)
            else:
                self.stats.unaddressed += 1

    def _hold(self, frame: bytes) -> None:
        if self._held is None:
            self._held = deque()
        self._held.append((self._clock(), frame))
        if len(self._held) > HELD_FRAMES:
            self._held.popleft()
            self.stats.unaddressed += 1


def _datagram_socket(address: tuple[str, int]) -> Any:
    """A bound, non-blocking UDP socket; a host with a colon is IPv6, and "::" takes IPv4 too. Raises OSError."""
    host = address[0]
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        if host == "::":
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        sock.bind(address)
        sock.settimeout(0.0)
    except OSError:
        sock.close()
        raise
    return sock
