"""Layers in their order, every fault at once, files that cannot be used."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.settings.loading_faults import faults_of, only_fault
from xiaozhi.settings import load

Write = Callable[..., Path]


# --- what comes out of the box ----------------------------------------------------------------------------------------


def test_without_anything_the_offline_default_is_selected(config_dir: Path) -> None:
    loaded = load(environ={}, config_dir=config_dir)

    assert loaded.warnings == []
    assert loaded.settings.in_use() == (
        ("vad", "SileroVAD"),
        ("asr", "Offline"),
        ("llm", "Offline"),
        ("tts", "Offline"),
        ("memory", "nomem"),
        ("intent", "function_call"),
    )
    assert {kind: loaded.settings.block(kind, name)["type"] for kind, name in loaded.settings.in_use()} == {
        "vad": "silero",
        "asr": "offline",
        "llm": "offline",
        "tts": "local_neural",
        "memory": "nomem",
        "intent": "function_call",
    }
    vad = loaded.settings.block("vad", "SileroVAD")
    assert (vad["threshold"], vad["threshold_low"], vad["runtime"]) == (0.5, 0.2, "onnx")
    assert loaded.prompt_template == config_dir / "prompts" / "agent-base-prompt.txt"


# --- layers -----------------------------------------------------------------------------------------------------------


def test_every_layer_overrides_the_one_below(config_dir: Path, write: Write) -> None:
    keys = {
        "server.max_connections": [],
        "server.thread_pool.max_workers": ["profile"],
        "ai_providers.llm.max_concurrent": ["profile", "local"],
        "ai_providers.tts.max_concurrent": ["profile", "local", "first"],
        "ai_providers.asr.max_concurrent": ["profile", "local", "first", "second"],
        "server.drain_seconds": ["local", "second", "environment"],
        "server.hello_timeout": ["first", "environment", "flags"],
    }
    values = {"profile": 11, "local": 12, "first": 13, "second": 14, "environment": 15, "flags": 16}

    def tree(layer: str) -> dict[str, Any]:
        root: dict[str, Any] = {}
        for key, layers in keys.items():
            if layer in layers:
                *sections, leaf = key.split(".")
                here = root
                for section in sections:
                    here = here.setdefault(section, {})
                here[leaf] = values[layer]
        return root

    def text(layer: str) -> str:
        return json.dumps(tree(layer))  # JSON is YAML

    (config_dir / "profiles" / "mine.yaml").write_text(text("profile"))
    (config_dir / "local.yaml").write_text(text("local"))
    first, second = write(text("first"), "first.yaml"), write(text("second"), "second.yaml")
    environ = {
        "XIAOZHI__SERVER__PROFILE": "mine",
        "XIAOZHI__SERVER__DRAIN_SECONDS": "15",
        "XIAOZHI__SERVER__HELLO_TIMEOUT": "15",
    }

    loaded = load([first, second], environ=environ, overrides=tree("flags"), config_dir=config_dir)

    server, vendors = loaded.settings.server, loaded.settings.ai_providers
    assert server.max_connections == 500
    assert server.thread_pool.max_workers == 11
    assert vendors.llm.max_concurrent == 12
    assert vendors.tts.max_concurrent == 13
    assert vendors.asr.max_concurrent == 14
    assert server.drain_seconds == 15
    assert server.hello_timeout == 16
    assert [Path(source).name for source in loaded.sources[:6]] == [
        "vendors.yaml",
        "default.yaml",
        "mine.yaml",
        "local.yaml",
        "first.yaml",
        "second.yaml",
    ]
    assert loaded.sources[-1] == "the command line"


@pytest.mark.parametrize(
    "profile, connections, workers, llm, tts, asr",
    [("low", 50, 10, 3, 2, 3), ("mid", 150, 15, 6, 3, 5), ("high", 300, 20, 10, 5, 8), ("cloud", 500, 30, 15, 8, 12)],
)
def test_profiles(profile: str, connections: int, workers: int, llm: int, tts: int, asr: int, config_dir: Path) -> None:
    loaded = load(environ={}, overrides={"server": {"profile": profile}}, config_dir=config_dir)

    settings = loaded.settings
    assert loaded.warnings == []
    assert (settings.server.max_connections, settings.server.thread_pool.max_workers) == (connections, workers)
    vendors = settings.ai_providers
    assert (vendors.llm.max_concurrent, vendors.tts.max_concurrent, vendors.asr.max_concurrent) == (llm, tts, asr)
    assert vendors.asr.timeout == 20


def test_mappings_merge_and_lists_replace(config_dir: Path, write: Write) -> None:
    path = write("server: {auth: {enabled: true}}\nwakeup_words: [hallo]\nTTS: {Espeak: {voice: en-gb}}\n")

    settings = load(path, environ={}, config_dir=config_dir).settings

    assert settings.server.auth.enabled
    assert settings.server.auth.expire_seconds == 2_592_000
    assert settings.wakeup_words == ("hallo",)
    assert settings.block("tts", "Espeak") == {"type": "espeak", "voice": "en-gb"}
    assert "OpenAITTS" in settings.modules("tts")


def test_a_section_without_lines_changes_nothing(config_dir: Path, write: Write) -> None:
    path = write("server:\n  # port: 9\nLLM:\nselected_module:\n  LLM:\nwakeup_words:\n")

    assert load(path, environ={}, config_dir=config_dir).settings == load(environ={}, config_dir=config_dir).settings


def test_an_empty_file_is_a_file(config_dir: Path, write: Write) -> None:
    assert load(write("# nothing yet\n"), environ={}, config_dir=config_dir).warnings == []


def test_a_pause_in_the_selected_detector_speaks_for_the_conversation(config_dir: Path) -> None:
    overrides = {"VAD": {"SileroVAD": {"pause_ms": 180}, "Other": {"type": "silero", "pause_ms": 900}}}

    settings = load(environ={}, overrides=overrides, config_dir=config_dir).settings

    assert settings.conversation.pause_ms == 180
    assert settings.block("vad", "SileroVAD")["pause_ms"] == 180


@pytest.mark.parametrize("unset", [None, ""])
def test_a_pause_that_the_detector_leaves_open_is_the_conversations(config_dir: Path, unset: object) -> None:
    overrides = {"VAD": {"SileroVAD": {"pause_ms": unset}}, "conversation": {"pause_ms": 90}}

    assert load(environ={}, overrides=overrides, config_dir=config_dir).settings.conversation.pause_ms == 90


def test_by_default_a_pause_is_as_early_as_it_must_be(config_dir: Path) -> None:
    assert load(environ={}, config_dir=config_dir).settings.conversation.pause_ms == "auto"


def test_a_wrong_pause_is_told_also_where_the_detector_has_its_own(config_dir: Path) -> None:
    overrides = {"VAD": {"SileroVAD": {"pause_ms": 180}}, "conversation": {"pause_ms": "soon"}}

    assert "conversation.pause_ms" in faults_of(overrides=overrides, environ={}, config_dir=config_dir)


# --- files that cannot be used ----------------------------------------------------------------------------------------


def test_a_missing_file_is_named_with_the_one_that_was_meant(config_dir: Path, write: Write, tmp_path: Path) -> None:
    write("", "office.yaml")

    faults = faults_of(tmp_path / "ofice.yaml", environ={}, config_dir=config_dir)

    value, expected = faults[str(tmp_path / "ofice.yaml")]
    assert value == "no such file"
    assert str(tmp_path / "office.yaml") in expected


def test_a_directory_is_no_file(config_dir: Path, tmp_path: Path) -> None:
    assert str(tmp_path) in faults_of(tmp_path, environ={}, config_dir=config_dir)


def test_all_files_are_looked_at_before_giving_up(config_dir: Path, write: Write, tmp_path: Path) -> None:
    (config_dir / "local.yaml").write_text("server:\n\tport: 1\n")
    duplicate = write("log: {}\nlog: {}\n", "duplicate.yaml")
    missing = tmp_path / "nowhere" / "x.yaml"

    faults = faults_of([duplicate, missing], environ={"XIAOZHI_LLM_MODEL": "m"}, config_dir=config_dir)

    assert list(faults) == [
        f"{config_dir / 'local.yaml'} line 2",
        f"{duplicate} line 2",
        str(missing),
        "XIAOZHI_LLM_BASE_URL",
    ]


# --- faults -----------------------------------------------------------------------------------------------------------


def test_everything_that_is_wrong_is_told_at_once(config_dir: Path, write: Write) -> None:
    path = write(
        """
