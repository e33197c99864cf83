"""No provider without a suite: whatever type lies in `xiaozhi/providers/<kind>/` is tested against its kind's
contract."""

from __future__ import annotations

import importlib
import pkgutil

import pytest

import tests.contract
from tests.contract.suites import ProviderContract
from xiaozhi.providers.registry import known_types

KINDS = ("asr", "llm", "tts", "vllm", "memory", "voiceprint")
"""Kinds that have a contract suite."""


def _covered() -> set[tuple[str, str]]:
    for module in pkgutil.iter_modules(tests.contract.__path__):
        if module.name.startswith("test_"):
            importlib.import_module(f"tests.contract.{module.name}")
    covered = set()
    waiting = [ProviderContract]
    while waiting:
        suite = waiting.pop()
        waiting += suite.__subclasses__()
        if suite.__name__.startswith("Test"):
            covered.add((suite.kind, suite.type_name))
    return covered


@pytest.mark.parametrize("kind", KINDS)
def test_every_provider_has_a_contract_test(kind: str) -> None:
    without = [type_name for type_name in known_types(kind) if (kind, type_name) not in _covered()]
    assert not without, (
        f"{kind} providers without a suite in tests/contract/: {', '.join(without)} (docs/providers.md shows how)"
    )
