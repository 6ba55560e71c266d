"""Who was told to come back, and when: a place in the queue is kept for those who do."""

from collections import Counter
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
#: Most that one caller may be promised, seconds of work: the others' promises come behind it.
MOST_OF_ONE_S = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Ticket:
    """Who asks for what: one who comes back with the same is known without having been given anything."""

    caller: str
    digest: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class _Promise:
    due_s: float
    cost: int


class Promises:
    """Promised places in a queue that is full, one after the other at the speed at which it empties.

    Times are seconds of one clock that never goes back, costs line-graph edges. Not safe across threads.
    """

    def __init__(self) -> None:
        # In the order of their times: none is promised an earlier one than the last.
        self._promises: dict[Ticket, _Promise] = {}
        self._cost = 0
        self._cost_of: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._promises)

    def promise(self, ticket: Ticket | None, cost: int, *, excess: int, cost_per_s: float, now_s: float) -> float:
        """Say in how many seconds there is room, behind all who were promised some before.

        Args:
            ticket: who asks for what; without one, too far ahead or past its caller's share, no place is kept.
            cost: of the work.
            excess: what must have gone before there is room for it, were it alone.
            cost_per_s: the speed at which the queue empties.
            now_s: the time.
        """
        self._forget(now_s)
        if ticket is not None and (known := self._promises.get(ticket)) is not None:
            if known.due_s >= now_s:  # it came too early: its place is where it was
                return known.due_s - now_s
            self.keep(ticket)
        last_s = next(reversed(self._promises.values())).due_s if self._promises else now_s
        due_s = max(now_s + (excess + self._cost) / cost_per_s, last_s)
        if ticket is not None and due_s <= now_s + FARTHEST_S:
            self._book(ticket, _Promise(due_s=due_s, cost=cost), most=MOST_OF_ONE_S * cost_per_s)
        return due_s - now_s

    def _book(self, ticket: Ticket, promise: _Promise, *, most: float) -> None:
        if self._cost_of[ticket.caller] + promise.cost <= most:
            self._promises[ticket] = promise
            self._cost += promise.cost
            self._cost_of[ticket.caller] += promise.cost

    def is_due(self, ticket: Ticket | None, *, now_s: float) -> bool:
        """Whether a place is kept for it now."""
        return self.cost_due(ticket, now_s=now_s) > 0

    def cost_due(self, ticket: Ticket | None, *, now_s: float) -> int:
        """Cost of the place that is kept for it now; 0 where there is none."""
        promise = self._promises.get(ticket) if ticket is not None else None
        if promise is None or not promise.due_s - EARLY_S <= now_s <= promise.due_s + KEPT_S:
            return 0
        return promise.cost

    def keep(self, ticket: Ticket | None) -> None:
        """Forget what was promised: it was let in."""
        if ticket is not None and (promise := self._promises.pop(ticket, None)) is not None:
            self._cost -= promise.cost
            self._cost_of[ticket.caller] -= promise.cost
            if not self._cost_of[ticket.caller]:
                del self._cost_of[ticket.caller]

    def any_left(self, *, now_s: float) -> bool:
        """Whether a place is kept for anybody, now or later."""
        self._forget(now_s)
        return bool(self._promises)

    def due_cost(self, *, now_s: float) -> int:
        """Cost of those for whom a place is kept now or soon."""
        self._forget(now_s)
        due = takewhile(lambda promise: promise.due_s <= now_s + SOON_S, self._promises.values())
        return sum(promise.cost for promise in due)

    def _forget(self, now_s: float) -> None:
        """Forget those who did not come."""
        while self._promises:
            ticket = next(iter(self._promises))
            if self._promises[ticket].due_s + KEPT_S >= now_s:
                return
            self.keep(ticket)
