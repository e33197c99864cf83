"""Finding, validating and building providers by the `type` of their block."""

from typing import Any

import pytest
from pydantic import Field, SecretStr

from tests.fakes.inference import InlineInference
from tests.fakes.thinking import FakeMemory
from xiaozhi.errors import SettingsError
from xiaozhi.providers import registry
from xiaozhi.providers.contracts.provider import ProviderOptions, Services

SERVICES = Services(inference=InlineInference())  # type: ignore[arg-type]


class Options(ProviderOptions):
    api_key: SecretStr
    speed: float = Field(1.0, ge=0.5, le=2.0)


@registry.provider("memory", "elsewhere", Options)
class Elsewhere(FakeMemory):
    def __init__(self, options: Options) -> None:
        super().__init__()
        self.options = options


def faults(block: dict[str, Any]) -> list[str]:
    with pytest.raises(SettingsError) as refused:
        registry.validate("memory", "Mine", block)
    return [str(fault) for fault in refused.value.faults]


def test_a_provider_from_outside_this_tree() -> None:
    built = registry.build("memory", "Mine", {"type": f"{__name__}:Elsewhere", "api_key": "k", "speed": 2}, SERVICES)
    assert isinstance(built, Elsewhere)
    assert (built.name, built.options.speed, built.options.api_key.get_secret_value()) == ("Mine", 2.0, "k")


def test_numbers_are_taken_for_text_where_text_is_wanted() -> None:
    built = registry.build("memory", "Mine", {"type": "elsewhere", "api_key": "k", "note": 5}, SERVICES)
    assert built.options.model_extra == {"note": 5}


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ({}, "Memory.Mine.type: missing"),
        ({"type": "nomen"}, "nomem"),
        ({"type": "no.such:Thing"}, "importable"),
        ({"type": f"{__name__}:Missing"}, "importable"),
        ({"type": "tests.fakes.thinking:FakeMemory"}, "decorated"),
    ],
)
def test_a_wrong_type_says_what_would_be_right(block: dict[str, Any], said: str) -> None:
    (fault,) = faults(block)
    assert said in fault


def test_all_faults_of_a_block_at_once_and_no_secret_among_them() -> None:
    found = faults({"type": "elsewhere", "api_key": {"nested": "hunter2"}, "speed": 9})
    assert len(found) == 2
    assert any(fault.startswith("Memory.Mine.speed: 9") for fault in found)
    assert not any("hunter2" in fault for fault in found)


def test_a_missing_key_is_called_as_files_call_it() -> None:
    for block in ({"type": "huoshan_double_stream"}, {"type": "huoshan_double_stream", "private_voice": ""}):
        with pytest.raises(SettingsError) as refused:
            registry.validate("tts", "Mine", block)
        assert [str(fault) for fault in refused.value.faults] == ["TTS.Mine.speaker: missing - must be set"]


def test_every_kind_knows_its_types() -> None:
    for kind in ("vad", "asr", "llm", "tts", "memory", "intent"):
        assert registry.known_types(kind), kind
