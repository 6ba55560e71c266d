"""Three times as many calls as the service can answer, some of them slow: what it answers, how late, what it refuses.

The load is an open loop: calls come at their times whatever becomes of those before, and none is sent again.
"""

import asyncio
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
from rich.console import Console

from benchmarks.faults.calls import BAND, Call, crystal_calls, mixed
from benchmarks.faults.traffic import Tally, Traffic
from benchmarks.faults.verdict import Figure, print_counts, print_figures
from benchmarks.faults.world import World
from benchmarks.servers import cpu_seconds

#: Keeps the model as busy as it can be.
CAPACITY_CALLERS = 48
TIMES_CAPACITY = 3.0
#: Disordered crystals, which take seconds each.
SLOW_FILES = ("7ek.cif", "2wb.cif")
SLOW_ION = "Li"
#: What each takes alone is the longest of so many times.
BANDS_ALONE, SLOW_ALONE = 40, 4
#: Calls are made beforehand for as many a second, where the warm stretch was slower.
MOST_A_SECOND_AT_FIRST = 30.0
#: After the load's end bands come at this rate, until one is answered at the usual speed.
PROBES_A_SECOND, PROBING_CALLERS = 5.0, 10
MOST_PROBES = 1_000
MEMORY_EVERY_S = 2.0
#: Asked for. Throughput as a share of the peak; accepted work begins at most so long after the setting's bound, and
#: takes no longer than alone from then on, a slow crystal no longer than twice that: others use the cores as well.
LEAST_THROUGHPUT = 0.9
BEGINS_LATER_S = 2.0
SHARED_CORES = 2.0
MOST_REFUSAL_S = 1.0
MOST_RECOVERY_S = 2.0
MOST_MEMORY_GROWTH = 0.03


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is offered.

    Attributes:
        seconds: of the measured stretches at capacity and above it.
        max_wait_s: the service's bound on waiting work.
        slow_every: one call in so many is a slow crystal.
    """

    seconds: float
    max_wait_s: float
    slow_every: int


@dataclass(kw_only=True)
class _Flood:
    """What three times the capacity came to.

    Attributes:
        while_it_lasted: calls that were answered before its end, by name.
        memory_mib: every two seconds.
        service_cpu_s, generator_cpu_s: while it lasted.
        accepted_after_s: from its end to the first call afterwards that was not refused.
        drained_s: from its end to the last answer of what it left waiting.
        usual_after_s: from then to the first answer at the usual speed.
    """

    tally: Tally = field(default_factory=Tally)
    while_it_lasted: list[str] = field(default_factory=list)
    memory_mib: list[float] = field(default_factory=list)
    service_cpu_s: float = 0.0
    generator_cpu_s: float = 0.0
    accepted_after_s: float = math.inf
    drained_s: float = math.inf
    usual_after_s: float = math.inf


def slow_calls(data: Path) -> Iterator[Call]:
    """Crystals that take seconds, without end."""
    return crystal_calls([data / "cifs" / name for name in SLOW_FILES], SLOW_ION)


async def overload(world: World, bands: Iterator[Call], slow: Iterator[Call], console: Console, plan: Plan) -> bool:
    """Measure what each call takes alone and what the service can do, then offer three times as much."""
    alone_s = await _alone_s(world, bands, slow)
    calls = mixed(bands, slow, every=plan.slow_every)
    warm = await stretch(world, calls, seconds=plan.seconds / 2, callers=CAPACITY_CALLERS)
    # Made before they are sent: what the generator computes meanwhile, the service does not.
    a_second = max(MOST_A_SECOND_AT_FIRST, 4 * len(warm.answered) / plan.seconds)
    calls = iter(list(islice(calls, int(2 * TIMES_CAPACITY * a_second * plan.seconds))))
    probes = list(islice(bands, MOST_PROBES))
    peak = await stretch(world, calls, seconds=plan.seconds, callers=CAPACITY_CALLERS)
    capacity = len(peak.answered) / plan.seconds
    flood = await _flooded(world, calls, iter(probes), plan, capacity=capacity, usual_s=alone_s[BAND])
    share = f"one call in {plan.slow_every} a slow crystal"
    what = f"overload, {TIMES_CAPACITY:g} times capacity for {plan.seconds:g} s, {share}"
    well = await print_counts(console, world, what, flood.tally)
    return print_figures(console, _figures(peak, flood, plan, alone_s)) and well


async def _alone_s(world: World, bands: Iterator[Call], slow: Iterator[Call]) -> dict[str, float]:
    """What a call takes where nothing else is asked, by its name: the longest of some, seconds."""
    calls = [*islice(bands, BANDS_ALONE), *islice(slow, SLOW_ALONE * len(SLOW_FILES))]
    traffic = Traffic(lambda: world.service.port, iter(calls))
    async with traffic.callers(1):
        await traffic.more(len(calls))
    by_name: dict[str, list[float]] = {}
    for name, latency_s in zip(traffic.tally.names, traffic.tally.latencies_s, strict=True):
        by_name.setdefault(name, []).append(latency_s)
    # The first of each loads and fills tables.
    return {name: max(latencies_s[1:]) for name, latencies_s in by_name.items()}


async def _flooded(
    world: World, calls: Iterator[Call], probes: Iterator[Call], plan: Plan, *, capacity: float, usual_s: float
) -> _Flood:
    """Offer three times as many calls as can be answered a second, and see how the service is afterwards."""
    found = _Flood()
    service_s, generator_s = cpu_seconds(world.service.pid), time.process_time()
    flood = Traffic(lambda: world.service.port, calls, a_second=TIMES_CAPACITY * capacity)
    found.tally = flood.tally
    # Enough for all that may wait and be worked on, and for the refused beside them.
    callers = math.ceil(3 * capacity * (plan.max_wait_s + BEGINS_LATER_S)) + CAPACITY_CALLERS
    async with flood.callers(callers):
        ends_s = time.monotonic() + plan.seconds
        while time.monotonic() < ends_s:
            found.memory_mib.append(world.service.memory_mib)
            await asyncio.sleep(min(MEMORY_EVERY_S, max(0.0, ends_s - time.monotonic())))
        found.while_it_lasted = list(flood.tally.names)
        found.service_cpu_s = cpu_seconds(world.service.pid) - service_s
        found.generator_cpu_s = time.process_time() - generator_s
        accepting = asyncio.create_task(_accepted_after_s(world, probes, ends_s))
    found.drained_s = time.monotonic() - ends_s
    found.accepted_after_s = await accepting
    found.usual_after_s = await _usual_after_s(world, probes, time.monotonic(), usual_s)
    return found


async def _accepted_after_s(world: World, probes: Iterator[Call], ended_s: float) -> float:
    """How long after the load's end the first call is sent that is not refused."""
    probe = Traffic(lambda: world.service.port, probes, a_second=PROBES_A_SECOND)
    async with probe.callers(PROBING_CALLERS):
        await probe.more(1)
    sent_s = [at_s - late_s for at_s, late_s in zip(probe.tally.answered_at_s, probe.tally.latencies_s, strict=True)]
    return min(sent_s) - ended_s


