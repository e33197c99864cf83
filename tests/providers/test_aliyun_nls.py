"""Alibaba Cloud's Intelligent Speech Interaction against strict services: its signature, its shared token, sentences,
connections, every error by its remedy."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest

from loadtest.vendors.http_vendor import Script
from tests.fakes.inference import InlineInference
from tests.fakes.voice import speech_of
from tests.providers.streamed import seconds_by_sentence, speak
from tests.vendors.aliyun_nls_vendor import (
    ACCESS_KEY_ID,
    APPKEY,
    ASR,
    PAUSE_S,
    SECRET,
    SYLLABLE_S,
    TOKEN,
    TTS,
    NlsGateway,
    NlsHttpVendor,
)
from tests.waiting import wait_for
from xiaozhi.chat import CallContext
from xiaozhi.errors import (
    SettingsError,
    VendorBusy,
    VendorError,
    VendorRejected,
    VendorTimeout,
    VendorUnavailable,
)
from xiaozhi.providers import registry
from xiaozhi.providers.contracts.asr import Transcript
from xiaozhi.providers.contracts.provider import Services
from xiaozhi.providers.contracts.tts import Pcm, SentenceBegins
from xiaozhi.providers.families.aliyun_nls import nls_failure
from xiaozhi.providers.registry import build, validate
from xiaozhi.providers.remedies import remedies_of
from xiaozhi.providers.wrappers import open_speech

CONTEXT = CallContext(device_id="aa:bb")
SERVICES = Services(inference=InlineInference())  # type: ignore[arg-type]
SOUND = b"\x10\x27" * 16_000
SAMPLE_TOKEN = "你的阿里云智能语音交互服务AccessToken，临时的24小时，要长期用下方的access_key_id，access_key_secret"
KEYS = {"appkey": APPKEY, "access_key_id": ACCESS_KEY_ID, "access_key_secret": SECRET}
# As the existing server's config.yaml has them, keys filled in.
BLOCKS: dict[str, tuple[str, dict[str, Any]]] = {
    "AliyunASR": ("asr", {"type": "aliyun", "token": SAMPLE_TOKEN, **KEYS, "output_dir": "tmp/"}),
    "AliyunStreamASR": (
        "asr",
        {
            "type": "aliyun_stream",
            "token": SAMPLE_TOKEN,
            **KEYS,
            "host": "nls-gateway-cn-shanghai.aliyuncs.com",
            "max_sentence_silence": 800,
            "output_dir": "tmp/",
        },
    ),
    "AliyunTTS": (
        "tts",
        {"type": "aliyun", "output_dir": "tmp/", "token": SAMPLE_TOKEN, "voice": "xiaoyun", **KEYS},
    ),
    "AliyunStreamTTS": (
        "tts",
        {
            "type": "aliyun_stream",
            "output_dir": "tmp/",
            "token": SAMPLE_TOKEN,
            "voice": "longxiaochun",
            **KEYS,
            "host": "nls-gateway-cn-beijing.aliyuncs.com",
        },
    ),
}


@pytest.fixture
def http() -> Iterator[NlsHttpVendor]:
    with NlsHttpVendor() as running:
        yield running


@pytest.fixture
def gateway() -> Iterator[NlsGateway]:
    with NlsGateway() as running:
        yield running
        assert running.faults == []


Make = Callable[..., Any]


@pytest.fixture
def make() -> Iterator[Make]:
    """Builds providers that are closed at the end."""
    made: list[Any] = []

    def build_one(kind: str, block: dict[str, Any], **more: Any) -> Any:
        made.append(build(kind, "Aliyun", block | more, SERVICES))
        return made[-1]

    yield build_one
    for provider in made:
        provider.close()


def near(vendor: NlsHttpVendor, kind: str = "aliyun") -> dict[str, Any]:
    """A block for the HTTP services."""
    return {"type": kind, **KEYS, "token_url": vendor.url, "host": vendor.url}


def streaming(gateway: NlsGateway) -> dict[str, Any]:
    """A block for the gateway."""
    return {"type": "aliyun_stream", "appkey": APPKEY, "token": SECRET, "host": gateway.url}


# --- blocks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BLOCKS)
def test_existing_blocks_work_unchanged(name: str) -> None:
    kind, block = BLOCKS[name]
    assert validate(kind, name, block)
    assert [warning.split(" ")[0] for warning in registry.ignored(kind, name, block)] == [
        f"{registry.block_key(kind, name)}.output_dir"
    ]


def test_a_block_of_the_console_with_everything_as_text(gateway: NlsGateway, make: Make) -> None:
    console = {
        **streaming(gateway),
        "access_key_id": "",
        "access_key_secret": "",
        "voice": "longxiaochun",
        "format": "pcm",
        "sample_rate": "16000",
        "volume": "50",
        "speech_rate": "",
        "pitch_rate": "0",
        "output_dir": "tmp/",
        "private_voice": "longyu",
        "ttsVolume": "50",
        "ttsRate": -100,
        "ttsPitch": 0,
    }
    tts = make("tts", console)
    speak(tts.open(CONTEXT), "你好。")
    assert gateway.tasks[0].payload == {
        "voice": "longyu",
        "format": "pcm",
        "sample_rate": 16_000,
        "volume": 75,
        "speech_rate": -500,
        "pitch_rate": 0,
    }


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"appkey": "你的阿里云智能语音交互服务项目Appkey"}, "sample text"),
        ({"access_key_id": "你的阿里云账号access_key_id"}, "sample text"),
        ({"access_key_id": ""}, "go together"),
        ({"access_key_id": "", "access_key_secret": ""}, "token: expected the vendor's token"),
        ({"access_key_id": "", "access_key_secret": "", "token": ""}, "a key is missing"),
        ({"host": "https://nls.example/stream/v1/asr"}, "host"),
    ],
)
def test_what_is_missing_is_said(change: dict[str, Any], said: str) -> None:
    for kind, block in BLOCKS.values():
        with pytest.raises(SettingsError, match=said) as caught:
            validate(kind, "Aliyun", block | change)
        assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "web_socket", "http_address"),
    [
        ("nls-gateway-cn-beijing.aliyuncs.com", "wss://nls-gateway-cn-beijing.aliyuncs.com", "https://"),
        ("nls-gateway-cn-beijing-internal.aliyuncs.com:80", "ws://nls-gateway-cn-beijing-internal", "http://"),
        ("http://127.0.0.1:8080", "ws://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("wss://nls.example/", "wss://nls.example", "https://nls.example"),
    ],
)
def test_addresses_inside_of_the_cloud_have_no_tls(host: str, web_socket: str, http_address: str) -> None:
    options: Any = validate("asr", "Aliyun", BLOCKS["AliyunStreamASR"][1] | {"host": host})
    assert options.gateway("ws").startswith(web_socket)
    assert options.gateway("http").startswith(http_address)


# --- the token --------------------------------------------------------------------------------------------------------


def test_one_token_for_all_blocks_and_devices(http: NlsHttpVendor, gateway: NlsGateway, make: Make) -> None:
    gateway.tokens = http.tokens
    asr, tts = make("asr", near(http)), make("tts", near(http))
    streams = near(http, "aliyun_stream") | {"host": gateway.url}
    stream_asr, stream_tts = make("asr", streams), make("tts", streams)

    def recognise() -> None:
        with contextlib.closing(stream_asr.open(CONTEXT)) as stream:
            stream.feed(SOUND)
            assert stream.finish().text

    uses = [
        lambda: asr.transcribe(SOUND, CONTEXT),
        lambda: list(tts.synthesize("你好。", CONTEXT)),
        recognise,
        lambda: speak(stream_tts.open(CONTEXT), "你好。"),
    ]
    users = [gevent.spawn(use) for use in uses * 5]
    gevent.joinall(users, timeout=30, raise_error=True)
    assert http.counts[TOKEN] == 1
    assert http.refusals == []


def test_a_token_that_was_refused_is_replaced_for_the_next_one(http: NlsHttpVendor, make: Make) -> None:
    asr = make("asr", near(http))
    assert asr.transcribe(SOUND, CONTEXT).text
    http.tokens.clear()
    with pytest.raises(VendorRejected, match="40000001") as caught:
        asr.transcribe(SOUND, CONTEXT)
    assert caught.value.status == 401
    assert http.requests[-1].headers["x-nls-token"] not in str(caught.value)
    assert asr.transcribe(SOUND, CONTEXT).text
    assert http.counts[TOKEN] == 2


def test_a_connection_that_was_refused_replaces_the_token_too(
    http: NlsHttpVendor, gateway: NlsGateway, make: Make
) -> None:
    gateway.tokens = http.tokens
    asr = make("asr", near(http, "aliyun_stream") | {"host": gateway.url})
    asr.open(CONTEXT).close()
    http.tokens.clear()
    with pytest.raises(VendorRejected):
        asr.open(CONTEXT)
    asr.open(CONTEXT).close()
    assert http.counts[TOKEN] == 2


@pytest.mark.parametrize("change", [{"access_key_id": "LTAI-other"}, {"access_key_secret": "other-key"}])
def test_wrong_access_keys_are_named(http: NlsHttpVendor, make: Make, change: dict[str, str]) -> None:
    block = near(http) | change
    with pytest.raises(VendorRejected) as caught:
        make("asr", block).transcribe(SOUND, CONTEXT)
    assert block["access_key_secret"] not in str(caught.value)
    remedies_of("asr", "Aliyun", block).explain(caught.value)
    assert "ASR.Aliyun: the key in appkey or access_key_id or access_key_secret was refused" in str(caught.value)


def test_a_busy_token_service_is_no_wrong_key(http: NlsHttpVendor, make: Make) -> None:
    http.script(TOKEN, Script(status=400, error="Throttling.User: Request was denied due to user flow control."))
    with pytest.raises(VendorBusy):
        make("asr", near(http)).transcribe(SOUND, CONTEXT)


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "message", "kind"),
    [
        (40000000, "Gateway:PARAMETER_INVALID", VendorRejected),
        (40000001, "Gateway:ACCESS_DENIED:The token 'x' has expired!", VendorRejected),
        (40000004, "Gateway:IDLE_TIMEOUT", VendorTimeout),
        (40000005, "Gateway:TOO_MANY_REQUESTS:Too many requests!", VendorBusy),
        (40000000, "Gateway:TOO_MANY_REQUESTS:Too many requests!", VendorBusy),
        (40000010, "Gateway:FREE_TRIAL_EXPIRED", VendorRejected),
        (40020105, "Meta:APPKEY_NOT_EXIST:Appkey not exist!", VendorRejected),
        (41040201, "idle", VendorTimeout),
        (50000000, "internal", VendorUnavailable),
        (51040101, "inference timeout", VendorUnavailable),
    ],
)
def test_codes_by_remedy(code: int, message: str, kind: type[VendorError]) -> None:
    failure = nls_failure("v", code, f"{message} for secret-x", ["secret-x"])
    assert type(failure) is kind
    assert str(code) in str(failure) and "secret-x" not in str(failure) + failure.details


def test_an_unknown_appkey_and_voice(http: NlsHttpVendor, make: Make) -> None:
    with pytest.raises(VendorRejected, match="APPKEY_NOT_EXIST"):
        make("asr", near(http), appkey="other").transcribe(SOUND, CONTEXT)
    block = near(http) | {"voice": "nobody"}
    with pytest.raises(VendorRejected) as caught:
        list(make("tts", block).synthesize("你好。", CONTEXT))
    remedies_of("tts", "Aliyun", block).explain(caught.value)
    assert "see host and voice" in str(caught.value)


def test_a_task_that_fails_at_its_start(gateway: NlsGateway, make: Make) -> None:
    for kind in ("asr", "tts"):
        gateway.once.append("40000005")
        with pytest.raises(VendorBusy) as caught:
            make(kind, streaming(gateway)).open(CONTEXT)
        assert SECRET not in str(caught.value)


# --- recognition ------------------------------------------------------------------------------------------------------


def hear(asr: Any, sound: bytes) -> Transcript:
    with contextlib.closing(asr.open(CONTEXT)) as stream:
        for start in range(0, len(sound), 1_920):
            stream.feed(sound[start : start + 1_920])
        heard: Transcript = stream.finish()
        return heard


def test_silence_is_heard_as_nothing(http: NlsHttpVendor, gateway: NlsGateway, make: Make) -> None:
    assert make("asr", near(http)).transcribe(bytes(32_000), CONTEXT) == Transcript("")
    assert hear(make("asr", streaming(gateway)), bytes(32_000)) == Transcript("")


@pytest.mark.parametrize(
    ("sentences", "whole"),
    [
        (("今天天气怎么样？", "明天呢？"), "今天天气怎么样？明天呢？"),
        (("What time is it?", "And tomorrow?"), "What time is it? And tomorrow?"),
        (("打开 light", "谢谢"), "打开 light谢谢"),
    ],
)
def test_sentences_are_put_together(gateway: NlsGateway, make: Make, sentences: tuple[str, ...], whole: str) -> None:
    gateway.sentences = sentences
    asr = make("asr", streaming(gateway), max_sentence_silence="")
    with contextlib.closing(asr.open(CONTEXT)) as stream:
        stream.feed(SOUND)
        wait_for(lambda: stream.partial == sentences[0], "the first sentence, while the user speaks")
        stream.feed(SOUND)
        assert stream.finish().text == whole
    task = gateway.tasks[0]
    assert bytes(task.sound) == 2 * SOUND
    assert task.payload["max_sentence_silence"] == 800


def test_silence_at_the_end_keeps_what_was_heard(gateway: NlsGateway, make: Make) -> None:
    gateway.sentences = ("第一句。", "第二句。")
    gateway.once.append("silent")
    assert hear(make("asr", streaming(gateway)), SOUND).text == "第一句。"


def test_a_vendor_that_ends_by_itself_is_done(gateway: NlsGateway, make: Make) -> None:
    gateway.once.append("ended")
    with contextlib.closing(make("asr", streaming(gateway)).open(CONTEXT)) as stream:
        stream.feed(SOUND)
        wait_for(lambda: stream.partial)
        wait_for(lambda: gateway.tasks[0].end == "completed")
        assert stream.finish().text == gateway.sentences[0]


# --- speech -----------------------------------------------------------------------------------------------------------


def test_a_sentence_as_it_is_asked_for(http: NlsHttpVendor, make: Make) -> None:
    tts = make("tts", near(http), ttsVolume=100, ttsRate=50, ttsPitch=-100, private_voice="aixia", volume=10)
    assert speak(open_speech(tts, CONTEXT), "你好。")
    body = http.requests[-1].json()
    assert http.requests[-1].path == TTS
    assert {key: body[key] for key in body if key not in ("token", "appkey")} == {
        "text": "你好。",
        "voice": "aixia",
        "format": "wav",
        "sample_rate": 24_000,
        "volume": 100,
        "speech_rate": 250,
        "pitch_rate": -500,
    }


SENTENCES = ("今天天气真不错。", "我们一起去公园散步吧！", "好。")
EXACT = {"今天天气真不错。": 7, "我们一起去公园散步吧！": 10, "好。": 1}


@pytest.mark.parametrize(("form", "rate"), [("pcm", 24_000), ("wav", 24_000), ("pcm", 16_000)])
def test_sentences_are_found_in_the_sound(gateway: NlsGateway, make: Make, form: str, rate: int) -> None:
    events = speak(make("tts", streaming(gateway), format=form, sample_rate=rate).open(CONTEXT), *SENTENCES)
    assert [event.text for event in events if isinstance(event, SentenceBegins)] == list(SENTENCES)
    assert all(event.rate == rate and len(event.data) % 2 == 0 for event in events if isinstance(event, Pcm))
    expected = {text: count * SYLLABLE_S + PAUSE_S for text, count in EXACT.items()}
    assert seconds_by_sentence(events) == pytest.approx(expected, abs=0.12)  # pieces of 0.1 s are not cut
    assert gateway.tasks[0].texts == list(SENTENCES)


def test_a_connection_is_used_again(gateway: NlsGateway, make: Make) -> None:
    tts = make("tts", streaming(gateway))
    for _ in range(3):
        assert speak(tts.open(CONTEXT), "你好。")
    assert [task.connection for task in gateway.tasks] == [1, 1, 1]
    assert len({task.id for task in gateway.tasks}) == 3


def test_a_kept_connection_that_has_died_is_replaced(gateway: NlsGateway, make: Make) -> None:
    tts = make("tts", streaming(gateway))
    gateway.once.append("drop_idle")
    assert speak(tts.open(CONTEXT), "你好。")
    wait_for(lambda: not gateway.open, "the vendor to hang up")
    gateway.fault = ""
    assert speak(tts.open(CONTEXT), "你好。")
    assert [task.connection for task in gateway.tasks] == [1, 2]


def test_one_that_dies_when_it_is_used_again_is_replaced_once(gateway: NlsGateway, make: Make) -> None:
    tts = make("tts", streaming(gateway))
    assert speak(tts.open(CONTEXT), "你好。")
    gateway.once.append("drop_start")
    assert speak(tts.open(CONTEXT), "你好。")
    assert [(task.connection, task.end) for task in gateway.tasks] == [(1, "completed"), (1, "lost"), (2, "completed")]
    gateway.once += ["drop_start", "drop_start"]
    with pytest.raises(VendorUnavailable):
        tts.open(CONTEXT)


def test_a_connection_that_never_served_is_not_replaced(gateway: NlsGateway, make: Make) -> None:
    gateway.once.append("drop_start")
    with pytest.raises(VendorUnavailable):
        make("tts", streaming(gateway)).open(CONTEXT)
    assert gateway.connections == 1


def test_an_interruption_hangs_up(gateway: NlsGateway, make: Make) -> None:
    gateway.once.append("stall_after")
    tts = make("tts", streaming(gateway))
    with contextlib.closing(tts.open(CONTEXT)) as stream:
        stream.say("你好。")
        assert next(speech_of(stream)) == SentenceBegins("你好。")
    wait_for(lambda: gateway.tasks[0].end == "lost", "the vendor to notice")
    assert speak(tts.open(CONTEXT), "你好。")
    assert gateway.tasks[1].connection == 2


def test_a_task_is_ended_where_text_pauses(gateway: NlsGateway, make: Make) -> None:
    tts = make("tts", streaming(gateway) | {"text_pause": 0.05})
    with contextlib.closing(tts.open(CONTEXT)) as stream:
        events = speech_of(stream)
        stream.say("等一下。")
        assert next(events) == SentenceBegins("等一下。")
        wait_for(lambda: gateway.tasks[0].end == "completed", "the end of the first task")
        stream.say("好了。")
        stream.finish()
        assert [event.text for event in events if isinstance(event, SentenceBegins)] == ["好了。"]
    assert [task.connection for task in gateway.tasks] == [1, 1]


def test_a_vendor_that_ends_a_task_by_itself_has_failed(gateway: NlsGateway, make: Make) -> None:
    gateway.once.append("ended")
    with contextlib.closing(make("tts", streaming(gateway)).open(CONTEXT)) as stream:
        stream.say("你好。")
        with pytest.raises(VendorUnavailable, match="ended the task"):
            list(speech_of(stream))


def test_asr_sends_its_token_in_a_header_only(http: NlsHttpVendor, make: Make) -> None:
    make("asr", near(http)).transcribe(SOUND, CONTEXT)
    request = next(request for request in http.requests if request.path.startswith(ASR))
    assert request.headers["x-nls-token"] in http.tokens
    assert request.headers["x-nls-token"] not in request.path
