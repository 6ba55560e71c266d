"""Worker processes: what one task does to others (nothing), what a broken start does, and that none is left behind."""

import asyncio
import math
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest
from structlog.testing import capture_logs
from waiting import until, wait_until

from app.errors import InputError
from app.models.cards.card import CheckpointError
from app.serving import workers
from app.serving.worker_process import (
    BUSY_FACTOR,
    Done,
    Handler,
    TaskFailedError,
    WorkerCrashedError,
    WorkersStoppedError,
    WorkerStartError,
    WorkerTimeoutError,
)
from app.serving.workers import WorkerPool

pytestmark = pytest.mark.anyio

NAME = "tested"
DEADLINE_S = 30.0
MUCH_MEMORY = 6 * 2**30
#: More than a pipe holds.
MUCH_TEXT = 2**22
Task = tuple[str, str]


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def open_obedient(ready: object = None) -> Handler:
    return Handler(run=obey, ready=ready)


def obey(task: Task) -> object:  # noqa: C901 # one order a branch
    """Do what the first word says with the second, and give the process's id."""
    order, word = task
    if order == "hang":
        Path(word).touch()
        threading.Event().wait()
    elif order == "touch":
        Path(word).touch()
    elif order == "wait for":
        Path(word).with_suffix(".began").touch()
        while not Path(word).exists():
            time.sleep(0.002)
    elif order == "compute":
        while True:
            sum(range(1000))
    elif order == "crash":
        with Path(word).open("a") as file:
            file.write("x")
        os._exit(9)
    elif order == "crash once" and not Path(word).exists():
        Path(word).touch()
        os._exit(9)
    elif order == "eat":
        return bytearray(MUCH_MEMORY)
    elif order == "lock":
        return threading.Lock()
    elif order == "refuse":
        raise InputError("it is bad", kind="bad", where="line 3", expected="a good one")
    elif order == "divide":
        return 1 / 0
    return os.getpid()


def open_as_written(folder: Path) -> Handler:
    """Start as a file says; each start leaves its mark."""
    with (folder / "starts").open("a") as file:
        file.write("x")
    state = (folder / "state").read_text()
    if state == "crash":
        os._exit(3)
    if state == "hang":
        threading.Event().wait()
    if state == "damaged":
        raise CheckpointError("the weights are damaged")
    return Handler(run=obey, ready=state)


def open_with_idle_work(folder: Path) -> Handler:
    left = ["1", "2"]

    def idle() -> bool:
        (folder / left.pop()).touch()
        return bool(left)

    return Handler(run=obey, idle=idle)


def ours() -> set[int]:
    return {child.pid for child in multiprocessing.active_children() if child.name == NAME and child.pid is not None}


@contextmanager
def stopped_after(pool: WorkerPool) -> Iterator[WorkerPool]:
    seen: set[int] = set()
    try:
        yield pool
        seen = ours()
    finally:
        pool.stop()
    assert ours() == set()
    for pid in seen:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


@contextmanager
def running(count: int = 1, *, memory_mib: int | None = None, busy_factor: float = BUSY_FACTOR) -> Iterator[WorkerPool]:
    pool = WorkerPool(NAME, count, open_obedient, memory_mib=memory_mib, busy_factor=busy_factor)
    with stopped_after(pool):
        pool.start()
        yield pool


@contextmanager
def running_as_written(folder: Path, count: int = 1) -> Iterator[WorkerPool]:
    (folder / "state").write_text("whole")
    pool = WorkerPool(NAME, count, open_as_written, folder)
    with stopped_after(pool):
        pool.start()
        yield pool


def waiting_for_a_thread(pool: WorkerPool) -> int:
    """Calls that no thread has taken yet: a pool has one thread for each worker."""
    return pool._threads._work_queue.qsize()


def run(pool: WorkerPool, order: str = "id", word: str = "", timeout_s: float = DEADLINE_S) -> object:
    return pool.run((order, word), timeout_s).value


def test_each_task_is_done_in_a_worker_and_timed() -> None:
    with running(2) as pool:
        first = ours()
        with ThreadPoolExecutor(8) as threads:
            pids = list(threads.map(lambda _: run(pool), range(40)))
        assert set(pids) <= first
        assert os.getpid() not in first
        assert len(first) == 2
        done = pool.run(("id", ""), DEADLINE_S)
    assert isinstance(done, Done)
    assert 0.0 <= done.seconds < DEADLINE_S


