"""Things of older firmware as tools."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tools.fakes import call, context
from xiaozhi.errors import ConnectionClosed
from xiaozhi.tools.base import Action
from xiaozhi.tools.device_iot import MAX_MEMBERS, MAX_THINGS, DeviceIot
from xiaozhi.tools.toolbox import Toolbox

SPEAKER = {
    "name": "Speaker",
    "description": "the loudspeaker",
    "properties": {"volume": {"description": "current volume", "type": "number"}},
    "methods": {
        "SetVolume": {
            "description": "set the volume",
            "parameters": {"volume": {"description": "0 to 100", "type": "number"}},
        },
        "Mute": {"description": "be quiet"},
    },
}
LAMP = {
    "name": "Lamp",
    "description": "a lamp",
    "properties": {"power": {"description": "whether it is on", "type": "boolean"}},
    "methods": {
        "TurnOn": {"description": "switch on", "parameters": {}},
        "TurnOff": {"description": "switch off", "parameters": {}},
    },
}


def made() -> tuple[DeviceIot, list[list[dict[str, Any]]], Toolbox]:
    sent: list[list[dict[str, Any]]] = []
    iot = DeviceIot(sent.append)
    return iot, sent, Toolbox(iot)


def test_properties_and_methods_become_tools() -> None:
    iot, _, box = made()

    iot.on_descriptors([SPEAKER, LAMP])

    assert [spec.name for spec in box.specs()] == [
        "get_speaker_volume",
        "set_speaker_volume",
        "speaker_mute",
        "get_lamp_power",
        "lamp_turn_on",
        "lamp_turn_off",
    ]
    setter = box.specs()[1]
    assert setter.parameters["properties"] == {"volume": {"type": "number", "description": "0 to 100"}}
    assert setter.parameters["required"] == ["volume"]
    assert "the loudspeaker" in setter.description


def test_commands_go_out_as_the_firmware_wants_them() -> None:
    iot, sent, box = made()
    iot.on_descriptors([SPEAKER, LAMP])

    outcome = box.call(call("set_speaker_volume", volume="40", chatter="x"), context())
    box.call(call("lamp_turn_on"), context())

    assert outcome.action is Action.ASK_LLM
    assert "volume=40" in outcome.text
    assert sent == [
        [{"name": "Speaker", "method": "SetVolume", "parameters": {"volume": 40}}],
        [{"name": "Lamp", "method": "TurnOn"}],
    ]


def test_a_missing_parameter_is_named_and_nothing_is_sent() -> None:
    iot, sent, box = made()
    iot.on_descriptors(SPEAKER)

    outcome = box.call(call("set_speaker_volume"), context())

    assert outcome.action is Action.ERROR
    assert "volume" in outcome.text
    assert sent == []


def test_states_are_what_the_getters_answer() -> None:
    iot, _, box = made()
    iot.on_descriptors([SPEAKER, LAMP])
    assert box.call(call("get_speaker_volume"), context()).action is Action.ERROR

    iot.on_states([{"name": "Speaker", "state": {"volume": 70}}, {"name": "Lamp", "state": {"power": True}}])

    assert box.call(call("get_speaker_volume"), context()).text == "Speaker volume: 70"
    assert box.call(call("get_lamp_power"), context()).text == "Lamp power: true"
    iot.on_states([{"name": "Speaker", "state": {"volume": 0}}])
    assert box.call(call("get_speaker_volume"), context()).text == "Speaker volume: 0"


def test_a_thing_described_again_is_replaced_and_keeps_its_state() -> None:
    iot, _, box = made()
    iot.on_descriptors([SPEAKER])
    iot.on_states([{"name": "Speaker", "state": {"volume": 70}}])

    iot.on_descriptors([{**SPEAKER, "methods": {}}])

    assert [tool.spec.name for tool in iot.tools()] == ["get_speaker_volume"]
    assert box.call(call("get_speaker_volume"), context()).text == "Speaker volume: 70"


def test_things_may_have_only_properties_or_only_methods() -> None:
    iot, _, _ = made()

    iot.on_descriptors([{"name": "A", "properties": {"p": {}}}, {"name": "B", "methods": {"m": {}}}, {"name": "C"}])

    assert [tool.spec.name for tool in iot.tools()] == ["get_a_p", "b_m"]
    assert iot.ignored == 1


def test_chinese_names_get_distinct_safe_tools() -> None:
    iot, sent, box = made()

    iot.on_descriptors([{"name": "灯", "methods": {"打开": {}, "关闭": {}}}])
    for spec in box.specs():
        box.call(call(spec.name), context())

    assert sent == [[{"name": "灯", "method": "打开"}], [{"name": "灯", "method": "关闭"}]]


def test_a_lost_connection_is_an_error_outcome() -> None:
    def lost(commands: Any) -> None:
        raise ConnectionClosed(1006)

    iot = DeviceIot(lost)
    iot.on_descriptors(LAMP)

    assert Toolbox(iot).call(call("lamp_turn_on"), context()).action is Action.ERROR


def test_a_thing_that_takes_too_many_words_is_none() -> None:
    iot, _, box = made()

    iot.on_descriptors([SPEAKER | {"properties": {f"p{number}": {"description": "x" * 500} for number in range(20)}}])

    assert box.specs() == []
    assert iot.ignored == 1


def test_a_thing_nested_without_end_is_none() -> None:
    iot, _, _ = made()
    deep: Any = {}
    for _ in range(1000):
        deep = {"a": deep}

    iot.on_descriptors([SPEAKER | {"properties": {"p": deep}}])

    assert iot.tools() == ()
    assert iot.ignored == 1


def test_things_and_members_are_bounded() -> None:
    iot, _, _ = made()
    for number in range(MAX_THINGS * 3):
        iot.on_descriptors([{"name": f"t{number}", "methods": {f"m{index}": {} for index in range(MAX_MEMBERS * 2)}}])

    assert len(iot.tools()) == MAX_THINGS * MAX_MEMBERS


@pytest.mark.parametrize(
    "states",
    [
        None,
        5,
        [None],
        [{}],
        [{"name": "Speaker"}],
        [{"name": "Speaker", "state": {"volume": [1]}}],
        [{"name": "X", "state": {}}],
    ],
)
def test_states_that_mean_nothing_are_counted(states: Any) -> None:
    iot, _, box = made()
    iot.on_descriptors([SPEAKER])

    iot.on_states(states)

    assert box.call(call("get_speaker_volume"), context()).action is Action.ERROR
    assert iot.ignored == (1 if isinstance(states, list) else 0)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["name", "description", "properties", "methods", "parameters", "state", "type", "a"]),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


@given(json_values, json_values)
def test_garbage_never_raises_and_what_it_offers_can_be_called(descriptors: Any, states: Any) -> None:
    iot, _, box = made()

    iot.on_descriptors(descriptors)
    iot.on_states(states)

    for spec in box.specs():
        box.call(call(spec.name), context())
