"""Device ids: which are accepted, and the one form in which this server knows a device.

Most ids are MAC addresses, written in both cases and with both separators; foreign clients take any name. An id stands
in headers, log lines, topics and database keys, hence the bounds. Whoever compares or stores an id uses its normal
form, or one device would have several allowances, memories and connections."""

from __future__ import annotations

import re
from typing import Final

from xiaozhi.errors import ProtocolError

MAX_CHARS: Final = 128
EVERYONE: Final = "all"
"""Where operators name a device, this means all of them: no device may be called so."""
_MAC: Final = re.compile(r"[0-9a-f]{2}(?:[:-][0-9a-f]{2}){5}")
# Nothing that means something in a token ("|"), a path, a topic, a query or a markup.
_SAFE: Final = re.compile(r"[a-z0-9{(][a-z0-9 ._:@=~{}()-]{0,127}")


def normal_device_id(text: str) -> str:
    """The normal form: lower case, a MAC address with colons. Of a normal form it is the same again."""
    plain = text.strip().lower()
    return plain.replace("-", ":") if is_mac(plain) else plain


def checked_device_id(text: str) -> str:
    """The normal form of an id that came from outside. Raises ProtocolError."""
    normal = normal_device_id(text)
    if normal == EVERYONE:
        raise ProtocolError(f"No device may have the id {EVERYONE!r}: it means all devices.")
    if not _SAFE.fullmatch(normal):
        raise ProtocolError(
            f"A device id must be at most {MAX_CHARS} letters, digits and . _ : - @ = ~ such as the MAC address "
            "11:22:33:44:55:66, and begin with a letter or digit."
        )
    return normal


def is_mac(device_id: str) -> bool:
    """Whether an id in lower case is a MAC address."""
    return _MAC.fullmatch(device_id) is not None
