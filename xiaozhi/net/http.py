"""Vendor HTTP: one pooled client for the whole process, mandatory deadlines, and every way to fail turned into a typed
error.

Not a retry loop (`runtime/resilience.py` owns retries; the only request repeated here is one that a dead pooled
connection never delivered) and not a general client: no cookies, no redirects, no authentication schemes.

Built on urllib3 rather than requests: with the line parser below one streamed completion of 17 chunks costs about half
the CPU (0.25 ms against 0.6 ms, measured with 16 requests in flight over loopback). `docs/providers.md` has the table.
"""

from __future__ import annotations

import http.client
import re
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, NoReturn

import gevent
import orjson
import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    DecodeError,
    HTTPError,
    IncompleteRead,
    InvalidChunkLength,
    LocationValueError,
    NewConnectionError,
    ProtocolError,
    ReadTimeoutError,
    SSLError,
)
from urllib3.filepost import encode_multipart_formdata

from xiaozhi.errors import VendorError, VendorGarbage, VendorRejected, VendorTimeout, VendorUnavailable
from xiaozhi.net import http_errors
from xiaozhi.net.http_errors import error_for_status, redact, shown_address
from xiaozhi.net.http_pools import is_stale, pools, proxy_for
from xiaozhi.net.unpack import MAGIC, PLAIN_OR_GZIP, Unpack

_OWNER = re.compile(r"^\w+\(host=[^)]*\): ")
"""urllib3 begins its messages with the object that failed."""
READ_BYTES = 65_536
MAX_ERROR_BYTES = 8_192
MAX_LINE_BYTES = 4 * 1024 * 1024
FINISH_PIECES = 8
"""Pieces behind the end of an answer that are read to save its connection."""
# A restarted vendor leaves a pool full of dead connections; each try discards one that was believed alive.
STALE_TRIES = 3


