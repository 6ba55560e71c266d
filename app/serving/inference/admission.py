"""Admission control: how much work may wait, and the one place where load turns a caller away.

Work is measured in seconds of CPU that workers need for it: estimated when it is admitted, by what the same kind of
request has taken so far, and replaced by what is measured. Belongs to one event loop.
"""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from app.errors import BusyError, NotReadyError
from app.serving.lanes import Lane

#: Where the estimates start, seconds of CPU; each is as good as this many measurements.
FIRST_BAND_S = 0.02
FIRST_REQUEST_S = 0.1
FIRST_OPINION_S = 1.0
PRIOR_WEIGHT = 8
#: The newest measurement counts at least this much, so that estimates follow a change of what is sent.
LEAST_WEIGHT = 0.02
#: The speed of a lane is measured over as long, seconds, while it never runs out of work.
WINDOW_S = 1.0
#: A lane with less work than this may have had an idle worker, seconds.
SATURATED_S = 0.5
SPEED_WEIGHT = 0.3
LEAST_SPEED = 0.1
LEAST_RETRY_AFTER_S = 1.0
#: A body that is arriving is turned away only past this: thousands of them fit, and a band is no larger.
SMALL_BODY_BYTES = 65_536
#: Accepted jobs (`Prefer: respond-async`) that are not finished, at most, and when to ask again.
MOST_JOBS = 1000
JOB_RETRY_AFTER_S = 10.0
#: Lanes that take turns on the same cores.
QUICK = (Lane.BAND, Lane.MAIN)
_MIB = 1024 * 1024


@dataclass(kw_only=True)
class _Mean:
    """A running mean that starts at an expected value."""

    value: float
    count: int = PRIOR_WEIGHT

    def add(self, value: float) -> None:
        self.count += 1
        self.value += max(1.0 / self.count, LEAST_WEIGHT) * (value - self.value)


@dataclass(kw_only=True)
class _LaneLoad:
    """The work of one lane: what is left of it, and how fast it goes.

    Attributes:
        speed: seconds of CPU done in a second of time.
        known_s: estimated seconds of CPU of the admitted work that was measured and is not done.
        unknown: how many admitted requests were not measured yet, by kind, each as long as its kind takes on average:
            when that turns out to be longer, those that wait already count for more.
        means: what a request takes, by kind; shared by all lanes.
        requests: those admitted and not answered.
    """

    speed: float
    means: dict[str, _Mean]
    known_s: float = 0.0
    unknown: Counter[str] = field(default_factory=Counter)
    requests: int = 0
    _done_s: float = 0.0
    _window_from_s: float = 0.0
    _least_left_s: float = 0.0

    @property
    def wait_s(self) -> float:
        """How long new work would wait, seconds."""
        return self.left_s / self.speed

    @property
    def left_s(self) -> float:
        """Estimated seconds of CPU of all admitted work that is not done."""
        return self.known_s + sum(count * self.means[kind].value for kind, count in self.unknown.items())

    def change(self, seconds: float) -> None:
        """Add estimated work, or take some away."""
        self.known_s = max(0.0, self.known_s + seconds)
        self._least_left_s = min(self._least_left_s, self.left_s)

    def done(self, seconds: float) -> None:
        """Count work that was done: it is what the speed is learned from."""
        now = time.monotonic()
        self._done_s += seconds
        passed_s = now - self._window_from_s
        if passed_s < WINDOW_S:
            return
        if self._least_left_s >= SATURATED_S:
            self.speed += SPEED_WEIGHT * (max(LEAST_SPEED, self._done_s / passed_s) - self.speed)
        self._done_s, self._window_from_s, self._least_left_s = 0.0, now, self.left_s


