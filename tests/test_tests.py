"""Holds the manners of the tests by reading them: nobody waits by sleeping, nobody reaches into an object's privates.

Every rule is also shown a piece of code that breaks it."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
FILES = sorted(TESTS.rglob("*.py"))

SLEEPERS = {"sleep", "native_sleep"}
MAX_LINES = 500
REASON = re.compile(r"#.*\bsleep: \w")
PUBLIC_ALL_THE_SAME = {"_current_frames", "_fields", "_replace", "_asdict"}
"""Documented names that begin with an underscore."""


def sleeps(text: str) -> Iterator[tuple[int, str]]:
    """A sleep of more than 0 s, unless a comment on its line says `sleep:` and why.

    A test waits for what it needs (`tests.waiting.wait_for`, an event, a join). `sleep(0)`, the others' turn, is fine.
    What may sleep is a part that plays something slow, or a test whose subject is time that passes.
    """
    lines = text.splitlines()
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        first = node.args[0]
        if name not in SLEEPERS or (isinstance(first, ast.Constant) and first.value == 0):
            continue
        if not any(REASON.search(line) for line in lines[node.lineno - 1 : node.end_lineno]):
            yield node.lineno, "sleeps; wait for a condition, or say why on this line: `# sleep: ...`"


def privates(text: str) -> Iterator[tuple[int, str]]:
    """An attribute, a name or a patch that begins with one underscore and belongs to somebody else.

    What a file defines itself it may use; so a fake and its helpers may share a secret.
    """
    tree = ast.parse(text)
    own = set(_defined(tree)) | PUBLIC_ALL_THE_SAME
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Attribute) and not _is_self(node.value):
            names = [node.attr]
        elif isinstance(node, ast.ImportFrom):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.Call) and _called(node) in {"setattr", "getattr", "delattr", "hasattr"}:
            words = [arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
            names = [word.rpartition(".")[2] for word in words[:1]]
        for name in names:
            if _is_private(name) and name not in own:
                yield node.lineno, f"reaches for the private {name}; use or make a public seam"


def short(text: str) -> Iterator[tuple[int, str]]:
    """A file of tests holds one subject, and is found by its name."""
    lines = text.count("\n")
    if lines > MAX_LINES:
        yield lines, f"has more than {MAX_LINES} lines; split it by what it is about"


RULES = [sleeps, privates, short]


def _defined(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and _is_self(node.value):
            yield node.attr
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


def _is_self(node: ast.expr) -> bool:
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id == "super"
    return isinstance(node, ast.Name) and node.id in {"self", "cls"}


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def _called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_tests_keep(rule: Callable[[str], Iterator[tuple[int, str]]]) -> None:
    found = [
        f"{path.relative_to(TESTS.parent)}:{line}: {what}"
        for path in FILES
        for line, what in rule(path.read_text(encoding="utf-8"))
    ]
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        (sleeps, "time.sleep(0.1)"),
        (sleeps, "gevent.sleep(seconds)"),
        (sleeps, "sleep(1)  # sleep:"),
        (sleeps, "sleep(1)  # because"),
        (privates, "server._watchdog.check()"),
        (privates, "self._stage._devices.append(1)"),
        (privates, "self.stage._devices.append(1)"),
        (privates, "from tests.guards import _name"),
        (privates, "monkeypatch.setattr(server, '_read', 1)"),
        (privates, "monkeypatch.setattr('xiaozhi.app._read', 1)"),
        (privates, "getattr(server, '_read')"),
        (short, "x = 1\n" * (MAX_LINES + 1)),
    ],
)
def test_a_rule_sees(rule: Callable[[str], Iterator[tuple[int, str]]], code: str) -> None:
    assert list(rule(code))


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        (sleeps, "time.sleep(0)"),
        (sleeps, "time.sleep(0.1)  # sleep: the vendor is slow"),
        (sleeps, "vendor.sleep()"),
        (privates, "self._x = self._y"),
        (privates, "sys._current_frames()"),
        (privates, "object.__new__(A)"),
        (privates, "class Fake:\n    def __init__(self): self._log = []\n\ndef use(fake): return fake._log"),
        (privates, "setattr(fake, 'name', '_value')"),
    ],
)
def test_a_rule_lets_pass(rule: Callable[[str], Iterator[tuple[int, str]]], code: str) -> None:
    assert not list(rule(code))