class VendorHttp:
    """HTTP for one vendor. Shared by all devices; connections are pooled per endpoint for the whole process.

    Deadlines in seconds: `connect` per address (TCP and TLS), `first_byte` until the answer's headers, `read` between
    two pieces of the body, `total` for the whole exchange. Time the caller spends between two reads does not count, so
    a reply that is spoken slowly is not mistaken for a slow vendor. `proxy`: URL, "" for none, None for the usual
    environment variables. `verify`: False accepts any certificate, a path names a CA bundle. `secrets` never appear in
    an error message."""

    def __init__(
        self,
        vendor: str,
        *,
        connect: float = 3.0,
        read: float = 15.0,
        first_byte: float | None = None,
        total: float = 60.0,
        headers: Mapping[str, str] | None = None,
        secrets: Iterable[str] = (),
        proxy: str | None = None,
        verify: bool | str = True,
    ) -> None:
        self.vendor = vendor
        self._first_byte = read if first_byte is None else first_byte
        self._connect = connect
        self._read = read
        self._total = total
        self._headers = dict(headers or {})
        self._secrets = tuple(secret for secret in secrets if len(secret) > 3)
        self._proxy = proxy
        self._verify = verify
        self._timeout = urllib3.Timeout(connect=connect, read=self._first_byte)
        self._pools: dict[str, tuple[Any, str]] = {}
        self._open: set[HttpReply] = set()
        self._closed = False

    def stream(
        self,
        method: str,
        url: str,
        *,
        json: Any = None,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> _Exchange:
        """`with http.stream("POST", url, json=body) as reply:` - sends, waits for the headers, lends the body.

        Leaving the block early, by an exception, by closing a generator or by killing the greenlet, closes the
        connection, which is how the vendor learns that nobody listens any more. Raises VendorError; a status of 300 or
        more is one."""
        merged = {**self._headers, **headers} if headers else dict(self._headers)
        if json is not None:
            data = orjson.dumps(json)
            merged["Content-Type"] = "application/json"
        return _Exchange(self, method, url, data, merged)

    def read(self, method: str, url: str, *, limit: int = 8 * 1024 * 1024, **request: Any) -> bytes:
        """The whole body, at most `limit` bytes. Arguments as for `stream`."""
        with self.stream(method, url, **request) as reply:
            return reply.read(limit)

    def json(self, method: str, url: str, *, limit: int = 8 * 1024 * 1024, **request: Any) -> Any:
        """The body parsed as JSON. Raises VendorGarbage when it is not JSON."""
        with self.stream(method, url, **request) as reply:
            return reply.json(limit)

    def close(self) -> None:
        """Give the idle connections back and break off what still runs: its readers get VendorUnavailable.
        Idempotent."""
        if self._closed:
            return
        self._closed = True
        for reply in list(self._open):
            reply.abort()
        for pool, _ in self._pools.values():
            pools.give_back(pool)
        self._pools.clear()

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> VendorError:
        """The typed error of an answer with `status`."""
        return error_for_status(
            self.vendor, status, headers, self.redact(body), self.redact(body, http_errors.MAX_DETAILS)
        )

    def redact(self, body: bytes | str, limit: int = http_errors.MAX_EXCERPT) -> str:
        """`body` as one line of at most `limit` characters without secrets."""
        text = body.decode("utf-8", "replace") if isinstance(body, bytes) else body
        return redact(text, self._secrets, limit)

    # --- used by _Exchange and HttpReply ------------------------------------------------------------------------------

    def _begin(self, method: str, url: str, body: bytes | None, headers: dict[str, str]) -> HttpReply:
        began = time.monotonic()
        deadline = min(self._connect + self._first_byte, self._total)
        timer = gevent.Timeout.start_new(deadline)
        try:
            response = self._send(method, url, body, headers)
        except gevent.Timeout as fired:
            if fired is not timer:
                raise
            raise VendorTimeout(self.vendor, f"no answer within {deadline:g} s") from None
        except HTTPError as error:
            raise self._translate(error) from error
        finally:
            timer.close()
        reply = HttpReply(self, response, spent=time.monotonic() - began)
        if self._first_byte != self._read:
            reply._wait_at_most(self._read)
        if response.status >= 300:
            raise reply.refusal()
        self._open.add(reply)
        return reply

    def _send(self, method: str, url: str, body: bytes | None, headers: dict[str, str]) -> Any:
        pool, prefix = self._pool(url)
        target = prefix + _target(url)
        for tried in range(STALE_TRIES):
            try:
                return pool.urlopen(
                    method,
                    target,
                    body=body,
                    headers=headers,
                    timeout=self._timeout,
                    preload_content=False,
                    retries=False,
                    redirect=False,
                    assert_same_host=False,
                )
            except ProtocolError as error:
                if not is_stale(error) or tried == STALE_TRIES - 1:
                    raise
        raise AssertionError("unreachable")

    def _pool(self, url: str) -> tuple[Any, str]:
        origin = url[: len(url) - len(_target(url))]
        found = self._pools.get(origin)
        if found is None:
            if self._closed:
                raise VendorUnavailable(self.vendor, "closed")
            if not url.startswith(("http://", "https://")):
                raise VendorRejected(self.vendor, f"not an http:// or https:// address: {self.redact(url)!r}")
            proxy = proxy_for(url) if self._proxy is None else self._proxy
            try:
                pool = pools.lend(url, proxy, self._verify)
            except (LocationValueError, ValueError) as error:
                raise VendorRejected(self.vendor, f"unusable address: {error}") from error
            except OSError as error:
                raise VendorRejected(self.vendor, f"unusable file of authorities {self._verify}: {error}") from error
            # A plain-HTTP request through a proxy names its whole target (RFC 9112, 3.2.2).
            found = self._pools[origin] = pool, origin if proxy and url.startswith("http://") else ""
        return found

    def _translate(self, error: Exception) -> VendorError:
        cause = error.args[1] if isinstance(error, ProtocolError) and len(error.args) > 1 else error
        text = self.redact(_OWNER.sub("", str(error)))
        if isinstance(error, ConnectTimeoutError) and not isinstance(error, NewConnectionError):
            return VendorTimeout(self.vendor, f"no connection within {self._connect:g} s")
        if isinstance(error, ReadTimeoutError):
            return VendorTimeout(self.vendor, f"no answer within {self._first_byte:g} s")
        if isinstance(error, (DecodeError, InvalidChunkLength)) or (
            isinstance(cause, http.client.HTTPException)
            and not isinstance(cause, (ConnectionError, http.client.IncompleteRead))
        ):
            return VendorGarbage(self.vendor, text)
        if isinstance(error, SSLError):
            return VendorUnavailable(self.vendor, f"TLS failed: {text}")
        if isinstance(error, LocationValueError):
            return VendorRejected(self.vendor, text)
        return VendorUnavailable(self.vendor, text)


class _Exchange:
    """The context manager of `VendorHttp.stream`."""

    def __init__(self, client: VendorHttp, method: str, url: str, body: bytes | None, headers: dict[str, str]) -> None:
        self._request = client._begin, method, url, body, headers
        self._reply: HttpReply | None = None

    def __enter__(self) -> HttpReply:
        begin, method, url, body, headers = self._request
        try:
            self._reply = begin(method, url, body, headers)
        except VendorError as error:
            error.asked_at = shown_address(url)
            raise
        return self._reply

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, VendorError) and not error.asked_at:
            error.asked_at = shown_address(self._request[2])
        if self._reply is not None:
            self._reply.close()


