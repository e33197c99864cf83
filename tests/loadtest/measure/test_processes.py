"""The configuration a measured server gets is one this server takes, whichever way it is started."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml

from loadtest import ROOT
from loadtest.measure import processes
from loadtest.measure.certificates import Certificate, certificate
from loadtest.measure.processes import Setup, StartError, Vendors
from xiaozhi.settings import load


def loaded(setup: Setup, tmp_path: Path) -> object:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(processes.configuration(setup, tmp_path)))
    environment = {
        name: value
        for name, value in processes.server_environment("http://127.0.0.1:1/v1").items()
        if name.startswith("XIAOZHI_")
    }
    return load(path, environ=environment)


def test_without_a_profile_every_door_is_open(tmp_path: Path) -> None:
    found = loaded(Setup(), tmp_path)
    settings = found.settings  # type: ignore[attr-defined]

    assert found.warnings == []  # type: ignore[attr-defined]
    assert settings.server.max_connections >= 10_000
    assert settings.server.limits.handshakes_per_second == 0
    assert settings.close_connection_no_voice_time == 0
    assert settings.block("vad", "SileroVAD")["min_silence_duration_ms"] == 200
    assert settings.block("tts", settings.selected_module.TTS)["voice"] == "anna"
    assert not settings.server.reuse_port


def test_the_mqtt_port_is_opened_where_it_is_wanted(tmp_path: Path) -> None:
    closed = loaded(Setup(), tmp_path).settings  # type: ignore[attr-defined]
    opened = loaded(Setup(mqtt=True, tls=""), tmp_path).settings  # type: ignore[attr-defined]

    assert not closed.mqtt.port
    assert opened.mqtt.port and not opened.mqtt.encrypted(server_tls=True)
    assert opened.mqtt.max_connections >= 10_000
    assert opened.server.limits.ota_per_minute == 0, "all devices have one address"
    assert opened.server.limits.handshakes_per_second == 0


@pytest.mark.parametrize("profile,places", [("low", 50), ("mid", 150), ("high", 300)])
def test_a_profile_keeps_its_own_limits(profile: str, places: int, tmp_path: Path) -> None:
    settings = loaded(Setup(profile=profile, workers=2), tmp_path).settings  # type: ignore[attr-defined]

    assert settings.server.max_connections == places
    assert settings.server.reuse_port


def test_the_sound_format_and_an_overlay_are_laid_over(tmp_path: Path) -> None:
    setup = Setup(tts_format="opus", overlay={"server": {"max_connections": 7}, "conversation": {"speculative": "llm"}})
    settings = loaded(setup, tmp_path).settings  # type: ignore[attr-defined]

    assert settings.block("tts", settings.selected_module.TTS)["response_format"] == "opus"
    assert (settings.server.max_connections, settings.conversation.speculative) == (7, "llm")


@pytest.mark.parametrize(
    ("tls", "vendors", "server"),
    [("", False, False), ("vendors", True, False), ("server", False, True), ("both", True, True)],
)
def test_who_is_asked_over_tls(
    tls: str, vendors: bool, server: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Certificate(tmp_path / "cert.pem", tmp_path / "key.pem")
    for file in (made.certfile, made.keyfile):
        file.touch()
    monkeypatch.setattr(processes, "certificate", lambda: made)
    setup = Setup(tls=tls)

    assert (setup.vendors_over_tls, setup.server_over_tls) == (vendors, server)
    shown = processes.configuration(setup, tmp_path)["server"].get("tls")
    assert shown == ({"certfile": str(made.certfile), "keyfile": str(made.keyfile)} if server else None)


def test_without_openssl_there_is_no_tls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    certificate.cache_clear()

    with pytest.raises(StartError, match="openssl"), processes.vendors_running(Vendors(), tls=True):
        pass


def test_nothing_of_the_callers_environment_reaches_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XIAOZHI__SERVER__PORT", "1")

    assert "XIAOZHI__SERVER__PORT" not in processes.server_environment("http://x")


def test_another_tree_runs_with_its_own_packages_where_it_has_some(tmp_path: Path) -> None:
    assert processes.python_of(ROOT) == processes.python_of(tmp_path) == sys.executable

    own = tmp_path / ".venv/bin/python"
    own.parent.mkdir(parents=True)
    own.touch()

    assert processes.python_of(tmp_path) == str(own)


def test_vendors_that_cannot_start_are_told_with_their_last_words():
    with pytest.raises(StartError, match="--asr-ms"), processes.vendors_running(Vendors(asr_ms="soon")):  # type: ignore[arg-type]
        pass
