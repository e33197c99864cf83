"""Who may come in, and as whom: with the settings of an upgrade nobody at home is locked out, and nobody gets what
another's device was told."""

from __future__ import annotations

import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from structlog.testing import capture_logs

from loadtest.simulator.device import SimulatedDevice
from loadtest.simulator.wire import UpgradeRefused
from loadtest.vendors.http_vendor import Script
from loadtest.vendors.openai_vendor import CHAT
from loadtest.vendors.sounds import Sounds
from tests.e2e.stage import Stage, ask, open_stage
from tests.e2e.test_doors import ANNA, ota
from tests.waiting import PATIENCE_S, wait_for
from xiaozhi.protocol.token import DeviceTokens
from xiaozhi.settings import masked_yaml

ABROAD = "203.0.113.9"
KEY = "a-key-that-signs-tokens-42"
ADMIN = "the-admin-token-of-tests"
STRICT = {"server": {"auth": {"enabled": True}, "auth_key": KEY, "admin_token": ADMIN}}
HOME = {"server": {"auth_key": KEY, "admin_token": ADMIN, "trusted_proxies": ["127.0.0.1/32"]}}
MEMORY = {
    "selected_module": {"Memory": "mem_local_short"},
    "Memory": {"mem_local_short": {"type": "mem_local_short", "llm": "Vendor"}},
}
TOKENS = DeviceTokens(KEY)


@pytest.fixture(scope="module")
def strict_stage(tmp_path_factory: pytest.TempPathFactory, sounds: Sounds) -> Iterator[Stage]:
    with open_stage(tmp_path_factory.mktemp("data"), sounds, STRICT) as opened:
        yield opened


@pytest.fixture
def strict(strict_stage: Stage) -> Iterator[Stage]:
    """Everybody needs a token."""
    strict_stage.reset()
    yield strict_stage
    strict_stage.close_devices()


def refused(stage: Stage, **options: Any) -> bool:
    """Whether the door stays shut, before the upgrade."""
    try:
        SimulatedDevice(stage.url, device_id=ANNA, **options).connect().close()
    except Exception as error:
        if "401" not in str(error):
            raise
        return True
    return False


