"""A breaker: a store that is away is left alone for a while, so that it costs nothing a request."""

from collections.abc import Callable
from time import monotonic

_FAILURES_TO_OPEN = 3
_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 30.0


class Breaker:
    """Opens after three failures in a row; then lets one attempt through after 1, 2, 4 .. 30 seconds.

    Args:
        clock: seconds that never go back.
    """

    def __init__(self, *, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._failures = 0
        self._pause_s = _FIRST_PAUSE_S
        self._next_try_at = 0.0

    @property
    def is_open(self) -> bool:
        """Whether the store is being left alone."""
        return self._failures >= _FAILURES_TO_OPEN

    def allows(self) -> bool:
        """Whether to try now; where the breaker is open, the one that is let through answers for all."""
        if not self.is_open:
            return True
        now = self._clock()
        if now < self._next_try_at:
            return False
        self._next_try_at = now + self._pause_s
        return True

    def failed(self) -> bool:
        """Note a failure; True where this one opened the breaker."""
        was_open = self.is_open
        self._failures += 1
        if was_open:
            self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
        if self.is_open:
            self._next_try_at = self._clock() + self._pause_s
        return self.is_open and not was_open

    def succeeded(self) -> bool:
        """Note a success; True where this one closed the breaker."""
        was_open = self.is_open
        self._failures = 0
        self._pause_s = _FIRST_PAUSE_S
        return was_open
