"""What every provider promises, whatever its kind: options, services it may ask for, and a life cycle.

Blocking style throughout: a method returns when the work is done or raises a `VendorError`; the caller owns the
greenlet, the deadline and the retry. A provider object is shared by all devices and holds no state of any one of them;
whatever belongs to one utterance or one answer lives in the stream that `open()` returns. A provider never sees a
session, a socket or Flask.

A stream is used by one greenlet at a time except where a method says otherwise; `close()` may be called by any greenlet
at any time, is idempotent, and makes a blocked peer return or raise: that is how an interrupt reaches the vendor.
Killing the greenlet inside any method must leave no connection, file or thread behind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import ConfigDict

from xiaozhi.errors import Fault
from xiaozhi.settings.fields import AsWritten

if TYPE_CHECKING:
    from xiaozhi.runtime.inference import InferencePool
    from xiaozhi.storage.database import Database


class ProviderOptions(AsWritten):
    """The block of one provider in the configuration. Unknown keys are kept so that existing files load; they are named
    in a warning."""

    model_config = ConfigDict(extra="allow", frozen=True, populate_by_name=True, coerce_numbers_to_str=True)

    type: str = ""


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Services:
    """What the composition root lends to providers that declare `needs_services = True`."""

    inference: InferencePool
    data_dir: Path = Path("data")
    config_dir: Path = Path("config")
    provider: Callable[[str, str], Any] | None = None
    """(kind, name) -> the provider that this one's block refers to: for a memory or an intent the language model named
    under `llm`, "" for the selected one. It is open as long as this provider is."""
    now: Callable[[], datetime] = _utc_now
    """The time where the server's owner lives (aware)."""
    database: Database | None = None
    """What must survive a restart; called through functions of `storage/`. None in tests that need none."""


@dataclass(frozen=True, slots=True)
class ProviderTraits:
    """What a provider can do and how it wants to be used: data, not methods, so that a guard or a fallback around it
    takes all of it over in one line. Each kind has a subclass of its own in its contract file."""

    offline: bool = False
    """Works without a network; it needs no guard."""


class Provider:
    """Common to all kinds. `name` is the key of its block in the configuration, set by the registry."""

    kind: ClassVar[str] = ""
    type_name: ClassVar[str] = ""
    needs_services: ClassVar[bool] = False
    """True: constructed as `cls(options, services)`; False: `cls(options)`."""
    name: str = ""
    traits: ProviderTraits = ProviderTraits()
    """Of the class, or set in `__init__` where the block decides. They do not change afterwards."""

    @property
    def limitations(self) -> tuple[str, ...]:
        """What its vendor was found to be unable to do while it was used, such as "tools": words for metrics, taken
        from code and configuration only."""
        return ()

    @classmethod
    def faults(cls, options: Any, config_dir: Path) -> list[Fault]:
        """What is wrong with the files that `options` name, keys as a person finds them ("offline.yaml: rules.time").
        Called whenever a configuration is checked, before anything is built: it must be quick."""
        return []

    def warm_up(self) -> None:
        """Load models and open pools before the first device needs them. May take seconds; called once at start."""

    def close(self) -> None:
        """Give back pools and connections. Idempotent; streams still open fail with a VendorError."""
