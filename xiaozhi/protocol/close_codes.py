"""Why a connection ended, as a number: the WebSocket close codes (RFC 6455, section 7.4.1, and the IANA registry).

Every carrier of a session uses these numbers, also one that has no close frame of its own: they stand in logs, in
metrics and in `LinkHandler.closed`. Applications may also use 3000 to 4999."""

from __future__ import annotations

from typing import Final

NORMAL: Final = 1000
GOING_AWAY: Final = 1001
"""The server stops, or the device leaves."""
PROTOCOL_ERROR: Final = 1002
UNSUPPORTED_DATA: Final = 1003
NO_STATUS: Final = 1005
"""Never sent: the peer closed without a code."""
ABNORMAL: Final = 1006
"""Never sent: the connection was lost, or dropped, without a goodbye."""
INVALID_TEXT: Final = 1007
"""A text that is not UTF-8."""
POLICY_VIOLATION: Final = 1008
TOO_BIG: Final = 1009
INTERNAL_ERROR: Final = 1011
SERVICE_RESTART: Final = 1012
TRY_AGAIN_LATER: Final = 1013

NAMED: Final = frozenset(
    {
        NORMAL,
        GOING_AWAY,
        PROTOCOL_ERROR,
        UNSUPPORTED_DATA,
        NO_STATUS,
        ABNORMAL,
        INVALID_TEXT,
        POLICY_VIOLATION,
        TOO_BIG,
        INTERNAL_ERROR,
        SERVICE_RESTART,
        TRY_AGAIN_LATER,
    }
)
"""The codes above. A device may send others, up to 4999; metrics count those together."""


def sendable(code: int) -> bool:
    """True for a code that may stand in a close frame."""
    return NORMAL <= code <= UNSUPPORTED_DATA or INVALID_TEXT <= code <= 1014 or 3000 <= code <= 4999
