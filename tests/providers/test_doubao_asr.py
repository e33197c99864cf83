"""Doubao's recognisers against a strict service: frames, what the request says, sentences, all forms of answers, every
fault; and the blocks of existing files."""

from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from loadtest.vendors.sounds import hum
from tests.vendors.volcengine_recogniser import ASYNC, NOSTREAM, V2, VolcengineRecogniser
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
from xiaozhi.providers.asr.doubao import DoubaoAsr
from xiaozhi.providers.asr.doubao_stream import DoubaoStreamAsr
from xiaozhi.providers.contracts.asr import Asr, AsrStream, Transcript
from xiaozhi.providers.families.volcengine import BadFrame, pack_request, pack_sound, parse_recognition
from xiaozhi.providers.families.volcengine_errors import failure
from xiaozhi.providers.registry import build, ignored, registration, validate

PCM = hum(2.0, 16_000)
CONTEXT = CallContext(device_id="aa:bb")
MULTILINGUAL = {"enable_multilingual": "True", "language": "en-US"}


@pytest.fixture
def vendor() -> Iterator[VolcengineRecogniser]:
    with VolcengineRecogniser() as running:
        yield running
        assert running.faults == []


@contextmanager
def asr_for(vendor: VolcengineRecogniser, path: str = ASYNC, **block: object) -> Iterator[Asr]:
    base = {
        "type": "doubao" if path == V2 else "doubao_stream",
        "ws_url": vendor.url + path,
        "appid": "app",
        "access_token": "token-123",
        **(MULTILINGUAL if path == NOSTREAM else {}),
    }
    with closing(build("asr", "Doubao", base | block, None)) as asr:  # type: ignore[arg-type]
        yield asr


def say(stream: AsrStream, pcm: bytes = PCM) -> None:
    for start in range(0, len(pcm), 1920):
        stream.feed(pcm[start : start + 1920])


def heard(asr: Asr, pcm: bytes = PCM) -> Transcript:
    with closing(asr.open(CONTEXT)) as stream:
        say(stream, pcm)
        return stream.finish()


@pytest.mark.parametrize("form", ["gzip", "plain", "lying"])
@pytest.mark.parametrize("path", [ASYNC, NOSTREAM, V2])
def test_the_whole_text_comes_back(vendor: VolcengineRecogniser, path: str, form: str) -> None:
    vendor.form, vendor.ends = form, [4]
    with asr_for(vendor, path) as asr:
        assert heard(asr).text == "今天天气怎么样？我们去公园吧。"
    assert vendor.audio.startswith(PCM)
    assert not any(vendor.audio[len(PCM) :])
    assert vendor.pieces == 11, "2 s in pieces of 200 ms, and the end"
    assert vendor.paths == [path]


@pytest.mark.parametrize("result_type", ["single", "full"])
def test_partials_grow_sentence_by_sentence(vendor: VolcengineRecogniser, result_type: str) -> None:
    vendor.ends = [4]
    with asr_for(vendor, result_type=result_type) as asr, closing(asr.open(CONTEXT)) as stream:
        stream.feed(PCM[: 2 * 6400])
        wait_for(lambda: stream.partial == "今天", "the beginning of the first sentence")
        stream.feed(PCM[2 * 6400 : 4 * 6400])
        wait_for(lambda: stream.partial == "今天天气怎么样？我们", "the first sentence, and the next one begun")
        assert stream.finish().text == "今天天气怎么样？我们去公园吧。"


def test_a_sentence_that_is_told_again_is_not_said_twice(vendor: VolcengineRecogniser) -> None:
    vendor.ends, vendor.fault = [4], "repeat"
    with asr_for(vendor) as asr:
        assert heard(asr).text == "今天天气如何？我们去公园吧。"


def test_the_whole_text_counts_where_it_is_told(vendor: VolcengineRecogniser) -> None:
    vendor.ends, vendor.fault = [2, 4], "recut"
    with asr_for(vendor, result_type="full") as asr:
        assert heard(asr).text == "今天天气怎么样？我们去公园吧。"


@pytest.mark.parametrize("result_type", ["single", "full"])
def test_an_empty_end_takes_nothing_back(vendor: VolcengineRecogniser, result_type: str) -> None:
    vendor.fault = "empty_end"
    with asr_for(vendor, result_type=result_type) as asr:
        assert heard(asr).text == "今天"


def test_sentences_in_latin_letters_are_parted(vendor: VolcengineRecogniser) -> None:
    vendor.sentences, vendor.ends = ["How are you?", "Let us go."], [4]
    with asr_for(vendor) as asr:
        assert heard(asr).text == "How are you? Let us go."


