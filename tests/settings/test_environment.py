"""Environment variables: which key they mean, which value, and the shortcut to an OpenAI-compatible vendor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from xiaozhi.errors import SettingsError
from xiaozhi.settings import Settings, load


def settings_of(environ: dict[str, str], config_dir: Path, **overrides: Any) -> Settings:
    loaded = load(environ=environ, overrides=overrides, config_dir=config_dir)
    assert loaded.warnings == []
    return loaded.settings


def test_keys_are_found_whatever_their_case(config_dir: Path) -> None:
    settings = settings_of(
        {
            "XIAOZHI__SERVER__PORT": "9001",
            "XIAOZHI__SELECTED_MODULE__MEMORY": "mem_local_short",
            "XIAOZHI__MANAGER_API__TIMEOUT": "7",
            "XIAOZHI__manager_api__Secret": "s3cret-of-the-console",
            "XIAOZHI__VAD__SILEROVAD__MIN_SILENCE_DURATION_MS": "300",
            "XIAOZHI__LOG__JSON": "on",
            "XIAOZHI_OTHER": "is not ours",
            "PATH": "/bin",
        },
        config_dir,
    )

    assert settings.server.port == 9001
    assert settings.selected("memory") == "mem_local_short"
    assert settings.manager_api.timeout == 7
    assert settings.management_secret.get_secret_value() == "s3cret-of-the-console"
    assert settings.block("vad", "SileroVAD")["min_silence_duration_ms"] == 300
    assert settings.log.json_console


def test_a_new_provider_keeps_its_name(config_dir: Path) -> None:
    settings = settings_of(
        {
            "XIAOZHI__TTS__MyVoice__TYPE": "acme.speech:Tts",
            "XIAOZHI__TTS__MyVoice__SPEED": "1.5",
            "XIAOZHI__TTS__MyVoice__API_KEY": "0123",
            "XIAOZHI__SELECTED_MODULE__TTS": "MyVoice",
        },
        config_dir,
    )

    assert settings.block("tts", "MyVoice") == {"type": "acme.speech:Tts", "speed": 1.5, "api_key": "0123"}
    assert settings.selected("tts") == "MyVoice"


@pytest.mark.parametrize(
    "name, text, read",
    [
        ("WAKEUP_WORDS", "[hello, 你好]", lambda settings: settings.wakeup_words == ("hello", "你好")),
        (
            "SERVER__TRUSTED_PROXIES",
            "[10.0.0.0/8]",
            lambda settings: settings.server.trusted_proxies == ("10.0.0.0/8",),
        ),
        (
            "BOARDS",
            "{esp-box: {prebuffer_frames: 4}}",
            lambda settings: settings.boards["esp-box"].prebuffer_frames == 4,
        ),
        ("PROMPT", "You are: [nice], 100% #1", lambda settings: settings.prompt == "You are: [nice], 100% #1"),
        ("PROMPT", "yes", lambda settings: settings.prompt == "yes"),
        (
            "SERVER__AUTH_KEY",
            "0123456789012345",
            lambda settings: settings.server.auth_key.get_secret_value() == "0123456789012345",
        ),
        ("SERVER__AUTH__ENABLED", "yes", lambda settings: settings.server.auth.enabled is True),
        ("SERVER__TIMEZONE_OFFSET", "+5.5", lambda settings: settings.server.timezone_offset == 5.5),
        ("CONVERSATION__SPECULATIVE", "off", lambda settings: settings.conversation.speculative == "off"),
        ("SELECTED_MODULE__VLLM", "", lambda settings: settings.selected("vllm") == ""),
        ("SERVER__PORT", "", lambda settings: settings.server.port == 8000),
        ("TTS__ESPEAK__VOICE", "note: this", lambda settings: settings.block("tts", "Espeak")["voice"] == "note: this"),
        ("TTS__ESPEAK__VOICE", "@home", lambda settings: settings.block("tts", "Espeak")["voice"] == "@home"),
        ("TTS__ESPEAK__TOKEN", "1234", lambda settings: settings.block("tts", "Espeak")["token"] == "1234"),
    ],
)
def test_values(name: str, text: str, read: Any, config_dir: Path) -> None:
    assert read(settings_of({f"XIAOZHI__{name}": text}, config_dir))


@pytest.mark.parametrize(
    "name, text, key, expected",
    [
        ("XIAOZHI__", "1", "XIAOZHI__", "XIAOZHI__SERVER__PORT"),
        ("XIAOZHI____PORT", "1", "XIAOZHI____PORT", "XIAOZHI__SERVER__PORT"),
        ("XIAOZHI__WAKEUP_WORDS", "[open", "XIAOZHI__WAKEUP_WORDS", "a YAML value"),
        ("XIAOZHI__SERVER__PORT", "many", "server.port", "(set by XIAOZHI__SERVER__PORT)"),
        ("XIAOZHI__SERVER__PORT__X", "1", "server.port", "(set by XIAOZHI__SERVER__PORT__X)"),
        ("XIAOZHI__SERVER__PROFILE", "tiny", "server.profile", "(set by XIAOZHI__SERVER__PROFILE)"),
    ],
)
def test_faults_name_the_variable(name: str, text: str, key: str, expected: str, config_dir: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load(environ={name: text}, config_dir=config_dir)

    (fault,) = caught.value.faults
    assert fault.key == key
    assert expected in fault.expected


def test_a_variable_for_no_key_is_named_with_the_nearest_one(config_dir: Path) -> None:
    loaded = load(environ={"XIAOZHI__SERVER__PROT": "1"}, config_dir=config_dir)

    assert loaded.warnings == ["server.prot means nothing here and is ignored; the nearest key is server.port"]


# --- the shortcut -----------------------------------------------------------------------------------------------------


def test_three_variables_leave_the_offline_default(config_dir: Path) -> None:
    environ = {}
    for section in ("LLM", "ASR", "TTS", "VLLM"):
        environ |= {
            f"XIAOZHI_{section}_BASE_URL": f"https://{section}.example/v1",
            f"XIAOZHI_{section}_API_KEY": f"key-{section}",
            f"XIAOZHI_{section}_MODEL": f"model-{section}",
        }
    environ["XIAOZHI_TTS_VOICE"] = "anna"

    settings = settings_of(environ, config_dir)

    for kind in ("llm", "asr", "tts", "vllm"):
        assert settings.selected(kind) == "OpenaiEnv"
    assert settings.block("llm", "OpenaiEnv") == {
        "type": "openai",
        "base_url": "https://LLM.example/v1",
        "api_key": "key-LLM",
        "model_name": "model-LLM",
    }
    assert settings.block("tts", "OpenaiEnv") == {
        "type": "openai",
        "api_url": "https://TTS.example/v1",
        "api_key": "key-TTS",
        "model": "model-TTS",
        "voice": "anna",
    }
    assert settings.block("asr", "OpenaiEnv")["model_name"] == "model-ASR"
    assert settings.selected("vad") == "SileroVAD"


def test_it_stands_above_files_and_below_exact_variables(config_dir: Path) -> None:
    (config_dir / "local.yaml").write_text("selected_module: {LLM: LMStudioLLM}\n")
    short = {"XIAOZHI_LLM_BASE_URL": "http://localhost:11434/v1", "XIAOZHI_LLM_MODEL": "qwen3"}

    assert settings_of(short, config_dir).selected("llm") == "OpenaiEnv"
    assert settings_of(short | {"XIAOZHI__SELECTED_MODULE__LLM": "Offline"}, config_dir).selected("llm") == "Offline"
    warmer = settings_of(short | {"XIAOZHI__LLM__OPENAIENV__TEMPERATURE": "0.9"}, config_dir)
    assert warmer.block("llm", "OpenaiEnv")["temperature"] == 0.9


def test_half_a_shortcut_is_a_fault(config_dir: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load(
            environ={"XIAOZHI_LLM_API_KEY": "k", "XIAOZHI_ASR_MODEL": "m", "XIAOZHI_TTS_MODEL": "  "},
            config_dir=config_dir,
        )

    assert [fault.key for fault in caught.value.faults] == [
        "XIAOZHI_LLM_BASE_URL",
        "XIAOZHI_LLM_MODEL",
        "XIAOZHI_ASR_BASE_URL",
    ]


def test_a_misspelt_shortcut_is_noticed(config_dir: Path) -> None:
    loaded = load(environ={"XIAOZHI_LLM_BASEURL": "http://h/"}, config_dir=config_dir)

    assert loaded.warnings == [
        "the environment variable XIAOZHI_LLM_BASEURL means nothing here; did you mean XIAOZHI_LLM_BASE_URL?"
    ]