@dataclass(kw_only=True, eq=False)
class AdmittedWork:
    """A request's share of the waiting work, from its admission to its answer; made by `Admission.admit`."""

    _admission: "Admission" = field(repr=False)
    kind: str
    size_bytes: int
    lane: Lane
    admitted_s: float = field(default_factory=time.monotonic)
    began_s: float | None = None
    left_s: dict[Lane, float] = field(default_factory=dict)
    spent_s: float = 0.0
    is_unknown: bool = True
    is_learned: bool = False
    closed: bool = False

    @property
    def waited_s(self) -> float:
        """How long it waited until its work began, seconds; 0 where there was none to do."""
        return 0.0 if self.began_s is None else max(0.0, self.began_s - self.admitted_s)

    def begin(self, at_s: float | None) -> None:
        """Note when the first of its work began, on the monotonic clock; None changes nothing."""
        if self.began_s is None:
            self.began_s = at_s

    def expect(self, lane: Lane, seconds: float) -> None:
        """Replace the estimate of what is left to do in a lane, once more is known."""
        if not self.closed:
            if lane is self.lane:
                self._admission.know(self)
            self._admission.replace_left(self, lane, seconds)

    def measure(self, seconds: float) -> None:
        """Replace the estimate of all that is left, and learn from it what requests of this kind take.

        At once, not with the answer: behind a queue of slow crystals the first answer comes long after other requests.
        """
        self._admission.learn(self, self.spent_s + seconds)
        self.expect(self.lane, seconds)

    def did(self, lane: Lane, seconds: float) -> None:
        """Count a piece of work that was done for it."""
        if lane is not Lane.SECOND_OPINION:
            self.spent_s += seconds
        self._admission.count_done(lane, seconds)
        by_kind = lane is self.lane and self.is_unknown
        left_s = self._admission.usual_s(self.kind) if by_kind else self.left_s.get(lane, 0.0)
        self.expect(lane, max(0.0, left_s - seconds))


@dataclass(kw_only=True, eq=False)
class Arrival:
    """The bytes of one body that is arriving; made by `Admission.arrival`."""

    _admission: "Admission" = field(repr=False)
    size_bytes: int = 0

    def add(self, size_bytes: int) -> None:
        """Count a piece of it.

        Raises:
            BusyError: the bodies that are arriving hold too much already, and this is not the first of them.
        """
        self._admission.count_arriving(self, size_bytes)
        self.size_bytes += size_bytes

    def end(self) -> None:
        """Count it no more: it is whole, and its request is admitted now, or it is given up."""
        self._admission.forget_arriving(self)
        self.size_bytes = 0


