"""The page at `/`, in a browser."""

from __future__ import annotations

from dataclasses import replace

from tests.browser.chromium import DESKTOP, BrowserPage


def test_it_fits_and_reads_well(page: BrowserPage) -> None:
    page.go("/")
    page.assert_light()
    page.check_for_everybody("/")


def test_it_speaks_the_language_of_the_browser(page: BrowserPage) -> None:
    for language, title in {"en": "Xiaozhi voice server", "zh-CN": "小智语音服务器"}.items():
        page.become(replace(DESKTOP, language=language))
        page.go("/")
        assert page.driver.title == title
        assert page.find("h1").text == title
