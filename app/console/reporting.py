"""Reports what is done while it is being done: results on standard output, progress on standard error."""

import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from app.console.asking import Result
from app.console.outputs import write_neb
from app.console.printing import Writer

#: Where standard error is no terminal, a line says so often how far it is, seconds.
LINE_EVERY_S = 10.0


class Reporter(AbstractContextManager["Reporter"]):
    """Writes each result when it is finished, and shows how far all is.

    Attributes:
        total: as given.
        written: results that were written.
        labels: their files.
        failures: of those that are problems, file and kind.
        results: those kept.
        folders: with unpacked bands.

    Args:
        total: how many results will come.
        writer: writes them to standard output.
        neb_folder: where their bands are unpacked to, where these were asked for.
        keep: whether the results are wanted once all are done.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        total: int,
        writer: Writer,
        *,
        neb_folder: Path | None = None,
        keep: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.total = total
        self._writer = writer
        self._neb_folder = neb_folder
        self._keep = keep
        self._shown = _bar(total) if sys.stderr.isatty() else _Lines(total, clock)
        self.written = 0
        self.labels: set[str] = set()
        self.failures: list[tuple[str, str]] = []
        self.results: list[Result] = []
        self.folders: list[Path] = []

    def __enter__(self) -> Self:
        """Show the progress."""
        self._shown.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the progress away."""
        self._shown.stop()

    def finished(self, result: Result) -> None:
        """Write a result, and unpack its bands.

        Raises:
            OSError: standard output is closed, or a folder cannot be written.
        """
        if sys.stdout.isatty():  # as standard error may be the same terminal
            self._shown.stop()
        try:
            self._writer.write(result)
        finally:
            if sys.stdout.isatty():
                self._shown.start()
        self.written += 1
        self.labels.add(result.label)
        if result.problem is not None:
            self.failures.append((result.label, str(result.problem.get("kind", "problem"))))
        if self._neb_folder is not None and (folder := write_neb(result, self._neb_folder)) is not None:
            self.folders.append(folder)
        if self._keep:
            self.results.append(replace(result, bands_zip=None))

    @property
    def failed(self) -> int:
        """How many of those written are problems."""
        return len(self.failures)

    def progress(self, *, done: int, failed: int) -> None:
        """Show how many are done, and how many of them could not be predicted."""
        self._shown.update(done, failed)


class _Bar:
    """A bar on a terminal, gone when all is done."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=total, failed="")

    def start(self) -> None:
        self._progress.start()

    def stop(self) -> None:
        self._progress.stop()

    def update(self, done: int, failed: int) -> None:
        self._progress.update(self._task, completed=done, failed=f"{failed} failed" if failed else "")


def _bar(total: int) -> _Bar:
    progress = Progress(
        SpinnerColumn(),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("done {task.fields[failed]}"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=False,  # rich would send the results to standard error
        redirect_stderr=False,
    )
    return _Bar(progress, total)


class _Lines:
    """A plain line now and then, for logs of long runs."""

    def __init__(self, total: int, clock: Callable[[], float]) -> None:
        self._total = total
        self._clock = clock
        self._next_s = clock() + LINE_EVERY_S

    def start(self) -> None:
        """Show nothing yet."""

    def stop(self) -> None:
        """Leave what was shown."""

    def update(self, done: int, failed: int) -> None:
        if self._clock() < self._next_s or done == self._total:
            return
        self._next_s = self._clock() + LINE_EVERY_S
        sys.stderr.write(f"ionpath: {done} of {self._total} files done" + (f", {failed} failed\n" if failed else "\n"))
        sys.stderr.flush()
