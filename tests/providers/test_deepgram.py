"""Deepgram: what is said in the address, how results become one text, silence, its errors; and the vendor's own client
as a second opinion."""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from deepgram import DeepgramClient
from deepgram.listen.v1.types import ListenV1Metadata, ListenV1Results

from loadtest.vendors.sounds import hum
from tests.vendors.deepgram_vendor import PATH, DeepgramVendor, metadata, results
from tests.waiting import wait_for
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
from xiaozhi.providers.asr import deepgram
from xiaozhi.providers.asr.deepgram import DeepgramAsr, DeepgramAsrOptions
from xiaozhi.providers.contracts.asr import AsrStream
from xiaozhi.providers.registry import validate

PCM = hum(2.0, 16_000)
KEY = "secret-key"


@pytest.fixture
def vendor() -> Iterator[DeepgramVendor]:
    with DeepgramVendor() as running:
        yield running
        assert running.faults == []


@contextmanager
def asr_for(vendor: DeepgramVendor, **block: object) -> Iterator[DeepgramAsr]:
    options = validate(
        "asr", "Deepgram", {"type": "deepgram", "url": vendor.url + PATH, "api_key": KEY, "timeout": 5, **block}
    )
    with closing(DeepgramAsr(options)) as asr:  # type: ignore[arg-type]
        yield asr


def heard(stream: AsrStream, pcm: bytes = PCM) -> str:
    with closing(stream):
        for start in range(0, len(pcm), 1920):
            stream.feed(pcm[start : start + 1920])
        return stream.finish().text


@pytest.mark.parametrize(
    ("sentences", "text"),
    [
        (("What time is it?", "And where?", "Hm."), "What time is it? And where? Hm."),
        (("现在几点？", "在哪里？"), "现在几点？在哪里？"),
        (("지금 몇 시예요?", "어디예요?"), "지금 몇 시예요? 어디예요?"),
        (("Hello.", "", "Again."), "Hello. Again."),
    ],
)
def test_final_results_become_one_text(sentences: tuple[str, ...], text: str) -> None:
    with DeepgramVendor(sentences=sentences) as vendor, asr_for(vendor) as asr:
        assert heard(asr.open(CallContext())) == text
        assert vendor.audio == PCM
        assert vendor.faults == []


def test_an_interim_result_is_replaced_by_the_next(vendor: DeepgramVendor) -> None:
    with asr_for(vendor) as asr, closing(asr.open(CallContext())) as stream:
        stream.feed(PCM[:3200])
        wait_for(lambda: stream.partial == "What", "the first interim result")
        stream.feed(PCM[3200:9600])
        wait_for(lambda: stream.partial == "What time is it?", "the first final one")
        stream.feed(PCM[9600:12800])
        wait_for(lambda: stream.partial == "What time is it? And", "the next interim one")
        assert stream.finish().language == "en"


def test_the_address_says_what_was_asked_for(vendor: DeepgramVendor) -> None:
    block = {
        "model_name": "nova-3-general",
        "language": "zh",
        "punctuate": "false",
        "smart_format": True,
        "interim_results": False,
        "endpointing": 0,
        "keyterm": "小智, Xiaozhi",
        "extra": {"numerals": True, "tag": ["a", "b"]},
    }
    with asr_for(vendor, **block) as asr:
        assert heard(asr.open(CallContext()))
    assert vendor.query == {
        "model": ["nova-3-general"],
        "language": ["zh"],
        "encoding": ["linear16"],
        "sample_rate": ["16000"],
        "channels": ["1"],
        "punctuate": ["false"],
        "smart_format": ["true"],
        "interim_results": ["false"],
        "endpointing": ["false"],
        "keyterm": ["小智", "Xiaozhi"],
        "numerals": ["true"],
        "tag": ["a", "b"],
    }


def test_what_the_vendor_does_not_know_is_refused_by_it(vendor: DeepgramVendor) -> None:
    with asr_for(vendor, extra={"no_such_parameter": 1}) as asr, pytest.raises(VendorRejected):
        asr.open(CallContext())


def test_opus_goes_out_packet_by_packet_and_whole(vendor: DeepgramVendor) -> None:
    with asr_for(vendor, encoding="opus") as asr:
        assert heard(asr.open(CallContext()), PCM[: 32_000 - 642]) == "What time is it? And where?"
    assert len(vendor.audio) == 31_360, "the last packet is filled up"


def test_whoever_is_silent_says_that_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deepgram, "SILENCE_S", 0.02)
    with DeepgramVendor(silence_s=5.0) as vendor, asr_for(vendor) as asr:
        with closing(asr.open(CallContext())) as stream:
            wait_for(lambda: vendor.kept_alive > 2, "KeepAlive")
            stream.feed(PCM)
            assert stream.finish().text
        assert vendor.faults == []


