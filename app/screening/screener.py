"""The worker that screens: it holds the model, has crystals read in a process beside it, and gives rows."""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from app.crystals.band import Band
from app.crystals.readers import File
from app.crystals.readers.packing import packing_of
from app.errors import FormatError, InputError, IonpathError, TooLargeError
from app.models.prediction import Prediction
from app.models.predictors.conductivity_predictor import ConductivityPredictor
from app.models.predictors.predictor import OutOfMemoryError, Predictor
from app.models.predictors.preparation import PreparedBand
from app.models.registry import open_conductivity_predictor, open_predictor
from app.screening.attempts import MOST_DEATHS, Attempts
from app.screening.job import ModelChoice, Question
from app.screening.reading import FoundHops, HopsTask, IonAbsentError, StructuresTask, open_reader
from app.screening.rows import Row, crystal_row, failure_row, hop_rows
from app.screening.sources.items import Item
from app.serving.answers.bond_valence import bond_valence_answer
from app.serving.answers.conductivity import other_barriers, with_conductivity
from app.serving.answers.crystal import BandKey, HopOutcome, compose
from app.serving.answers.types import CrystalAnswer, ModelReference
from app.serving.worker_process import BUSY_FACTOR, Done, TaskFailedError, WorkerCrashedError, WorkerTimeoutError
from app.serving.workers import WorkerPool

#: How often, at most, a worker's processor time is looked at.
_LEAST_WAIT_S = 0.05
#: A forward pass of several crystals is no larger than this, in edges of a line graph: what is found waits in memory.
_BATCH_COST = 640_000
_MIB = 1 << 20

_log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Rows:
    """What became of some inputs: rows of each table, and the inputs that are done with them."""

    inputs: list[str] = field(default_factory=list)
    crystals: list[Row] = field(default_factory=list)
    hops: list[Row] = field(default_factory=list)
    failures: list[Row] = field(default_factory=list)


@dataclass(kw_only=True, eq=False)
class _Found:
    """A crystal and ion whose hops are found and not yet predicted."""

    key: Row
    hops: FoundHops
    seconds: float
    prepared: dict[BandKey, PreparedBand] = field(default_factory=dict)
    outcomes: dict[BandKey, HopOutcome] = field(default_factory=dict)

    @property
    def cost(self) -> int:
        return sum(one.cost for one in self.prepared.values())


