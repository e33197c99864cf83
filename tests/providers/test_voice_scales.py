"""The consoles' percentages in a vendor's range."""

from __future__ import annotations

import pytest

from xiaozhi.providers.families.voice_scales import VoiceScales, scaled
from xiaozhi.providers.tts.huoshan_double_stream import HuoshanTtsOptions


@pytest.mark.parametrize(("percent", "speed"), [(-100, 0.25), (-50, 0.62), (0, 1.0), (50, 2.5), (100, 4.0)])
def test_either_side_is_linear(percent: float, speed: float) -> None:
    assert scaled(percent, 0.25, 1.0, 4.0, otherwise=9) == pytest.approx(speed, abs=0.01)


def test_nothing_set_leaves_the_block_alone() -> None:
    assert scaled(None, 0, 50, 100, otherwise=7) == 7


def test_the_keys_are_those_of_consoles() -> None:
    options = VoiceScales.model_validate({"ttsRate": "-10", "ttsVolume": 20, "ttsPitch": 100})
    assert (options.rate_percent, options.volume_percent, options.pitch_percent) == (-10, 20, 100)


@pytest.mark.parametrize("zero", [0, "0", 0.0, -0.0])
def test_a_slider_that_was_not_moved_leaves_the_block_alone(zero: object) -> None:
    options = HuoshanTtsOptions.model_validate(
        {
            "appid": "1",
            "access_token": "k",
            "speaker": "zh_female_wanwanxiaohe_moon_bigtts",
            "audio_params": {"speech_rate": 12, "loudness_rate": -7},
            "additions": {"post_process": {"pitch": 3}},
            "ttsRate": zero,
            "ttsVolume": zero,
            "ttsPitch": zero,
        }
    )

    assert (options.rate_percent, options.volume_percent, options.pitch_percent) == (None, None, None)
    assert {key: options.audio()[key] for key in ("speech_rate", "loudness_rate")} == {
        "speech_rate": 12,
        "loudness_rate": -7,
    }
    assert options.extras() == {"post_process": {"pitch": 3}}
