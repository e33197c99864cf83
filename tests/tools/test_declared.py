"""Functions as tools: what the model sees of a signature, and what the function is given."""

from __future__ import annotations

import datetime
import enum
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from tests.tools.fakes import call, context
from xiaozhi.chat import ToolSpec
from xiaozhi.errors import ToolError
from xiaozhi.tools.base import Action, FixedTools, ToolContext, ToolOptions, ToolOutcome, ToolServices
from xiaozhi.tools.declared import DeclaredTool, signature_of
from xiaozhi.tools.toolbox import Toolbox

if TYPE_CHECKING:
    from decimal import Decimal


class Colour(BaseModel):
    """A colour."""

    red: int = Field(0, ge=0, le=255)
    name: str


class Room(enum.Enum):
    KITCHEN = "kitchen"
    HALL = "hall"


class LampOptions(ToolOptions):
    address: str = "nowhere"


def everything(
    level: Annotated[int, Field(ge=0, le=10, description="How bright.")],
    context: ToolContext,
    lamp: LampOptions,
    lent: ToolServices,
    room: Room = Room.HALL,
    mode: Literal["day", "night"] = "day",
    colour: Colour | None = None,
    colours: list[Colour] = [],  # noqa: B006
    until: datetime.time | None = None,
    note: str = "",
    *,
    loud: bool = False,
) -> str:
    """Switches the lamp.
    开灯。

    Call it in the dark."""
    return f"{level} {room} {mode} {colour} {colours} {until} {note} {loud} {context.device_id} {lamp.address} {lent}"


def made(function: Callable[..., Any], **given: Any) -> Toolbox:
    signature = signature_of(function)
    spec = ToolSpec("t", signature.description, signature.parameters)
    return Toolbox(FixedTools("x", [DeclaredTool(spec, function, signature, given)]))


def test_the_docstring_is_the_description() -> None:
    assert signature_of(everything).description == "Switches the lamp. 开灯。 Call it in the dark."


def test_the_parameters_are_the_schema_and_those_of_the_server_are_not_in_it() -> None:
    signature = signature_of(everything)
    colour = {
        "description": "A colour.",
        "type": "object",
        "properties": {
            "red": {"default": 0, "minimum": 0, "maximum": 255, "type": "integer"},
            "name": {"type": "string"},
        },
        "required": ["name"],
    }

    assert signature.parameters == {
        "type": "object",
        "properties": {
            "level": {"description": "How bright.", "type": "integer", "minimum": 0, "maximum": 10},
            "room": {"type": "string", "enum": ["kitchen", "hall"], "default": "hall"},
            "mode": {"type": "string", "enum": ["day", "night"], "default": "day"},
            "colour": colour,
            "colours": {"type": "array", "items": colour, "default": []},
            "until": {"type": "string", "format": "time"},
            "note": {"type": "string"},
            "loud": {"type": "boolean", "default": False},
        },
        "required": ["level"],
    }
    assert (signature.context, signature.options, signature.services) == ("context", "lamp", "lent")


def test_the_function_gets_what_its_annotations_say() -> None:
    seen: dict[str, Any] = {}

    def lamp(
        level: int,
        context: ToolContext,
        options: LampOptions,
        room: Room = Room.HALL,
        colour: Colour | None = None,
        until: datetime.time | None = None,
        names: list[str] | None = None,
    ) -> ToolOutcome:
        """A lamp."""
        seen.update(locals())
        return ToolOutcome(Action.SPEAK, "On.")

    options = LampOptions(address="kitchen")
    here = context()
    arguments = {"level": "5", "Room": "Kitchen", "colour": {"name": 7}, "until": "22:30", "names": "a", "x": 1}

    outcome = made(lamp, options=options).call(call("t", **arguments), here)

    assert outcome == ToolOutcome(Action.SPEAK, "On.")
    assert seen.pop("seen") is seen
    assert seen == {
        "level": 5,
        "context": here,
        "options": options,
        "room": Room.KITCHEN,
        "colour": Colour(name="7"),
        "until": datetime.time(22, 30),
        "names": ["a"],
    }


def test_a_plain_text_is_a_result_for_the_model() -> None:
    def tell() -> str:
        """Tells."""
        return "42"

    assert made(tell).call(call("t"), context()) == ToolOutcome(Action.ASK_LLM, "42")


def test_arguments_that_no_schema_refuses_are_refused_by_their_type() -> None:
    def wake(at: datetime.time, word: Annotated[str, Field(pattern="^[a-z]+$")] = "x", room: Room = Room.HALL) -> str:
        """Wakes."""
        raise AssertionError

    outcome = made(wake).call(call("t", at="noon", word="A" * 50), context())

    assert outcome.action is Action.ERROR
    assert "the argument 'at' is 'noon': " in outcome.text
    assert f"the argument 'word' is '{'A' * 36}...: " in outcome.text
    with pytest.raises(ToolError, match="'at' is missing"):
        signature_of(wake).validated({})


def test_a_method_does_not_ask_the_model_for_itself() -> None:
    class Lamp:
        def switch(self, on: bool) -> str:
            """Switches."""
            return "done"

    assert list(signature_of(Lamp.switch, is_method=True).parameters["properties"]) == ["on"]


def untyped(level) -> str:  # type: ignore[no-untyped-def]
    """Has a parameter without a type."""
    return ""


def several(*levels: int) -> str:
    """Has parameters without a name."""
    return ""


def keywords(**levels: int) -> str:
    """Has parameters of any name."""
    return ""


def positional(level: int, /) -> str:
    """Has a parameter without a name."""
    return ""


def silent(level: int) -> str:
    return ""


def unreadable(amount: Decimal) -> str:
    """Has a type that is only imported for the type checker."""
    return ""


def schemaless(action: Callable[[], int]) -> str:
    """Has a parameter that no model can give."""
    return ""


def opaque(thing: Tool_) -> str:
    """Has a parameter of a type that pydantic does not know."""
    return ""


class Tool_:
    """No type of JSON."""


@pytest.mark.parametrize(
    "function,complaint",
    [
        (untyped, "parameter level needs a type"),
        (several, "parameter levels must have a name"),
        (keywords, "parameter levels must have a name"),
        (positional, "parameter level must have a name"),
        (silent, "needs a docstring"),
        (unreadable, "an annotation cannot be read.*Decimal"),
        (schemaless, "its parameters make no JSON schema"),
        (opaque, "its parameters make no JSON schema"),
    ],
)
def test_what_makes_no_tool_is_said_with_its_name(function: Any, complaint: str) -> None:
    with pytest.raises(TypeError, match=rf"test_declared\.{function.__name__}.*{complaint}"):
        signature_of(function)
