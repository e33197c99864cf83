"""What devices are told at their start."""

from __future__ import annotations

import base64
import datetime
import hashlib
import hmac
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.test import TestResponse

from tests.databases import opened
from tests.fakes.clock import FakeClock
from xiaozhi.app.request_rates import RequestRates
from xiaozhi.devices.directory import DeviceDirectory, UnknownDevice
from xiaozhi.devices.enrolment import Enroll, Enrolment, EnrolmentRules
from xiaozhi.devices.notes import DeviceNotes
from xiaozhi.errors import Overloaded, StorageUnavailable, VendorUnavailable
from xiaozhi.net.proxies import TrustedProxies
from xiaozhi.protocol.token import DeviceTokens, mqtt_password
from xiaozhi.runtime.rates import Rates
from xiaozhi.settings.server import Limits
from xiaozhi.storage.database import Database
from xiaozhi.web import ota
from xiaozhi.web.addresses import Ports, ServerAddresses
from xiaozhi.web.app import WebConfig, create_app
from xiaozhi.web.firmware import Release
from xiaozhi.web.ota import Activation, OtaConfig, OtaHooks, OtaRequest, create_blueprint
from xiaozhi.web.ota_mqtt import MqttGateway

NOW = 1_757_567_894.012
DEVICE = "11:22:33:44:55:66"
CLIENT = "7b94d69a-9808-4c59-9c9b-704333b38aff"
HEADERS = {"Device-Id": DEVICE, "Client-Id": CLIENT, "Host": "192.168.1.5:8003"}
BODY = {"application": {"name": "xiaozhi", "version": "2.0.0"}, "board": {"type": "bread-compact-wifi"}}
TOKENS = DeviceTokens("secret")
ABROAD = "203.0.113.7"


def client(
    config: OtaConfig | None = None, hooks: OtaHooks | None = None, peer: str = "127.0.0.1", **web: Any
) -> FlaskClient:
    """Somebody who asks from the address `peer`."""
    blueprint = create_blueprint(
        config or OtaConfig(firmware_dir=Path("/nonexistent")), TOKENS, hooks, clock=lambda: NOW
    )
    made = create_app([blueprint], WebConfig(**web)).test_client()
    made.environ_base["REMOTE_ADDR"] = peer
    return made


def check(device: FlaskClient, headers: dict[str, str] | None = None, body: Any = BODY, **more: str) -> dict[str, Any]:
    reply = device.post("/xiaozhi/ota/", headers={**HEADERS, **(headers or {}), **more}, json=body)
    assert reply.status_code == 200, reply.text
    assert reply.content_type == "application/json"
    answer: dict[str, Any] = reply.get_json()
    return answer


# --- the plain answer ---


def test_a_device_learns_time_address_and_that_its_firmware_will_do() -> None:
    assert check(client()) == {
        "server_time": {"timestamp": 1757567894012, "timezone_offset": 480, "timezone": "Asia/Shanghai"},
        "firmware": {"version": "2.0.0", "url": ""},
        "websocket": {"url": "ws://192.168.1.5:8000/xiaozhi/v1/", "token": ""},
    }


@pytest.mark.parametrize("path", ["/xiaozhi/ota/", "/xiaozhi/ota"])
def test_with_and_without_the_last_slash(path: str) -> None:
    assert client().post(path, headers=HEADERS, json=BODY).status_code == 200


def test_get_says_which_address_is_handed_out() -> None:
    reply = client().get("/xiaozhi/ota/", headers={"Host": "[fe80::1]:8003"})

    assert reply.status_code == 200
    assert reply.mimetype == "text/plain"
    assert reply.text.count("ws://[fe80::1]:8000/xiaozhi/v1/") == 2


