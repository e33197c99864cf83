"""Tells the console what was said, as its history wants it: a sink of the history (`history/entries.py`).

    one turn ─► what the user said ▸ tool, result, tool, result ... ▸ one report per sentence that was spoken
    the end  ─► title ▸ summary, where the console keeps the memory

The reports of a session go out one after the other, each answered before the next, so the console has them in order
and has all of them when it makes the title. Delivered at least once: of a turn whose delivery failed in the middle,
only the rest is sent again, as long as this process lives.

Does not know the history room: what it needs of an entry is said by the Protocols here."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

import orjson
from cachetools import LRUCache

from xiaozhi.errors import CircuitOpen, ConsoleRefused, VendorError, VendorUnavailable
from xiaozhi.management.client import AGENT_GONE, FAILED_INSIDE, NAME, NO_SUCH_PATH, SECRET_WRONG, ConsoleClient
from xiaozhi.management.translate import KEEP_NOTHING, KEEP_SOUND, PrivateConfig
from xiaozhi.runtime.logs import get_logger

log = get_logger(__name__)

USER, ASSISTANT, TOOL = 1, 2, 3
WOKEN: Final = "嘿，你好呀"
"""What the console has in the place of a wake word."""
MAX_CONTENT_BYTES: Final = 65_000
"""The console's column holds 64 KB."""
MAX_SESSION_CHARS: Final = 50
HALF_SENT: Final = 1_000
"""Turns of which only a part was delivered."""
CHOKES: Final = 5
"""Failures at one message, with others accepted in between, that tell that it will never be taken."""
TOO_LARGE: Final = 413
_OF_THE_MESSAGE: Final = (400, TOO_LARGE, 422)
"""Of HTTP: what a proxy refuses for what stands in it."""
_OF_THE_PLACE: Final[Mapping[int, str]] = {
    SECRET_WRONG: "the console refuses manager-api.secret",
    NO_SUCH_PATH: "nothing takes history at manager-api.url",
}
"""Codes of the console that say nothing of the message."""


class ReportedSession(Protocol):
    """Which session it is."""

    @property
    def id(self) -> str: ...
    @property
    def device_id(self) -> str: ...


class ReportedTool(Protocol):
    """One call of a tool."""

    @property
    def name(self) -> str: ...
    @property
    def arguments(self) -> Mapping[str, Any]: ...
    @property
    def result(self) -> str: ...


class ReportedSound(Protocol):
    """What was said, as sound."""

    def wav(self) -> bytes:
        """PCM, 16 bit, mono, 16 kHz, as a WAV file. Costs CPU."""


class ReportedTurn(Protocol):
    """One turn."""

    @property
    def session(self) -> ReportedSession: ...
    @property
    def key(self) -> str: ...
    @property
    def at(self) -> float:
        """Seconds since 1970."""

    @property
    def said(self) -> str: ...
    @property
    def spoken(self) -> Sequence[str]: ...
    @property
    def tools(self) -> Sequence[ReportedTool]: ...
    @property
    def speaker(self) -> str: ...
    @property
    def sound(self) -> ReportedSound | None: ...
    @property
    def voices(self) -> Sequence[ReportedSound]:
        """The sound of each of `spoken`; empty where it is not kept."""


class ReportedEnd(Protocol):
    """A session that is over."""

    @property
    def session(self) -> ReportedSession: ...
    @property
    def turns(self) -> int: ...


