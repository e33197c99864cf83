"""Who may come in, and as whom: with the settings of an upgrade nobody at home is locked out, and nobody gets what
another's device was told."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from loadtest.simulator.device import SimulatedDevice
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


def test_a_token_in_the_address_is_as_good_and_as_bad(strict: Stage) -> None:
    """Browsers have no other way."""
    now = time.time()
    for token, opens in ((TOKENS.issue("owner", ANNA, now=now), True), (forged(now)["expired"], False)):
        where = f"{strict.url}?device-id={ANNA}&client-id=owner&authorization=Bearer%20{token}"
        device = SimulatedDevice(where, device_id=ANNA, client_id="owner")
        if opens:
            device.connect().close()
        else:
            with pytest.raises(Exception, match="401"):
                device.connect()


def test_no_secret_is_told(strict: Stage) -> None:
    token = ota(strict, "owner")["websocket"]["token"]
    with capture_logs() as lines:
        device = strict.device(device_id=ANNA, client_id="owner", token=token)
        ask(device, "hello")
        assert refused(strict, client_id="stranger", token=token)
        status, body = admin(strict, "GET", f"/{ANNA}", token="not-the-token-of-tests")
    told = repr(lines) + repr(body) + masked_yaml(strict.settings)
    with urllib.request.urlopen(f"http://127.0.0.1:{strict.server.http_port}/metrics", timeout=PATIENCE_S) as reply:
        told += reply.read().decode()
    assert status == 401
    for secret in (KEY, ADMIN, token, "test-key", "not-the-token-of-tests"):
        assert secret not in told, secret


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