server:
  port: 70000
  websocket: http://example.org/
  timezone_offset: 99
  tls: {certfile: /does/not/exist.pem, keyfile: /does/not/exist.key}
log: {log_level: LOUD}
selected_module: {LLM: OfflineLLM, TTS: NoTTS}
conversation: {speculative: everything}
"""
    )
    faults = faults_of(path, environ={"XIAOZHI__SERVER__HTTP_PORT": "eighty"}, config_dir=config_dir)

    assert set(faults) == {
        "server.port",
        "server.websocket",
        "server.timezone_offset",
        "server.tls.certfile",
        "server.tls.keyfile",
        "server.http_port",
        "log.log_level",
        "selected_module.LLM",
        "selected_module.TTS",
        "conversation.speculative",
    }
    assert faults["server.port"][0] == "70000"
    assert "less than or equal to 65535" in faults["server.port"][1]
    assert str(path) in faults["server.port"][1]
    assert "XIAOZHI__SERVER__HTTP_PORT" in faults["server.http_port"][1]
    assert "nearest: Offline" in faults["selected_module.LLM"][1]


@pytest.mark.parametrize(
    "overrides, key, expected",
    [
        ({"server": {"port": 9000, "http_port": 9000}}, "server.http_port", "differ"),
        ({"server": {"port": 9000, "http_port": "9000"}}, "server.http_port", "differ"),
        ({"server": {"worker_metrics": {"port": 8000}}}, "server.worker_metrics.port", "differ"),
        ({"server": {"port": True}}, "server.port", "a number, not a switch"),
        ({"server": {"port": -1}}, "server.port", "greater than or equal to 0"),
        ({"server": {"port": [8000]}}, "server.port", "a whole number"),
        ({"server": {"ip": "300.1.1.1"}}, "server.ip", "IP address"),
        ({"server": {"timezone_offset": 8.1}}, "server.timezone_offset", "multiple of 0.25"),
        ({"server": {"timezone_offset": float("nan")}}, "server.timezone_offset", "must be a number"),
        ({"server": {"profile": "huge"}}, "server.profile", "cloud, high, low, mid"),
        ({"server": {"profile": "../default"}}, "server.profile", "cloud, high, low, mid"),
        ({"server": {"profile": ["low"]}}, "server.profile", "cloud, high, low, mid"),
        ({"server": {"websocket": "ws://"}}, "server.websocket", "ws:// or wss://"),
        ({"server": {"websocket": "ws://host:99999/x"}}, "server.websocket", "ws:// or wss://"),
        ({"server": {"websocket": "ws://my host/"}}, "server.websocket", "ws:// or wss://"),
        ({"server": {"websocket": "ws://[::1/"}}, "server.websocket", "such as"),
        ({"server": {"vision_explain": "ws://host/"}}, "server.vision_explain", "http:// or https://"),
        ({"server": {"mqtt_gateway": "192.168.1.2"}}, "server.mqtt_gateway", "host:port"),
        ({"server": {"mqtt_gateway": "192.168.1.2:0"}}, "server.mqtt_gateway", "host:port"),
        ({"server": {"trusted_proxies": ["10.0.0.0/33"]}}, "server.trusted_proxies.0", "CIDR"),
        ({"server": {"tls": {"certfile": __file__}}}, "server.tls", "keyfile is empty"),
        ({"server": {"auth": {"allowed_devices": 3}}}, "server.auth.allowed_devices", "must be a list"),
        ({"server": "0.0.0.0"}, "server", "a section: keys below it"),
        ({"xiaozhi": {"audio_params": {"sample_rate": 44100}}}, "xiaozhi.audio_params.sample_rate", "24000"),
        ({"xiaozhi": {"audio_params": {"frame_duration": 30}}}, "xiaozhi.audio_params.frame_duration", "60"),
        ({"prompt_template": "nowhere.txt"}, "prompt_template", "config/prompts"),
        (
            {"enable_stop_tts_notify": True, "stop_tts_notify_voice": "nowhere.wav"},
            "stop_tts_notify_voice",
            "existing sound file",
        ),
        ({"correct_words": ["no bar"]}, "correct_words.0", "what is written|what is spoken"),
        ({"voiceprint": {"speakers": ["just-an-id"]}}, "voiceprint.speakers", "id,name,description"),
        ({"mcp_endpoint": "http://host/mcp"}, "mcp_endpoint", "ws:// or wss://"),
        ({"LLM": "OpenaiLLM"}, "LLM", "a section"),
        ({"LLM": {"Offline": "offline"}}, "LLM.Offline", "a mapping with a 'type'"),
        ({"selected_module": {"LLM": ""}}, "selected_module.LLM", "must not be empty"),
        ({"selected_module": {"ASR": "FunASRServr"}}, "selected_module.ASR", "nearest: FunASRServer"),
        ({"selected_module": {"ASR": "Zzz"}}, "selected_module.ASR", "WyomingASR, Offline, PocketSphinx"),
        ({"fallback": {"LLM": ["Offline", "Nobody"]}}, "fallback.LLM.1", "the name of a block under LLM"),
        (
            {"selected_module": {"Memory": "mem_local_short"}, "Memory": {"mem_local_short": {"llm": "Ofline"}}},
            "Memory.mem_local_short.llm",
            "Offline",
        ),
        ({"selected_module": {"LLM": "DeepSeekLLM"}}, "LLM.DeepSeekLLM.api_key", "your own value"),
        ({"fallback": {"TTS": ["OpenAITTS"]}}, "TTS.OpenAITTS.api_key", "your own value"),
    ],
)
def test_one_fault_is_told_with_key_and_expectation(
    overrides: dict[str, Any], key: str, expected: str, config_dir: Path
) -> None:
    found_key, _, found_expected = only_fault(overrides, config_dir)

    assert found_key == key
    assert expected in found_expected


def test_values_of_unselected_things_may_be_wrong(config_dir: Path) -> None:
    overrides = {
        "LLM": {"Broken": "not a block", "Other": {"type": "nobody-ships-this", "api_key": "你的api_key"}},
        "Memory": {"mem_local_short": {"llm": "NobodyHere"}},
        "stop_tts_notify_voice": "nowhere.wav",
    }

    loaded = load(environ={}, overrides=overrides, config_dir=config_dir)

    assert loaded.warnings == ["LLM.Broken is not a block and is ignored: a provider is a mapping with a 'type'"]
    assert "Broken" not in loaded.settings.modules("llm")


def test_secrets_never_stand_in_faults(config_dir: Path) -> None:
    overrides = {
        "server": {
            "auth_key": ["hunter2-a"],
            "secret": {"x": "hunter2-b"},
            "websocket": "http://me:hunter2-c@host/?token=hunter2-d",
        },
        "mcp_endpoint": "http://host/mcp/?token=hunter2-e&x=1",
        "context_providers": [{"url": "http://host/", "headers": {"Authorization": ["hunter2-f"]}}],
        "manager-api": {"secret": ["hunter2-g"]},
    }

    faults = faults_of(environ={}, overrides=overrides, config_dir=config_dir)

    assert len(faults) >= 6
    assert "hunter2" not in str(faults)


# --- warnings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "overrides, key, nearest",
    [
        ({"server": {"prot": 1}}, "server.prot", "server.port"),
        ({"max_connections": 5}, "max_connections", "server.max_connections"),
        ({"thread_pool_max_workers": 5}, "thread_pool_max_workers", "server.thread_pool.max_workers"),
        ({"server": {"auth": {"enable": True}}}, "server.auth.enable", "server.auth.enabled"),
        ({"wake_up_words": []}, "wake_up_words", "wakeup_words"),
        ({"log": {"log_format": "x"}}, "log.log_format", "log.json"),
        ({"boards": {"c3": {"prebuffer": 2}}}, "boards.c3.prebuffer", "boards.c3.prebuffer_frames"),
        (
            {"context_providers": [{"url": "http://h/", "header": {}}]},
            "context_providers.0.header",
            "context_providers.0.headers",
        ),
        ({"qqqqqq": 1}, "qqqqqq", None),
    ],
)
def test_a_key_without_meaning_is_named_once_with_the_nearest_one(
    overrides: dict[str, Any], key: str, nearest: str | None, config_dir: Path
) -> None:
    loaded = load(environ={}, overrides=overrides, config_dir=config_dir)

    (warning,) = loaded.warnings
    assert warning.startswith(f"{key} means nothing here")
    if nearest:
        assert warning.endswith(f"the nearest key is {nearest}")
