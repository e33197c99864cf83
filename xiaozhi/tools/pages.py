"""Web pages as text for a language model: the main part, without navigation, of a page in any encoding.

Fetching is guarded (`net/guarded_fetch.py`), because the address of a page comes from a feed. What a page is made of is
worked out by the library resiliparse, off the hub."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.encoding import detect_encoding, map_encoding_to_html5
from resiliparse.parse.html import HTMLTree

from xiaozhi.errors import ToolError
from xiaozhi.tools.base import ToolServices

MAX_CHARS: Final = 6_000
"""Of a page; less than a result may be long."""


class Pages:
    """Fetches pages for one tool. `named_hosts`: see `GuardedFetch`."""

    def __init__(self, name: str, services: ToolServices, named_hosts: Iterable[str] = ()) -> None:
        self._client = services.fetch(name, named_hosts=named_hosts)
        self._offload = services.offload

    def text(self, url: str) -> str:
        """What stands on the page, at most `MAX_CHARS`. Raises VendorError, ToolError when there is no text on it."""
        page = self._client.get(url)
        if page.content_type not in ("text/html", "application/xhtml+xml", "text/plain", ""):
            raise ToolError(f"The page cannot be read: it is {page.content_type}.")
        text = str(self._offload(lambda: readable(page.body, page.charset)))
        if not text:
            raise ToolError("There is no text on the page.")
        return text if len(text) <= MAX_CHARS else text[:MAX_CHARS] + "…"


def readable(body: bytes, charset: str = "") -> str:
    """The main text of an HTML page. `charset`: as the server says, "" when it does not. CPU-bound, a few ms."""
    encoding = (map_encoding_to_html5(charset) if charset else detect_encoding(body)) or "utf-8"
    tree = HTMLTree.parse_from_bytes(body, encoding)
    for main in (True, False):  # short pages have no main part
        text = extract_plain_text(tree, main_content=main, links=False, alt_texts=False, list_bullets=False)
        if text.strip():
            return str(text.strip())
    return ""
