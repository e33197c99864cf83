"""The one form of a device id."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xiaozhi.errors import ProtocolError
from xiaozhi.protocol.device_id import MAX_CHARS, checked_device_id, normal_device_id


@pytest.mark.parametrize(
    "written,normal",
    [
        ("24:0a:c4:1d:3b:f0", "24:0a:c4:1d:3b:f0"),
        ("24:0A:C4:1D:3B:F0", "24:0a:c4:1d:3b:f0"),
        (" 24-0a-C4-1d-3B-f0 ", "24:0a:c4:1d:3b:f0"),
        ("24:0a-c4:1d-3b:f0", "24:0a:c4:1d:3b:f0"),
        ("xiaozhi-test-000001", "xiaozhi-test-000001"),
        ("Auto-Test-Device", "auto-test-device"),
        ("7B94D69A-9808-4c59-9c9b-704333b38aff", "7b94d69a-9808-4c59-9c9b-704333b38aff"),
        ("my robot", "my robot"),
        ("{7B94D69A}@home", "{7b94d69a}@home"),
    ],
)
def test_one_form(written: str, normal: str) -> None:
    assert normal_device_id(written) == checked_device_id(written) == normal


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "x" * (MAX_CHARS + 1),
        "a|b",
        "a\nb",
        "a\x00",
        "a\x7fb",
        "a\x1b[31m",
        "设备",
        "../../etc",
        "a'b",
        "<b>",
        "a%0a",
        "+/#",
    ],
)
def test_what_is_no_id(text: str) -> None:
    with pytest.raises(ProtocolError, match="A device id must be"):
        checked_device_id(text)


@given(st.text(max_size=40))
def test_the_normal_form_is_final(text: str) -> None:
    once = normal_device_id(text)
    assert normal_device_id(once) == once
    assert once.lower() == once or not once.isascii()
