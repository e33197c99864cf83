"""Changes in the text of a YAML file that leave all the rest, letter by letter, as people wrote it: comments, order,
quotes, indentation.

The text is parsed for where each value stands, and only those letters are replaced. What comes out is read again and
must mean exactly what was there before and the change; where it does not (an alias, a key written oddly) it is refused
rather than written.

Why not ruamel.yaml: it writes the whole file anew, which indents lists in its own way, and keeps a comment with the key
before it: with that key goes the comment of the next one, and a new key comes between a comment and its key.

Pure: text in, text out. A parse of the text per change: call it in a thread."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

import yaml

from xiaozhi.errors import Fault, SettingsError
from xiaozhi.settings.layers import Path
from xiaozhi.settings.yaml_reader import compose, read_text, read_value

MAX_CHARS: Final = 262_144
"""A text that is longer is left to its editor."""
_STEP: Final = 2
"""Columns by which a new section is indented."""
_PLAIN = re.compile(r"[^\W_][\w./+-]*(?: [\w./+-]+)*")
_ADDRESS = re.compile(r"(?:https?|wss?)://[\w.:/?=&~%+-]*\w")
_ALIAS = re.compile(r"\s*\*[^\s,\]}]+")
_NOT_PRINTED = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff\ufffe\uffff]")
_PRINTED_LINE = re.compile(r"[^\s\x7f-\x9f](?:[^\r\x00-\x08\x0b-\x1f\x7f-\x9f]*[^\s\x7f-\x9f])?")


@dataclass(frozen=True, slots=True)
class Change:
    """One value of a configuration. `path`: keys from the root. `value` None: take the key out."""

    path: Path
    value: Any = None


def edited(text: str, changes: Iterable[Change], source: str) -> str:
    """`text` with the changes. `source`: what to call it in faults. Raises SettingsError with every fault."""
    if len(text) > MAX_CHARS:
        raise SettingsError([Fault(source, f"{len(text)} characters", f"at most {MAX_CHARS} to be changed here")])
    tree, faults = read_text(text, source)
    if faults:
        raise SettingsError(faults)
    for change in changes:
        tree = _with(tree, change)
        made = _changed(text, change, source)
        again, faults = read_text(made, source)
        if faults or _bare(again) != _bare(tree):
            where = ".".join(change.path)
            raise SettingsError([Fault(where, f"cannot be changed in {source} from here", "a change by hand")])
        text = made
    return text


# --- what it means --------------------------------------------------------------------------------------------------


def _with(tree: Mapping[str, Any], change: Change) -> dict[str, Any]:
    """The plain tree with a change."""
    made = dict(tree)
    key, *rest = change.path
    if not rest:
        made[key] = copy.deepcopy(change.value)
        return made
    inside = made.get(key)
    if isinstance(inside, Mapping) or change.value is not None:
        below = inside if isinstance(inside, Mapping) else {}
        made[key] = _with(below, Change(tuple(rest), change.value))
    return made


def _bare(tree: Any) -> Any:
    """Without what means "not set"."""
    if not isinstance(tree, Mapping):
        return tree
    bare = {key: _bare(value) for key, value in tree.items()}
    return {key: value for key, value in bare.items() if value is not None and value != {}}


# --- where it stands ------------------------------------------------------------------------------------------------


def _changed(text: str, change: Change, source: str) -> str:
    root = compose(text, source)
    if root is None or not isinstance(root, yaml.MappingNode):
        if change.value is None:
            return text
        gap = "" if not text or text.endswith("\n") else "\n"
        return f"{text}{gap}{_block(_nested(change.path, change.value), 0)}\n"
    found = list(_way(root, change.path))
    if change.value is None:
        return _without(text, found) if len(found) == len(change.path) else text
    if len(found) == len(change.path):
        return _replaced(text, found[-1], change.value)
    rest = change.path[len(found) :]
    inside = found[-1].value if found else root
    if isinstance(inside, yaml.MappingNode) and not (found and found[-1].is_alias):
        return _inserted(text, inside, rest[0], _nested(rest[1:], change.value))
    return _replaced(text, found[-1], _nested(rest, change.value))


@dataclass(frozen=True, slots=True)
class _Pair:
    """A key and its value, in a mapping."""

    mapping: yaml.MappingNode
    key: yaml.ScalarNode
    value: yaml.Node

    @property
    def is_alias(self) -> bool:
        """The node of an alias is the one that it names, somewhere above."""
        return bool(self.value.start_mark.index < self.key.end_mark.index)


def _way(root: yaml.MappingNode, path: Path) -> Iterator[_Pair]:
    """The pairs that a path leads along, as far as there are any."""
    node: yaml.Node = root
    for key in path:
        pairs = _pairs(node) if isinstance(node, yaml.MappingNode) else []
        found = next((pair for pair in reversed(pairs) if pair.key.value == key), None)
        if found is None:
            return
        yield found
        if found.is_alias:
            return
        node = found.value


def _pairs(mapping: yaml.MappingNode) -> list[_Pair]:
    return [_Pair(mapping, key, value) for key, value in mapping.value if isinstance(key, yaml.ScalarNode)]


def _end(text: str, pair: _Pair) -> int:
    """Where the letters of a pair end; comments behind it are not its own."""
    if pair.is_alias:
        colon = text.index(":", pair.key.end_mark.index)
        alias = _ALIAS.match(text, colon + 1)
        return alias.end() if alias is not None else colon + 1
    return _end_of(text, pair.value)


def _end_of(text: str, node: yaml.Node) -> int:
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end(text, _Pair(node, *last)) if isinstance(node, yaml.MappingNode) else _end_of(text, last)
    end: int = node.end_mark.index
    if isinstance(node, yaml.ScalarNode) and node.style in ("|", ">"):
        return len(text[:end].rstrip())
    return end


def _line_end(text: str, index: int) -> int:
    """Behind the end of the line in which `index` stands."""
    found = text.find("\n", index)
    return len(text) if found < 0 else found + 1


def _replaced(text: str, pair: _Pair, value: Any) -> str:
    end = _end(text, pair)
    if pair.mapping.flow_style:
        return f"{text[: pair.value.start_mark.index]}{_flow(value)}{text[end:]}"
    colon = text.index(":", pair.key.end_mark.index) + 1
    made = _behind_key(value, pair.key.start_mark.column)
    first, newline, lines = made.partition("\n")
    if newline:  # a comment behind the value would come into the new one: it goes behind the key
        after = _line_end(text, end)
        return f"{text[:colon]}{first}{text[end:after].rstrip()}\n{lines}\n{text[after:]}"
    was_block = isinstance(pair.value, yaml.CollectionNode) and not pair.value.flow_style
    if was_block or pair.is_alias or pair.value.start_mark.index == end:
        return f"{text[:colon]}{made}{text[end:]}"
    return f"{text[: pair.value.start_mark.index]}{made.lstrip(' ')}{text[end:]}"


def _inserted(text: str, mapping: yaml.MappingNode, key: str, value: Any) -> str:
    pairs = _pairs(mapping)
    if mapping.flow_style:
        at = _end(text, pairs[-1]) if pairs else mapping.start_mark.index + 1
        return f"{text[:at]}{', ' if pairs else ''}{_scalar(key)}: {_flow(value)}{text[at:]}"
    at = _line_end(text, _end(text, pairs[-1]))
    gap = "" if text[:at].endswith("\n") else "\n"
    return f"{text[:at]}{gap}{_block({key: value}, pairs[0].key.start_mark.column)}\n{text[at:]}"


def _without(text: str, found: Sequence[_Pair]) -> str:
    """Without the last of these pairs, and without those around it that hold nothing but it."""
    pair = found[-1]
    for outside in reversed(found[:-1]):
        between = text[outside.key.start_mark.index : pair.key.start_mark.index]
        if len(outside.value.value) > 1 or "#" in between:
            break
        pair = outside
    begin, end = pair.key.start_mark.index, _end(text, pair)
    if not pair.mapping.flow_style:
        begin = text.rfind("\n", 0, begin) + 1
        return f"{text[:begin]}{text[_line_end(text, end) :]}"
    pairs = _pairs(pair.mapping)
    at = next(place for place, other in enumerate(pairs) if other.key is pair.key)
    if at + 1 < len(pairs):
        end = pairs[at + 1].key.start_mark.index
    elif at:
        begin = _end(text, pairs[at - 1])
    return f"{text[:begin]}{text[end:]}"


# --- how it is written ----------------------------------------------------------------------------------------------


def _nested(path: Sequence[str], value: Any) -> Any:
    for key in reversed(path):
        value = {key: value}
    return value


def _block(tree: Mapping[str, Any], column: int) -> str:
    return "\n".join(f"{' ' * column}{_scalar(str(key))}:{_behind_key(value, column)}" for key, value in tree.items())


def _behind_key(value: Any, column: int) -> str:
    """What stands behind the colon of a key in `column`."""
    inner = " " * (column + _STEP)
    if isinstance(value, Mapping) and value:
        return f"\n{_block(value, column + _STEP)}"
    if isinstance(value, list | tuple) and value:
        return "".join(f"\n{inner}- {_flow(item)}" for item in value)
    if isinstance(value, str) and _is_literal(value):
        lines = "".join(f"\n{inner}{line}" if line else "\n" for line in value.removesuffix("\n").split("\n"))
        return f" {'|' if value.endswith(chr(10)) else '|-'}{lines}"
    if isinstance(value, str) and _ADDRESS.fullmatch(value):
        return f" {value}"
    return f" {_flow(value)}"


def _is_literal(text: str) -> bool:
    """A text of several lines that can stand as it is."""
    first, *others = text.removesuffix("\n").split("\n")
    return bool(others and others[-1] and _PRINTED_LINE.fullmatch(first)) and all(
        not line or _PRINTED_LINE.fullmatch(line.lstrip(" ")) for line in others
    )


def _flow(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{_scalar(str(key))}: {_flow(item)}' for key, item in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_flow, value))}]"
    return _scalar(value)


def _scalar(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        shown = format(Decimal(repr(value)), "f")  # 1e-05 is text to the reader
        return shown if "." in shown else f"{shown}.0"
    return _text(str(value))


def _text(text: str) -> str:
    try:
        if _PLAIN.fullmatch(text) is not None and read_value(text) == text:
            return text
    except SettingsError:
        pass  # it means something to YAML: in quotes
    quoted = json.dumps(text, ensure_ascii=False)
    return _NOT_PRINTED.sub(lambda found: f"\\u{ord(found[0]):04x}", quoted)
