"""Things in the house through Home Assistant: what state they are in, how to change it, and music on its players.

Source: developers.home-assistant.io/docs/api/rest, and the services of each domain
(home-assistant.io/integrations/light and so on)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final

from pydantic import BaseModel, Field, SecretStr, field_validator

from xiaozhi.errors import ToolError, VendorGarbage
from xiaozhi.settings.fields import HttpUrl
from xiaozhi.tools.base import Action, ToolContext, ToolOptions, ToolOutcome, ToolServices
from xiaozhi.tools.registry import tool

MAX_DEVICES_CHARS: Final = 8_000
_ENTITY: Final = re.compile(r"[a-z0-9_]+\.[a-z0-9_]+")
_STEP_PERCENT: Final = 10

# What is told of a state, by attribute: (words, how the value is written).
_ATTRIBUTES: Final[Mapping[str, str]] = {
    "media_title": "playing 正在播放",
    "volume_level": "volume 音量",
    "color_temp_kelvin": "colour temperature 色温 (K)",
    "rgb_color": "rgb",
    "brightness": "brightness 亮度 (0-255)",
    "current_temperature": "current temperature 当前温度",
    "temperature": "set temperature 设定温度",
    "current_position": "position 位置 (%)",
    "battery_level": "battery 电量 (%)",
    "unit_of_measurement": "unit 单位",
}


class HomeAssistantOptions(ToolOptions):
    """`plugins.home_assistant`, or `plugins.hass_state` as the console writes it."""

    blocks: ClassVar[tuple[str, ...]] = ("home_assistant", "hass_state", "hass_get_state", "hass_set_state")

    base_url: HttpUrl = Field("", description="Where Home Assistant is, such as http://homeassistant.local:8123.")
    api_key: SecretStr = Field(SecretStr(""), description="A long-lived access token.")
    devices: tuple[str, ...] = Field((), description="Things: place,name,entity_id.")

    @field_validator("devices", mode="before")
    @classmethod
    def _text_is_lines(cls, value: Any) -> Any:
        if isinstance(value, str):
            return [line.strip() for line in re.split(r"[;；\n]+", value) if line.strip()]
        if isinstance(value, list):  # a line that YAML read as something else
            return [",".join(map(str, line)) if isinstance(line, list) else line for line in value]
        return value

    def missing(self) -> str:
        if not self.base_url:
            return "base_url: is empty"
        return "" if self.api_key.get_secret_value() else "api_key: is empty; make a long-lived access token"

    def briefing(self) -> str:
        if not self.devices:
            return ""
        listed = "\n".join(self.devices)[:MAX_DEVICES_CHARS]
        return (
            "Things in the house (place, name, entity_id), which you control through Home Assistant; "
            f"家里的智能设备（位置，设备名，entity_id）:\n{listed}"
        )


class State(BaseModel):
    """What to do with a thing."""

    type: Annotated[
        str,
        Field(
            description="turn_on, turn_off, brightness_up, brightness_down, brightness_value, volume_up, volume_down, "
            "volume_set, volume_mute, set_color, set_kelvin, pause, continue. 要做的操作。"
        ),
    ]
    input: Annotated[
        float | None,
        Field(description="For brightness_value and volume_set: 0 to 100; for set_kelvin: kelvin. 数值。"),
    ] = None
    is_muted: Annotated[bool | None, Field(description="For volume_mute. 是否静音。")] = None
    rgb_color: Annotated[
        list[int] | None, Field(description="For set_color: red, green, blue, each 0 to 255. 颜色。", max_length=3)
    ] = None


EntityId = Annotated[
    str, Field(description="The entity_id in Home Assistant, such as light.living_room. 设备的 entity_id。")
]


class HomeAssistant:
    """One installation."""

    def __init__(self, options: HomeAssistantOptions, services: ToolServices) -> None:
        key = options.api_key.get_secret_value()
        self._options = options
        self._base = options.base_url.rstrip("/") + "/api"
        shared: dict[str, Any] = {"headers": {"Authorization": f"Bearer {key}"}, "secrets": [key]}
        self._http = services.http("home_assistant", connect=3.0, read=5.0, total=5.0, **shared)
        # Players look a song up before they answer.
        self._slow = services.http("home_assistant", connect=3.0, read=10.0, total=10.0, **shared)

    @tool("hass_get_state", HomeAssistantOptions)
    def get_state(self, entity_id: EntityId) -> str:
        """Tells the state of a thing in the house: whether it is on, its brightness, volume, colour, temperature.
        查询家里智能设备的状态。"""
        self._ready()
        found = self._http.json("GET", f"{self._base}/states/{_checked(entity_id)}")
        if not isinstance(found, Mapping):
            raise VendorGarbage("home_assistant", "a state that is not an object")
        attributes = found.get("attributes")
        told = [f"state 状态: {found.get('state')}"]
        if isinstance(attributes, Mapping):
            told += [f"{words}: {attributes[key]}" for key, words in _ATTRIBUTES.items() if attributes.get(key)]
        return "; ".join(told)

    @tool("hass_set_state", HomeAssistantOptions)
    def set_state(self, entity_id: EntityId, state: State) -> str:
        """Controls a thing in the house: switches it, opens and closes it, sets brightness, colour or volume, pauses
        and continues. 控制家里的智能设备：开关、亮度、颜色、音量、暂停、继续等。"""
        self._ready()
        entity = _checked(entity_id)
        domain = entity.partition(".")[0]
        service, data = service_for(domain, state)
        self._http.json("POST", f"{self._base}/services/{domain}/{service}", json={"entity_id": entity, **data})
        return f"Done 已执行: {state.type} {entity}" + "".join(f", {key} {value}" for key, value in data.items())

    @tool("hass_play_music", HomeAssistantOptions, timeout=12.0)
    def play_music(
        self,
        context: ToolContext,
        media_content_id: Annotated[
            str, Field(description="Name of the song, album, artist or list. 歌曲、专辑或歌手的名字。", min_length=1)
        ],
        entity_id: EntityId,
    ) -> ToolOutcome:
        """Plays music or audio books on a player of the house, through Music Assistant. Call it when the user names a
        player or a room. 用户想在房间里的播放器上听音乐或有声书时调用。"""
        self._ready()
        self._slow.json(
            "POST",
            f"{self._base}/services/music_assistant/play_media",
            json={"entity_id": _checked(entity_id), "media_id": media_content_id},
        )
        told = f"正在播放{media_content_id}。" if context.chinese else f"Playing {media_content_id}."
        return ToolOutcome(Action.SPEAK, told)

    def _ready(self) -> None:
        if missing := self._options.missing():
            raise ToolError(f"Home Assistant is not set up on this server ({missing}). 服务器没有配置 Home Assistant。")


def _checked(entity_id: str) -> str:
    """An entity's id; it becomes part of an address. Raises ToolError."""
    entity = entity_id.strip().lower()
    if _ENTITY.fullmatch(entity) is None:
        raise ToolError(f"'{entity_id[:60]}' is no entity_id; it looks like light.living_room. 错误的设备 id。")
    return entity


