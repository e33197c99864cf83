"""What pages say in two languages: nothing stands in one of them only."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from xiaozhi.app.console_forms import GROUPS, group_form
from xiaozhi.settings import SECTIONS, load
from xiaozhi.web.console.pages import STATIC

_PAIR = re.compile(r"""(?:"([^"\n]+)"|([\w-]+))\s*:\s*"((?:[^"\\]|\\.)*)\"""")
_TEXTS = re.compile(r"\n  en: \{(?P<en>.*?)\},?\n  zh: \{(?P<zh>.*?)\},?\n\}", re.DOTALL)
_NOTED = re.compile(r"""(?:_done|_decided|_send|audit\.note)\(\s*"([^"]+)\"""")
_REFUSED = re.compile(
    r"""(?:failure\(\d+, |(?:Forbidden|AuthError|NotFound|Conflict|ServiceUnavailable)\()"([^"]+)\""""
)
PACKAGE = STATIC.parents[2]
WITH_WORDS = sorted(path for path in STATIC.rglob("*.js") if "words({" in path.read_text(encoding="utf-8"))


def pairs(text: str) -> dict[str, str]:
    """Keys and texts of the inside of a JavaScript object."""
    return {quoted or plain: said for quoted, plain, said in _PAIR.findall(text)}


def texts(path: Path) -> tuple[dict[str, str], dict[str, str]]:
    """What a file says, in English and in Chinese."""
    found = _TEXTS.search(path.read_text(encoding="utf-8").replace("words({ en: {", "words({\n  en: {"))
    assert found is not None, f"{path.name}: its words are not in the usual form"
    return pairs(found["en"]), pairs(found["zh"])


@pytest.mark.parametrize(
    "path", [path for path in WITH_WORDS if path.name not in ("words.js", "api.js")], ids=lambda path: path.stem
)
def test_whatever_is_said_is_said_in_both_languages(path: Path) -> None:
    english, chinese = texts(path)

    assert english.keys() == chinese.keys()
    for key, text in english.items():
        assert set(re.findall(r"\{\w+\}", text)) == set(re.findall(r"\{\w+\}", chinese[key])), key


def test_every_setting_has_a_chinese_name() -> None:
    names = (STATIC / "fieldwords.js").read_text(encoding="utf-8").partition("\n  zh: {")[2]
    known = pairs(names).keys()
    loaded = load(environ={})

    def keys(fields: Sequence[Mapping[str, Any]]) -> Iterator[str]:
        for field in fields:
            yield field["path"][-1]
            yield from keys(field["fields"])

    nameless = {key for group in GROUPS for key in keys(group_form(loaded, group)["fields"])} - known
    assert not nameless


def test_every_change_in_the_audit_log_can_be_read_in_chinese() -> None:
    sources = (path.read_text(encoding="utf-8") for path in STATIC.parent.glob("*.py"))
    noted = {what for source in sources for what in _NOTED.findall(source)}
    assert len(noted) > 15
    told = pairs((STATIC / "pages" / "settings-trail.js").read_text(encoding="utf-8").partition("const ZH = {")[2])

    assert noted <= told.keys()


def test_every_kind_of_provider_can_be_chosen() -> None:
    source = (STATIC / "pages" / "settings.js").read_text(encoding="utf-8")
    shown = re.findall(r'"(\w+)"', source.partition("const ORDER = [")[2].partition("]")[0])
    english, _ = texts(STATIC / "pages" / "settings.js")

    assert set(shown) == SECTIONS.keys()
    assert {*SECTIONS, *(f"{kind}Hint" for kind in SECTIONS)} <= english.keys()


def test_refusals_in_chinese_are_those_that_the_server_gives() -> None:
    told = pairs((STATIC / "refusals.js").read_text(encoding="utf-8").partition("const ZH = {")[2].partition("\n};")[0])
    sources = [path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")]
    code = re.sub(r"\{[^{}]*\}", "{}", "\n".join(sources))
    joined = re.sub(r'"\n\s*f?"', "", code)

    assert [said for said in told if said not in joined] == []
    assert all(said.count("{}") == chinese.count("{}") for said, chinese in told.items())
    pages = [path.read_text(encoding="utf-8") for path in STATIC.parent.glob("*.py") if path.name != "pages.py"]
    given = {found for source in pages for found in _REFUSED.findall(source)}
    assert len(given) > 10
    assert given <= told.keys()
