"""The parsing pool: files are read in processes that can be killed, small JSON in a thread, a file only once."""

import asyncio
import contextlib
import resource
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog
from pebble import ProcessExpired, ProcessPool

from app.crystals.bvse import BondValenceOpinion
from app.crystals.crystal import Crystal
from app.errors import BusyError, InputError, IonpathError, NotReadyError
from app.serving.processes import forked, let_the_service_go_first
from app.serving.read import ReadInput, ReadOptions, read_bulk_or_refuse, read_or_refuse
from app.serving.readings import KeptReadings, files_of, upload_digest
from app.serving.second_opinion import bvse_or_refuse
from app.serving.uploads import BulkUpload, CrystalUpload, FileUpload, JsonBandUpload, StoredUpload, Upload

#: JSON above this is read in a process like any file: parsing holds the interpreter's lock, and so the event loop.
LARGEST_JSON_HERE_BYTES = 1_000_000
#: Files above this are neither hashed nor is their reading kept: few are sent twice.
LARGEST_KEPT_BYTES = 1_000_000
#: Small JSON bands that may wait for the reading thread, some seconds of its work.
WAITING_JSON = 4_096
#: Uploads that may wait for one process before callers are asked to come back; so few always may.
WAITING_PER_WORKER = 64
LEAST_WAITING_PER_WORKER = 4
FIRST_READ_S = 0.5
FIRST_JSON_READ_S = 0.001
NEWEST_WEIGHT = 0.1
_LEAST_READ_S = 1e-4
_MIB = 1024 * 1024

T = TypeVar("T")
Reader = Callable[[Upload, ReadOptions], ReadInput | IonpathError]

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class ParseSettings:
    """How the pool is set up.

    Attributes:
        workers: processes that read files.
        timeout_s: a file that takes longer is refused and its process killed, seconds.
        memory_mib: address space of one process, MiB.
        waiting_mib: bytes of uploads that may wait to be read, MiB; one upload is always taken.
        kept_mib: memory of the readings kept for files that are sent again, MiB.
        wait_s: longest that an upload should wait for a process, seconds at the speed measured so far.
    """

    workers: int
    timeout_s: float
    memory_mib: int
    waiting_mib: int
    kept_mib: int
    wait_s: float


