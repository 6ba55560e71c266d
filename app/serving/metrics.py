"""What the service counts, for Prometheus; one registry an instance, none global."""

from typing import Final, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

Stage = Literal["read", "cache", "prepare", "queue", "forward", "record", "total"]
CacheResult = Literal["hit", "miss", "error"]

STAGES: Final[tuple[Stage, ...]] = ("read", "cache", "prepare", "queue", "forward", "record", "total")
CACHE_RESULTS: Final[tuple[CacheResult, ...]] = ("hit", "miss", "error")

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)
_COSTS = (1e3, 3e3, 1e4, 3e4, 1e5, 3e5, 1e6, 3e6, 1e7, 3e7)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Every instrument of one service; costs are line-graph edges, times seconds."""

    content_type: Final[str] = CONTENT_TYPE_PLAIN_0_0_4

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.queue_items = Gauge("ionpath_queue_items", "bands that wait for the model", registry=self.registry)
        self.queue_cost = Gauge("ionpath_queue_cost", "line-graph edges that wait", registry=self.registry)
        self.batch_cost = Histogram(
            "ionpath_batch_cost", "line-graph edges of a forward pass", buckets=_COSTS, registry=self.registry
        )
        self.batch_size = Histogram(
            "ionpath_batch_size", "bands of a forward pass", buckets=_SIZES, registry=self.registry
        )
        self.log_backlog = Gauge(
            "ionpath_log_backlog_rows", "predictions not yet written to the log", registry=self.registry
        )
        self.jobs = Gauge("ionpath_jobs", "accepted jobs that are not finished", registry=self.registry)
        self._predictions = Counter(
            "ionpath_predictions", "bands predicted", ("model", "cached"), registry=self.registry
        )
        self._errors = Counter("ionpath_errors", "problems told to callers", ("kind",), registry=self.registry)
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
        """Count a problem that was told to a caller, by its kind."""
        self._errors.labels(kind).inc()

    def render(self) -> bytes:
        """Everything in Prometheus' text format; send it as content_type."""
        return generate_latest(self.registry)
