"""Pictures and questions about them."""

from __future__ import annotations

import io
import wave
from collections.abc import Callable
from typing import Any

import gevent
import pytest
from flask.testing import FlaskClient
from gevent.event import Event
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.test import TestResponse

from tests.fakes.clock import FakeClock
from tests.fakes.thinking import FakeVllm
from tests.waiting import PATIENCE_S
from xiaozhi.app.request_rates import RequestRates
from xiaozhi.chat import CallContext
from xiaozhi.errors import VendorBusy, VendorGarbage, VendorRejected, VendorTimeout
from xiaozhi.protocol.token import DeviceTokens, VisionTokens
from xiaozhi.providers.contracts.vllm import Vllm, VllmTraits
from xiaozhi.providers.wrappers import guard
from xiaozhi.runtime.guesses import FREE, Guesses
from xiaozhi.runtime.rates import Rates
from xiaozhi.runtime.resilience import RetryOptions
from xiaozhi.runtime.tasks import Tasks
from xiaozhi.settings.server import Limits
from xiaozhi.web.addresses import ServerAddresses
from xiaozhi.web.app import create_app
from xiaozhi.web.vision import MAX_IMAGE_BYTES, VISION_PATH, VisionConfig, create_blueprint, sniff_image

NOW = 1_750_000_000.0
DEVICE = "11:22:33:44:55:66"
TOKENS = VisionTokens("secret")
TOKEN = TOKENS.issue(DEVICE, now=NOW)
JPEG = b"\xff\xd8\xff\xe0" + b"x" * 100


def client(vllm: Vllm | None, clock: Callable[[], float] = lambda: NOW, **config: Any) -> FlaskClient:
    return create_app(
        [create_blueprint(VisionConfig(**config), TOKENS, lambda device: vllm, clock=clock)]
    ).test_client()


def ask(
    device: FlaskClient,
    image: bytes = JPEG,
    question: str = "what is this?",
    *,
    token: str = TOKEN,
    device_id: str = DEVICE,
) -> TestResponse:
    reply = device.post(
        VISION_PATH,
        headers={"Authorization": f"Bearer {token}", "Device-Id": device_id, "Client-Id": "c"},
        data={"question": question, "file": (io.BytesIO(image), "camera.jpg", "image/jpeg")},
        content_type="multipart/form-data",
    )
    # werkzeug writes large requests to a temporary file and leaves closing it to the garbage collector.
    reply.request.environ["wsgi.input"].close()
    return reply


class FailingVllm(FakeVllm):
    """Raises instead of answering."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    def describe(self, question: str, image: bytes, mime: str, context: CallContext) -> str:
        raise self._error


class SlowVllm(FakeVllm):
    """Answers when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = Event()
        self.asked = Event()

    def describe(self, question: str, image: bytes, mime: str, context: CallContext) -> str:
        self.asked.set()
        self.gate.wait(PATIENCE_S)
        return super().describe(question, image, mime, context)


# --- answers ---


def test_a_question_about_a_picture_is_answered() -> None:
    vllm = FakeVllm("一只猫")

    reply = ask(client(vllm), question="这是什么？")

    assert reply.status_code == 200
    assert reply.get_json() == {"success": True, "action": "RESPONSE", "response": "一只猫"}
    assert vllm.calls == [("这是什么？", JPEG, "image/jpeg")]


@pytest.mark.parametrize("field", ["file", "image", "picture", "照片"])
def test_the_picture_may_have_any_field_name(field: str) -> None:
    vllm = FakeVllm("a cat")

    reply = client(vllm).post(
        VISION_PATH,
        headers={"Authorization": f"Bearer {TOKEN}", "Device-Id": DEVICE},
        data={"question": "what is this?", field: (io.BytesIO(JPEG), "camera.jpg", "image/jpeg")},
        content_type="multipart/form-data",
    )

    assert reply.get_json()["response"] == "a cat"
    assert vllm.calls == [("what is this?", JPEG, "image/jpeg")]