@pytest.mark.parametrize(
    "config,headers,url",
    [
        ({"websocket": "wss://voice.example.com/xiaozhi/v1/"}, {}, "wss://voice.example.com/xiaozhi/v1/"),
        ({"websocket": "ws://你的ip或者域名:端口号/xiaozhi/v1/"}, {}, "ws://192.168.1.5:8000/xiaozhi/v1/"),
        ({"ports": lambda: Ports(devices=9000)}, {}, "ws://192.168.1.5:9000/xiaozhi/v1/"),
        ({"tls": True}, {}, "wss://192.168.1.5:8000/xiaozhi/v1/"),
        ({}, {"Host": "[2001:db8::1]:8003"}, "ws://[2001:db8::1]:8000/xiaozhi/v1/"),
        ({}, {"Host": 'x"><script>'}, "ws://10.0.0.7:8000/xiaozhi/v1/"),
        ({}, {"X-Forwarded-Host": "evil.com"}, "ws://192.168.1.5:8000/xiaozhi/v1/"),
    ],
)
def test_where_to_connect(config: dict[str, Any], headers: dict[str, str], url: str) -> None:
    made = OtaConfig(ServerAddresses(**config), firmware_dir=Path("/nonexistent"))
    answer = check(client(made, fallback_host="10.0.0.7"), headers)

    assert answer["websocket"]["url"] == url


def test_behind_a_trusted_proxy_its_address_serves_for_both() -> None:
    device = client(trusted_proxies=TrustedProxies(["127.0.0.0/8"]))
    forwarded = {"X-Forwarded-Host": "voice.example.com", "X-Forwarded-Proto": "https"}

    assert check(device, forwarded)["websocket"]["url"] == "wss://voice.example.com/xiaozhi/v1/"


def test_a_board_may_be_told_which_frames_to_use() -> None:
    hooks = OtaHooks(protocol_version=lambda names: 3 if "bread-compact-wifi" in names else None)

    assert check(client(hooks=hooks))["websocket"]["version"] == 3
    assert "version" not in check(client(hooks=hooks), body={"board": {"type": "other"}})["websocket"]


def test_what_a_device_says_of_its_board_is_passed_on() -> None:
    told: list[tuple[str, Sequence[str]]] = []
    device = client(hooks=OtaHooks(on_board=lambda device_id, names: told.append((device_id, names))))

    board = {"type": "bread-compact", "name": "bread-compact-128x64"}
    check(device, {"Device-Id": DEVICE.upper(), "User-Agent": "bread/2.2.0"}, {"board": board})
    device.get("/xiaozhi/ota/", headers={**HEADERS, "User-Agent": "\x1b[31m"})

    assert told == [(DEVICE, ("bread-compact", "bread-compact-128x64", "bread")), (DEVICE, ("default",))]


@pytest.mark.parametrize(
    "hours,told",
    [
        (8, {"timezone_offset": 480, "timezone": "Asia/Shanghai"}),
        (-3.5, {"timezone_offset": -210}),
        (3, {"timezone_offset": 180, "timezone": "Etc/GMT-3"}),
        (-5, {"timezone_offset": -300, "timezone": "Etc/GMT+5"}),
        (0, {"timezone_offset": 0, "timezone": "Etc/UTC"}),
    ],
)
def test_the_time_zone_has_a_name_where_one_is_known(hours: float, told: dict[str, Any]) -> None:
    server_time = check(client(OtaConfig(zone=datetime.timezone(datetime.timedelta(hours=hours)))))["server_time"]

    assert server_time == {"timestamp": 1757567894012, **told}
    if "timezone" in told:
        at = datetime.datetime.fromtimestamp(NOW, ZoneInfo(told["timezone"]))
        assert at.utcoffset() == datetime.timedelta(hours=hours)


def test_time_zones_may_have_half_hours_and_summer_time() -> None:
    assert check(client(OtaConfig(zone=ZoneInfo("America/St_Johns"))))["server_time"] == {
        "timestamp": 1757567894012,
        "timezone_offset": -150,
        "timezone": "America/St_Johns",
    }


def test_a_device_that_only_asks_gets_what_one_that_tells_gets() -> None:
    device = client()

    asked = device.get("/xiaozhi/ota/", headers=HEADERS)

    assert asked.content_type == "application/json"
    assert asked.get_json() == check(device, body={})


@pytest.mark.parametrize(
    "path", ["//xiaozhi/ota/", "/xiaozhi//ota", "/xiaozhi/ota//", "///xiaozhi///ota///", "/ota/", "/ota"]
)
def test_doubled_slashes_and_a_prefix_that_a_proxy_took_away(path: str) -> None:
    assert client().post(path, headers=HEADERS, json=BODY).get_json()["websocket"]["url"].startswith("ws://")


# --- tokens ---


def test_without_authentication_no_token_is_made() -> None:
    hooks = OtaHooks(is_known=lambda device, who: True)

    assert check(client(OtaConfig(auth_enabled=False), hooks))["websocket"]["token"] == ""


