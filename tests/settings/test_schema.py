"""The schema and config/default.yaml say the same, every key is explained, and a `Settings` is easy to ask."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jinja2 import StrictUndefined
from jinja2.sandbox import SandboxedEnvironment
from pydantic import BaseModel, SecretStr, ValidationError

from xiaozhi.errors import SettingsError
from xiaozhi.settings import SECTIONS, BoardTraits, Settings, load
from xiaozhi.settings.boards import Board
from xiaozhi.settings.checks import valid_keys
from xiaozhi.settings.fields import text_in
from xiaozhi.settings.loading import CONFIG_DIR
from xiaozhi.settings.masking import masked
from xiaozhi.settings.services import ContextProvider
from xiaozhi.settings.yaml_reader import read_file

DEFAULTS = CONFIG_DIR / "default.yaml"
CARRIED = {*SECTIONS.values(), "plugins"}
"""Sections whose content belongs to others."""


def models(model: type[BaseModel] = Settings) -> Iterator[type[BaseModel]]:
    yield model
    for field in model.model_fields.values():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from models(field.annotation)


def key_nodes(node: yaml.Node, path: tuple[str, ...] = ()) -> Iterator[tuple[str, yaml.Node]]:
    """(dotted key, its node) of every key of a YAML document."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*path, key.value)
            yield ".".join(here), key
            yield from key_nodes(value, here)


def plain(value: Any) -> Any:
    """Defaults of the schema as YAML would write them."""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def test_default_yaml_has_every_key_with_its_default_and_no_other() -> None:
    tree, faults = read_file(DEFAULTS)
    assert faults == []

    schema = plain(Settings().model_dump(by_alias=True))

    for section in CARRIED:
        assert isinstance(tree.pop(section), dict)
        schema.pop(section)
    assert tree == schema


