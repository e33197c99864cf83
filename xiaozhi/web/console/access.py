"""Who may use the console: this machine without a password, other machines of the home network with it, nobody else.

A visitor of this machine is one whose connection comes from it, that no proxy says it has passed on, and that asks for
the machine by such a name: a page from the internet whose name suddenly means 127.0.0.1 (DNS rebinding) asks by its own
name, and so does everybody behind a proxy that is not known here.

Sessions are signed, not stored: several workers share one port. A cookie says who and until when; changing the password
ends all that were made with the old one. Whoever changes something shows a second proof, which a page of another origin
cannot read.

Source: OWASP cheat sheets "Session Management" and "Cross-Site Request Forgery Prevention"."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from flask import Response, g, request
from werkzeug.exceptions import Forbidden

from xiaozhi.errors import AuthError
from xiaozhi.net.proxies import is_loopback, is_loopback_host
from xiaozhi.protocol.token import same_secret
from xiaozhi.runtime.guesses import Guesses
from xiaozhi.runtime.logs import get_logger
from xiaozhi.web.app import client_key, request_origin

log = get_logger(__name__)

COOKIE: Final = "xiaozhi_console"
PATH: Final = "/console"
CSRF_HEADER: Final = "X-CSRF-Token"
SESSION_S: Final = 14 * 24 * 3600
MAX_PASSWORD_CHARS: Final = 256
_SAFE: Final = ("GET", "HEAD", "OPTIONS")

Who = Literal["local", "owner"]


@dataclass(frozen=True, slots=True)
class ConsoleVisitor:
    """`who`: "local" (this machine) or "owner" (logged in). `csrf`: the second proof of this session, "" without
    one."""

    who: Who
    address: str
    csrf: str = ""


@dataclass(frozen=True, slots=True)
class _Session:
    who: Who
    nonce: str
    expires: int


class ConsoleAccess:
    """`key`: what sessions are signed with. `password_hash`: of the password in force; asked at each check, quick.
    `matches`: (hash, password) -> whether it is right; may block. `clock`: seconds since 1970."""

    def __init__(
        self,
        *,
        key: str,
        password_hash: Callable[[], str],
        matches: Callable[[str, str], bool],
        guesses: Guesses,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._key = hashlib.sha256(f"console {key}".encode()).digest()
        self._password_hash = password_hash
        self._matches = matches
        self._guesses = guesses
        self._clock = clock

    def visitor(self) -> ConsoleVisitor:
        """Whose request this is, for everything under /console/api but logging in. Raises Forbidden (not from here, or
        a change without its proof), AuthError (not logged in)."""
        address = self.refuse_strangers()
        session = self._session()
        local = _is_this_machine()
        if session is not None and session.who == "local" and not local:
            session = None
        if session is None and not local:
            raise AuthError("Please log in.")
        csrf = self._csrf(session) if session is not None else ""
        if request.method not in _SAFE and not (csrf and same_secret(request.headers.get(CSRF_HEADER, ""), csrf)):
            raise Forbidden("This page is out of date; please load it again.")
        return ConsoleVisitor("local" if local else "owner", address, csrf)

    def refuse_strangers(self) -> str:
        """The address of the visitor. Raises Forbidden for one that is not in the home network."""
        origin = request_origin()
        if not origin.seems_at_home:
            raise Forbidden("The console is closed outside of the home network.")
        return origin.client_ip

    def log_in(self, password: str) -> Who:
        """Raises AuthError, LockedOut, Forbidden."""
        self.refuse_strangers()
        client = client_key()
        self._guesses.refuse_guesser("console", client)
        if not 0 < len(password) <= MAX_PASSWORD_CHARS or not self._matches(self._password_hash(), password):
            self._guesses.add("console", client)
            log.warning("console: wrong password", peer=request_origin().client_ip)
            raise AuthError("This is not the password.")
        self._guesses.forgive("console", client)
        return "owner"

    def begin(self, response: Response, who: Who) -> str:
        """Give the visitor a session; its second proof."""
        session = _Session(who, secrets.token_urlsafe(16), int(self._clock()) + SESSION_S)
        text = f"{session.who}.{session.expires}.{session.nonce}"
        response.set_cookie(
            COOKIE,
            f"{text}.{self._mac('session', text, self._password_hash())}",
            max_age=SESSION_S,
            path=PATH,
            httponly=True,
            secure=request_origin().scheme == "https",
            samesite="Strict",
        )
        return self._csrf(session)

    def end(self, response: Response) -> None:
        """Take the session back."""
        response.delete_cookie(COOKIE, path=PATH, httponly=True, samesite="Strict")

    def _session(self) -> _Session | None:
        text, _, mac = request.cookies.get(COOKIE, "").rpartition(".")
        if not text or not same_secret(mac, self._mac("session", text, self._password_hash())):
            return None
        who, expires, nonce = text.split(".", 2)
        if int(expires) <= self._clock() or who not in ("local", "owner"):
            return None
        return _Session("local" if who == "local" else "owner", nonce, int(expires))

    def _csrf(self, session: _Session) -> str:
        return self._mac("csrf", session.nonce)

    def _mac(self, *words: str) -> str:
        return hmac.new(self._key, "\n".join(words).encode(), hashlib.sha256).hexdigest()


def current_visitor() -> ConsoleVisitor:
    """Whose request this is; set by the door of every console blueprint."""
    visitor: ConsoleVisitor = g.console_visitor
    return visitor


def guard(access: ConsoleAccess) -> Callable[[], None]:
    """What a blueprint of the console calls before each request."""

    def check() -> None:
        g.console_visitor = access.visitor()

    return check


def _is_this_machine() -> bool:
    origin = request_origin()
    if not origin.sure or origin.proxied or not is_loopback(origin.client_ip):
        return False
    return is_loopback_host(origin.host)
