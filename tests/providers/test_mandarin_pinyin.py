"""How Chinese characters are read: polyphones in words, tone sandhi, neutral tones, erhua."""

from __future__ import annotations

from pathlib import Path

import pytest

from xiaozhi.providers.families.kokoro_alphabet import NUMBERS, phonemes_of
from xiaozhi.providers.families.mandarin_pinyin import Readings, load_readings, read

SPOKEN = {
    # characters with several readings
    "银行": "yin2 hang2",
    "行走": "xing2 zou3",
    "长大": "zhang3 da4",
    "长度": "chang2 du4",
    "音乐": "yin1 yue4",
    "快乐": "kuai4 le4",
    "重庆": "chong2 qing4",
    "重要": "zhong4 yao4",
    "首都": "shou3 du1",
    "都是": "dou1 shi4",
    "睡觉": "shui4 jiao4",
    "觉得": "jue2 de5",
    "空调调到": "kong1 tiao2 tiao2 dao4",
    "睡着了": "shui4 zhao2 le5",
    "听着": "ting1 zhe5",
    "慢慢地走": "man4 man4 de5 zou3",
    "三只小猪": "san1 zhi1 xiao3 zhu1",
    "只有": "zhi2 you3",
    "得去": "dei3 qu4",
    "绿色": "lv4 se4",
    # third tones
    "你好": "ni2 hao3",
    "我很好": "wo2 hen2 hao3",
    "展览馆": "zhan2 lan2 guan3",
    # 一 and 不
    "一个": "yi2 ge4",
    "一起": "yi4 qi3",
    "一年": "yi4 nian2",
    "第一": "di4 yi1",
    "十一月": "shi2 yi1 yue4",
    "看一看": "kan4 yi5 kan4",
    "大一点": "da4 yi4 dian3",
    "一点半": "yi1 dian3 ban4",
    "不是": "bu2 shi4",
    "不好": "bu4 hao3",
    # neutral tones and erhua
    "朋友": "peng2 you5",
    "妈妈": "ma1 ma5",
    "我们": "wo3 men5",
    "哪儿": "na3r",
    "一会儿": "yi2 hui4r",
    "女儿": "nv3 er2",
}


@pytest.fixture(scope="module")
def readings() -> Readings:
    return load_readings()


@pytest.mark.parametrize("written", SPOKEN)
def test_it_is_spoken_as_people_speak(readings: Readings, written: str) -> None:
    spoken = [syllable for word in read(written, readings) for syllable in word.syllables]

    assert " ".join(spoken) == SPOKEN[written]


def test_words_are_found_and_the_rest_is_taken_in_pairs(readings: Readings) -> None:
    assert readings.split("今天我和朋友去银行") == ["今天", "我", "和", "朋友", "去", "银行"]


def test_every_character_of_everyday_text_has_phonemes_that_the_model_knows(readings: Readings) -> None:
    syllables = {syllable for code in range(0x4E00, 0x9FA6) for syllable in readings.of(chr(code)) if syllable}

    assert len(syllables) > 1_000
    for syllable in syllables:
        phonemes = phonemes_of(syllable)
        assert phonemes, syllable
        assert all(char in NUMBERS for char in phonemes)


@pytest.mark.parametrize(
    "syllable,phonemes",
    [
        ("ma1", "ma→"),
        ("hao3", "xau↓"),
        ("zhi1", "ꭧɨ→"),
        ("zi5", "ʦɨ"),
        ("ju4", "ʨy↘"),
        ("xun2", "ɕy↗n"),
        ("quan2", "ʨʰɥɛ↗n"),
        ("nv3", "ny↓"),
        ("lve4", "lɥe↘"),
        ("yuan2", "ɥɛ↗n"),
        ("wei4", "wei↘"),
        ("liu4", "ljou↘"),
        ("gui4", "kwei↘"),
        ("dun4", "twə↘n"),
        ("er2", "ɚ↗"),
        ("bo1", "pwo→"),
        ("na3r", "na↓ɚ"),
        ("", ""),
        ("xyz1", ""),
        ("ma", ""),
    ],
)
def test_syllables_in_the_alphabet_of_the_model(syllable: str, phonemes: str) -> None:
    assert phonemes_of(syllable) == phonemes


def test_tables_of_another_form_are_refused(tmp_path: Path) -> None:
    (tmp_path / "pinyin_dict.json").write_text('{"19968": "yī"}', encoding="utf-8")
    (tmp_path / "phrases_dict.json").write_text("{}", encoding="utf-8")

    with pytest.raises(ValueError, match="holds no words"):
        Readings(tmp_path)
