"""Who has a place on the HTTP port, and who has to make room."""

from __future__ import annotations

from xiaozhi.web.seats import Seat, Seats


class House:
    """Three seats, two for one holder, one of the reserve."""

    def __init__(self) -> None:
        self.seats = Seats()
        self.dropped: list[Seat] = []

    def enter(self, holder: str) -> Seat | None:
        return self.seats.enter(holder, seats=3, each=2, reserve=1)

    def taken(self, holder: str) -> Seat:
        seat = self.enter(holder)
        assert seat is not None and not seat.reserved
        return seat

    def waits(self, seat: Seat) -> None:
        self.seats.waits(seat, lambda: self.dropped.append(seat))


def test_who_finds_no_room_may_ask_for_health() -> None:
    house = House()
    held = [house.taken(holder) for holder in ("a", "b", "")]
    reserved = house.enter("c")
    assert reserved is not None and reserved.reserved
    assert house.enter("d") is None
    house.seats.leave(reserved)
    house.seats.leave(reserved)
    assert (house.seats.public, house.seats.reserved) == (3, 0)
    house.seats.leave(held[0])
    house.taken("d")


def test_one_holder_has_a_share_and_who_speaks_for_many_has_none() -> None:
    house = House()
    first = [house.taken("a"), house.taken("a")]
    greedy = house.enter("a")
    assert greedy is not None and greedy.reserved
    house.seats.leave(greedy)
    house.seats.leave(first[0])
    house.taken("a")
    other = House()
    for _ in range(3):
        other.taken("")


def test_who_waits_makes_room_the_silent_first() -> None:
    house = House()
    asked, silent, busy = house.taken("a"), house.taken("b"), house.taken("c")
    asked.served = True
    house.waits(asked)
    house.waits(silent)
    assert not busy.reserved
    house.taken("d")
    assert house.dropped == [silent]
    house.taken("e")
    assert house.dropped == [silent, asked]
    assert house.seats.public == 3
    late = house.enter("f")
    assert late is not None and late.reserved, "whoever is served keeps the seat"
    assert house.seats.displaced == 2


def test_a_greedy_holder_displaces_only_itself() -> None:
    house = House()
    other, own = house.taken("b"), house.taken("a")
    house.waits(other)
    house.waits(own)
    house.taken("a")
    house.taken("a")
    assert house.dropped == [own]
    refused = house.enter("a")
    assert refused is not None and refused.reserved


def test_silence_does_not_keep_the_reserve() -> None:
    house = House()
    for holder in ("a", "b", "c"):
        house.taken(holder)
    silent = house.enter("x")
    assert silent is not None
    house.waits(silent)
    healthy = house.enter("y")
    assert healthy is not None and healthy.reserved
    assert house.dropped == [silent]
    house.seats.leave(silent)
    assert house.seats.reserved == 1


def test_who_has_a_whole_request_stays() -> None:
    house = House()
    seats = [house.taken(holder) for holder in ("a", "b", "c")]
    for seat in seats:
        house.waits(seat)
        house.seats.works(seat)
    late = house.enter("d")
    assert late is not None and late.reserved
    assert house.dropped == []
    house.waits(seats[0])
    house.seats.drop_waiting()
    assert house.dropped == [seats[0]]
