"""Gzip that is recognised by its bytes."""

from __future__ import annotations

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xiaozhi.net.unpack import MAX_BYTES, Unpack

TEXT = b'data: {"a": 1}\n\n' * 200


@given(st.integers(1, 400))
def test_pieces_of_any_size_come_out_whole(size: int) -> None:
    packed = gzip.compress(TEXT)
    unpack = Unpack()
    assert b"".join(unpack.feed(packed[at : at + size]) for at in range(0, len(packed), size)) == TEXT
    assert unpack.whole


def test_several_members_and_padding() -> None:
    unpack = Unpack()
    assert unpack.feed(gzip.compress(b"one ") + gzip.compress(b"two") + bytes(16)) == b"one two"
    assert unpack.whole


def test_a_stream_that_is_flushed_comes_out_at_once() -> None:
    packer = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
    unpack = Unpack()
    assert unpack.feed(packer.compress(b"one") + packer.flush(zlib.Z_SYNC_FLUSH)) == b"one"
    assert not unpack.whole


def test_what_breaks_off_is_not_whole_and_what_is_broken_is_told() -> None:
    unpack = Unpack()
    unpack.feed(gzip.compress(TEXT)[:-4])
    assert not unpack.whole
    with pytest.raises(zlib.error):
        Unpack().feed(b"\x1f\x8b\xff\xff\xff\xff\xff\xff\xff\xff")


def test_a_body_does_not_grow_beyond_all_measure() -> None:
    with pytest.raises(zlib.error, match="measure"):
        Unpack().feed(gzip.compress(bytes(MAX_BYTES * 2)))
