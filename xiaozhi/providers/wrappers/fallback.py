"""Several providers that look like one: the next answers when the one before it fails before anything was heard of it.

Retries and breakers are inside, around each provider (`guarded.py`); an open breaker makes the change immediate. This
is what the fallbacks of all kinds share; each kind's own is in its file here.

For an answer of an Llm "before anything was heard" means before its first piece; for an utterance, any time, since its
sound is kept; for speech, per sentence: sentences whose sound has not begun are said again by the next provider, one
that broke off in the middle is not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from xiaozhi.errors import Overloaded, VendorError
from xiaozhi.providers.contracts.provider import Provider
from xiaozhi.runtime.logs import get_logger

log = get_logger(__name__)


FAILURES = (VendorError, Overloaded)
"""What the next provider can cure."""


class FallbackProvider(Provider):
    """What all share: the name and life cycle of the first, the life cycles of all."""

    def __init__(self, providers: Sequence[Any]) -> None:
        self.providers = tuple(providers)
        self.name = self.providers[0].name
        # The first's: it is the one that is meant.
        self.traits = replace(self.providers[0].traits, offline=all(each.traits.offline for each in self.providers))

    @property
    def limitations(self) -> tuple[str, ...]:
        """The first's; the others report their own."""
        found: tuple[str, ...] = self.providers[0].limitations
        return found

    def warm_up(self) -> None:
        """All of them: the moment of need is too late for a model to be loaded."""
        for provider in self.providers:
            provider.warm_up()

    def close(self) -> None:
        """All of them."""
        for provider in self.providers:
            provider.close()

    def first_that(self, work: Callable[[Any], Any]) -> Any:
        """The result of the first provider that has one. Raises the last one's error."""
        for provider in self.providers[:-1]:
            try:
                return work(provider)
            except FAILURES as error:
                self._log(provider, error)
        return work(self.providers[-1])

    def first_to_yield(self, work: Callable[[Any], Iterator[Any]]) -> Iterator[Any]:
        """What the first provider yields that yields anything. Raises the last one's error."""
        for provider in self.providers[:-1]:
            yielded = False
            try:
                for item in work(provider):
                    yielded = yielded or item != ""  # a sign of life is not heard
                    yield item
                return
            except FAILURES as error:
                if yielded:
                    raise
                self._log(provider, error)
        yield from work(self.providers[-1])

    def _log(self, provider: Any, error: Exception) -> None:
        log.warning("fallback", kind=self.kind, provider=provider.name, error=str(error))
