"""Secrets that can be guessed are not taken."""

from __future__ import annotations

from typing import Any

import pytest

from xiaozhi.errors import SettingsError
from xiaozhi.settings import load
from xiaozhi.settings.strength import COMMAND

WEAK = ["x", "admin", "123456789012345", "aaaaaaaaaaaaaaaaaaaaaaaa", "passwordpassword", 12345, "abababababababababab"]
GOOD = ["550e8400-e29b-41d4-a716-446655440000", "xKq3vN8sTzR1mWb7", 12345678901234567890]


@pytest.mark.parametrize("key", ["auth_key", "secret", "admin_token"])
@pytest.mark.parametrize("value", WEAK)
def test_a_weak_secret_is_a_fault_that_says_how_to_make_a_good_one(key: str, value: Any) -> None:
    with pytest.raises(SettingsError) as caught:
        load(environ={}, overrides={"server": {key: value}})
    [fault] = caught.value.faults
    assert fault.key == f"server.{key}"
    assert COMMAND in fault.expected and "the command line" in fault.expected
    assert str(value) not in f"{fault.value} {fault.expected}" or len(str(value)) < 2


def test_also_from_the_environment() -> None:
    with pytest.raises(SettingsError, match=r"server\.admin_token: 4 characters"):
        load(environ={"XIAOZHI__SERVER__ADMIN_TOKEN": "1234"})


@pytest.mark.parametrize("key", ["auth_key", "secret", "admin_token"])
@pytest.mark.parametrize("value", [*GOOD, "", None, "your-secret"])
def test_good_ones_and_none_are_fine(key: str, value: Any) -> None:
    assert load(environ={}, overrides={"server": {key: value}}).settings


@pytest.mark.parametrize("section,key", [("manager-api", "secret"), ("server", "mqtt_signature_key")])
def test_what_another_system_decides_is_a_warning(section: str, key: str) -> None:
    for value, expected in (("hush", True), (GOOD[0], False)):
        warnings = load(environ={}, overrides={section: {key: value}}).warnings
        assert any(f"{section}.{key} can be guessed" in warning for warning in warnings) is expected
        assert "hush" not in str(warnings)