@pytest.mark.parametrize("started_by", ["file", "name"])
def test_a_worker_does_not_run_the_started_program_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, started_by: str
) -> None:
    """As multiprocessing would, to find what the program defines: importing all of `ionpath` in every worker."""
    script = tmp_path / "program.py"
    script.write_text(f"from pathlib import Path\nPath({str(tmp_path / 'ran')!r}).touch()\n")
    program = ModuleType("__main__")
    program.__file__ = str(script)
    program.__spec__ = ModuleSpec("program", None) if started_by == "name" else None  # python -m program
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "__main__", program)
    before = dict(program.__dict__)
    with running() as pool:
        assert run(pool) != os.getpid()
    assert not (tmp_path / "ran").exists()
    assert program.__dict__ == before


def test_a_task_that_takes_too_long_ends_its_worker_and_the_next_has_another() -> None:
    with running() as pool:
        before = run(pool)
        with pytest.raises(WorkerTimeoutError, match=r"more than 0.2 s"):
            run(pool, "hang", os.devnull, timeout_s=0.2)
        assert run(pool) != before
        assert len(ours()) == 1


def test_the_limit_counts_processor_time_so_that_a_busy_machine_refuses_nothing(tmp_path: Path) -> None:
    with running(busy_factor=math.inf) as pool, ThreadPoolExecutor(1) as threads:
        waits = threads.submit(run, pool, "wait for", str(tmp_path / "go"), timeout_s=0.2)
        wait_until((tmp_path / "go.began").exists)
        with pytest.raises(TimeoutError):
            waits.result(1.0)
        (tmp_path / "go").touch()
        assert waits.result(DEADLINE_S) in ours()
        with pytest.raises(WorkerTimeoutError):
            run(pool, "compute", timeout_s=0.2)


def test_waiting_for_a_worker_is_not_counted_as_the_task_s_time(tmp_path: Path) -> None:
    with running() as pool, ThreadPoolExecutor(2) as threads:
        first = threads.submit(run, pool, "wait for", str(tmp_path / "go"))
        wait_until((tmp_path / "go.began").exists)
        second = threads.submit(run, pool, "id", "", 0.5)
        time.sleep(0.7)  # what is tested: longer than the second may take once it has a worker
        assert not second.done()
        (tmp_path / "go").touch()
        assert first.result(DEADLINE_S) == second.result(DEADLINE_S)


def test_a_task_whose_worker_crashed_is_tried_once_more(tmp_path: Path) -> None:
    with running() as pool:
        before = run(pool)
        assert run(pool, "crash once", str(tmp_path / "crashed")) != before


