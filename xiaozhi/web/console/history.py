"""The pages "History" and "Conversation": what was said by device and day, search, sound, where the time of a turn went
and why it was slow, export, erasing."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from flask import Blueprint, Response, jsonify, request
from werkzeug.exceptions import BadRequest, NotFound

from xiaozhi.history.entries import KeptSound
from xiaozhi.history.export import CSV_FILE, JSON_FILE, Export, zipped
from xiaozhi.history.pages import HistoryPages
from xiaozhi.history.slowness import SHARES, UsualTimes, explain
from xiaozhi.history.store import KeptTurn, LocalHistory
from xiaozhi.protocol.device_id import checked_device_id, normal_device_id
from xiaozhi.storage.turn_history import SessionRow
from xiaozhi.storage.turn_pages import KeptConversation, WantedConversations
from xiaozhi.web.app import asked_number
from xiaozhi.web.console.access import ConsoleAccess, current_visitor, guard
from xiaozhi.web.console.audit import AuditTrail
from xiaozhi.web.faults import tell_faults

MAX_SHOWN: Final = 100
MAX_TURNS: Final = 200
MAX_DEVICES: Final = 500
MAX_TURN: Final = 1_000_000
MAX_SEARCH_CHARS: Final = 200
_FORMATS: Final = ("zip", "json", "csv")
_TYPES: Final = {
    "zip": "application/zip",
    "json": "application/json; charset=utf-8",
    "csv": "text/csv; charset=utf-8",
}


@dataclass(frozen=True, slots=True)
class HistoryPageHooks:
    """Where the answers come from; all of it may block for the database."""

    pages: HistoryPages
    store: LocalHistory
    labels: Callable[[list[str]], Mapping[str, str]]
    """What owners call these devices."""
    wav: Callable[[KeptSound], bytes]
    """A WAV file of a sound. Raises Overloaded."""
    zone: Callable[[], datetime.tzinfo]
    state: Callable[[], Mapping[str, Any]]
    """What is kept: "mode", "days", "sound_days"; "console": the address of a management console that is told
    instead, or ""."""


def create_blueprint(hooks: HistoryPageHooks, access: ConsoleAccess, audit: AuditTrail) -> Blueprint:
    """The routes under /console/api/history."""
    desk = _Desk(hooks, audit)
    blueprint = Blueprint("console_history", __name__)
    blueprint.before_request(guard(access))
    tell_faults(blueprint)
    for path, view, method in (
        ("", desk.page, "GET"),
        ("", desk.erase_device, "DELETE"),
        ("/export", desk.export, "GET"),
        ("/<session>", desk.conversation, "GET"),
        ("/<session>", desk.erase_session, "DELETE"),
        ("/<session>/<int:turn>/sound", desk.sound, "GET"),
    ):
        blueprint.add_url_rule(f"/console/api/history{path}", view.__name__, view, methods=[method])
    return blueprint


class _Desk:
    """Answers the pages."""

    def __init__(self, hooks: HistoryPageHooks, audit: AuditTrail) -> None:
        self._hooks = hooks
        self._pages = hooks.pages
        self._audit = audit

    def page(self) -> Response:
        """Some conversations, the newest first."""
        wanted = self._wanted()
        limit = max(1, asked_number("limit", 30, MAX_SHOWN))
        found = self._pages.conversations(wanted, limit + 1)
        shown = found[:limit]
        last = shown[-1].session if len(found) > limit else None
        devices = self._pages.devices(MAX_DEVICES)
        labels = self._hooks.labels([*devices, *{each.session.device for each in shown}])
        return jsonify(
            {
                "conversations": [_summary(each, labels) for each in shown],
                "next": f"{last.began_at!r}:{last.id}" if last is not None else None,
                "devices": [{"device": device, "label": labels.get(device, "")} for device in devices],
                "state": dict(self._hooks.state()),
            }
        )

    def conversation(self, session: str) -> Response:
        """One conversation, its turns from the one behind `after` on."""
        kept = self._session(session)
        turns, sounds = self._pages.turns(session, asked_number("after", 0, MAX_TURN), MAX_TURNS + 1)
        usual = self._pages.usual(kept)
        shown, labels = turns[:MAX_TURNS], self._hooks.labels([kept.device])
        return jsonify(
            {
                **_head(kept, labels),
                "turns": [_turn(turn, turn.turn in sounds, usual) for turn in shown],
                "next": shown[-1].turn if len(turns) > MAX_TURNS else None,
                "shares": SHARES,
            }
        )

    def sound(self, session: str, turn: int) -> Response:
        """What the user said, as WAV."""
        sound = self._hooks.store.sound(session, turn)
        if sound is None:
            raise NotFound("The sound of this turn is not kept (any more).")
        response = Response(self._hooks.wav(sound), content_type="audio/wav")
        response.headers["Content-Disposition"] = f'inline; filename="{session[:8]}-{turn}.wav"'
        response.make_conditional(request, accept_ranges=True, complete_length=response.content_length)
        return response

    def export(self) -> Response:
        """One conversation, or all of a device, as a file to be saved: `format` is zip, json or csv."""
        kind = request.args.get("format", "zip")
        if kind not in _FORMATS:
            raise BadRequest(f"format must be one of {', '.join(_FORMATS)}.")
        session, device = request.args.get("session", ""), request.args.get("device", "")
        if session:
            name, sessions = session[:8], [self._session(session)]
        elif device:
            name, sessions = checked_device_id(device), self._hooks.store.sessions(device)
        else:
            raise BadRequest("Say which: session=... or device=...")
        made = Export(self._hooks.store, sessions, self._hooks.zone(), self._hooks.wav)
        pieces: Iterator[bytes] = {"zip": lambda: zipped(made.files()), "json": made.json, "csv": made.csv}[kind]()
        response = Response(pieces, content_type=_TYPES[kind])
        file = {"zip": "zip", "json": JSON_FILE, "csv": CSV_FILE}[kind]
        safe = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in name)
        joint = "." if kind == "zip" else "-"
        response.headers["Content-Disposition"] = f'attachment; filename="xiaozhi-{safe}{joint}{file}"'
        self._audit.note("exported history", who=current_visitor().who, device=device, session=session, format=kind)
        return response

    def erase_device(self) -> Response:
        """Remove all that was said to and by a device."""
        device = checked_device_id(request.args.get("device", ""))
        turns, sounds = self._hooks.store.erase(device)
        self._audit.note("erased history", who=current_visitor().who, device=device, turns=turns, sounds=sounds)
        return jsonify({"success": True, "turns": turns, "sounds": sounds})

    def erase_session(self, session: str) -> Response:
        """Remove one conversation."""
        kept = self._session(session)
        turns, sounds = self._hooks.store.erase_session(session)
        self._audit.note(
            "erased history", who=current_visitor().who, device=kept.device, session=session, turns=turns, sounds=sounds
        )
        return jsonify({"success": True, "turns": turns, "sounds": sounds})

    def _session(self, session: str) -> SessionRow:
        kept = self._pages.session(session)
        if kept is None:
            raise NotFound("Nothing is kept of this conversation (any more).")
        return kept

    def _wanted(self) -> WantedConversations:
        asked = request.args
        device = asked.get("device", "")
        since, until = self._day(asked.get("day", ""))
        return WantedConversations(
            device=normal_device_id(device) if device else "",
            since=since,
            until=until,
            search=asked.get("search", "")[:MAX_SEARCH_CHARS].strip(),
            before=_place(asked.get("before", "")),
        )

    def _day(self, text: str) -> tuple[float, float | None]:
        """When a day ("2026-11-27", of the server's time zone) begins and ends."""
        if not text:
            return 0.0, None
        try:
            day = datetime.datetime.fromisoformat(text).replace(tzinfo=self._hooks.zone())
            return day.timestamp(), (day + datetime.timedelta(days=1)).timestamp()
        except (ValueError, OverflowError):
            raise BadRequest("day must be a date, such as 2026-11-27.") from None


def _place(text: str) -> tuple[float, str] | None:
    if not text:
        return None
    at, _, name = text.partition(":")
    try:
        return float(at), name
    except ValueError:
        raise BadRequest("before must be what `next` said.") from None


def _head(session: SessionRow, labels: Mapping[str, str]) -> dict[str, Any]:
    return {
        "session": session.id,
        "device": session.device,
        "label": labels.get(session.device, ""),
        "began_at": session.began_at,
        "ended_at": session.ended_at,
    }


def _summary(found: KeptConversation, labels: Mapping[str, str]) -> dict[str, Any]:
    shown = found.shown
    return {
        **_head(found.session, labels),
        "turns": found.turns,
        "said": shown.said if shown is not None else "",
        "spoken": " ".join(shown.spoken) if shown is not None else "",
    }


def _turn(turn: KeptTurn, sound: bool, usual: UsualTimes) -> dict[str, Any]:
    return {
        "turn": turn.turn,
        "at": turn.at,
        "said": turn.said,
        "spoken": turn.spoken,
        "tools": [asdict(use) for use in turn.tools],
        "outcome": turn.outcome,
        "reason": turn.reason,
        "announcement": turn.announcement,
        "speaker": turn.speaker,
        "timings": turn.timings,
        "sound": sound,
        "why": asdict(explain(turn.timings, turn.tools, usual)),
    }
