"""A YAML file as plain data (dict, list, str, int, float, bool, None), strictly, every fault with its line.

Not PyYAML's constructor: that lets a key appear twice (the last one silently wins), builds dates and base-60 integers
out of MAC addresses and times, and follows aliases without end. Here the parsed nodes are walked by hand, so that
duplicate keys, foreign tags, cycles and alias bombs are faults. Keys are always text as written: `on:` is the key "on".
Scalars are those of YAML 1.1 that people expect (yes/no/on/off are booleans, as in files that exist), minus octal,
hexadecimal, base 60 and dates, which stay text."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Any, NoReturn

import yaml

from xiaozhi.errors import Fault, SettingsError

MAX_BYTES = 1_048_576
MAX_DEPTH = 40
MAX_NODES = 100_000
"""Values in one file, aliases counted each time they are used."""

_TAG = "tag:yaml.org,2002:"
_TRUE = ("yes", "true", "on")


class _Reader(yaml.SafeLoader):
    """PyYAML's parser with its own, smaller idea of what a plain scalar can be."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}
    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Not deeper than anybody means: it is parsed as it is read, and the rest of such a text never is."""
        self.depth += 1
        if self.depth > MAX_DEPTH + 2:  # the root, and a value in the deepest mapping
            event: Any = self.peek_event()  # type: ignore[no-untyped-call]
            raise _Problem(event.start_mark, "nested too deeply", f"at most {MAX_DEPTH} levels")
        try:
            node: yaml.Node | None = super().compose_node(parent, index)
            return node
        finally:
            self.depth -= 1


for _tag, _pattern, _first in (
    ("bool", r"yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF", "yYnNtTfFoO"),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
    ("null", r"~|null|Null|NULL|", "~nN"),
    ("merge", r"<<", "<"),
):
    for _character in [*_first, ""] if _tag == "null" else _first:
        _Reader.yaml_implicit_resolvers.setdefault(_character, []).append(
            (_TAG + _tag, re.compile(f"(?:{_pattern})\\Z"))
        )


class _Problem(Exception):
    """One fault that ends the reading of a text."""

    def __init__(self, mark: yaml.Mark | None, found: str, expected: str) -> None:
        self.mark = mark
        self.found = found
        self.expected = expected
        super().__init__(found)


def read_file(path: Path) -> tuple[dict[str, Any], list[Fault]]:
    """The mapping in a YAML file (empty file: empty mapping) and its faults; what can be read in spite of them is
    read."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return {}, [Fault(str(path), "no such file", _similar_file(path))]
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        reason = error.strerror if isinstance(error, OSError) else None
        return {}, [
            Fault(repr(path.name) if reason is None else str(path), reason or str(error), "a readable YAML file")
        ]
    if len(data) > MAX_BYTES:
        return {}, [Fault(str(path), f"{len(data)} bytes", f"at most {MAX_BYTES} bytes")]
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return {}, [
            Fault(
                f"{path} line {line}",
                f"byte 0x{data[error.start]:02x}",
                "text in UTF-8; save the file with that encoding",
            )
        ]
    return read_text(text, str(path))


def read_text(text: str, source: str) -> tuple[dict[str, Any], list[Fault]]:
    """Like `read_file`, for text that came from `source`."""
    faults: list[Fault] = []
    try:
        value = _Builder(source, faults).build(_compose(text))
    except _Problem as problem:
        faults.append(Fault(_place(source, problem.mark), problem.found, problem.expected))
        return {}, faults
    if value is None:
        return {}, faults
    if not isinstance(value, dict):
        kind = "a list" if isinstance(value, list) else "a single value"
        return {}, [Fault(source, f"holds {kind}", "'key: value' lines at the left margin, such as 'server:'")]
    return value, faults


def read_value(text: str) -> Any:
    """The value of a short text, such as an environment variable: scalars, and lists or mappings in [ ] or { }. Raises
    SettingsError."""
    faults: list[Fault] = []
    try:
        value = _Builder("", faults).build(_compose(text))
    except _Problem as problem:
        raise SettingsError([Fault("", problem.found, problem.expected)]) from None
    if faults:
        raise SettingsError(faults)
    return value


def compose(text: str, source: str) -> yaml.Node | None:
    """The nodes of a text that came from `source`, with their places in it; None for a text without any. Raises
    SettingsError."""
    try:
        return _compose(text)
    except _Problem as problem:
        raise SettingsError([Fault(_place(source, problem.mark), problem.found, problem.expected)]) from None