def test_a_task_that_crashes_two_workers_is_given_up_and_the_next_is_done(tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    with running() as pool:
        with capture_logs() as lines, pytest.raises(WorkerCrashedError):
            run(pool, "crash", str(marks))
        assert marks.read_text() == "xx"
        assert [(line["event"], line["worker"], line["exit_code"]) for line in lines] == [("worker-gone", NAME, 9)] * 2
        assert run(pool) != os.getpid()
        assert len(ours()) == 1


def test_the_number_of_attempts_may_be_given(tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    with running() as pool:
        with pytest.raises(WorkerCrashedError):
            pool.run(("crash", str(marks)), DEADLINE_S, attempts=1)
        assert marks.read_text() == "x"


@pytest.mark.parametrize("count", [1, 3])
def test_idle_workers_killed_from_outside_are_replaced_unnoticed(count: int, tmp_path: Path) -> None:
    """All at once, as the system does when its memory runs out: no task is at fault."""
    with running(count) as pool:
        before = ours()
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not ours())
        marks = tmp_path / "marks"
        with pytest.raises(WorkerCrashedError):
            run(pool, "crash", str(marks))
        assert marks.read_text() == "xx", "an attempt was lost on a worker that was gone before"
        after = {run(pool) for _ in range(count)}
        assert not after & before


def test_signals_to_the_process_group_end_no_worker() -> None:
    with running() as pool:
        before = run(pool)
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(int(str(before)), number)
        assert run(pool) == before


def test_a_worker_has_no_more_memory_than_is_allowed() -> None:
    with running(memory_mib=4096) as pool:
        before = run(pool)
        with pytest.raises(TaskFailedError, match="MemoryError"):
            run(pool, "eat")
        assert run(pool) == before


def test_an_error_of_ours_arrives_with_all_its_fields_and_the_worker_goes_on() -> None:
    with running() as pool:
        before = run(pool)
        with pytest.raises(InputError) as refused:
            run(pool, "refuse")
        assert run(pool) == before
    error = refused.value
    assert (error.detail, error.kind, error.where, error.expected) == ("it is bad", "bad", "line 3", "a good one")


def test_any_other_error_arrives_with_its_traceback_and_the_worker_goes_on() -> None:
    with running() as pool:
        before = run(pool)
        with pytest.raises(TaskFailedError, match="ZeroDivisionError: division by zero") as failed:
            run(pool, "divide")
        assert run(pool) == before
    assert "return 1 / 0" in failed.value.__notes__[0]


def test_a_result_that_cannot_be_sent_is_an_error_and_the_worker_goes_on() -> None:
    with running() as pool:
        before = run(pool)
        with pytest.raises(TaskFailedError, match="the result cannot be sent"):
            run(pool, "lock")
        assert run(pool) == before


def test_a_task_that_cannot_be_sent_is_an_error_and_the_worker_goes_on() -> None:
    with running() as pool:
        before = run(pool)
        with pytest.raises(TaskFailedError, match="the task cannot be sent"):
            pool.run(("id", threading.Lock()), DEADLINE_S)
        assert run(pool) == before


class Unreadable:
    """Can be sent, and not be read where it arrives."""

    def __reduce__(self) -> tuple[object, ...]:
        return int, ("no number",)


def test_a_worker_that_takes_no_task_is_ended_and_another_does_it() -> None:
    """A pipe holds only the beginning of a large task: sending the rest must not wait for ever."""
    with running() as pool:
        standing = run(pool)
        assert isinstance(standing, int)
        os.kill(standing, signal.SIGSTOP)
        assert run(pool, word="x" * MUCH_TEXT, timeout_s=2.0) != standing


def test_a_task_that_cannot_be_read_is_an_error_and_the_worker_goes_on() -> None:
    with running() as pool:
        before = run(pool)
        with pytest.raises(TaskFailedError, match="no number"):
            pool.run(("id", Unreadable()), DEADLINE_S)
        assert run(pool) == before


def test_workers_on_demand_start_with_the_first_task() -> None:
    pool = WorkerPool(NAME, 2, open_obedient, "ready", on_demand=True)
    with stopped_after(pool):
        pool.start()
        assert ours() == set()
        run(pool)
        assert len(ours()) == 1
        assert pool.ready == "ready"


async def test_a_worker_without_tasks_does_its_idle_work_and_then_tasks_again(tmp_path: Path) -> None:
    pool = WorkerPool(NAME, 1, open_with_idle_work, tmp_path)
    with stopped_after(pool):
        pool.start()
        await until(lambda: (tmp_path / "1").exists() and (tmp_path / "2").exists())
        assert (await pool.call(("id", ""), DEADLINE_S)).value in ours()


async def test_a_task_that_is_cancelled_ends_the_worker_that_does_it(tmp_path: Path) -> None:
    with running() as pool:
        (before,) = ours()
        task = asyncio.create_task(pool.call(("hang", str(tmp_path / "began")), DEADLINE_S))
        await until((tmp_path / "began").exists)
        task.cancel()
        async with asyncio.timeout(DEADLINE_S):
            assert (await pool.call(("id", ""), DEADLINE_S)).value != before
        assert task.cancelled()
        assert before not in ours()


async def test_a_task_that_is_cancelled_before_its_turn_is_never_done(tmp_path: Path) -> None:
    """Neither one that waits in the event loop's queue nor one that waits beside a thread, nor does it end a worker."""
    with running() as pool, ThreadPoolExecutor(1) as threads:
        (worker,) = ours()
        holds = threads.submit(run, pool, "wait for", str(tmp_path / "go"))
        await until((tmp_path / "go.began").exists)
        tasks = [
            asyncio.create_task(pool.call(("touch", str(tmp_path / f"done-{number}")), DEADLINE_S))
            for number in range(3)
        ]
        await until(lambda: waiting_for_a_thread(pool) == 2)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        (tmp_path / "go").touch()
        async with asyncio.timeout(DEADLINE_S):
            assert (await pool.call(("id", ""), DEADLINE_S)).value == worker == holds.result()
    assert names_in(tmp_path) == {"go", "go.began"}


async def test_stopping_fails_what_runs_and_what_waits(tmp_path: Path) -> None:
    with running() as pool, ThreadPoolExecutor(3) as threads:
        runs = threads.submit(run, pool, "hang", str(tmp_path / "began"))
        await until((tmp_path / "began").exists)
        waits: list[Future[object]] = [threads.submit(run, pool) for _ in range(2)]
        called = [asyncio.create_task(pool.call(("id", ""), DEADLINE_S)) for _ in range(3)]
        await until(lambda: waiting_for_a_thread(pool) == 2)
        pool.stop()
        for future in (runs, *waits):
            with pytest.raises(WorkersStoppedError):
                future.result(DEADLINE_S)
        async with asyncio.timeout(DEADLINE_S):
            outcomes = await asyncio.gather(*called, return_exceptions=True)
        assert [type(one) for one in outcomes] == [WorkersStoppedError] * 3
        assert ours() == set()


def test_a_pool_that_was_stopped_starts_nothing() -> None:
    pool = WorkerPool(NAME, 1, open_obedient)
    pool.stop()
    with pytest.raises(WorkersStoppedError):
        pool.start()
    with pytest.raises(WorkersStoppedError):
        run(pool)
    assert ours() == set()


def test_a_start_that_fails_by_an_error_of_ours_raises_it(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("damaged")
    pool = WorkerPool(NAME, 2, open_as_written, tmp_path)
    with stopped_after(pool), pytest.raises(CheckpointError, match="damaged"):
        pool.start()


@pytest.mark.parametrize("state", ["crash", "hang"])
def test_a_worker_that_never_gets_ready_fails_the_start(
    state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "state").write_text(state)
    if state == "hang":
        monkeypatch.setattr(workers, "START_TIMEOUT_S", 0.2)
    pool = WorkerPool(NAME, 1, open_as_written, tmp_path)
    with stopped_after(pool):
        with pytest.raises(WorkerStartError, match="tested worker does not start"):
            pool.start()
        assert pool.trouble is not None


def lose_worker(pool: WorkerPool) -> None:
    with pytest.raises(WorkerTimeoutError):
        run(pool, "hang", os.devnull, timeout_s=0.05)


@pytest.mark.parametrize(
    ("state", "said"), [("damaged", "damaged"), ("crash", "does not start"), ("other", "another state")]
)
def test_a_replacement_that_does_not_start_is_not_tried_at_each_task(
    state: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does one answer that reports another state than the first: its answers would not be those of its digest."""
    with running_as_written(tmp_path) as pool:
        assert pool.trouble is None
        lose_worker(pool)
        (tmp_path / "state").write_text(state)
        before = len((tmp_path / "starts").read_text())
        for _ in range(3):
            with pytest.raises(WorkerStartError, match=said):
                run(pool)
        assert len((tmp_path / "starts").read_text()) == before + 1
        assert said in str(pool.trouble)
        assert ours() == set()

        (tmp_path / "state").write_text("whole")
        monkeypatch.setattr(workers, "BACK_OFF_S", 0.0)
        pool._not_before_s = 0.0  # as if the wait were over
        assert run(pool) in ours()
        assert pool.trouble is None
        assert pool.ready == "whole"


def test_a_slot_whose_worker_does_not_start_fails_no_task_that_another_worker_can_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "BACK_OFF_S", 0.2)
    with running_as_written(tmp_path, count=2) as pool, ThreadPoolExecutor(8) as threads:
        (tmp_path / "state").write_text("damaged")
        lose_worker(pool)
        (left,) = ours()
        assert list(threads.map(lambda _: run(pool), range(30))) == [left] * 30
        (tmp_path / "state").write_text("whole")
        wait_until(lambda: len(ours()) == 2)


def test_a_pool_without_workers_is_well_again_before_the_next_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "BACK_OFF_S", 0.2)
    with running_as_written(tmp_path) as pool:
        (tmp_path / "state").write_text("damaged")
        lose_worker(pool)
        with pytest.raises(WorkerStartError):
            run(pool)
        assert pool.trouble is not None
        (tmp_path / "state").write_text("whole")
        wait_until(lambda: pool.trouble is None)
        assert len(ours()) == 1


HANGING_SERVICE = """
import threading
from multiprocessing.connection import wait
from app.serving.reading.pool import open_reader
from app.serving.workers import WorkerPool

pool = WorkerPool("hangs", 1, open_reader)
pool.start()
threading.Thread(target=pool.run, args=((wait, [], 600.0), 600.0), daemon=True).start()
(worker,) = pool._workers
print(worker._process.pid, flush=True)
threading.Event().wait(600)
"""


def test_a_worker_in_the_middle_of_a_task_ends_when_its_service_is_killed() -> None:
    service = subprocess.Popen([sys.executable, "-c", HANGING_SERVICE], stdout=subprocess.PIPE, text=True)
    assert service.stdout is not None
    worker = int(service.stdout.readline())
    assert is_running(worker)
    service.kill()
    service.wait()
    service.stdout.close()
    wait_until(lambda: not is_running(worker))


def is_running(pid: int) -> bool:
    """Whether a process is there and has not ended; one that nobody has waited for yet has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
