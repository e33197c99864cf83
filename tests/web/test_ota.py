"""What devices are told at their start: the answer to a request to the OTA address."""

from __future__ import annotations

import base64
import datetime
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.web.asking_ota import BODY, DEVICE, HEADERS, NOW, check, client
from xiaozhi.net.proxies import TrustedProxies
from xiaozhi.protocol.token import mqtt_password
from xiaozhi.web.addresses import Ports, ServerAddresses
from xiaozhi.web.firmware import Release
from xiaozhi.web.ota import OtaConfig, OtaHooks, OtaRequest
from xiaozhi.web.ota_mqtt import MqttGateway

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
