"""Things of older firmware as tools."""

from __future__ import annotations

import weakref
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.clock import FakeClock
from tests.tools.fakes import call, context
from xiaozhi.errors import ConnectionClosed
from xiaozhi.tools.base import Action
from xiaozhi.tools.device_iot import (
    APPLIED_AT_ONCE,
    APPLIED_PER_SECOND,
    MAX_DESCRIBED_BYTES,
    MAX_MEMBERS,
    MAX_REPORTED_CHARS,
    MAX_THINGS,
    MAX_TOOLS,
    DeviceIot,
)
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
    assert setter.parameters["properties"]["volume"] == {"type": "number", "description": "0 to 100"}
    assert list(setter.parameters["properties"]) == ["response_success", "response_failure", "volume"]
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


def test_what_the_model_wants_to_be_said_is_spoken() -> None:
    iot, sent, box = made()
    iot.on_descriptors([SPEAKER])
    words = {"response_success": "It is at {value}.", "response_failure": "I do not know."}

    unknown = box.call(call("get_speaker_volume", **words), context())
    iot.on_states([{"name": "Speaker", "state": {"volume": 70}}])
    known = box.call(call("get_speaker_volume", **words), context())
    done = box.call(call("set_speaker_volume", volume=30, response_success="Now {volume}, {value}."), context())

    assert [(one.action, one.text) for one in (unknown, known, done)] == [
        (Action.SPEAK, "I do not know."),
        (Action.SPEAK, "It is at 70."),
        (Action.SPEAK, "Now 30, 30."),
    ]
    assert sent == [[{"name": "Speaker", "method": "SetVolume", "parameters": {"volume": 30}}]]


def test_methods_answer_to_their_names_in_the_existing_server() -> None:
    iot, sent, box = made()
    iot.on_descriptors([SPEAKER, LAMP])

    box.call(call("speaker_setvolume", volume=30, response_success="好的"), context())
    box.call(call("lamp_turnon"), context())

    assert [order["method"] for [order] in sent] == ["SetVolume", "TurnOn"]
    assert not {"speaker_setvolume", "lamp_turnon"} & {spec.name for spec in box.specs()}


def test_a_parameter_of_the_device_is_not_taken_for_words() -> None:
    iot, sent, box = made()
    say = {"description": "say", "parameters": {"response_success": {"type": "string"}}}
    iot.on_descriptors([{"name": "Robot", "methods": {"Say": say}}])

    assert box.call(call("robot_say", response_success="hi"), context()).action is Action.ASK_LLM
    assert sent == [[{"name": "Robot", "method": "Say", "parameters": {"response_success": "hi"}}]]


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


def test_things_members_and_tools_are_bounded() -> None:
    small, large = DeviceIot(lambda commands: None), DeviceIot(lambda commands: None)
    small.on_descriptors([{"name": f"t{number}", "methods": {"m": {}}} for number in range(MAX_THINGS * 3)])
    large.on_descriptors(
        [
            {"name": f"t{number}", "methods": {f"m{index}": {} for index in range(MAX_MEMBERS * 2)}}
            for number in range(9)
        ]
    )

    assert len(small.tools()) == MAX_THINGS
    assert len(large.tools()) == MAX_TOOLS
    assert large.ignored == 9 - MAX_TOOLS // MAX_MEMBERS


def test_all_descriptions_together_are_bounded_however_often_they_change() -> None:
    iot = DeviceIot(lambda commands: None)
    for round_ in range(5):
        text = str(round_) * 900
        iot.on_descriptors(
            [
                {"name": f"t{number}", "methods": {f"m{index}": {"description": text} for index in range(4)}}
                for number in range(MAX_THINGS)
            ]
        )

        shown = sum(len(tool.spec.description) for tool in iot.tools())
        assert 0.5 * MAX_DESCRIBED_BYTES < shown <= MAX_DESCRIBED_BYTES
        assert shown < iot.held_bytes < 10 * MAX_DESCRIBED_BYTES


def test_values_are_bounded_in_all_and_a_thing_that_is_replaced_gives_its_room_back() -> None:
    iot = DeviceIot(lambda commands: None)
    properties = {f"p{index}": {} for index in range(MAX_MEMBERS)}
    things = [{"name": f"t{number}", "properties": properties} for number in range(4)]
    iot.on_descriptors(things)
    empty = iot.held_bytes
    report = [{"name": f"t{number}", "state": dict.fromkeys(properties, "x" * 999)} for number in range(4)]
    for _ in range(3):
        iot.on_states(report)

    assert 0 < iot.held_bytes - empty <= 4 * MAX_REPORTED_CHARS
    iot.on_descriptors([{"name": f"t{number}", "properties": {"q": {}}} for number in range(4)])
    assert iot.held_bytes < empty
    iot.on_states([{"name": "t3", "state": {"q": "y"}}])
    assert Toolbox(iot).call(call("get_t3_q"), context()).text == "t3 q: y"


def test_things_described_all_the_time_become_tools_once_a_second_and_the_last_description_counts() -> None:
    clock = FakeClock()
    iot = DeviceIot(lambda commands: None, clock=clock)
    box = Toolbox(iot)
    offers = set()
    for number in range(200):
        iot.on_descriptors([{"name": "Lamp", "properties": {"p": {}}, "methods": {f"m{number}": {}}}])
        iot.on_states([{"name": "Lamp", "state": {"p": number}}])
        offers.add(box.specs()[1].name)
        clock.advance(0.02)

    assert len(offers) <= APPLIED_AT_ONCE + 4 * APPLIED_PER_SECOND
    clock.advance(1.0)
    assert box.specs()[1].name == "lamp_m199"
    assert box.call(call("get_lamp_p"), context()).text == "Lamp p: 199"


def test_a_state_that_comes_before_its_thing_is_a_tool_is_kept() -> None:
    clock = FakeClock()
    iot = DeviceIot(lambda commands: None, clock=clock)
    for number in range(APPLIED_AT_ONCE):
        iot.on_descriptors([{"name": f"t{number}", "methods": {"m": {}}}])
    iot.on_descriptors([SPEAKER])
    iot.on_states([{"name": "Speaker", "state": {"volume": 7, "nonsense": 1}}])
    assert "get_speaker_volume" not in [tool.spec.name for tool in iot.tools()]

    clock.advance(1.0)

    assert Toolbox(iot).call(call("get_speaker_volume"), context()).text == "Speaker volume: 7"


def test_what_was_not_described_anew_keeps_its_tools() -> None:
    iot, _, _ = made()
    iot.on_descriptors([SPEAKER, LAMP])
    before = iot.tools()

    iot.on_descriptors([SPEAKER, LAMP | {"methods": {}}])

    assert [tool in before for tool in iot.tools()] == [True, True, True, False]


def test_nothing_of_it_is_left_for_the_garbage_collector() -> None:
    iot, _, box = made()
    iot.on_descriptors([SPEAKER, LAMP])
    iot.on_states([{"name": "Speaker", "state": {"volume": 7}}])
    box.specs()
    tool = weakref.ref(iot.tools()[0])

    del iot, box

    assert tool() is None


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
