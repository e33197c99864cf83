"""A device sends a picture of its screen to an address that is good for a minute."""

from __future__ import annotations

import io

import pytest
from flask.testing import FlaskClient

from xiaozhi.errors import StorageUnavailable
from xiaozhi.protocol.token import VisionTokens
from xiaozhi.runtime.guesses import FREE, Guesses
from xiaozhi.web.app import create_app
from xiaozhi.web.device_pictures import GOOD_FOR_S, MAX_PICTURE_BYTES, create_blueprint, picture_tokens

DEVICE = "02:00:00:00:00:0a"
JPEG = b"\xff\xd8\xff\xe0" + bytes(1_000)


class Wall:
    """Where pictures go."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.kept: list[tuple[str, bytes]] = []
        self.error: Exception | None = None
        self.tokens = picture_tokens("secret")
        blueprint = create_blueprint(self.tokens, self._keep, Guesses(), clock=lambda: self.now)
        self.client: FlaskClient = create_app([blueprint]).test_client()

    def _keep(self, device: str, picture: bytes) -> None:
        if self.error is not None:
            raise self.error
        self.kept.append((device, picture))

    def send(self, picture: bytes = JPEG, token: str = "", field: str = "file") -> int:
        """The status."""
        token = token or self.tokens.issue(DEVICE, now=self.now)
        form = {field: (io.BytesIO(picture), "screenshot.jpg", "image/jpeg")}
        return self.client.post(f"/device-pictures/{token}", data=form).status_code


@pytest.fixture
def wall() -> Wall:
    return Wall()


def test_a_picture_is_kept_for_the_device_of_the_token(wall: Wall) -> None:
    assert wall.send() == 200
    assert wall.kept == [(DEVICE, JPEG)]


@pytest.mark.parametrize(
    "picture", [b"", b"hello", b"GIF89a" + bytes(50), b"<svg/>"], ids=["none", "text", "gif", "svg"]
)
def test_what_is_no_picture_is_refused(wall: Wall, picture: bytes) -> None:
    assert wall.send(picture) == 400
    assert wall.kept == []


def test_a_large_picture_is_refused_and_one_at_the_limit_is_not(wall: Wall) -> None:
    head = JPEG[:4]
    assert wall.send(head + bytes(MAX_PICTURE_BYTES - 4)) == 200
    assert wall.send(head + bytes(MAX_PICTURE_BYTES)) == 413
    assert wall.send(head + bytes(2 * MAX_PICTURE_BYTES)) == 413


def test_other_fields_are_no_picture(wall: Wall) -> None:
    assert wall.send(field="image") == 400


def test_an_address_is_good_for_a_minute_and_no_other_token_is(wall: Wall) -> None:
    token = wall.tokens.issue(DEVICE, now=wall.now)
    wall.now += GOOD_FOR_S + 1
    assert wall.send(token=token) == 401
    assert wall.send(token=VisionTokens("secret").issue(DEVICE, now=wall.now)) == 401
    assert wall.kept == []


def test_guessing_has_to_wait(wall: Wall) -> None:
    answers = [wall.send(token=f"a.b.{number}") for number in range(FREE + 3)]
    assert answers[-1] == 429


def test_without_the_database_it_is_said(wall: Wall) -> None:
    wall.error = StorageUnavailable("locked")
    assert wall.send() == 503