class Admission:
    """Bounds the work that waits, for reading, preparing and the model together, by time and by bytes.

    Bodies that are arriving have a bound of their own, of as many bytes: slow uploads take no room from other requests.

    Args:
        max_wait_s: a request that would wait longer is turned away, seconds.
        min_requests: as many bands and as many crystals, of all callers together, are taken however long they wait: on
            a slow or busy machine a few crystals are more seconds of work than that. Crystals whose bulk properties
            are asked for count among the crystals.
        max_mib: bytes of admitted requests, MiB; one request is always taken.
        max_jobs_mib: bytes of the inputs of accepted jobs that are not finished, MiB; one job is always taken.
        cores: of this machine; where the estimate of its speed starts.
    """

    def __init__(
        self, *, max_wait_s: float, max_mib: int, max_jobs_mib: int, cores: int, min_requests: int = 0
    ) -> None:
        self._max_wait_s = max_wait_s
        self._min_requests = min_requests
        self._max_mib = max_mib
        self._max_jobs_mib = max_jobs_mib
        self._requests: dict[str, _Mean] = {}
        self._lanes = {lane: _LaneLoad(speed=1.0, means=self._requests) for lane in Lane}
        self._quick = _LaneLoad(speed=1.0, means=self._requests)
        for load in (self._quick, *(self._lanes[lane] for lane in QUICK)):
            load.speed = max(1.0, cores / 2)
        self._requests[Lane.SECOND_OPINION] = _Mean(value=FIRST_OPINION_S)
        self._bands: dict[str, _Mean] = {}
        self._bytes = 0
        self._arriving_bytes = 0
        self._arriving: dict[Arrival, None] = {}  # in their order, without those that were turned away
        self._stopping = False
        self.requests = 0

    @property
    def size_bytes(self) -> int:
        """Bytes of all admitted requests that are not answered."""
        return self._bytes

    @property
    def arriving_bytes(self) -> int:
        """Bytes of all bodies of which more is to come."""
        return self._arriving_bytes

    @property
    def max_wait_s(self) -> float:
        """The longest that a request may have to wait, seconds."""
        return self._max_wait_s

    def wait_s(self, lane: Lane) -> float:
        """How long new work of a lane would wait now, seconds.

        Bands and crystals take turns: while one lane is worked off, the other gets as much of the cores. A lane that
        has had them for itself goes slower once the other fills, and what it was admitted by would be too little.
        """
        own = self._lanes[lane]
        if lane not in QUICK:
            return own.wait_s
        others_s = self._quick.left_s - own.left_s
        return max(own.wait_s, (own.left_s + min(own.left_s, others_s)) / self._quick.speed)

    def stop(self) -> None:
        """Admit nothing more."""
        self._stopping = True

    def arrival(self) -> Arrival:
        """A body that begins to arrive."""
        return Arrival(_admission=self)

    def count_arriving(self, arrival: Arrival, size_bytes: int) -> None:
        """See Arrival.add. The first of all is always taken, or many that come at once would turn each other away."""
        self._arriving.setdefault(arrival)
        is_large = arrival.size_bytes + size_bytes > SMALL_BODY_BYTES
        is_first = next(iter(self._arriving)) is arrival
        if is_large and not is_first and self._arriving_bytes + size_bytes > self._max_mib * _MIB:
            del self._arriving[arrival]
            raise BusyError(
                f"Bodies of {self._arriving_bytes / _MIB:.1f} MiB are arriving already; at most {self._max_mib} MiB "
                "may (IONPATH_QUEUE_MAX_MIB).",
                retry_after_s=LEAST_RETRY_AFTER_S,
            )
        self._arriving_bytes += size_bytes

    def forget_arriving(self, arrival: Arrival) -> None:
        """See Arrival.end."""
        self._arriving.pop(arrival, None)
        self._arriving_bytes -= arrival.size_bytes

    @contextmanager
    def admit(
        self,
        kind: str,
        *,
        size_bytes: int,
        lane: Lane = Lane.MAIN,
        first_s: float = FIRST_REQUEST_S,
        second_opinion: bool = False,
    ) -> Iterator[AdmittedWork]:
        """Admit a request until the context ends, or turn it away.

        Args:
            kind: requests of one kind are expected to take alike.
            size_bytes: of its body.
            lane: where most of its work will be.
            first_s: what a request of this kind is expected to take until some were measured, seconds of CPU.
            second_opinion: whether it needs that lane too.

        Raises:
            BusyError: too much waits already.
            NotReadyError: the service is stopping.
        """
        self._check(lane, size_bytes)
        work = AdmittedWork(_admission=self, kind=kind, size_bytes=size_bytes, lane=lane)
        if second_opinion:
            self._check(Lane.SECOND_OPINION, size_bytes)
            work.expect(Lane.SECOND_OPINION, self._requests[Lane.SECOND_OPINION].value)
        self._requests.setdefault(kind, _Mean(value=first_s))
        for load in self._loads(lane):
            load.unknown[kind] += 1
        self._bytes += size_bytes
        self._lanes[lane].requests += 1
        self.requests += 1
        try:
            yield work
        finally:
            if work.spent_s > self._requests[kind].value:  # one that failed, or whose caller left, took this at least
                self.learn(work, work.spent_s)
            self.know(work)
            self._bytes -= size_bytes
            self._lanes[lane].requests -= 1
            self.requests -= 1
            for lane_left in tuple(work.left_s):
                work.expect(lane_left, 0.0)
            work.closed = True

    def check_job(self, *, jobs: int, held_bytes: int, size_bytes: int = 0) -> None:
        """Turn a job away (BusyError) where too many wait already to take one of this size as well."""
        most_bytes = self._max_jobs_mib * _MIB
        if jobs >= MOST_JOBS or (jobs and held_bytes + size_bytes > most_bytes):
            raise BusyError(
                f"{jobs} jobs wait already ({held_bytes / _MIB:.1f} MiB of input; IONPATH_JOBS_MIB allows "
                f"{self._max_jobs_mib}).",
                retry_after_s=JOB_RETRY_AFTER_S,
                kind="jobs-busy",
            )

    def band_s(self, model: str, card_s: float | None) -> float:
        """What one band of a model takes, seconds of CPU, by what was measured here, else by its card."""
        return self._bands.setdefault(model, _Mean(value=card_s or FIRST_BAND_S)).value

    def measured_band(self, model: str, seconds: float) -> None:
        """Learn what a band of a model took."""
        self._bands.setdefault(model, _Mean(value=FIRST_BAND_S)).add(seconds)

    def usual_s(self, kind: str) -> float:
        """What a request of a kind takes on average, seconds of CPU; those that a cache answers do not count."""
        return self._requests[kind].value

    def learn(self, work: AdmittedWork, seconds: float) -> None:
        """Learn what a request takes in all, once."""
        if not work.is_learned:
            work.is_learned = True
            self._requests[work.kind].add(seconds)

    def know(self, work: AdmittedWork) -> None:
        """Count a request no longer by its kind's average."""
        if work.is_unknown:
            work.is_unknown = False
            for load in self._loads(work.lane):
                load.unknown[work.kind] -= 1
                if not load.unknown[work.kind]:
                    del load.unknown[work.kind]

    def replace_left(self, work: AdmittedWork, lane: Lane, seconds: float) -> None:
        """See AdmittedWork.expect."""
        for load in self._loads(lane):
            load.change(seconds - work.left_s.get(lane, 0.0))
        work.left_s[lane] = seconds

    def count_done(self, lane: Lane, seconds: float) -> None:
        """See AdmittedWork.did."""
        for load in self._loads(lane):
            load.done(seconds)
        if lane is Lane.SECOND_OPINION:
            self._requests[lane].add(seconds)

    def _loads(self, lane: Lane) -> tuple[_LaneLoad, ...]:
        """The load of a lane, and that of all which share the cores."""
        return (self._lanes[lane], self._quick) if lane in QUICK else (self._lanes[lane],)

    def _check(self, lane: Lane, size_bytes: int) -> None:
        if self._stopping:
            raise NotReadyError("The service is stopping.", kind="stopping")
        wait_s = self.wait_s(lane)
        is_few = lane in QUICK and self._lanes[lane].requests < self._min_requests
        if wait_s >= self._max_wait_s and not is_few:
            what = {Lane.BAND: "bands", Lane.MAIN: "crystals"}.get(lane)
            few = f", but for {self._min_requests} {what} (IONPATH_QUEUE_MIN_REQUESTS)"
            but_for = few if what and self._min_requests else ""
            raise BusyError(
                f"{self.requests} requests wait already, about {wait_s:.0f} s of work; at most {self._max_wait_s:g} s "
                f"may wait (IONPATH_QUEUE_MAX_WAIT_S){but_for}.",
                retry_after_s=max(LEAST_RETRY_AFTER_S, wait_s - self._max_wait_s),
            )
        if self._bytes and self._bytes + size_bytes > self._max_mib * _MIB:
            raise BusyError(
                f"{self.requests} requests wait already with {self._bytes / _MIB:.1f} MiB; at most {self._max_mib} MiB "
                "may wait (IONPATH_QUEUE_MAX_MIB).",
                retry_after_s=max(LEAST_RETRY_AFTER_S, wait_s),
            )
