"""Opens the prediction service with every part it needs, and closes them in reverse."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from functools import partial

import structlog

from app.cores import usable_cores
from app.models.cards.card import CheckpointError
from app.models.registry import Registry, choose_device
from app.serving.answers.bond_valence import BondValence
from app.serving.bulk_properties import PropertyAnswering
from app.serving.cache import open_cache
from app.serving.cache.single_flight import SingleFlight
from app.serving.history.jobs import Jobs
from app.serving.history.records import Records
from app.serving.inference.admission import Admission
from app.serving.inference.batcher import Batcher, Track
from app.serving.inference.crystal_turns import CrystalTurns
from app.serving.inference.model import Loading, ModelHere, ModelWorker, properties_here
from app.serving.inference.preparing import BandPreparer
from app.serving.inference.queue import WorkQueue
from app.serving.lanes import Lane
from app.serving.limits import limits_of
from app.serving.metrics import Metrics
from app.serving.pipeline import Pipeline, lane_of
from app.serving.predictions import PredictionService
from app.serving.reading.pool import ReadingPool, ReadSettings
from app.serving.request import PredictionRequest
from app.settings import Settings
from app.storage.log import open_log
from app.storage.migrate import migrate
from app.storage.rows import JsonDocument
from app.storage.writer import LogWriter, open_writer

__all__ = ["JsonDocument", "PredictionRequest", "PredictionService", "open_service"]

#: On a CPU a larger batch is no faster, only later: everyone in it waits for its end. Some thirty bands.
CPU_BATCH_COST = 320_000
#: A band alone takes a CPU twice what it takes in a batch of eight, and under load a core's time is what is short: a
#: batch waits for some of those that are being prepared.
CPU_BATCH_WAIT_MS = 50.0
GPU_BATCH_WAIT_MS = 2.0
#: Of the time to drain, what is left for writing the log once all is answered, at least, seconds.
LEAST_LOG_DRAIN_S = 2.0
#: Who prepares takes cores that a model on a CPU needs too. Preparing a band takes 8 ms of a core, the forward pass 5,
#: or 0.3 ms of an H100; what is served on a GPU was not measured.
MOST_PREPARING_BESIDE_CPU, MOST_PREPARING_BESIDE_GPU = 4, 12

_log = structlog.get_logger(__name__)


@asynccontextmanager
async def open_service(settings: Settings) -> AsyncIterator[PredictionService]:
    """Open the service; it is warm and ready when given, and drained when left.

    Raises:
        app.models.cards.card.CheckpointError: a checkpoint is missing or damaged, or the device is not there.
        app.serving.worker_process.WorkerStartError: a worker process does not start.
        sqlalchemy.exc.SQLAlchemyError: the log's database cannot be brought up to date.
        ValueError: a URL is of no known form.
    """
    started = time.monotonic()
    metrics, jobs = Metrics(), Jobs()
    drain = _Drain(settings.drain_timeout_s)
    async with AsyncExitStack() as stack:
        records = await _open_records(settings, metrics, jobs, stack, drain)
        pool = _reading_pool(settings)
        stack.push_async_callback(pool.stop)
        preparer = BandPreparer(preparing_count(settings), settings.parse_timeout_s)
        stack.push_async_callback(asyncio.to_thread, preparer.stop)
        workers = _model_workers(settings)
        for worker in workers.values():
            stack.push_async_callback(asyncio.to_thread, worker.stop)
        registry = await _started(settings, pool, preparer, workers)
        batcher = _batcher(settings, registry, metrics, preparer, workers)
        batcher.start()
        stack.push_async_callback(lambda: batcher.stop(drain.left_s))
        stack.push_async_callback(lambda: jobs.stop(drain.left_s))
        admission = _admission(settings)
        stack.callback(admission.stop)
        _show_queue(metrics, admission, batcher)
        limits = limits_of(settings)
        properties = PropertyAnswering(
            settings=settings,
            limits=limits,
            registry=registry,
            metrics=metrics,
            pool=pool,
            admission=admission,
            run=workers[Lane.MAIN].properties if workers else properties_here,
        )
        stack.callback(properties.stop)
        _log.info(
            "service-open",
            models=(*registry.names(), *registry.property_names()),
            device=registry.predictor(None).device,
            seconds=round(time.monotonic() - started, 2),
        )
        yield PredictionService(
            settings=settings,
            registry=registry,
            metrics=metrics,
            jobs=jobs,
            properties=properties,
            admission=admission,
            pipeline=Pipeline(
                settings=settings,
                limits=limits,
                registry=registry,
                metrics=metrics,
                cache=records.cache,
                admission=admission,
                batcher=batcher,
                pool=pool,
                flights=SingleFlight(),
                crystal_turns=CrystalTurns(reading_workers(settings)),
                bond_valence=BondValence(usable_cores()),
            ),
            records=records,
        )


async def _open_records(
    settings: Settings, metrics: Metrics, jobs: Jobs, stack: AsyncExitStack, drain: "_Drain"
) -> Records:
    """Open the stores; the stack closes them."""
    if settings.migrate_on_start:
        await asyncio.to_thread(migrate, settings.database_url)
    cache = open_cache(settings, observe=metrics.looked_up)
    stack.push_async_callback(cache.aclose)
    log = open_log(settings)
    stack.push_async_callback(log.aclose)
    writer = open_writer(settings, log)
    writer.start()
    stack.push_async_callback(lambda: writer.aclose(max(LEAST_LOG_DRAIN_S, drain.left_s)))
    _show_log(metrics, writer, settings)
    metrics.jobs.set_function(lambda: len(jobs))
    return Records(
        cache=cache,
        log=log,
        writer=writer,
        jobs=jobs,
        shared=settings.redis_url is not None,
        started_at=datetime.now(UTC),
    )


def _reading_pool(settings: Settings) -> ReadingPool:
    return ReadingPool(
        ReadSettings(
            workers=reading_workers(settings),
            timeout_s=settings.parse_timeout_s,
            memory_mib=settings.parse_memory_mib,
            kept_mib=settings.kept_readings_mib,
        )
    )


def reading_workers(settings: Settings) -> int:
    """How many crystals are read at once."""
    return settings.parse_workers or usable_cores()


def _admission(settings: Settings) -> Admission:
    return Admission(
        max_wait_s=settings.queue_max_wait_s,
        min_requests=settings.queue_min_requests,
        max_mib=settings.queue_max_mib,
        max_jobs_mib=settings.jobs_mib,
        cores=usable_cores(),
    )


async def _started(
    settings: Settings, pool: ReadingPool, preparer: BandPreparer, workers: Mapping[Lane, ModelWorker]
) -> Registry:
    """Load the checkpoints while the processes start."""
    opening = asyncio.to_thread(_open_registry, settings, warm=not workers)
    starting = [asyncio.to_thread(worker.start) for worker in workers.values()]
    starting += [pool.start(), asyncio.to_thread(preparer.start)]
    _, registry = await asyncio.gather(asyncio.gather(*starting), opening)
    if workers:
        _check_same(registry, workers[Lane.MAIN])
    return registry


def _show_queue(metrics: Metrics, admission: Admission, batcher: Batcher) -> None:
    metrics.queue_requests.set_function(lambda: admission.requests)
    metrics.queue_items.set_function(lambda: len(batcher))
    metrics.queue_bytes.set_function(lambda: admission.size_bytes + admission.arriving_bytes)
    metrics.queue_max_wait.set(admission.max_wait_s)
    for lane, wait in metrics.queue_wait.items():
        wait.set_function(partial(admission.wait_s, lane))


def _show_log(metrics: Metrics, writer: LogWriter, settings: Settings) -> None:
    metrics.log_backlog.set_function(lambda: writer.backlog)
    metrics.log_dropped.set_function(lambda: writer.dropped)
    metrics.log_failures.set_function(lambda: writer.failures)
    metrics.log_unspooled.set_function(lambda: writer.unspooled)
    metrics.spool_adopted.set_function(lambda: writer.adopted)
    if (spool := writer.spool) is not None:
        metrics.spool_rows.set_function(lambda: len(spool))
        metrics.spool_bytes.set_function(lambda: spool.bytes)
        metrics.spool_limit.set(settings.spool_mib * 2**20)
        metrics.spool_unreadable.set_function(lambda: spool.unreadable)


class _Drain:
    """The one time limit that all parts share when the service closes; it starts when first asked."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._until: float | None = None

    @property
    def left_s(self) -> float:
        if self._until is None:
            self._until = time.monotonic() + self._timeout_s
        return max(0.0, self._until - time.monotonic())


