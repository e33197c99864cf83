"""The intents that decide nothing: `nointent` and `function_call`; and the memory that remembers nothing."""

from __future__ import annotations

import pytest

from tests.fakes.inference import InlineInference
from xiaozhi.chat import CallContext, Message, ToolSpec
from xiaozhi.errors import SettingsError
from xiaozhi.providers.contracts.intent import Intention
from xiaozhi.providers.contracts.provider import Services
from xiaozhi.providers.registry import build, validate

TOOLS = [ToolSpec("set_volume", "Set the volume.")]


def made(kind: str, type_name: str, **options: object):  # type: ignore[no-untyped-def]
    return build(kind, type_name, {"type": type_name, **options}, Services(inference=InlineInference()))  # type: ignore[arg-type]


@pytest.mark.parametrize("type_name, offers_tools", [("nointent", False), ("function_call", True)])
def test_nothing_is_classified(type_name: str, offers_tools: bool) -> None:
    intent = made("intent", type_name)
    intent.warm_up()

    assert intent.classify("louder", [Message("user", "hello")], TOOLS, CallContext()) == Intention()
    assert intent.traits.offers_tools is offers_tools
    assert intent.traits.offline is True
    intent.close()
    intent.close()


def test_function_call_takes_the_keys_of_existing_files() -> None:
    options = validate(
        "intent", "function_call", {"type": "function_call", "functions": ["get_weather", "play_music"], "unknown": 1}
    )
    assert options.functions == ["get_weather", "play_music"]  # type: ignore[attr-defined]


def test_functions_are_a_list_of_names() -> None:
    with pytest.raises(SettingsError) as refused:
        validate("intent", "function_call", {"type": "function_call", "functions": 3})
    assert [fault.key for fault in refused.value.faults] == ["Intent.function_call.functions"]


def test_no_memory_recalls_nothing() -> None:
    memory = made("memory", "nomem")
    memory.save("device", [Message("user", "My name is Ann.")], "session")

    assert memory.recall("device", "What is my name?") == ""
    assert memory.traits.remembers is False
    assert memory.traits.offline is True
