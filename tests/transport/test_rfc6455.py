"""WebSocket framing: golden files, every way to cut the stream into reads, and that any bytes end in a close code."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.golden.reader import Case, cases, octets
from tests.transport.wire import BINARY, CLOSE, PING, TEXT, frame
from xiaozhi.errors import ProtocolError
from xiaozhi.transport import rfc6455
from xiaozhi.transport.rfc6455 import Control, Inbound

_masks = st.binary(min_size=4, max_size=4)


def inbound() -> Inbound:
    return Inbound(max_binary=200, max_text=300)


def everything(reader: Inbound, *chunks: bytes) -> list[str | bytes | Control]:
    found: list[str | bytes | Control] = []
    for chunk in chunks:
        reader.feed(chunk)
        while (message := reader.next()) is not None:
            found.append(message)
    return found


@pytest.mark.parametrize("case", cases("protocol/websocket.golden"))
@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 10_000])
def test_golden(case: Case, chunk: int) -> None:
    data = octets(case.given)
    chunks = [data[at : at + chunk] for at in range(0, len(data), chunk)]
    if case.outcome == "closes":
        with pytest.raises(ProtocolError) as refused:
            everything(inbound(), *chunks)
        assert f"{refused.value.close_code} {refused.value}" == case.expected
    else:
        assert repr(everything(inbound(), *chunks)) == case.expected


@given(st.lists(st.binary(max_size=200) | st.text(max_size=70), max_size=8), _masks, st.randoms(use_true_random=False))
def test_messages_survive_any_cutting(messages: list[bytes | str], mask: bytes, chance: random.Random) -> None:
    """Fragmented anyhow, with pings between, and read in pieces of any size."""
    stream = b""
    for message in messages:
        data, opcode = (message, BINARY) if isinstance(message, bytes) else (message.encode(), TEXT)
        cuts = sorted(chance.randrange(len(data) + 1) for _ in range(chance.randrange(3)))
        pieces = [data[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(data)], strict=True)]
        for number, piece in enumerate(pieces):
            if chance.random() < 0.3:
                stream += frame(PING, b"?", mask=mask)
            stream += frame(opcode if number == 0 else 0, piece, fin=number == len(pieces) - 1, mask=mask)
    chunks = []
    while stream:
        size = chance.choice([1, 2, 5, 50, 1000])
        chunks.append(stream[:size])
        stream = stream[size:]
    heard = [message for message in everything(inbound(), *chunks) if not isinstance(message, Control)]
    assert heard == messages


@given(st.lists(st.binary(max_size=40), max_size=20))
def test_any_bytes_are_messages_or_a_violation(chunks: list[bytes]) -> None:
    try:
        everything(inbound(), *chunks)
    except ProtocolError as violation:
        assert violation.close_code in (1002, 1007, 1008, 1009)


@given(st.binary(max_size=300), _masks)
def test_unmasking_is_masking(payload: bytes, mask: bytes) -> None:
    slow = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
    assert rfc6455.unmask(payload, mask) == slow


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536, 70_000])
def test_sizes_at_the_edges_of_the_header(size: int) -> None:
    payload = bytes(size)
    reader = Inbound(max_binary=1 << 20, max_text=1 << 20)
    assert everything(reader, frame(BINARY, payload)) == [payload]
    sent = rfc6455.binary_frame(payload)
    assert sent == rfc6455.frame(BINARY, payload)
    assert sent == frame(BINARY, payload, mask=b"")


def test_a_limit_below_the_short_header_still_counts() -> None:
    reader = Inbound(max_binary=10, max_text=10)
    assert everything(reader, frame(BINARY, bytes(10))) == [bytes(10)]
    with pytest.raises(ProtocolError) as refused:
        everything(reader, frame(BINARY, bytes(11))[:6])
    assert refused.value.close_code == 1009


def test_a_message_of_endless_empty_fragments_ends() -> None:
    reader = inbound()
    everything(reader, frame(BINARY, fin=False))
    with pytest.raises(ProtocolError) as refused:
        for _ in range(rfc6455.MAX_FRAGMENTS):
            everything(reader, frame(0, fin=False))
    assert refused.value.close_code == 1008


def test_a_large_message_in_small_pieces_is_collected_once() -> None:
    """Not by appending to a growing buffer, which would copy it again and again."""
    reader = Inbound(max_binary=1 << 20, max_text=1 << 20)
    data = frame(BINARY, bytes(1 << 20))
    assert everything(reader, data[:100]) == []
    assert reader.missing == len(data) - 100
    assert everything(reader, *(data[at : at + 100] for at in range(100, len(data), 100))) == [bytes(1 << 20)]
    assert reader.missing == 2


# --- close frames ---


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 4999])
def test_codes_that_may_be_sent(code: int) -> None:
    assert rfc6455.parse_close(code.to_bytes(2, "big") + b"why") == (code, "why")
    assert rfc6455.close_frame(code, "why") == frame(CLOSE, code.to_bytes(2, "big") + b"why", mask=b"")


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535])
def test_codes_that_may_not(code: int) -> None:
    with pytest.raises(ProtocolError) as refused:
        rfc6455.parse_close(code.to_bytes(2, "big"))
    assert refused.value.close_code == 1002
    assert rfc6455.close_frame(code, "why") == frame(CLOSE, mask=b"")


def test_an_empty_close_frame_has_no_code() -> None:
    assert rfc6455.parse_close(b"") == (1005, "")


@pytest.mark.parametrize("payload,code", [(b"\x03", 1002), (b"\x03\xe8\xff", 1007), (b"\x03\xe8\xed\xa0\x80", 1007)])
def test_broken_close_frames(payload: bytes, code: int) -> None:
    with pytest.raises(ProtocolError) as refused:
        rfc6455.parse_close(payload)
    assert refused.value.close_code == code


@given(st.text(alphabet=st.characters(exclude_categories=())))
def test_any_reason_fits_into_a_close_frame(reason: str) -> None:
    data = rfc6455.close_frame(1000, reason)
    assert data[1] == len(data) - 2 <= 125
    code, said = rfc6455.parse_close(data[2:])
    assert code == 1000
    assert reason.encode("utf-8", "replace").decode().startswith(said)


def test_what_has_not_arrived_whole_is_counted() -> None:
    reader = Inbound(max_binary=300_000, max_text=300_000)
    whole = frame(TEXT, b"x" * 200_000, mask=b"mask")
    assert reader.held_bytes == 0
    for at in range(0, 150_000, 4096):
        reader.feed(whole[at : at + 4096])
        assert reader.next() is None
    assert 150_000 <= reader.held_bytes <= 160_000
    reader.feed(whole[at + 4096 :])
    assert reader.next() == "x" * 200_000
    assert reader.held_bytes == 0

    reader.feed(frame(TEXT, b"y" * 1000, fin=False, mask=b"mask") + frame(0, b"z" * 500, fin=False, mask=b"mask"))
    assert reader.next() is None
    assert 1500 <= reader.held_bytes <= 1700
    reader.feed(frame(0, b"!", mask=b"mask"))
    assert reader.next() == "y" * 1000 + "z" * 500 + "!"
    assert reader.held_bytes == 0
