"""Conversations by MQTT + UDP: how they begin and end, what is passed on, and what becomes of the rest."""

from __future__ import annotations

import pytest

from tests.transport.harness import Noting
from tests.transport.mqtt_harness import HELLO, FakeSound, serving
from tests.waiting import wait_for
from xiaozhi.errors import ConnectionClosed
from xiaozhi.protocol import close_codes
from xiaozhi.protocol.messages import UdpOffer
from xiaozhi.runtime.limits import AdmissionLimits
from xiaozhi.runtime.tasks import census
from xiaozhi.session.link import Link
from xiaozhi.transport.mqtt_conversation import MAX_QUEUED, MqttConversation


def test_messages_and_sound_both_ways() -> None:
    with serving() as port, port.device() as wire:
        session = port.talk(wire)
        (channel,) = port.sound.channels
        identity = session.visit.identity
        assert identity.udp == UdpOffer("192.168.1.5", 8884, channel.key, channel.nonce)
        assert identity.session_id
        channel.deliver(b"frame 1")
        wire.tell("listen", state="stop")
        wait_for(lambda: len(session.heard) == 3, "the messages")
        assert session.heard[:2] == [HELLO, b"frame 1"]
        assert channel.flushes == 1, "sound that waits for a lost packet belongs to what is ended"
        session.visit.send_text('{"type":"stt"}')
        session.visit.send_binary(b"frame 2")
        assert wire.message() == ("devices/p2p/aa-bb", {"type": "stt"})
        assert channel.sent == [b"frame 2"]
        assert len(port.connections) == port.admission.total == 1


def test_goodbye_of_the_device_ends_the_conversation_and_nothing_else() -> None:
    def leave(session: Noting, text: str) -> None:
        if "goodbye" in text:
            session.visit.close(close_codes.NORMAL, "goodbye")

    class Leaving(Noting):
        reaction = leave

    with serving(sessions=Leaving) as port, port.device() as wire:
        session = port.talk(wire)
        wire.tell("goodbye", session_id="of an earlier one")
        wire.ping()
        assert not session.closings
        wire.tell("goodbye", session_id=session.visit.identity.session_id)
        wait_for(lambda: session.closings == ["1000 goodbye"], "the end")
        wire.ping()  # no goodbye comes first
        assert port.counts.strays == 1
        again = port.talk(wire, 2)
        assert again.visit.identity.session_id != session.visit.identity.session_id
        assert port.sound.channels[0].closed
        assert not port.sound.channels[1].closed


def test_goodbye_of_the_server_names_the_session() -> None:
    with serving() as port, port.device() as wire:
        session = port.talk(wire)
        session.visit.close(close_codes.NORMAL, "no voice")
        assert wire.message()[1] == {"type": "goodbye", "session_id": session.visit.identity.session_id}
        wait_for(lambda: session.closings == ["1000 no voice"], "the end")
        with pytest.raises(ConnectionClosed):
            session.visit.send_text("late")
        wire.ping()


def test_hello_again_begins_anew() -> None:
    with serving() as port, port.device() as wire:
        session = port.talk(wire)
        again = port.talk(wire, 2)
        wait_for(lambda: session.closings == ["1000 hello again"], "the end of the first")
        assert not again.closings
        assert port.admission.total == 1
        wire.ping()  # a goodbye would come first


def test_messages_without_a_conversation() -> None:
    """A device that takes a conversation for open is told that it is not; the rest is counted."""
    with serving() as port, port.device() as wire:
        wire.tell("listen", state="start", session_id="lost")
        assert wire.message()[1] == {"type": "goodbye", "session_id": "lost"}
        wire.tell("mcp", payload={}, session_id="lost")
        wire.tell("goodbye", session_id="lost")
        wire.tell("listen", state="start")
        wire.publish("no JSON")
        wire.publish(b"\xff\xfe")
        wire.publish("[]")
        wire.ping()
        assert (port.counts.strays, port.counts.malformed, port.counts.received) == (4, 3, 7)
        assert not port.sessions


