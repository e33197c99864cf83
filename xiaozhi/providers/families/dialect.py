"""How one API writes what all chat APIs say. Pure: no network, no time.

Requests are composed, and refusals understood, in the form of OpenAI's chat completions (`learnt_limits.py`); answers
are read in it (`completion.py`). An API with another form translates at its edge: the whole body on the way out, each
value of the answer on the way in. So reasoning, tool calls in fragments, limits of vendors and errors are dealt with
once, for all of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from xiaozhi.errors import VendorGarbage


class Dialect:
    """OpenAI's own form: nothing is translated. Without state: one object serves all requests of a block."""

    def tools(self, functions: Sequence[Mapping[str, Any]]) -> Any:
        """The list of tools, as JSON takes it, of functions in OpenAI's form. It is kept and sent many times."""
        return functions

    def request(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """The body as it is sent. In `body` the tools are already what `tools` made of them."""
        return body

    def values(self, answered: Iterator[Any], vendor: str) -> Iterator[Any]:
        """The values of an answer as chat completion chunks; `DONE` behind the last. What is not understood is passed
        on as it is. Raises VendorError."""
        return answered


class ForeignDialect(Dialect, ABC):
    """Another form: `translated` reads its answers and may trust them to be as documented."""

    def values(self, answered: Iterator[Any], vendor: str) -> Iterator[Any]:
        """See `Dialect`."""
        try:
            yield from self.translated(answered, vendor)
        except (LookupError, TypeError, AttributeError, ValueError) as error:
            raise VendorGarbage(vendor, f"an answer in another form than documented: {error!r}") from error

    @abstractmethod
    def translated(self, answered: Iterator[Any], vendor: str) -> Iterator[Any]:
        """As `values`. What is not where it belongs may be found out by a LookupError, TypeError, AttributeError or
        ValueError."""


OPENAI = Dialect()


def chunk(delta: Mapping[str, Any], reason: str | None = None) -> dict[str, Any]:
    """A chat completion chunk."""
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}


def picture_of(part: Mapping[str, Any]) -> tuple[str, str]:
    """(media type, base64) of a part of a message that is an image with a data URI."""
    head, _, data = part["image_url"]["url"].partition(",")
    return head.removeprefix("data:").partition(";")[0], data