class Screener:
    """Screens crystals, one batch after the other.

    Args:
        question: what is asked of each.
        model: the checkpoints; loaded here.
        attempts: counts what kills a worker.
        readers: processes that read crystals: one where the model runs on the same core.

    Raises:
        CheckpointError: a checkpoint is missing or damaged, or has another digest than the job's.
    """

    def __init__(self, question: Question, model: ModelChoice, attempts: Attempts, *, readers: int = 1) -> None:
        self._question = question
        self._attempts = attempts
        self._predictor: Predictor = open_predictor(model.store, model.name, model.device, digest=model.digest)
        self._conductor: ConductivityPredictor | None = None
        self._conductor_warnings: tuple[str, ...] = ()
        if model.conductivity is not None:
            chosen = model.conductivity
            self._conductor = open_conductivity_predictor(model.store, chosen.name, digest=chosen.digest)
            barriers = ModelReference(
                name=self._predictor.name, version=self._predictor.version, digest=self._predictor.digest
            )
            other = other_barriers(self._conductor, barriers)
            self._conductor_warnings = (other,) if other else ()
        self._pool = WorkerPool("read", readers, open_reader, memory_mib=question.memory_mib, nice=0)
        self._pool.start()
        self._threads = ThreadPoolExecutor(readers, "read")

    def close(self) -> None:
        """End the reading processes."""
        self._threads.shutdown(wait=False)
        self._pool.stop()

    def screen(self, items: Sequence[Item]) -> Rows:
        """Screen some files together.

        Where a worker died of the same files before, each is screened alone, and one that kills a second worker is
        given up. What is screened alone ends at once, so that it does not share the deaths of a later one.
        """
        rows = Rows()
        batch = f"batch {items[0].input}"
        if not self._attempts.begin(batch):
            self._screen_into(rows, items)
        else:
            for item in items:
                if self._attempts.begin(item.input) < MOST_DEATHS:
                    self._screen_into(rows, [item])
                    self._attempts.end([item.input])
                else:
                    rows.inputs.append(item.input)
                    rows.failures.append(failure_row(_key(item), _kills_its_worker()))
        self._attempts.end([batch, *(item.input for item in items)])
        return rows

    def _screen_into(self, rows: Rows, items: Sequence[Item]) -> None:
        waiting: list[_Found] = []
        for found in self._threads.map(self._found, items):
            for one in found:
                if isinstance(one, _Found):
                    waiting.append(one)
                else:
                    rows.failures.append(one)
                if sum(each.cost for each in waiting) > _BATCH_COST:
                    self._answer(rows, waiting)
                    waiting = []
        self._answer(rows, waiting)
        rows.inputs += [item.input for item in items]

    # Reading

    def _found(self, item: Item) -> list[_Found | Row]:
        """The hops of every ion in every structure of a file, or why there are none."""
        key = _key(item)
        if item.problem is not None:
            return [failure_row(key, FormatError(item.problem, kind="unreadable-file"))]
        limits = self._question.limits
        if len(item.content) > limits.max_body_bytes:
            too_large = TooLargeError(
                f"It has more than {limits.max_body_bytes:,} bytes (IONPATH_MAX_BODY_BYTES).", kind="too-many-bytes"
            )
            return [failure_row(key, too_large)]
        file = File(name=item.name, content=item.content)
        names: tuple[str, ...] = ()
        if b"data_" in item.content.lower() or _is_packed(item.content):  # a CIF, or what may hold one
            done = self._read(StructuresTask(file=file, limits=limits))
            if isinstance(done.value, IonpathError):
                return [failure_row(key, done.value, seconds=done.seconds)]
            names = done.value
        if len(set(names)) < len(names):
            repeated = next(name for name in names if names.count(name) > 1)
            error = FormatError(
                f"Several of its data blocks are named {repeated[:80]}, so that their rows could not be distinguished.",
                kind="repeated-block",
                expected="a name of its own for each data block",
            )
            return [failure_row(key, error)]
        numbered = (
            [(key, None)]
            if not names
            else [({**key, "id": f"{item.input}#{name}"}, number) for number, name in enumerate(names)]
        )
        return [one for own_key, number in numbered for one in self._found_of(own_key, file, number)]

    def _found_of(self, key: Row, file: File, number: int | None) -> list[_Found | Row]:
        """The hops of every ion in one structure."""
        found: list[_Found | Row] = []
        absent: IonAbsentError | None = None
        seconds = 0.0
        for ion in self._question.ions:
            done = self._read(
                HopsTask(
                    file=file,
                    number=number,
                    ion=ion,
                    only_present=self._question.only_present,
                    hops=self._question.hops,
                    limits=self._question.limits,
                    prepare=self._predictor.preparation,
                )
            )
            seconds += done.seconds
            if isinstance(done.value, IonAbsentError):
                absent = absent or done.value
            elif isinstance(done.value, IonpathError):
                found.append(failure_row({**key, "ion": ion}, done.value, seconds=done.seconds))
            else:
                found.append(self._prepared({**key, "ion": ion}, done))
        if absent is not None and not found:
            return [failure_row(key, absent, seconds=seconds)]
        return found

    def _read(self, task: StructuresTask | HopsTask) -> Done:
        """Have a task done in a reading process; what ends the process is the task's error."""
        timeout_s = self._question.timeout_s
        try:
            return self._pool.run(task, timeout_s)
        except WorkerTimeoutError:
            error: IonpathError = InputError(
                f"Reading it and finding its hops took more than {timeout_s:g} s of processor time, or "
                f"{BUSY_FACTOR * timeout_s:g} s in all, and was given up.",
                kind="took-too-long",
                expected="a smaller crystal, or more time with --timeout-s",
            )
            return Done(value=error, seconds=timeout_s)
        except TaskFailedError as failure:
            failed = InputError(f"Reading it failed: {failure}.", kind="reading-failed")
            return Done(value=failed, seconds=0.0)
        except WorkerCrashedError:
            error = InputError(
                "The process that read it and looked for its hops crashed, twice: it may have run out of memory.",
                kind="reading-crashed",
                expected="a file without errors, or more memory with --memory-mib",
            )
            return Done(value=error, seconds=0.0)

    def _prepared(self, key: Row, done: Done) -> _Found:
        found = _Found(key=key, hops=done.value, seconds=done.seconds)
        for band_key, band in found.hops.bands.items():
            try:
                one = self._predictor.graph(band) if isinstance(band, Band) else band
            except IonpathError as error:
                one = error
            if isinstance(one, IonpathError):
                found.outcomes[band_key] = HopOutcome(outcome=one, cached=False)
            else:
                found.prepared[band_key] = one
        return found

    # Predicting

    def _answer(self, rows: Rows, found: Sequence[_Found]) -> None:
        """Predict the hops of several crystals together, and add their rows."""
        if not found:
            return
        with _ended_after(self._question.timeout_s * len(found)):
            self._predict(found)
            for one in found:
                self._add(rows, one)

    def _predict(self, found: Sequence[_Found]) -> None:
        keyed = [(one, key) for one in found for key in one.prepared]
        started_s = time.process_time()
        predictions = self._outcomes([one.prepared[key] for one, key in keyed])
        seconds = time.process_time() - started_s
        whole = max(1, sum(one.cost for one in found))
        for one in found:
            one.seconds += seconds * one.cost / whole
        for (one, key), outcome in zip(keyed, predictions, strict=True):
            one.outcomes[key] = HopOutcome(outcome=outcome, cached=False)

    def _outcomes(self, prepared: Sequence[PreparedBand]) -> list[Prediction | IonpathError]:
        """Predictions of all; where bands fail together each half is tried, and one alone has its error."""
        if not prepared:
            return []
        try:
            return list(self._predictor.predict(prepared))
        except Exception as error:  # noqa: BLE001 # a failure of the model belongs to the bands that caused it
            if len(prepared) > 1:
                half = len(prepared) // 2
                return [*self._outcomes(prepared[:half]), *self._outcomes(prepared[half:])]
            if isinstance(error, OutOfMemoryError):
                return [TooLargeError("The device cannot hold this band, even alone.", kind="too-large-for-device")]
            _log.exception("forward-failed")
            return [InputError(f"The model failed on this band: {type(error).__name__}.", kind="model-failed")]

    def _add(self, rows: Rows, one: _Found) -> None:
        started_s = time.process_time()
        try:
            answer = self._composed(one)
        except IonpathError as error:  # not a single hop could be predicted
            rows.failures.append(failure_row(one.key, error, seconds=one.seconds))
            return
        except Exception as error:  # noqa: BLE001 # whatever one crystal does, the others go on
            _log.exception("answer-failed")
            failed = InputError(f"Its answer failed: {type(error).__name__}: {error}.", kind="answer-failed")
            rows.failures.append(failure_row(one.key, failed, seconds=one.seconds))
            return
        seconds = one.seconds + time.process_time() - started_s
        threshold_ev = self._question.threshold_ev
        rows.crystals.append(
            crystal_row(
                one.key,
                one.hops,
                answer,
                threshold_ev=threshold_ev,
                seconds=seconds,
                model=self._predictor.name,
                model_digest=self._predictor.digest,
                warnings=() if answer.conductivity is None else self._conductor_warnings,
            )
        )
        rows.hops += hop_rows(one.key, answer, threshold_ev=threshold_ev)

    def _composed(self, one: _Found) -> CrystalAnswer:
        """The answer of a crystal, with bond valence, and its conductivity where the ion has a model of it."""
        search = one.hops.search
        answer = replace(
            compose(search, one.outcomes, self._predictor.doubted),
            bond_valence=bond_valence_answer(search.bond_valence_host),
        )
        if self._conductor is None or self._conductor.card.ion != search.ion:
            return answer
        if not one.hops.crystal.contains(search.ion):
            return answer
        return replace(answer, conductivity=with_conductivity(answer, search.lattices, self._conductor))


