"""MiniMax: what is asked for, sound that comes twice, and what its codes mean."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from loadtest.vendors.http_vendor import Script, VendorAnswer
from tests.providers.spoken_services import Speak, asked, speaking
from tests.vendors.speech_services import (
    KEY,
    minimax_refusal,
)
from xiaozhi.errors import (
    VendorBusy,
    VendorError,
    VendorGarbage,
    VendorRejected,
    VendorSilent,
    VendorTimeout,
    VendorUnavailable,
)

spoken = pytest.fixture(speaking)


def test_minimax_settings(spoken: Speak) -> None:
    _, vendor = spoken(
        "minimax_httpstream",
        voice_setting='{"voice_id": "male-qn-qingse", "emotion": "sad", "pitch": 2, "latex_read": true}',
        pronunciation_dict={"tone": ["处理/(chu3)(li3)"]},
        private_voice="mine",
        ttsRate=-100,
        ttsVolume=100,
        ttsPitch=50,
    )
    body = asked(vendor)
    assert body["voice_setting"] == {
        "voice_id": "mine",
        "speed": 0.5,
        "vol": 10.0,
        "pitch": 6,
        "emotion": "sad",
        "latex_read": True,
    }
    assert body["audio_setting"] == {"sample_rate": 24000, "bitrate": 128000, "format": "pcm", "channel": 1}
    assert body["pronunciation_dict"] == {"tone": ["处理/(chu3)(li3)"]}
    assert vendor.requests[0].path == "/v1/t2a_v2?GroupId=42"


def test_minimax_mixes_voices_instead_of_one(spoken: Speak) -> None:
    weights = [{"voice_id": "male-qn-qingse", "weight": 1}, {"voice_id": "female-shaonv", "weight": 1}]
    for given in (weights, orjson.dumps(weights).decode()):
        body = asked(spoken("minimax_httpstream", timber_weights=given)[1])
        assert body["timber_weights"] == weights
        assert body["voice_setting"]["voice_id"] == ""


def _events(*events: Any) -> VendorAnswer:
    return VendorAnswer(b"".join(b"data: " + orjson.dumps(event) + b"\n\n" for event in events), "text/event-stream")


def test_minimax_sound_that_comes_twice_is_heard_once(spoken: Speak) -> None:
    half, pcm = bytes(2 * 12_000), bytes(2 * 24_000)
    pieces = [{"data": {"audio": half.hex(), "status": 1}}] * 2
    assert spoken("minimax_httpstream", script=_scripted(*pieces, {"data": {"audio": pcm.hex(), "status": 2}}))[0] == 1
    assert spoken("minimax_httpstream", script=_scripted({"data": {"audio": pcm.hex(), "status": 2}}))[0] == 1


def _scripted(*events: Any) -> Script:
    return Script(answer=_events(*events))


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (1000, VendorUnavailable),
        (1001, VendorTimeout),
        (1002, VendorBusy),
        (1004, VendorRejected),
        (1008, VendorRejected),
        (1039, VendorBusy),
        (1042, VendorSilent),
        (2013, VendorRejected),
        (2049, VendorRejected),
        (4711, VendorRejected),
    ],
)
@pytest.mark.parametrize("as_event", [False, True])
def test_minimax_codes(spoken: Speak, code: int, expected: type[VendorError], as_event: bool) -> None:
    refusal = {"base_resp": {"status_code": code, "status_msg": f"refused {KEY}"}}
    answer = _events(refusal) if as_event else minimax_refusal(code, f"refused {KEY}")
    with pytest.raises(VendorError) as caught:
        spoken("minimax_httpstream", script=Script(answer=answer))
    assert type(caught.value) is expected
    assert str(code) in str(caught.value)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("body", [b"data: {\n\n", b'data: {"data": {"audio": "xyz", "status": 1}}\n\n', b"hello\n"])
def test_minimax_nonsense(spoken: Speak, body: bytes) -> None:
    with pytest.raises(VendorGarbage):
        spoken("minimax_httpstream", script=Script(answer=VendorAnswer(body, "text/event-stream")))
