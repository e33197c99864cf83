"""Forms made from the typed schema: what a page shows for each key of a section or of a provider's block.

    field kind   value
    text, long   a text; long: of several lines
    number       between `minimum` and `maximum`; `whole`: no fractions
    switch       true or false
    choice       one of `choices`
    list         texts
    yaml         anything else, as YAML text: mappings, lists of mappings
    section      `fields` of its own

What is secret has no value and no default here, only whether it is set: by its type, by the name of its key, or by its
shape. Pure."""

from __future__ import annotations

import ast
import functools
import inspect
import itertools
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, get_args

import yaml
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from xiaozhi.settings.checks import spellings, usual_spelling
from xiaozhi.settings.layers import Merged, Path, is_prose
from xiaozhi.settings.masking import hides, mask_tree

LONG_CHARS: Final = 80
"""A text that is longer, or has several lines, gets a large field."""
_LONG_KEYS = re.compile(r"(?:^|_)(?:prompt|instructions)$")
_UNIT = re.compile(r", (ms|s|Hz|bytes|frames|days)\b(?=[.;,)]|$)|^(Hz)\.")
_UNITS_OF_KEYS: Mapping[str, str] = {"_ms": "ms", "_seconds": "s", "_bytes": "bytes", "_percent": "%", "_db": "dB"}


@dataclass(frozen=True, slots=True)
class FormField:
    """One key. `path`: from the root of the configuration. `value`, `default`: never of what is secret; `is_set`:
    whether somebody has set it. `origin`: which layer says so, "" for none."""

    path: Path
    kind: str
    description: str = ""
    unit: str = ""
    secret: bool = False
    optional: bool = False
    """It may be left empty."""
    value: Any = None
    is_set: bool = False
    default: Any = None
    origin: str = ""
    choices: Sequence[Any] = ()
    minimum: float | None = None
    maximum: float | None = None
    whole: bool = False
    fields: Sequence[FormField] = ()

    @property
    def leaves(self) -> Iterator[FormField]:
        """This field, or those of its section."""
        if self.kind != "section":
            yield self
        for inner in self.fields:
            yield from inner.leaves


def form_of(
    model: type[BaseModel], merged: Merged, path: Path, *, skip: frozenset[str] = frozenset()
) -> list[FormField]:
    """A field for each key of a model whose values stand at `path`, and for each other key there, but `skip`."""
    schema = model.model_json_schema(by_alias=False)
    tree = _at(merged.tree, path)
    made, known = [], set(skip)
    for name, info in model.model_fields.items():
        names = {*spellings(name, info), name}
        if names & skip:
            continue
        known |= names
        key = _key(name, info, tree)
        field = _field(
            _Place(merged, (*path, key), schema.get("$defs", {})),
            schema["properties"][name],
            description=info.description or attribute_docs(model).get(name, ""),
            model=_model_in(info.annotation),
            secret="SecretStr" in str(info.annotation) or (not info.repr and info.annotation is str),
            default=info.get_default(call_default_factory=False),
        )
        if len(field.choices) != 1:  # nothing to choose
            made.append(field)
    others = [key for key in tree if key not in known] if isinstance(tree, Mapping) else []
    return [*made, *(_unknown(merged, (*path, key)) for key in others)]


@functools.cache
def attribute_docs(model: type[BaseModel]) -> Mapping[str, str]:
    """What stands below the fields of a model and its bases, by field. Parses the files of their modules."""
    found: dict[str, str] = {}
    for cls in reversed(model.__mro__):
        if cls.__module__.split(".")[0] != __name__.split(".")[0]:
            continue
        body = _class_bodies(cls.__module__).get(cls.__name__, [])
        for statement, following in itertools.pairwise(body):
            if (
                isinstance(statement, ast.AnnAssign)
                and isinstance(statement.target, ast.Name)
                and isinstance(following, ast.Expr)
                and isinstance(following.value, ast.Constant)
                and isinstance(following.value.value, str)
            ):
                found[statement.target.id] = inspect.cleandoc(following.value.value).replace("\n", " ")
    return found


@functools.cache
def _class_bodies(module: str) -> Mapping[str, list[ast.stmt]]:
    try:
        tree = ast.parse(inspect.getsource(sys.modules[module]))
    except (OSError, KeyError):
        return {}
    return {statement.name: statement.body for statement in tree.body if isinstance(statement, ast.ClassDef)}


@dataclass(frozen=True, slots=True)
class _Place:
    merged: Merged
    path: Path
    definitions: Mapping[str, Any]

    @property
    def written(self) -> Any:
        return _at(self.merged.tree, self.path)


def _field(
    place: _Place,
    schema: Mapping[str, Any],
    *,
    description: str,
    model: type[BaseModel] | None,
    secret: bool,
    default: Any,
) -> FormField:
    key, written = place.path[-1], place.written
    if model is not None and "$ref" in schema and (written is None or isinstance(written, Mapping)):
        inner = form_of(model, place.merged, place.path)
        return FormField(place.path, "section", description, fields=tuple(inner), is_set=written is not None)
    default = _plain(default)
    secret = secret or _is_secret(key, written) or _is_secret(key, default)
    shape = _shape(schema, place.definitions)
    kind = str(shape.pop("kind"))
    if kind == "text" and (_LONG_KEYS.search(key) or _is_long(written) or _is_long(default)):
        kind = "long"
    if not _fits(kind, written, shape):
        kind, shape = "yaml", {"optional": True}
    return FormField(
        place.path,
        kind,
        description,
        _unit(key, description) if kind == "number" or not shape.get("choices") else "",
        secret,
        value=None if secret else _shown(kind, written),
        is_set=written not in (None, "", [], {}),
        default=None if secret else _shown(kind, default),
        origin=place.merged.origin(place.path) if written is not None else "",
        **shape,
    )


