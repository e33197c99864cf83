"""What the management API may order by a message on a device's connection: read the configuration again, restart.

Anybody who may connect can send such a message, so the secret is all that counts, and wrong ones cost time.

The console's page waits for a success, and for nothing else: an error, and a closed connection, leave it waiting for
two minutes. A success that does not say of which action ends it at once, as a failure. So an order that failed is
answered twice: with what went wrong, and with that."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pydantic import SecretStr

from xiaozhi.app.request_rates import RequestRates
from xiaozhi.errors import Fault, LockedOut, TooOften
from xiaozhi.net.proxies import one_client
from xiaozhi.protocol import messages as wire
from xiaozhi.protocol.token import same_secret
from xiaozhi.runtime.logs import get_logger

log = get_logger(__name__)
DOOR = "server_message"
MAX_SAID = 1_000
"""Characters of an answer; the console takes no message of more than 8 KB."""


class ManagementOrders:
    """`secret`: the one in force, empty for none. `restart` must not wait for the connections to end.
    `pass_on`: told of an action that was done here and is meant for all workers behind this address."""

    def __init__(
        self,
        *,
        secret: Callable[[], SecretStr],
        rates: RequestRates,
        reload: Callable[[], Sequence[Fault]],
        restart: Callable[[], object],
        pass_on: Callable[[str], object] = lambda action: None,
    ) -> None:
        self._secret = secret
        self._rates = rates
        self._reload = reload
        self._restart = restart
        self._pass_on = pass_on

    def obey(self, command: wire.ServerCommand, peer_ip: str) -> tuple[wire.ServerReply, ...]:
        """Do what is ordered from this address, if the secret is right; what to answer, in order. May block for a
        reload."""
        reply = self._done(command, peer_ip)
        if reply.status == "success":
            return (reply,)
        log.warning("server command failed", action=command.action[:40], reason=reply.message[:500])
        return reply, wire.ServerReply("success", f"not done: {reply.message}")

    def _done(self, command: wire.ServerCommand, peer_ip: str) -> wire.ServerReply:
        client = one_client(peer_ip)
        try:
            self._rates.guesses.refuse_guesser(DOOR, client)
            self._rates.order(client)
        except (LockedOut, TooOften) as error:
            return wire.ServerReply("error", str(error), command.action)
        if not same_secret(command.secret, self._secret().get_secret_value()):
            self._rates.guesses.add(DOOR, client)
            log.warning("server command refused", peer=peer_ip, action=command.action)
            return wire.ServerReply("error", "the secret is wrong, or none is configured", command.action)
        self._rates.guesses.forgive(DOOR, client)
        if command.action == "update_config":
            faults = self._reload()
            if faults:
                said = "; ".join(str(fault) for fault in faults)
                return wire.ServerReply("error", said[:MAX_SAID], command.action)
            self._pass_on(command.action)
            return wire.ServerReply("success", "configuration reloaded", command.action)
        if command.action == "restart":
            self._pass_on(command.action)
            self._restart()
            return wire.ServerReply("success", "restarting after the current answers", command.action)
        return wire.ServerReply("error", f"unknown action {command.action!r}", command.action)
