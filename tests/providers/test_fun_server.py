"""FunASR against a strict server of each flavour: the text arrives whole, partials on the way, and every fault has its
error."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

import gevent
import pytest

from loadtest.vendors.sounds import hum
from tests.vendors.funasr_vendor import FunAsrVendor
from tests.waiting import PATIENCE_S, wait_for
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
from xiaozhi.providers.asr.fun_server import FunServerAsr
from xiaozhi.providers.contracts.asr import AsrStream
from xiaozhi.providers.registry import validate

PCM = hum(2.0, 16_000)


def asr_for(vendor: FunAsrVendor, **block: object) -> FunServerAsr:
    options = validate(
        "asr", "Fun", {"type": "fun_server", "host": "127.0.0.1", "port": vendor.port, "is_ssl": False, **block}
    )
    return FunServerAsr(options)  # type: ignore[arg-type]


def say(stream: AsrStream, pcm: bytes, piece: int = 1920) -> None:
    for start in range(0, len(pcm), piece):
        stream.feed(pcm[start : start + piece])
        gevent.sleep(0)


def wait_for_partial(stream: AsrStream, partial: str, *, whole: bool = False) -> None:
    wait_for(lambda: stream.partial == partial if whole else stream.partial.startswith(partial), partial)


@pytest.fixture
def vendor() -> Iterator[FunAsrVendor]:
    with FunAsrVendor() as running:
        yield running
        assert running.faults == []


@pytest.mark.parametrize("flavour", ["cpp", "python", "python_old", "offline"])
@pytest.mark.parametrize("piece", [1920, 640, 5000])
def test_the_whole_text_comes_back(flavour: str, piece: int) -> None:
    with FunAsrVendor(flavour=flavour) as vendor:
        stream = asr_for(vendor).open(CallContext())
        say(stream, PCM, piece)
        assert stream.finish().text == "what time is it"
        stream.close()
        assert bytes(vendor.audio) == PCM
        assert vendor.faults == []
        assert vendor.wait_gone()


@pytest.mark.parametrize("flavour", ["cpp", "python", "python_old"])
def test_sentences_that_end_while_the_user_still_speaks(flavour: str) -> None:
    with FunAsrVendor(flavour=flavour, ends=[12]) as vendor:
        stream = asr_for(vendor).open(CallContext())
        say(stream, PCM)
        wait_for_partial(stream, "what time")
        assert stream.finish().text == "what time is it"


@pytest.mark.parametrize("flavour", ["cpp", "python", "python_old"])
def test_nothing_left_after_the_last_sentence(flavour: str) -> None:
    with FunAsrVendor(flavour=flavour, ends=[12, 20]) as vendor:
        stream = asr_for(vendor).open(CallContext())
        say(stream, PCM)
        wait_for_partial(stream, "what time is it")
        assert stream.finish().text == "what time is it"


def test_partials_grow_and_are_replaced_by_what_was_corrected(vendor: FunAsrVendor) -> None:
    vendor.ends = [22]
    stream = asr_for(vendor).open(CallContext())
    expected = {9: "what", 19: "what what", 21: "what time", 29: "what time is"}
    for frame, start in enumerate(range(0, len(PCM), 1920)):
        stream.feed(PCM[start : start + 1920])
        if frame in expected:
            wait_for_partial(stream, expected[frame], whole=True)
    assert stream.finish().text == "what time is it"


def test_tags_of_sense_voice_become_fields(vendor: FunAsrVendor) -> None:
    vendor.sentences = ["<|zh|><|HAPPY|><|Speech|><|withitn|>你好。"]
    stream = asr_for(vendor).open(CallContext())
    say(stream, PCM)
    heard = stream.finish()
    assert (heard.text, heard.language, heard.emotion) == ("你好。", "zh", "happy")


def test_the_configuration_says_what_was_asked_for(vendor: FunAsrVendor) -> None:
    asr = asr_for(vendor, api_key="k1", hotwords={"小智": 20}, itn=True, language="zh", mode="2pass", output_dir="tmp/")
    stream = asr.open(CallContext())
    say(stream, PCM)
    stream.finish()
    assert vendor.headers["authorization"] == "Bearer; k1"
    assert vendor.config["hotwords"] == '{"小智":20}'
    assert (vendor.config["itn"], vendor.config["svs_lang"], vendor.config["mode"]) == (True, "zh", "2pass")


def test_the_sample_configuration_of_existing_servers_is_understood() -> None:
    options = validate(
        "asr",
        "Fun",
        {
            "type": "fun_server",
            "host": "127.0.0.1",
            "port": 10096,
            "is_ssl": "true",
            "api_key": "none",
            "output_dir": "tmp/",
        },
    )
    asr = FunServerAsr(options)  # type: ignore[arg-type]
    assert asr.url == "wss://127.0.0.1:10096"
    assert asr.headers == {}
    with pytest.raises(SettingsError):
        validate("asr", "Fun", {"type": "fun_server", "port": 0, "mode": "3pass"})


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("stall_before", VendorTimeout),
        ("stall_after", VendorTimeout),
        ("drop", VendorUnavailable),
        ("drop_at_end", VendorUnavailable),
        ("garbage", VendorGarbage),
        ("garbage_json", VendorGarbage),
    ],
)
def test_faults(fault: str, expected: type[VendorError]) -> None:
    with FunAsrVendor() as vendor:
        vendor.fault = fault
        stream = asr_for(vendor, timeout=0.2).open(CallContext())
        with pytest.raises(expected):
            say(stream, PCM)
            stream.finish()
        stream.close()


def test_an_error_in_the_end_mark() -> None:
    with FunAsrVendor(flavour="python", ends=[12]) as vendor:
        vendor.fault = "error"
        stream = asr_for(vendor).open(CallContext())
        say(stream, PCM)
        wait_for_partial(stream, "what time")
        with pytest.raises(VendorUnavailable, match="inference failed"):
            stream.finish()


@pytest.mark.parametrize(("status", "expected"), [(401, VendorRejected), (429, VendorBusy), (500, VendorUnavailable)])
def test_a_refused_connection(vendor: FunAsrVendor, status: int, expected: type[VendorError]) -> None:
    vendor.reject.append(status)
    with pytest.raises(expected):
        asr_for(vendor).open(CallContext())


def test_a_stalled_connection(vendor: FunAsrVendor) -> None:
    vendor.stall_upgrade = True
    with pytest.raises(VendorTimeout):
        asr_for(vendor, connect_timeout=0.1).open(CallContext())


def test_closing_hangs_up_and_ends_a_waiting_finish() -> None:
    with FunAsrVendor() as vendor:
        vendor.fault = "stall_before"
        stream = asr_for(vendor).open(CallContext())
        say(stream, PCM)
        waiting = gevent.spawn(lambda: pytest.raises(VendorUnavailable, stream.finish))
        gevent.sleep(0)  # it waits now
        stream.close()
        stream.close()
        waiting.get(timeout=PATIENCE_S)
        assert vendor.wait_gone()
        with pytest.raises(VendorUnavailable):
            stream.feed(PCM)


def test_killing_the_listener_hangs_up() -> None:
    with FunAsrVendor() as vendor:
        vendor.fault = "stall_before"
        stream = asr_for(vendor).open(CallContext())
        waiting = gevent.spawn(stream.finish)
        gevent.sleep(0)  # it waits now
        waiting.kill()
        assert vendor.wait_gone()


def test_a_self_signed_certificate_is_accepted_unless_told_otherwise(self_signed: ssl.SSLContext) -> None:
    with FunAsrVendor(tls=self_signed) as vendor:
        stream = asr_for(vendor, is_ssl=True).open(CallContext())
        say(stream, PCM)
        assert stream.finish().text == "what time is it"
        with pytest.raises(VendorUnavailable, match=r"(?i)certificate"):
            asr_for(vendor, is_ssl=True, verify=True).open(CallContext())