AUTH = OtaConfig(auth_enabled=True, mqtt=MqttGateway("192.168.0.7:1883", "key"))


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with opened(tmp_path) as made:
        yield made


def enrolling(database: Database, enroll: Enroll = "private", **rules: Any) -> OtaHooks:
    """Real enrolment by these rules, and nothing else."""
    if "allowed" in rules:
        rules["allowed"] = frozenset(rules["allowed"])
    enrolment = Enrolment(database, EnrolmentRules(enroll, **rules), clock=lambda: NOW)
    return OtaHooks(
        enrol=enrolment.ask,
        activate=lambda asked: enrolment.activate(
            asked.asker, asked.body["challenge"], asked.body["serial_number"], asked.body["hmac"]
        ),
    )


def test_a_stranger_gets_an_address_and_a_code_but_no_token(database: Database) -> None:
    device = client(AUTH, enrolling(database, allowed=["aa:aa:aa:aa:aa:aa"]), peer=ABROAD)

    answer = check(device)

    assert answer["websocket"] == {"url": "ws://192.168.1.5:8000/xiaozhi/v1/", "token": ""}
    assert "mqtt" not in answer, "firmware that gets both uses MQTT: the same door"
    code = answer["activation"]["code"]
    assert len(code) == 6 and code.isdigit() and code in answer["activation"]["message"]
    assert answer["activation"]["challenge"]
    assert check(device)["activation"] == answer["activation"], "the same code, however often it asks"


@pytest.mark.parametrize("peer", ["192.168.1.20", "10.1.2.3", "172.20.0.1", "127.0.0.1", "fd00::5", "::ffff:10.0.0.9"])
def test_a_device_at_home_needs_no_list(peer: str, database: Database) -> None:
    answer = check(client(AUTH, enrolling(database), peer=peer))

    TOKENS.check(answer["websocket"]["token"], CLIENT, DEVICE, now=NOW)
    assert answer["mqtt"]["password"]
    assert "activation" not in answer


@pytest.mark.parametrize(
    "peer,headers,trusted",
    [
        (ABROAD, {}, []),
        ("2001:db8::1", {}, []),
        ("100.64.1.2", {}, []),
        ("172.32.0.1", {}, []),
        (ABROAD, {"X-Forwarded-For": "192.168.1.20"}, []),
        ("127.0.0.1", {"X-Forwarded-For": ABROAD}, []),
        ("127.0.0.1", {"X-Real-IP": "192.168.1.20"}, []),
        ("127.0.0.1", {"Forwarded": f"for={ABROAD}"}, []),
        ("127.0.0.1", {"X-Forwarded-For": ABROAD}, ["127.0.0.0/8"]),
        ("127.0.0.1", {"X-Forwarded-For": f"192.168.1.20, {ABROAD}"}, ["127.0.0.0/8"]),
        ("127.0.0.1", {}, ["127.0.0.0/8"]),
        ("127.0.0.1", {"Forwarded": "for=192.168.1.20"}, ["127.0.0.0/8"]),
        ("127.0.0.1", {"X-Forwarded-For": "192.168.1.20, unknown"}, ["127.0.0.0/8"]),
        ("127.0.0.1", {"X-Real-IP": "nonsense"}, ["127.0.0.0/8"]),
    ],
)
@pytest.mark.parametrize("enroll", ["private", "approve", "allowlist"])
def test_an_address_that_may_not_be_a_home_is_none(
    peer: str, headers: dict[str, str], trusted: list[str], enroll: Enroll, database: Database
) -> None:
    """Written by strangers, of a proxy that is not trusted, or of a trusted one that does not say for whom."""
    device = client(AUTH, enrolling(database, enroll), peer=peer, trusted_proxies=TrustedProxies(trusted))

    answer = check(device, headers)

    assert answer["websocket"]["token"] == ""
    assert ("activation" in answer) == (enroll != "allowlist")


def test_a_home_behind_a_trusted_proxy_is_one(database: Database) -> None:
    device = client(AUTH, enrolling(database), peer="127.0.0.1", trusted_proxies=TrustedProxies(["127.0.0.0/8"]))

    assert check(device, {"X-Forwarded-For": "192.168.1.20"})["websocket"]["token"]


