"""The parsing pool: files are read in processes that can be killed, JSON in a thread, the same file only once."""

import asyncio
import contextlib
import hashlib
import multiprocessing
import resource
import time
import warnings
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

import structlog
from pebble import ProcessExpired, ProcessPool

from app.crystals.readers.reading import File
from app.errors import BusyError, InputError, IonpathError, NotReadyError
from app.serving.read import ReadInput, ReadOptions, read_or_refuse
from app.serving.uploads import FileUpload, JsonBandUpload, Upload

#: Readings kept for files that are sent again, a minute of a screening client's traffic.
KEPT_READINGS = 256
#: Files whose reading is not kept: few, and each would push out many.
LARGEST_KEPT_BYTES = 1_000_000
#: Uploads that may wait for one process before callers are asked to come back.
WAITING_PER_WORKER = 64
FIRST_READ_S = 0.5
NEWEST_WEIGHT = 0.1
_MIB = 1024 * 1024

Reader = Callable[[Upload, ReadOptions], ReadInput | IonpathError]

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class ParseSettings:
    """How the pool is set up.

    Attributes:
        workers: processes that read files.
        timeout_s: a file that takes longer is refused and its process killed, seconds.
        memory_mib: address space of one process, MiB.
    """

    workers: int
    timeout_s: float
    memory_mib: int


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
        self._kept: OrderedDict[tuple[str | None, bytes], ReadInput] = OrderedDict()
        self._waiting = 0
        self._read_s = FIRST_READ_S

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

    async def read(self, upload: Upload, options: ReadOptions, *, key_id: str | None) -> ReadInput:
        """Read an upload.

        Args:
            upload: what was sent.
            options: how it is read.
            key_id: the API key's id; readings are never shared between keys.

        Raises:
            InputError: it cannot be read, makes no sense, is too large or takes too long.
            BusyError: too many uploads wait already.
            NotReadyError: the service is stopping.
        """
        loop = asyncio.get_running_loop()
        if isinstance(upload, JsonBandUpload):
            return _given(await loop.run_in_executor(self._thread, self._reader, upload, options))
        key = (key_id, await loop.run_in_executor(self._thread, _digest, upload, options))
        if (kept := self._kept.get(key)) is not None:
            self._kept.move_to_end(key)
            return kept
        read = _given(await self._read_in_process(upload, options))
        if _size(upload) <= LARGEST_KEPT_BYTES:
            self._kept[key] = read
            if len(self._kept) > KEPT_READINGS:
                self._kept.popitem(last=False)
        return read

    async def _read_in_process(self, upload: FileUpload, options: ReadOptions) -> ReadInput | IonpathError:
        workers = self._settings.workers
        if self._waiting >= WAITING_PER_WORKER * workers:
            raise BusyError(
                f"{self._waiting} uploads wait to be read already.",
                retry_after_s=self._waiting * self._read_s / workers,
                kind="reading-busy",
            )
        started = time.monotonic()
        self._waiting += 1
        try:
            return await self._schedule(upload, options)
        finally:
            self._waiting -= 1
            spent = (time.monotonic() - started) / (1 + self._waiting / workers)
            self._read_s += NEWEST_WEIGHT * (spent - self._read_s)

    async def _schedule(self, upload: FileUpload, options: ReadOptions) -> ReadInput | IonpathError:
        timeout_s = self._settings.timeout_s
        try:
            future = self._running_pool().schedule(self._reader, args=(upload, options), timeout=timeout_s)
            # A client who leaves cancels the future, which kills the process that still reads for it.
            read: ReadInput | IonpathError = await asyncio.wrap_future(future)
        except TimeoutError:
            return InputError(
                f"Reading this input took more than {timeout_s:g} s (IONPATH_PARSE_TIMEOUT_S) and was given up.",
                kind="reading-took-too-long",
                expected="a smaller crystal, or a file without errors",
            )
        except ProcessExpired as error:
            _log.warning("reading-process-died", exit_code=error.exitcode)
            return InputError(
                "The process that read this input died of it; other requests go on.",
                kind="reading-crashed",
                expected="a file without errors",
            )
        except BrokenProcessPool:
            return NotReadyError("The reading processes ended and are started anew.", kind="reading-restarts")
        return read

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
    # Not fork: threads of torch run here. A fork server that has loaded the libraries once replaces a killed process
    # in milliseconds.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["app.serving.read"])
    return ProcessPool(
        max_workers=settings.workers,
        initializer=_begin_process,
        initargs=(settings.memory_mib * _MIB,),
        context=context,
    )


def _close_pool(pool: ProcessPool) -> None:
    pool.stop()
    pool.join()


def _begin_process(memory_bytes: int) -> None:
    warnings.simplefilter("ignore")  # crystal libraries warn of what readers tell the caller in words
    with contextlib.suppress(ValueError, OSError):  # not every system bounds address space
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))


def _is_there() -> bool:
    return True


def _given(read: ReadInput | IonpathError) -> ReadInput:
    if isinstance(read, IonpathError):
        raise read
    return read


def _files(upload: FileUpload) -> tuple[File, ...]:
    return tuple(value for value in vars(upload).values() if isinstance(value, File))


def _size(upload: FileUpload) -> int:
    return sum(len(file.content) for file in _files(upload))


def _digest(upload: FileUpload, options: ReadOptions) -> bytes:
    """SHA-256 of everything that a reading depends on."""
    fields = [value for value in vars(upload).values() if not isinstance(value, File)]
    lengths = [[file.name, len(file.content)] for file in _files(upload)]
    head = repr([type(upload).__name__, fields, lengths, options])
    digest = hashlib.sha256(head.encode(errors="surrogatepass"))
    for file in _files(upload):
        digest.update(file.content)
    return digest.digest()