_SWITCHES: Final[Mapping[str, Mapping[str, str]]] = {
    # Not locks: "switch the lock on" can mean both.
    "turn_on": {"cover": "open_cover", "vacuum": "start", "valve": "open_valve", "button": "press", "lock": ""},
    "turn_off": {"cover": "close_cover", "vacuum": "stop", "valve": "close_valve", "lock": ""},
    "pause": {
        "media_player": "media_pause",
        "cover": "stop_cover",
        "vacuum": "pause",
        "valve": "stop_valve",
        "timer": "pause",
    },
    "continue": {"media_player": "media_play", "vacuum": "start", "timer": "start"},
}
_PLAIN: Final = {"turn_on": "turn_on", "turn_off": "turn_off", "pause": "", "continue": ""}


def service_for(domain: str, state: State) -> tuple[str, dict[str, Any]]:
    """The service of a domain, and its data, for a wish. Raises ToolError when there is none."""
    kind = state.type
    if kind in _SWITCHES:
        service = _SWITCHES[kind].get(domain, _PLAIN[kind])
        if service:
            return service, {}
    elif kind in ("brightness_up", "brightness_down"):
        return "turn_on", {"brightness_step_pct": _STEP_PERCENT if kind.endswith("up") else -_STEP_PERCENT}
    elif kind == "brightness_value":
        return "turn_on", {"brightness_pct": _number(state, 0, 100)}
    elif kind == "set_color":
        if state.rgb_color is None or len(state.rgb_color) != 3:
            raise ToolError("set_color needs rgb_color with three numbers. 需要 rgb_color。")
        return "turn_on", {"rgb_color": [min(255, max(0, part)) for part in state.rgb_color]}
    elif kind == "set_kelvin":
        return "turn_on", {"color_temp_kelvin": round(_number(state, 1_000, 12_000))}
    elif kind in ("volume_up", "volume_down"):
        return kind, {}
    elif kind == "volume_set":
        level = _number(state, 0, 100)
        return kind, {"volume_level": level / 100 if level >= 1 else level}
    elif kind == "volume_mute":
        return kind, {"is_volume_muted": state.is_muted is not False}
    raise ToolError(f"{kind} is not possible with a {domain}. {domain} 不支持 {kind}。")


def _number(state: State, low: float, high: float) -> float:
    if state.input is None:
        raise ToolError(f"{state.type} needs input, a number from {low:g} to {high:g}. 需要数值 input。")
    return min(high, max(low, state.input))
