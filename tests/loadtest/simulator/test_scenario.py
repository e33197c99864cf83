"""Scenarios: who plays which role, when a run is over, and the way through options and back."""

from __future__ import annotations

import argparse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.simulator.scenario import ROLES, WORDS, Scenario, add_arguments


@given(st.integers(1, 300), st.dictionaries(st.sampled_from(ROLES), st.integers(1, 100), min_size=1))
def test_every_device_has_a_role(devices: int, weights: dict[str, int]) -> None:
    count = Scenario(
        devices=devices, roles=",".join(f"{name}={weight}" for name, weight in weights.items())
    ).head_count()

    assert sum(count.values()) == devices
    assert set(count) <= set(weights)
    if devices >= 2 * len(weights):
        assert set(count) == set(weights)


def test_the_mix_follows_the_weights():
    assert Scenario(devices=100, roles="talker=90,holder=10").head_count() == {"talker": 90, "holder": 10}


def test_only_those_who_take_turns_count_as_talking():
    assert Scenario(devices=10, roles="talker=5,holder=3,garbage=2").talking == 5


@pytest.mark.parametrize(
    "wrong",
    [
        {"devices": 0},
        {"turns": 0},
        {"roles": "singer"},
        {"roles": "talker=x"},
        {"roles": "talker=0"},
        {"sources": 0},
        {"transport": "pigeon"},
        {"transport": "mqtt", "roles": "gateway"},
    ],
)
def test_nonsense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        Scenario.from_options({"devices": 5, **wrong})


def test_a_run_of_a_fixed_time_is_measured_after_the_ramp():
    scenario = Scenario(devices=10, turns=0, seconds=30, ramp=4)

    assert scenario.window_s == (4, 34)
    assert scenario.longest_s > 34


@pytest.mark.parametrize(
    ("options", "begins"),
    [([], [0, 0]), (["--chorus"], [7, 7]), (["--spread", "0"], [7, 7]), (["--spread", "6"], [7, 10])],
)
def test_devices_may_begin_to_speak_together(options: list[str], begins: list[float]) -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    scenario = Scenario.from_options(vars(parser.parse_args(options)), devices=10, ramp=4.0)

    assert [scenario.begins_speaking(number) for number in (0, 5)] == begins
    assert scenario.longest_s > 2 * 30


def test_a_chorus_of_a_fixed_time_is_measured_from_when_it_begins():
    assert Scenario(devices=10, turns=0, seconds=30, ramp=4, spread=0).window_s == (7, 37)


def test_a_run_of_turns_is_measured_from_the_start():
    assert Scenario().window_s is None


def test_options_lead_to_the_same_scenario_even_as_text():
    scenario = Scenario(devices=7, turns=3, words=("one two", "three"), mcp=True, seconds=1.5, expect="x")
    as_text = {name: str(value) for name, value in scenario.options().items()}

    assert Scenario.from_options(scenario.options()) == scenario
    assert Scenario.from_options(as_text) == scenario


def test_empty_options_of_a_web_page_are_the_defaults():
    assert Scenario.from_options({"turns": "", "words": "", "pause": None}) == Scenario()
    assert Scenario.from_options({"words": " | "}).words == WORDS


def test_the_command_line_gives_only_what_was_given():
    parser = argparse.ArgumentParser()
    add_arguments(parser)

    given_options = {
        name: value for name, value in vars(parser.parse_args(["--turns", "4", "--mcp"])).items() if value is not None
    }

    assert given_options == {"turns": 4, "mcp": True}


def test_a_device_has_the_same_chance_in_every_run_and_another_one_than_its_neighbour():
    scenario = Scenario()

    assert scenario.rng(3).random() == scenario.rng(3).random() != scenario.rng(4).random()


def test_every_device_or_every_other_one_comes_by_mqtt() -> None:
    by_mqtt = {
        transport: [Scenario(transport=transport).by_mqtt(number) for number in range(4)]
        for transport in ("websocket", "mqtt", "both")
    }
    assert by_mqtt == {"websocket": [False] * 4, "mqtt": [True] * 4, "both": [False, True] * 2}


def test_where_to_ask_is_what_the_options_say_or_what_the_server_is() -> None:
    assert Scenario().at("http://found/").ota == "http://found/"
    assert Scenario(ota="http://told/").at("http://found/").ota == "http://told/"
    assert Scenario().at("").ota == ""
