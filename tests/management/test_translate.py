"""From the console's JSON to settings: whole answers against golden files, and the traps one by one."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.vendors.console import PRIVATE_KEY, SECRET, SERVER_BASE
from xiaozhi.management.translate import (
    KEEP_NOTHING,
    KEEP_SOUND,
    KEEP_TEXT,
    is_server_base,
    private_config,
    server_base_part,
)
from xiaozhi.settings import lay_over, load

GOLDEN = Path(__file__).parent / "golden"


def without_history(overlay: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in overlay.items() if key != "history"}


def golden(name: str) -> Any:
    return orjson.loads((GOLDEN / f"{name}.json").read_bytes())


def test_a_whole_answer_about_a_device() -> None:
    config = private_config(golden("agent_models"), ["行长|杭掌", "LED|艾尔异地", "nothing", " |nowhere"])

    assert without_history(config.overlay) == golden("overlay")
    assert (config.history, config.summarises, config.notes) == (KEEP_SOUND, True, ())


def test_what_is_said_of_a_device_is_an_overlay() -> None:
    """Of types that ship here; the others are left out by those who make the agent."""
    loaded = load(environ={})
    overlay = dict(private_config(golden("agent_models"), ["行长|杭掌"]).overlay)
    for section in ("ASR", "VLLM", "RAG"):
        overlay.pop(section, None)
        overlay["selected_module"].pop(section, None)

    settings = lay_over(loaded, overlay, "the console", trusted=False).settings

    assert settings.selected("tts") == "TTS_x"
    assert settings.voiceprint.similarity_threshold == 0.4
    assert settings.voiceprint.speakers == ("a1b2,小明,喜欢恐龙,和火车",)
    assert settings.context_providers[0].headers["X-Number"].get_secret_value() == "5"
    assert settings.device_max_output_size == 300
    assert settings.summaryMemory == "小明喜欢恐龙"
    assert settings.block("intent", "Intent_function_call")["functions"][:2] == ["get_weather", "play_music"]


def test_the_settings_of_the_server() -> None:
    part = server_base_part(SERVER_BASE)

    assert part == golden("server_base_part")
    written = orjson.dumps(part)
    for secret in (SECRET, PRIVATE_KEY, "sms-secret", "10.0.0.5"):
        assert secret.encode() not in written


def test_keys_that_operators_add_arrive_and_unknown_ones_do_not() -> None:
    answer = {**copy.deepcopy(dict(SERVER_BASE)), "language": "English", "conversation": {"tool_depth": 2},
              "new_in_version_9": {"a": 1}, "storage": {"url": "sqlite:////tmp/x"}, "prompt": None}  # fmt: skip

    part = server_base_part(answer)

    assert (part["language"], part["conversation"]) == ("English", {"tool_depth": 2})
    assert {"new_in_version_9", "storage", "prompt", "manager-api"}.isdisjoint(part)


def test_the_settings_of_the_server_in_the_place_of_those_of_a_device() -> None:
    """The console's own connection has a device id that nobody has."""
    assert is_server_base(SERVER_BASE)
    assert private_config(SERVER_BASE, []).overlay == {}


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        (0, KEEP_NOTHING),
        (1, KEEP_TEXT),
        (2, KEEP_SOUND),
        ("1", KEEP_TEXT),
        (None, KEEP_SOUND),
        (7, KEEP_SOUND),
        ("x", 2),
    ],
)
def test_what_of_a_conversation_is_kept(written: Any, kept: int) -> None:
    assert private_config({"chat_history_conf": written}, []).history == kept


@pytest.mark.parametrize("unset", [None, "", "null", "  ", " null "])
def test_what_is_not_set_is_left_to_the_server(unset: Any) -> None:
    keys = ["prompt", "mcp_endpoint", "summaryMemory", "device_max_output_size", "voiceprint", "plugins"]
    keys += ["context_providers", "selected_module", "LLM", "TTS", "Memory"]
    said = dict.fromkeys(keys, unset)

    assert without_history(private_config(said, []).overlay) == {}


@pytest.mark.parametrize(("written", "limit"), [("0", 0), ("12", 12), (7, 7), ("7.0", 7), ("many", None), (True, None)])
def test_a_limit_is_a_text(written: Any, limit: int | None) -> None:
    assert private_config({"device_max_output_size": written}, []).overlay.get("device_max_output_size") == limit


def tools(plugins: Any, **intent: Any) -> tuple[Any, list[str], tuple[str, ...]]:
    """(options, names, notes) that come of `plugins`."""
    said = {"plugins": plugins, "Intent": {"Intent_x": {"type": "function_call", **intent}},
            "selected_module": {"Intent": "Intent_x"}}  # fmt: skip
    config = private_config(said, [])
    return config.overlay.get("plugins", {}), config.overlay["Intent"]["Intent_x"].get("functions"), config.notes


def test_the_keys_are_the_list_of_tools_and_the_values_json_texts() -> None:
    options, names, notes = tools({"get_weather": '{"api_key":"k"}', "play_music": "{}", "get_lunar": ""})

    assert options == {"get_weather": {"api_key": "k"}}
    assert names == ["get_weather", "play_music", "get_lunar"]
    assert notes == ()


def test_the_house_is_two_tools() -> None:
    options, names, _ = tools(
        {"hass_state": '{"base_url":"http://ha:8123","devices":"客厅,灯,light.a;厨房,灯,light.b"}'}
    )

    assert names == ["hass_get_state", "hass_set_state"]
    assert options["hass_state"]["devices"] == "客厅,灯,light.a;厨房,灯,light.b"


def test_a_knowledge_base_goes_by_the_name_of_its_service() -> None:
    options, names, notes = tools({"search_from_my_rag": '{"base_url":"http://rag"}', "search_from_other": "{}"})

    assert options == {"search_from_ragflow": {"base_url": "http://rag"}}
    assert names == ["search_from_ragflow"]
    assert "search_from_other" in notes[0]


@pytest.mark.parametrize("garbage", ["{", "[1]", "7", [1], 7])
def test_options_that_are_no_object_are_left_out_and_the_tool_stays(garbage: Any) -> None:
    options, names, notes = tools({"get_lunar": garbage})

    assert (options, names) == ({}, ["get_lunar"])
    assert "plugins.get_lunar" in notes[0]


def test_without_plugins_the_list_of_the_block_counts() -> None:
    assert tools(None, functions=["get_lunar"]) == ({}, ["get_lunar"], ())


def test_other_memories_are_left_alone() -> None:
    said = {
        "Memory": {"M": {"type": "mem0ai", "api_key": "k"}},
        "selected_module": {"Memory": "M"},
        "summaryMemory": "x",
    }

    config = private_config(said, [])

    assert config.overlay["Memory"] == {"M": {"type": "mem0ai", "api_key": "k"}}
    assert not config.summarises
    assert "summaryMemory" not in config.overlay
