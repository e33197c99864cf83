"""Who may use the addresses under /admin: whoever shows the admin token. Guesses are counted by address."""

from __future__ import annotations

from flask import request
from werkzeug.exceptions import Forbidden

from xiaozhi.errors import AuthError
from xiaozhi.protocol.token import bearer, same_secret
from xiaozhi.runtime.guesses import Guesses
from xiaozhi.runtime.logs import get_logger
from xiaozhi.web.app import client_key, request_origin

log = get_logger(__name__)


class AdminAccess:
    """Closed without a token."""

    def __init__(self, token: str, guesses: Guesses) -> None:
        self._token = token
        self._guesses = guesses

    def check(self, what: str) -> None:
        """Let the current request pass. `what` it wants, for people. Raises Forbidden, AuthError, LockedOut."""
        if not self._token:
            raise Forbidden(f"{what} over HTTP is off: server.admin_token is not set.")
        client = client_key()
        self._guesses.refuse_guesser("admin", client)
        if not same_secret(bearer(request.headers.get("Authorization", "")), self._token):
            self._guesses.add("admin", client)
            log.warning(f"{what} refused", peer=request_origin().client_ip)
            raise AuthError("This needs the admin token.")
        self._guesses.forgive("admin", client)
