"""Vosk: its folder, its sentences, its errors. No package that tests could use has a model (the one on the registry, of
Korean, is 87 MB), and none can be made here: hearing is tested against a stand-in (tests/fakes/model_libraries.py),
refusing with the real library."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loadtest.vendors.sounds import hum
from tests.contract.suites import CONTEXT
from tests.fakes.model_libraries import VoskModel, a_vosk_model, stand_in_vosk
from tests.waiting import wait_for
from xiaozhi.errors import SettingsError
from xiaozhi.providers.contracts.provider import Services
from xiaozhi.providers.registry import build, validate
from xiaozhi.runtime.inference import InferencePool

SPEECH = hum(1.5, 16_000)


@pytest.fixture
def services() -> Iterator[Services]:
    """With a pool of two threads."""
    pool = InferencePool(workers=2)
    yield Services(inference=pool)
    pool.close()


def ears(folder: Path, services: Services, **more: Any) -> Any:
    """A recogniser, warmed up."""
    found = build("asr", "VoskASR", {"type": "vosk", "model_path": str(folder), **more}, services)
    found.warm_up()
    return found


def test_partial_text_and_sentences_that_it_ends_by_itself(
    services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in_vosk(monkeypatch)
    asr = ears(a_vosk_model(tmp_path), services)
    stream = asr.open(CONTEXT)

    stream.feed(SPEECH)
    wait_for(lambda: stream.partial == "你好")
    stream.feed(SPEECH)  # two seconds are over: the first sentence ends
    wait_for(lambda: stream.partial == "你好")
    stream.feed(SPEECH[:24_000])

    assert stream.finish().text == "你好你好"
    asr.close()


def test_nothing_but_silence(services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in_vosk(monkeypatch)
    asr = ears(a_vosk_model(tmp_path), services)
    stream = asr.open(CONTEXT)
    stream.feed(bytes(64_000))

    assert stream.finish().text == ""
    asr.close()


def test_one_model_for_two_blocks(services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in_vosk(monkeypatch)
    folder = a_vosk_model(tmp_path)

    first, second = ears(folder, services), ears(folder, services, timeout=3)

    assert VoskModel.loaded == 1
    first.close()
    second.close()


@pytest.mark.parametrize("path", ["models/vosk-model-small-en-us-0.15", "", "models/other"])
def test_a_missing_model_names_the_command(path: str) -> None:
    wanted = {
        "models/vosk-model-small-en-us-0.15": "server.py models fetch vosk-small-en",
        "": ".venv/bin/python server.py models fetch vosk-small-cn",
        "models/other": "models fetch vosk-small-cn --into models/other",
    }

    with pytest.raises(SettingsError) as caught:
        validate("asr", "VoskASR", {"type": "vosk", "model_path": path, "output_dir": "tmp/"})

    assert f"ASR.VoskASR.model_path: '{path}' - a folder with am/final.mdl" in str(caught.value)
    assert str(caught.value).endswith(wanted[path])


def test_a_missing_package_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)

    with pytest.raises(SettingsError) as caught:
        validate("asr", "VoskASR", {"type": "vosk", "model_path": str(a_vosk_model(tmp_path))})

    assert "the package vosk installed:  make setup WITH=vosk" in str(caught.value)


def test_a_folder_that_the_real_library_refuses(services: Services, tmp_path: Path) -> None:
    """It has the names of a model and none of its content."""
    folder = a_vosk_model(tmp_path)
    (folder / "conf/model.conf").unlink()

    with pytest.raises(SettingsError, match=r"ASR\.VoskASR\.model_path: .* a model that Vosk can use"):
        ears(folder, services)