def test_how_it_was_said(vendor: VolcengineRecogniser) -> None:
    vendor.emotion = "happy"
    with asr_for(vendor, request={"enable_emotion_detection": True}) as asr:
        assert heard(asr).emotion == "happy"
    assert vendor.request["request"]["enable_emotion_detection"] is True


@pytest.mark.parametrize("path", [ASYNC, NOSTREAM, V2])
@pytest.mark.parametrize("pcm", [b"", bytes(16_000)])
def test_silence_is_an_empty_text(vendor: VolcengineRecogniser, path: str, pcm: bytes) -> None:
    with asr_for(vendor, path) as asr:
        assert heard(asr, pcm) == Transcript("")


def test_the_request_says_what_the_block_does(vendor: VolcengineRecogniser) -> None:
    block = {"boosting_table_name": "hot", "correct_table_name": "corrections", "end_window_size": "800", "uid": "me"}
    with asr_for(vendor, **block) as asr:
        heard(asr)
    asked = vendor.request["request"]
    assert asked["corpus"] == {"boosting_table_name": "hot", "correct_table_name": "corrections"}
    assert (asked["end_window_size"], asked["result_type"]) == (800, "single")
    assert vendor.request["user"] == {"uid": "me"}
    with asr_for(vendor, NOSTREAM, end_window_size=50, request={"corpus": {"context": "{}"}}) as asr:
        heard(asr)
    assert vendor.request["audio"]["language"] == "en-US"
    assert vendor.request["user"] == {"uid": "aa:bb"}
    assert vendor.request["request"]["end_window_size"] == 200, "the vendor's least"
    assert vendor.request["request"]["corpus"] == {"context": "{}"}


def test_the_request_of_v2(vendor: VolcengineRecogniser) -> None:
    with asr_for(vendor, V2, boosting_table_name="hot", correct_table_name="") as asr:
        heard(asr)
    assert vendor.request["app"] == {"appid": "app", "cluster": "volcengine_input_common", "token": "token-123"}
    assert vendor.request["request"]["boosting_table_name"] == "hot"
    assert "correct_table_name" not in vendor.request["request"]


def test_the_new_consoles_key(vendor: VolcengineRecogniser) -> None:
    vendor.api_key = "new-key"
    with asr_for(vendor, api_key="new-key", appid="", access_token="") as asr:
        assert heard(asr).text


@pytest.mark.parametrize("path", [ASYNC, V2])
def test_wrong_credentials(vendor: VolcengineRecogniser, path: str) -> None:
    with asr_for(vendor, path, access_token="wrong-token") as asr, pytest.raises(VendorRejected) as caught:
        asr.open(CONTEXT)
    assert "wrong-token" not in str(caught.value)


def test_a_resource_that_was_not_ordered(vendor: VolcengineRecogniser) -> None:
    with asr_for(vendor, resource_id="volc.service_type.10029") as asr, pytest.raises(VendorRejected):
        asr.open(CONTEXT)


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("refused_request", VendorRejected),
        ("stall_before", VendorTimeout),
        ("stall_after", VendorTimeout),
        ("drop", VendorUnavailable),
        ("garbage", VendorGarbage),
        ("not_json", VendorGarbage),
        ("text", VendorUnavailable),
        ("error", VendorUnavailable),
        ("busy", VendorBusy),
    ],
)
@pytest.mark.parametrize("path", [ASYNC, V2])
def test_faults(vendor: VolcengineRecogniser, path: str, fault: str, expected: type[VendorError]) -> None:
    vendor.once.append(fault)
    with asr_for(vendor, path, timeout=0.2) as asr:
        with pytest.raises(expected) as caught:
            heard(asr)
        assert "token-123" not in str(caught.value)
        assert heard(asr).text


@pytest.mark.parametrize("path", [ASYNC, V2])
def test_an_utterance_that_is_left_hangs_up(vendor: VolcengineRecogniser, path: str) -> None:
    with asr_for(vendor, path) as asr:
        stream = asr.open(CONTEXT)
        say(stream, PCM[:9600])
        stream.close()
        assert vendor.wait_gone()


# --- blocks --------------------------------------------------------------------------------------------------------

