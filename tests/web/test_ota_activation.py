"""Activation of unknown devices, firmware on offer, and how often devices may ask."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import TestResponse

from tests.fakes.clock import FakeClock
from tests.web.asking_ota import ABROAD, BODY, CLIENT, DEVICE, HEADERS, check, client
from xiaozhi.app.request_rates import RequestRates
from xiaozhi.errors import Overloaded, StorageUnavailable, VendorUnavailable
from xiaozhi.runtime.rates import Rates
from xiaozhi.settings.server import Limits
from xiaozhi.web import ota
from xiaozhi.web.ota import Activation, OtaConfig, OtaHooks, OtaRequest


@pytest.fixture
def bin_dir(tmp_path: Path) -> Path:
    for name in ("bread-compact-wifi_2.0.1.bin", "bread-compact-wifi_2.0.10.bin", "other_9.0.0.bin"):
        (tmp_path / name).write_bytes(name.encode() * 100)
    return tmp_path


# --- firmware ---


def test_newer_firmware_is_offered_and_can_be_fetched(bin_dir: Path) -> None:
    device = client(OtaConfig(firmware_dir=bin_dir))

    firmware = check(device)["firmware"]

    assert firmware == {
        "version": "2.0.10",
        "url": "http://192.168.1.5:8003/xiaozhi/ota/download/bread-compact-wifi_2.0.10.bin",
    }
    reply = device.get(firmware["url"].removeprefix("http://192.168.1.5:8003"))
    assert reply.status_code == 200
    assert reply.data == b"bread-compact-wifi_2.0.10.bin" * 100
    assert reply.headers["Content-Length"] == str(len(reply.data))
    assert reply.mimetype == "application/octet-stream"
    reply.close()


def test_downloads_are_bounded_by_address_and_in_number(bin_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ota, "DOWNLOADS", 3)
    monkeypatch.setattr(ota, "DOWNLOADS_PER_ADDRESS", 2)
    device = client(OtaConfig(firmware_dir=bin_dir))

    def download(peer: str, **headers: str) -> Any:
        environ = {"REMOTE_ADDR": peer}
        return device.get("/xiaozhi/ota/download/other_9.0.0.bin", environ_overrides=environ, headers=headers)

    held = [download("192.0.2.1"), download("192.0.2.1", Range="bytes=0-9")]
    refused = download("192.0.2.1")
    assert refused.status_code == 503
    assert refused.headers["Retry-After"] == "10"
    held.append(download("192.0.2.2"))
    assert download("192.0.2.3").status_code == 503
    assert [reply.status_code for reply in held] == [200, 206, 200]
    for reply in held:
        reply.close()
    for _ in range(4):
        for reply in (download("192.0.2.1"), download("192.0.2.1", Range="bytes=9-2"), device.head("/xiaozhi/ota/")):
            reply.close()
    again = download("192.0.2.1", If_None_Match="x")
    assert again.data == b"other_9.0.0.bin" * 100
    again.close()


@pytest.mark.parametrize(
    "body",
    [
        {"board": {"type": "bread-compact-wifi"}},
        {},
        {"application": {"version": 5}, "board": {"type": "bread-compact-wifi"}},
    ],
)
def test_a_device_that_does_not_say_what_it_runs_is_offered_nothing(bin_dir: Path, body: dict[str, Any]) -> None:
    assert check(client(OtaConfig(firmware_dir=bin_dir)), body=body)["firmware"] == {"version": "0.0.0", "url": ""}


@pytest.mark.parametrize(
    "path",
    [
        "../test_ota.py",
        "..%2f..%2fetc%2fpasswd",
        "%2e%2e/x.bin",
        "....//x.bin",
        "other_9.0.0.bin/",
        "none_1.0.0.bin",
        "/etc/passwd",
        "x%00.bin",
    ],
)
def test_nothing_else_can_be_fetched(bin_dir: Path, path: str) -> None:
    reply = client(OtaConfig(firmware_dir=bin_dir)).get(f"/xiaozhi/ota/download/{path}")

    assert reply.status_code == 404
    assert reply.get_json()["success"] is False


# --- activation ---


def test_an_unbound_device_is_shown_its_code() -> None:
    asked: list[OtaRequest] = []

    def activation(request: OtaRequest) -> Activation:
        asked.append(request)
        return Activation("460609", "http://example.com\n460609", challenge=request.device_id, timeout_ms=30000)

    answer = check(
        client(hooks=OtaHooks(activation=activation)),
        {"Activation-Version": "2", "Serial-Number": "SN1", "Accept-Language": "zh-CN"},
    )

    assert answer["activation"] == {
        "code": "460609",
        "message": "http://example.com\n460609",
        "challenge": DEVICE,
        "timeout_ms": 30000,
    }
    assert "websocket" in answer
    [request] = asked
    assert (request.device_id, request.client_id, request.model, request.version) == (
        DEVICE,
        CLIENT,
        "bread-compact-wifi",
        "2.0.0",
    )
    assert (request.activation_version, request.serial_number, request.language, request.client_ip) == (
        2,
        "SN1",
        "zh-CN",
        "127.0.0.1",
    )
    assert request.body == BODY


def test_a_bound_device_is_shown_nothing() -> None:
    assert "activation" not in check(client(hooks=OtaHooks(activation=lambda request: None)))


@pytest.mark.parametrize("error", [VendorUnavailable("manager"), Overloaded("manager"), StorageUnavailable("locked")])
def test_a_failing_look_up_asks_the_device_to_come_again(error: Exception) -> None:
    def fail(*arguments: Any) -> Any:
        raise error

    for hooks in (OtaHooks(activation=fail), OtaHooks(is_known=fail), OtaHooks(enrol=fail), OtaHooks(activate=fail)):
        device = client(OtaConfig(auth_enabled=True), hooks)
        path = "/xiaozhi/ota/activate" if hooks.activate else "/xiaozhi/ota/"
        reply = device.post(path, headers=HEADERS, json=BODY)
        assert reply.status_code == 503
        assert int(reply.headers["Retry-After"]) >= 1
        assert "websocket" not in reply.get_json()


def test_a_challenge_is_answered_bound_or_not_yet() -> None:
    answers: list[Any] = []

    def activate(request: OtaRequest) -> bool:
        answers.append(request.body)
        return len(answers) > 1

    device = client(hooks=OtaHooks(activate=activate))
    statuses = [device.post("/xiaozhi/ota/activate", headers=HEADERS, json={"hmac": "x"}).status_code for _ in range(2)]

    assert statuses == [202, 200]
    assert answers[0] == {"algorithm": "hmac-sha256", "serial_number": "", "challenge": "", "hmac": "x"}
    assert client().post("/xiaozhi/ota/activate", headers=HEADERS, json={}).status_code == 404


@pytest.mark.parametrize(
    "version,headers,body",
    [
        (2, {"Activation-Version": "2"}, {"algorithm": "a", "serial_number": "SN", "challenge": "c", "hmac": "h"}),
        (2, {"Activation-Version": "2.1.1"}, {"Payload": {"serial_number": "SN", "challenge": "c", "hmac": "h"}}),
        (2, {"Activation-Version": " 2 ", "Serial-Number": "SN"}, {"challenge": "c", "hmac": "h", "algorithm": 5}),
        (1, {"Activation-Version": "1"}, {}),
        (1, {}, []),
        (1, {"Activation-Version": "two"}, {"Payload": []}),
    ],
)
def test_clients_activate_in_their_own_ways(version: int, headers: dict[str, str], body: Any) -> None:
    asked: list[OtaRequest] = []

    def activate(request: OtaRequest) -> bool:
        asked.append(request)
        return True

    reply = client(hooks=OtaHooks(activate=activate)).post(
        "/xiaozhi/ota/activate", headers={**HEADERS, **headers}, json=body
    )

    assert reply.status_code == 200
    assert asked[0].activation_version == version
    assert set(asked[0].body) == {"algorithm", "serial_number", "challenge", "hmac"}
    if version == 2:
        assert (asked[0].body["serial_number"], asked[0].body["challenge"], asked[0].body["hmac"]) == ("SN", "c", "h")


# --- how often they may ask ---


def asking(peer: str, hooks: OtaHooks, number: int = 1, path: str = "", **headers: str) -> TestResponse:
    """What device number such-and-such is answered at this address."""
    device = {"Device-Id": f"11:22:33:44:{number >> 8:02x}:{number & 255:02x}"}
    return client(hooks=hooks, peer=peer).post(
        f"/xiaozhi/ota/{path}", headers={**HEADERS, **device, **headers}, json={}
    )


def limited(clock: FakeClock, **limits: int) -> OtaHooks:
    return OtaHooks(admit=RequestRates(lambda: Limits(**limits), Rates(clock=clock)).ota, activate=lambda asked: True)


def test_one_address_may_ask_so_often_and_others_do_not_wait_for_it() -> None:
    """Whatever devices it names, and also for what is no proper question."""
    clock = FakeClock()
    hooks = limited(clock, ota_per_minute=3)
    assert [asking(ABROAD, hooks, number).status_code for number in range(2)] == [200, 200]
    assert asking(ABROAD, hooks, **{"Device-Id": "a|b"}).status_code == 400

    for path in ("", "activate"):
        refused = asking(ABROAD, hooks, 99, path)
        assert refused.status_code == 429
        assert refused.headers["Retry-After"] == "60"
        assert refused.get_json()["success"] is False

    assert asking("203.0.113.8", hooks).status_code == 200
    clock.advance(60)
    assert asking(ABROAD, hooks).status_code == 200


def test_one_device_may_ask_so_often_and_nobody_elsewhere_uses_that_up() -> None:
    clock = FakeClock()
    hooks = limited(clock, ota_per_device=3)

    answers = [asking(ABROAD, hooks, path=path).status_code for path in ("", "activate", "", "", "activate")]

    assert answers == [200, 200, 200, 429, 429]
    assert asking(ABROAD, hooks, 2).status_code == 200, "another device of that address"
    assert asking("192.168.1.20", hooks).status_code == 200, "the owner's own, at home"


def test_a_house_full_of_devices_that_start_at_once_is_answered() -> None:
    """500 behind one address, each with a question and a look whether it is bound; with the limits as shipped."""
    hooks = limited(FakeClock())

    answers = {asking(ABROAD, hooks, number, path).status_code for number in range(500) for path in ("", "activate")}

    assert answers == {200}
