"""A plain Python function as a tool: its docstring is the description, its parameters are the JSON schema that the
language model sees.

Parameters of the types ToolContext, ToolOptions (or a subclass) and ToolServices are filled in by the server; every
other parameter is an argument that the model gives. What a parameter means and its bounds are written with pydantic:
`count: Annotated[int, Field(ge=1, le=9, description="How many.")] = 1`. Not the registry (`registry.py` finds such
functions and builds them)."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, PydanticUserError, ValidationError, create_model

from xiaozhi.chat import ToolSpec
from xiaozhi.errors import ToolError
from xiaozhi.tools.base import Action, Tool, ToolContext, ToolOptions, ToolOutcome, ToolServices
from xiaozhi.tools.schemas import object_schema

ToolFunction = Callable[..., ToolOutcome | str]
"""A plain text as result is one that the model goes on with (Action.ASK_LLM)."""

_ARGUMENTS = ConfigDict(extra="ignore", coerce_numbers_to_str=True, protected_namespaces=())


@dataclass(frozen=True, slots=True)
class Signature:
    """What the signature of a tool's function says."""

    description: str
    arguments: type[BaseModel]
    """What the model gives, validated."""
    parameters: Mapping[str, Any]
    """The same as JSON schema."""
    context: str = ""
    """Name of the parameter for the ToolContext, "" when there is none."""
    options: str = ""
    services: str = ""

    def validated(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments as the function's annotations want them. Raises ToolError naming all that are wrong."""
        try:
            made = self.arguments.model_validate(dict(arguments))
        except ValidationError as error:
            raise ToolError("; ".join(map(_fault, error.errors(include_url=False)))) from None
        return {name: getattr(made, name) for name in self.arguments.model_fields}


def signature_of(function: ToolFunction, *, is_method: bool = False) -> Signature:
    """Reads a function; `is_method`: its first parameter is `self`. Raises TypeError saying what is to be mended."""
    where = f"{function.__module__}.{function.__qualname__}"
    description = " ".join((inspect.getdoc(function) or "").split())
    if not description:
        raise TypeError(f"{where} needs a docstring: it tells the language model when to call the tool")
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except NameError as error:
        raise TypeError(
            f"{where}: an annotation cannot be read ({error}); import its type at the top of the file"
        ) from error
    fields: dict[str, Any] = {}
    given = {"context": "", "options": "", "services": ""}
    for parameter in list(inspect.signature(function).parameters.values())[is_method:]:
        name = parameter.name
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise TypeError(f"{where}: parameter {name} must have a name of its own, without * and /")
        if name not in hints:
            raise TypeError(f"{where}: parameter {name} needs a type")
        role = _role(hints[name])
        if role:
            given[role] = name
        else:
            fields[name] = (hints[name], ... if parameter.default is parameter.empty else parameter.default)
    try:
        arguments: type[BaseModel] = create_model(function.__name__, __config__=_ARGUMENTS, **fields)
        parameters = _without_noise(object_schema(arguments.model_json_schema()))
    except (PydanticUserError, NameError, ValueError) as error:
        raise TypeError(f"{where}: its parameters make no JSON schema ({error})") from error
    return Signature(description, arguments, parameters, **given)


class DeclaredTool(Tool):
    """A tool made of a function with the signature `signature`. `given`: options and services, by parameter."""

    def __init__(
        self,
        spec: ToolSpec,
        function: ToolFunction,
        signature: Signature,
        given: Mapping[str, Any],
        *,
        answers_directly: str = "",
        uninterruptible: bool = False,
        timeout: float | None = None,
        late_after: float | None = None,
    ) -> None:
        self.spec = spec
        self.answers_directly = answers_directly
        self.uninterruptible = uninterruptible
        self.timeout = timeout
        self.late_after = late_after
        self._function = function
        self._signature = signature
        self._given = given

    def run(self, arguments: Mapping[str, Any], context: ToolContext) -> ToolOutcome:
        values = {**self._signature.validated(arguments), **self._given}
        if self._signature.context:
            values[self._signature.context] = context
        result = self._function(**values)
        return ToolOutcome(Action.ASK_LLM, result) if isinstance(result, str) else result


def _role(hint: Any) -> str:
    if hint is ToolContext:
        return "context"
    if hint is ToolServices:
        return "services"
    return "options" if isinstance(hint, type) and issubclass(hint, ToolOptions) else ""


def _without_noise(schema: dict[str, Any]) -> dict[str, Any]:
    """Without what only costs tokens: `X | None = None` is an X that may be left out, an empty default is none."""
    for name, described in schema["properties"].items():
        options = described.get("anyOf")
        if isinstance(options, list) and {"type": "null"} in options and len(options) == 2:
            [kept] = [option for option in options if option != {"type": "null"}]
            del described["anyOf"]
            schema["properties"][name] = described = {**kept, **described}
        if described.get("default", 0) in (None, ""):
            del described["default"]
    return schema


def _fault(problem: Any) -> str:
    name = ".".join(map(str, problem["loc"]))
    if problem["type"] == "missing":
        return f"the argument '{name}' is missing"
    value = repr(problem["input"])
    shown = value if len(value) <= 40 else f"{value[:37]}..."
    return f"the argument '{name}' is {shown}: {problem['msg'].removeprefix('Value error, ')}"