EXISTING = """
DoubaoASR:
  type: doubao
  appid: 6468123456
  access_token: token-123
  cluster: volcengine_input_common
  boosting_table_name: （选填）你的热词文件名称
  correct_table_name: （选填）你的替换词文件名称
  output_dir: tmp/
DoubaoStreamASR:
  type: doubao_stream
  appid: 6468123456
  access_token: token-123
  resource_id: volc.bigasr.sauc.duration
  boosting_table_name: （选填）你的热词文件名称
  correct_table_name: （选填）你的替换词文件名称
  enable_multilingual: False
  end_window_size: 200
  output_dir: tmp/
DoubaoStreamASRV2:
  type: doubao_stream
  appid: 6468123456
  access_token: token-123
  resource_id: volc.seedasr.sauc.duration
  boosting_table_name: （选填）你的热词文件名称
  correct_table_name: （选填）你的替换词文件名称
  enable_multilingual: False
  end_window_size: 200
  output_dir: tmp/
ASR_DoubaoStreamASRV2:
  type: doubao_stream
  appid: "6468123456"
  access_token: token-123
  resource_id: volc.seedasr.sauc.duration
  end_window_size: "200"
  enable_multilingual: false
  language: zh-CN
  boosting_table_name: ""
  correct_table_name: null
  output_dir: tmp/
Everything:
  type: doubao_stream
  appid: 6468123456
  access_token: token-123
  uid: streaming_asr_service
  result_type: single
  format: pcm
  codec: pcm
  sample_rate: "16000"
  bits: 16
  channel: 1
  auth_method: token
"""
"""As the existing server ships them, and as its console sends them, with keys filled in."""


@pytest.mark.parametrize("name", yaml.safe_load(EXISTING))
def test_blocks_of_existing_files(name: str) -> None:
    with VolcengineRecogniser(app_key="6468123456") as vendor:
        block = yaml.safe_load(EXISTING)[name]
        path = V2 if block["type"] == "doubao" else ASYNC
        with closing(build("asr", name, block | {"ws_url": vendor.url + path}, None)) as asr:  # type: ignore[arg-type]
            assert heard(asr).text == "今天天气怎么样？我们去公园吧。"
        assert vendor.faults == []
        warned = ignored("asr", name, block)
        assert all("output_dir" in warning for warning in warned)
        assert len(warned) == ("output_dir" in block)


def test_where_it_connects_when_no_address_is_given() -> None:
    assert registration("asr", "DoubaoASR", {"type": "doubao"}).cls is DoubaoAsr
    assert registration("asr", "X", {"type": "doubao_stream"}).cls is DoubaoStreamAsr


@pytest.mark.parametrize(
    ("block", "told"),
    [({"language": "ja-JP"}, 1), ({"language": "zh-CN"}, 0), ({"language": "ja-JP", "enable_multilingual": True}, 0)],
)
def test_a_language_that_nobody_reads_is_told(block: dict[str, object], told: int) -> None:
    with capture_logs() as logs:
        build("asr", "X", {"type": "doubao_stream", "access_token": "t", **block}, None)  # type: ignore[arg-type]
    assert len(logs) == told


def test_a_key_without_effect_is_told() -> None:
    block = {"type": "doubao_stream", "appid": "1", "access_token": "t", "secret": "access_secret", "cluster": "c"}
    assert len(ignored("asr", "X", block)) == 2


@pytest.mark.parametrize(
    ("block", "key"),
    [
        ({"type": "doubao_stream", "access_token": "你的火山引擎语音合成服务access_token"}, "ASR.X.access_token"),
        ({"type": "doubao_stream", "appid": "你的火山引擎语音合成服务appid"}, "ASR.X.appid"),
        ({"type": "doubao_stream", "format": "ogg", "codec": "opus"}, "ASR.X.format"),
        ({"type": "doubao_stream", "sample_rate": 8000}, "ASR.X.sample_rate"),
        ({"type": "doubao_stream", "auth_method": "signature"}, "ASR.X.auth_method"),
        ({"type": "doubao_stream", "ws_url": "https://openspeech.bytedance.com"}, "ASR.X.ws_url"),
        ({"type": "doubao", "appid": "1"}, "ASR.X.access_token"),
        ({"type": "doubao", "access_token": "t"}, "ASR.X.appid"),
    ],
)
def test_wrong_blocks_are_refused(block: dict[str, object], key: str) -> None:
    with pytest.raises(SettingsError) as caught:
        validate("asr", "X", block)
    assert key in {fault.key for fault in caught.value.faults}


# --- frames --------------------------------------------------------------------------------------------------------