def test_a_vendor_that_heard_nothing_for_too_long_hangs_up() -> None:
    with DeepgramVendor(silence_s=0.05) as vendor, asr_for(vendor) as asr:
        with closing(asr.open(CallContext())) as stream:
            wait_for(lambda: not vendor.open, "the vendor to hang up")
            with pytest.raises(VendorUnavailable, match="NET-0001"):
                stream.finish()


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("stall_before", VendorTimeout),
        ("stall_after", VendorTimeout),
        ("drop", VendorUnavailable),
        ("garbage", VendorGarbage),
        ("error", VendorRejected),
        ("undecodable", VendorRejected),
        ("shut", VendorUnavailable),
    ],
)
def test_faults(vendor: DeepgramVendor, fault: str, expected: type[VendorError]) -> None:
    vendor.fault = fault
    with asr_for(vendor, timeout=0.2) as asr:
        with pytest.raises(expected) as caught:
            heard(asr.open(CallContext()))
        assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "expected"), [(401, VendorRejected), (402, VendorRejected), (429, VendorBusy), (500, VendorUnavailable)]
)
def test_a_refused_connection(vendor: DeepgramVendor, status: int, expected: type[VendorError]) -> None:
    vendor.reject.append(status)
    with asr_for(vendor) as asr, pytest.raises(expected):
        asr.open(CallContext())


@pytest.mark.parametrize(
    "block",
    [
        {"api_key": ""},
        {"api_key": "你的密钥"},
        {"api_key": KEY, "encoding": "mp3"},
        {"api_key": KEY, "url": "https://api.deepgram.com"},
        {"api_key": KEY, "endpointing": -1},
    ],
)
def test_wrong_blocks_are_refused(block: dict[str, object]) -> None:
    with pytest.raises(SettingsError):
        validate("asr", "Deepgram", {"type": "deepgram", **block})


# --- the vendor's own client ---------------------------------------------------------------------------------------


class Recorded:
    """A connection of the vendor's client that leads nowhere."""

    def __init__(self, address: str, headers: dict[str, str]) -> None:
        self.address, self.headers = address, headers
        self.sent: list[Any] = []
        self.answers: list[str] = []

    def __enter__(self) -> Recorded:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def send(self, message: Any) -> None:
        self.sent.append(message)

    def recv(self) -> str:
        return self.answers.pop(0)


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[Recorded]:
    made: list[Recorded] = []

    def connect(address: str, additional_headers: dict[str, str]) -> Recorded:
        made.append(Recorded(address, additional_headers))
        return made[-1]

    monkeypatch.setattr("deepgram.listen.v1.client.websockets_sync_client.connect", connect)
    return made


@pytest.mark.filterwarnings("ignore:websockets")
def test_the_vendors_client_writes_the_same_address_and_messages(recorded: list[Recorded]) -> None:
    options = DeepgramAsrOptions(api_key=KEY, keyterm="小智, Xiaozhi", smart_format=True)
    client = DeepgramClient(api_key=KEY)
    with client.listen.v1.connect(
        model="nova-3",
        language="multi",
        encoding="linear16",
        sample_rate=16000,
        channels=1,
        punctuate="true",
        smart_format="true",
        interim_results="true",
        endpointing=300,
        keyterm=["小智", "Xiaozhi"],
    ) as connection:
        connection.send_keep_alive()
        connection.send_close_stream()
    theirs, ours = urllib.parse.urlsplit(recorded[0].address), urllib.parse.urlsplit(options.address())
    assert (theirs.scheme, theirs.netloc, theirs.path) == (ours.scheme, ours.netloc, ours.path)
    assert urllib.parse.parse_qs(theirs.query) == urllib.parse.parse_qs(ours.query)
    assert recorded[0].headers["Authorization"] == f"Token {KEY}"
    assert [json.loads(message) for message in recorded[0].sent] == [{"type": "KeepAlive"}, {"type": "CloseStream"}]


def test_the_vendors_client_reads_what_the_loopback_vendor_says(recorded: list[Recorded]) -> None:
    client = DeepgramClient(api_key=KEY)
    with client.listen.v1.connect(model="nova-3") as connection:
        recorded[0].answers += [json.dumps(results("Hello.", final=True, languages=["en"])), json.dumps(metadata(1.5))]
        said, end = connection.recv(), connection.recv()
    assert isinstance(said, ListenV1Results) and isinstance(end, ListenV1Metadata)
    assert said.channel.alternatives[0].transcript == "Hello."
    assert ListenV1Results.model_validate(said.model_dump()) and ListenV1Metadata.model_validate(end.model_dump())