@pytest.mark.parametrize("enroll,rules", [("private", {"allowed": [DEVICE]}), ("open", {})])
def test_the_first_client_id_of_a_device_is_the_only_one(
    enroll: Enroll, rules: dict[str, Any], database: Database
) -> None:
    hooks = enrolling(database, enroll, **rules)

    for peer in ("127.0.0.1", ABROAD):
        device = client(AUTH, hooks, peer=peer)
        assert check(device)["websocket"]["token"]
        stranger = check(device, {"Client-Id": "a-stranger"})
        assert stranger["websocket"]["token"] == ""
        assert stranger["activation"]["code"]
        assert "mqtt" not in stranger
        assert check(device, {"Client-Id": ""})["websocket"]["token"] == "", "everybody can send none"


@pytest.mark.parametrize("device_id", ["AA:BB:CC:DD:EE:FF", "aa-bb-cc-dd-ee-ff"])
@pytest.mark.parametrize("enroll", ["private", "approve", "allowlist", "open"])
def test_an_allowed_device_gets_a_token_for_itself(device_id: str, enroll: Enroll, database: Database) -> None:
    hooks = enrolling(database, enroll, allowed=["aa:bb:cc:DD:ee:ff"])

    token = check(client(AUTH, hooks, peer=ABROAD), {"Device-Id": device_id})["websocket"]["token"]

    TOKENS.check(token, CLIENT, "aa:bb:cc:dd:ee:ff", now=NOW)


def test_at_home_nobody_waits_where_guests_may_come_in(database: Database) -> None:
    """Firmware that is shown a code does nothing else until it is approved."""
    hooks = enrolling(database, guests_at_home=True)
    owner = client(AUTH, hooks, peer="192.168.1.20")
    assert check(owner)["websocket"]["token"]

    for headers in ({"Client-Id": "set-up-anew"}, {"Client-Id": "x", "X-Real-IP": "192.168.1.21"}):
        answer = check(owner, headers)
        assert answer["websocket"]["token"] == ""
        assert "activation" not in answer
    assert "activation" in check(client(AUTH, hooks, peer=ABROAD), {"Client-Id": "x"})


def test_an_operator_lets_somebody_in(database: Database) -> None:
    """Until then the device polls and is told to come again."""
    hooks, directory = enrolling(database, "approve"), DeviceDirectory(database, DeviceNotes(database))
    device = client(AUTH, hooks)
    activation = check(device)["activation"]
    answer = {"challenge": activation["challenge"]}
    assert device.post("/xiaozhi/ota/activate", headers=HEADERS, json=answer).status_code == 202

    with pytest.raises(UnknownDevice, match="devices list"):
        directory.approve("000000" if activation["code"] != "000000" else "000001")
    assert DEVICE in directory.approve(activation["code"])

    assert device.post("/xiaozhi/ota/activate", headers=HEADERS, json=answer).status_code == 200
    TOKENS.check(check(device)["websocket"]["token"], CLIENT, DEVICE, now=NOW)
    assert check(client(AUTH, hooks, peer=ABROAD))["websocket"]["token"], "from anywhere"
    assert directory.of(DEVICE).how == "approved by an operator"
    with pytest.raises(UnknownDevice):
        directory.approve(activation["code"])


KEY = "00112233445566778899aabbccddeeff" * 2


@pytest.mark.parametrize(
    "serial,key,spoilt,status",
    [
        ("SN-1", KEY, "", 200),
        ("SN-1", KEY[::-1], "", 403),
        ("SN-1", KEY, "another challenge", 403),
        ("SN-2", KEY, "", 202),
        ("", KEY, "", 202),
    ],
)
def test_a_device_proves_itself_by_its_key(serial: str, key: str, spoilt: str, status: int, database: Database) -> None:
    device = client(AUTH, enrolling(database, keys={"SN-1": KEY}), peer=ABROAD)
    headers = {**HEADERS, "Activation-Version": "2", "Serial-Number": serial}
    challenge = spoilt or check(device, headers)["activation"]["challenge"]
    proof = hmac.new(bytes.fromhex(key), challenge.encode(), hashlib.sha256).hexdigest()
    if spoilt:
        check(device, headers)

    body = {"algorithm": "hmac-sha256", "serial_number": serial, "challenge": challenge, "hmac": proof}
    reply = device.post("/xiaozhi/ota/activate", headers=headers, json=body)

    assert reply.status_code == status
    assert bool(check(device, headers)["websocket"]["token"]) == (status == 200)


