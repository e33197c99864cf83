"""`python -m tests.contract.timing`: the table of docs/providers.md, with the time each provider takes to its first
result against its loopback vendor, which answers at once: what the provider itself costs, connection included.

Not a test, and not a promise about vendors: `server.py providers check` measures those."""

# ruff: noqa: E402
from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import importlib
import pkgutil
import statistics
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import closing
from typing import Any

from tests import contract
from tests.contract.suites import CONTEXT, SENTENCES, SPEECH, ProviderContract, pieces
from xiaozhi.app.providers_table import markdown_rows, provider_rows
from xiaozhi.chat import Message
from xiaozhi.errors import SettingsError
from xiaozhi.providers.contracts.tts import OpusPackets, Pcm
from xiaozhi.providers.wrappers import open_speech

ROUNDS = 20


def suites() -> Iterator[type[ProviderContract]]:
    """Every suite of the tree, one per kind and type."""
    for module in pkgutil.iter_modules(contract.__path__):
        if module.name.startswith("test_"):
            importlib.import_module(f"{contract.__name__}.{module.name}")
    waiting = list(ProviderContract.__subclasses__())
    seen = set()
    while waiting:
        suite = waiting.pop(0)
        waiting += suite.__subclasses__()
        if suite.__name__.startswith("Test") and (name := (suite.kind, suite.type_name)) not in seen:
            seen.add(name)
            yield suite


def first_result_ms(suite: type[ProviderContract]) -> float | None:
    """The median of ROUNDS, or None for kinds without a first result."""
    if suite.kind not in ("asr", "llm", "tts"):
        return None
    it = suite()  # type: ignore[abstract]
    taken = []
    with it.subject() as subject:
        subject.provider.warm_up()
        for _ in range(ROUNDS):
            taken.append(_first(suite.kind, subject.provider))
        subject.provider.close()
    return statistics.median(taken)


def _first(kind: str, provider: Any) -> float:
    if kind == "asr":
        with closing(provider.open(CONTEXT)) as utterance:
            for piece in pieces(SPEECH, 1920):
                utterance.feed(piece)
            ended = time.perf_counter()
            utterance.finish()
            return (time.perf_counter() - ended) * 1000
    began = time.perf_counter()
    if kind == "llm":
        answer = provider.chat([Message("user", "what time is it")], [], CONTEXT)
        next(answer)
        first = time.perf_counter() - began
        deque(answer, maxlen=0)  # a vendor may mind when nobody listens to its end
        return first * 1000
    with closing(open_speech(provider, CONTEXT)) as speech:
        speech.say(SENTENCES[0])
        speech.finish()
        while not isinstance(speech.receive(10.0), Pcm | OpusPackets):
            pass
        return (time.perf_counter() - began) * 1000


def main() -> None:
    """Print the table."""
    found: dict[tuple[str, str], float | None] = {}
    for suite in suites():
        print(f"measuring {suite.kind} {suite.type_name}", file=sys.stderr)
        try:
            found[suite.kind, suite.type_name] = first_result_ms(suite)
        except SettingsError as error:  # its tests stand in for a model that no package ships
            print(f"not measured: {error}", file=sys.stderr)
    print("| kind | type | works | formats | options (* secret) | source | first, ms |")
    print("|---|---|---|---|---|---|---|")
    for row, line in zip(provider_rows(), markdown_rows(), strict=True):
        measured = found.get((row.kind, row.type_name))
        print(f"{line} {'' if measured is None else f'{measured:.1f}'} |")


if __name__ == "__main__":
    main()
