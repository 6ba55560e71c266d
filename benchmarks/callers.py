"""Many callers at once, none of whom tries again: how many are answered, how many refused, and how late.

Run it with `python -m benchmarks.callers`; `--quick` is a small version. The client is httpx as a script has it, with a
long timeout. Every input differs from all others. The load generator shares the machine's cores. The exit status is 1
where a call was refused or went wrong.
"""

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import httpx
import numpy as np
import uvloop
from rich.console import Console
from rich.table import Table

from app.cores import usable_cores
from benchmarks.faults.calls import PATH, Call, crystal_calls, distinct_calls
from benchmarks.servers import REPOSITORY, ionpath
from benchmarks.throughput import chosen_rows

CALLERS = (1, 4, 8, 16, 32, 64)
BAND_CALLERS = (*CALLERS, 128)
QUICK_CALLERS = (1, 8, 32)
#: Ordered crystals of at most 56 atoms, which are answered in a second or less: of the repository, and of the data set.
EXAMPLES = ("LiCoO2.cif", "LiFePO4.cif")
CRYSTALS = ("4kt.cif", "883.cif", "ecp.cif", "fwz.cif", "p81.cif", "qa9.cif")
ION = "Li"
BANDS = 500
TIMEOUT_S = 600.0
WARM_UP = 16


@dataclass(kw_only=True)
class Tally:
    """What became of the calls of one number of callers.

    Attributes:
        latencies_s: of those answered, seconds.
        refused: 429 and 503.
        other: what else was answered, with its text, and what was not.
        seconds: until the last reply.
    """

    latencies_s: list[float] = field(default_factory=list)
    refused: int = 0
    other: list[str] = field(default_factory=list)
    seconds: float = 0.0


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("IONPATH_DATA_DIR", "../shared/data")))
    parser.add_argument("--calls", type=int, default=256, help="of each number of callers, at most")
    parser.add_argument("--seconds", type=float, default=60.0, help="after which no further call is sent")
    parser.add_argument("--callers", type=int, nargs="*", help="at once, in place of the whole table")
    parser.add_argument("--inputs", choices=("crystals", "bands"), help="one kind alone")
    parser.add_argument("--quick", action="store_true", help="few callers, 32 calls each, 15 s")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.calls, arguments.seconds = 32, 15.0
    console = Console(width=110)
    well = True
    for inputs, calls in kinds(arguments.data):
        if arguments.inputs in {None, inputs}:
            numbers = arguments.callers or (QUICK_CALLERS if arguments.quick else _usual(inputs))
            rows = measured(calls, numbers, most_calls=arguments.calls, seconds=arguments.seconds)
            console.print(table_of(inputs, rows))
            for callers, tally in rows.items():
                for text in tally.other[:3]:
                    console.print(f"{callers} callers: {text}", style="red", markup=False)
            well &= not any(tally.refused or tally.other for tally in rows.values())
    sys.exit(not well)


def _usual(inputs: str) -> Sequence[int]:
    return BAND_CALLERS if inputs == "bands" else CALLERS


def kinds(data: Path) -> Iterator[tuple[str, Iterator[Call]]]:
    """What is sent, by its name: calls without end."""
    files = [REPOSITORY / "examples" / name for name in EXAMPLES] + [data / "cifs" / name for name in CRYSTALS]
    yield "crystals", crystal_calls(files, ION)
    yield "bands", distinct_calls(chosen_rows(data, BANDS), upload_every=0)


def measured(
    calls: Iterator[Call], numbers: Sequence[int], *, most_calls: int, seconds: float, **settings: str
) -> dict[int, Tally]:
    """What a service of its own answers to each number of callers."""
    with ionpath(**settings) as server:
        url = f"http://127.0.0.1:{server.port}"
        uvloop.run(offered(url, list(islice(calls, WARM_UP)), callers=1, seconds=seconds))
        return {
            number: uvloop.run(offered(url, list(islice(calls, most_calls)), callers=number, seconds=seconds))
            for number in numbers
        }


async def offered(url: str, calls: Sequence[Call], *, callers: int, seconds: float) -> Tally:
    """Send every call once, so many at a time, until the time is over."""
    tally, queue, started_s = Tally(), iter(calls), time.monotonic()
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(base_url=url, timeout=TIMEOUT_S, limits=limits) as client:

        async def call_on() -> None:
            for call in queue:
                await _send(client, call, tally)
                if time.monotonic() - started_s > seconds:
                    return

        await asyncio.gather(*(call_on() for _ in range(callers)))
    tally.seconds = time.monotonic() - started_s
    return tally


async def _send(client: httpx.AsyncClient, call: Call, tally: Tally) -> None:
    sent_s = time.monotonic()
    try:
        response = await client.post(PATH, content=call.body, headers={"Content-Type": call.content_type})
    except httpx.HTTPError as error:
        tally.other.append(repr(error))
        return
    if response.status_code == httpx.codes.OK:
        tally.latencies_s.append(time.monotonic() - sent_s)
    elif response.status_code in {httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE}:
        tally.refused += 1
    else:
        tally.other.append(f"{response.status_code}: {response.text[:300]}")


def table_of(inputs: str, rows: dict[int, Tally]) -> Table:
    """A line for each number of callers."""
    table = Table(title=f"{inputs}, each once, no retries, {usable_cores()} cores")
    for heading in ("callers", "answered", "refused", "other", "answered a second", "p50 s", "p95 s"):
        table.add_column(heading, justify="right")
    for callers, tally in rows.items():
        answered = len(tally.latencies_s)
        late = np.percentile(tally.latencies_s, (50, 95)) if answered else ()
        table.add_row(
            str(callers),
            str(answered),
            str(tally.refused),
            str(len(tally.other)),
            f"{answered / tally.seconds:.2f}",
            *(f"{value:.2f}" for value in late),
        )
    return table


if __name__ == "__main__":
    main()
