"""Tokens: accepted by the right party until they expire, refused in every other case."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xiaozhi.errors import AuthError
from xiaozhi.protocol.token import DEVICE_TOKEN_SECONDS, DeviceTokens, VisionTokens, bearer, mqtt_password, same_secret

NOW = 1_750_000_000.75
CLIENT = "7b94d69a-9808-4c59-9c9b-704333b38aff"
DEVICE = "11:22:33:44:55:66"

tokens = DeviceTokens("secret")
vision = VisionTokens("secret")


def test_device_token_has_the_format_that_the_gateway_also_makes() -> None:
    stamp = int(NOW)
    digest = hmac.new(b"secret", f"{CLIENT}|{DEVICE}|{stamp}".encode(), hashlib.sha256).digest()
    expected = base64.urlsafe_b64encode(digest).decode().rstrip("=") + f".{stamp}"

    assert tokens.issue(CLIENT, DEVICE, now=NOW) == expected
    tokens.check(expected, CLIENT, DEVICE, now=NOW)


def test_padding_left_on_by_another_issuer_is_accepted() -> None:
    signature, _, stamp = tokens.issue(CLIENT, DEVICE, now=NOW).partition(".")

    tokens.check(f"{signature}=.{stamp}", CLIENT, DEVICE, now=NOW)


def test_a_gateway_may_have_signed_for_another_spelling_of_the_id() -> None:
    token = tokens.issue(CLIENT, "AA-BB-CC-00-11-22", now=NOW)

    tokens.check(token, CLIENT, "aa:bb:cc:00:11:22", now=NOW, written_id="AA-BB-CC-00-11-22")
    for written in ("", "AA:BB:CC:00:11:22"):
        with pytest.raises(AuthError, match="does not belong"):
            tokens.check(token, CLIENT, "aa:bb:cc:00:11:22", now=NOW, written_id=written)


def test_device_token_lives_exactly_as_long_as_configured() -> None:
    short = DeviceTokens("secret", expire_seconds=60)
    token = short.issue(CLIENT, DEVICE, now=1000)

    short.check(token, CLIENT, DEVICE, now=1060)
    with pytest.raises(AuthError, match="expired"):
        short.check(token, CLIENT, DEVICE, now=1061)


@pytest.mark.parametrize("configured", [0, -1])
def test_no_lifetime_means_the_default_one(configured: int) -> None:
    unset = DeviceTokens("secret", expire_seconds=configured)
    token = unset.issue(CLIENT, DEVICE, now=0)

    unset.check(token, CLIENT, DEVICE, now=DEVICE_TOKEN_SECONDS)
    with pytest.raises(AuthError):
        unset.check(token, CLIENT, DEVICE, now=DEVICE_TOKEN_SECONDS + 1)


def test_a_stamp_in_the_future_passes_for_servers_that_start_without_a_clock() -> None:
    tokens.check(tokens.issue(CLIENT, DEVICE, now=NOW), CLIENT, DEVICE, now=0)


@pytest.mark.parametrize(
    "secret,client,device",
    [
        ("other", CLIENT, DEVICE),
        ("secret", "another", DEVICE),
        ("secret", CLIENT, "11:22:33:44:55:67"),
        ("secret", DEVICE, CLIENT),
    ],
)
def test_device_token_of_another_is_refused(secret: str, client: str, device: str) -> None:
    with pytest.raises(AuthError, match="does not belong"):
        DeviceTokens(secret).check(tokens.issue(CLIENT, DEVICE, now=NOW), client, device, now=NOW)


def test_changing_the_stamp_breaks_the_signature() -> None:
    signature, _, stamp = tokens.issue(CLIENT, DEVICE, now=NOW).partition(".")

    with pytest.raises(AuthError, match="does not belong"):
        tokens.check(f"{signature}.{int(stamp) + 1}", CLIENT, DEVICE, now=NOW)


@pytest.mark.parametrize("client,device", [("a|b", "c"), ("a", "b|c")])
def test_ids_that_could_shift_the_separator_get_no_token_and_pass_with_none(client: str, device: str) -> None:
    with pytest.raises(AuthError):
        tokens.issue(client, device, now=NOW)
    with pytest.raises(AuthError):
        tokens.check("x.1", client, device, now=NOW)


@pytest.mark.parametrize(
    "token",
    ["", ".", "x", ".123", "x.", "x.-5", "x.1_0", "x.\u0661", "x. 1", "x." + "9" * 13, "a" * 300 + ".1", "x.1.5e3"],
)
def test_what_is_no_token_is_refused_without_a_stack_trace(token: str) -> None:
    for kind in (lambda: tokens.check(token, CLIENT, DEVICE, now=NOW), lambda: vision.check(token, DEVICE, now=NOW)):
        with pytest.raises(AuthError):
            kind()


@given(st.text(st.characters(), max_size=300), st.text(st.characters()), st.text(st.characters()))
def test_nothing_but_auth_error_ever_comes_out(token: str, client: str, device: str) -> None:
    with pytest.raises(AuthError):
        tokens.check(token, client, device, now=NOW)
    with pytest.raises(AuthError):
        vision.check(token, device, now=NOW)


@given(
    st.text(st.characters(exclude_characters="|")),
    st.text(st.characters(exclude_characters="|")),
    st.integers(0, 10**11),
)
def test_what_is_issued_is_accepted(client: str, device: str, now: int) -> None:
    tokens.check(tokens.issue(client, device, now=now), client, device, now=now)


def test_an_empty_secret_is_refused_as_it_would_make_tokens_forgeable() -> None:
    for kind in (DeviceTokens, VisionTokens):
        with pytest.raises(ValueError, match="empty"):
            kind("")


# --- vision ---


def test_vision_token_is_for_one_device_whatever_the_case_of_its_id() -> None:
    token = vision.issue("AA:bb:CC:00:11:22", now=NOW)

    vision.check(token, "aa:BB:cc:00:11:22", now=NOW)
    with pytest.raises(AuthError, match="does not belong"):
        vision.check(token, DEVICE, now=NOW)


def test_vision_token_names_its_device() -> None:
    assert vision.check(vision.issue("AA-BB-CC-00-11-22", now=NOW), now=NOW) == "aa:bb:cc:00:11:22"
    assert vision.check(vision.issue("x" * 128, now=NOW), now=NOW) == "x" * 128
    name, rest = vision.issue(DEVICE, now=NOW).split(".", 1)
    other = vision.issue("11:22:33:44:55:77", now=NOW).partition(".")[0]
    for forged in (f"{other}.{rest}", rest, f".{rest}", f"{name}{rest}", f"{name}=é.{rest}"):
        with pytest.raises(AuthError):
            vision.check(forged, now=NOW)


def test_vision_token_expires() -> None:
    short = VisionTokens("secret", expire_seconds=60)
    token = short.issue(DEVICE, now=1000)

    short.check(token, DEVICE, now=1060)
    with pytest.raises(AuthError, match="expired"):
        short.check(token, DEVICE, now=1061)


def test_device_and_vision_tokens_do_not_stand_in_for_each_other() -> None:
    with pytest.raises(AuthError):
        vision.check(tokens.issue("", DEVICE, now=NOW), DEVICE, now=NOW)
    with pytest.raises(AuthError):
        tokens.check(vision.issue(DEVICE, now=NOW), "", DEVICE, now=NOW)


# --- small ones ---


@pytest.mark.parametrize(
    "header,token",
    [
        ("Bearer abc", "abc"),
        ("bearer  abc ", "abc"),
        ("abc", "abc"),
        ("", ""),
        ("Bearer ", "Bearer"),
        ("Basic abc", "Basic abc"),
    ],
)
def test_bearer(header: str, token: str) -> None:
    assert bearer(header) == token


def test_same_secret_is_never_true_for_an_empty_expectation() -> None:
    assert same_secret("x", "x")
    assert not same_secret("x", "y")
    assert not same_secret("", "")
    assert not same_secret("\udcff", "x")


def test_mqtt_password_is_what_the_gateway_computes() -> None:
    client_id = "GID_board@@@11_22_33_44_55_66@@@11_22_33_44_55_66"
    digest = hmac.new(b"key", f"{client_id}|eyJpcCI6IjEifQ==".encode(), hashlib.sha256).digest()

    assert mqtt_password("key", client_id, "eyJpcCI6IjEifQ==") == base64.b64encode(digest).decode()
    assert mqtt_password("", client_id, "x") == ""
