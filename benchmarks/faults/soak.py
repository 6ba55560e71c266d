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
from benchmarks.faults.traffic import Tally, Traffic
from benchmarks.faults.verdict import Figure, print_counts, print_figures
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
    memory_mib: list[float] = []
    files: list[int] = []
    started_s = time.monotonic()
    seconds = 60.0 * minutes
    async with traffic.callers(CALLERS):
        for probe in range(1, PROBES + 1):
            await asyncio.sleep(started_s + seconds * probe / PROBES - time.monotonic())
            memory_mib.append(world.service.memory_mib)
            files.append(world.service.open_files)
    what = f"soak, {minutes:g} minutes at {a_second:.1f} calls a second ({100 * LOAD:.0f} %)"
    well = await print_counts(console, world, what, traffic.tally)
    at_s = np.array(traffic.tally.answered_at_s) - started_s
    return print_figures(console, _figures(traffic.tally, at_s, seconds, memory_mib, files)) and well


def _figures(tally: Tally, at_s: np.ndarray, seconds: float, memory_mib: list[float], files: list[int]) -> list[Figure]:
    """The end of the soak against its start."""
    settled = math.ceil(SETTLED * PROBES)
    latencies_s = np.array(tally.latencies_s)
    first = float(np.percentile(latencies_s[at_s <= SETTLED * seconds], 99))
    last = float(np.percentile(latencies_s[at_s > (1.0 - SETTLED) * seconds], 99))
    # The least of each: a process that was just replaced, or a batch on its way, is no growth.
    early, late = min(memory_mib[settled - 1 : 2 * settled]), min(memory_mib[-settled:])
    return [
        Figure(
            words=f"memory {early:.0f} MiB once settled, {late:.0f} at the end: {100 * (late / early - 1):+.1f} %",
            well=late <= (1.0 + MOST_MEMORY_GROWTH) * early,
        ),
        Figure(
            words=f"open files {min(files[settled - 1 :])} to {max(files[settled - 1 :])}",
            well=max(files[-settled:]) <= max(files[settled - 1 : 2 * settled]),
        ),
        Figure(
            words=f"p99 {first:.3f} s at the start, {last:.3f} s at the end: {100 * (last / first - 1):+.0f} %",
            well=last <= (1.0 + MOST_P99_CHANGE) * first,
        ),
    ]
