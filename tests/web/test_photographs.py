"""Photographs of every size up to the limit get through, whatever their bytes are."""

from __future__ import annotations

import io
import random
from typing import Any

import gevent
import pytest
from flask.testing import FlaskClient
from werkzeug.test import EnvironBuilder

from tests.fakes.thinking import FakeVllm
from xiaozhi.protocol.token import VisionTokens
from xiaozhi.web.app import FORM_MEMORY_BYTES, create_app
from xiaozhi.web.vision import MAX_IMAGE_BYTES, VISION_PATH, VisionConfig, create_blueprint

DEVICE = "11:22:33:44:55:66"
TOKENS = VisionTokens("secret")
TOKEN = TOKENS.issue(DEVICE, now=0)
BOUNDARY = "----ESP32_CAMERA_BOUNDARY"


class Looking(FakeVllm):
    """Notes how large the picture was, and keeps none."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def describe(self, question: str, image: bytes, mime: str, context: Any) -> str:
        self.sizes.append(len(image))
        return "a cat"


def photograph(size: int, seed: int, newlines: bytes) -> bytes:
    """The head of a JPEG and noise, of which every fifth byte is the end of a line: where a parser holds back what
    might be the beginning of a boundary."""
    noise = bytearray(random.Random(seed).randbytes(size))
    noise[::5] = (newlines * (len(noise[::5]) // len(newlines) + 1))[: len(noise[::5])]
    return b"\xff\xd8\xff\xe0" + bytes(noise[4:])


def upload(device: FlaskClient, image: bytes, chunked: bool, boundary: str = BOUNDARY) -> int:
    body = b"".join(
        (
            f'--{boundary}\r\nContent-Disposition: form-data; name="question"\r\n\r\nwhat?\r\n'.encode(),
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="camera.jpg"\r\n'.encode(),
            b"Content-Type: image/jpeg\r\n\r\n",
            image,
            f"\r\n--{boundary}--\r\n".encode(),
        )
    )
    environ = EnvironBuilder(
        path=VISION_PATH,
        method="POST",
        input_stream=io.BytesIO(body),
        content_type=f"multipart/form-data; boundary={boundary}",
        headers={"Authorization": f"Bearer {TOKEN}", "Device-Id": DEVICE},
    ).get_environ()
    # As pywsgi gives them to the application.
    environ |= {"wsgi.input_terminated": True} if chunked else {"CONTENT_LENGTH": str(len(body))}
    gevent.sleep(0)  # sleep: none of this waits otherwise
    return device.open(environ).status_code


@pytest.fixture
def vllm() -> Looking:
    return Looking()


@pytest.fixture
def device(vllm: Looking) -> FlaskClient:
    blueprint = create_blueprint(VisionConfig(), TOKENS, lambda device_id: vllm, clock=lambda: 0)
    return create_app([blueprint]).test_client()


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("newlines", [b"\n", b"\r", b"\r\n"])
def test_no_photograph_within_the_limit_is_refused(
    device: FlaskClient, vllm: Looking, chunked: bool, newlines: bytes
) -> None:
    sizes = [60_000, 130_000, 150_000, 200_000, 500_000, 1_000_000] * 4
    answers = [upload(device, photograph(size, seed, newlines), chunked) for seed, size in enumerate(sizes)]

    assert answers == [200] * len(sizes)
    assert vllm.sizes == sizes


@pytest.mark.parametrize("chunked", [False, True])
def test_the_largest_photograph_with_the_longest_boundary(device: FlaskClient, vllm: Looking, chunked: bool) -> None:
    """What is held back is at most a boundary, and a boundary at most all headers."""
    for boundary in (BOUNDARY, "b" * 12_000):
        assert upload(device, photograph(MAX_IMAGE_BYTES, 1, b"\n"), chunked, boundary) == 200
        assert upload(device, photograph(MAX_IMAGE_BYTES + 1, 1, b"\n"), chunked, boundary) == 413
    assert vllm.sizes == [MAX_IMAGE_BYTES] * 2


def test_a_question_is_not_what_the_memory_is_for(device: FlaskClient) -> None:
    fields = {"question": "x" * (FORM_MEMORY_BYTES + 1), "file": (io.BytesIO(photograph(100, 1, b"\n")), "camera.jpg")}
    headers = {"Authorization": f"Bearer {TOKEN}", "Device-Id": DEVICE}
    reply = device.post(VISION_PATH, data=fields, headers=headers, content_type="multipart/form-data")
    assert reply.status_code == 413
