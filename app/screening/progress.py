"""How far a screening is: a bar on a terminal, elsewhere a line a minute."""

import sys
import time
from collections.abc import Callable
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

LINE_EVERY_S = 60.0


class Shown(Protocol):
    """Shows how far a screening is."""

    def say(self, text: str) -> None:
        """Show what is being done before there is anything to count."""

    def begin(self, *, total: int, done: int) -> None:
        """Start to count: inputs altogether, and those that an earlier run did."""

    def update(self, *, done: int, failed: int) -> None:
        """Show how many inputs are done, and how many rows are failures."""

    def stop(self) -> None:
        """Show nothing more."""


def shown_progress() -> Shown:
    """A bar where standard error is a terminal, lines elsewhere."""
    return _Bar() if sys.stderr.isatty() else Lines()


class _Bar:
    def __init__(self) -> None:
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task = self._progress.add_task("", total=None, rate="")
        self._rate = _Rate()
        self._progress.start()

    def say(self, text: str) -> None:
        self._progress.update(self._task, description=text)

    def begin(self, *, total: int, done: int) -> None:
        self._rate.begin(done)
        self._progress.update(self._task, description="crystals", total=total, completed=done)

    def update(self, *, done: int, failed: int) -> None:
        rate = f"{self._rate.per_s(done):.1f}/s" + (f", {failed} failed" if failed else "")
        self._progress.update(self._task, completed=done, rate=rate)

    def stop(self) -> None:
        self._progress.stop()


class Lines:
    """A line at the start, and one a minute.

    Args:
        clock: seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._rate = _Rate(clock)
        self._total = 0
        self._next_s = clock() + LINE_EVERY_S

    def say(self, text: str) -> None:
        """See Shown."""
        _line(text)

    def begin(self, *, total: int, done: int) -> None:
        """See Shown."""
        self._total = total
        self._rate.begin(done)
        self._next_s = self._clock() + LINE_EVERY_S

    def update(self, *, done: int, failed: int) -> None:
        """See Shown."""
        if self._clock() < self._next_s:
            return
        self._next_s = self._clock() + LINE_EVERY_S
        per_s = self._rate.per_s(done)
        left = f", {_time((self._total - done) / per_s)} left" if per_s else ""
        _line(f"{done} of {self._total} done, {failed} failed, {per_s:.1f} per second{left}")

    def stop(self) -> None:
        """See Shown."""


class _Rate:
    """Inputs a second since the start of this run."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._done = 0
        self._started_s = clock()

    def begin(self, done: int) -> None:
        self._done, self._started_s = done, self._clock()

    def per_s(self, done: int) -> float:
        return (done - self._done) / max(self._clock() - self._started_s, 1e-3)


def _line(text: str) -> None:
    sys.stderr.write(f"ionpath: {text}\n")
    sys.stderr.flush()


def _time(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"  # noqa: PLR2004
