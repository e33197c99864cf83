"""Baidu's recognition against a strict service: the token, the request, every error by its remedy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest

from loadtest.vendors.http_vendor import VendorAnswer
from tests.vendors.baidu_vendor import API_KEY, ASR, SECRET, TOKEN, BaiduVendor
from xiaozhi.chat import CallContext
from xiaozhi.errors import (
    SettingsError,
    VendorBusy,
    VendorError,
    VendorGarbage,
    VendorRejected,
    VendorTimeout,
    VendorUnavailable,
)
from xiaozhi.providers import registry
from xiaozhi.providers.asr.baidu import BaiduAsr, asr_request
from xiaozhi.providers.contracts.asr import Transcript
from xiaozhi.providers.registry import validate
from xiaozhi.providers.remedies import remedies_of

CONTEXT = CallContext(device_id="aa:bb")
SOUND = b"\x10\x27" * 16_000
# As the existing server's config.yaml has it, keys filled in.
BLOCK = {
    "type": "baidu",
    "app_id": "12345678",
    "api_key": API_KEY,
    "secret_key": SECRET,
    "dev_pid": 1537,
    "output_dir": "tmp/",
}

Make = Callable[..., BaiduAsr]


@pytest.fixture
def vendor() -> Iterator[BaiduVendor]:
    with BaiduVendor() as running:
        yield running


@pytest.fixture
def make(vendor: BaiduVendor) -> Iterator[Make]:
    """Builds providers that are closed at the end."""
    made: list[BaiduAsr] = []

    def build_one(**more: Any) -> BaiduAsr:
        block = BLOCK | {"url": vendor.url + ASR, "token_url": vendor.url + TOKEN} | more
        made.append(BaiduAsr(validate("asr", "Baidu", block)))  # type: ignore[arg-type]
        return made[-1]

    yield build_one
    for provider in made:
        provider.close()


def test_the_existing_block_works_unchanged() -> None:
    for block in (BLOCK, BLOCK | {"dev_pid": "1537"}, BLOCK | {"dev_pid": ""}):
        options: Any = validate("asr", "Baidu", block)
        assert options.dev_pid == 1537
    told = [warning.split(" ")[0].rpartition(".")[2] for warning in registry.ignored("asr", "Baidu", BLOCK)]
    assert sorted(told) == ["app_id", "output_dir"]


@pytest.mark.parametrize("key", ["api_key", "secret_key"])
def test_sample_keys_are_refused(key: str) -> None:
    for value, said in (("你的百度语音技术APIKey", "sample text"), ("", "must be set")):
        with pytest.raises(SettingsError, match=said):
            validate("asr", "Baidu", BLOCK | {key: value})


def test_the_request_is_that_of_the_vendors_own_client() -> None:
    """Its fields and values as baidu-aip 4.16.13 sends them for `asr(bytes(range(8)), "pcm", 16000, {"dev_pid": "1537",
    "cuid": "aa:bb"})`; that package cannot be imported without others that it does not ask for."""
    sent = {
        "speech": "AAECAwQFBgc=",
        "len": 8,
        "channel": 1,
        "format": "pcm",
        "rate": 16000,
        "dev_pid": "1537",
        "cuid": "aa:bb",
        "token": "24.token",
    }
    ours = dict(asr_request(bytes(range(8)), "24.token", 1537, "aa:bb"))
    assert ours | {"dev_pid": str(ours["dev_pid"])} == sent


def test_one_token_for_all_blocks_and_devices(vendor: BaiduVendor, make: Make) -> None:
    blocks = [make(), make(dev_pid=1737)]
    users = [gevent.spawn(asr.transcribe, SOUND, CONTEXT) for asr in blocks * 10]
    gevent.joinall(users, timeout=30, raise_error=True)
    assert {user.value for user in users} == {Transcript(vendor.text)}
    assert vendor.counts[TOKEN] == 1
    assert vendor.refusals == []


def test_a_token_that_was_refused_is_replaced_for_the_next_one(vendor: BaiduVendor, make: Make) -> None:
    asr = make()
    assert asr.transcribe(SOUND, CONTEXT).text
    vendor.tokens.clear()
    with pytest.raises(VendorRejected, match="3302"):
        asr.transcribe(SOUND, CONTEXT)
    assert asr.transcribe(SOUND, CONTEXT).text
    assert vendor.counts[TOKEN] == 2


@pytest.mark.parametrize("change", [{"api_key": "other-key"}, {"secret_key": "other-secret"}])
def test_wrong_keys_are_named(make: Make, change: dict[str, str]) -> None:
    with pytest.raises(VendorRejected) as caught:
        make(**change).transcribe(SOUND, CONTEXT)
    assert caught.value.status == 401
    for secret in (SECRET, *change.values()):
        assert secret not in str(caught.value) + caught.value.details
    remedies_of("asr", "Baidu", BLOCK).explain(caught.value)
    assert "ASR.Baidu: 401, the key in api_key or secret_key was refused" in str(caught.value)


def test_a_refusal_of_keys_that_comes_with_status_200(vendor: BaiduVendor, make: Make) -> None:
    with pytest.MonkeyPatch.context() as patch:
        body = b'{"error": "invalid_client", "error_description": "Client authentication failed"}'
        patch.setattr(vendor, "answer", lambda *_: VendorAnswer(body))
        with pytest.raises(VendorRejected, match="invalid_client"):
            make().transcribe(SOUND, CONTEXT)


@pytest.mark.parametrize("code", [3301, 3314])
def test_nothing_heard_is_no_error(vendor: BaiduVendor, make: Make, code: int) -> None:
    vendor.next_error = code
    assert make().transcribe(SOUND, CONTEXT) == Transcript("")


@pytest.mark.parametrize(
    ("code", "kind", "remedy"),
    [
        (3300, VendorRejected, ""),
        (3302, VendorRejected, "the key in api_key or secret_key was refused"),
        (3303, VendorUnavailable, ""),
        (3304, VendorBusy, "too many requests"),
        (3305, VendorRejected, "the account is empty"),
        (3307, VendorUnavailable, ""),
        (3308, VendorRejected, ""),
        (3313, VendorTimeout, ""),
        (3315, VendorTimeout, ""),
        (18, VendorBusy, ""),
        (19, VendorRejected, "the account is empty"),
        (111, VendorRejected, "the key in"),
    ],
)
def test_codes_by_remedy(vendor: BaiduVendor, make: Make, code: int, kind: type[VendorError], remedy: str) -> None:
    vendor.next_error = code
    with pytest.raises(kind, match=str(code)) as caught:
        make().transcribe(SOUND, CONTEXT)
    assert type(caught.value) is kind
    assert SECRET not in str(caught.value) + caught.value.details
    remedies_of("asr", "Baidu", BLOCK).explain(caught.value)
    assert remedy in str(caught.value)


@pytest.mark.parametrize("answer", [b"[]", b"{}", b'{"err_no": 0}', b'{"err_no": 0, "result": [1]}'])
def test_answers_that_make_no_sense(vendor: BaiduVendor, make: Make, answer: bytes) -> None:
    asr = make()
    assert asr.transcribe(SOUND, CONTEXT).text
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vendor, "answer", lambda *_: VendorAnswer(answer))
        with pytest.raises(VendorGarbage):
            asr.transcribe(SOUND, CONTEXT)
