"""A site made of a few files, for tests of pages that the server does not have."""

from __future__ import annotations

import mimetypes
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from gevent.pywsgi import WSGIServer

STRICT = "default-src 'self'; style-src 'self' 'unsafe-inline'"
"""A Content-Security-Policy that allows no script but files of the site."""


@contextmanager
def served(files: Mapping[str, str | bytes], policy: str = STRICT) -> Iterator[str]:
    """Serve files by path ("/page.html"), anything else is 404; gives "http://127.0.0.1:port"."""

    def answer(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        path = environ["PATH_INFO"]
        body = files.get(path, b"")
        kind = mimetypes.guess_type(path)[0] or "text/html"
        headers = [("Content-Type", f"{kind}; charset=utf-8"), ("Content-Security-Policy", policy)]
        start_response("200 OK" if path in files else "404 Not Found", headers)
        return [body.encode() if isinstance(body, str) else body]

    server = WSGIServer(("127.0.0.1", 0), answer, log=None)
    server.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.stop(timeout=1)
