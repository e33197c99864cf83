"""What a user of the existing server brings along."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.settings.loading_faults import faults_of, only_fault
from xiaozhi.settings import Loaded, load

Write = Callable[..., Path]


BROUGHT_ALONG = """
# a data/.config.yaml as its tutorials have people write it
server:
  ip: 0.0.0.0
  port: 8000
  http_port: 8003
  websocket: ws://你的ip或者域名:端口号/xiaozhi/v1/
  vision_explain: http://你的ip或者域名:端口号/mcp/vision/explain
  timezone_offset: +8
  auth:
    enabled: true
    allowed_devices:
      - "11:22:33:44:55:66"
  mqtt_gateway: null
  mqtt_signature_key: null
  udp_gateway: null
log:
  log_format: "{time} {message}"
  log_level: debug
  log_dir: tmp
  data_dir: data
delete_audio: true
close_connection_no_voice_time: 90
enable_stop_tts_notify: true
stop_tts_notify_voice: "config/assets/tts_notify.mp3"
tts_audio_send_delay: 0
exit_commands:
  - 退出
xiaozhi:
  type: hello
  version: 1
  transport: websocket
  audio_params: {format: opus, sample_rate: 24000, channels: 1, frame_duration: 60}
mcp_endpoint: 你的接入点 websocket地址
context_providers:
  - url: ""
    headers:
      Authorization: ""
plugins:
  get_weather: {api_host: mine.example.org, api_key: abcdef, default_location: 广州}
voiceprint:
  url:
  speakers:
    - "test1,张三,程序员"
prompt: |
  你是小智。
prompt_template: agent-base-prompt.txt
end_prompt: {enable: false}
selected_module:
  LLM: ChatGLMLLM
  TTS: HuoshanDoubleStreamTTS
  VLLM: ChatGLMVLLM
  ASR: FunASRServer
  Intent: intent_llm
Intent:
  intent_llm: {type: intent_llm, llm: DoubaoLLM, functions: [get_weather]}
ASR:
  DoubaoASR:
    type: doubao
    appid: 你的火山引擎语音合成服务appid
    access_token: 你的火山引擎语音合成服务access_token
    boosting_table_name: （选填）你的热词文件名称
VAD:
  SileroVAD: {type: silero, threshold: 0.5, threshold_low: 0.3, model_dir: models/x, min_silence_duration_ms: 200}
LLM:
  ChatGLMLLM: {api_key: 1111.aaaa}
  DoubaoLLM: {api_key: 2222-bbbb}
  DifyLLM: {type: dify, api_key: 你的DifyLLM web key}
VLLM:
  ChatGLMVLLM: {api_key: 3333.cccc}
TTS:
  HuoshanDoubleStreamTTS: {appid: 6468123456, access_token: 4444dddd}
  AliyunTTS:
    type: aliyun
    token: 你的阿里云智能语音交互服务AccessToken
    access_key_id: AAAA
    access_key_secret: BBBB
