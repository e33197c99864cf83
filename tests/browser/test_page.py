"""What the tests of pages rely on: a page with a fault does not pass, and a page is what its viewer is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.browser.chromium import DESKTOP, LAN_HOST, PHONE, VIEWERS, BrowserPage
from tests.browser.served import served

HEAD = '<!doctype html><html lang="en"><meta charset="utf-8"><title>Test</title>'
VIEWPORT = '<meta name="viewport" content="width=device-width">'


def html(body: str, head: str = VIEWPORT) -> str:
    """A page without faults around `body`."""
    return f"{HEAD}{head}<body><main><h1>Test</h1>{body}</main>"


FILES = {
    "/good": html("<p>Good.</p>"),
    "/wide": html('<div id="wide" style="width: 1300px">wide</div>'),
    "/no-viewport": html("<p>Small.</p>", head=""),
    "/pale": html('<p style="color: #ccc; background: #fff">Hard to read.</p>'),
    "/nameless": html("<input>"),
    "/heavy": html('<script src="heavy.js"></script>'),
    "/heavy.js": "/*" + "x" * 400_000 + "*/",
    "/throws": html('<script src="throws.js"></script>'),
    "/throws.js": "throw new Error('a script that throws')",
    "/rejects": html('<script src="rejects.js"></script>'),
    "/rejects.js": "Promise.reject(new Error('nobody waits for it'))",
    "/complains": html('<script src="complains.js"></script>'),
    "/complains.js": "console.error('a complaint'); console.warn('a warning')",
    "/inline": html("<script>window.ran = true</script>"),
    "/incomplete": html('<img alt="missing" src="missing.png">'),
    "/elsewhere": html('<img alt="elsewhere" src="http://elsewhere.invalid/a.png">'),
    "/refused": html('<script src="refused.js"></script>'),
    "/refused.js": "fetch('http://127.0.0.1:1/').catch(() => {})",
}


@pytest.fixture(scope="module")
def pages() -> Iterator[str]:
    """Pages with one fault each; any image may be asked for."""
    with served(FILES, "default-src 'self'; style-src 'unsafe-inline'; img-src *; connect-src *") as address:
        yield address


@pytest.fixture
def site(pages: str) -> str:
    return pages


def test_a_page_sees_its_viewer(page: BrowserPage) -> None:
    for viewer in VIEWERS:
        page.become(viewer)
        page.go("/good")
        assert page.run("return [innerWidth, innerHeight]") == [viewer.width, viewer.height]
        languages = page.run("return [navigator.language, Intl.DateTimeFormat().resolvedOptions().locale]")
        assert languages == [viewer.language, viewer.language]
        assert page.run("return matchMedia('(prefers-color-scheme: dark)').matches") is viewer.dark
        assert page.run("return matchMedia('(pointer: coarse)').matches") is viewer.phone


def test_a_page_without_faults_passes(page: BrowserPage) -> None:
    page.go("/good")
    page.assert_light()
    page.check_for_everybody("/good", "document.title === 'Test'")
    assert page.faults() == []


def test_what_does_not_fit_a_screen_is_named(page: BrowserPage) -> None:
    page.go("/wide")
    with pytest.raises(AssertionError, match=r'1280; too far right.*id="wide"'):
        page.assert_fits()
    page.become(PHONE)
    page.go("/no-viewport")
    with pytest.raises(AssertionError, match="on a screen of 390"):
        page.assert_fits()
    page.become(DESKTOP)
    page.assert_fits()


def test_what_not_everybody_can_use_is_named(page: BrowserPage) -> None:
    for path, finding in (("/pale", "color-contrast"), ("/nameless", "label")):
        page.go(path)
        with pytest.raises(AssertionError, match=finding):
            page.assert_accessible()


def test_a_heavy_load_is_seen(page: BrowserPage) -> None:
    page.go("/heavy")
    with pytest.raises(AssertionError, match=r"4\d{5} bytes"):
        page.assert_light()
    page.go("/good")
    page.assert_light()


def test_a_fault_is_seen_unless_it_is_expected(page: BrowserPage) -> None:
    for path, fault in (
        ("/throws", "a script that throws"),
        ("/rejects", "nobody waits for it"),
        ("/complains", "a complaint"),
        ("/inline", "Content Security Policy"),
        ("/incomplete", "missing.png"),
        ("/elsewhere", "asks another host: http://elsewhere.invalid/a.png"),
        ("/refused", "ERR_"),
    ):
        page.go(path)
        assert fault in "".join(page.faults()), path
        page.expect_fault(fault)
        page.expect_fault("elsewhere.invalid" if path == "/elsewhere" else fault)
        assert page.faults() == []


def test_an_expected_fault_has_to_come(page: BrowserPage) -> None:
    page.go("/good")
    page.expect_fault("a complaint")
    assert page.faults() == ["expected, and did not come: a complaint"]
    page.go("/complains")
    assert page.faults() == []


def test_a_page_that_throws_fails_the_test(page: BrowserPage) -> None:
    page.go("/good")
    with pytest.raises(AssertionError, match="out of order"):
        page.run("throw new Error('out of order')")


def test_by_a_name_of_the_lan_the_browser_gives_no_microphone(page: BrowserPage) -> None:
    page.go("/good", host=LAN_HOST)
    assert page.run("return [isSecureContext, 'mediaDevices' in navigator, location.hostname]") == [
        False,
        False,
        LAN_HOST,
    ]
    page.go("/good")
    assert page.run("return [isSecureContext, 'mediaDevices' in navigator]") == [True, True]