def admin(stage: Stage, method: str, path: str, body: Any = None, token: str = ADMIN) -> tuple[int, Any]:
    """What an operator's tool is answered."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{stage.server.http_port}/admin/devices{path}",
        data=None if body is None else json.dumps(body).encode(),
        method=method,
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as reply:
            assert reply.headers["Access-Control-Allow-Origin"] is None
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def forged(now: float) -> dict[str, str]:
    """Tokens that are none, by what is wrong with them."""
    good = TOKENS.issue("owner", ANNA, now=now)
    signature, stamp = good.split(".")
    return {
        "none": "",
        "of another secret": DeviceTokens("another-secret-than-ours").issue("owner", ANNA, now=now),
        "expired": TOKENS.issue("owner", ANNA, now=now - 31 * 24 * 3600),
        "another time": f"{signature}.{int(stamp) + 1}",
        "truncated": good[:-3],
        "half": signature,
        "of another device": TOKENS.issue("owner", "02:00:00:00:be:02", now=now),
        "of another client": TOKENS.issue("stranger", ANNA, now=now),
        "injected": f"{signature}\t.{stamp}",
        "huge": "A" * 5000 + f".{stamp}",
    }


@pytest.mark.parametrize("wrong", list(forged(0)))
def test_a_wrong_token_opens_nothing(strict: Stage, wrong: str) -> None:
    assert refused(strict, client_id="owner", token=forged(time.time())[wrong])


def in_the_address(stage: Stage, token: str, client_id: str = "owner") -> SimulatedDevice:
    """As browsers must: who it is and its token in the query."""
    query = urlencode({"device-id": ANNA, "client-id": client_id, "authorization": f"Bearer {token}"})
    return SimulatedDevice(f"{stage.url}?{query}", device_id=ANNA, client_id=client_id)


def test_a_token_in_the_address_opens_as_well(strict: Stage) -> None:
    in_the_address(strict, TOKENS.issue("owner", ANNA, now=time.time())).connect().close()


@pytest.mark.parametrize("wrong", list(forged(0)))
def test_a_wrong_token_in_the_address_opens_nothing(strict: Stage, wrong: str) -> None:
    with pytest.raises(UpgradeRefused, match="401"):
        in_the_address(strict, forged(time.time())[wrong]).connect()


@pytest.mark.parametrize("head", ["a\r\nSet-Cookie: x=1", "a\nX: y", "a\0b", "../../etc/passwd", "a|b", "x" * 129])
@pytest.mark.parametrize("name", ["device-id", "client-id"])
def test_an_id_in_the_address_writes_no_header_and_leads_nowhere(strict: Stage, name: str, head: str) -> None:
    """However it is escaped; the answer repeats nothing of it."""
    query = {"device-id": ANNA, "client-id": "owner", name: head}
    query["authorization"] = f"Bearer {'A' * 43}.{int(time.time())}"
    with socket.create_connection(("127.0.0.1", strict.server.port), timeout=PATIENCE_S) as raw:
        raw.sendall(
            f"GET /xiaozhi/v1/?{urlencode(query)} HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\n".encode()
            + b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        answer = b"".join(iter(lambda: raw.recv(65_536), b""))
    status = answer.split(b" ", 2)[1]
    assert status in (b"400", b"401"), answer
    for part in (b"Set-Cookie", b"X: y", b"etc/passwd", b"x" * 129):
        assert part not in answer


def test_no_secret_is_told(tmp_path: Path, sounds: Sounds) -> None:
    """Neither by the log and the configuration as it is printed, nor by metrics, pages and errors, nor by the journal
    and the database of what was said."""
    with open_stage(tmp_path, sounds, STRICT) as stage, capture_logs() as lines:
        token = ota(stage, "owner")["websocket"]["token"]
        device = stage.device(device_id=ANNA, client_id="owner", token=token)
        ask(device, "a question that is kept")
        stage.vendor.stand(CHAT, Script(status=401))
        ask(device, "a question that fails")
        assert refused(stage, client_id="stranger", token=token)
        status, body = admin(stage, "GET", f"/{ANNA}", token="not-the-token-of-tests")
        assert status == 401
        told = repr(body) + masked_yaml(stage.settings)
        for page in ("metrics", "", "healthz", "readyz"):
            with urllib.request.urlopen(
                f"http://127.0.0.1:{stage.server.http_port}/{page}", timeout=PATIENCE_S
            ) as reply:
                told += reply.read().decode()
        with pytest.raises(urllib.error.HTTPError) as wrong:
            urllib.request.urlopen(
                urllib.request.Request(
                    f"http://127.0.0.1:{stage.server.http_port}/mcp/vision/explain",
                    data=b"x",
                    headers={"Authorization": f"Bearer {token}", "Device-Id": ANNA, "Client-Id": "owner"},
                ),
                timeout=PATIENCE_S,
            )
        with wrong.value as error:
            told += repr(error.headers.items()) + error.read().decode()
        wait_for(lambda: "a question that fails" in written(tmp_path / "history"), "the journal")
        kept = written(tmp_path / "history")
    assert "a question that is kept" in kept
    told += repr(lines) + kept + written(tmp_path)
    for secret in (KEY, ADMIN, token, "test-key", "not-the-token-of-tests"):
        assert secret not in told, secret


def written(directory: Path) -> str:
    """Everything in the files of a directory."""
    files = [path for path in sorted(directory.rglob("*")) if path.is_file()]
    return "".join(path.read_bytes().decode("utf-8", "replace") for path in files)


def test_an_operators_tool_decides_about_a_device(strict: Stage) -> None:
    token = ota(strict, "owner")["websocket"]["token"]
    device = strict.device(device_id=ANNA, client_id="owner", token=token)
    wait_for(lambda: admin(strict, "GET", "/known")[1]["devices"], "the device to be written down")
    status, shown = admin(strict, "GET", f"/{ANNA.upper()}")
    assert status == 200 and shown["enrolled"]["client"] == "owner"
    assert shown["enrolled"]["how"] == "in a private network"

    status, answer = admin(strict, "PATCH", f"/{ANNA}/settings", {"set": {"prompt": "You are a pirate."}})
    assert (status, answer["settings"]) == (200, {"prompt": "You are a pirate."})
    assert "pirate" not in (ask(device, "hello"), strict.messages()[0]["content"])[1]
    device.close()
    device = strict.device(device_id=ANNA, client_id="owner", token=token)
    ask(device, "hello")
    assert "You are a pirate." in strict.messages()[0]["content"]
    for body, code in (
        ({"set": {"TTS.x.type": "evil:Class"}}, 422),
        ({"set": {"plugins.dirs": ["/tmp"]}}, 422),
        ({"set": {"server.port": 1}}, 422),
        ({"set": [1]}, 400),
        ([1], 400),
    ):
        assert admin(strict, "PATCH", f"/{ANNA}/settings", body)[0] == code, body
    assert admin(strict, "PATCH", f"/{ANNA}/settings", {"unset": ["prompt"]})[1]["settings"] == {}

    assert admin(strict, "POST", f"/{ANNA}/revoke")[0] == 200
    assert device.wait_closed() == (1008, "revoked")
    assert refused(strict, client_id="owner", token=token)
    assert ota(strict, "owner")["websocket"]["token"] == ""
    assert admin(strict, "POST", "/approve", {"code": ANNA})[0] == 200
    assert refused(strict, client_id="owner", token=TOKENS.issue("owner", ANNA, now=time.time() - 60)), "void"
    assert ota(strict, "owner")["websocket"]["token"]
    assert admin(strict, "POST", f"/{ANNA}/forget")[1] == {"success": True, "was_enrolled": True}
    assert admin(strict, "POST", "/approve", {"code": "000000"})[0] == 404
    assert admin(strict, "GET", "/02:00:00:00:00:ff")[0] == 404
    assert admin(strict, "GET", "/known", token="wrong-token-of-tests")[0] == 401


def test_without_an_admin_token_the_addresses_are_shut(tmp_path: Path, sounds: Sounds) -> None:
    with open_stage(tmp_path, sounds) as stage:
        for method, path in (("GET", "/known"), ("POST", f"/{ANNA}/revoke"), ("POST", "/approve")):
            status, body = admin(stage, method, path, {} if method == "POST" else None, token="")
            assert status == 403 and "admin_token" in body["message"]


# --- out of the box ---------------------------------------------------------------------------------------------------


def test_out_of_the_box_nobody_at_home_is_locked_out(tmp_path: Path, sounds: Sounds) -> None:
    """Devices that never ask OTA, that have a token of another server, and that were set up anew."""
    with open_stage(tmp_path, sounds, {"server": {"auth_key": KEY}}) as stage:
        for client_id, token in (("", ""), ("home-made", "nonsense"), ("b", forged(time.time())["expired"])):
            device = stage.device(device_id=ANNA, client_id=client_id, token=token)
            assert ask(device, "hello").sentences
            device.close()
        assert ota(stage, "owner")["websocket"]["token"]
        anew = ota(stage, "set-up-anew")
        assert anew["websocket"]["token"] == "" and "activation" not in anew
        assert ask(stage.device(device_id=ANNA, client_id="set-up-anew"), "hello").sentences
        behind = SimulatedDevice(stage.url, device_id=ANNA, headers={"X-Forwarded-For": "192.168.1.20"})
        behind.connect().close()


def test_out_of_the_box_strangers_from_elsewhere_need_a_token(tmp_path: Path, sounds: Sounds) -> None:
    with open_stage(tmp_path, sounds, HOME) as stage:
        away = {"X-Forwarded-For": ABROAD}
        assert refused(stage, client_id="owner", headers=away)
        told = ota(stage, "owner", **away)
        assert told["websocket"]["token"] == ""
        assert admin(stage, "POST", "/approve", {"code": told["activation"]["code"]})[0] == 200
        token = ota(stage, "owner", **away)["websocket"]["token"]
        assert not refused(stage, client_id="owner", token=token, headers=away)
        assert refused(stage, client_id="stranger", token=token, headers=away)
    with open_stage(tmp_path / "plain", sounds, {"server": {"auth_key": KEY}}) as stage:
        for headers in (away, {"X-Forwarded-For": f"192.168.1.2, {ABROAD}"}, {"Forwarded": "for=192.168.1.2"}):
            assert refused(stage, client_id="owner", headers=headers), "a proxy that nobody trusts"


def test_a_stranger_at_home_gets_nothing_of_the_owners_memory(tmp_path: Path, sounds: Sounds) -> None:
    with open_stage(tmp_path, sounds, {**MEMORY, "server": {"auth_key": KEY}}) as stage:
        token = ota(stage, "owner")["websocket"]["token"]
        owner = stage.device(device_id=ANNA, client_id="owner", token=token)
        ask(owner, "my bank card's PIN is 8866")
        stage.vendor.stand(CHAT, Script(answer="The PIN is 8866."))
        owner.close()
        wait_for(lambda: stage.server.services.memories.saved == 1, "the memory to be saved")
        stage.calm()

        stranger = stage.device(device_id=ANNA, client_id="stranger")
        ask(stranger, "what is my PIN")
        assert "8866" not in json.dumps(stage.messages())
        stranger.close()
        wait_for(lambda: stage.server.services.memories.saved == 2, "the stranger's own memory")
        stage.forget_requests()
        ask(stage.device(device_id=ANNA, client_id="owner", token=token), "what is my PIN")
        assert "8866" in stage.questions()[0]["messages"][0]["content"], "in the prompt, not only in the dialogue"


@pytest.mark.parametrize("client_id", ["owner", "stranger"])
@pytest.mark.parametrize("auth", [{}, {"enabled": True}], ids=["home", "all"])
def test_a_device_id_that_asks_from_another_address_gets_nothing_without_approval(
    client_id: str, auth: dict[str, Any], tmp_path: Path, sounds: Sounds
) -> None:
    """No token, no dialogue and no memory of the first one, though it knows both ids; approved, it is the device."""
    owner, stranger = {"X-Forwarded-For": "192.168.1.20"}, {"X-Forwarded-For": ABROAD}
    with open_stage(tmp_path, sounds, {**MEMORY, "server": {**HOME["server"], "auth": auth}}) as stage:
        token = ota(stage, "owner", **owner)["websocket"]["token"]
        device = stage.device(device_id=ANNA, client_id="owner", token=token, headers=owner)
        ask(device, "my bank card's PIN is 8866")
        stage.vendor.stand(CHAT, Script(answer="The PIN is 8866."))

        told = ota(stage, client_id, **stranger)
        assert told["websocket"]["token"] == ""
        assert refused(stage, client_id=client_id, headers=stranger)
        assert ask(device, "still here").sentences, "nobody was thrown out"
        device.close()
        wait_for(lambda: stage.server.services.memories.saved == 1, "the memory to be saved")
        assert refused(stage, client_id=client_id, headers=stranger)

        assert admin(stage, "POST", "/approve", {"code": told["activation"]["code"]})[0] == 200
        given = ota(stage, client_id, **stranger)["websocket"]["token"]
        stage.calm()
        stage.forget_requests()
        after = stage.device(device_id=ANNA, client_id=client_id, token=given, headers=stranger)
        ask(after, "what is my PIN")
        assert "8866" in json.dumps(stage.messages())
