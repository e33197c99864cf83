"""`type: fun_local`: what its folder holds decides how it is run, and what is missing is said with the way that costs
least. FunASR itself (PyTorch, gigabytes) is stood in for (tests/fakes/model_libraries.py)."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest

from loadtest.vendors.sounds import hum
from tests.contract.suites import CONTEXT
from tests.fakes import tiny_models
from tests.fakes.model_libraries import FunAsrModel, a_sense_voice_small, stand_in_funasr
from xiaozhi.errors import SettingsError
from xiaozhi.providers.contracts.provider import Services
from xiaozhi.providers.registry import build, ignored, validate
from xiaozhi.runtime.inference import InferencePool

SPEECH = hum(1.5, 16_000)
BLOCK = {"type": "fun_local", "model_dir": "models/SenseVoiceSmall", "output_dir": "tmp/"}
"""As existing configurations have it."""


@pytest.fixture
def services() -> Iterator[Services]:
    """With a pool of three threads, of which two may run recognisers."""
    pool = InferencePool(workers=3)
    yield Services(inference=pool)
    pool.close()


def ears(folder: Path, services: Services, **more: Any) -> Any:
    """A recogniser, warmed up."""
    found = build("asr", "FunASR", {**BLOCK, "model_dir": str(folder), **more}, services)
    found.warm_up()
    return found


def faults(folder: Path) -> str:
    """What a check of the configuration says."""
    with pytest.raises(SettingsError) as caught:
        validate("asr", "FunASR", {**BLOCK, "model_dir": str(folder)})
    return str(caught.value)


def without(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    """These packages are not installed."""
    found_before = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name in packages else found_before(name, *rest)
    )


def test_model_pt_is_run_by_funasr(services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in_funasr(monkeypatch)
    asr = ears(a_sense_voice_small(tmp_path), services)

    heard = asr.transcribe(SPEECH, CONTEXT)

    assert (heard.text, heard.language, heard.emotion) == ("你好。", "zh", "happy")
    assert asr.transcribe(b"\0" * 1_000, CONTEXT).text == "", "too short to be anything"
    assert FunAsrModel.made[0]["model"] == str(tmp_path) and FunAsrModel.languages == ["auto"]
    asr.close()


def test_an_onnx_file_beside_it_is_preferred(
    services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in_funasr(monkeypatch)
    a_sense_voice_small(tmp_path)
    asr = ears(tiny_models.sense_voice(tmp_path), services, language="en")

    heard = asr.transcribe(SPEECH, CONTEXT)

    assert (heard.text, heard.language) == ("你好", "en")
    assert FunAsrModel.made == []
    asr.close()


def test_one_model_for_all_and_one_utterance_at_a_time(
    services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in_funasr(monkeypatch)
    folder = a_sense_voice_small(tmp_path)
    first, second = ears(folder, services), ears(folder, services, language="en")

    users = [gevent.spawn(asr.transcribe, SPEECH, CONTEXT) for asr in (first, second) * 4]
    gevent.joinall(users, timeout=20, raise_error=True)

    assert len(FunAsrModel.made) == 1 and set(FunAsrModel.languages) == {"auto", "en"}
    first.close()
    second.close()


def test_an_empty_folder_offers_the_light_way_and_the_usual_one(tmp_path: Path) -> None:
    said = faults(tmp_path / "SenseVoiceSmall")

    assert f"models fetch sense-voice-int8 --into {tmp_path / 'SenseVoiceSmall'}" in said
    assert f"models fetch sense-voice-small --into {tmp_path / 'SenseVoiceSmall'}" in said


def test_model_pt_without_funasr_names_both_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "funasr")

    said = faults(a_sense_voice_small(tmp_path))

    assert "the package funasr installed:  make setup WITH=funasr" in said
    assert "make setup WITH=sherpa" in said and f"sense-voice-int8 --into {tmp_path}" in said


def test_model_pt_alone_lacks_what_lay_beside_it(tmp_path: Path) -> None:
    """A container has only model.pt mounted; the rest came with the existing server's image."""
    a_sense_voice_small(tmp_path)
    (tmp_path / "am.mvn").unlink()
    (tmp_path / "config.yaml").unlink()

    said = faults(tmp_path)

    assert "a folder with config.yaml, am.mvn beside model.pt" in said and "models fetch sense-voice-small" in said


def test_an_onnx_file_without_its_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "sherpa_onnx")

    assert "make setup WITH=sherpa" in faults(tiny_models.sense_voice(tmp_path))


def test_a_model_that_funasr_cannot_use(services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in_funasr(monkeypatch)
    (a_sense_voice_small(tmp_path) / "config.yaml").write_bytes(b"broken")

    with pytest.raises(SettingsError, match=r"ASR\.FunASR\.model_dir: .*FunASR can use \(model is not registered\)"):
        ears(tmp_path, services)


def test_the_block_of_an_existing_configuration_needs_no_change(tmp_path: Path) -> None:
    tiny_models.sense_voice(tmp_path)
    block = {**BLOCK, "model_dir": str(tmp_path)}

    assert validate("asr", "FunASR", block).language == "auto"
    assert ["output_dir" in warning for warning in ignored("asr", "FunASR", block)] == [True]
