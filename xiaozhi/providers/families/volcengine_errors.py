"""Status codes and messages of Volcengine's speech services -> typed errors.

    1xxx        recognition V2      volcengine.com/docs/6561/80816
    3xxx        voice V1            volcengine.com/docs/6561/79823
    45.., 55..  everything V3       volcengine.com/docs/6561/1354869 and /1329505

45xxxxxx is our fault, 55xxxxxx theirs, as a rule. The same code stands for different things (45000000 is a voice that
is not ours as well as a full quota), so the message is looked at first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from xiaozhi.errors import (
    VendorBusy,
    VendorError,
    VendorRejected,
    VendorSilent,
    VendorTimeout,
    VendorUnavailable,
)
from xiaozhi.net.http_errors import redact

OK_CODES: Final = frozenset({0, 1000, 3000, 20_000_000})
NOTHING_HEARD: Final = frozenset({1013, 45_000_002})
"""Silence, or no sound at all: a recogniser's answer, not a failure."""

_BY_MESSAGE: Final[tuple[tuple[type[VendorError], tuple[str, ...]], ...]] = (
    (VendorRejected, ("_lifetime",)),  # a trial that is used up, told as a quota
    (VendorBusy, ("quota", "concurrency", "too many")),
    (
        VendorRejected,
        ("mismatched with speaker", "grant not found", "not granted", "access denied", "init engine instance"),
    ),
)
_BY_CODE: Final[Mapping[int, type[VendorError]]] = {
    1001: VendorRejected,
    1002: VendorRejected,
    1003: VendorBusy,
    1004: VendorRejected,
    1010: VendorRejected,
    1011: VendorRejected,
    1012: VendorRejected,
    1020: VendorTimeout,
    1021: VendorTimeout,
    3001: VendorRejected,
    3003: VendorBusy,
    3006: VendorRejected,
    3010: VendorRejected,
    3011: VendorSilent,  # nothing in the text that could be said
    3030: VendorTimeout,
    3032: VendorTimeout,
    3050: VendorRejected,
    45_000_081: VendorTimeout,
}


def failure(vendor: str, code: int, message: str, secrets: tuple[str, ...] = ()) -> VendorError:
    """The typed error of a status code (0: there is none) and what was said with it."""
    text = redact(f"{code} {message}" if code else message, secrets)
    words = message.lower()
    for made, signs in _BY_MESSAGE:
        if any(sign in words for sign in signs):
            return made(vendor, text)
    if code in _BY_CODE:
        return _BY_CODE[code](vendor, text)
    if "timeout" in words or "timed out" in words:
        return VendorTimeout(vendor, text)
    if code // 1_000_000 == 45 or "unauthorized" in words or "invalid" in words:
        return VendorRejected(vendor, text)
    return VendorUnavailable(vendor, text)
