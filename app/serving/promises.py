"""Who was told to come back, and when: a place in the queue is kept for those who do."""

from collections.abc import Hashable
from dataclasses import dataclass
from itertools import takewhile

#: Before its time by as much one may come: clocks and sleeps are not exact. Seconds.
EARLY_S = 0.1
#: After its time a promise is kept for as long: Retry-After is in whole seconds, and a network takes its time. Seconds.
KEPT_S = 2.5
#: How long before its time room is left for one who was promised it, seconds.
SOON_S = 1.0
#: Whoever would have to wait longer is told so without a promise. Seconds.
FARTHEST_S = 120.0


@dataclass(kw_only=True, slots=True)
class _Promise:
    due_s: float
    cost: int


class Promises:
    """Promised places in a queue that is full, one after the other at the speed at which it empties.

    A ticket says who asks for what: who comes back with the same is known without having been given anything. Times are
    seconds of one clock that never goes back, costs line-graph edges. Not safe across threads.
    """

    def __init__(self) -> None:
        self._promises: dict[Hashable, _Promise] = {}
        self._cost = 0

    def __len__(self) -> int:
        return len(self._promises)

    def promise(self, ticket: Hashable | None, cost: int, *, excess: int, cost_per_s: float, now_s: float) -> float:
        """Say in how many seconds there is room, behind all who were promised some before.

        Args:
            ticket: who asks for what; without one, or too far ahead, the time is told and no place kept.
            cost: of the work.
            excess: what must have gone before there is room for it, were it alone.
            cost_per_s: the speed at which the queue empties.
            now_s: the time.
        """
        known = self._promises.get(ticket) if ticket is not None else None
        if known is not None and known.due_s >= now_s:  # it came too early: its place is where it was
            return known.due_s - now_s
        self._forget(now_s)
        wait_s = (excess + self._cost) / cost_per_s
        if ticket is not None and wait_s <= FARTHEST_S:
            self._take_out(ticket)
            self._promises[ticket] = _Promise(due_s=now_s + wait_s, cost=cost)
            self._cost += cost
        return wait_s

    def is_due(self, ticket: Hashable | None, *, now_s: float) -> bool:
        """Whether a place is kept for it now."""
        promise = self._promises.get(ticket) if ticket is not None else None
        return promise is not None and promise.due_s - EARLY_S <= now_s <= promise.due_s + KEPT_S

    def keep(self, ticket: Hashable | None) -> None:
        """Forget what was promised: it was let in."""
        if ticket is not None:
            self._take_out(ticket)

    def any_left(self, *, now_s: float) -> bool:
        """Whether a place is kept for anybody, now or later."""
        self._forget(now_s)
        return bool(self._promises)

    def due_cost(self, *, now_s: float) -> int:
        """Cost of those for whom a place is kept now or soon."""
        self._forget(now_s)
        due = takewhile(lambda promise: promise.due_s <= now_s + SOON_S, self._promises.values())
        return sum(promise.cost for promise in due)

    def _take_out(self, ticket: Hashable) -> None:
        if (promise := self._promises.pop(ticket, None)) is not None:
            self._cost -= promise.cost

    def _forget(self, now_s: float) -> None:
        """Forget those who did not come; promises are nearly in the order of their times."""
        while self._promises:
            ticket = next(iter(self._promises))
            if self._promises[ticket].due_s + KEPT_S >= now_s:
                return
            self._take_out(ticket)
