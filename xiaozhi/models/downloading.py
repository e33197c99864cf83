"""One large file over HTTP: resumed where it broke off, from the next mirror when one fails, is slow or carries other
bytes.

For a person at a terminal, not for the server: it computes and writes on the hub. `net/http.py` is for vendors: it
follows no redirects, which every place that publishes models answers with. Source: RFC 9110, section 14 (ranges)."""

from __future__ import annotations

import hashlib
import re
import time
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from urllib3 import Timeout, make_headers
from urllib3.exceptions import ConnectTimeoutError, HTTPError, LocationValueError, NameResolutionError, ProxyError

from xiaozhi.models.entries import ModelFile
from xiaozhi.models.unpacking import MAX_BYTES
from xiaozhi.net.http_pools import pools, proxy_for

Progress = Callable[[int, int], None]
"""(bytes that are here, bytes in all or 0)."""

Unreachable = set[str]
"""Hosts that could not be reached: one wait for each is enough, however many files they would have."""

_HEADERS = {"Accept-Encoding": "identity", "User-Agent": "xiaozhi-models"}
MAX_REDIRECTS = 8
_PIECE = 256 * 1024
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_UNREACHABLE = (ConnectTimeoutError, NameResolutionError, ProxyError)
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)$")


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds to wait for a connection and between two pieces; a mirror that gave less than `slow_bytes` within
    `slow_s` is left for the next one, if there is one. `tries`: how often one mirror may break off without having
    brought anything new."""

    connect_s: float = 10.0
    silent_s: float = 30.0
    slow_s: float = 20.0
    slow_bytes: int = 1_000_000
    tries: int = 3


USUAL = Patience()


class DownloadFailed(Exception):
    """No mirror has it; the message names each with its reason."""


class _MirrorFailed(Exception):
    """This mirror cannot be used; what is here of the file stays. `unreachable`: nothing that it has can be had."""

    def __init__(self, reason: str, *, unreachable: bool = False) -> None:
        super().__init__(reason)
        self.unreachable = unreachable


def download(
    file: ModelFile,
    part: Path,
    progress: Progress,
    patience: Patience = USUAL,
    clock: Callable[[], float] = time.monotonic,
    *,
    unreachable: Unreachable | None = None,
) -> str:
    """Bring `file` to `part`, going on where that ends, and return its SHA-256 in hex. `unreachable`: hosts to pass
    over, and to be added to.

    Without a checksum to compare with, what an earlier run or another mirror left is not trusted: it begins anew.
    Raises DownloadFailed, OSError (the disk)."""
    reasons = []
    for place, url in enumerate(file.sources):
        last = place == len(file.sources) - 1
        host = urllib.parse.urlsplit(url).netloc.rpartition("@")[2]
        if unreachable is not None and host in unreachable:
            reasons.append(f"{host}: it could not be reached before")
            continue
        if not file.sha256:
            part.unlink(missing_ok=True)
        try:
            return _checked(file, _Mirror(url, part, progress, patience, clock, may_be_slow=last), part)
        except _MirrorFailed as failed:
            reasons.append(f"{host}: {failed}")
            if failed.unreachable and unreachable is not None:
                unreachable.add(host)
    raise DownloadFailed(f"{file.name} could not be had.\n" + "\n".join(f"  {reason}" for reason in reasons))


def _checked(file: ModelFile, mirror: _Mirror, part: Path) -> str:
    """Bring the file and look at its checksum. What is joined from two downloads and is wrong is brought whole once
    more: the first part may be to blame."""
    for _ in range(2):
        joined = part.exists()
        mirror.bring()
        found = sha256_of(part)
        if not file.sha256 or found == file.sha256:
            return found
        part.unlink()
        if not joined:
            break
    raise _MirrorFailed(f"it carries other bytes: SHA-256 {found[:12]}..., not {file.sha256[:12]}...")


def sha256_of(path: Path) -> str:
    """In hex. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class _Mirror:
    """One file at one address."""

    def __init__(
        self,
        url: str,
        part: Path,
        progress: Progress,
        patience: Patience,
        clock: Callable[[], float],
        *,
        may_be_slow: bool,
    ) -> None:
        self._url = url
        self._part = part
        self._progress = progress
        self._patience = patience
        self._clock = clock
        self._may_be_slow = may_be_slow

    def bring(self) -> None:
        """Raises _MirrorFailed."""
        fruitless = 0
        while True:
            before = self._have()
            try:
                if self._ask(before):
                    return
                reason = "it broke off"
            except (HTTPError, LocationValueError, ValueError) as error:
                reason = re.sub(r"^\w+\(host=[^)]*\): ", "", str(error))[:200]
                if isinstance(error, _UNREACHABLE):
                    raise _MirrorFailed(reason, unreachable=True) from error
            fruitless = 0 if self._have() > before else fruitless + 1
            if fruitless >= self._patience.tries:
                raise _MirrorFailed(reason)

    def _have(self) -> int:
        return self._part.stat().st_size if self._part.exists() else 0

    def _ask(self, have: int) -> bool:
        """Whether the file is whole now."""
        # A byte of what is here is asked for again: a file that is whole already is no unsatisfiable range then.
        have = max(0, have - 1)
        reply, close = self._open({"Range": f"bytes={have}-"} if have else {})
        try:
            ranged = _CONTENT_RANGE.match(str(reply.headers.get("Content-Range", "")))
            if reply.status == 416:
                self._part.unlink(missing_ok=True)  # what is here is longer than the file: not the same file
                return False
            if reply.status == 206 and ranged is not None and int(ranged[1]) == have:
                total = int(ranged[2]) if ranged[2] != "*" else 0
            elif reply.status == 200:
                have, total = 0, int(reply.headers.get("Content-Length") or 0)
            else:
                raise _MirrorFailed(f"it answers {reply.status}")
            self._receive(reply, have, total)
            return not total or self._have() == total
        finally:
            close()

    def _receive(self, reply: Any, have: int, total: int) -> None:
        if max(total, have) > MAX_BYTES:
            raise _MirrorFailed(f"{total} bytes are no model")
        since, then = self._clock(), have
        with self._part.open("r+b" if have else "wb") as file:
            file.seek(have)
            self._progress(have, total)
            for piece in reply.stream(_PIECE, decode_content=False):
                file.write(piece)
                have += len(piece)
                self._progress(have, total)
                if have > MAX_BYTES:
                    raise _MirrorFailed("it sends without end")
                now = self._clock()
                if now - since >= self._patience.slow_s:
                    if have - then < self._patience.slow_bytes and not self._may_be_slow:
                        raise _MirrorFailed(f"{(have - then) / (now - since) / 1000:.0f} kB a second are too slow")
                    since, then = now, have

    def _open(self, headers: dict[str, str]) -> tuple[Any, Callable[[], None]]:
        """The answer behind all redirects, and what ends it. Raises HTTPError."""
        url = self._url
        timeout = Timeout(connect=self._patience.connect_s, read=self._patience.silent_s)
        for _ in range(MAX_REDIRECTS + 1):
            pool = pools.lend(url, proxy_for(url), True)
            try:
                reply = pool.urlopen(
                    "GET",
                    url if _through_proxy(url) else _target(url),
                    headers={**_HEADERS, **_credentials(url), **headers},
                    timeout=timeout,
                    retries=False,
                    redirect=False,
                    preload_content=False,
                    assert_same_host=False,
                )
            except BaseException:
                pools.give_back(pool)
                raise
            close = _ending(reply, pool)
            there = reply.headers.get("Location") if reply.status in _REDIRECTS else None
            if there is None:
                return reply, close
            close()
            there = urllib.parse.urljoin(url, str(there))
            if url.startswith("https://") and not there.startswith("https://"):
                raise _MirrorFailed("it leads from https to an address without it")
            url = there
        raise _MirrorFailed(f"more than {MAX_REDIRECTS} redirects")


def _credentials(url: str) -> dict[str, str]:
    """Those that an address names, as addresses of private registries do."""
    parts = urllib.parse.urlsplit(url)
    if parts.username is None:
        return {}
    pair = ":".join(urllib.parse.unquote(each or "") for each in (parts.username, parts.password))
    return make_headers(basic_auth=pair)


def _ending(reply: Any, pool: Any) -> Callable[[], None]:
    def end() -> None:
        reply.close()
        pools.give_back(pool)

    return end


def _target(url: str) -> str:
    parts = urllib.parse.urlsplit(url)
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _through_proxy(url: str) -> bool:
    # A plain-HTTP request through a proxy names its whole target (RFC 9112, 3.2.2).
    return url.startswith("http://") and bool(proxy_for(url))
