"""What was said in one session, kept for the memory until it ends.

Not the dialogue that the model is shown (`turns/dialogue.py`): that one forgets earlier, and begins with what the
session before this one said. Full: the oldest messages go."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

from xiaozhi.chat import Message

MAX_MESSAGES: Final = 400
MAX_CHARS: Final = 200_000
_MESSAGE_BYTES: Final = 200
"""What a message takes beside its text."""


class Said:
    """See the module."""

    def __init__(self, *, max_messages: int = MAX_MESSAGES, max_chars: int = MAX_CHARS) -> None:
        self._max_messages = max_messages
        self._max_chars = max_chars
        self._messages: deque[Message] = deque()
        self._chars = 0
        self._by_user = False

    @property
    def held_bytes(self) -> int:
        """About how much memory it takes."""
        return 2 * self._chars + _MESSAGE_BYTES * len(self._messages)

    def add(self, messages: Iterable[Message], *, by_user: bool) -> None:
        """Keep what was said in one turn. `by_user`: the user said something in it, and not only a wake word."""
        self._by_user = self._by_user or by_user
        for message in messages:
            self._messages.append(message)
            self._chars += len(message.content)
        while len(self._messages) > self._max_messages or self._chars > self._max_chars:
            self._chars -= len(self._messages.popleft().content)

    @property
    def so_far(self) -> tuple[Message, ...]:
        """Everything; nothing where the user has said nothing: who only woke the device is not worth a summary, which
        costs a question to a language model."""
        return tuple(self._messages) if self._by_user else ()

    def take(self) -> tuple[Message, ...]:
        """The same, once."""
        taken = self.so_far
        self._messages.clear()
        self._chars, self._by_user = 0, False
        return taken