"""


@pytest.fixture
def brought_along(config_dir: Path, write: Write) -> Loaded:
    return load(write(BROUGHT_ALONG, ".config.yaml"), environ={}, config_dir=config_dir)


def test_a_file_of_the_existing_server_works(brought_along: Loaded) -> None:
    settings = brought_along.settings

    assert [warning.split()[0] for warning in brought_along.warnings] == ["log.log_format"]
    assert (
        settings.server.websocket
        == settings.server.vision_explain
        == settings.server.mqtt_gateway
        == settings.mcp_endpoint
        == ""
    )
    assert settings.server.auth.allowed_devices == ("11:22:33:44:55:66",)
    assert settings.server.timezone_offset == 8
    assert settings.log.log_level == "DEBUG"
    assert settings.close_connection_no_voice_time == 90
    assert settings.stop_tts_notify_voice == ""
    assert settings.enable_stop_tts_notify
    assert settings.context_providers == ()
    assert settings.prompt == "你是小智。\n"
    assert not settings.end_prompt.enable
    assert settings.end_prompt.prompt
    assert settings.plugins["get_weather"]["api_key"] == "abcdef"


def test_blocks_it_only_names_are_completed(brought_along: Loaded) -> None:
    settings = brought_along.settings

    assert settings.block("llm", "ChatGLMLLM") == {
        "type": "openai",
        "url": "https://open.bigmodel.cn/api/paas/v4/",
        "model_name": "glm-4-flash",
        "api_key": "1111.aaaa",
    }
    assert settings.block("tts", "HuoshanDoubleStreamTTS")["ws_url"].startswith("wss://")
    assert settings.block("vad", "SileroVAD")["threshold_low"] == 0.3
    assert ("llm", "DoubaoLLM") in settings.in_use()


def test_placeholders_count_as_not_set(brought_along: Loaded) -> None:
    settings = brought_along.settings

    assert settings.block("asr", "DoubaoASR") == {"type": "doubao", "cluster": "volcengine_input_common"}
    assert "api_key" not in settings.block("llm", "DifyLLM")
    assert settings.block("tts", "AliyunTTS") == {
        "type": "aliyun",
        "voice": "xiaoyun",
        "access_key_id": "AAAA",
        "access_key_secret": "BBBB",
    }


def test_one_filled_in_credential_is_enough(config_dir: Path, write: Write) -> None:
    path = write(BROUGHT_ALONG)

    load(path, environ={}, overrides={"selected_module": {"TTS": "AliyunTTS"}}, config_dir=config_dir)
    key, value, _ = only_fault(
        {"selected_module": {"ASR": "A"}, "ASR": {"A": {"type": "doubao", "appid": "1", "token": "你的token"}}},
        config_dir,
    )

    assert (key, value) == ("ASR.A.token", "a placeholder")


CONSOLE_FILE = """
server: {ip: 0.0.0.0, port: 8000, http_port: 8003, vision_explain: "http://h:8003/mcp/vision/explain", auth_key: "%s"}
manager-api: {url: "http://127.0.0.1:8002/xiaozhi", secret: "%s"}
prompt_template: agent-base-prompt.txt
"""


@pytest.mark.parametrize("key", ["", "d0c5a5f0-7d1b-4c1e-9a58-real"])
def test_a_file_for_a_console_is_taken_as_it_is(key: str, config_dir: Path, write: Write) -> None:
    loaded = load(write(CONSOLE_FILE % (key, "d0c5a5f0-7d1b-4c1e-9a58-real")), environ={}, config_dir=config_dir)

    assert loaded.settings.under_console
    assert loaded.warnings == []
    assert not load(environ={}, config_dir=config_dir).settings.under_console


def test_what_is_wrong_with_a_file_for_a_console(config_dir: Path, write: Write) -> None:
    unfilled = faults_of(write(CONSOLE_FILE % ("", "你的server.secret值")), environ={}, config_dir=config_dir)
    other_key = CONSOLE_FILE % ("e7a1c3b2-7d1b-4c1e-9a58-other", "d0c5a5f0-7d1b-4c1e-9a58-real")
    nowhere = faults_of(environ={}, overrides={"read_config_from_api": True}, config_dir=config_dir)

    assert unfilled["manager-api.secret"][0] == "a placeholder"
    assert list(faults_of(write(other_key), environ={}, config_dir=config_dir)) == ["server.auth_key"]
    assert list(nowhere) == ["manager-api.url"]


def test_a_console_that_is_not_to_be_asked_is_not(config_dir: Path, write: Write) -> None:
    file = write(CONSOLE_FILE % ("", "d0c5a5f0-7d1b-4c1e-9a58-real") + "read_config_from_api: false\n")

    assert not load(file, environ={}, config_dir=config_dir).settings.under_console


def test_the_console_is_a_layer_below_the_own_files(config_dir: Path, write: Write) -> None:
    said = {"tts_timeout": 7, "tool_call_timeout": 11, "VAD": {"VAD_x": {"type": "silero"}},
            "selected_module": {"VAD": "VAD_x"}}  # fmt: skip

    loaded = load(write("tts_timeout: 9"), environ={}, config_dir=config_dir, console=said)

    settings = loaded.settings
    assert (settings.tts_timeout, settings.tool_call_timeout, settings.selected("vad")) == (9, 11, "VAD_x")
    assert "the console" in loaded.sources


def test_a_template_may_be_a_path(config_dir: Path, write: Write) -> None:
    mine = write("{{ base_prompt }}", "mine.txt")

    loaded = load(environ={}, overrides={"prompt_template": str(mine)}, config_dir=config_dir)

    assert loaded.prompt_template == mine
