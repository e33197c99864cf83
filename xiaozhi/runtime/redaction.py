"""What must not stand in a log line: secrets, by key and by shape, and what people said, by key.

Not encryption and not a promise about third parties' free text: an exception's message is searched for the shapes of
secrets, no more. Fields are few and small, so the price is some microseconds per line."""

from __future__ import annotations

import re
from collections.abc import MutableMapping
from typing import Any

MASK = "***"
MAX_DEPTH = 6
"""Deeper structures are replaced as a whole."""

_SECRET = re.compile(
    r"(secret|token|passw|passphrase|api_?-?key|auth_?key|authorization|cookie|credential|signature)", re.IGNORECASE
)
_COUNTED = re.compile(r"tokens$", re.IGNORECASE)
_CONTENT = frozenset(
    {
        "answer",
        "arguments",
        "body",
        "content",
        "messages",
        "payload",
        "prompt",
        "question",
        "reply",
        "said",
        "sentence",
        "speech",
        "text",
        "transcript",
        "utterance",
    }
)
_SHAPES = re.compile(
    r"(?i)\b(?:bearer|basic)\s+[a-z0-9._~+/=-]{8,}"
    r"|\bsk-[a-z0-9_-]{8,}"
    r"|(?<=[?&])((?:[a-z0-9_-]*(?:token|secret|key|signature|password)|authorization)=)[^&\s\"']+"
    r"|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"
)
HIDDEN = re.compile(r"<\d+ chars>")
"""What stands in place of a text that is not shown."""
_PLAIN = frozenset({"event", "level", "logger", "timestamp", "session", "device", "turn", "trace"})


class Redaction:
    """A structlog processor. `show_content` True leaves in what was said."""

    def __init__(self, *, show_content: bool = False) -> None:
        self.show_content = show_content

    def __call__(self, _logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """Clean one line, in place."""
        for key, value in event.items():
            if key not in _PLAIN:
                event[key] = self._field(key, value, MAX_DEPTH)
        message = event.get("event")
        if isinstance(message, str):
            event["event"] = scrub(message)
        return event

    def _field(self, key: str, value: Any, depth: int) -> Any:
        if value is None or isinstance(value, bool):
            return value
        if _SECRET.search(key):
            # "prompt_tokens=312" is a price, not a secret.
            return value if isinstance(value, int | float) and _COUNTED.search(key) else MASK
        if not self.show_content and key in _CONTENT:
            return f"<{len(value)} chars>" if isinstance(value, str) else f"<{type(value).__name__}>"
        return self._value(value, depth)

    def _value(self, value: Any, depth: int) -> Any:
        if isinstance(value, str):
            return scrub(value)
        if isinstance(value, bytes | bytearray | memoryview):
            return f"<{len(value)} bytes>"
        if isinstance(value, BaseException):
            return scrub(str(value) or type(value).__name__)
        if not isinstance(value, dict | list | tuple | set | frozenset):
            return value
        if depth <= 0:
            return f"<{type(value).__name__}>"
        if isinstance(value, dict):
            return {str(key): self._field(str(key), item, depth - 1) for key, item in value.items()}
        return [self._value(item, depth - 1) for item in value]


def scrub(text: str) -> str:
    """`text` without what looks like a secret: bearer tokens, keys that begin with sk-, credentials in addresses."""
    return _SHAPES.sub(lambda match: f"{match[1] or ''}{MASK}", text)
