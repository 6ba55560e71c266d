"""The screening as a data set of Ray: parts of sources are read as batches, workers turn batches into rows.

This module imports Ray, which reads its environment then: `app.screening.ray_sessions` prepares it first.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import ray
import ray.data
from ray.data import ActorPoolStrategy, Datasource, ReadTask
from ray.data.block import BlockMetadata
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from app.screening.attempts import CountedAttempts
from app.screening.job import Job
from app.screening.ray_sessions import Machines
from app.screening.rows import SCHEMAS, table_of
from app.screening.sources.items import Item, Part

#: Crystals that are predicted together: what a worker that dies takes with it, and the hops of one forward pass.
BATCH_CRYSTALS = 8
_BATCH_BYTES = 4_000_000
_CRYSTALS_A_SECOND = 10
_TYPICAL_BYTES = 3_000


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What a worker gave for some inputs.

    Attributes:
        inputs: those that are done, each with all its rows.
        tables: by name, as `app.screening.rows.SCHEMAS`.
    """

    inputs: tuple[str, ...]
    tables: Mapping[str, pa.Table]


def screened(job: Job, parts: Sequence[Part], machines: Machines) -> Iterator[Batch]:
    """Screen parts of sources; batches come in the order in which they get done.

    Args:
        job: what is asked.
        parts: what is read.
        machines: what there is.
    """
    attempts = _AttemptsActor.options(  # type: ignore[attr-defined] # ray.remote's class has it
        scheduling_strategy=NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    ).remote()
    # Reading takes no core of its own: it waits for the predicting most of the time. And what differs in its cores from
    # the workers is not fused with them, so that they share one archive. Without a bound on it, Ray starts a process a
    # part on a machine that is slow to start them.
    tasks = max(1, len(parts))
    read = ray.data.read_datasource(
        _Parts(parts), override_num_blocks=tasks, num_cpus=0, concurrency=min(tasks, machines.workers)
    )
    screened = read.map_batches(
        _Worker,
        fn_constructor_args=(job, attempts, machines.readers),
        batch_size=None,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(size=machines.workers, max_tasks_in_flight_per_actor=2),
        num_cpus=machines.readers if machines.gpus else 1,
        num_gpus=1 if machines.gpus else 0,
    )
    for block in screened.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        for row in block.to_pylist():
            yield Batch(inputs=tuple(row["inputs"]), tables={name: _unpacked(row[name]) for name in SCHEMAS})


class _Parts(Datasource):
    """Parts of sources; one task reads one part, and gives batches."""

    def __init__(self, parts: Sequence[Part]) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # Ray's has no annotations
        self._parts = parts

    def estimate_inmemory_data_size(self) -> int:
        return sum(part.count for part in self._parts) * _TYPICAL_BYTES

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None
    ) -> list[ReadTask]:
        del parallelism, per_task_row_limit, data_context  # a part is a task, and nothing limits its rows
        return [ReadTask(_Reading(part), _metadata(part)) for part in self._parts]


class _Reading:
    """Reads a part as blocks of one row, a batch each."""

    def __init__(self, part: Part) -> None:
        self._part = part
        self.__name__ = "read_crystals"  # Ray names its tasks so

    def __call__(self) -> Iterator[pa.Table]:
        batch: list[Item] = []
        for item in self._part.read():
            batch.append(item)
            if len(batch) == BATCH_CRYSTALS or sum(len(one.content) for one in batch) > _BATCH_BYTES:
                yield _block(batch)
                batch = []
        if batch:
            yield _block(batch)


def _metadata(part: Part) -> BlockMetadata:
    rows = -(-part.count // BATCH_CRYSTALS)
    return BlockMetadata(num_rows=rows, size_bytes=part.count * _TYPICAL_BYTES, exec_stats=None, input_files=None)


_BLOCK = pa.schema(
    [
        ("input", pa.list_(pa.string())),
        ("name", pa.list_(pa.string())),
        ("content", pa.list_(pa.large_binary())),
        ("problem", pa.list_(pa.string())),
    ]
)


def _block(items: Sequence[Item]) -> pa.Table:
    row = {name: [getattr(item, name) for item in items] for name in _BLOCK.names}
    return pa.Table.from_pylist([row], schema=_BLOCK)


def _items(row: Mapping[str, Sequence[Any]]) -> list[Item]:
    return [
        Item(input=one, name=name, content=content, problem=problem)
        for one, name, content, problem in zip(*(row[name] for name in _BLOCK.names), strict=True)
    ]


@ray.remote(num_cpus=0)
class _AttemptsActor(CountedAttempts):
    """Attempts counted on the machine that gave the command, so that they outlive every worker."""


class _RemoteAttempts:
    """The same, as a worker calls it."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    def begin(self, key: str) -> int:
        count: int = ray.get(self._actor.begin.remote(key))
        return count

    def end(self, keys: Sequence[str]) -> None:
        self._actor.end.remote(list(keys))


class _Worker:
    """A Screener as Ray Data calls it."""

    def __init__(self, job: Job, attempts: Any, readers: int) -> None:
        from app.screening.screener import Screener  # noqa: PLC0415 # loads torch, which this module's importer need not

        self._screener = Screener(job.question, job.model, _RemoteAttempts(attempts), readers=readers)

    def __call__(self, block: pa.Table) -> pa.Table:
        done = []
        for row in block.to_pylist():
            rows = self._screener.screen(_items(row))
            tables = {"crystals": rows.crystals, "hops": rows.hops, "failures": rows.failures}
            done.append({"inputs": rows.inputs, **{name: _packed(table_of(name, one)) for name, one in tables.items()}})
        return pa.Table.from_pylist(done, schema=_DONE)


_DONE = pa.schema([("inputs", pa.list_(pa.string())), *[(name, pa.large_binary()) for name in SCHEMAS]])


def _packed(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def _unpacked(content: bytes) -> pa.Table:
    with pa.ipc.open_stream(content) as reader:
        return reader.read_all()