def test_request_frames_are_as_documented() -> None:
    request = pack_request({"a": 1})
    assert request[:4] == bytes.fromhex("11101100")
    assert struct.unpack(">I", request[4:8]) == (len(request) - 8,)
    assert json.loads(gzip.decompress(request[8:])) == {"a": 1}
    for last, header in ((False, "11200100"), (True, "11220100")):
        sound = pack_sound(b"pcm", last=last)
        assert sound[:4] == bytes.fromhex(header)
        assert gzip.decompress(sound[8:]) == b"pcm"


def test_answer_frames_in_all_their_forms() -> None:
    body = b'{"code": 1000}'
    sized = struct.pack(">I", len(body)) + body
    packed = gzip.compress(body)
    with_sequence = parse_recognition(bytes.fromhex("11911000 00000002") + sized)
    assert (with_sequence.json(), with_sequence.last, with_sequence.code) == ({"code": 1000}, False, 0)
    assert parse_recognition(bytes.fromhex("11931000 00000003") + sized).last
    assert parse_recognition(bytes.fromhex("11911000 fffffffd") + sized).last, "a negative sequence"
    assert parse_recognition(bytes.fromhex("11921000") + sized).last, "no sequence, the last"
    assert parse_recognition(bytes.fromhex("11951000 00000001 00000000") + sized).payload == body, "with an event"
    zipped = parse_recognition(bytes.fromhex("11901100") + struct.pack(">I", len(packed)) + packed)
    assert zipped.payload == body
    error = parse_recognition(bytes.fromhex("11f01000 02aea541") + sized)
    assert (error.code, error.payload) == (45_000_001, body)
    assert parse_recognition(bytes.fromhex("11b00000 00000001")).json() == {}, "an acknowledgement"


ZIPPED = "0000002a1f8b0800000000000203ab562a4a2d2ecd2951b2aa562a49ad00d24af9d94ab5b500cf54cc0618000000"
PLAIN = "000000187b22726573756c74223a7b2274657874223a226f6b227d7d"


@pytest.mark.parametrize(
    ("frame", "last"),
    [
        (f"1191110000000002{ZIPPED}", False),
        (f"11931100fffffffd{ZIPPED}", True),
        (f"1193100000000004{PLAIN}", True),
        (f"11901100{ZIPPED}", False),
        (f"11921000{PLAIN}", True),
    ],
)
def test_frames_are_read_as_the_vendors_own_client_reads_them(frame: str, last: bool) -> None:
    """Made and read once with utils/binary_protocol.py of arkitect 0.2.11, the vendor's package, which is too large to
    be installed for this. Its headers of a request and of sound without numbers are those of
    `test_request_frames_are_as_documented`."""
    read = parse_recognition(bytes.fromhex(frame))
    assert (read.json(), read.last, read.code) == ({"result": {"text": "ok"}}, last, 0)


@pytest.mark.parametrize(
    "data", [b"", b"\x11\x90\x10", b"\x21\x90\x10\x00", b"\x11\x91\x10\x00\x00", b"\x11\x20\x10\x00\x00\x00\x00\x00"]
)
def test_bad_frames(data: bytes) -> None:
    with pytest.raises(BadFrame):
        parse_recognition(data)


@given(st.binary(max_size=60))
def test_noise_is_a_frame_or_a_bad_frame(noise: bytes) -> None:
    for start in (b"", b"\x11\x91\x11\x00\x00\x00\x00\x01", b"\x11\xf0\x11\x00", b"\x11\x90\x10\x00"):
        try:
            parse_recognition(start + noise).json()
        except BadFrame:
            pass


@pytest.mark.parametrize(
    ("code", "message", "expected"),
    [
        (1002, "token invalid", VendorRejected),
        (1003, "qps", VendorBusy),
        (1004, "over", VendorRejected),
        (1005, "server busy", VendorUnavailable),
        (1010, "too long", VendorRejected),
        (1020, "waited", VendorTimeout),
        (1022, "recognition failed", VendorUnavailable),
        (45_000_081, "no packet", VendorTimeout),
        (45_000_151, "audio format", VendorRejected),
        (55_000_031, "overloaded", VendorUnavailable),
        (55_000_000, "resource ID is mismatched with speaker related resource", VendorRejected),
        (45_000_000, "quota exceeded for types: concurrency", VendorBusy),
        (45_000_000, "quota exceeded for types: text_lifetime", VendorRejected),
        (0, "load grant: requested grant not found", VendorRejected),
    ],
)
def test_errors_by_remedy(code: int, message: str, expected: type[Any]) -> None:
    assert type(failure("v", code, message)) is expected
