"""`server.py providers`: every kind and type of provider that ships, how it works and which options its block may have.

Made of the classes themselves, so that it cannot be out of date; docs/providers.md has the same table, and a test holds
the two together."""

from __future__ import annotations

import re
import sys
import typing
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from xiaozhi.providers import registry
from xiaozhi.providers.contracts.asr import Asr, BatchAsr
from xiaozhi.providers.contracts.llm import Llm
from xiaozhi.providers.contracts.provider import Provider, ProviderOptions
from xiaozhi.providers.contracts.tts import SentenceTts, StreamingTts
from xiaozhi.settings import checks

WIDTH = 160
"""Columns where the output is no terminal."""
_FORMATS = ("format", "response_format", "audio_format", "codec")
_ADDRESS = re.compile(r"(?:https?://)?(?:[a-z0-9-]+\.)+[a-z]{2,}(?:/[\w./#?=&%+~-]*[\w/])?")
_LINKED = re.compile(r"(?:https?://|[a-z0-9-]+(?:\.[a-z0-9-]+)*\.[a-z]{2,}/)[\w./#?=&%+~-]*[\w/]")
_SOURCE = re.compile(r"\bSources?:?\s", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ProviderRow:
    """One type. `works`: how sound or text goes in and comes out. `options`: keys of its block, secret ones marked by
    "*". `source`: where its protocol is described, "" for what is our own."""

    kind: str
    type_name: str
    works: str
    formats: str
    options: str
    source: str


def provider_rows() -> list[ProviderRow]:
    """All that ship, by kind and name. Imports them; none of them loads a model by that."""
    return [_row(registry.find(kind, name)) for kind in registry.KINDS for name in registry.known_types(kind)]


def print_providers() -> int:
    """Print the table; the exit code."""
    table = Table("kind", "type", "works", "formats", "options (* secret)", "source", show_edge=False, pad_edge=False)
    for row in provider_rows():
        table.add_row(row.kind, *map(escape, (row.type_name, row.works, row.formats, row.options, row.source)))
    Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH).print(table)
    return 0


def markdown_rows() -> list[str]:
    """The table as docs/providers.md has it; `python -m tests.contract.timing` adds what it measures."""
    return [
        f"| {row.kind} | `{row.type_name}` | {row.works} | {row.formats} | {row.options} | {row.source} |"
        for row in provider_rows()
    ]


def _row(registered: registry.Registration) -> ProviderRow:
    secrets = set(registry.secrets_of(registered))
    options = [
        f"{checks.usual_spelling(name, field)}{'*' if name in secrets else ''}"
        for name, field in registered.options.model_fields.items()
        if name not in ProviderOptions.model_fields
    ]
    return ProviderRow(
        registered.kind,
        registered.type_name,
        how_it_works(registered.cls),
        _formats(registered.options),
        ", ".join(options),
        _source(registered.cls),
    )


def how_it_works(cls: type[Provider]) -> str:
    """How sound or text goes in and comes out, in a few words."""
    if issubclass(cls, BatchAsr):
        return "whole utterance"
    if issubclass(cls, Asr):
        return "while somebody speaks" if cls.traits.streaming else "whole utterance"
    if issubclass(cls, SentenceTts):
        return "sentence in, sound streams out"
    if issubclass(cls, StreamingTts):
        return "text and sound stream"
    if issubclass(cls, Llm):
        return "streams" + ("" if cls.traits.calls_tools else ", no tools")
    return ""


def _formats(options: type[ProviderOptions]) -> str:
    hints = typing.get_type_hints(options)
    for name in _FORMATS:
        values = _literals(hints.get(name))
        if values:
            return ", ".join(map(str, values))
    return ""


def _literals(hint: Any) -> tuple[Any, ...]:
    if get_origin(hint) is Literal:
        return get_args(hint)
    return next((values for part in get_args(hint) if (values := _literals(part))), ())


def _source(cls: type[Provider]) -> str:
    """The first address behind the word "Source" in the description of the module, or else the first link in it."""
    said = sys.modules[cls.__module__].__doc__ or ""
    found = _SOURCE.search(said)
    address = _ADDRESS.search(said, found.end()) if found is not None else _LINKED.search(said)
    return address.group().removeprefix("https://") if address is not None else ""