async def _usual_after_s(world: World, probes: Iterator[Call], drained_s: float, usual_s: float) -> float:
    """How long after the last answer to the load the first band is answered as soon as alone."""
    probe = Traffic(lambda: world.service.port, probes, a_second=PROBES_A_SECOND)
    async with probe.callers(PROBING_CALLERS):
        while True:
            await probe.more(1)
            if probe.tally.latencies_s[-1] <= usual_s:
                return probe.tally.answered_at_s[-1] - drained_s


def _figures(peak: Tally, flood: _Flood, plan: Plan, alone_s: dict[str, float]) -> list[Figure]:
    cpu = f"{flood.service_cpu_s:.1f} s of the service, {flood.generator_cpu_s:.1f} s of the load generator"
    return [
        Figure(words="alone: " + ", ".join(f"{name} {seconds:.2f} s" for name, seconds in alone_s.items())),
        Figure(words=f"CPU: {cpu}"),
        _throughput(peak, flood, plan, alone_s),
        *_latenesses(flood.tally, plan, alone_s),
        _refusals(flood.tally),
        _memory(flood.memory_mib),
        Figure(
            words=f"a call is accepted {flood.accepted_after_s:.2f} s after the load's end",
            well=flood.accepted_after_s <= MOST_RECOVERY_S,
        ),
        Figure(
            words=f"what waited is answered {flood.drained_s:.1f} s after the load's end, and a band as soon as alone "
            f"{flood.usual_after_s:.2f} s later",
            well=flood.usual_after_s <= MOST_RECOVERY_S,
        ),
    ]


