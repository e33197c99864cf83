"""What users and operators read in English they read in Chinese as well: the same headings, commands and settings."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.ops.programs import ROOT

PAGES = (
    "configuration",
    "operations",
    "http",
    "offline",
    "clients",
    "history",
    "console",
    "management",
    "tools",
    "providers",
)
PAIRS = [("README.md", "README.zh.md"), *((f"docs/{page}.md", f"docs/zh/{page}.md") for page in PAGES)]
ALL = [*PAIRS, ("docs/capacity.md", "docs/zh/capacity.md")]
SHORTER = {"docs/offline.md"}
"""Their Chinese side leaves out how things were decided."""


FOR_AUTHORS = "<!-- for authors -->"
"""What follows is for those who write code."""
TABLE = re.compile("<!-- table -->.*<!-- end of table -->", re.DOTALL)
"""Made by a program, which prints it for everybody."""


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def shared(name: str) -> str:
    """What of a page is to be read in both languages."""
    return TABLE.sub("", text_of(name)).partition(FOR_AUTHORS)[0]


def parts(text: str) -> tuple[list[str], list[str]]:
    """(lines outside fenced blocks, lines of blocks that hold commands)."""
    outside: list[str] = []
    shell: list[str] = []
    fence: str | None = None
    for line in text.splitlines():
        mark = re.match(r" *```(\w*)$", line)
        if mark is not None:
            fence = None if fence is not None else mark[1]
        elif fence is None:
            outside.append(line)
        elif fence in ("", "sh"):
            shell.append(line)
    return outside, shell


def headings(text: str) -> list[int]:
    """The levels of the headings, in order."""
    return [len(mark[1]) for line in parts(text)[0] if (mark := re.match(r"(#+) ", line))]


def code(text: str) -> set[str]:
    """Settings, commands, names: what stands between backticks. What is to be filled in is left out."""
    found = re.findall(r"`([^`\n]+)`", "\n".join(parts(text)[0]))
    return {re.sub(r"<[^>]*>", "<>", each).replace("\\|", "|") for each in found if re.search(r"[a-z]", each)}


def commands(text: str) -> list[str]:
    """The commands of shell blocks, without remarks."""
    lines = [re.sub(r"\s+# .*$", "", line).strip() for line in parts(text)[1]]
    return [line for line in lines if line]


@pytest.mark.parametrize(("english", "chinese"), PAIRS)
def test_the_headings_are_the_same(english: str, chinese: str) -> None:
    assert headings(shared(chinese)) == headings(shared(english))


@pytest.mark.parametrize(("english", "chinese"), ALL)
def test_the_commands_are_the_same(english: str, chinese: str) -> None:
    assert commands(shared(chinese)) == commands(shared(english))


@pytest.mark.parametrize(("english", "chinese"), [pair for pair in PAIRS if pair[0] not in SHORTER])
def test_the_settings_are_the_same(english: str, chinese: str) -> None:
    there, here = code(shared(english)), code(shared(chinese))

    assert {name for name in here - there if not re.search(r"[一-鿿]", name)} == set()
    assert there - here == set()


@pytest.mark.parametrize("name", sorted({name for pair in ALL for name in pair}))
def test_links_lead_somewhere(name: str) -> None:
    text = text_of(name)
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    wrong = []
    for link in links:
        path, _, anchor = link.partition("#")
        if path.startswith("http"):
            continue
        target = (ROOT / name).parent / path if path else ROOT / name
        if not target.exists() or (anchor and anchor not in anchors(target)):
            wrong.append(link)

    assert wrong == []


def anchors(page: Path) -> set[str]:
    """What a heading is called in links."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("name", ["README.md", "docs/operations.md", "docs/configuration.md", "docs/capacity.md"])
def test_commands_of_make_are_there(name: str) -> None:
    known = set(re.findall(r"^([a-z-]+):", text_of("Makefile"), re.MULTILINE))
    used = set(
        re.findall(r"\bmake ([a-z][a-z-]+)\b(?! sure)", "\n".join([*code(text_of(name)), *commands(text_of(name))]))
    )

    assert used
    assert used - known == set()


@pytest.mark.parametrize("name", sorted({name for pair in ALL for name in pair}))
def test_commands_run_this_tree_s_programs(name: str) -> None:
    """As they are printed, from this directory: nothing of it is on the system's path."""
    bare = re.compile(r"^(?:python3?|pip3?|pytest|supervisord|supervisorctl|locust) ")
    written = [*code(text_of(name)), *commands(text_of(name))]

    assert [
        command for command in written if bare.match(command) and "-m loadtest capacity --tries" not in command
    ] == []
