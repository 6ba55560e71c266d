"""The reading pool: files are read in workers that can be ended, small JSON in a thread, and a file only once."""

import asyncio
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog

from app.crystals.bvse import BondValenceOpinion
from app.crystals.crystal import Crystal
from app.errors import InputError, IonpathError
from app.serving.reading.memo import KeptReadings, upload_digest
from app.serving.reading.second_opinion import bvse_or_refuse
from app.serving.reading.upload_reader import ReadInput, ReadOptions, read_bulk_or_refuse, read_or_refuse
from app.serving.reading.uploads import (
    BandFileUpload,
    BulkUpload,
    CrystalUpload,
    EndPointsUpload,
    FileUpload,
    JsonBandUpload,
    StoredUpload,
    Upload,
    upload_size_bytes,
)
from app.serving.worker_process import (
    BACKGROUND_NICE,
    BUSY_FACTOR,
    Done,
    Handler,
    WorkerCrashedError,
    WorkerError,
    WorkerTimeoutError,
)
from app.serving.workers import TaskKind, WorkerPool, problem_of

#: JSON above this is read in a worker like any file: parsing holds the interpreter's lock, and so the event loop.
LARGEST_JSON_HERE_BYTES = 1_000_000
#: Files above this are neither hashed nor is their reading kept: few are sent twice.
LARGEST_KEPT_BYTES = 1_000_000
_MIB = 1024 * 1024

T = TypeVar("T")
Reader = Callable[[Upload, ReadOptions], ReadInput | IonpathError]
#: What is done with an upload, the upload, and how it is read.
_Task = tuple[Callable[[Any, ReadOptions], object], Upload | BulkUpload, ReadOptions]

_READING = TaskKind(
    kind="reading",
    task="Reading this input",
    crashed="The parser crashed on this file",
    workers="The processes that read files",
    expected="a file without errors",
)

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class ReadSettings:
    """How the pool is set up.

    Attributes:
        workers: workers that read crystals; bands and second opinions have one more each.
        timeout_s: a file that takes longer is refused and its worker ended, seconds.
        memory_mib: address space of one worker, MiB.
        kept_mib: memory of the readings kept for files that are sent again, MiB.
    """

    workers: int
    timeout_s: float
    memory_mib: int
    kept_mib: int


@dataclass(frozen=True, kw_only=True)
class Timed:
    """What was read, the CPU seconds that it took, and when a worker began with it (Done.began_s)."""

    read: ReadInput
    seconds: float
    began_s: float | None = None