def _throughput(peak: Tally, flood: _Flood, plan: Plan, alone_s: dict[str, float]) -> Figure:
    """By the time that calls take alone: of slow ones others may be refused than of quick ones."""
    calls = [len(names) / plan.seconds for names in (peak.names, flood.while_it_lasted)]
    work = [sum(alone_s[name] for name in names) / plan.seconds for names in (peak.names, flood.while_it_lasted)]
    kept = work[1] / work[0]
    words = (
        f"{work[1]:.2f} seconds of work alone a second, {kept:.2f} of the peak ({work[0]:.2f}); "
        f"{calls[1]:.1f} calls a second against {calls[0]:.1f}"
    )
    return Figure(words=words, well=kept >= LEAST_THROUGHPUT)


def _latenesses(tally: Tally, plan: Plan, alone_s: dict[str, float]) -> Iterator[Figure]:
    """How late the accepted begin, and how long they then take, by name."""
    latencies_s, waits_s = np.array(tally.latencies_s), np.array(tally.waits_s)
    names = np.array(tally.names)
    for name, own_s in alone_s.items():
        begun, late = waits_s[names == name], latencies_s[names == name]
        if not len(late):
            yield Figure(words=f"{name}: none was accepted", well=False)
            continue
        columns = (
            (begun, "begun", plan.max_wait_s + BEGINS_LATER_S),
            (late - begun, "finished after another", own_s * (1.0 if name == BAND else SHARED_CORES)),
        )
        for seconds, what, allowed_s in columns:
            p50, p99, most = np.percentile(seconds, (50, 99, 100))
            words = (
                f"{name}: {len(seconds)} accepted, {what} {p50:.2f} s (p50), {p99:.2f} s (p99), {most:.2f} s at most"
            )
            yield Figure(words=f"{words}; allowed: {allowed_s:.1f} s", well=most <= allowed_s)


def _refusals(tally: Tally) -> Figure:
    if not tally.refusals_s:
        return Figure(words="none was refused: three times the capacity was not reached", well=False)
    p50, p99 = np.percentile(tally.refusals_s, (50, 99))
    return Figure(
        words=f"{tally.refused_count} refused, after {p50:.3f} s (p50), {p99:.3f} s (p99)", well=p99 <= MOST_REFUSAL_S
    )


def _memory(memory_mib: list[float]) -> Figure:
    """The last quarter against the one before: by the middle as much waits as ever will."""
    quarter = max(1, len(memory_mib) // 4)
    before, last = max(memory_mib[-2 * quarter : -quarter] or memory_mib), max(memory_mib[-quarter:])
    shown = " ".join(f"{value:.0f}" for value in memory_mib)
    words = f"memory of all processes, MiB, every {MEMORY_EVERY_S:g} s: {shown}"
    return Figure(words=words, well=last <= (1.0 + MOST_MEMORY_GROWTH) * before)


async def stretch(
    world: World, calls: Iterator[Call], *, seconds: float, callers: int, a_second: float | None = None
) -> Tally:
    """Undisturbed traffic for a while; what was answered after its end is left out."""
    traffic = Traffic(lambda: world.service.port, calls, a_second=a_second)
    async with traffic.callers(callers):
        await asyncio.sleep(seconds)
        answered = len(traffic.tally.answered)
    tally = traffic.tally
    for column in (tally.answered, tally.names, tally.latencies_s, tally.waits_s, tally.answered_at_s):
        del column[answered:]
    return tally
