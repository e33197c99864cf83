"""What waits for an agent: in order, and never too much of it."""

from __future__ import annotations

from xiaozhi.protocol import messages as wire
from xiaozhi.protocol.frames import Frame
from xiaozhi.session.pending_input import PendingInput


def sound(number: int, size: int = 10) -> Frame:
    """A frame that can be told from others."""
    return Frame(bytes([number]) * size, number, "audio")


def text(name: str) -> wire.Listen:
    """A message that can be told from others."""
    return wire.Listen(wire.ListenState.DETECT, None, name)


def everything(pending: PendingInput) -> list[object]:
    """All that waits: numbers of frames, texts of messages."""
    taken = []
    while (waited := pending.take()) is not None:
        taken.append(waited.timestamp_ms if isinstance(waited, Frame) else waited.text)  # type: ignore[union-attr]
    return taken


def test_sound_and_messages_come_out_as_they_came_in() -> None:
    pending = PendingInput()
    pending.add_message(text("a"), 1)
    pending.add_sound(sound(1))
    pending.add_sound(sound(2))
    pending.add_message(text("b"), 1)
    pending.add_sound(sound(3))

    assert len(pending) == 5
    assert everything(pending) == ["a", 1, 2, "b", 3]
    assert pending.take() is None
    assert (len(pending), pending.held_bytes) == (0, 0)


def test_the_oldest_sound_goes_first() -> None:
    pending = PendingInput(max_frames=2)
    assert [pending.add_sound(sound(number)) for number in (1, 2)] == [0, 0]
    pending.add_message(text("a"), 1)

    assert pending.add_sound(sound(3)) == 1

    assert everything(pending) == [2, "a", 3]


def test_sound_is_bounded_in_bytes_too() -> None:
    pending = PendingInput(max_sound_bytes=100)
    for number in range(10):
        pending.add_sound(sound(number))

    assert pending.add_sound(sound(10, 95)) == 10
    assert pending.held_bytes == 95
    assert pending.add_sound(sound(11, 101)) == 2, "a frame that is too large alone goes itself"
    assert pending.take() is None


def test_a_message_for_which_there_is_no_room_is_refused() -> None:
    pending = PendingInput(max_messages=2, max_message_chars=10)

    assert pending.add_message(text("a"), 8)
    assert not pending.add_message(text("long"), 3)
    assert pending.add_message(text("b"), 2)
    assert not pending.add_message(text("c"), 0)

    assert everything(pending) == ["a", "b"]
    assert pending.add_message(text("d"), 10), "what was taken makes room"


def test_it_can_be_emptied() -> None:
    pending = PendingInput()
    pending.add_sound(sound(1))
    pending.add_message(text("a"), 1)

    pending.drop_sound()
    assert (len(pending), pending.held_bytes) == (1, 1)
    pending.clear()

    assert (len(pending), pending.held_bytes) == (0, 0)
