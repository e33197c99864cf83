"""Forms made from the schema: every key has a field that fits what is written, and nothing secret is in any of them."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pytest
from pydantic import SecretStr

from xiaozhi.providers import registry
from xiaozhi.settings import SECTIONS, Settings, load
from xiaozhi.settings.checks import spellings
from xiaozhi.settings.forms import FormField, attribute_docs, form_of
from xiaozhi.settings.layers import Layer, merge

KINDS = {"text", "long", "number", "switch", "choice", "list", "yaml", "section"}
MARK = "hush-Abcdefgh1234567890"
TYPES = [(kind, name) for kind in SECTIONS for name in registry.known_types(kind)]


def form(tree: dict[str, Any]) -> dict[str, FormField]:
    fields = form_of(Settings, merge([Layer("local.yaml", tree)]), (), skip=frozenset(SECTIONS.values()))
    return {".".join(leaf.path): leaf for field in fields for leaf in field.leaves}


def test_every_general_key_has_a_field_and_a_description() -> None:
    fields = form_of(Settings, load(environ={}).merged, (), skip=frozenset(SECTIONS.values()))
    leaves = [leaf for field in fields for leaf in field.leaves]

    assert len(leaves) > 120
    assert {leaf.kind for leaf in leaves} <= KINDS
    assert [leaf.path for leaf in leaves if not leaf.description and leaf.path[0] != "plugins"] == []


def test_a_field_shows_what_is_written_and_what_holds_otherwise() -> None:
    fields = form({"server": {"port": 9000}, "log": {"json": True}, "asr_timeout": 3, "wakeup_words": ["hi"]})

    port = fields["server.port"]
    assert (port.kind, port.value, port.default, port.minimum, port.maximum, port.whole) == (
        *("number", 9000, 8000, 0, 65535, True),
    )
    assert port.origin == "local.yaml" and fields["server.http_port"].origin == ""
    assert (fields["asr_timeout"].unit, fields["conversation.max_utterance_ms"].unit) == ("s", "ms")
    assert (fields["log.json"].kind, fields["log.json"].value) == ("switch", True)
    assert fields["server.auth.enabled"].choices == ("home", True, False)
    assert (fields["wakeup_words"].kind, fields["wakeup_words"].value) == ("list", ["hi"])
    assert fields["prompt"].kind == "long" and fields["plugins"].kind == "yaml"
    assert "xiaozhi.type" not in fields, "there is nothing to choose"


@pytest.mark.parametrize(
    ("tree", "key", "value"),
    [
        ({"wakeup_words": "a, b"}, "wakeup_words", "a, b"),  # one text for a list
        ({"server": {"port": "no port"}}, "server.port", "no port"),
        ({"log": {"json": "perhaps"}}, "log.json", "perhaps"),
        ({"system_error_response": "Sorry."}, "system_error_response", "Sorry."),
        ({"conversation": {"pause_ms": "auto"}}, "conversation.pause_ms", "auto"),
    ],
)
def test_what_does_not_fit_its_field_is_shown_as_yaml(tree: dict[str, Any], key: str, value: str) -> None:
    assert (form(tree)[key].kind, form(tree)[key].value) == ("yaml", value)


def test_a_key_stands_as_it_is_spelled_in_the_file() -> None:
    registered = registry.find("tts", "openai")

    def keys(block: dict[str, Any]) -> set[str]:
        merged = merge([Layer("local.yaml", {"TTS": {"Mine": block}})])
        return {field.path[-1] for field in form_of(registered.options, merged, ("TTS", "Mine"))}

    assert {"private_voice", "base_url"} <= keys({"private_voice": "x", "base_url": "http://127.0.0.1/v1"})
    assert {"voice", "api_url"} <= keys({})
    assert "fallback" in keys({"fallback": ["Espeak"]}), "also what others read in the block"


def test_descriptions_below_fields_are_read() -> None:
    docs = attribute_docs(registry.find("tts", "openai").options)

    assert docs["instructions"] == "How to speak, for models that understand it."
    assert docs["proxy"], "of a base class in another file"


@pytest.mark.blocks_hub("imports providers")
@pytest.mark.parametrize(("kind", "type_name"), TYPES)
def test_no_secret_of_any_type_of_provider_is_in_its_form(kind: str, type_name: str) -> None:
    """Every option that is one by its type, or by its name, holds a mark; headers and addresses do too."""
    options = registry.find(kind, type_name).options
    secret = set(registry.secrets_of(registry.find(kind, type_name)))
    block: dict[str, Any] = {
        "type": type_name,
        "headers": {"X-Any": MARK},
        "my_token": MARK,
        "nested": {"password": MARK},
    }
    block["endpoint_of_mine"] = f"https://user:{MARK}@example.com/?api_key={MARK}"
    for name, field in options.model_fields.items():
        for spelling in spellings(name, field):
            if spelling in secret or field.annotation is SecretStr:
                block[spelling] = MARK
    section = SECTIONS[kind]
    fields = form_of(options, merge([Layer("local.yaml", {section: {"Mine": block}})]), (section, "Mine"))

    shown = json.dumps([asdict(field) for field in fields], default=str)

    assert MARK not in shown
    hidden = {leaf.path[2] for field in fields for leaf in field.leaves if leaf.secret}
    assert {"my_token", "nested", "headers", "endpoint_of_mine"} <= hidden
    assert all(leaf.is_set for field in fields for leaf in field.leaves if leaf.path[2] in hidden & block.keys())


def test_no_general_secret_is_in_the_form() -> None:
    tree: dict[str, Any] = {
        "server": {"auth_key": MARK, "secret": MARK, "admin_token": MARK, "auth": {"device_keys": {"1": MARK}}},
        "manager-api": {"secret": MARK},
        "storage": {"url": f"postgresql://me:{MARK}@127.0.0.1/x"},
        "mcp_endpoint": f"wss://example.com/?token={MARK}",
        "voiceprint": {"url": f"http://127.0.0.1/?key={MARK}"},
        "plugins": {"get_weather": {"api_key": MARK}},
        "mcp": {"servers": {"a": {"command": "x", "env": {"KEY": MARK}}}},
        "context_providers": [{"url": "http://127.0.0.1/", "headers": {"Authorization": MARK}}],
    }

    fields = form(tree)

    assert MARK not in json.dumps([asdict(field) for field in fields.values()], default=str)
    assert fields["server.admin_token"].secret and fields["server.admin_token"].is_set
    assert not form({})["server.admin_token"].is_set
