"""What the service counts, for Prometheus; one registry an instance, none global."""

from collections.abc import Callable, Iterable
from typing import Final, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import CounterMetricFamily
from prometheus_client.registry import Collector

from app.serving.lanes import Lane

Stage = Literal["read", "cache", "prepare", "queue", "forward", "record", "total"]
CacheResult = Literal["hit", "miss", "error"]

STAGES: Final[tuple[Stage, ...]] = ("read", "cache", "prepare", "queue", "forward", "record", "total")
CACHE_RESULTS: Final[tuple[CacheResult, ...]] = ("hit", "miss", "error")

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)
_COSTS = (1e3, 3e3, 1e4, 3e4, 1e5, 3e5, 1e6, 3e6, 1e7, 3e7)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class CounterOf(Collector):
    """A counter whose number another part of the service keeps."""

    def __init__(self, name: str, documentation: str, *, registry: CollectorRegistry) -> None:
        self._name = name
        self._documentation = documentation
        self._read: Callable[[], int] = lambda: 0
        registry.register(self)

    def set_function(self, read: Callable[[], int]) -> None:
        """Show what `read` gives, which never goes down."""
        self._read = read

    def collect(self) -> Iterable[CounterMetricFamily]:
        """Read it now."""
        yield CounterMetricFamily(self._name, self._documentation, value=self._read())


class Metrics:
    """Every instrument of one service; costs are line-graph edges, times seconds."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        # Memory, open files, CPU seconds and the start of this process; not of the workers.
        ProcessCollector(registry=self.registry)
        self.queue_requests = Gauge(
            "ionpath_queue_requests", "admitted requests that are not answered yet", registry=self.registry
        )
        self.queue_items = Gauge("ionpath_queue_items", "bands that wait for the model", registry=self.registry)
        self.queue_bytes = Gauge(
            "ionpath_queue_bytes",
            "bytes of the admitted requests and of bodies that are arriving",
            registry=self.registry,
        )
        wait = Gauge(
            "ionpath_queue_wait_seconds",
            "estimated wait of a new request, by lane",
            ("lane",),
            registry=self.registry,
        )
        self.queue_wait = {lane: wait.labels(lane) for lane in Lane}
        self.queue_max_wait = Gauge(
            "ionpath_queue_max_wait_seconds",
            "wait past which requests are refused: IONPATH_QUEUE_MAX_WAIT_S",
            registry=self.registry,
        )
        self.batch_cost = Histogram(
            "ionpath_batch_cost", "line-graph edges of a forward pass", buckets=_COSTS, registry=self.registry
        )
        self.batch_size = Histogram(
            "ionpath_batch_size", "bands of a forward pass", buckets=_SIZES, registry=self.registry
        )
        self.log_backlog = Gauge(
            "ionpath_log_backlog_rows", "predictions not yet written to the log", registry=self.registry
        )
        self.log_dropped = CounterOf(
            "ionpath_log_rows_dropped", "predictions lost to the log: no room, or unwritable", registry=self.registry
        )
        self.log_failures = CounterOf(
            "ionpath_log_write_failures", "attempts to write the log that failed", registry=self.registry
        )
        self.log_unspooled = CounterOf(
            "ionpath_log_rows_unspooled", "predictions that the spool did not take", registry=self.registry
        )
        self.spool_rows = Gauge(
            "ionpath_spool_rows", "predictions on disk that the log does not have yet", registry=self.registry
        )
        self.spool_bytes = Gauge("ionpath_spool_bytes", "bytes of the spool's files", registry=self.registry)
        self.spool_limit = Gauge(
            "ionpath_spool_limit_bytes", "bytes that the spool may take: IONPATH_SPOOL_MIB", registry=self.registry
        )
        self.spool_adopted = CounterOf(
            "ionpath_spool_rows_adopted", "predictions that an ended process had left on disk", registry=self.registry
        )
        self.spool_unreadable = CounterOf(
            "ionpath_spool_records_unreadable", "records of the spool cut short or damaged", registry=self.registry
        )
        self.jobs = Gauge("ionpath_jobs", "accepted jobs that are not finished", registry=self.registry)
        self.rates_alone = CounterOf(
            "ionpath_rates_counted_alone",
            "requests whose rate this replica counted for itself, since Redis was away",
            registry=self.registry,
        )
        self._predictions = Counter(
            "ionpath_predictions",
            "bands and crystals' bulk properties predicted",
            ("model", "cached"),
            registry=self.registry,
        )
        self._errors = Counter("ionpath_errors", "problems answered to callers", ("kind",), registry=self.registry)
        stages = Histogram(
            "ionpath_stage_seconds",
            "seconds by stage of a request; a forward pass counts once a batch",
            ("stage",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        lookups = Counter("ionpath_cache_lookups", "cache look-ups", ("result",), registry=self.registry)
        # Children are looked up once: labels() takes a lock and builds a tuple at each call.
        self._stages = {stage: stages.labels(stage) for stage in STAGES}
        self._lookups = {result: lookups.labels(result) for result in CACHE_RESULTS}

    def observe(self, stage: Stage, seconds: float) -> None:
        """Record how long a stage took, in seconds."""
        self._stages[stage].observe(seconds)

    def batch(self, *, cost: int, size: int, seconds: float) -> None:
        """Record a forward pass: its cost in line-graph edges, its bands and its seconds."""
        self.batch_cost.observe(cost)
        self.batch_size.observe(size)
        self._stages["forward"].observe(seconds)

    def looked_up(self, result: CacheResult, count: int = 1) -> None:
        """Count look-ups in the cache."""
        self._lookups[result].inc(count)

    def predicted(self, model: str, *, cached: bool, count: int = 1) -> None:
        """Count bands answered by a model, computed or from the cache."""
        self._predictions.labels(model, "true" if cached else "false").inc(count)

    def failed(self, kind: str) -> None:
        """Count a problem that was answered to a caller, by its kind."""
        self._errors.labels(kind).inc()

    def render(self) -> bytes:
        """Everything in Prometheus' text format 0.0.4."""
        return generate_latest(self.registry)
