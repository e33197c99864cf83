"""Vendors are asked once; who fails is told, with the reason, until it answers; `server.py check` is a table of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from loadtest.vendors.http_vendor import Script
from loadtest.vendors.openai_vendor import ASR, CHAT, TTS, OpenAiVendor
from tests.e2e.stage import base_settings, merged
from tests.waiting import wait_for
from xiaozhi.app.main import main
from xiaozhi.app.providers_table import markdown_rows
from xiaozhi.app.vendor_health import VendorHealth, try_vendors
from xiaozhi.providers import registry
from xiaozhi.providers.pool import LeasedProviders, ProviderPool
from xiaozhi.runtime.inference import InferencePool
from xiaozhi.runtime.resilience import CallReport
from xiaozhi.settings import Loaded, load

KEY = "test-key"


@pytest.fixture
def vendor() -> Iterator[OpenAiVendor]:
    with OpenAiVendor(api_key=KEY) as opened:
        yield opened


@pytest.fixture
def pool() -> Iterator[ProviderPool]:
    inference = InferencePool(1)
    inference.start()
    opened = ProviderPool(inference, lambda report: None)
    yield opened
    opened.close()
    inference.close()


def configuration(vendor: OpenAiVendor, directory: Path, **changes: Any) -> dict[str, Any]:
    eyes = {"type": "openai", "api_key": KEY, "base_url": vendor.base_url, "model_name": "m"}
    own = {"VLLM": {"Eyes": eyes}, "selected_module": {"VLLM": "Eyes"}, "VAD": {"Ears": {"type": "silero"}}}
    return merged(merged(base_settings(vendor, directory), own), changes)


def read(settings: dict[str, Any]) -> Loaded:
    return load(environ={}, overrides=settings)


def report(vendor: str, outcome: str) -> CallReport:
    return CallReport(vendor, outcome, 0, None, 0, 0)


def test_every_kind_of_vendor_is_asked_once(vendor: OpenAiVendor, pool: ProviderPool, tmp_path: Path) -> None:
    verdicts = {verdict.block: verdict.state for verdict in try_vendors(read(configuration(vendor, tmp_path)), pool)}

    assert verdicts == {
        "VAD.Ears": "local",
        "ASR.Vendor": "ok",
        "LLM.Vendor": "ok",
        "VLLM.Eyes": "ok",
        "TTS.Vendor": "ok",
        "Memory.nomem": "local",
        "Intent.function_call": "local",
    }
    assert vendor.counts == {ASR: 1, TTS: 1, CHAT: 2}
    assert vendor.refusals == []


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (Script(status=401, error="no"), "401, the key in api_key was refused"),
        (Script(status=404, error="model m does not exist"), "see base_url and model_name"),
        (Script(garbage="html"), "is base_url the address of this kind of service?"),
    ],
)
def test_what_fails_is_told_with_its_remedy(
    script: Script, words: str, vendor: OpenAiVendor, pool: ProviderPool, tmp_path: Path
) -> None:
    vendor.stand(CHAT, script)
    loaded = read(configuration(vendor, tmp_path, selected_module={"VLLM": ""}))

    (failed,) = [verdict for verdict in try_vendors(loaded, pool) if verdict.failed]

    assert failed.block == "LLM.Vendor"
    assert words in failed.found
    assert f"it was asked at {vendor.base_url}/chat/completions" in failed.found
    assert words in failed.shown
    assert "127.0.0.1" not in failed.shown
    assert KEY not in failed.found


def test_a_limitation_is_found_at_once(vendor: OpenAiVendor, pool: ProviderPool, tmp_path: Path) -> None:
    vendor.script(CHAT, Script(status=400, error="this model does not support tools"))
    loaded = read(configuration(vendor, tmp_path, selected_module={"VLLM": ""}))

    found = {verdict.block: verdict.limitations for verdict in try_vendors(loaded, pool)}

    assert found["LLM.Vendor"] == ("tools",)


def test_a_vendor_fails_until_it_answers(vendor: OpenAiVendor, pool: ProviderPool, tmp_path: Path) -> None:
    settings = configuration(vendor, tmp_path, monitoring={"probe_at_start": True}, selected_module={"VLLM": ""})
    loaded = read(settings)
    leased = LeasedProviders(pool, loaded)
    leased.selected("llm")
    health = VendorHealth(lambda: pool.guards)
    vendor.stand(TTS, Script(status=401, error="no"))
    leased.selected("tts")

    with capture_logs() as lines:
        health.probe_soon(loaded, pool)
        wait_for(lambda: health.failing, "the verdict")
    health.called(report("TTS.Vendor", "rejected"))

    assert health.failing == ["TTS.Vendor: 401, the key in api_key was refused"]
    (line,) = [line for line in lines if line["event"] == "vendor does not answer"]
    assert line["vendor"] == "TTS.Vendor"
    assert line["error"].startswith("401, the key in api_key was refused; it was asked at ")
    health.called(report("TTS.Vendor", "ok"))
    assert health.failing == []
    health.close()
    leased.release()


def test_an_open_breaker_is_a_failure(vendor: OpenAiVendor, pool: ProviderPool, tmp_path: Path) -> None:
    leased = LeasedProviders(pool, read(configuration(vendor, tmp_path)))
    leased.selected("llm")
    health = VendorHealth(lambda: pool.guards)
    (guard,) = pool.guards
    assert guard.breaker is not None
    assert health.failing == []

    for _ in range(6):
        guard.breaker.record(guard.breaker.admit(), False)

    assert health.failing == ["LLM.Vendor: it has failed too often and is not asked for a while"]
    leased.release()


def test_nobody_is_asked_where_that_is_off(vendor: OpenAiVendor, pool: ProviderPool, tmp_path: Path) -> None:
    health = VendorHealth(lambda: pool.guards)

    health.probe_soon(read(configuration(vendor, tmp_path)), pool)
    health.close()

    assert vendor.counts == {}


def check(settings: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    file = tmp_path / "settings.yaml"
    file.write_text(json.dumps(settings), encoding="utf-8")  # JSON is YAML
    code = main(["check", "--config", str(file)])
    return code, " ".join(capsys.readouterr().out.split())


def test_the_command_shows_a_table(vendor: OpenAiVendor, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = check(configuration(vendor, tmp_path), tmp_path, capsys)

    assert code == 0
    assert "LLM │ Vendor │ ok │" in said
    assert "4 of 4 vendors answer." in said
    assert "From the last word to the first sound: about" in said


def test_a_recogniser_that_hears_something_else_is_told(
    vendor: OpenAiVendor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vendor.heard = "open the pod bay doors"

    code, said = check(configuration(vendor, tmp_path), tmp_path, capsys)

    assert code == 0
    assert "it understood 'open the pod bay doors'" in said


def test_a_voice_is_heard_by_the_recogniser(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = check({"log": {"data_dir": str(tmp_path)}}, tmp_path, capsys)

    assert code == 0
    assert "No vendor is configured: everything works on this machine." in said
    assert "it understood" not in said


def test_a_vendor_that_fails_when_it_is_measured_has_failed(
    vendor: OpenAiVendor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vendor.script(TTS, Script(), Script(status=401, error="no"))

    code, said = check(configuration(vendor, tmp_path), tmp_path, capsys)

    assert code == 1
    assert "TTS │ Vendor │ FAILED │" in said


def test_all_types_are_listed_without_a_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["providers", "--config", "/does/not/exist.yaml"]) == 0

    said = capsys.readouterr().out
    for kind in registry.KINDS:
        for name in registry.known_types(kind):
            assert name in said


def test_the_documentation_lists_the_same_types() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "providers.md").read_text(encoding="utf-8")

    missing = [row for row in markdown_rows() if row not in text]  # behind each stands what was measured

    assert missing == []


def test_the_command_fails_when_a_vendor_in_use_does(
    vendor: OpenAiVendor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = {"ASR": {"Vendor": {"api_key": "a-wrong-key"}}}
    code, said = check(configuration(vendor, tmp_path, **wrong), tmp_path, capsys)

    assert code == 1
    assert "ASR │ Vendor │ FAILED │" in said
    assert "the key in api_key was refused" in said
    assert "a-wrong-key" not in said
    assert "3 of 4 vendors answer." in said


def test_blocks_that_wait_for_their_day_are_tried_and_may_fail(
    vendor: OpenAiVendor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spare = {"type": "openai", "api_key": "a-wrong-key", "base_url": vendor.base_url, "model_name": "m"}
    code, said = check(configuration(vendor, tmp_path, LLM={"Spare": spare}), tmp_path, capsys)

    assert code == 0
    assert "LLM │ Spare │ FAILED │" in said
    assert "not in use; 401, the key" in said