def _unknown(merged: Merged, path: Path) -> FormField:
    """A key that the model does not name: others read it, or nobody."""
    written = _at(merged.tree, path)
    secret = _is_secret(path[-1], written)
    kind = (
        "switch"
        if isinstance(written, bool)
        else "number"
        if isinstance(written, int | float)
        else "list"
        if isinstance(written, list) and all(isinstance(item, str) for item in written)
        else ("long" if _is_long(written) else "text")
        if isinstance(written, str)
        else "yaml"
    )
    value = None if secret else _shown(kind, written)
    return FormField(path, kind, secret=secret, optional=True, value=value, is_set=True, origin=merged.origin(path))


def _shape(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """Kind, choices and bounds of a value, as keyword arguments of FormField."""
    options = list(schema.get("anyOf", [schema]))
    given = [option for option in options if option.get("type") != "null"]
    optional = len(given) < len(options)
    given = [definitions.get(option["$ref"].rpartition("/")[2], {}) if "$ref" in option else option for option in given]
    if len(given) == 1 and given[0].get("type") == "boolean" and not optional:
        return {"kind": "switch"}
    words = [values for option in given if (values := _choices(option))]
    if given and len(words) == len(given):
        return {
            "kind": "choice",
            "choices": tuple(value for choices in words for value in choices),
            "optional": optional,
        }
    if len(given) != 1:
        return {"kind": "yaml", "optional": True}
    only = given[0]
    match only.get("type"):
        case "string":
            return {"kind": "text", "optional": optional or not only.get("minLength")}
        case "integer" | "number" as number:
            return {
                "kind": "number",
                "whole": number == "integer",
                "minimum": only.get("minimum", only.get("exclusiveMinimum")),
                "maximum": only.get("maximum", only.get("exclusiveMaximum")),
                "optional": optional,
            }
        case "array" if only.get("items", {}).get("type") == "string":
            return {"kind": "list", "optional": True}
        case _:
            return {"kind": "yaml", "optional": True}


def _choices(option: Mapping[str, Any]) -> list[Any]:
    if option.get("type") == "boolean":
        return [True, False]
    return [option["const"]] if "const" in option else list(option.get("enum", ()))


def _fits(kind: str, written: Any, shape: Mapping[str, Any]) -> bool:
    """Whether what is written can be shown in such a field: people write 'a, b' for a list, and null for nothing."""
    if written is None:
        return True
    match kind:
        case "text" | "long":
            return isinstance(written, str | int | float) and not isinstance(written, bool)
        case "number":
            return isinstance(written, int | float) and not isinstance(written, bool)
        case "switch":
            return isinstance(written, bool)
        case "choice":
            return any(type(choice) is type(written) and choice == written for choice in shape["choices"])
        case "list":
            return isinstance(written, list) and all(isinstance(item, str) for item in written)
        case _:
            return True


def _shown(kind: str, value: Any) -> Any:
    if value is None:
        return None
    if kind == "yaml":
        return yaml.safe_dump(value, allow_unicode=True, sort_keys=False, width=100).removesuffix("...\n").strip()
    return str(value) if kind in ("text", "long") else value


def _is_secret(key: str, value: Any) -> bool:
    """By the name of the key, or because something in the value is: then the whole is not shown. Prose may speak of
    keys."""
    if value is None or isinstance(value, bool):
        return hides(key, "")
    if hides(key, value):
        return True
    plain = _plain(value)
    return not (isinstance(plain, str) and is_prose(key)) and mask_tree(plain) != plain


def _plain(value: Any) -> Any:
    """A default as YAML could hold it; None for none, and for secrets."""
    if isinstance(value, SecretStr) or type(value).__name__ == "PydanticUndefinedType":
        return None
    if isinstance(value, BaseModel):
        return _plain(value.model_dump())
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if isinstance(value, str | int | float | bool) else None


def _is_long(value: Any) -> bool:
    return isinstance(value, str) and ("\n" in value or len(value) > LONG_CHARS)


def _unit(key: str, description: str) -> str:
    found = _UNIT.search(description)
    if found is not None:
        return found[1] or found[2]
    return next((unit for suffix, unit in _UNITS_OF_KEYS.items() if key.endswith(suffix)), "")


def _key(name: str, info: FieldInfo, tree: Any) -> str:
    """The spelling that stands there, else the usual one."""
    written = tree if isinstance(tree, Mapping) else {}
    return next((key for key in spellings(name, info) if key in written), usual_spelling(name, info))


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for part in get_args(annotation) if (model := _model_in(part)) is not None), None)


def _at(tree: Any, path: Path) -> Any:
    for key in path:
        tree = tree.get(key) if isinstance(tree, Mapping) else None
    return tree