def _compose(text: str) -> yaml.Node | None:
    try:
        loader = _Reader(text)
        try:
            node: yaml.Node | None = loader.get_single_node()
            return node
        finally:
            loader.dispose()
    except RecursionError:
        raise _Problem(None, "nested too deeply", f"at most {MAX_DEPTH} levels") from None
    except yaml.reader.ReaderError as error:
        raise _Problem(None, f"the character {error.character!r}", "printable text") from None
    except yaml.MarkedYAMLError as error:
        found = error.problem or error.context or "not YAML"
        raise _Problem(error.problem_mark or error.context_mark, found, _hint(found)) from None
    except (yaml.YAMLError, ValueError, IndexError) as error:
        # ValueError and IndexError: PyYAML's scanner on escapes such as "\UFFFFFFFF" and on some truncated texts.
        raise _Problem(None, f"not YAML ({type(error).__name__})", "'key: value' lines") from None


def _hint(problem: str) -> str:
    for words, hint in (
        ("\\t", "indent with spaces, never with tabs"),
        (
            "mapping values are not allowed",
            "quotes around values that contain ': '; else a missing colon, or wrong indentation, above",
        ),
        ("could not find expected ':'", "'key: value'; a colon is missing, or a quote is not closed"),
        ("expected <block end>", "the same indentation for keys of one section; check this line and the one above"),
        ("found unexpected end of stream", "a closing quote"),
        ("another document", "one document; remove the '---' in the middle"),
        ("undefined alias", "an anchor (&name) before its use, or quotes around values that start with *"),
        ("cannot start any token", "quotes around values that start with @, ` or %"),
    ):
        if words in problem:
            return hint
    return "valid YAML; check the indentation, the colons and the quotes of this line and the one above"


def _place(source: str, mark: yaml.Mark | None) -> str:
    return f"{source} line {mark.line + 1}" if mark is not None else source


def _similar_file(path: Path) -> str:
    try:
        names = [entry.name for entry in path.parent.iterdir() if entry.suffix in (".yaml", ".yml")]
    except OSError:
        return f"a file that exists; there is no directory {path.parent} either"
    near = difflib.get_close_matches(path.name, names, n=1, cutoff=0.5)
    return f"a file that exists; did you mean {path.parent / near[0]}?" if near else "a file that exists"


class _Builder:
    """Turns nodes into values. Collects faults that let reading go on; raises `_Problem` for the others."""

    def __init__(self, source: str, faults: list[Fault]) -> None:
        self._source = source
        self._faults = faults
        self._left = MAX_NODES

    def build(self, node: yaml.Node | None, depth: int = 0) -> Any:
        if node is None:
            return None
        self._left -= 1
        if self._left < 0:
            raise _Problem(
                node.start_mark, "too much", f"at most {MAX_NODES} values, those of repeated aliases included"
            )
        if depth > MAX_DEPTH:
            raise _Problem(
                node.start_mark, "nested too deeply", f"at most {MAX_DEPTH} levels, and no alias that contains itself"
            )
        if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
            return self._mapping(node, depth)
        if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
            return [self.build(item, depth + 1) for item in node.value]
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        self._refuse_tag(node)

    def _mapping(self, node: yaml.MappingNode, depth: int) -> dict[str, Any]:
        own: dict[str, Any] = {}
        inherited: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise _Problem(key_node.start_mark, "a key that is not text", "a name before the colon")
            value = self.build(value_node, depth + 1)
            if key_node.tag == _TAG + "merge":
                for source in value if isinstance(value, list) else [value]:
                    if not isinstance(source, dict):
                        raise _Problem(
                            value_node.start_mark, "'<<' with something else than a mapping", "<<: *name of a mapping"
                        )
                    inherited = {**source, **inherited}
                continue
            key = key_node.value
            line = key_node.start_mark.line + 1
            if key in lines:
                place = f"{self._source} line {line}"
                self._faults.append(
                    Fault(place, f"{key!r} a second time", f"each key once; the first is in line {lines[key]}")
                )
            lines[key] = line
            own[key] = value
        return {**inherited, **own}

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        text: str = node.value
        match node.tag.removeprefix(_TAG):
            case "str" | "merge":
                return text
            case "null":
                return None
            case "bool":
                return text.lower() in _TRUE
            case "int" | "float" as kind:
                try:
                    return (
                        int(text)
                        if kind == "int"
                        else float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
                    )
                except ValueError:
                    raise _Problem(
                        node.start_mark, f"a number of {len(text)} characters", "a number, or quotes around it"
                    ) from None
            case _:
                self._refuse_tag(node)

    @staticmethod
    def _refuse_tag(node: yaml.Node) -> NoReturn:
        raise _Problem(node.start_mark, f"the tag {node.tag!r}", "plain values without '!' tags")
