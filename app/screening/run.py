"""A screening from its inputs to its tables, and on from where an earlier run of the same command stopped."""

import heapq
import platform
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version

import pyarrow as pa
import pyarrow.compute as pc

from app.screening.errors import ScreeningError, lines_of
from app.screening.job import SCHEMA_VERSION, Job
from app.screening.passed_by import MOST_NAMED
from app.screening.pieces import Output, locked
from app.screening.progress import Shown
from app.screening.ray_sessions import ray_session
from app.screening.rows import SCHEMAS
from app.screening.sources.items import Part, Selection, Source, SourceLimits, digest_of
from app.screening.sources.opening import open_sources, passed_by

#: A piece is written after so many inputs or rows, or `Job.save_every_s`: what a killed run does again.
_PIECE_INPUTS, _PIECE_ROWS = 2_000, 50_000


@dataclass(frozen=True, kw_only=True)
class Summary:
    """How a screening ended.

    Attributes:
        inputs: altogether.
        done: of them, those that have their rows.
        crystals: rows of crystals.
        failures: rows of failures, by kind.
        seconds: of this run.
        passed_by: paths of files of folders that were not taken for crystals.
    """

    inputs: int
    done: int
    crystals: int
    failures: dict[str, int]
    seconds: float
    passed_by: Sequence[str] = ()

    @property
    def failed(self) -> int:
        """Rows of failures."""
        return sum(self.failures.values())


class ScreeningInterruptedError(Exception):
    """The screening was interrupted; what was done by then is written."""

    def __init__(self, summary: Summary) -> None:
        super().__init__("interrupted")
        self.summary = summary


def run(job: Job, limits: SourceLimits, shown: Shown, *, restart: bool = False) -> Summary:
    """Screen what has no rows yet.

    Raises:
        ScreeningError: it cannot start or go on; what was done by then is written.
        ScreeningInterruptedError: Ctrl-C.
    """
    started_s = time.monotonic()
    sources = open_sources(job.inputs, limits)
    with locked(job.output), _os_errors():
        output = Output(job.output, job.settings(), restart=restart)
        shown.say("listing the inputs")
        selection, firsts, total, left = _selected(sources, job, output)
        parts = [part for source, first in zip(sources, firsts, strict=True) for part in source.parts(selection, first)]
        others = [path for name in job.inputs for path in passed_by(name)]
        writer = _Writer(output, total, left, started_s, job.save_every_s, passed_by=others)
        output.write_run(
            state="running",
            schema_version=SCHEMA_VERSION,
            inputs=total,
            files_passed_by=len(others),
            first_passed_by=others[:MOST_NAMED],
            started_at=output.run.get("started_at") or _now(),
            versions=_versions(),
            counts=writer.counts(),
        )
        if left:
            shown.say("starting Ray")
            _screen(job, parts, writer, shown)
        writer.finish("complete")
        return writer.summary()


def _screen(job: Job, parts: Sequence[Part], writer: "_Writer", shown: Shown) -> None:
    try:
        with ray_session(job.ray_address, job.workers) as machines, _ray_errors():
            from app.screening.on_ray import screened  # noqa: PLC0415 # imports Ray, once its environment is prepared

            shown.begin(total=writer.total, done=writer.done)
            for batch in screened(job, parts, machines):
                writer.add(batch.inputs, batch.tables)
                shown.update(done=writer.done, failed=sum(writer.failures.values()))
    except KeyboardInterrupt:
        writer.finish("interrupted")
        raise ScreeningInterruptedError(writer.summary()) from None
    except (ScreeningError, OSError):
        with suppress(ScreeningError):  # what stopped it may keep this from being written too
            writer.finish("stopped")
        raise
    finally:
        shown.stop()
    if writer.left:
        writer.finish("stopped")
        raise ScreeningError(
            f"{len(writer.left)} of {writer.total} inputs were listed and then not found: they changed while they "
            "were read. The same command goes on."
        )


@contextmanager
def _os_errors() -> Iterator[None]:
    """What the system refuses, such as a folder for Ray, as our error that names the file."""
    try:
        yield
    except OSError as error:
        raise ScreeningError(f"The screening stopped: {lines_of(error)[0]}. The same command goes on.") from error


@contextmanager
def _ray_errors() -> Iterator[None]:
    """Errors of Ray as ours: a checkpoint that a machine does not have, a cluster that is gone."""
    from ray.exceptions import RayError  # noqa: PLC0415 # as above

    try:
        yield
    except RayError as error:
        cause = getattr(error, "cause", None) or error
        raise ScreeningError(f"Ray stopped the screening: {lines_of(cause)[-1]} The same command goes on.") from error


