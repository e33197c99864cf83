"""Tests that the pages name exist: a row of a table is worth what its test is worth."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(path for path in (ROOT / "docs").rglob("*.md") if "tests/" in path.read_text(encoding="utf-8"))
_NAMED = re.compile(r"(tests/[\w/]+\.py)(?:::(\w+))?")


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_test_that_a_page_names_exists(page: Path) -> None:
    missing = []
    for file, name in _NAMED.findall(page.read_text(encoding="utf-8")):
        path = ROOT / file
        if "acme" in file:  # the vendor that docs/providers.md makes up
            continue
        if not path.exists() or (name and f"def {name}(" not in path.read_text(encoding="utf-8")):
            missing.append(f"{file}::{name}")
    assert missing == []