def _check_same(registry: Registry, worker: ModelWorker) -> None:
    """Raise (CheckpointError) where a checkpoint was replaced while it was being loaded."""
    digests = {name: registry.predictor(name).digest for name in registry.names()}
    digests |= {name: registry.property_predictor(name).digest for name in registry.property_names()}
    if worker.digests != digests:
        raise CheckpointError("the model store changed while it was read: start again")


def _model_workers(settings: Settings) -> dict[Lane, ModelWorker]:
    """The processes that run models on a CPU; none on a GPU, or where they are switched off: this process runs them.

    That of slow models starts with the first band for one.
    """
    if not settings.model_process or choose_device(settings.device).type != "cpu":
        return {}
    loading = Loading(
        store=settings.model_store,
        default=settings.default_model,
        threads=settings.torch_threads,
        prepared_beside=preparing_count(settings),
    )
    timeout_s = settings.request_timeout_s
    return {
        Lane.MAIN: ModelWorker(loading, timeout_s, warm=settings.default_model),
        Lane.SLOW_MODEL: ModelWorker(loading, timeout_s, warm=None),
    }


def _open_registry(settings: Settings, *, warm: bool) -> Registry:
    registry = Registry.open(
        settings.model_store,
        settings.device,
        default=settings.default_model,
        threads=settings.torch_threads,
    )
    if warm:
        for name in registry.property_names():
            registry.property_predictor(name).warm_up()
        for name in registry.names():
            registry.predictor(name).warm_up()
    return registry


