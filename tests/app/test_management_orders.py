"""Orders by message: by whom, and how often."""

from __future__ import annotations

from pydantic import SecretStr

from tests.fakes.clock import FakeClock
from xiaozhi.app.management_orders import ManagementOrders
from xiaozhi.app.request_rates import RequestRates
from xiaozhi.protocol.messages import ServerCommand
from xiaozhi.runtime.guesses import FREE
from xiaozhi.runtime.rates import Rates
from xiaozhi.settings.server import Limits

SECRET = "the-management-secret"


class Ordered:
    """Orders that are counted instead of obeyed."""

    def __init__(self, **limits: int) -> None:
        self.clock = FakeClock()
        self.reloads = 0
        self._orders = ManagementOrders(
            secret=lambda: SecretStr(SECRET),
            rates=RequestRates(lambda: Limits(**limits), Rates(clock=self.clock)),
            reload=self._reload,
            restart=lambda: None,
        )

    def _reload(self) -> tuple[()]:
        self.reloads += 1
        return ()

    def press(self, secret: str = SECRET, peer: str = "192.0.2.1") -> tuple[str, ...]:
        """The states of the answers: of a success there is one, of a failure two, the last of which ends the wait."""
        return tuple(reply.status for reply in self._orders.obey(ServerCommand("update_config", secret), peer))


def test_so_many_orders_a_minute_of_one_address() -> None:
    ordered = Ordered(orders_per_minute=3)

    answers = [ordered.press() for _ in range(4)]

    assert answers == [("success",)] * 3 + [("error", "success")]
    assert ordered.press(peer="192.0.2.2") == ("success",)
    ordered.clock.advance(60)
    assert ordered.press() == ("success",)
    assert ordered.reloads == 5


def test_after_too_many_wrong_secrets_not_even_the_right_one_counts() -> None:
    ordered = Ordered()
    for _ in range(FREE):
        assert ordered.press("wrong") == ("error", "success")

    assert ordered.press() == ("error", "success")
    assert ordered.press(peer="192.0.2.2") == ("success",)
    ordered.clock.advance(60)
    assert ordered.press() == ("success",)
