"""Three times as many calls as the service can answer: what it answers, how late, whom it refuses, how it recovers."""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
from rich.console import Console

from benchmarks.faults.calls import Call
from benchmarks.faults.traffic import Tally, Traffic
from benchmarks.faults.verdict import Figure, tell_counts, tell_figures
from benchmarks.faults.world import World
from benchmarks.servers import cpu_seconds

#: Keeps the model as busy as it can be without anybody's being refused.
CAPACITY_CALLERS = 48
#: Of the flood: each has one call at a time, so there must be enough for the time that the accepted wait.
FLOOD_CALLERS = 300
TIMES_CAPACITY = 3.0
#: Who come after it.
PROBES_A_SECOND = 5.0
#: Calls are made beforehand for as many a second, where the warm stretch was slower.
MOST_A_SECOND_AT_FIRST = 100.0
#: Asked for: throughput of at least this share of the peak, a p99 of at most so many times its value at capacity, and
#: an answer at the usual speed so soon after the load's end.
LEAST_THROUGHPUT = 0.9
#: Of those who came back when told, let in at once: the machine has moments in which it is slower than it was.
LEAST_FIRST = 0.9
MOST_P99 = 2.0
MOST_RECOVERY_S = 2.0
MOST_MEMORY_GROWTH = 0.03


@dataclass(frozen=True, kw_only=True)
class _Flood:
    """What three times the capacity came to.

    Attributes:
        answered_a_second: while it lasted.
        memory_mib: before it, in its middle, and at its end.
        service_cpu_s, generator_cpu_s: while it lasted.
        recovered_s: from its end to the first answer at the usual speed.
    """

    tally: Tally
    answered_a_second: float
    memory_mib: tuple[float, float, float]
    service_cpu_s: float
    generator_cpu_s: float
    recovered_s: float


async def overload(world: World, calls: Iterator[Call], console: Console, *, seconds: float) -> bool:
    """Measure capacity, then offer three times as much; whether all is as it should be."""
    warm = await stretch(world, calls, seconds=seconds / 2, callers=CAPACITY_CALLERS)
    # Made before they are sent: what the generator computes meanwhile, the service does not.
    a_second = max(MOST_A_SECOND_AT_FIRST, 4 * len(warm.answered) / seconds)
    calls = iter(list(islice(calls, int(2 * TIMES_CAPACITY * a_second * seconds))))
    peak = await stretch(world, calls, seconds=seconds, callers=CAPACITY_CALLERS)
    flood = await _flooded(world, calls, peak, seconds=seconds)
    what = f"overload, {TIMES_CAPACITY:g} times capacity for {seconds:g} s"
    well = await tell_counts(console, world, what, flood.tally)
    return tell_figures(console, _figures(peak, flood, seconds)) and well


async def _flooded(world: World, calls: Iterator[Call], peak: Tally, *, seconds: float) -> _Flood:
    """Offer three times what was answered at the peak."""
    memory_mib = [world.service.memory_mib]
    service_s, generator_s = cpu_seconds(world.service.pid), time.process_time()
    flood = Traffic(lambda: world.service.port, calls, a_second=TIMES_CAPACITY * len(peak.answered) / seconds)
    async with flood.callers(FLOOD_CALLERS):
        for _ in range(2):
            await asyncio.sleep(seconds / 2)
            memory_mib.append(world.service.memory_mib)
        answered = len(flood.tally.answered)
        service_s, generator_s = cpu_seconds(world.service.pid) - service_s, time.process_time() - generator_s
        recovered = asyncio.create_task(_recovered_s(world, calls, time.monotonic(), peak))
    before, middle, end = memory_mib
    return _Flood(
        tally=flood.tally,
        answered_a_second=answered / seconds,
        memory_mib=(before, middle, end),
        service_cpu_s=service_s,
        generator_cpu_s=generator_s,
        recovered_s=await recovered,
    )


def _figures(peak: Tally, flood: _Flood, seconds: float) -> list[Figure]:
    capacity = len(peak.answered) / seconds
    kept = flood.answered_a_second / capacity
    late = p99_s(flood.tally) / p99_s(peak)
    told = {times: count for times, count in flood.tally.obeyed.items() if times}
    first = told.get(1, 0) / max(1, sum(told.values()))
    before, middle, end = flood.memory_mib
    cpu = f"{flood.service_cpu_s:.1f} s of the service, {flood.generator_cpu_s:.1f} s of the load generator"
    p99 = f"{p99_s(flood.tally):.2f} s, {late:.2f} times that at capacity ({p99_s(peak):.2f} s)"
    obeyed = f"of {sum(told.values())} who waited for Retry-After and were answered, {100 * first:.0f} % were at once"
    return [
        Figure(words=f"CPU: {cpu}"),
        Figure(
            words=f"{flood.answered_a_second:.1f} a second, {kept:.2f} of the peak ({capacity:.1f})",
            well=kept >= LEAST_THROUGHPUT,
        ),
        Figure(words=f"p99 of those answered {p99}", well=late <= MOST_P99),
        Figure(words=obeyed, well=first >= LEAST_FIRST),
        Figure(
            words=f"memory {before:.0f} MiB before, {middle:.0f} in the middle, {end:.0f} at the end",
            well=end <= (1.0 + MOST_MEMORY_GROWTH) * middle,
        ),
        Figure(
            words=f"an answer at the usual speed {flood.recovered_s:.2f} s after the load's end",
            well=flood.recovered_s <= MOST_RECOVERY_S,
        ),
    ]


async def stretch(
    world: World, calls: Iterator[Call], *, seconds: float, callers: int, a_second: float | None = None
) -> Tally:
    """Undisturbed traffic for a while; what was answered after its end is left out."""
    traffic = Traffic(lambda: world.service.port, calls, a_second=a_second)
    async with traffic.callers(callers):
        await asyncio.sleep(seconds)
        answered = len(traffic.tally.answered)
    tally = traffic.tally
    del tally.answered[answered:], tally.latencies_s[answered:], tally.answered_at_s[answered:]
    return tally


async def _recovered_s(world: World, calls: Iterator[Call], ended_s: float, usual: Tally) -> float:
    """How long after the load's end the first of those who come then is answered as soon as at capacity."""
    probe = Traffic(lambda: world.service.port, calls, a_second=PROBES_A_SECOND)
    async with probe.callers(CAPACITY_CALLERS):
        while True:
            await probe.more(1)
            if probe.tally.latencies_s[-1] <= p99_s(usual):
                return probe.tally.answered_at_s[-1] - ended_s


def p99_s(tally: Tally) -> float:
    """The 99th percentile of the time to an answer, seconds."""
    return float(np.percentile(tally.latencies_s, 99))
