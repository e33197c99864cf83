"""The system prompt: filled with what is known, faults of a template told at start, a memory that is slow left out."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from gevent.event import Event
from structlog.testing import capture_logs

from tests.fakes.thinking import FakeMemory
from tests.waiting import wait_for
from xiaozhi.errors import SettingsError, VendorUnavailable
from xiaozhi.providers.contracts.memory import MemoryTraits
from xiaozhi.session.link import Identity
from xiaozhi.session.turns.context import LiveContext
from xiaozhi.session.turns.prompt import Prompter
from xiaozhi.settings.loading import CONFIG_DIR

DEVICE = Identity(device_id="d", peer_ip="203.0.113.7")
CHINA = datetime.timezone(datetime.timedelta(hours=8))
MOMENT = datetime.datetime(2026, 3, 1, 22, 30, tzinfo=datetime.UTC).timestamp()
EVERYTHING = """
    {{ base_prompt }} | {{ current_time }} {{ today_date }} {{ today_weekday }} | {{ lunar_date }} |
    {{ local_address }} {{ weather_info }} | {{ device_id }} {{ client_ip }} | {{ emoji_enabled }} |
    {{ emoji_list[0] == emojiList[0] }} |
    {{ language }} | {{ memory }} | {{ speakers }}
    {{ dynamic_context }}
"""

MakePrompter = Callable[..., Prompter]


@pytest.fixture
def prompter(tmp_path: Path) -> MakePrompter:
    def make(template: str, **options: Any) -> Prompter:
        (tmp_path / "prompt.txt").write_text(template, encoding="utf-8")
        defaults: Mapping[str, Any] = {
            "base_prompt": "You are kind.",
            "zone": datetime.timezone(datetime.timedelta(hours=8)),
            "now": lambda: MOMENT,
        }
        return Prompter(template_dir=tmp_path, template_name="prompt.txt", **{**defaults, **options})

    return make


def shown(text: str) -> list[str]:
    """The fields of EVERYTHING."""
    return [" ".join(field.split()) for field in text.split("|")]


def test_what_is_known_is_filled_in(prompter: MakePrompter) -> None:
    context = LiveContext(
        [lambda identity: ["stock: 12", "door: open"]], surroundings=lambda ip: ("Berlin", f"rain at {ip}")
    )
    made = prompter(
        EVERYTHING,
        context=context,
        language="en",
        lunar=lambda day: f"lunar {day:%m-%d}",
    )
    made.prefetch(DEVICE)
    wait_for(lambda: context.data(DEVICE).lines)

    assert shown(made.system_prompt(DEVICE, "", "likes tea")) == [
        "You are kind.",
        "06:30 2026-03-02 星期一 Monday",
        "lunar 03-02",
        "Berlin rain at 203.0.113.7",
        "d 203.0.113.7",
        "True",
        "True",
        "en",
        "likes tea",
        "- stock: 12 - door: open",
    ]


def test_a_role_replaces_the_base_prompt(prompter: MakePrompter) -> None:
    made = prompter("{{ base_prompt }}{% if emoji_enabled %} :){% endif %}")

    assert made.system_prompt(DEVICE, "You are a pirate.", "") == "You are a pirate. :)"
    assert made.system_prompt(DEVICE, "", "", emoji=False) == "You are kind."


def test_two_prompts_can_be_compared_without_the_time_and_the_device(prompter: MakePrompter) -> None:
    made = prompter(EVERYTHING)

    one = made.system_prompt(DEVICE, "", "", timeless=True)

    assert one == made.system_prompt(Identity(device_id="other", peer_ip="198.51.100.1"), "", "", timeless=True)
    assert "06:30" not in one and "2026-03-02" in one


def test_the_template_that_ships_knows_everything_it_asks_for() -> None:
    made = Prompter(
        base_prompt="You are kind.",
        template_dir=CONFIG_DIR / "prompts",
        template_name="agent-base-prompt.txt",
        zone=datetime.UTC,
    )

    assert "You are kind." in made.system_prompt(DEVICE, "", "")


@pytest.mark.parametrize("template", ["{{ base_prompt", "{{ weather_of_tomorrow }}", "{% include 'other.txt' %}"])
def test_a_faulty_template_is_refused_at_start(prompter: MakePrompter, template: str) -> None:
    with pytest.raises(SettingsError) as refused:
        prompter(template)

    [fault] = refused.value.faults
    assert fault.key == "prompt_template" and fault.value == "'prompt.txt'"


def test_a_template_runs_in_a_sandbox(prompter: MakePrompter) -> None:
    with pytest.raises(SettingsError):
        prompter("{{ ''.__class__.__mro__[1].__subclasses__() }}")


# --- memory -----------------------------------------------------------------------------------------------------------


class SlowMemory(FakeMemory):
    def recall(self, device_id: str, query: str) -> str:
        Event().wait()
        return "never"


class BrokenMemory(FakeMemory):
    def recall(self, device_id: str, query: str) -> str:
        raise VendorUnavailable("memory")


def test_what_is_remembered_is_recalled(prompter: MakePrompter) -> None:
    assert prompter("x").recall(FakeMemory("likes tea"), "d", "what do I like") == "likes tea"


def test_a_memory_that_remembers_nothing_is_not_asked(prompter: MakePrompter) -> None:
    memory = BrokenMemory()
    memory.traits = MemoryTraits(remembers=False)

    assert prompter("x").recall(memory, "d", "what do I like") == ""


@pytest.mark.parametrize("memory", [SlowMemory(), BrokenMemory()])
def test_a_memory_that_is_slow_or_broken_is_left_out(prompter: MakePrompter, memory: FakeMemory) -> None:
    with capture_logs() as logged:
        assert prompter("x", recall_deadline=0.01).recall(memory, "d", "what do I like") == ""

    assert [entry["event"] for entry in logged] == ["memory not recalled"]
