"""What a vendor's refusal means, and what may be shown of it. Shared by everything that speaks HTTP, if only for a
WebSocket's upgrade."""

from __future__ import annotations

import email.utils
import re
import time
import urllib.parse
from collections.abc import Iterable, Mapping

from xiaozhi.errors import VendorBusy, VendorError, VendorRejected, VendorTimeout, VendorUnavailable

MAX_EXCERPT = 300
MAX_DETAILS = 4_000
OVERLOADED = 529
"""Not registered; several vendors say so that all of them is busy, rather than this client too fast."""

# As OpenAI, Kimi and GLM say so beside a 429.
_EMPTY_ACCOUNT = re.compile(r"insufficient_quota|exceeded_current_quota_error|insufficient balance|余额不足|欠费")
# Groq, of a call that its own model wrote wrongly: the next one may be right.
_BAD_LUCK = "tool_use_failed"
# google.rpc.RetryInfo, in a body.
_RETRY_DELAY = re.compile(r'"retryDelay"\s*:\s*"(\d+(?:\.\d+)?)s"')
_SECRET_LIKE = re.compile(r"(?i)\b(bearer[; ]\s*|sk-|api[_-]?key\W{1,3})[\w\-.~+/=]{6,}")


def error_for_status(
    vendor: str, status: int, headers: Mapping[str, str], message: str, details: str = ""
) -> VendorError:
    """HTTP status -> the error that names the remedy. `message` and `details` are already free of secrets."""
    text = f"HTTP {status} {message}".rstrip()
    error = _of_status(vendor, status, headers, text, details or message or f"HTTP {status}")
    error.answered_at = _unix_time(headers.get("date") or headers.get("Date")) or 0.0
    return error


def _of_status(vendor: str, status: int, headers: Mapping[str, str], text: str, details: str) -> VendorError:
    if status == 408:
        return VendorTimeout(vendor, text, details=details, status=status)
    if status in (429, OVERLOADED):
        if _EMPTY_ACCOUNT.search(text):
            # Waiting does not fill it.
            return VendorRejected(vendor, text, details=details, status=status)
        after = _retry_after(headers.get("retry-after") or headers.get("Retry-After"))
        if after is None and (told := _RETRY_DELAY.search(details)) is not None:
            after = float(told[1])
        return VendorBusy(vendor, text, after=after, details=details, status=status)
    if status >= 500 or _BAD_LUCK in text:
        return VendorUnavailable(vendor, text, details=details, status=status)
    return VendorRejected(vendor, text, details=details, status=status)


def shown_address(url: str) -> str:
    """`url` without what may be secret in it: user, password, query."""
    parts = urllib.parse.urlsplit(url)
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def redact(text: str, secrets: Iterable[str] = (), limit: int = MAX_EXCERPT) -> str:
    """`text` as one line of at most `limit` characters; known secrets and whatever looks like a key become ***."""
    for secret in secrets:
        text = text.replace(secret, "***")
    text = _SECRET_LIKE.sub(lambda match: f"{match.group(1)}***", text)
    text = " ".join(text.split())
    return text if len(text) <= limit else text[:limit] + "…"


def _retry_after(value: str | None) -> float | None:
    # RFC 9110, 10.2.3: seconds or a date.
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    then = _unix_time(value)
    return None if then is None else max(0.0, then - time.time())


def _unix_time(date: str | None) -> float | None:
    """A date of HTTP (RFC 9110, 5.6.7) as Unix time."""
    try:
        return email.utils.parsedate_to_datetime(date).timestamp() if date else None
    except (TypeError, ValueError):
        return None
