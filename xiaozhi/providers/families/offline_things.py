"""Things in the house by name: which tool on offer, or thing of Home Assistant, is meant by "the living room light".

A name is understood as kinds of things and rooms that the phrase file lists (`things`: lamp, light, 灯 ...), whatever
the language of the device, and the rest of it literally. What a tool is for is read out of its name and description."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from xiaozhi.chat import ToolSpec
from xiaozhi.providers.families.offline_file import Deed, WordLists
from xiaozhi.providers.families.offline_sounds import SyllableSounds

HOUSE_TOOL: Final = "hass_set_state"
MAX_DESCRIPTION: Final = 300
MAX_LINES: Final = 400
_WORDS: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")
_HAN_RUN: Final = re.compile(r"[㐀-鿿]+")
_ENTITY_LINE: Final = re.compile(r"([^,，\n]*)[,，]([^,，\n]+)[,，] ?([a-z_]+\.[a-z0-9_]+) *")
_SWITCHING: Final = frozenset({"set", "switch", "power", "control"})
_NO_LABEL: Final = _SWITCHING | {"self"}
_EMPTY: Final = frozenset(["a", "an", "the", "my", "all", "in", "of", "on"]) | frozenset("的里")


@dataclass(frozen=True, slots=True)
class Named:
    """A name in parts: kinds of things and rooms, other words, other Chinese characters."""

    kinds: frozenset[str]
    words: frozenset[str]
    han: str


@dataclass(frozen=True, slots=True)
class Thing:
    """Something that can be done what was asked: the call, what it is called, and how it is described."""

    label: str
    about: str
    tool: str
    arguments: Mapping[str, Any]


class ThingNames:
    """The names of a phrase file. Immutable."""

    def __init__(self, things: Mapping[str, WordLists]) -> None:
        self._english = sorted(
            ((tuple(word.split()), kind) for kind, lists in things.items() for word in lists.en),
            key=lambda one: -len(one[0]),
        )
        self._chinese = sorted(
            ((word, kind) for kind, lists in things.items() for word in lists.zh), key=lambda one: -len(one[0])
        )

    def known(self, name: str, table: SyllableSounds | None) -> bool:
        """Whether it is a thing of the list, if not one that is here."""
        parts = self._parts(name, table)
        return bool(parts.kinds) and not parts.words and not parts.han

    def find(
        self, name: str, deed: Deed, tools: Sequence[ToolSpec], told: str, table: SyllableSounds | None
    ) -> list[Thing]:
        """What `name` may mean, the best fits only. `told`: the system prompt, which lists the things of Home
        Assistant. `table`: Chinese is then compared by sound where it is not written so."""
        for sound in dict.fromkeys((None, table)):
            wanted = self._parts(name, sound)
            if not (wanted.kinds or wanted.words or wanted.han):
                continue
            fits = [
                (len(wanted.kinds & offered.kinds) - len(offered.kinds - wanted.kinds) / 10, thing)
                for thing, offered in self._offered(deed, tools, told)
                if _fits(wanted, offered, thing.label, sound)
            ]
            if fits:
                literal = [one for one in fits if _is_called(one[1], name)] or fits
                best = max(fit for fit, _ in literal)
                return [thing for fit, thing in literal if fit == best]
        return []

    def _offered(self, deed: Deed, tools: Sequence[ToolSpec], told: str) -> Iterator[tuple[Thing, Named]]:
        action = {word for end in deed.name for word in _split(end)}
        for spec in tools:
            if spec.name == HOUSE_TOOL:
                if deed.house:
                    yield from self._in_house(deed.house, told)
                continue
            words = [word.lower() for word in _WORDS.findall(spec.name)]
            arguments = _switching(spec, words, deed)
            about = spec.description[:MAX_DESCRIPTION]
            if arguments is not None:
                text = " ".join((*words, *_WORDS.findall(about.lower()), "".join(_HAN_RUN.findall(about))))
                label = " ".join(word for word in words if word not in _NO_LABEL and word not in action)
                yield Thing(label, about, spec.name, arguments), self._parts(text, None)

    def _in_house(self, action: str, told: str) -> Iterator[tuple[Thing, Named]]:
        for place, name, entity in _ENTITY_LINE.findall(told)[:MAX_LINES]:
            label = f"{place.strip()}{' ' if name.isascii() else ''}{name.strip()}".strip()
            arguments = {"entity_id": entity, "state": {"type": action}}
            yield Thing(label, label, HOUSE_TOOL, arguments), self._parts(label.lower(), None)

    def _parts(self, name: str, table: SyllableSounds | None) -> Named:
        kinds: set[str] = set()
        words = [word for word in re.findall(r"[a-z0-9]+", name.lower()) if word not in _EMPTY]
        for many, kind in self._english:
            size = len(many)
            for at in range(len(words) - size, -1, -1):
                if tuple(words[at : at + size]) == many:
                    kinds.add(kind)
                    del words[at : at + size]
        han = "".join(char for char in "".join(_HAN_RUN.findall(name)) if char not in _EMPTY)
        for word, kind in self._chinese:
            at = _place_of(word, han, table)
            if at >= 0:
                kinds.add(kind)
                han = han[:at] + han[at + len(word) :]
        if table is not None and kinds and han == name[:1]:
            han = ""  # 把, as something else
        return Named(frozenset(kinds), frozenset(words), han)


def _is_called(thing: Thing, name: str) -> bool:
    """Whether it has just this name, or a description with this Chinese name in it."""
    plain = name.replace("的", "")
    return thing.label.lower() == plain or (len(plain) > 1 and not plain.isascii() and plain in thing.about)


def _place_of(word: str, text: str, table: SyllableSounds | None) -> int:
    """Where `word` stands in `text`, as it sounds if there is a table: each syllable equal, or alike by half."""
    if table is None:
        return text.find(word)
    code, whole = table.code(word), table.code(text)
    for at in range(0, len(whole) - len(code) + 1, 2):
        here = whole[at : at + len(code)]
        halves = [one == other for one, other in zip(here, code, strict=True)]
        enough = all(halves) if len(word) == 1 else all(map(any, zip(halves[::2], halves[1::2], strict=True)))
        if enough:
            return at // 2
    return -1


def _fits(wanted: Named, offered: Named, label: str, table: SyllableSounds | None) -> bool:
    if not wanted.kinds <= offered.kinds or not wanted.words <= offered.words:
        return False
    if not wanted.han:
        return True
    return _place_of(wanted.han, offered.han, table) >= 0 or _place_of(wanted.han, label, table) >= 0


def _switching(spec: ToolSpec, words: list[str], deed: Deed) -> Mapping[str, Any] | None:
    """The arguments with which a tool does the deed; None when it does something else."""
    properties = spec.parameters.get("properties")
    needed = spec.parameters.get("required") or ()
    if any(words[-len(end) :] == end for end in map(_split, deed.name)) and not needed:
        return {}
    if deed.switch is None or not isinstance(properties, Mapping) or not _SWITCHING & set(words):
        return None
    flags = [
        name for name, about in properties.items() if isinstance(about, Mapping) and about.get("type") == "boolean"
    ]
    others: Iterable[str] = set(needed) - set(flags)
    return {flags[0]: deed.switch} if len(flags) == 1 and not others else None


def _split(name: str) -> list[str]:
    return [word.lower() for word in _WORDS.findall(name)]
