"""Reads golden files: what is on the wire, and beside it what it means. To add a case, add three lines to a file.

    # a comment
    [name of the case]
    input-verb   input, to the end of the line
    output-verb  expectation, to the end of the line

The verbs say what is to be done; each test module knows its own. Bytes are written in hex with blanks anywhere, and
text among them in double quotes. Values are written the way Python's repr writes them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent

_NAME = re.compile(r"\[(?P<name>.+)\]")
_LINE = re.compile(r"(?P<verb>\S+)(?:\s+(?P<rest>.*))?")
_QUOTED = re.compile(r'"([^"]*)"')


@dataclass(frozen=True)
class Case:
    """One case: its input and what is expected of it."""

    name: str
    verb: str
    given: str
    outcome: str
    expected: str


def cases(file: str) -> list[object]:
    """All cases of a file below tests/golden, as pytest parameters. A malformed file fails loudly."""
    found: list[Case] = []
    name, lines = "", []
    for number, line in enumerate([*(FOLDER / file).read_text("utf-8").splitlines(), "[end]"], start=1):
        if not line.strip() or line.startswith("#"):
            continue
        if heading := _NAME.fullmatch(line):
            if name:
                assert len(lines) == 2, f"{file}:{number}: [{name}] has {len(lines)} lines instead of 2"
                (verb, given), (outcome, expected) = lines
                found.append(Case(name, verb, given, outcome, expected))
            name, lines = heading["name"], []
        else:
            match = _LINE.fullmatch(line)
            assert match and name, f"{file}:{number}: {line!r}"
            lines.append((match["verb"], match["rest"] or ""))
    assert found, f"{file} has no cases"
    assert len({case.name for case in found}) == len(found), f"{file}: two cases have the same name"
    return [pytest.param(case, id=case.name) for case in found]


def octets(text: str) -> bytes:
    """The bytes that a golden file writes in hex, with quoted text among them."""
    parts = _QUOTED.split(text)
    return b"".join(part.encode() if index % 2 else bytes.fromhex(part) for index, part in enumerate(parts))
