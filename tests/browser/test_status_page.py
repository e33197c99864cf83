"""The page at `/`, in a browser."""

from __future__ import annotations

import pytest

from tests.browser.chromium import VIEWERS, BrowserPage, Viewer

TITLES = {"en": "Xiaozhi voice server", "zh-CN": "小智语音服务器"}


@pytest.mark.parametrize("viewer", VIEWERS, ids=str)
def test_it_fits_and_reads_well(page: BrowserPage, viewer: Viewer) -> None:
    page.go("/")
    assert page.driver.title == TITLES[viewer.language]
    page.assert_light()
    page.check()