def preparing_count(settings: Settings) -> int:
    """How many bands are prepared at once, each in a process of its own."""
    if settings.prepare_processes:
        return settings.prepare_processes
    on_cpu = choose_device(settings.device).type == "cpu"
    most = MOST_PREPARING_BESIDE_CPU if on_cpu else MOST_PREPARING_BESIDE_GPU
    # Beside a CPU's model one more than half of the cores: whose band is being handed over prepares none.
    return max(1, min(most, usable_cores() // 2 + (on_cpu and usable_cores() > 1)))


def _batcher(
    settings: Settings,
    registry: Registry,
    metrics: Metrics,
    preparer: BandPreparer,
    workers: Mapping[Lane, ModelWorker],
) -> Batcher:
    on_cpu = registry.predictor(None).device == "cpu"
    tracks = {
        lane: Track(
            name=f"{lane}-model",
            queue=WorkQueue(
                batch_cost=min(settings.batch_cost, CPU_BATCH_COST) if on_cpu else settings.batch_cost,
                batch_wait_s=_batch_wait_ms(settings, on_cpu=on_cpu) / 1000.0,
                prepares=lane is Lane.MAIN,
            ),
            runner=workers[lane] if workers else ModelHere(),
        )
        for lane in (Lane.MAIN, Lane.SLOW_MODEL)
    }
    return Batcher(
        tracks=tracks,
        lane_of=partial(lane_of, registry),
        prepare_threads=preparing_count(settings),
        preparer=preparer,
        stall_s=settings.request_timeout_s,
        metrics=metrics,
    )


def _batch_wait_ms(settings: Settings, *, on_cpu: bool) -> float:
    if settings.batch_wait_ms is not None:
        return settings.batch_wait_ms
    return CPU_BATCH_WAIT_MS if on_cpu else GPU_BATCH_WAIT_MS
