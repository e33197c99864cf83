"""A provider that lives outside this tree works by `type: "package.module:Class"`, options and all."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.fakes.inference import InlineInference
from xiaozhi.chat import CallContext
from xiaozhi.errors import SettingsError
from xiaozhi.providers.contracts.provider import Services
from xiaozhi.providers.registry import build, validate
from xiaozhi.providers.scaffold import scaffold


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package of somebody else's on the Python path; its module's name."""
    provider, _ = scaffold("vllm", "elsewhere", tmp_path)
    package = tmp_path / "somebody_elses"
    package.mkdir()
    (package / "__init__.py").touch()
    provider.rename(package / "eyes.py")
    monkeypatch.syspath_prepend(tmp_path)
    yield "somebody_elses.eyes"
    for name in ("somebody_elses.eyes", "somebody_elses"):
        sys.modules.pop(name, None)


def test_it_is_loaded_validated_and_used(outside: str) -> None:
    services = Services(inference=InlineInference())  # type: ignore[arg-type]
    eyes = build(
        "vllm", "Mine", {"type": f"{outside}:ElsewhereVllm", "url": "http://127.0.0.1:9/", "api_key": "k"}, services
    )
    assert (eyes.name, eyes.kind, eyes.type_name) == ("Mine", "vllm", "elsewhere")
    with pytest.raises(Exception, match="elsewhere"):
        eyes.describe("?", b"", "image/png", CallContext())
    eyes.close()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("{}:ElsewhereVllm", "url"),
        ("{}:ElsewhereVllmOptions", "decorated"),
        ("{}:Nobody", "importable"),
        ("no.such.package:Thing", "importable"),
    ],
)
def test_what_is_wrong_is_said(outside: str, path: str, expected: str) -> None:
    with pytest.raises(SettingsError, match=expected):
        validate("vllm", "Mine", {"type": path.format(outside)})
