"""Numbers and signs in Chinese sentences, as they are read aloud."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xiaozhi.providers.families.mandarin_numbers import SUM, number, spelled_out

READ = {
    # dates and times
    "2026年11月27日": "二零二六年十一月二十七日",
    "2025-01-05": "二零二五年一月五日",
    "90年代": "九零年代",
    "2019年前": "二零一九年前",
    "1000年前": "一千年前",
    "5年前": "五年前",
    "10:05": "十点零五分",
    "8:00": "八点整",
    "2:30": "两点三十分",
    "14:30:15": "十四点三十分十五秒",
    "2点30分": "两点三十分",
    "2月2号": "二月二号",
    # temperatures, percentages, units
    "零下3.5度": "零下三点五度",
    "-3.5℃": "零下三点五摄氏度",
    "室温-5~3℃": "室温零下五到三摄氏度",
    "涨了3.5%": "涨了百分之三点五",
    "-3%": "百分之负三",
    "10%-20%": "百分之十到百分之二十",
    "10km/h": "十公里每小时",
    "500ml": "五百毫升",
    "5g盐": "五克盐",
    "面积90㎡": "面积九十平方米",
    "100W的灯": "一百瓦的灯",
    # telephone numbers and codes
    "电话13812341234": "电话幺三八，幺二三四，幺二三四",
    "010-62345678": "零幺零，六二三四，五六七八",
    "400-800-1234": "四零零，八零零，幺二三四",
    "请拨打10086": "请拨打幺零零八六",
    "打110": "打幺幺零",
    "验证码是0123": "验证码是零幺二三",
    "打了20个电话": "打了二十个电话",
    "手机5000元": "手机五千元",
    "120分钟": "一百二十分钟",
    # counting
    "2个苹果": "两个苹果",
    "12个": "十二个",
    "2楼": "二楼",
    "第2名": "第二名",
    "2小时": "两小时",
    "3-5天": "三到五天",
    "2.5米": "二点五米",
    # money, sums, fractions, scores
    "¥12.5": "十二点五元",
    "$5": "五美元",
    "1,234,567元": "一百二十三万四千五百六十七元",
    "3+5=8": "三加五等于八",
    "5-3=2": "五减三等于二",
    "3×-4": "三乘负四",
    "1/2杯": "二分之一杯",
    "比分是21:18": "比分是二十一比十八",
    "-3": "负三",
    # beside letters
    "5G": "五G",
    "16GB": "十六GB",
    "A4纸": "A四纸",
    "v1.2.3": "v一点二点三",
    "０５": "零五",
}


@pytest.mark.parametrize("written", READ)
def test_it_is_read_as_people_read_it(written: str) -> None:
    assert spelled_out(written) == READ[written]


@pytest.mark.parametrize(
    "digits,words",
    [
        ("0", "零"),
        ("10", "十"),
        ("12", "十二"),
        ("20", "二十"),
        ("102", "一百零二"),
        ("110", "一百一十"),
        ("200", "二百"),
        ("1010", "一千零一十"),
        ("2000", "两千"),
        ("10001", "一万零一"),
        ("20000", "两万"),
        ("100000001", "一亿零一"),
        ("12345678901234", "一二三四五六七八九零一二三四"),
        ("007", "零零七"),
        ("3.50", "三点五零"),
    ],
)
def test_numbers(digits: str, words: str) -> None:
    assert number(digits) == words


@given(st.text("0123456789.-+:/%~年月日点个元度a℃ ，", max_size=30))
def test_no_digit_is_left_whatever_stands_around_it(text: str) -> None:
    assert not any(char in "0123456789" for char in spelled_out(text))


def test_text_without_digits_is_left_alone() -> None:
    assert spelled_out("今天天气很好，我们去公园吧。") == "今天天气很好，我们去公园吧。"


@pytest.mark.parametrize("text", ["1" * 5000, "1" + ",000" * 1500], ids=["digits", "thousands"])
def test_endless_digits_are_read_one_by_one(text: str) -> None:
    """Every other reading needs time that grows with the square of the length."""
    assert spelled_out(text) == text.replace(",", "").replace("1", "一").replace("0", "零")


def test_a_run_of_signs_is_looked_at_once() -> None:
    text = "1-" * 2000 + "1"
    matches = list(SUM.finditer(text))

    assert [match[0] for match in matches] == [text]
    assert "减" not in spelled_out(text) and spelled_out("1-1=0") == "一减一等于零"
