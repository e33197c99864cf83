"""No two files import each other, and no two public classes have one name."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.sources import Source, imports, parse, read


def import_cycles(sources: list[Source]) -> list[str]:
    """Files that import each other, directly or in a circle, at import time; the shortest circles by name."""
    names = {_module_name(source.path) for source in sources}
    edges: dict[str, set[str]] = {}
    for source in sources:
        wanted = edges[_module_name(source.path)] = set()
        for name in _imported_at_once(source.tree):
            while name and name not in names:
                name = name.rpartition(".")[0]
            if name and name != "xiaozhi":
                wanted.add(name)
    found = []
    for group in _components(edges):
        if len(group) > 1:
            found.append(" <-> ".join(sorted(group)))
    return sorted(found)


def _module_name(path: str) -> str:
    return ".".join(Path(path).with_suffix("").parts).removesuffix(".__init__")


def _imported_at_once(tree: ast.Module) -> Iterator[str]:
    # Not what is imported inside a function, nor for the type checker only.
    pending: list[ast.AST] = list(tree.body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from (name for _, name in imports(node))
        pending += ast.iter_child_nodes(node)


def _components(edges: dict[str, set[str]]) -> list[set[str]]:
    """Strongly connected components: each file with all that it reaches and that reach it."""
    reach = {name: _reached(name, edges) for name in edges}
    seen: set[str] = set()
    groups = []
    for name in edges:
        if name not in seen:
            group = {name} | {other for other in reach[name] if name in reach[other]}
            seen |= group
            groups.append(group)
    return groups


def _reached(start: str, edges: dict[str, set[str]]) -> set[str]:
    found: set[str] = set()
    pending = [start]
    while pending:
        for name in edges[pending.pop()] - found:
            found.add(name)
            pending.append(name)
    return found


def test_no_files_import_each_other() -> None:
    assert import_cycles(read("xiaozhi")) == []
    assert import_cycles(read("loadtest")) == []


def test_a_circle_of_imports_is_seen() -> None:
    one = parse("xiaozhi/session/one.py", "from xiaozhi.session import two")
    two = parse("xiaozhi/session/two.py", "from xiaozhi.session.three import X")
    three = parse("xiaozhi/session/three.py", "import xiaozhi.session.one")

    assert import_cycles([one, two, three]) == ["xiaozhi.session.one <-> xiaozhi.session.three <-> xiaozhi.session.two"]


def repeated_class_names(sources: list[Source]) -> list[str]:
    """Public classes whose name stands in more than one file: whoever reads it has to guess which one is meant."""
    places: dict[str, list[str]] = {}
    for source in sources:
        for node in source.tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(source.path)
    return sorted(f"{name}: {', '.join(paths)}" for name, paths in places.items() if len(paths) > 1)


def test_a_class_name_stands_once() -> None:
    assert repeated_class_names([*read("xiaozhi"), *read("loadtest")]) == []


def test_a_repeated_class_name_is_seen() -> None:
    one, two = parse("xiaozhi/a/x.py", "class Reply: ..."), parse("xiaozhi/b/y.py", "class Reply: ...")

    assert repeated_class_names([one, two]) == ["Reply: xiaozhi/a/x.py, xiaozhi/b/y.py"]
