"""What of the console's settings cannot be used here: faults of a tree, and the tree without them.

A console knows types of providers, tools and keys that this server does not have, and people type into it what they
like. A server that would not start for that, or a device that would not be answered, helps nobody: what is faulty is
taken out, and what this server has for the case takes its place. The caller tells about it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from xiaozhi.errors import Fault
from xiaozhi.settings.schema import SECTIONS

_SECTIONS: Final = frozenset(SECTIONS.values())
_REFERRING: Final = ("llm", "functions", "fallback")
"""Keys of a block that can be left out by themselves."""


def without(tree: Mapping[str, Any], faults: Iterable[Fault]) -> tuple[dict[str, Any], list[Fault]]:
    """A copy of `tree` without what the faults speak of, and those faults that something was taken out for; none: the
    faults are about something else."""
    left: dict[str, Any] = dict(tree)
    found = []
    for fault in faults:
        before = left
        left = _without(left, fault.key.split("."))
        if left != before:
            found.append(fault)
    return left, found


def without_modules(tree: Mapping[str, Any]) -> dict[str, Any]:
    """A copy that leaves all providers to the server."""
    return {key: value for key, value in tree.items() if key not in _SECTIONS and key != "selected_module"}


def _without(tree: dict[str, Any], path: list[str]) -> dict[str, Any]:
    head = path[0]
    if head in _SECTIONS and len(path) > 1:
        if len(path) > 2 and path[2] in _REFERRING:
            return _removed(tree, path[:3])
        tree = _removed(tree, path[:2])
        if _at(tree, ["selected_module", head]) == path[1]:
            tree = _removed(tree, ["selected_module", head])
        return tree
    if head == "plugins" and len(path) > 1:
        return _removed(tree, path[:2])
    if head in ("selected_module", "server", "log", "conversation"):
        return _removed(tree, path)
    return _removed(tree, path[:1])


def _at(tree: Mapping[str, Any], path: list[str]) -> Any:
    here: Any = tree
    for key in path:
        here = here.get(key) if isinstance(here, Mapping) else None
    return here


def _removed(tree: dict[str, Any], path: list[str]) -> dict[str, Any]:
    """A copy without the value at a path; the same tree when there is none."""
    head, *rest = path
    if head not in tree:
        return tree
    if not rest:
        return {key: value for key, value in tree.items() if key != head}
    inner = tree[head]
    if not isinstance(inner, Mapping):
        return tree
    return {**tree, head: _removed(dict(inner), rest)}
