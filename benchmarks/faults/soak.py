"""A long time at 70 % of what the service can do: memory, open files and latencies at its end against its start."""

import asyncio
import math
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.faults.calls import Call
from benchmarks.faults.overload import CAPACITY_CALLERS, stretch
from benchmarks.faults.traffic import Traffic
from benchmarks.faults.world import World

LOAD = 0.7
CALLERS = 200
#: Of a soak of thirty minutes: memory counts from the fifth on, and latencies of the first and last five are compared.
SETTLED = 5 / 30
CAPACITY_SECONDS = 20.0
PROBES = 60
MOST_MEMORY_GROWTH = 0.03
MOST_P99_CHANGE = 0.2


#: Readings of files are kept for being sent again: with little room for them it is full before memory is looked at.
SETTINGS: dict[str, Any] = {"kept_readings_mib": 4}


async def soak(world: World, calls: Iterator[Call], console: Console, *, minutes: float) -> bool:
    """Offer 70 % of the capacity for so long; whether all is as it should be."""
    await stretch(world, calls, seconds=CAPACITY_SECONDS / 2, callers=CAPACITY_CALLERS)
    peak = await stretch(world, calls, seconds=CAPACITY_SECONDS, callers=CAPACITY_CALLERS)
    a_second = LOAD * len(peak.answered) / CAPACITY_SECONDS
    traffic = Traffic(lambda: world.service.port, calls, a_second=a_second)
    memory_mib, files = [], []
    started_s = time.monotonic()
    seconds = 60.0 * minutes
    async with traffic.callers(CALLERS):
        for probe in range(1, PROBES + 1):
            await asyncio.sleep(started_s + seconds * probe / PROBES - time.monotonic())
            memory_mib.append(world.service.memory_mib)
            files.append(world.service.open_files)
    tally = traffic.tally
    rows = await world.logged_with(tally.answered)
    lost = len(set(tally.answered) - set(rows))
    settled = math.ceil(SETTLED * PROBES)
    at_s = np.array(tally.answered_at_s) - started_s
    latencies_s = np.array(tally.latencies_s)
    first = float(np.percentile(latencies_s[at_s <= SETTLED * seconds], 99))
    last = float(np.percentile(latencies_s[at_s > (1.0 - SETTLED) * seconds], 99))
    # The least of each: a process that was just replaced, or a batch on its way, is no growth.
    early, late = min(memory_mib[settled - 1 : 2 * settled]), min(memory_mib[-settled:])
    results = {
        f"memory {early:.0f} MiB once settled, {late:.0f} at the end: {100 * (late / early - 1):+.1f} %": late
        <= (1.0 + MOST_MEMORY_GROWTH) * early,
        f"open files {min(files[settled - 1 :])} to {max(files[settled - 1 :])}": max(files[-settled:])
        <= max(files[settled - 1 : 2 * settled]),
        f"p99 {first:.3f} s at the start, {last:.3f} s at the end: {100 * (last / first - 1):+.0f} %": last
        <= (1.0 + MOST_P99_CHANGE) * first,
    }
    console.print(
        f"soak, {minutes:g} minutes at {a_second:.1f} calls a second ({100 * LOAD:.0f} %): sent {tally.sent}, answered "
        f"{len(tally.answered)}, refused {tally.refused_count}, unanswered {tally.unanswered}, lost {lost}, "
        f"duplicated {len(rows) - len(set(rows))}, wrong {len(tally.wrong)}"
    )
    for words, well in results.items():
        console.print(f"    {words}", style="" if well else "red")
    for wrong in tally.wrong[:3]:
        console.print(f"    {wrong}", style="red")
    return all(results.values()) and not (lost or tally.unanswered or tally.wrong)