def test_a_proof_does_not_take_over_the_device_of_another_client_id(database: Database) -> None:
    hooks = enrolling(database, keys={"SN-1": KEY})
    assert check(client(AUTH, hooks, peer="192.168.1.20"))["websocket"]["token"]
    thief = client(AUTH, hooks, peer=ABROAD)
    headers = {**HEADERS, "Client-Id": "thief", "Serial-Number": "SN-1"}
    challenge = check(thief, headers)["activation"]["challenge"]
    proof = hmac.new(bytes.fromhex(KEY), challenge.encode(), hashlib.sha256).hexdigest()

    reply = thief.post("/xiaozhi/ota/activate", headers=headers, json={"challenge": challenge, "hmac": proof})

    assert reply.status_code == 202
    assert check(thief, headers)["websocket"]["token"] == ""


def test_a_known_device_gets_a_token() -> None:
    asked: list[tuple[str, str]] = []

    def is_known(device_id: str, client_id: str) -> bool:
        asked.append((device_id, client_id))
        return device_id == DEVICE

    device = client(OtaConfig(auth_enabled=True), OtaHooks(is_known=is_known), peer=ABROAD)

    TOKENS.check(check(device)["websocket"]["token"], CLIENT, DEVICE, now=NOW)
    assert check(device, {"Device-Id": "11:22:33:44:55:77"})["websocket"]["token"] == ""
    assert asked[0] == (DEVICE, CLIENT)


def test_authentication_without_a_secret_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="secret"):
        create_blueprint(OtaConfig(auth_enabled=True), None)


# --- firmware ---


@pytest.fixture
def bin_dir(tmp_path: Path) -> Path:
    for name in ("bread-compact-wifi_2.0.1.bin", "bread-compact-wifi_2.0.10.bin", "other_9.0.0.bin"):
        (tmp_path / name).write_bytes(name.encode() * 100)
    return tmp_path


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


# --- MQTT ---


def test_with_a_gateway_devices_are_told_of_it_too() -> None:
    config = OtaConfig(mqtt=MqttGateway("192.168.0.7:1883", "key"))

    answer = check(client(config))

    mqtt = answer["mqtt"]
    assert "websocket" in answer
    assert mqtt["client_id"] == "GID_bread-compact-wifi@@@11_22_33_44_55_66@@@11_22_33_44_55_66"
    assert json.loads(base64.b64decode(mqtt["username"])) == {"ip": "127.0.0.1"}
    assert mqtt["password"] == mqtt_password("key", mqtt["client_id"], mqtt["username"]) != ""
    assert {name: mqtt[name] for name in ("endpoint", "publish_topic", "subscribe_topic")} == {
        "endpoint": "192.168.0.7:1883",
        "publish_topic": "device-server",
        "subscribe_topic": "devices/p2p/11_22_33_44_55_66",
    }


def test_who_is_no_mac_address_is_not_told_of_a_gateway_that_would_refuse_it() -> None:
    answer = check(client(OtaConfig(mqtt=MqttGateway("host"))), {"Device-Id": "auto-test-device"})

    assert "mqtt" not in answer
    assert answer["websocket"]["url"]


def test_a_gateway_without_a_key_gets_no_password() -> None:
    mqtt = check(client(OtaConfig(mqtt=MqttGateway("host"))), body={})["mqtt"]

    assert mqtt["password"] == ""
    assert mqtt["client_id"].startswith("GID_default@@@")
    assert "key" not in repr(MqttGateway("host", "key"))


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


# --- what devices may send ---


@pytest.mark.parametrize(
    "device_id", ["auto-test-device", "xiaozhi-test-000001", "7b94d69a-9808-4c59-9c9b-704333b38aff", "112233445566"]
)
def test_a_device_need_not_be_called_by_a_mac_address(device_id: str) -> None:
    assert check(client(), {"Device-Id": device_id})["websocket"]["url"]


@pytest.mark.parametrize(
    "device_id",
    [
        "",
        "x" * 129,
        "a|b",
        "11:22:33:44:55:66'",
        "11:22:33:44:55:66\n",
        "../../etc",
    ],
)
def test_what_is_no_device_id_is_refused_with_a_reason(device_id: str) -> None:
    environ = {"HTTP_DEVICE_ID": device_id} if device_id else {}
    reply = client().post("/xiaozhi/ota/", environ_overrides=environ, json=BODY)

    if device_id.endswith("\n"):  # white space around a header is not part of it
        assert reply.status_code == 200
    else:
        assert reply.status_code == 400
        assert "MAC address" in reply.get_json()["message"]