def test_the_type_is_what_the_content_shows_not_what_the_device_says() -> None:
    vllm = FakeVllm()

    ask(client(vllm), image=b"\x89PNG\r\n\x1a\n" + b"x" * 50)

    assert vllm.calls[0][2] == "image/png"


def test_get_says_where_pictures_are_to_be_sent() -> None:
    device = client(FakeVllm())

    assert device.get(VISION_PATH, headers={"Host": "box:8003"}).text.count("http://box:8003/mcp/vision/explain") == 2
    configured = ServerAddresses(vision="https://v.example.com/x")
    assert "https://v.example.com/x" in client(FakeVllm(), addresses=configured).get(VISION_PATH).text
    assert "No vision model" in client(None).get(VISION_PATH).text


# --- who may ask ---


@pytest.mark.parametrize(
    "token,device_id",
    [
        ("", DEVICE),
        ("nonsense", DEVICE),
        (TOKEN, "11:22:33:44:55:77"),
        (VisionTokens("other").issue(DEVICE, now=NOW), DEVICE),
        (DeviceTokens("secret").issue("c", DEVICE, now=NOW), DEVICE),
    ],
)
def test_without_a_token_of_ones_own_nothing_is_looked_at(token: str, device_id: str) -> None:
    vllm = FakeVllm()

    reply = ask(client(vllm), token=token, device_id=device_id)

    assert reply.status_code == 401
    assert reply.get_json()["success"] is False
    assert vllm.calls == []


def test_wrong_tokens_are_counted_and_the_right_one_passes_all_the_same() -> None:
    """It cannot be guessed, so a neighbour's wrong ones shut nobody out."""
    guesses = Guesses()
    blueprint = create_blueprint(VisionConfig(), TOKENS, lambda device: FakeVllm(), guesses=guesses, clock=lambda: NOW)
    device = create_app([blueprint]).test_client()

    answers = [ask(device, token=f"nonsense.{number}").status_code for number in range(FREE + 2)]

    assert answers == [401] * FREE + [429] * 2
    assert ask(device).status_code == 200
    assert (guesses.wrong["vision_token"], guesses.locked_out["vision_token"]) == (FREE, 2)


def test_a_device_may_show_so_many_pictures_a_minute() -> None:
    """By the device that its token names; what was refused is not even read, and a stranger's wrong tokens count for
    nothing."""
    clock = FakeClock()
    rates = RequestRates(lambda: Limits(vision_per_device=3), Rates(clock=clock))
    vllm = FakeVllm()
    blueprint = create_blueprint(VisionConfig(), TOKENS, lambda device: vllm, admit=rates.vision, clock=lambda: NOW)
    device = create_app([blueprint]).test_client()
    ask(device, token="nonsense")

    answers = [ask(device, device_id=written) for written in (DEVICE, DEVICE.upper(), "", DEVICE)]

    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert answers[-1].headers["Retry-After"] == "60"
    assert answers[-1].get_json()["success"] is False
    assert len(vllm.calls) == 3
    clock.advance(60)
    assert ask(device).status_code == 200


@pytest.mark.parametrize("device_id", ["", DEVICE.upper(), DEVICE.replace(":", "-")])
def test_the_token_says_which_device_it_is(device_id: str) -> None:
    seen: list[str] = []

    def provider(device: str) -> Vllm | None:
        seen.append(device)
        return FakeVllm()

    app = create_app([create_blueprint(VisionConfig(), TOKENS, provider, clock=lambda: NOW)])

    assert ask(app.test_client(), device_id=device_id).get_json()["success"] is True
    assert seen == [DEVICE]


def test_no_client_id_gets_round_the_check() -> None:
    vllm = FakeVllm()

    reply = client(vllm).post(
        VISION_PATH, headers={"Client-Id": "web_test_client", "Device-Id": DEVICE}, data={"question": "x"}
    )

    assert reply.status_code == 401
    assert vllm.calls == []


def test_an_old_token_is_refused() -> None:
    assert ask(client(FakeVllm(), clock=lambda: NOW + 10 * 24 * 3600)).status_code == 401


# --- what may be asked ---


