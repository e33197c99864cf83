"""Who gets in, and what he finds: strangers with a device's id, with and without authentication."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from loadtest.simulator.device import SimulatedDevice
from loadtest.vendors.sounds import Sounds
from tests.e2e.stage import Stage, ask, open_stage
from tests.waiting import PATIENCE_S, wait_for

ANNA = "02:00:00:00:be:01"
PIN = "my bank card's PIN is 8866"
AUTH = {"server": {"auth": {"enabled": True}, "mqtt_gateway": "192.168.1.7:1883"}}


def ota(stage: Stage, client_id: str, **headers: str) -> dict[str, Any]:
    """What a device is told at its start."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{stage.server.http_port}/xiaozhi/ota/",
        data=b"{}",
        headers={"Device-Id": ANNA, "Client-Id": client_id, **headers},
    )
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as reply:
        answer: dict[str, Any] = json.load(reply)
    return answer


def test_a_stranger_with_the_device_id_hears_nothing_of_its_dialogue(stage: Stage) -> None:
    """Neither by throwing the device out, nor by waiting until it has left; nor does the owner hear of him."""
    owner = stage.device(device_id=ANNA, client_id="owner")
    ask(owner, PIN)
    for client_id in ("stranger", "", "OWNER"):
        stranger = stage.device(device_id=ANNA, client_id=client_id or " ")
        assert owner.wait_closed()[1] == "replaced"
        ask(stranger, "what did I say just now")
        assert stage.said() == [("user", "what did I say just now")]
        stranger.drop()
        wait_for(lambda: not len(stage.server.connections), "the end of the visit")

    ask(stage.device(device_id=ANNA, client_id="owner"), "and what did I say")
    assert [text for role, text in stage.said() if role == "user"] == [PIN, "and what did I say"]


@pytest.mark.parametrize("path", ["/xiaozhi/ota/", "/mcp/vision/explain", "/admin/reload"])
def test_a_page_from_elsewhere_gets_nothing(stage: Stage, path: str) -> None:
    with pytest.raises(Exception, match="403"):
        SimulatedDevice(stage.url, device_id=ANNA, headers={"Origin": "https://evil.example"}).connect()
    request = urllib.request.Request(
        f"http://127.0.0.1:{stage.server.http_port}{path}",
        data=b"{}",
        headers={"Device-Id": ANNA, "Client-Id": "c", "Origin": "https://evil.example"},
    )
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=PATIENCE_S)
    assert caught.value.code == 403
    assert caught.value.headers["Access-Control-Allow-Origin"] is None
    caught.value.close()


def test_with_authentication_a_device_at_home_gets_in_by_itself_and_nobody_else_does(
    tmp_path: Path, sounds: Sounds
) -> None:
    with open_stage(tmp_path, sounds, AUTH) as stage:
        told = ota(stage, "owner")
        token = told["websocket"]["token"]
        assert told["mqtt"]["endpoint"] == "192.168.1.7:1883"
        assert ask(stage.device(device_id=ANNA, client_id="owner", token=token), "hello").sentences == ["Fine"]

        for stranger in ({"client_id": "stranger"}, {"client_id": "owner", "X-Forwarded-For": "203.0.113.9"}):
            refused = ota(stage, **stranger)
            assert refused["websocket"]["token"] == ""
            assert "mqtt" not in refused
        for client_id, shown in (("owner", ""), ("stranger", token), ("", "")):
            with pytest.raises(Exception, match="401"):
                SimulatedDevice(stage.url, device_id=ANNA, client_id=client_id, token=shown).connect()
    with open_stage(tmp_path, sounds, AUTH) as stage:
        stage.device(device_id=ANNA, client_id="owner", token=token)
        assert ota(stage, "stranger")["websocket"]["token"] == "", "a restart changes nothing"


@pytest.mark.parametrize(
    "server,warned",
    [
        ({"ip": "0.0.0.0"}, False),
        ({"ip": "0.0.0.0", "auth": {"enabled": False}}, True),
        ({"ip": "127.0.0.1", "auth": {"enabled": False}}, False),
        ({"ip": "0.0.0.0", "auth": {"enabled": True}}, False),
    ],
)
def test_who_opens_the_server_to_all_is_told_once(
    tmp_path: Path, sounds: Sounds, server: dict[str, Any], warned: bool
) -> None:
    with capture_logs() as lines, open_stage(tmp_path, sounds, {"server": server}) as stage:
        stage.server.reload()
    notes = [line["note"] for line in lines if line["event"] == "at risk"]
    assert len(notes) == warned
    assert all("server.auth.enabled" in note and "127.0.0.1" in note for note in notes)
