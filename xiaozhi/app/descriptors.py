"""File descriptors: every socket takes one, so the limits on sockets have to fit the limit of the process.

Raises the soft limit to the hard one, and shares what there is: a server that runs out of descriptors accepts nobody
and tells nobody, not even that it is ill. Counts sockets; files that are opened for a moment are in `SPARE`."""

from __future__ import annotations

import os
import resource
from dataclasses import dataclass
from typing import Final

SPARE: Final = 128
"""For files, the database, name look-ups, and HTTP connections that are only told that there is no room."""
MOST: Final = 1 << 20
"""No more is asked for, where the hard limit is none."""
FEWEST: Final = 16
"""Sockets, however small the limit is: who runs a server with so little is warned and has to live with failures."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Sockets that the settings allow."""

    devices: int
    http: int
    handshakes: int
    vendors: int
    standing: int = 0
    """Devices connected by MQTT."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """Sockets that there are descriptors for."""

    devices: int
    http: int
    handshakes: int
    standing: int = 0


class Descriptors:
    """The limit of this process, raised as far as the system lets it, and how many are in use before it serves."""

    def __init__(self) -> None:
        self.limit = _raise_limit()
        self.used = _open_now()

    def fit(self, wanted: Wanted) -> Fitted:
        """What there are descriptors for."""
        return share(self.limit, self.used, wanted)

    def warning(self, wanted: Wanted) -> str:
        """What to tell the operator; "" when everything fits."""
        fitted = self.fit(wanted)
        if (fitted.devices, fitted.http, fitted.standing) == (wanted.devices, wanted.http, wanted.standing):
            return ""  # fewer handshakes at a time are no loss that anybody notices
        needed = self.used + SPARE + wanted.devices + wanted.http + wanted.vendors + wanted.handshakes + wanted.standing
        by_mqtt = f", {wanted.standing} by MQTT (mqtt.max_devices)" if wanted.standing else ""
        let_in = f"{fitted.devices}{f', {fitted.standing}' if wanted.standing else ''}"
        return (
            f"{self.limit} file descriptors are too few for {wanted.devices} devices (server.max_connections){by_mqtt} "
            f"and {wanted.http} HTTP connections: {let_in} and {fitted.http} are let in. Allow {needed} "
            "(ulimit -n, LimitNOFILE= of systemd, ulimits.nofile of Docker), or lower max_connections"
        )


def share(limit: int, used: int, wanted: Wanted) -> Fitted:
    """Share `limit` descriptors, of which `used` are in use. Devices have the first call on them, but newcomers and the
    HTTP port keep an eighth each, and calls to vendors a quarter."""
    free = max(0, limit - used)
    room = max(FEWEST, free - min(SPARE, free // 4))
    vendors = min(wanted.vendors, room // 4)
    all_devices = wanted.devices + wanted.standing
    handshakes = min(wanted.handshakes, max(room // 8, room - all_devices - wanted.http - vendors))
    http = min(wanted.http, max(room // 8, room - all_devices - handshakes - vendors))
    left = min(all_devices, max(1, room - handshakes - http - vendors))
    # Each way in gets its share of what is left.
    standing = left * wanted.standing // max(1, all_devices)
    return Fitted(left - standing, http, handshakes, standing)


def in_use() -> tuple[int, int]:
    """(how many are open now, how many may be)."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _open_now(), MOST if soft == resource.RLIM_INFINITY else soft


def _raise_limit() -> int:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
    if soft == resource.RLIM_INFINITY or soft >= most:
        return most
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    except (ValueError, OSError):  # macOS has a lower limit of its own that it does not name
        return soft
    return most


def _open_now() -> int:
    try:
        return len(os.listdir("/dev/fd"))
    except OSError:
        return SPARE
