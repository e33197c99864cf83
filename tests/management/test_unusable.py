"""What is taken out of the console's settings for a fault, and what is left alone."""

from __future__ import annotations

from typing import Any

import pytest

from xiaozhi.errors import Fault
from xiaozhi.management.unusable import without, without_modules

TREE: dict[str, Any] = {
    "TTS": {"A": {"type": "x", "voice": 1}, "B": {"type": "y"}},
    "LLM": {"L": {"type": "openai"}},
    "Intent": {"I": {"type": "intent_llm", "llm": "L"}},
    "selected_module": {"TTS": "A", "LLM": "L"},
    "plugins": {"get_weather": {"api_key": "k"}, "play_music": {}},
    "server": {"auth": {"enabled": "perhaps"}},
    "prompt": "Hi.",
}


def left(key: str) -> Any:
    tree, found = without(TREE, [Fault(key, "x", "y")])
    assert len(found) == 1
    return tree


@pytest.mark.parametrize(
    ("key", "place", "remains"),
    [
        ("TTS.A.voice", "TTS", {"B": {"type": "y"}}),
        ("TTS.A.type", "selected_module", {"LLM": "L"}),
        ("TTS.B.type", "selected_module", {"TTS": "A", "LLM": "L"}),
        ("Intent.I.llm", "Intent", {"I": {"type": "intent_llm"}}),
        ("selected_module.TTS", "selected_module", {"LLM": "L"}),
        ("plugins.get_weather.api_key", "plugins", {"play_music": {}}),
        ("server.auth.enabled", "server", {"auth": {}}),
        ("prompt", "prompt", None),
    ],
)
def test_what_a_fault_speaks_of_goes_and_nothing_else(key: str, place: str, remains: Any) -> None:
    tree = left(key)

    assert tree.get(place) == remains
    untouched = set(TREE) - {place, "TTS", "selected_module"}
    assert all(tree[each] == TREE[each] for each in untouched)


@pytest.mark.parametrize("key", ["asr_timeout", "TTS.C.type", "server.port", "plugins.get_lunar", "providers", ""])
def test_a_fault_of_something_else_changes_nothing(key: str) -> None:
    assert without(TREE, [Fault(key, "x", "y")]) == (TREE, [])


def test_the_tree_itself_stays_as_it_is() -> None:
    before = repr(TREE)

    without(TREE, [Fault("TTS.A.voice", "x", "y"), Fault("plugins.get_weather", "x", "y")])

    assert repr(TREE) == before


def test_all_providers_may_be_left_to_the_server() -> None:
    assert set(without_modules(TREE)) == {"plugins", "server", "prompt"}
