"""The token that the OTA answer gives a device, and to whom."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.databases import opened
from tests.web.asking_ota import ABROAD, CLIENT, DEVICE, HEADERS, NOW, TOKENS, check, client
from xiaozhi.devices.directory import DeviceDirectory, UnknownDevice
from xiaozhi.devices.enrolment import Enroll, Enrolment, EnrolmentRules
from xiaozhi.devices.notes import DeviceNotes
from xiaozhi.net.proxies import TrustedProxies
from xiaozhi.storage.database import Database
from xiaozhi.web.ota import OtaConfig, OtaHooks, create_blueprint
from xiaozhi.web.ota_mqtt import MqttGateway


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
