"""The whole exception tree, sorted by remedy rather than by origin.

    XiaozhiError
      SettingsError           the server refuses to start; lists every fault with key, value and expectation
      ProtocolError           the device sent nonsense        -> an answer, or close 1002 / 1003 / 1007 / 1009
      AuthError               the device may not come in      -> 401 before the upgrade
        LockedOut               too many wrong secrets          -> 429, after a while again
      NotServed               no agent for this device now    -> it is told why, and may try again
      Overloaded              admission or a pool refused     -> 503 / 1013 / a spoken apology
      TooOften                one sender asks too often       -> 429, after a while again
      ConnectionClosed        the peer is gone, or was closed -> the visit ends quietly
      TurnClosed              the turn's gate is shut         -> whoever still produces for it stops
      ToolError               a tool could not do its work    -> the model is told, the turn goes on
      StorageError            the database refuses this work  -> never retried; it would be refused again
        StorageUnavailable      locked, full, lost, damaged     retryable; keep it in memory, bounded, and go on without
        StorageTimeout          a deadline passed               retryable; when `undecided`, it may have been done
      VendorError(vendor)     a provider failed
        VendorUnavailable       could not connect, 5xx          retryable
        VendorTimeout           a deadline passed               retryable
        VendorBusy(after)       429 or "try later"              retryable, not before `after` seconds
        VendorRejected          4xx: our request is at fault    never retryable
          ConsoleRefused(code)    the console's own words       by its code
        VendorGarbage           the answer cannot be understood never retryable
          VendorSilent            no sound for this text        never retryable; nothing against the vendor
        CircuitOpen             the breaker is open             never retried, goes to the fallback at once

What is not here: gevent's `GreenletExit` and `Timeout`. They are `BaseException`s on purpose; a kill must pass through
every `except XiaozhiError` and `except Exception` on its way out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


def forget_trace(error: BaseException) -> None:
    """An error that was dealt with and logged: part with its traceback, and those of its causes.

    An object that keeps the error that befell it (a stream, a playback, an AsyncResult) is in a cycle with it: the
    traceback knows the frames, and they know the object, and often a whole session."""
    chain: list[BaseException] = [error]
    for seen in chain:
        seen.__traceback__ = None
        chain += [cause for cause in (seen.__cause__, seen.__context__) if cause is not None and cause not in chain]


class XiaozhiError(Exception):
    """Everything this product raises on purpose."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with a configuration: where, what was found, what was expected."""

    key: str
    value: str
    expected: str

    def __str__(self) -> str:
        return f"{self.key}: {self.value} - {self.expected}"


