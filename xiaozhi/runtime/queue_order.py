"""In which order jobs of one class leave their queue: the cheapest first, so that a short utterance does not wait for
long ones; but a dear one does not wait for ever. Pure, no clock.

Three rules. The cheapest waiting job is next. One that others went past `MOST_OVERTAKEN` times is next instead. But a
job never waits for two dearer ones: while any waits that has seen a dearer one begin, the first rule holds. So a short
utterance waits for at most one long one that begins, and for shorter ones; a long one waits for those that came before
it had waited long enough, and these are a finite number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Generic, TypeVar

T = TypeVar("T")

MOST_OVERTAKEN: Final = 4


@dataclass(slots=True, eq=False)
class _Place(Generic[T]):
    item: T
    cost: float
    overtaken: int = 0
    has_waited: bool = False
    """For one that costs clearly more."""


class JobQueue(Generic[T]):
    """Jobs of one class. Costs are seconds; equal ones (0 where nobody estimates) leave as they came."""

    def __init__(self) -> None:
        self._places: list[_Place[T]] = []
        self._running: float = 0.0
        """What the last job that began costs."""

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, item: T) -> bool:
        return any(place.item is item for place in self._places)

    def add(self, item: T, cost: float = 0.0) -> None:
        """It waits. What runs at the moment counts as the dearer one that it has to wait for."""
        self._places.append(_Place(item, cost, has_waited=self._running > cost))

    def remove(self, item: T) -> None:
        """It waits no more. Raises ValueError when it did not."""
        for index, place in enumerate(self._places):
            if place.item is item:
                del self._places[index]
                return
        raise ValueError("it does not wait")

    def take(self) -> T:
        """The next one. Raises IndexError when nobody waits."""
        places = self._places
        index = min(range(len(places)), key=lambda at: places[at].cost) if len(places) > 1 else 0
        patient = next((at for at, place in enumerate(places) if place.overtaken >= MOST_OVERTAKEN), index)
        if patient != index and not any(place.has_waited and place.cost < places[patient].cost for place in places):
            index = patient
        for place in places[:index]:
            place.overtaken += 1
        return places.pop(index).item

    def began(self, cost: float) -> None:
        """A job of this class began: those that wait and cost less have now waited for a dearer one."""
        self._running = cost
        for place in self._places:
            if place.cost < cost:
                place.has_waited = True
