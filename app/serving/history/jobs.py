"""Jobs: predictions that were accepted with `Prefer: respond-async` and are answered later."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

#: Jobs that run at once; the others wait, first come first served, and leave the queue to interactive requests.
JOBS_AT_ONCE = 4


@dataclass(kw_only=True, eq=False)
class Job:
    """One accepted prediction and how far it is.

    Attributes:
        id: the prediction's.
        key_id: the API key's it belongs to.
        total: bands to predict.
        size_bytes: of its input, held until it is finished.
        done: bands predicted.
        running: it no longer waits for its turn.
        deleted: its prediction was deleted, so nothing more is kept of it.
    """

    id: UUID
    key_id: str | None
    total: int
    size_bytes: int
    done: int = 0
    running: bool = False
    deleted: bool = False

    @property
    def progress(self) -> float:
        """How far it is, 0 to 1."""
        return self.done / max(1, self.total)


class Jobs:
    """The jobs of this process; each is a task that reports its own end."""

    def __init__(self) -> None:
        self._turn = asyncio.Semaphore(JOBS_AT_ONCE)
        self._jobs: dict[UUID, tuple[Job, asyncio.Task[None]]] = {}

    def __len__(self) -> int:
        return len(self._jobs)

    @property
    def size_bytes(self) -> int:
        """Bytes of the inputs that they hold."""
        return sum(job.size_bytes for job, _ in self._jobs.values())

    def start(self, job: Job, run: Callable[[], Coroutine[None, None, None]]) -> None:
        """Start a job; `run` takes its `turn`, handles its own errors, and is cancelled by stop and cancel."""
        task = asyncio.create_task(run())
        self._jobs[job.id] = (job, task)
        task.add_done_callback(lambda _: self._jobs.pop(job.id, None))

    @asynccontextmanager
    async def turn(self, job: Job) -> AsyncIterator[None]:
        """Wait until the job may run."""
        async with self._turn:
            job.running = True
            yield

    def find(self, prediction_id: UUID, key_id: str | None) -> Job | None:
        """Give a key's unfinished job, or None."""
        job, _ = self._jobs.get(prediction_id, (None, None))
        return job if job is not None and job.key_id == key_id else None

    def cancel(self, job: Job) -> None:
        """End a job whose prediction was deleted."""
        job.deleted = True
        _, task = self._jobs[job.id]
        task.cancel()

    async def stop(self, timeout_s: float) -> None:
        """Give the jobs up to `timeout_s` seconds, then cancel what is left and wait for it to say so."""
        tasks = [task for _, task in self._jobs.values()]
        if not tasks:
            return
        await asyncio.sleep(0)  # one that was started just now must have begun, or it cannot say how it ended
        await asyncio.wait(tasks, timeout=timeout_s)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