def _selected(
    sources: Sequence[Source], job: Job, output: Output
) -> tuple[Selection, list[int | None], int, set[bytes]]:
    """Which inputs are wanted: the selection, the first so many of each source, how many, and digests of those to do.

    Inputs that an earlier run did and that are gone since are not among them.

    Raises:
        ScreeningError: two inputs have the same path, or a source cannot be listed.
    """
    seen: dict[bytes, int] = {}
    firsts: list[int | None] = []
    most = job.limit if job.shuffle is None else None
    key = None if job.shuffle is None else f"shuffle-{job.shuffle}"
    for number, source in enumerate(sources):
        count = 0
        for name in source.inputs() if most is None or len(seen) < most else ():
            digest = digest_of(name)
            if digest in seen:
                where = sources[seen[digest]].name
                other = source.name if source.name != where else "it, twice"
                raise ScreeningError(
                    f"{name[:200]!r} is in {where} and in {other}: rows are distinguished by the path inside of INPUT. "
                    "Rename one, or screen them into two folders."
                )
            seen[digest] = number
            count += 1
            if most is not None and len(seen) >= most:
                break
        firsts.append(None if most is None else count)
    if key is None or job.limit is None or len(seen) <= job.limit:
        return Selection(done=frozenset(output.done), key=key), firsts, len(seen), seen.keys() - output.done
    names = (name for source in sources for name in source.inputs())
    order = heapq.nsmallest(job.limit, ((digest_of(name, key), digest_of(name)) for name in names))
    selection = Selection(done=frozenset(output.done), key=key, last=order[-1][0] if order else b"")
    return selection, firsts, job.limit, {digest for _, digest in order} - output.done


@contextmanager
def _interrupts_kept() -> Iterator[list[int]]:
    """Hold Ctrl-C and SIGTERM back; gives the signals that came meanwhile.

    A handler is put in their place, as a mask would not do: Ray's threads take signals too.
    """
    kept: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
    before = {number: handler for number in numbers if callable(handler := signal.getsignal(number))}
    try:
        for number in before:
            signal.signal(number, lambda number, _: kept.append(number))
        yield kept
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Writer:
    """Collects rows, and writes them piece by piece.

    Attributes:
        total: inputs altogether.
        left: digests of those that have no rows yet.
    """

    def __init__(
        self,
        output: Output,
        total: int,
        left: set[bytes],
        started_s: float,
        save_every_s: float,
        *,
        passed_by: Sequence[str] = (),
    ) -> None:
        self.output = output
        self.total = total
        self.left = left
        self.crystals = output.dataset("crystals").count_rows()
        kinds = output.dataset("failures").to_table(columns=["kind"]).column("kind").to_pylist()
        self.failures: Counter[str] = Counter(kinds)
        self._passed_by = passed_by
        self._started_s = started_s
        self._save_every_s = save_every_s
        self._inputs: list[str] = []
        self._tables: dict[str, list[pa.Table]] = {name: [] for name in SCHEMAS}
        self._rows = 0
        self._since_s = time.monotonic()

    @property
    def done(self) -> int:
        """Inputs that have their rows."""
        return self.total - len(self.left)

    def add(self, inputs: Sequence[str], tables: Mapping[str, pa.Table]) -> None:
        """Take the rows of some inputs; where Ray gives an input twice, as after a lost worker, once.

        Raises:
            KeyboardInterrupt: it came meanwhile; the inputs have all their rows nevertheless.
        """
        with _interrupts_kept() as signals:
            self._add(inputs, tables)
        if signals:
            raise KeyboardInterrupt

    def _add(self, inputs: Sequence[str], tables: Mapping[str, pa.Table]) -> None:
        new = [one for one in inputs if digest_of(one) not in self.output.done]
        self.output.done.update(map(digest_of, new))
        self.left.difference_update(map(digest_of, new))
        wanted = pa.array(new, pa.string())
        for name, table in tables.items():
            kept = table if len(new) == len(inputs) else table.filter(pc.is_in(table.column("input"), wanted))
            self._tables[name].append(kept)
            self._rows += len(kept)
            if name == "crystals":
                self.crystals += len(kept)
            if name == "failures":
                self.failures.update(kept.column("kind").to_pylist())
        self._inputs += new
        if (
            len(self._inputs) >= _PIECE_INPUTS
            or self._rows >= _PIECE_ROWS
            or time.monotonic() - self._since_s >= self._save_every_s
        ):
            self._write()

    def finish(self, state: str) -> None:
        """Write what is left, and how it ended; another Ctrl-C does not stop it."""
        with _interrupts_kept():
            if self._inputs or not self.output.has_pieces:
                self._write()
            self.output.write_run(state=state, finished_at=_now(), counts=self.counts())

    def summary(self) -> Summary:
        """How far it came."""
        return Summary(
            inputs=self.total,
            done=self.done,
            crystals=self.crystals,
            failures=dict(self.failures.most_common()),
            seconds=time.monotonic() - self._started_s,
            passed_by=self._passed_by,
        )

    def _write(self) -> None:
        pieces = {
            name: pa.concat_tables([SCHEMAS[name].empty_table(), *tables]) for name, tables in self._tables.items()
        }
        self.output.write(pieces)
        self._inputs, self._rows, self._since_s = [], 0, time.monotonic()
        self._tables = {name: [] for name in SCHEMAS}
        self.output.write_run(counts=self.counts())

    def counts(self) -> dict[str, object]:
        """What run.json says of the rows."""
        return {
            "inputs_done": self.done,
            "crystals": self.crystals,
            "failures": sum(self.failures.values()),
            "failures_by_kind": dict(self.failures.most_common()),
        }


def _versions() -> dict[str, str]:
    names = ("ionpath", "torch", "ray", "pyarrow", "pymatgen", "spglib", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