@pytest.mark.parametrize(
    "data,status,word",
    [
        ({"file": (io.BytesIO(JPEG), "a.jpg")}, 400, "question"),
        ({"question": " ", "file": (io.BytesIO(JPEG), "a.jpg")}, 400, "question"),
        ({"question": "x" * 4001, "file": (io.BytesIO(JPEG), "a.jpg")}, 400, "too long"),
        ({"question": "x"}, 400, "file"),
        ({"question": "x", "file": (io.BytesIO(b""), "a.jpg")}, 400, "empty"),
        ({"question": "x", "file": (io.BytesIO(b"GIF90a" * 9), "a.gif")}, 415, "JPEG"),
        ({"question": "x", "file": (io.BytesIO(b"<svg/>"), "a.svg")}, 415, "JPEG"),
    ],
)
def test_what_is_wrong_with_a_request_is_said(data: dict[str, Any], status: int, word: str) -> None:
    vllm = FakeVllm()

    reply = client(vllm).post(
        VISION_PATH,
        headers={"Authorization": f"Bearer {TOKEN}", "Device-Id": DEVICE},
        data=data,
        content_type="multipart/form-data",
    )

    assert reply.status_code == status
    assert word in reply.get_json()["message"]
    assert vllm.calls == []


@pytest.mark.parametrize(
    "body,content_type",
    [
        (b"{}", "application/json"),
        (b"", None),
        (b"x", "multipart/form-data"),
        (b"--b\r\n", "multipart/form-data; boundary=b"),
    ],
)
def test_a_body_that_is_no_form_is_refused(body: bytes, content_type: str | None) -> None:
    reply = client(FakeVllm()).post(
        VISION_PATH, headers={"Authorization": TOKEN, "Device-Id": DEVICE}, data=body, content_type=content_type
    )

    assert reply.status_code in (400, 415)
    assert reply.get_json()["success"] is False


def test_five_megabytes_are_taken_and_not_one_byte_more() -> None:
    vllm = FakeVllm()
    device = client(vllm)
    largest = JPEG + b"x" * (MAX_IMAGE_BYTES - len(JPEG))

    assert ask(device, image=largest).status_code == 200
    assert len(vllm.calls[0][1]) == MAX_IMAGE_BYTES
    for image in (largest + b"x", largest * 2):
        reply = ask(device, image=image)
        assert reply.status_code == 413
        assert "5 MB" in reply.get_json()["message"]
    assert len(vllm.calls) == 1


# --- when the model does not answer ---


@pytest.mark.parametrize(
    "vllm,word",
    [
        (None, "No vision model"),
        (FailingVllm(VendorTimeout("acme")), "too long"),
        (FailingVllm(VendorBusy("acme")), "busy"),
        (FailingVllm(VendorRejected("acme", "key sk-123 is wrong")), "failed"),
        (FailingVllm(VendorGarbage("acme")), "failed"),
    ],
)
def test_a_failing_model_is_a_sentence_that_the_device_reads(vllm: Vllm | None, word: str) -> None:
    reply = ask(client(vllm))

    assert reply.status_code == 200, "the firmware reads no other body"
    assert reply.get_json()["success"] is False
    assert word in reply.get_json()["message"]
    assert "sk-123" not in reply.text


def test_an_unexpected_error_tells_nothing() -> None:
    reply = ask(client(FailingVllm(KeyError("secret"))))

    assert reply.status_code == 500
    assert "secret" not in reply.text


def test_a_slow_model_is_given_up_and_its_place_is_free_again() -> None:
    vllm = SlowVllm()
    device = client(vllm, deadline_seconds=0.01, concurrent=1)

    for _ in range(2):
        reply = ask(device)
        assert reply.status_code == 200
        assert "too long" in reply.get_json()["message"]