class HttpReply:
    """An answer whose body is still arriving. Used by one greenlet."""

    def __init__(self, client: VendorHttp, response: Any, *, spent: float) -> None:
        self._client = client
        self._response = response
        # urllib3's own read1 adds a third to the cost of a streamed completion for decoding that is not needed here.
        # Whether a body is gzip is seen by its first bytes: headers claim it of plain ones, and do not tell of others.
        encoding = response.headers.get("content-encoding")
        plain = encoding is None or encoding.strip().lower() in PLAIN_OR_GZIP
        self._body = response._original_response if plain else response
        self._look = plain
        self._unpack: Unpack | None = None
        # Counted here because http.client.read1 tells neither a truncated body nor the end of a whole one (CPython
        # gh-113199).
        self._left: int | None = getattr(self._body, "length", None) if self._body is not response else None
        self._spent = spent
        self._complete = False
        self._aborted = False
        self._may_end = False
        self.status: int = response.status
        self.headers: Mapping[str, str] = response.headers
        """Case-insensitive."""

    @property
    def content_type(self) -> str:
        """The media type in lower case without parameters, "" when missing."""
        return str(self.headers.get("content-type", "")).partition(";")[0].strip().lower()

    @property
    def complete(self) -> bool:
        """The body was read to its end."""
        return self._complete

    def chunks(self) -> Iterator[bytes]:
        """The body piece by piece as it arrives, each at most 64 KB. Raises VendorError."""
        return iter(self._next, b"")

    def read(self, limit: int = 8 * 1024 * 1024) -> bytes:
        """The whole body. Raises VendorGarbage beyond `limit` bytes."""
        body = bytearray()
        while piece := self._next():
            body += piece
            if len(body) > limit:
                raise VendorGarbage(self._client.vendor, f"answer longer than {limit} bytes")
        return bytes(body)

    def json(self, limit: int = 8 * 1024 * 1024) -> Any:
        """The body parsed as JSON. Raises VendorGarbage."""
        body = self.read(limit)
        try:
            return orjson.loads(body)
        except orjson.JSONDecodeError:
            raise VendorGarbage(
                self._client.vendor, f"not JSON ({self.content_type}): {self._client.redact(body)}"
            ) from None

    def lines(self) -> Iterator[bytes]:
        """Lines of the body as soon as each is whole, without their ends (LF or CRLF)."""
        rest = b""
        while piece := self._next():
            lines = (rest + piece if rest else piece).split(b"\n")
            rest = lines.pop()
            if len(rest) > MAX_LINE_BYTES:
                raise VendorGarbage(self._client.vendor, f"line longer than {MAX_LINE_BYTES} bytes")
            for line in lines:
                yield line[:-1] if line.endswith(b"\r") else line
        if rest:
            yield rest

    def sse(self) -> Iterator[bytes]:
        """The `data` of server-sent events, one item per data line (WHATWG HTML, 9.2).

        Lines of one event are not joined: no JSON vendor splits an object over lines, while some forget the empty line
        between events. Comments and other fields are skipped."""
        for line in self.lines():
            if line.startswith(b"data:"):
                yield line[6:] if line.startswith(b"data: ") else line[5:]

    def expect_end(self, seconds: float) -> None:
        """From now on the body may end at any time: when nothing comes for `seconds`, it counts as ended. (A body that
        is not `complete` then costs its connection.)"""
        self._may_end = True
        self._wait_at_most(seconds)

    def finish(self, grace: float = 0.2) -> None:
        """Nothing of interest will follow: read the end of the body, waiting at most `grace` seconds for it, so that
        the connection can be used again."""
        self.expect_end(grace)
        try:
            for _ in range(FINISH_PIECES):
                if not self._next():
                    return
        except VendorError:
            return

    def close(self) -> None:
        """Return the connection when the body was read to its end, else close it. Idempotent."""
        self._client._open.discard(self)
        if not self._complete:
            self._response.close()
        self._response.release_conn()

    def abort(self) -> None:
        """Make a reader in another greenlet fail with VendorUnavailable."""
        self._aborted = True
        try:
            self._response.shutdown()
        except (OSError, ValueError, RuntimeError):
            self._response.close()

    def _wait_at_most(self, seconds: float) -> None:
        """For the next piece. The connection's next request sets its own."""
        connection = self._response.connection
        if connection is not None and connection.sock is not None:
            connection.sock.settimeout(seconds)

    def refusal(self) -> VendorError:
        """The error this answer's status stands for; reads a bounded part of the body and closes."""
        body = bytearray()
        try:
            while len(body) < MAX_ERROR_BYTES and (piece := self._next()):
                body += piece
        except VendorError:
            pass  # the status says enough
        finally:
            self.close()
        return self._client.error(self.status, self.headers, bytes(body[:MAX_ERROR_BYTES]))

    def garbage(self, what: str, found: bytes = b"") -> NoReturn:
        """Raise VendorGarbage with an excerpt of what was found."""
        shown = f"{what}: {self._client.redact(found)}" if found else what
        raise VendorGarbage(self._client.vendor, shown)

    def _unpacked(self, piece: bytes) -> bytes:
        """What `piece`, the first of a body or any of a packed one, stands for."""
        if self._unpack is None:
            if not piece.startswith(MAGIC):
                self._look = False
                return piece
            self._unpack = Unpack()
        if not piece:
            if not self._unpack.whole:
                raise VendorUnavailable(self._client.vendor, "answer broke off")
            return b""
        try:
            return self._unpack.feed(piece) or self._next()
        except zlib.error as error:
            raise VendorGarbage(self._client.vendor, f"broken gzip: {error}") from None

    def _next(self) -> bytes:
        if self._complete:
            return b""
        client = self._client
        began = time.monotonic()
        left = client._total - self._spent
        if left <= 0 and self._left != 0:  # also when a piece is there already: a wait that is none never times out
            raise VendorTimeout(client.vendor, f"answer not complete within {client._total:g} s")
        # The socket's own timeout bounds each wait; a timer is only needed when the total ends sooner.
        timer = gevent.Timeout.start_new(left) if left < client._read else None
        try:
            piece: bytes = (
                self._body.read1(READ_BYTES if self._left is None else min(READ_BYTES, self._left))
                if self._left != 0
                else b""
            )
        except gevent.Timeout as fired:
            if fired is not timer:
                raise
            raise VendorTimeout(client.vendor, f"answer not complete within {client._total:g} s") from None
        except TimeoutError:
            if self._may_end:
                return b""
            raise VendorTimeout(client.vendor, f"nothing heard for {client._read:g} s") from None
        except (http.client.IncompleteRead, IncompleteRead):
            raise VendorUnavailable(client.vendor, "answer broke off") from None
        except http.client.HTTPException as error:
            raise VendorGarbage(client.vendor, client.redact(f"broken framing: {error!r}")) from error
        except HTTPError as error:
            raise client._translate(error) from error
        except (OSError, ValueError, AttributeError) as error:
            # http.client: OSError when the peer resets, ValueError for chunk sizes and closed files, AttributeError
            # after abort().
            if isinstance(error, ValueError) and not self._aborted:
                raise VendorGarbage(client.vendor, client.redact(f"broken framing: {error}")) from error
            raise VendorUnavailable(client.vendor, client.redact(f"connection lost: {error}")) from error
        finally:
            if timer is not None:
                timer.close()
            self._spent += time.monotonic() - began
        if self._aborted:
            raise VendorUnavailable(client.vendor, "closed")
        if not piece:
            if self._left:
                raise VendorUnavailable(client.vendor, "answer broke off")
            self._complete = True
            self._body.close()  # or http.client refuses the connection's next request
        elif self._left is not None:
            self._left -= len(piece)
        return self._unpacked(piece) if self._look else piece


def multipart(fields: Mapping[str, str | tuple[str, bytes, str]]) -> tuple[bytes, str]:
    """(body, content type) of a multipart/form-data request; a file is (name, content, media type)."""
    return encode_multipart_formdata(dict(fields))


def _target(url: str) -> str:
    """The path and query of an absolute URL."""
    start = url.find("/", url.find("://") + 3)
    return url[start:] if start >= 0 else ""
