"""How often each caller may ask: a rate with a burst, kept in this process."""

import time

from app.errors import BusyError

#: Callers remembered before those are forgotten that owe nothing any more.
_REMEMBERED = 10_000


class Rates:
    """Lets each caller ask at a rate, and some at once (the generic cell rate algorithm).

    Args:
        a_minute: requests a minute; 0 lets all in.
        burst: requests that one who was silent may send at once.
    """

    def __init__(self, *, a_minute: int, burst: int) -> None:
        self._a_minute = a_minute
        self._interval_s = 60.0 / a_minute if a_minute else 0.0
        self._burst_s = self._interval_s * burst
        self._paid_until_s: dict[str, float] = {}
        self._forget_at = _REMEMBERED

    def take(self, caller: str, *, now_s: float | None = None) -> None:
        """Count a request.

        Args:
            caller: who asks.
            now_s: the time, seconds of any clock that never goes back; the system's where left out.

        Raises:
            BusyError: kind "rate-exceeded"; its retry_after_s is when one request is let in again.
        """
        if not self._a_minute:
            return
        now = time.monotonic() if now_s is None else now_s
        until = max(self._paid_until_s.get(caller, now), now) + self._interval_s
        if until - now > self._burst_s + 1e-9:  # what rounding adds
            raise BusyError(
                f"More than {self._a_minute} predictions a minute were asked for (IONPATH_RATE_PER_MINUTE).",
                retry_after_s=until - now - self._burst_s,
                kind="rate-exceeded",
            )
        if len(self._paid_until_s) >= self._forget_at:
            self._paid_until_s = {who: paid for who, paid in self._paid_until_s.items() if paid > now}
            # Those that still owe are gone through again only once there are twice as many.
            self._forget_at = max(_REMEMBERED, 2 * len(self._paid_until_s))
        self._paid_until_s[caller] = until