def _key(item: Item) -> Row:
    return {"id": item.input, "input": item.input, "ion": None}


def _is_packed(content: bytes) -> bool:
    """Whether a text may only be seen once it is unpacked or decoded: archives, packed files, UTF-16."""
    return packing_of(content) is not None or content.startswith(b"PK") or not content[:1].isascii()


def _kills_its_worker() -> IonpathError:
    return InputError(
        "Every worker that predicted it ended, and it was given up: it may need more memory than the machine has, or "
        "more time than --timeout-s.",
        kind="kills-its-worker",
        expected="a smaller crystal, fewer hops with --max-hops, or more time with --timeout-s",
    )


@contextmanager
def _ended_after(timeout_s: float, end: Callable[[int], Any] = os._exit) -> Iterator[None]:
    """End this process where something takes longer: no library can be interrupted, and another worker goes on.

    Args:
        timeout_s: most processor time of this process, seconds; BUSY_FACTOR times it is the limit on the wall clock.
        end: called where it took longer.
    """
    done = threading.Event()
    threading.Thread(target=_end_late, args=(done, timeout_s, end), daemon=True).start()
    try:
        yield
    finally:
        done.set()


def _end_late(done: threading.Event, timeout_s: float, end: Callable[[int], Any]) -> None:
    begun_s, used_s = time.monotonic(), time.process_time()
    left_s = timeout_s
    while left_s > 0.0:
        if done.wait(max(left_s, _LEAST_WAIT_S)):
            return
        left_s = min(
            timeout_s - (time.process_time() - used_s),
            BUSY_FACTOR * timeout_s - (time.monotonic() - begun_s),
        )
    end(70)