class SettingsError(XiaozhiError):
    """The configuration cannot be used; `faults` holds every problem found, not just the first."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(str(fault) for fault in self.faults))


class ProtocolError(XiaozhiError):
    """The device sent something that cannot be understood; `close_code` is set when the socket must be closed for
    it."""

    def __init__(self, message: str, *, close_code: int | None = None) -> None:
        self.close_code = close_code
        super().__init__(message)


class AuthError(XiaozhiError):
    """The device may not come in."""


class LockedOut(AuthError):
    """Too many wrong secrets came from there; the next one is looked at in `retry_after` seconds."""

    def __init__(self, retry_after: float) -> None:
        self.retry_after = retry_after
        super().__init__("Too many wrong secrets came from your address; wait before you try again.")


class TooOften(XiaozhiError):
    """One sender has asked for `what` as often as one may; the next is answered in `retry_after` seconds."""

    def __init__(self, what: str, retry_after: float) -> None:
        self.what = what
        self.retry_after = retry_after
        super().__init__(f"Too many requests ({what}); try again in {max(1, round(retry_after))} s.")


class NotServed(XiaozhiError):
    """There is no agent for this device now: nobody has bound it, or its settings cannot be had. `spoken` and `shown`
    are what it is told; whoever wants to know more finds the message in the log."""

    def __init__(self, message: str, *, spoken: str, shown: str = "") -> None:
        self.spoken = spoken
        self.shown = shown or spoken
        super().__init__(message)


class Overloaded(XiaozhiError):
    """A bounded resource is full; the caller may try again after `retry_after` seconds."""

    def __init__(self, what: str, *, retry_after: float = 1.0) -> None:
        self.what = what
        self.retry_after = retry_after
        super().__init__(f"{what} is full")


class ConnectionClosed(XiaozhiError):
    """The socket is closed: by the peer, by us, or by a failure (code 1006). Codes: RFC 6455, section 7.4."""

    def __init__(self, code: int, reason: str = "") -> None:
        self.code = code
        self.reason = reason
        super().__init__(f"closed {code} {reason}".rstrip())


class TurnClosed(XiaozhiError):
    """The turn was interrupted or has ended; nothing more may be sent for it."""


class ToolError(XiaozhiError):
    """A tool failed; the message is fit to be told to the language model."""


class StorageError(XiaozhiError):
    """The database refuses the work itself (a constraint, a wrong statement): the same work will be refused again."""

    retryable = False


class StorageUnavailable(StorageError):
    """Locked by another process, disk full, connection lost, file damaged, closed: nothing was changed, and the work
    may succeed later."""

    retryable = True


class StorageTimeout(StorageError):
    """No result within the deadline. `undecided`: the work was being committed and nobody knows whether it was; else
    nothing was changed."""

    retryable = True

    def __init__(self, message: str, *, undecided: bool = False) -> None:
        self.undecided = undecided
        super().__init__(message)


class VendorError(XiaozhiError):
    """A provider failed. `vendor`: who it was, as its client calls it; from its guard on the block of the
    configuration ("LLM.OpenaiLLM"), as in logs.

    `details`: what the vendor said about it, longer than the message and without secrets, "" when it said nothing. It
    may quote the request, so it is for decisions and never for logs. `status`: of HTTP, 0 when there was none."""

    retryable = False

    def __init__(self, vendor: str, message: str = "", *, details: str = "", status: int = 0) -> None:
        self.vendor = vendor
        self.message = message
        self.details = details
        self.status = status
        self.asked_at = ""
        """The address that was asked, without secrets; set by the client that asked."""
        self.answered_at = 0.0
        """The vendor's clock when it refused (Unix time), for those that refuse a wrong clock; 0: unknown."""
        self.remedy = ""
        """What it means for whoever wrote the configuration, and what to look at; set with `blame`."""
        super().__init__(vendor, message)

    def blame(self, block: str, remedy: str) -> None:
        """It was the provider of this block. The first word counts: a provider may work with another one."""
        if not self.remedy:
            self.vendor, self.remedy = block, remedy

    def __str__(self) -> str:
        if not self.remedy:
            return f"{self.vendor}: {self.message}" if self.message else self.vendor
        where = f"; it was asked at {self.asked_at}" if self.asked_at else ""
        said = f" ({self.message})" if self.message else ""
        return f"{self.vendor}: {self.remedy}{where}{said}"


class VendorUnavailable(VendorError):
    """No connection, or the vendor says it is broken (5xx)."""

    retryable = True


class VendorTimeout(VendorError):
    """A connect, first-byte or total deadline passed."""

    retryable = True


class VendorBusy(VendorError):
    """The vendor asks for patience (429); `after` is its wish in seconds, or None."""

    retryable = True

    def __init__(
        self, vendor: str, message: str = "", *, after: float | None = None, details: str = "", status: int = 0
    ) -> None:
        self.after = after
        super().__init__(vendor, message, details=details, status=status)


class VendorRejected(VendorError):
    """The vendor refuses this request (401, 400, ...): repeating it cannot help."""


class ConsoleRefused(VendorRejected):
    """The management console answered with a code that is not 0. `said`: its message, which for some codes is data."""

    def __init__(self, vendor: str, code: int, said: str) -> None:
        self.code = code
        self.said = said
        super().__init__(vendor, f"code {code}")


class VendorGarbage(VendorError):
    """The vendor's answer does not follow its own protocol."""


class VendorSilent(VendorGarbage):
    """The vendor makes no sound of this text. It may well make one of the next, so this is not held against it."""


class CircuitOpen(VendorError):
    """The breaker of this endpoint is open; the fallback is next."""