@pytest.mark.parametrize("client_id", ["a|b", "x" * 129, "a b", "é"])
def test_client_ids_that_no_token_can_be_made_for_are_refused(client_id: str) -> None:
    reply = client().post(
        "/xiaozhi/ota/", headers={"Device-Id": DEVICE}, environ_overrides={"HTTP_CLIENT_ID": client_id}, json=BODY
    )

    assert reply.status_code == 400
    assert "Client-Id" in reply.get_json()["message"]


def test_the_client_id_may_be_missing() -> None:
    assert client().post("/xiaozhi/ota/", headers={"Device-Id": DEVICE}, json=BODY).status_code == 200


@pytest.mark.parametrize(
    "data,word",
    [
        (b"{", "JSON"),
        (b"\xff\xfe", "JSON"),
        (b"[" * 50_000, "JSON"),
        (b'{"a":NaN}', "JSON"),
    ],
)
def test_a_body_that_is_no_json_is_refused_with_a_reason(data: bytes, word: str) -> None:
    reply = client().post("/xiaozhi/ota/", headers=HEADERS, data=data)

    assert reply.status_code == 400
    assert word in reply.get_json()["message"]


@pytest.mark.parametrize("data", [b"", b"  ", b"{}", b"[]", b"[1]", b"5", b"null"])
def test_an_empty_body_is_fine(data: bytes) -> None:
    assert client().post("/xiaozhi/ota/", headers=HEADERS, data=data).status_code == 200


def test_a_huge_body_is_refused_unread() -> None:
    reply = client().post("/xiaozhi/ota/", headers=HEADERS, data=b"{" + b" " * 70_000 + b"}")

    assert reply.status_code == 413
    assert reply.get_json()["success"] is False


@pytest.mark.parametrize(
    "board", [None, 5, [], {"type": None}, {"type": "../../x"}, {"type": "a b"}, {"type": "x" * 100}, {"type": "板"}]
)
def test_a_board_type_that_could_be_no_file_name_is_not_used(board: Any) -> None:
    answer = check(client(OtaConfig(mqtt=MqttGateway("host"))), body={"board": board})

    assert answer["mqtt"]["client_id"].startswith("GID_default@@@")


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["application", "board", "type", "version", "model"]), inner, max_size=4)
    ),
    max_leaves=10,
)


@given(st.binary(max_size=200) | json_values.map(lambda value: json.dumps(value).encode()))
def test_every_body_gets_an_answer_or_a_reason(data: bytes) -> None:
    reply = client().post("/xiaozhi/ota/", headers=HEADERS, data=data)

    assert reply.status_code in (200, 400)
    assert isinstance(reply.get_json(), dict)


# --- what a board is told of ---


@pytest.mark.parametrize(
    "transport,blocks", [("both", {"websocket", "mqtt"}), ("websocket", {"websocket"}), ("mqtt", {"mqtt"})]
)
def test_a_board_is_told_of_one_way_or_of_both(transport: str, blocks: set[str]) -> None:
    hooks = OtaHooks(transport=lambda names: transport if "bread-compact-wifi" in names else "both")
    answer = check(client(OtaConfig(mqtt=MqttGateway("192.168.0.7:1883", "key")), hooks))
    assert {"websocket", "mqtt"} & set(answer) == blocks


def test_mqtt_alone_is_not_told_where_there_is_no_gateway() -> None:
    assert "websocket" in check(client(hooks=OtaHooks(transport=lambda names: "mqtt")))


def test_what_a_device_says_of_itself_is_passed_on() -> None:
    reports: list[OtaRequest] = []
    check(client(hooks=OtaHooks(on_report=reports.append)), body={**BODY, "minimum_free_heap_size": 12})
    assert reports[0].body["minimum_free_heap_size"] == 12


def test_firmware_that_is_forced_says_so(tmp_path: Path) -> None:
    (tmp_path / "bread-compact-wifi_1.0.bin").write_bytes(b"x")
    config = OtaConfig(firmware_dir=tmp_path)
    forced = check(client(config, OtaHooks(release=lambda name: Release(force=True))))["firmware"]
    assert (forced["version"], forced["force"]) == ("1.0", 1)
    assert check(client(config))["firmware"] == {"version": "2.0.0", "url": ""}