def test_a_message_may_speak_of_hello() -> None:
    with serving() as port, port.device() as wire:
        session = port.talk(wire)
        wire.tell("listen", state="detect", text='say "hello" and "goodbye"')
        wire.publish('"hello" is no message')
        wait_for(lambda: len(session.heard) == 3, "the messages")
        assert len(port.sessions) == 1


def test_quality_of_service_1_is_confirmed() -> None:
    with serving() as port, port.device() as wire:
        wire.publish(HELLO, qos=1, packet_id=77)
        assert wire.receive() == (0x40, b"\x00\x4d")
        wait_for(lambda: port.sessions, "the session")


def test_quality_of_service_2_is_not_spoken() -> None:
    with serving() as port, port.device() as wire:
        wire.publish(HELLO, qos=2)
        assert wire.is_closed()
        assert port.counts.ended == {"1002": 1}


@pytest.mark.parametrize(("size", "taken"), [(2_000, True), (2_001, False)])
def test_the_largest_message(size: int, taken: bool) -> None:
    """`text_bytes` is for the whole packet: here 2,000."""
    around = len(b"\x30\xcd\x0f") + 2 + len("device-server")
    with serving() as port, port.device() as wire:
        session = port.talk(wire)
        wire.publish('"' + "x" * (size - around - 2) + '"')
        if taken:
            wait_for(lambda: len(session.heard) == 2, "the message")
            wire.ping()
        else:
            assert wire.is_closed()
            assert port.counts.ended == {"1009": 1}


def test_the_last_words_of_a_lost_device() -> None:
    with serving() as port:
        with port.device(will='{"type":"abort"}') as wire:
            session = port.talk(wire)
        wait_for(lambda: session.closings, "the end")
        assert session.heard[1:] == ['{"type":"abort"}']
        with port.device("polite", will='{"type":"abort"}') as wire:
            session = port.talk(wire, 2)
            wire.send(b"\xe0\x00")
            wait_for(lambda: session.closings == ["1000 disconnected"], "the end")
        assert session.heard == [HELLO], "who leaves as planned has none"


def test_no_place_for_a_conversation() -> None:
    """The device gives up by itself; its connection stays."""
    with (
        serving(limits=AdmissionLimits(max_connections=1)) as port,
        port.device("one") as one,
        port.device("two") as two,
    ):
        session = port.talk(one)
        two.publish(HELLO)
        two.ping()
        assert port.counts.refused == {"conversation": 1}
        one.tell("goodbye")
        session.visit.close(close_codes.NORMAL, "goodbye")
        wait_for(lambda: port.admission.total == 0, "the place")
        port.talk(two, 2)


def test_a_session_that_cannot_be_made() -> None:
    def fail(link: Link) -> Noting:
        raise RuntimeError("no session")

    with serving(sessions=fail) as port, port.device() as wire:
        wire.publish(HELLO)
        assert wire.message()[1]["type"] == "goodbye"
        wire.ping()
        wait_for(lambda: port.admission.total == 0, "the place")


def test_what_nobody_reads_is_dropped() -> None:
    """Neither the reader of MQTT nor that of UDP waits for a session."""

    class Control:
        def publish(self, text: str) -> None:
            raise ConnectionClosed(1006, "gone")

        def conversation_ended(self, conversation: MqttConversation) -> None:
            pass

    drops: list[str] = []
    conversation = MqttConversation(Control(), FakeSound(), "id", dropped=drops.append)
    for _ in range(MAX_QUEUED):
        conversation.hear(b"x")
    conversation.hear(b"x")
    conversation.hear("text")
    assert drops == ["frames", "messages"]
    assert conversation.receive() == b"x"
    conversation.hear("y" * (1 << 20))
    assert drops[2:] == ["messages"], "there is room for one more, but not for so much"
    assert conversation.held_bytes == MAX_QUEUED - 1
    conversation.close(1000, "done")
    with pytest.raises(ConnectionClosed, match="done"):
        conversation.receive()
    conversation.hear(b"late")
    assert conversation.held_bytes == MAX_QUEUED - 1


def test_an_idle_device_costs_one_greenlet() -> None:
    with serving() as port, port.device("one") as one, port.device("two") as two:
        before = census.live
        with port.device("three"):
            assert census.live == before + 1
            port.talk(one)
            two.ping()
            assert census.live == before + 2