def test_a_slow_model_behind_its_guard_is_asked_once() -> None:
    class Remote(SlowVllm):
        traits = VllmTraits()
        asks = 0

        def describe(self, question: str, image: bytes, mime: str, context: CallContext) -> str:
            self.asks += 1
            return super().describe(question, image, mime, context)

    vllm = Remote()
    reply = ask(client(guard("vllm", vllm, retry=RetryOptions(attempts=3, first=0.0)), deadline_seconds=0.02))

    assert "too long" in reply.get_json()["message"] and vllm.asks == 1


def test_others_are_served_while_one_waits_but_not_without_bound() -> None:
    group = Tasks()
    vllm = SlowVllm()
    device = client(vllm, concurrent=1)
    first = group.spawn("first", ask, device)
    assert vllm.asked.wait(PATIENCE_S)

    refused = ask(device)
    status = device.get(VISION_PATH)
    vllm.gate.set()
    gevent.joinall([first], timeout=PATIENCE_S)

    assert refused.status_code == 503
    assert refused.headers["Retry-After"] == "2"
    assert status.status_code == 200
    assert first.value.get_json()["response"] == "a cat"
    assert ask(device).status_code == 200


def test_one_device_or_address_does_not_hold_all_places() -> None:
    group = Tasks()
    vllm = SlowVllm()
    device = client(vllm, concurrent=5, per_device=2, per_address=3)
    other = "11:22:33:44:55:77"

    def slow(device_id: str, address: str) -> Any:
        device.environ_base["REMOTE_ADDR"] = address
        token = TOKENS.issue(device_id, now=NOW)
        return group.spawn("slow", ask, device, token=token, device_id=device_id)

    def refused(device_id: str, address: str) -> bool:
        device.environ_base["REMOTE_ADDR"] = address
        return ask(device, token=TOKENS.issue(device_id, now=NOW), device_id=device_id).status_code == 503

    held = []
    for device_id in (DEVICE, DEVICE.lower()):
        held.append(slow(device_id, "192.0.2.1"))
        gevent.sleep(0)  # sleep: so that its address is the one it was given
    assert refused(DEVICE, "192.0.2.9"), "a third one of the device, from anywhere"
    held.append(slow(other, "192.0.2.1"))
    gevent.sleep(0)  # sleep: as above
    assert refused("11:22:33:44:55:88", "192.0.2.1"), "a fourth one of the address"
    held.append(slow("11:22:33:44:55:88", "192.0.2.2"))
    gevent.sleep(0)  # sleep: as above
    vllm.gate.set()
    gevent.joinall(held, timeout=PATIENCE_S)

    assert [greenlet.value.status_code for greenlet in held] == [200] * 4
    assert not refused(DEVICE, "192.0.2.1"), "all places are given back"


# --- sniffing ---


def bmp() -> bytes:
    return (
        b"BM"
        + (70).to_bytes(4, "little")
        + bytes(4)
        + (54).to_bytes(4, "little")
        + (40).to_bytes(4, "little")
        + bytes(60)
    )


@pytest.mark.parametrize(
    "data,mime",
    [
        (JPEG, "image/jpeg"),
        (b"\x89PNG\r\n\x1a\n" + bytes(9), "image/png"),
        (b"GIF87a" + bytes(9), "image/gif"),
        (b"GIF89a" + bytes(9), "image/gif"),
        (bmp(), "image/bmp"),
        (b"II*\x00" + bytes(9), "image/tiff"),
        (b"MM\x00*" + bytes(9), "image/tiff"),
        (b"RIFF\x10\x00\x00\x00WEBPVP8 ", "image/webp"),
        (b"BMW is a car, and this is a text about it", None),
        (b"BM", None),
        (b"", None),
        (b"%PDF-1.4", None),
    ],
)
def test_sniffing(data: bytes, mime: str | None) -> None:
    assert sniff_image(data) == mime


def test_a_wav_file_is_no_webp() -> None:
    sound = io.BytesIO()
    with wave.open(sound, "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(bytes(100))

    assert sniff_image(sound.getvalue()) is None


@given(st.binary(max_size=64))
def test_sniffing_never_raises(data: bytes) -> None:
    assert sniff_image(data) in (None, "image/jpeg", "image/png", "image/gif", "image/bmp", "image/tiff", "image/webp")
