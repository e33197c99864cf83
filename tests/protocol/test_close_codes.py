"""Close codes: what may stand in a close frame, and what has a name."""

from __future__ import annotations

import pytest

from xiaozhi.protocol import close_codes


@pytest.mark.parametrize("code", [1000, 1003, 1007, 1011, 1012, 1013, 1014, 3000, 4999])
def test_may_be_sent(code: int) -> None:
    assert close_codes.sendable(code)


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000])
def test_may_not_be_sent(code: int) -> None:
    assert not close_codes.sendable(code)


def test_names_are_those_of_the_registry() -> None:
    named = {value for name, value in vars(close_codes).items() if name.isupper() and isinstance(value, int)}
    assert named == close_codes.NAMED
    assert {code for code in named if not close_codes.sendable(code)} == {close_codes.NO_STATUS, close_codes.ABNORMAL}