@pytest.mark.parametrize(
    "path", [DEFAULTS, *sorted((CONFIG_DIR / "profiles").glob("*.yaml"))], ids=lambda path: path.name
)
def test_every_key_has_a_comment(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    assert root is not None

    bare = []
    for key, node in key_nodes(root):
        line = node.start_mark.line
        explained = "#" in lines[line] or (line > 0 and lines[line - 1].lstrip().startswith("#"))
        section_of_a_profile = path.parent.name == "profiles" and key in ("server", "ai_providers")
        if (
            not explained
            and key not in ("server", "log", "monitoring", *SECTIONS.values())
            and not section_of_a_profile
        ):
            bare.append(key)

    assert bare == []


def test_every_field_is_described_and_frozen() -> None:
    for model in (*models(), Board, ContextProvider):
        assert model.model_config.get("frozen"), model
        for name, field in model.model_fields.items():
            assert field.description, f"{model.__name__}.{name}"


def test_settings_cannot_be_changed() -> None:
    settings = Settings()

    with pytest.raises(ValidationError, match="frozen"):
        settings.server.port = 1  # type: ignore[misc]


def test_every_key_of_the_schema_stands_in_the_documentation() -> None:
    text = (CONFIG_DIR.parent / "docs" / "configuration.md").read_text(encoding="utf-8")

    sections = {key.split(".")[0] for key in valid_keys()}
    assert [section for section in sorted(sections) if f"`{section}" not in text] == []


def test_blocks_are_copies() -> None:
    settings = Settings(TTS={"A": {"type": "x", "params": {"speed": 1}}})

    settings.block("tts", "A")["params"]["speed"] = 2
    settings.modules("tts").clear()

    assert settings.block("tts", "A") == {"type": "x", "params": {"speed": 1}}
    with pytest.raises(KeyError):
        settings.block("tts", "B")


def test_in_use_holds_what_can_come_into_play_once() -> None:
    settings = Settings.model_validate(
        {
            "selected_module": {"LLM": "Big", "VLLM": "Eye", "Memory": "Short", "Intent": "Ask"},
            "fallback": {"LLM": ["Small", "Offline"], "TTS": ["Espeak"]},
            "Memory": {"Short": {"type": "mem_local_short", "llm": "Small"}, "Long": {"type": "x", "llm": "Never"}},
            "Intent": {"Ask": {"type": "intent_llm", "llm": "Tiny"}},
        }
    )

    assert settings.selected("memory") == "Short"
    assert settings.fallbacks("llm") == ("Small", "Offline")
    assert settings.fallbacks("memory") == ()
    assert settings.in_use() == (
        ("vad", "SileroVAD"),
        ("asr", "Offline"),
        ("llm", "Big"),
        ("llm", "Small"),
        ("llm", "Offline"),
        ("vllm", "Eye"),
        ("tts", "Offline"),
        ("tts", "Espeak"),
        ("memory", "Short"),
        ("intent", "Ask"),
        ("llm", "Tiny"),
    )


@pytest.mark.parametrize(
    "names, traits",
    [
        ((), BoardTraits(3, False, None)),
        (("",), BoardTraits(3, False, None)),
        (("esp-box/1.0",), BoardTraits(3, False, None)),
        (("bread-compact-wifi/1.8.0",), BoardTraits(5, False, 2)),
        (("esp-box", "bread-compact-wifi"), BoardTraits(5, False, 2)),
        (("Bread-Compact-WiFi-LCD/1.8.0",), BoardTraits(3, True, 3)),
        (("bread-compact-wifi", "bread-compact-wifi-lcd"), BoardTraits(3, True, 3)),
    ],
)
def test_the_longest_matching_board_wins(names: tuple[str, ...], traits: BoardTraits) -> None:
    settings = Settings.model_validate(
        {
            "boards": {
                "bread-compact-wifi-lcd": {"ping": True, "protocol_version": 3},
                "bread-compact-wifi": {"prebuffer_frames": 5, "protocol_version": 2},
            }
        }
    )

    assert settings.board_for(names) == traits


@pytest.mark.parametrize(
    "console, server, found",
    [("", "", ""), ("a", "", "a"), ("", "b", "b"), ("a", "b", "a")],
)
def test_the_management_secret_may_stand_in_two_places(console: str, server: str, found: str) -> None:
    settings = Settings.model_validate({"manager-api": {"secret": console}, "server": {"secret": server}})

    assert settings.management_secret.get_secret_value() == found


@pytest.mark.parametrize(
    "given, kept",
    [
        ("ws://192.168.1.2:8000/xiaozhi/v1/", "ws://192.168.1.2:8000/xiaozhi/v1/"),
        (" wss://voice.example.org/xiaozhi/v1/ ", "wss://voice.example.org/xiaozhi/v1/"),
        ("ws://[fe80::1]:8000/", "ws://[fe80::1]:8000/"),
        ("ws://语音.example/", None),
        ("WS://host/", "WS://host/"),
        ("", ""),
        ("ws:/host", None),
        ("host:8000", None),
        ("ws://:8000/", None),
        ("ws://host:eight/", None),
    ],
)
def test_shapes_of_websocket_addresses(given: str, kept: str | None) -> None:
    tree = {"server": {"websocket": given}}

    if kept is None:
        with pytest.raises(ValidationError):
            Settings.model_validate(tree)
    else:
        assert Settings.model_validate(tree).server.websocket == kept


def test_values_people_write_differently() -> None:
    settings = Settings.model_validate(
        {
            "server": {
                "port": "9000",
                "ip": "::",
                "timezone_offset": "-3.5",
                "mqtt_gateway": "null",
                "trusted_proxies": ["10.1.2.3/8"],
            },
            "log": {"log_level": "warn", "levels": {"xiaozhi.session": "trace"}, "json": "yes"},
            "conversation": {"speculative": False},
            "device_max_output_size": "1200",
            "manager-api": {"secret": 12345},
            "exit_commands": [110],
        }
    )

    assert (settings.server.port, settings.server.ip, settings.server.timezone_offset) == (9000, "::", -3.5)
    assert settings.server.mqtt_gateway == ""
    assert settings.server.trusted_proxies == ("10.0.0.0/8",)
    assert settings.log.log_level == "WARNING"
    assert settings.log.levels == {"xiaozhi.session": "DEBUG"}
    assert settings.log.json_console
    assert settings.conversation.speculative == "off"
    assert settings.device_max_output_size == 1200
    assert settings.management_secret.get_secret_value() == "12345"
    assert settings.exit_commands == ("110",)


def test_the_masked_defaults_load_again(tmp_path: Path, config_dir: Path) -> None:
    """What --print-config shows is a configuration: nothing is lost or renamed on the way."""
    first = load(environ={}, config_dir=config_dir).settings
    path = tmp_path / "printed.yaml"
    path.write_text(yaml.safe_dump(masked(first), allow_unicode=True), encoding="utf-8")

    again = load(path, environ={}, config_dir=config_dir)

    assert again.warnings == []
    assert masked(again.settings) == masked(first)


# --- the prompt template ----------------------------------------------------------------------------------------------


@pytest.fixture
def render() -> Any:
    text = (CONFIG_DIR / "prompts" / "agent-base-prompt.txt").read_text(encoding="utf-8")
    return SandboxedEnvironment(undefined=StrictUndefined).from_string(text).render


def test_the_template_says_everything_it_is_told(render: Any) -> None:
    told = {
        "base_prompt": "BASE-PROMPT",
        "language": "KLINGON",
        "memory": "LIKES-TEA",
        "speakers": "LI-MING",
        "dynamic_context": "PULSE-70",
        "today_date": "2031-02-03",
        "today_weekday": "MONDAY",
        "lunar_date": "LUNAR-12\n",
        "current_time": "23:59",
        "local_address": "ULM",
        "weather_info": "HAIL",
        "device_id": "AA:BB",
    }

    prompt = render(**told, emoji_list=["🙂", "😆"])

    assert [name for name, value in told.items() if value.strip() not in prompt] == []
    assert "🙂 😆" in prompt
    assert "{" not in prompt.replace('{"speaker": "Li", "content": "hello"}', "")


def test_the_template_leaves_out_what_is_not_known(render: Any) -> None:
    prompt = render(base_prompt="BASE")

    assert prompt.startswith("You are the voice")
    assert "用户说中文，就用中文回答" in prompt
    for absent in ("Voices you know", "What you remember", "Weather:", "Place:", "Date:", "None"):
        assert absent not in prompt


def test_the_template_asks_for_no_emoji_where_none_can_be_drawn(render: Any) -> None:
    assert "no emoji" in render(base_prompt="BASE", emoji_enabled=False, emojiList=["🙂"])
    assert "🙂" not in render(base_prompt="BASE", emoji_enabled=False, emojiList=["🙂"])


def test_what_is_said_may_be_one_text_or_one_per_language() -> None:
    def sorry(value: Any) -> dict[str, str]:
        return load(environ={}, overrides={"system_error_response": value}).settings.system_error_response

    assert sorry("Sorry.") == {"": "Sorry."}
    own = sorry({"de": "Verzeihung.", "pt-BR": "Desculpa."})
    assert own["de"] == "Verzeihung." and own["pt-br"] == "Desculpa."
    assert own["en"] == Settings().system_error_response["en"], "languages that are not named keep their text"
    for wrong in ("", {"de": ""}, {"de": ["no"]}, 5):
        with pytest.raises(SettingsError, match="system_error_response"):
            sorry(wrong)


def test_the_text_for_a_language() -> None:
    texts = {"zh": "抱歉", "en": "Sorry", "pt-br": "Desculpa"}
    assert [text_in(texts, tag) for tag in ("zh", "zh-TW", "EN_us", "pt-BR", "ko", "")] == [
        *("抱歉", "抱歉", "Sorry", "Desculpa", "Sorry", "Sorry")
    ]
    assert text_in({"": "Oops", "en": "Sorry"}, "de") == "Oops"
    assert text_in({"de": "Verzeihung"}, "en") == "Verzeihung"
    assert text_in({}, "en") == ""
