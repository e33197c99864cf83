"""Things in the house, through Home Assistant as it answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from loadtest.vendors.http_vendor import Script
from tests.tools.fakes import call, context
from tests.vendors.web_services import KEY, HouseService
from xiaozhi.tools.base import Action, ToolOutcome, ToolServices
from xiaozhi.tools.registry import Plugins, select
from xiaozhi.tools.toolbox import Toolbox

DEVICES = ["客厅,台灯,light.desk", "厨房,音箱,media_player.kitchen"]


@pytest.fixture
def house() -> Iterator[HouseService]:
    with HouseService() as running:
        yield running  # type: ignore[misc]


def built(house: HouseService, services: ToolServices, block: str = "home_assistant", **options: Any) -> Plugins:
    plugins = {block: {"base_url": house.url, "api_key": KEY, "devices": DEVICES, **options}}
    return select(["hass_state"], plugins).build(services)


@pytest.fixture
def box(house: HouseService, services: ToolServices) -> Toolbox:
    return Toolbox(built(house, services).source)


def run(box: Toolbox, name: str, **arguments: Any) -> ToolOutcome:
    return box.call(call(name, **arguments), context())


def test_one_file_has_all_three_tools(box: Toolbox) -> None:
    assert {"hass_get_state", "hass_set_state", "hass_play_music"} <= {spec.name for spec in box.specs()}


def test_a_state_is_told_with_what_matters(box: Toolbox, house: HouseService) -> None:
    lamp = run(box, "hass_get_state", entity_id="light.desk")
    player = run(box, "hass_get_state", entity_id=" Media_Player.Kitchen ")

    assert lamp.action is Action.ASK_LLM
    assert lamp.text == "state 状态: on; rgb: [255, 0, 0]; brightness 亮度 (0-255): 128"
    assert player.text == "state 状态: playing; playing 正在播放: Imagine; volume 音量: 0.4"
    assert house.refusals == []


@pytest.mark.parametrize(
    ("entity", "state", "service", "data"),
    [
        ("light.desk", {"type": "turn_on"}, "light/turn_on", {}),
        ("light.desk", {"type": "turn_off"}, "light/turn_off", {}),
        ("cover.blind", {"type": "turn_on"}, "cover/open_cover", {}),
        ("cover.blind", {"type": "turn_off"}, "cover/close_cover", {}),
        ("cover.blind", {"type": "pause"}, "cover/stop_cover", {}),
        ("vacuum.robot", {"type": "turn_on"}, "vacuum/start", {}),
        ("vacuum.robot", {"type": "turn_off"}, "vacuum/stop", {}),
        ("vacuum.robot", {"type": "pause"}, "vacuum/pause", {}),
        ("vacuum.robot", {"type": "continue"}, "vacuum/start", {}),
        ("light.desk", {"type": "brightness_up"}, "light/turn_on", {"brightness_step_pct": 10}),
        ("light.desk", {"type": "brightness_down"}, "light/turn_on", {"brightness_step_pct": -10}),
        ("light.desk", {"type": "brightness_value", "input": 40}, "light/turn_on", {"brightness_pct": 40}),
        ("light.desk", {"type": "set_color", "rgb_color": [300, 0, 7]}, "light/turn_on", {"rgb_color": [255, 0, 7]}),
        ("light.desk", {"type": "set_kelvin", "input": "4000"}, "light/turn_on", {"color_temp_kelvin": 4000}),
        ("media_player.kitchen", {"type": "volume_up"}, "media_player/volume_up", {}),
        ("media_player.kitchen", {"type": "volume_down"}, "media_player/volume_down", {}),
        ("media_player.kitchen", {"type": "volume_set", "input": 30}, "media_player/volume_set", {"volume_level": 0.3}),
        (
            "media_player.kitchen",
            {"type": "volume_set", "input": 0.3},
            "media_player/volume_set",
            {"volume_level": 0.3},
        ),
        (
            "media_player.kitchen",
            {"type": "volume_mute", "is_muted": "true"},
            "media_player/volume_mute",
            {"is_volume_muted": True},
        ),
        (
            "media_player.kitchen",
            {"type": "volume_mute", "is_muted": "false"},
            "media_player/volume_mute",
            {"is_volume_muted": False},
        ),
        ("media_player.kitchen", {"type": "pause"}, "media_player/media_pause", {}),
        ("media_player.kitchen", {"type": "continue"}, "media_player/media_play", {}),
    ],
)
def test_a_thing_is_controlled(
    box: Toolbox, house: HouseService, entity: str, state: dict[str, Any], service: str, data: dict[str, Any]
) -> None:
    outcome = run(box, "hass_set_state", entity_id=entity, state=state)

    assert outcome.action is Action.ASK_LLM
    assert "Done" in outcome.text
    assert house.refusals == []
    [request] = house.requests
    assert request.path == f"/api/services/{service}"
    assert request.json() == {"entity_id": entity, **data}


@pytest.mark.parametrize(
    ("entity", "state", "told"),
    [
        ("desk", {"type": "turn_on"}, "no entity_id"),
        ("light.desk/../../config", {"type": "turn_on"}, "no entity_id"),
        ("light.desk", {"type": "pause"}, "not possible"),
        ("light.desk", {"type": "dance"}, "not possible"),
        ("lock.door", {"type": "turn_on"}, "not possible"),
        ("light.desk", {"type": "brightness_value"}, "needs input"),
        ("light.desk", {"type": "set_color", "rgb_color": [1]}, "three numbers"),
        ("light.desk", {}, "type"),
        ("light.desk", "bright", "state"),
    ],
)
def test_what_cannot_be_done_is_told_and_not_asked(
    box: Toolbox, house: HouseService, entity: str, state: Any, told: str
) -> None:
    outcome = run(box, "hass_set_state", entity_id=entity, state=state)

    assert outcome.action is Action.ERROR
    assert told in outcome.text
    assert not house.requests


def test_music_on_a_player(box: Toolbox, house: HouseService) -> None:
    outcome = run(box, "hass_play_music", media_content_id="Imagine", entity_id="media_player.kitchen")

    assert outcome == ToolOutcome(Action.SPEAK, "Playing Imagine.")
    assert house.requests[0].json() == {"entity_id": "media_player.kitchen", "media_id": "Imagine"}
    house.stand("/api/services/music_assistant/play_media", Script(status=500))
    failed = run(box, "hass_play_music", media_content_id="Imagine", entity_id="media_player.kitchen")
    assert failed.action is Action.ERROR, "what did not work is not said to play"


@pytest.mark.parametrize(
    "script", [Script(status=401), Script(status=404), Script(garbage="html"), Script(garbage="json")]
)
def test_a_house_that_refuses(box: Toolbox, house: HouseService, script: Script) -> None:
    house.stand("/api/states/light.desk", script)

    assert run(box, "hass_get_state", entity_id="light.desk").action is Action.ERROR


def test_a_wrong_token_is_not_shown(house: HouseService, services: ToolServices) -> None:
    box = Toolbox(built(house, services, api_key="wrong-key-9876").source)
    with capture_logs() as logged:
        outcome = run(box, "hass_get_state", entity_id="light.desk")

    assert outcome.action is Action.ERROR
    assert "401" in str(logged)
    assert "wrong-key" not in outcome.text + str(logged)


@pytest.mark.parametrize("block", ["home_assistant", "hass_state"])
@pytest.mark.parametrize(
    "devices",
    [
        DEVICES,
        "客厅,台灯,light.desk;厨房,音箱,media_player.kitchen",
        "客厅,台灯,light.desk\n厨房,音箱,media_player.kitchen\n",
        [["客厅", "台灯", "light.desk"], ["厨房", "音箱", "media_player.kitchen"]],
    ],
)
def test_the_model_is_told_what_is_in_the_house(
    house: HouseService, services: ToolServices, block: str, devices: Any
) -> None:
    briefing = built(house, services, block, devices=devices).briefing

    assert briefing.endswith("客厅,台灯,light.desk\n厨房,音箱,media_player.kitchen")


def test_a_house_that_is_not_set_up(services: ToolServices) -> None:
    chosen = select(["hass_state"], {})

    assert any("hass_get_state, hass_set_state, hass_play_music cannot work" in each for each in chosen.warnings)
    plugins = chosen.build(services)
    assert plugins.briefing == ""
    assert "not set up" in run(Toolbox(plugins.source), "hass_get_state", entity_id="light.desk").text