class ReadingPool:
    """Reads uploads; belongs to one event loop.

    A worker that hangs, runs out of memory or crashes takes one request with it and is replaced. A band never waits
    behind crystals, and neither waits behind second opinions: each has workers of its own.

    Args:
        settings: how it is set up.
        reader: what reads an upload; importable by name in a worker, and raises nothing.
    """

    def __init__(self, settings: ReadSettings, reader: Reader = read_or_refuse) -> None:
        self._settings = settings
        self._reader = reader
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="read-json")
        self._crystals = self._workers("read-crystals", settings.workers)
        self._bands = self._workers("read-bands", 1)
        self._opinions = self._workers("second-opinion", 1, on_demand=True, nice=BACKGROUND_NICE)
        self._kept = KeptReadings(settings.kept_mib * _MIB)

    def _workers(self, name: str, count: int, **options: Any) -> WorkerPool:
        return WorkerPool(name, count, open_reader, memory_mib=self._settings.memory_mib, **options)

    async def start(self) -> None:
        """Start the workers and wait until they have loaded the crystal libraries."""
        await asyncio.gather(*(asyncio.to_thread(pool.start) for pool in self._pools))

    async def stop(self) -> None:
        """End the workers; whatever they read is given up."""
        await asyncio.gather(*(asyncio.to_thread(pool.stop) for pool in self._pools))
        self._thread.shutdown(wait=False, cancel_futures=True)

    @property
    def _pools(self) -> tuple[WorkerPool, ...]:
        return self._crystals, self._bands, self._opinions

    @property
    def trouble(self) -> str | None:
        """Why no file can be read now; None while all is well."""
        return self._crystals.trouble or self._bands.trouble  # an answer comes without a second opinion too

    async def read(
        self, upload: Upload, options: ReadOptions, *, key_id: str | None, request_id: str | None = None
    ) -> Timed:
        """Read an upload.

        Args:
            upload: what was sent.
            options: how it is read.
            key_id: the API key's id; readings are never shared between keys.
            request_id: named in the log where a worker crashes on it.

        Raises:
            InputError: it cannot be read, is invalid, is too large or takes too long; `cpu_s` says what it took.
            NotReadyError: the service is stopping.
        """
        size_bytes = upload_size_bytes(upload)
        if isinstance(upload, JsonBandUpload) and size_bytes <= LARGEST_JSON_HERE_BYTES:
            return _timed(await self._read_here(upload, options))
        if isinstance(upload, JsonBandUpload | StoredUpload) or size_bytes > LARGEST_KEPT_BYTES:
            return _timed(await self._read_in_worker(self._reader, upload, options, request_id))
        return await self._read_once(upload, options, key_id, request_id)

    async def read_bulk(
        self, upload: BulkUpload, options: ReadOptions, *, request_id: str | None = None
    ) -> tuple[Crystal, float]:
        """Read an ordered crystal; gives it with the CPU seconds that it took. Its reading is not kept.

        Raises:
            InputError, NotReadyError: as `read`; a disordered crystal is invalid here.
        """
        done = await self._read_in_worker(read_bulk_or_refuse, upload, options, request_id)
        return raise_if_error(done.value), done.seconds

    async def second_opinion(
        self, upload: CrystalUpload, options: ReadOptions, *, timeout_s: float, request_id: str | None = None
    ) -> tuple[BondValenceOpinion | IonpathError, float]:
        """Ask bond valence in a worker that is ended at its time limit; an error is given back.

        Args:
            upload: the crystal.
            options: how it is read.
            timeout_s: most seconds of processor time that it may take, and BUSY_FACTOR times as many in all; waiting
                for the worker does not count.
            request_id: named in the log where the worker crashes on it.

        Returns:
            The opinion or the error, and the CPU seconds that it took.
        """
        done = await self._run(
            self._opinions, (bvse_or_refuse, upload, options), timeout_s=timeout_s, request_id=request_id
        )
        found: BondValenceOpinion | IonpathError = done.value
        if isinstance(found, InputError) and found.kind == "reading-took-too-long":
            found = InputError(
                f"it took more than {timeout_s:g} s of processor time, or {BUSY_FACTOR * timeout_s:g} s in all "
                "(IONPATH_SECOND_OPINION_TIMEOUT_S)"
            )
        return found, done.seconds

    async def _read_here(self, upload: JsonBandUpload, options: ReadOptions) -> Done:
        def read() -> Done:
            started_s = time.thread_time()
            return Done(value=self._reader(upload, options), seconds=time.thread_time() - started_s)

        return await asyncio.get_running_loop().run_in_executor(self._thread, read)

    async def _read_once(
        self, upload: FileUpload, options: ReadOptions, key_id: str | None, request_id: str | None
    ) -> Timed:
        """Read a file in a worker, or find the reading of the same one."""
        digest = await asyncio.get_running_loop().run_in_executor(self._thread, upload_digest, upload, options)
        if (kept := self._kept.get((key_id, digest))) is not None:
            return Timed(read=kept, seconds=0.0)
        timed = _timed(await self._read_in_worker(self._reader, upload, options, request_id))
        self._kept.put((key_id, digest), timed.read)
        return timed

    async def _read_in_worker(
        self,
        read: Callable[[Any, ReadOptions], object],
        upload: Upload | BulkUpload,
        options: ReadOptions,
        request_id: str | None,
    ) -> Done:
        is_band = isinstance(upload, BandFileUpload | EndPointsUpload | JsonBandUpload)
        pool = self._bands if is_band else self._crystals
        return await self._run(pool, (read, upload, options), timeout_s=self._settings.timeout_s, request_id=request_id)

    async def _run(
        self,
        pool: WorkerPool,
        task: _Task,
        *,
        timeout_s: float,
        request_id: str | None,
    ) -> Done:
        """Have a worker do something with an upload; a worker that hangs or crashes gives an error as the value."""
        try:
            return await pool.call(task, timeout_s)
        except WorkerError as error:
            if isinstance(error, WorkerCrashedError):
                _log.warning("reading-worker-crashed", request_id=request_id)
            seconds = timeout_s if isinstance(error, WorkerTimeoutError) else 0.0
            return Done(value=problem_of(error, _READING, timeout_s), seconds=seconds)


def open_reader() -> Handler:
    """What a reading worker does."""
    warnings.simplefilter("ignore")  # crystal libraries warn of what readers report to the caller
    return Handler(run=_do)


def _do(task: _Task) -> object:
    work, upload, options = task
    return work(upload, options)


def raise_if_error(value: T | IonpathError) -> T:
    """Give a value back, or raise the error that it is."""
    if isinstance(value, IonpathError):
        raise value
    return value


def _timed(done: Done) -> Timed:
    if isinstance(done.value, IonpathError):
        done.value.cpu_s = done.seconds
        raise done.value
    return Timed(read=done.value, seconds=done.seconds, began_s=done.began_s)
