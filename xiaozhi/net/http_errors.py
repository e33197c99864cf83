"""What a vendor's refusal means, and what may be shown of it. Shared by everything that speaks HTTP, if only for a
WebSocket's upgrade."""

from __future__ import annotations

import email.utils
import re
import time
from collections.abc import Iterable, Mapping

from xiaozhi.errors import VendorBusy, VendorError, VendorRejected, VendorTimeout, VendorUnavailable

MAX_EXCERPT = 300

_SECRET_LIKE = re.compile(r"(?i)\b(bearer[; ]\s*|sk-|api[_-]?key\W{1,3})[\w\-.~+/=]{6,}")


def error_for_status(vendor: str, status: int, headers: Mapping[str, str], message: str) -> VendorError:
    """HTTP status -> the error that names the remedy. `message` is already free of secrets."""
    text = f"HTTP {status} {message}".rstrip()
    if status == 408:
        return VendorTimeout(vendor, text)
    if status == 429:
        if "insufficient_quota" in message:
            return VendorRejected(vendor, text)  # the account is empty: waiting does not fill it
        return VendorBusy(vendor, text, after=_retry_after(headers.get("retry-after") or headers.get("Retry-After")))
    if status >= 500:
        return VendorUnavailable(vendor, text)
    return VendorRejected(vendor, text)


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """`text` as one line of at most 300 characters; known secrets and whatever looks like a key become ***."""
    for secret in secrets:
        text = text.replace(secret, "***")
    text = _SECRET_LIKE.sub(lambda match: f"{match.group(1)}***", text)
    text = " ".join(text.split())
    return text if len(text) <= MAX_EXCERPT else text[:MAX_EXCERPT] + "…"


def _retry_after(value: str | None) -> float | None:
    # RFC 9110, 10.2.3: seconds or a date.
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return None