class ParsePool:
    """Reads uploads; belongs to one event loop.

    A process that hangs, runs out of memory or dies takes one request with it and is replaced.

    Args:
        settings: how it is set up.
        reader: what reads an upload; importable by name in a worker process, and raises nothing.
    """

    def __init__(self, settings: ParseSettings, reader: Reader = read_or_refuse) -> None:
        self._settings = settings
        self._reader = reader
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="read-json")
        self._pool: ProcessPool | None = None
        self._kept = KeptReadings(settings.kept_mib * _MIB)
        self._held_bytes = 0
        self._waiting = 0
        self._read_s = FIRST_READ_S
        self._any_was_read = False
        self._waiting_json = 0
        self._json_read_s = FIRST_JSON_READ_S

    async def start(self) -> None:
        """Start the processes and wait until one has loaded the crystal libraries."""
        self._pool = _open_pool(self._settings)
        await asyncio.wrap_future(self._pool.schedule(_is_there))

    async def stop(self) -> None:
        """End the processes; whatever they read is given up."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await asyncio.to_thread(_close_pool, pool)
        self._thread.shutdown(wait=False, cancel_futures=True)

    @property
    def trouble(self) -> str | None:
        """In words, why no file can be read now; None while all is well."""
        if self._pool is None:
            return "the reading processes do not run"
        return None if self._pool.active else "the reading processes ended; the next file starts them anew"

    async def read(
        self,
        upload: Upload,
        options: ReadOptions,
        *,
        key_id: str | None,
        request_id: str | None = None,
        promised: bool = False,
    ) -> ReadInput:
        """Read an upload.

        Args:
            upload: what was sent.
            options: how it is read.
            key_id: the API key's id; readings are never shared between keys.
            request_id: named in the log where a process dies of it.
            promised: a place was kept for it: it is not refused for the time that it would wait.

        Raises:
            InputError: it cannot be read, makes no sense, is too large or takes too long.
            BusyError: too many uploads wait already.
            NotReadyError: the service is stopping.
        """
        size_bytes = _size(upload)
        with self._holding(size_bytes):
            if isinstance(upload, JsonBandUpload) and size_bytes <= LARGEST_JSON_HERE_BYTES:
                return _given(await self._read_here(upload, options))
            if isinstance(upload, JsonBandUpload | StoredUpload) or size_bytes > LARGEST_KEPT_BYTES:
                # What the log kept is read to be shown or deleted, and no model waits for it.
                in_time = not promised and not isinstance(upload, StoredUpload)
                return _given(await self._read_in_process(self._reader, upload, options, request_id, in_time=in_time))
            return await self._read_once(upload, options, key_id, request_id, in_time=not promised)

    async def read_bulk(self, upload: BulkUpload, options: ReadOptions, *, request_id: str | None = None) -> Crystal:
        """Read an ordered crystal; its reading is not kept.

        Raises:
            InputError, BusyError, NotReadyError: as `read`; a disordered crystal is one that makes no sense here.
        """
        with self._holding(_size(upload)):
            return _given(await self._read_in_process(read_bulk_or_refuse, upload, options, request_id, in_time=True))

    async def second_opinion(
        self, upload: CrystalUpload, options: ReadOptions, *, timeout_s: float, request_id: str | None = None
    ) -> BondValenceOpinion | IonpathError:
        """Ask bond valence in a process that is killed at its time limit; what goes wrong is given back.

        Args:
            upload: the crystal.
            options: how it is read.
            timeout_s: most seconds that it may take, those of waiting for a process not counted.
            request_id: named in the log where a process dies of it.
        """
        with self._holding(_size(upload)):
            found: BondValenceOpinion | IonpathError = await self._run(
                bvse_or_refuse, upload, options, timeout_s=timeout_s, request_id=request_id
            )
        if isinstance(found, InputError) and found.kind == "reading-took-too-long":
            return InputError(f"it took more than {timeout_s:g} s (IONPATH_SECOND_OPINION_TIMEOUT_S)")
        return found

    @contextlib.contextmanager
    def _holding(self, size_bytes: int) -> Iterator[None]:
        """Count an upload's bytes while it waits and is read; BusyError where there are too many already."""
        most_bytes = self._settings.waiting_mib * _MIB
        if self._held_bytes and self._held_bytes + size_bytes > most_bytes:
            raise BusyError(
                f"{self._held_bytes / _MIB:.1f} MiB of uploads wait to be read already (IONPATH_READING_MIB allows "
                f"{self._settings.waiting_mib}).",
                retry_after_s=max(1, self._waiting) * self._read_s / self._settings.workers,
                kind="reading-busy",
            )
        self._held_bytes += size_bytes
        try:
            yield
        finally:
            self._held_bytes -= size_bytes

    async def _read_here(self, upload: JsonBandUpload, options: ReadOptions) -> ReadInput | IonpathError:
        if self._waiting_json >= WAITING_JSON:
            raise BusyError(
                f"{self._waiting_json} JSON bands wait to be read already.",
                retry_after_s=self._waiting_json * self._json_read_s,
                kind="reading-busy",
            )

        def timed() -> tuple[ReadInput | IonpathError, float]:
            started = time.monotonic()
            return self._reader(upload, options), time.monotonic() - started

        self._waiting_json += 1
        try:
            read, spent_s = await asyncio.get_running_loop().run_in_executor(self._thread, timed)
        finally:
            self._waiting_json -= 1
        self._json_read_s += NEWEST_WEIGHT * (spent_s - self._json_read_s)
        return read

    async def _read_once(
        self, upload: FileUpload, options: ReadOptions, key_id: str | None, request_id: str | None, *, in_time: bool
    ) -> ReadInput:
        """Read a file in a process, or find the reading of the same one."""
        digest = await asyncio.get_running_loop().run_in_executor(self._thread, upload_digest, upload, options)
        if (kept := self._kept.get((key_id, digest))) is not None:
            return kept
        read = _given(await self._read_in_process(self._reader, upload, options, request_id, in_time=in_time))
        self._kept.put((key_id, digest), read)
        return read

    async def _read_in_process(
        self,
        read: Callable[[Any, ReadOptions], T | IonpathError],
        upload: Upload | BulkUpload,
        options: ReadOptions,
        request_id: str | None,
        *,
        in_time: bool,
    ) -> T | IonpathError:
        workers = self._settings.workers
        most = (self._most_in_time if in_time else WAITING_PER_WORKER) * workers
        if self._waiting >= most:
            raise BusyError(
                f"{self._waiting} uploads wait to be read already: the next would wait longer than a quarter of "
                "IONPATH_QUEUE_WAIT_S, or behind too many.",
                retry_after_s=self._waiting * self._read_s / workers,
                kind="reading-busy",
            )
        started, ahead = time.monotonic(), self._waiting
        self._waiting += 1
        try:
            timeout_s = self._settings.timeout_s
            found = await self._run(read, upload, options, timeout_s=timeout_s, request_id=request_id)
        finally:
            self._waiting -= 1
        # By those who were ahead when it came: who waits at the end of a burst is charged for none of them.
        spent_s = (time.monotonic() - started) / (1 + ahead / workers)
        self._read_s += (NEWEST_WEIGHT if self._any_was_read else 1.0) * (spent_s - self._read_s)
        self._any_was_read = True
        return found

    @property
    def _most_in_time(self) -> float:
        """How many may wait for one process, by the time that one takes."""
        if not self._any_was_read:
            return WAITING_PER_WORKER
        in_time = self._settings.wait_s / max(self._read_s, _LEAST_READ_S)
        return min(WAITING_PER_WORKER, max(LEAST_WAITING_PER_WORKER, in_time))

    async def _run(
        self,
        work: Callable[[Any, ReadOptions], T | IonpathError],
        upload: Upload | BulkUpload,
        options: ReadOptions,
        *,
        timeout_s: float,
        request_id: str | None,
    ) -> T | IonpathError:
        """Have a process work on an upload; a process that hangs or dies gives an error."""
        try:
            future = self._running_pool().schedule(work, args=(upload, options), timeout=timeout_s)
            # A client who leaves cancels the future, which kills the process that still reads for it.
            found: T | IonpathError = await asyncio.wrap_future(future)
        except TimeoutError:
            return InputError(
                f"Reading this input took more than {timeout_s:g} s (IONPATH_PARSE_TIMEOUT_S) and was given up.",
                kind="reading-took-too-long",
                expected="a smaller crystal, or a file without errors",
            )
        except ProcessExpired as error:
            _log.warning("reading-process-died", exit_code=error.exitcode, request_id=request_id)
            return InputError(
                "The process that read this input died of it; other requests go on.",
                kind="reading-crashed",
                expected="a file without errors",
            )
        except BrokenProcessPool:
            return NotReadyError("The reading processes ended and are started anew.", kind="reading-restarts")
        return found

    def _running_pool(self) -> ProcessPool:
        if self._pool is None:
            raise NotReadyError("The service is stopping.", kind="stopping")
        if not self._pool.active:
            # A process killed from outside while idle ends the whole pool.
            _log.error("reading-pool-ended")
            old, self._pool = self._pool, _open_pool(self._settings)
            asyncio.get_running_loop().run_in_executor(None, _close_pool, old)
        return self._pool


def _open_pool(settings: ParseSettings) -> ProcessPool:
    return ProcessPool(
        max_workers=settings.workers,
        initializer=_begin_process,
        initargs=(settings.memory_mib * _MIB,),
        context=forked(),
    )


def _close_pool(pool: ProcessPool) -> None:
    pool.stop()
    pool.join()


def _begin_process(memory_bytes: int) -> None:
    let_the_service_go_first()
    warnings.simplefilter("ignore")  # crystal libraries warn of what readers tell the caller in words
    with contextlib.suppress(ValueError, OSError):  # not every system bounds address space
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))


def _is_there() -> bool:
    return True


def _given(read: T | IonpathError) -> T:
    if isinstance(read, IonpathError):
        raise read
    return read


def _size(upload: Upload | BulkUpload) -> int:
    if isinstance(upload, JsonBandUpload):
        return len(upload.payload)
    if isinstance(upload, StoredUpload):
        return len(upload.packed)
    return sum(len(file.content) for file in files_of(upload))
