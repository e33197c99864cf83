"""The overview in a browser: what it shows is what the server is asked for, for everybody."""

from __future__ import annotations

import pytest

from tests.browser.chromium import VIEWERS, BrowserPage, Viewer
from tests.lifecycle.house import House, ask

READY = "document.querySelectorAll('.overview-figures .card').length === 6"


@pytest.mark.parametrize("viewer", VIEWERS, ids=str)
def test_everybody_can_use_it(page: BrowserPage, viewer: Viewer) -> None:
    page.go("/console")
    page.wait_for(READY)

    page.assert_light()
    assert page.faults() == []
    page.check("overview")
