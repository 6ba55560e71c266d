"""Three times as many calls as the service can answer: what it answers, how late, whom it refuses, how it recovers."""

import asyncio
import time
from collections.abc import Iterator
from itertools import islice

import numpy as np
from rich.console import Console

from benchmarks.faults.calls import Call
from benchmarks.faults.traffic import Tally, Traffic
from benchmarks.faults.world import World
from benchmarks.servers import cpu_seconds

#: Keeps the model as busy as it can be without anybody's being refused.
CAPACITY_CALLERS = 48
#: Of the flood: each has one call at a time, so there must be enough for the time that the accepted wait.
FLOOD_CALLERS = 300
TIMES_CAPACITY = 3.0
#: Who come after it.
PROBES_A_SECOND = 5.0
#: Asked for: throughput of at least this share of the peak, a p99 of at most so many times its value at capacity, and
#: an answer at the usual speed so soon after the load's end.
LEAST_THROUGHPUT = 0.9
MOST_P99 = 2.0
MOST_RECOVERY_S = 2.0
MOST_MEMORY_GROWTH = 0.03


async def overload(world: World, calls: Iterator[Call], console: Console, *, seconds: float) -> bool:
    """Measure capacity, then offer three times as much; whether all is as it should be."""
    warm = await stretch(world, calls, seconds=seconds / 2, callers=CAPACITY_CALLERS)
    # Made before they are sent: what the generator computes meanwhile, the service does not.
    some = list(islice(calls, int(4 * TIMES_CAPACITY * max(50, len(warm.answered) / seconds * 2) * seconds / 2)))
    calls = iter(some)
    peak = await stretch(world, calls, seconds=seconds, callers=CAPACITY_CALLERS)
    capacity = len(peak.answered) / seconds
    before_mib = world.service.memory_mib
    growth_from_s = time.monotonic() + seconds / 2
    spent_s, generator_s = cpu_seconds(world.service.pid), time.process_time()
    flood = Traffic(lambda: world.service.port, calls, a_second=TIMES_CAPACITY * capacity)
    async with flood.callers(FLOOD_CALLERS):
        await asyncio.sleep(growth_from_s - time.monotonic())
        middle_mib = world.service.memory_mib
        await asyncio.sleep(seconds / 2)
        answered = len(flood.tally.answered)
        ended_s = time.monotonic()
        end_mib = world.service.memory_mib
        spent_s, generator_s = cpu_seconds(world.service.pid) - spent_s, time.process_time() - generator_s
        recovered_s = asyncio.create_task(_recovered_s(world, calls, ended_s, peak))
    tally, throughput = flood.tally, answered / seconds
    rows = await world.logged_with(tally.answered)
    lost = len(set(tally.answered) - set(rows))
    told = {times: count for times, count in sorted(tally.obeyed.items()) if times}
    first = told.get(1, 0) / max(1, sum(told.values()))
    results = {
        f"{throughput:.1f} a second, {throughput / capacity:.2f} of the peak ({capacity:.1f})": throughput
        >= LEAST_THROUGHPUT * capacity,
        f"p99 of those answered {p99_s(tally):.2f} s, {p99_s(tally) / p99_s(peak):.2f} times that at capacity "
        f"({p99_s(peak):.2f} s)": p99_s(tally) <= MOST_P99 * p99_s(peak),
        f"of {sum(told.values())} who waited for Retry-After and were answered, {100 * first:.0f} % were at once": first
        >= LEAST_THROUGHPUT,
        f"memory {before_mib:.0f} MiB before, {middle_mib:.0f} in the middle, {end_mib:.0f} at the end": end_mib
        <= (1.0 + MOST_MEMORY_GROWTH) * middle_mib,
        f"an answer at the usual speed {await recovered_s:.2f} s after the load's end": await recovered_s
        <= MOST_RECOVERY_S,
    }
    console.print(
        f"overload, {TIMES_CAPACITY:g} times capacity for {seconds:g} s: sent {tally.sent}, answered "
        f"{len(tally.answered)}, refused {tally.refused_count}, unanswered {tally.unanswered}, lost {lost}, "
        f"duplicated {len(rows) - len(set(rows))}, wrong {len(tally.wrong)}"
    )
    console.print(f"    CPU: {spent_s:.1f} s of the service, {generator_s:.1f} s of the load generator")
    for words, well in results.items():
        console.print(f"    {words}", style="" if well else "red")
    for wrong in tally.wrong[:3]:
        console.print(f"    {wrong}", style="red")
    return all(results.values()) and not (lost or tally.unanswered or tally.wrong)


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
