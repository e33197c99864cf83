"""Finding, checking and building the server's own tools."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

import pytest
from gevent.pywsgi import WSGIServer

from tests.tools.fakes import call, context
from xiaozhi.errors import SettingsError
from xiaozhi.net.http import VendorHttp
from xiaozhi.settings import load
from xiaozhi.tools.base import Action, ToolServices
from xiaozhi.tools.registry import ALWAYS, Catalog, Selection, catalog, select
from xiaozhi.tools.toolbox import Toolbox

SAMPLES = ("roll_dice", "house_state", "house_music", "say_it")
KEY = "house-key-123"
HOUSE = {"base_url": "http://house", "rooms": ["hall", "attic"]}


def samples(*names: str) -> Catalog:
    return Catalog(importlib.import_module(f"tests.tools.samples.{name}") for name in names or SAMPLES)


def choose(*names: str, **blocks: Any) -> Selection:
    return select(names, blocks, where="Intent.test.functions", known=samples())


def names(selection: Selection) -> list[str]:
    return [tool.spec.name for tool in selection.build(ToolServices()).source.tools()]


def box(selection: Selection, services: ToolServices | None = None) -> Toolbox:
    return Toolbox(selection.build(services or ToolServices()).source)


def written(text: str) -> ModuleType:
    """A module with this text behind the usual imports."""
    module = ModuleType("written")
    head = "from xiaozhi.tools.base import ToolOptions\nfrom xiaozhi.tools.registry import tool\n"
    exec(head + text, module.__dict__)
    return module


# --- which tools ---


def test_the_tools_of_this_tree_are_found_by_looking() -> None:
    assert {"get_time", "get_lunar", "handle_exit_intent", "change_role", "play_music", "direct_answer"} <= set(
        catalog().tools
    )
    assert catalog() is catalog()


def test_tools_are_named_one_by_one_or_by_their_file() -> None:
    assert names(choose("house_set_state", "roll_dice")) == ["house_set_state", "roll_dice"]
    assert names(choose("house_state", "house_get_state")) == ["house_get_state", "house_set_state"]
    assert names(choose()) == []


def test_some_tools_are_always_there() -> None:
    assert [tool.found.name for tool in select([], {}).chosen] == list(ALWAYS)


def test_names_nobody_knows_are_told_with_the_nearest() -> None:
    selection = choose("roll_dices", "roll_dice", "zzz")

    assert selection.warnings == (
        "Intent.test.functions: there is no tool roll_dices, it is left out; the nearest is roll_dice",
        "Intent.test.functions: there is no tool zzz, it is left out",
    )
    assert names(selection) == ["roll_dice"]


def test_the_shipped_configuration_is_without_fault_and_names_only_what_is_there() -> None:
    settings = load(environ={}).settings
    functions = settings.block("intent", "function_call")["functions"]

    selection = select(functions, settings.plugins, untouched=list(settings.plugins))

    assert selection.faults == ()
    assert [warning for warning in selection.warnings if "no directory" not in warning] == []
    assert {"change_role", "play_music"} <= {tool.found.name for tool in selection.chosen}


# --- options ---


def test_options_are_typed_and_reach_the_tool() -> None:
    assert (
        box(choose("roll_dice", roll_dice={"sides": "2"})).call(call("roll_dice", count=9), context()).text.strip("12 ")
        == ""
    )
    [chosen] = choose("roll_dice", roll_dice={"sides": None}).chosen
    assert chosen.options.model_dump() == {"description": "", "sides": 6}


@pytest.mark.parametrize(
    "blocks,fault",
    [
        ({"roll_dice": {"sides": 1}}, "plugins.roll_dice.sides: 1 - must be greater than or equal to 2"),
        ({"roll_dice": {"sides": True}}, "plugins.roll_dice.sides: True - must be a number, not a switch"),
        ({"roll_dice": 5}, "plugins.roll_dice: 5 - must be a mapping of options"),
        ({"house": {"rooms": {"a": 1}}}, "plugins.house.rooms: a mapping - must be a list, such as [a, b]"),
        ({"house_state": {"rooms": 5}}, "plugins.house_state.rooms: 5 - must be a list, such as [a, b]"),
        ({"house": {"api_key": [KEY]}}, "plugins.house.api_key: *** - must be text"),
    ],
)
def test_wrong_options_are_faults_with_their_key(blocks: Mapping[str, Any], fault: str) -> None:
    selection = choose("roll_dice", "house_state", **blocks)

    assert [str(found) for found in selection.faults] == [fault]
    with pytest.raises(SettingsError):
        selection.build(ToolServices())


def test_all_faults_are_told_at_once() -> None:
    faults = choose("roll_dice", "house_state", roll_dice={"sides": "many"}, house={"rooms": 1, "base_url": []}).faults

    assert [fault.key for fault in faults] == [
        "plugins.roll_dice.sides",
        "plugins.house.base_url",
        "plugins.house.rooms",
    ]


def test_options_of_tools_that_are_not_listed_are_no_faults_but_their_unknown_keys_are_told() -> None:
    selection = choose("say_it", roll_dice={"sides": "many", "side": 6})

    assert selection.faults == ()
    assert selection.warnings == (
        "plugins.roll_dice.side means nothing here and is ignored; the nearest key is plugins.roll_dice.sides",
        "plugins.roll_dice has no effect: its tools are not on offer; name them in Intent.test.functions",
    )


def test_blocks_without_effect_are_told() -> None:
    selection = choose("say_it", roll_dise={}, zzz=5, house=HOUSE, house_state=HOUSE, say_it={"loud": True}, other=None)

    assert selection.warnings == (
        "plugins.roll_dise means nothing here and is ignored; the nearest key is plugins.roll_dice",
        "plugins.zzz means nothing here and is ignored",
        "plugins.say_it.loud means nothing here and is ignored",
        "plugins.other means nothing here and is ignored",
        "plugins.house_state is ignored: plugins.house says the same",
        "plugins.house has no effect: its tools are not on offer; name them in Intent.test.functions",
    )
    untouched = select(["say_it"], {"house": HOUSE}, known=samples(), untouched=["house"])
    assert untouched.warnings == ()


def test_what_is_missing_is_told_once_with_the_tools_that_need_it_and_they_stay_on_offer() -> None:
    selection = choose("house_state", "house_music")

    assert selection.warnings == (
        "house_get_state, house_set_state, house_play_music cannot work: plugins.house.base_url: no address is given",
    )
    assert len(names(selection)) == 3
    assert choose("roll_dice").warnings == ()


def test_a_block_is_shared_by_tools_of_several_files() -> None:
    for block in ("house", "house_state"):
        toolbox = box(choose("house_music", "house_state", **{block: HOUSE}))

        assert toolbox.call(call("house_play_music"), context()).text == "http://house"
        assert "hall, attic" in str([spec.parameters for spec in toolbox.specs()])


# --- what the model sees ---


@pytest.mark.parametrize(
    "blocks,described",
    [
        ({}, {"house_get_state": "Tells the state", "house_set_state": "Switches", "house_play_music": "Plays"}),
        (
            {"house_get_state": {"description": "Look."}},
            {"house_get_state": "Look.", "house_set_state": "Switches", "house_play_music": "Plays"},
        ),
        (
            {"house": {"description": "All."}, "house_play_music": {"description": "Sing."}},
            {"house_get_state": "All.", "house_set_state": "All.", "house_play_music": "Sing."},
        ),
        (
            {"house_play_music": {"description": None}, "house_get_state": {}, "house_set_state": 5},
            {"house_get_state": "Tells the state", "house_set_state": "Switches", "house_play_music": "Plays"},
        ),
    ],
)
def test_descriptions_can_be_configured(blocks: Mapping[str, Any], described: Mapping[str, str]) -> None:
    specs = box(choose("house_state", "house_music", **blocks)).specs()

    assert [spec.name for spec in specs] == list(described)
    assert all(spec.description.startswith(described[spec.name]) for spec in specs)


def test_a_description_in_the_block_of_one_tool_is_not_that_of_its_neighbours() -> None:
    text = '@tool("written")\ndef a() -> str:\n    "First."\n@tool("b")\ndef b() -> str:\n    "Second."\n'
    known = Catalog([written(text)])

    selection = select(["written", "b"], {"written": {"description": "Mine."}}, known=known)

    assert {tool.spec.name: tool.spec.description for tool in selection.build(ToolServices()).source.tools()} == {
        "written": "Mine.",
        "b": "Second.",
    }


def test_words_of_the_configuration_stand_in_the_schema() -> None:
    [spec] = box(choose("house_get_state", house=HOUSE)).specs()

    assert spec.parameters == {
        "type": "object",
        "properties": {"entity": {"type": "string", "description": "Id of the thing, in one of: hall, attic."}},
        "required": ["entity"],
    }


def test_traits_of_the_decorator_reach_the_tool() -> None:
    tools = {tool.spec.name: tool for tool in choose("house_state", "say_it").build(ToolServices()).source.tools()}

    assert (tools["house_set_state"].uninterruptible, tools["house_set_state"].timeout) == (True, 7.5)
    assert (tools["house_get_state"].uninterruptible, tools["house_get_state"].timeout) == (False, None)
    assert tools["say_it"].answers_directly == "words"
    assert box(choose("say_it")).direct_text(call("say_it", words="Hi.")) == "Hi."


# --- built ---


@pytest.fixture
def house() -> Iterator[str]:
    """The address of a house that knows one lamp and wants to see the key."""

    def answer(environ: dict[str, Any], start: Any) -> list[bytes]:
        allowed = environ["HTTP_AUTHORIZATION"] == f"Bearer {KEY}" and environ["PATH_INFO"] == "/states/lamp"
        start("200 OK" if allowed else "404 Not Found", [("Content-Type", "application/json")])
        return [b'{"state": "on"}']

    server = WSGIServer(("127.0.0.1", 0), answer, log=None)
    server.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.stop(timeout=0)


def test_tools_of_one_class_share_what_it_holds_and_are_lent_what_they_need(house: str) -> None:
    made: list[VendorHttp] = []

    def http(vendor: str, **options: Any) -> VendorHttp:
        made.append(VendorHttp(vendor, **options))
        return made[-1]

    toolbox = box(choose("house_state", house={"base_url": house, "api_key": KEY}), ToolServices(http=http))

    assert toolbox.call(call("house_get_state", entity="lamp"), context()).text == "on"
    assert toolbox.call(call("house_get_state", entity="nothing"), context()).action is Action.ERROR
    spoken = toolbox.call(call("house_set_state", entity="lamp", on="off"), context())
    assert (spoken.action, spoken.text) == (
        Action.SPEAK,
        "lamp is off, for 11:22:33:44:55:66, after 2 questions.",
    )
    [client] = made
    assert client.vendor == "house"
    client.close()


# --- what authors can get wrong ---


@pytest.mark.parametrize(
    "text,complaint",
    [
        ('@tool("t")\ndef f() -> str: ...\n', "needs a docstring"),
        ('@tool("t", answers_directly="words")\ndef f() -> str:\n    "Says."\n', "tool t has no parameter 'words'"),
        (
            'class Other(ToolOptions): pass\nclass C:\n    @tool("a")\n    def a(self) -> str:\n        "A."\n'
            '    @tool("b", Other)\n    def b(self) -> str:\n        "B."\n',
            "the tools of C must have one class of options",
        ),
        (
            '@tool("t")\ndef f() -> str:\n    "F."\n@tool("t")\ndef g() -> str:\n    "G."\n',
            "the tool t is declared in written and in written",
        ),
        (
            'class A(ToolOptions): pass\nclass B(ToolOptions): pass\n@tool("a", A)\ndef f() -> str:\n    "F."\n'
            '@tool("b", B)\ndef g() -> str:\n    "G."\n',
            "plugins.written has two classes of options: A, B",
        ),
    ],
)
def test_files_that_cannot_be_used_say_what_is_to_be_mended(text: str, complaint: str) -> None:
    with pytest.raises(TypeError, match=complaint):
        Catalog([written(text)])


def test_tools_without_options_stand_beside_tools_with_them() -> None:
    text = (
        'class A(ToolOptions):\n    x: int = 1\n@tool("a")\ndef f() -> str:\n    "F."\n'
        '@tool("b", A)\ndef g() -> str:\n    "G."\n@tool("c")\ndef h() -> str:\n    "H."\n'
    )
    selection = select(["a", "b", "c"], {"written": {"x": 2, "zzz": 3}}, known=Catalog([written(text)]))

    assert selection.faults == ()
    assert selection.warnings == ("plugins.written.zzz means nothing here and is ignored",)