class ConsoleReports:
    """`config`: what the console says of a device, by its id; may block for the disk. `woke`: whether a
    text is a wake word. `offload`: runs what costs CPU off the hub.

    Raises VendorError and Overloaded, as a sink does."""

    name = NAME

    def __init__(
        self,
        client: ConsoleClient,
        *,
        config: Callable[[str], PrivateConfig],
        woke: Callable[[str], bool],
        offload: Callable[[Callable[[], Any]], Any],
    ) -> None:
        self._client = client
        self._config = config
        self._woke = woke
        self._offload = offload
        # Key of a turn -> how many of its reports have been taken.
        self._sent: LRUCache[str, int] = LRUCache(HALF_SENT)
        self._accepted = 0
        self._choked: LRUCache[str, list[int]] = LRUCache(HALF_SENT)
        """Key of a turn -> how many messages had been accepted each time that the console failed inside at its next."""

    def deliver(self, entries: Sequence[ReportedTurn]) -> None:
        """Report turns of one session, in order."""
        for entry in entries:
            config = self._config(entry.session.device_id)
            if config.history == KEEP_NOTHING:
                continue
            sound, voices = (entry.sound, entry.voices) if config.history == KEEP_SOUND else (None, ())
            encoded = self._encoded(sound) if sound is not None and entry.said else None
            heard = [self._encoded(voice) for voice in voices]
            reports = reports_of(entry, encoded, heard, mac=config.mac, woken=self._woke(entry.said))
            self._report_all(entry.key, reports)

    def session_ended(self, ended: ReportedEnd) -> None:
        """Have a title made, and the memory of the agent renewed. Takes as long as a language model."""
        session, config = ended.session, self._config(ended.session.device_id)
        if config.history == KEEP_NOTHING or not ended.turns:
            return
        self._at_the_end("title", self._client.make_title, session.id)
        if config.summarises:
            self._at_the_end("summary", self._client.save_summary, session.id)

    def _encoded(self, sound: ReportedSound) -> str:
        """A WAV file in base64."""
        encoded: str = self._offload(lambda: base64.b64encode(sound.wav()).decode())
        return encoded

    def _report_all(self, key: str, reports: Sequence[Mapping[str, Any]]) -> None:
        for number in range(self._sent.get(key, 0), len(reports)):
            try:
                self._report(reports[number])
                self._accepted += 1
            except VendorUnavailable as error:
                if error.details != FAILED_INSIDE or not self._chokes_it(key):
                    raise
                log.error("a message is left out: the console fails at it, and at no other", session=key[:8])
            self._choked.pop(key, None)
            self._sent[key] = number + 1
        self._sent.pop(key, None)

    def _chokes_it(self, key: str) -> bool:
        """The console has failed inside at the next message of this turn. Whether it is the message: it has failed at
        it again and again, and taken others in between. A console whose database is down takes none."""
        before = self._choked.setdefault(key, [])
        before.append(self._accepted)
        return len(set(before)) > CHOKES

    def _report(self, report: Mapping[str, Any]) -> None:
        """Only what is wrong with the message itself loses it: a secret, an address or a proxy will be mended, and a
        console that rests was not even asked. Raises VendorUnavailable for these."""
        try:
            self._client.report(report)
        except ConsoleRefused as error:
            if error.code in _OF_THE_PLACE:
                raise VendorUnavailable(NAME, _OF_THE_PLACE[error.code]) from error
            log.warning("a message of a conversation was refused by the console", code=error.code)
        except VendorError as error:
            if error.status == TOO_LARGE and report["audioBase64"] is not None:
                log.warning("a message goes without its sound, which is too large for a proxy of the console")
                self._report({**report, "audioBase64": None})
            elif error.retryable or error.status in _OF_THE_MESSAGE:
                raise
            else:
                raise VendorUnavailable(NAME, error.message) from error

    def _at_the_end(self, what: str, ask: Callable[[str], None], session_id: str) -> None:
        """Not asked again when it fails: the history is there, and the next session makes the next summary."""
        try:
            ask(session_id)
        except ConsoleRefused as error:
            if error.code != AGENT_GONE:  # nothing was kept of this session
                log.warning("the console makes none", what=what, code=error.code)
        except CircuitOpen as error:
            raise VendorUnavailable(NAME, error.message) from error  # it was not asked
        except VendorError as error:
            log.warning("the console makes none", what=what, reason=str(error)[:200])


def reports_of(
    entry: ReportedTurn,
    sound: str | None = None,
    voices: Sequence[str] = (),
    *,
    mac: str = "",
    woken: bool = False,
) -> list[dict[str, Any]]:
    """The requests that tell the console of a turn, in order. `sound`, `voices`: what the user said, and each of the
    sentences that were spoken, as WAV files in base64. `mac`: the id as the device writes it, where that is known.
    `woken`: only a wake word was said."""
    session = entry.session
    messages: list[tuple[int, str, str | None]] = []
    if entry.said.strip():
        messages.append((USER, _said(entry, woken), None if woken else sound))
    for tool in entry.tools:
        arguments = orjson.dumps(dict(tool.arguments), default=str).decode()
        messages.append((TOOL, _tool_message("tool", f"{tool.name}({arguments})"), None))
        if tool.result:
            result = orjson.dumps({"result": tool.result}).decode()
            messages.append((TOOL, _tool_message("tool_result", result), None))
    heard = itertools.zip_longest(entry.spoken, voices[: len(entry.spoken)])
    messages += [(ASSISTANT, sentence, voice) for sentence, voice in heard if sentence.strip()]
    began = round(entry.at * 1000)
    return [
        {
            "macAddress": mac or session.device_id,
            "sessionId": session.id[:MAX_SESSION_CHARS],
            "chatType": kind,
            "content": _cut(content),
            # The console sorts by it: what comes later must not look earlier, nor as early.
            "reportTime": began + number,
            "audioBase64": wav,
        }
        for number, (kind, content, wav) in enumerate(messages)
    ]


def _said(entry: ReportedTurn, woken: bool) -> str:
    if woken:
        return WOKEN
    if not entry.speaker:
        return entry.said
    return orjson.dumps({"speaker": entry.speaker, "content": entry.said}).decode()


def _tool_message(kind: str, text: str) -> str:
    return orjson.dumps([{"type": kind, "text": text}]).decode()


def _cut(content: str) -> str:
    """As much of it as the console's column holds."""
    encoded = content.encode("utf-8", "replace")
    return content if len(encoded) <= MAX_CONTENT_BYTES else encoded[:MAX_CONTENT_BYTES].decode("utf-8", "ignore")
