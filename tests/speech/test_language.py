"""The language of what was said, and of what a person calls a language."""

from __future__ import annotations

import pytest

from xiaozhi.settings.fixed_texts import APOLOGY
from xiaozhi.speech.language import home_language, named_language, spoken_language


@pytest.mark.parametrize(
    ("said", "language"),
    [
        ("你好", "zh"),
        ("打开 WiFi", "zh"),
        ("play 周杰伦", "zh"),
        ("What does 你好 mean in English?", "en"),
        ("今日の天気は", "ja"),
        ("안녕하세요", "ko"),
        ("Привет, как дела", "ru"),
        ("Привіт, як її справи", "uk"),
        ("Hola, qué tal estás", "es"),
        ("Guten Tag, wie ist das Wetter", "de"),
        ("C'est quoi", "fr"),
        ("Xin chào bạn", "vi"),
        ("ขอบคุณ", "th"),
        ("مرحبا", "ar"),
        ("नमस्ते दोस्त", "hi"),
        ("Hello.", "en"),
        ("Tell me a joke.", "en"),
        ("Say a tongue twister.", "en"),
        ("Leave me alone.", "en"),
        ("No idea.", "en"),
        ("What's nine plus fourteen?", "en"),
        ("Fecha a porta da sala.", "pt"),
        ("No, se acabó el café.", "es"),
        ("Co to je?", "cs"),
        ("", ""),
        ("123…", ""),
    ],
)
def test_what_was_said_shows_its_language(said: str, language: str) -> None:
    assert spoken_language(said) == language


@pytest.mark.parametrize("language", APOLOGY)
def test_every_ready_text_is_of_its_language(language: str) -> None:
    assert spoken_language(APOLOGY[language]) == language


def test_what_shows_no_language_is_of_the_one_before() -> None:
    assert spoken_language("OK.", "wie ist das Wetter", "how are you") == "de"
    assert spoken_language("…", "", "你好") == "zh"
    assert spoken_language("OK.", "Tokyo") == "en"
    assert spoken_language("No.", "¿Cómo está usted?") == "es"
    assert spoken_language("Fecha a porta.", usual="pt") == "pt"
    assert spoken_language("Take a seat.", "你好", usual="pt") == "en"
    assert spoken_language("give me a", usual="en") == "en"
    assert spoken_language("turn on the light", usual="zh") == "en"
    assert spoken_language("打开灯", usual="en") == "zh"
    assert spoken_language("123", usual="zh") == "", "who asks knows what was usual"
    assert spoken_language() == ""


def test_the_language_of_a_household() -> None:
    assert home_language(("你好小智", "hi xiaozhi")) == "zh"
    assert home_language(("...", "hi xiaozhi")) == "en"
    assert home_language(()) == ""


@pytest.mark.parametrize(
    ("name", "language"),
    [
        ("English", "en"),
        (" 中文 ", "zh"),
        ("zh-CN", "zh"),
        ("pt_BR", "pt"),
        ("Deutsch", "de"),
        ("français", "fr"),
        ("Klingon", ""),
        ("", ""),
    ],
)
def test_what_people_call_a_language(name: str, language: str) -> None:
    assert named_language(name) == language
