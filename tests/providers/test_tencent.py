"""Tencent Cloud's recognition and speech against a strict service: the signature, blocks, voices, every error by its
remedy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tencentcloud.common.common_client import CommonClient
from tencentcloud.common.credential import Credential
from tencentcloud.common.profile.client_profile import ClientProfile
from tencentcloud.common.profile.http_profile import HttpProfile

from loadtest.vendors.http_vendor import VendorAnswer
from tests.fakes.inference import InlineInference
from tests.vendors.tencent_vendor import SECRET, SECRET_ID, TencentVendor
from xiaozhi.chat import CallContext
from xiaozhi.errors import (
    SettingsError,
    VendorBusy,
    VendorError,
    VendorGarbage,
    VendorRejected,
    VendorSilent,
    VendorUnavailable,
)
from xiaozhi.providers import registry
from xiaozhi.providers.contracts.asr import Transcript
from xiaozhi.providers.contracts.provider import Services
from xiaozhi.providers.families.tencent import signed_headers, tencent_failure
from xiaozhi.providers.registry import build, validate
from xiaozhi.providers.remedies import remedies_of

CONTEXT = CallContext(device_id="aa:bb")
SERVICES = Services(inference=InlineInference())  # type: ignore[arg-type]
SOUND = b"\x10\x27" * 16_000
# As the existing server's config.yaml has them, keys filled in.
ASR_BLOCK = {
    "type": "tencent",
    "appid": "1300000000",
    "secret_id": SECRET_ID,
    "secret_key": SECRET,
    "output_dir": "tmp/",
}
TTS_BLOCK = {**ASR_BLOCK, "region": "ap-guangzhou", "voice": 101001}

Make = Callable[..., Any]


@pytest.fixture
def vendor() -> Iterator[TencentVendor]:
    with TencentVendor() as running:
        yield running


@pytest.fixture
def make(vendor: TencentVendor) -> Iterator[Make]:
    """Builds providers that are closed at the end."""
    made: list[Any] = []

    def build_one(kind: str, **more: Any) -> Any:
        block = (ASR_BLOCK if kind == "asr" else TTS_BLOCK) | {"url": vendor.url} | more
        made.append(build(kind, "Tencent", block, SERVICES))
        return made[-1]

    yield build_one
    for provider in made:
        provider.close()


def test_the_published_example_of_a_signature() -> None:
    """That of the documentation (cloud.tencent.com/document/api/1093/35641)."""
    body = rb'{"Limit": 1, "Filters": [{"Values": ["\u672a\u547d\u540d"], "Name": "instance-name"}]}'
    headers = signed_headers(
        body,
        service="cvm",
        host="cvm.tencentcloudapi.com",
        secret_id="AKIDz8krbsJ5yKBZQpn74WFkmLPx3EXAMPLE",
        secret_key="Gu5t9xGARNpq86cd98joQYCN3EXAMPLE",
        now=1551113065.9,
    )
    assert headers["X-TC-Timestamp"] == "1551113065"
    assert headers["Authorization"] == (
        "TC3-HMAC-SHA256 Credential=AKIDz8krbsJ5yKBZQpn74WFkmLPx3EXAMPLE/2019-02-25/cvm/tc3_request, "
        "SignedHeaders=content-type;host, "
        "Signature=72e494ea809ad7a8c8f7a4507b9bddcbaa8e581f516e8da2f66e2c5a96525168"
    )


@pytest.mark.leaks("the vendor's client keeps its connection")
def test_the_vendors_own_client_is_admitted_too(vendor: TencentVendor) -> None:
    endpoint = HttpProfile(protocol="http", endpoint=vendor.url.removeprefix("http://"))
    client = CommonClient(
        "tts", "2019-08-23", Credential(SECRET_ID, SECRET), "ap-guangzhou", ClientProfile(httpProfile=endpoint)
    )
    asked = {"Text": "你好", "SessionId": "1", "VoiceType": 101001, "Speed": 0, "Volume": 0}
    answer = client.call_json("TextToVoice", {**asked, "Codec": "pcm", "SampleRate": 16000})
    assert answer["Response"]["Audio"]
    assert vendor.refusals == []


@pytest.mark.parametrize(("kind", "block"), [("asr", ASR_BLOCK), ("tts", TTS_BLOCK)])
def test_existing_blocks_work_unchanged(kind: str, block: dict[str, Any]) -> None:
    assert validate(kind, "Tencent", block)
    told = [warning.split(" ")[0].rpartition(".")[2] for warning in registry.ignored(kind, "Tencent", block)]
    assert sorted(told) == ["appid", "output_dir"]


@pytest.mark.parametrize("kind", ["asr", "tts"])
@pytest.mark.parametrize("key", ["secret_id", "secret_key"])
def test_sample_keys_are_refused(kind: str, key: str) -> None:
    for value, said in (("你的腾讯云SecretKey", "sample text"), ("", "must be set")):
        with pytest.raises(SettingsError, match=said):
            validate(kind, "Tencent", TTS_BLOCK | {key: value})


def test_a_sentence_as_it_is_asked_for(vendor: TencentVendor, make: Make) -> None:
    tts = make(
        "tts", ttsVolume=-100, ttsRate=50, private_voice="", speed="1", volume="2", format="mp3", language="English"
    )
    assert list(tts.synthesize("Hello.", CONTEXT))
    request = vendor.requests[0]
    body = request.json()
    assert request.headers["x-tc-region"] == "ap-guangzhou"
    assert body.pop("SessionId")
    assert body == {
        "Text": "Hello.",
        "VoiceType": 101001,
        "Codec": "mp3",
        "Speed": 3.0,
        "Volume": -10.0,
        "SampleRate": 24_000,
        "PrimaryLanguage": 2,
    }
    assert vendor.refusals == []


def test_the_speed_that_a_comment_of_the_existing_file_names(vendor: TencentVendor, make: Make) -> None:
    assert list(make("tts", speech_rate=2).synthesize("你好。", CONTEXT))
    assert vendor.requests[0].json()["Speed"] == 2


def test_a_cloned_voice(vendor: TencentVendor, make: Make) -> None:
    assert list(make("tts", private_voice="WCHN-1a2b").synthesize("你好。", CONTEXT))
    body = vendor.requests[0].json()
    assert (body["VoiceType"], body["FastVoiceType"]) == (200000000, "WCHN-1a2b")


def test_languages_are_told_as_the_vendor_writes_them(vendor: TencentVendor, make: Make) -> None:
    assert make("asr", language="yue").transcribe(SOUND, CONTEXT) == Transcript(vendor.text)
    body = vendor.requests[0].json()
    assert (body["EngSerViceType"], body["DataLen"]) == ("16k_yue", len(SOUND))
    assert "x-tc-region" not in vendor.requests[0].headers


def test_nothing_heard_is_no_error(vendor: TencentVendor, make: Make) -> None:
    asr = make("asr")
    assert asr.transcribe(bytes(32_000), CONTEXT) == Transcript("")
    vendor.next_error = "InvalidParameterValue.NoHumanVoice"
    assert asr.transcribe(SOUND, CONTEXT) == Transcript("")


def test_text_that_cannot_be_spoken_is_not_held_against_the_vendor(vendor: TencentVendor, make: Make) -> None:
    vendor.next_error = "UnsupportedOperation.UnsupportedText"
    with pytest.raises(VendorSilent):
        list(make("tts").synthesize("……", CONTEXT))


@pytest.mark.parametrize(
    ("code", "kind", "remedy"),
    [
        ("AuthFailure.SignatureFailure", VendorRejected, "the key in secret_id or secret_key was refused"),
        ("AuthFailure.SecretIdNotFound", VendorRejected, ""),
        ("AuthFailure.UnauthorizedOperation", VendorRejected, ""),
        ("InvalidParameterValue.VoiceType", VendorRejected, ""),
        ("FailedOperation.UserHasNoFreeAmount", VendorRejected, "the account is empty"),
        ("FailedOperation.ServiceIsolate", VendorRejected, "the account is empty"),
        ("UnsupportedOperation.PkgExhausted", VendorRejected, "the account is empty"),
        ("UnsupportedOperation.ServerNotOpen", VendorRejected, ""),
        ("ResourceInsufficient", VendorRejected, "the account is empty"),
        ("RequestLimitExceeded", VendorBusy, "too many requests"),
        ("RequestLimitExceeded.UinLimitExceeded", VendorBusy, ""),
        ("LimitExceeded.AccessLimit", VendorBusy, ""),
        ("InternalError.ErrorRecognize", VendorUnavailable, ""),
        ("FailedOperation.ErrorRecognize", VendorUnavailable, ""),
        ("FailedOperation", VendorUnavailable, ""),
    ],
)
def test_codes_by_remedy(vendor: TencentVendor, make: Make, code: str, kind: type[VendorError], remedy: str) -> None:
    assert type(tencent_failure("v", code, "")) is kind
    for asked in ("asr", "tts"):
        vendor.next_error = code
        provider = make(asked)
        with pytest.raises(kind, match=code) as caught:
            list(provider.synthesize("你好。", CONTEXT)) if asked == "tts" else provider.transcribe(SOUND, CONTEXT)
        assert SECRET not in str(caught.value) + caught.value.details
        remedies_of(asked, "Tencent", TTS_BLOCK).explain(caught.value)
        assert remedy in str(caught.value)


@pytest.mark.parametrize("answer", [b"[]", b'{"Response": []}', b'{"Response": {}}', b'{"Response": {"Audio": "%"}}'])
def test_answers_that_make_no_sense(vendor: TencentVendor, make: Make, answer: bytes) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vendor, "answer", lambda *_: VendorAnswer(answer))
        with pytest.raises(VendorGarbage):
            make("asr").transcribe(SOUND, CONTEXT)
        with pytest.raises(VendorGarbage):
            list(make("tts").synthesize("你好。", CONTEXT))
