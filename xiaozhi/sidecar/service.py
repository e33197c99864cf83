"""What a service of the sidecar is: an asyncio-only library behind a few methods.

A service is made when it is first called, so that an SDK which nobody needs is not loaded. How to add one: a class here
beside `mcp_clients.py`, and a line in `SERVICES` of `runtime/sidecar.py`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

Emit = Callable[[Any], Awaitable[None]]
"""Sends one item of a call that has several; waits while the server is `WINDOW` items behind."""
Method = Callable[[Mapping[str, Any], Emit], Awaitable[Any]]
"""(params, emit) -> result, all of it JSON. Cancelled when nobody waits any more. Raises ServiceError."""
Tell = Callable[[str, Any], None]
"""(event, data): tells the server something that it did not ask for. Never blocks; what has no room is lost."""


class ServiceError(Exception):
    """A call failed; the message is fit to be shown to whoever called."""


class Service(Protocol):
    """Made with a `Tell`."""

    def methods(self) -> Mapping[str, Method]:
        """By name."""

    async def close(self) -> None:
        """End everything that is open; the caller has a deadline."""
