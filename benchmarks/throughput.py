"""Served throughput and latency against bare loops and a naive route, in one run on one machine.

Run it with `make bench`. Inputs are distinct bands of the data set, the cache is off but in the last row, and the load
generator shares the machine's cores; its CPU time and the server's are printed. A bare loop has no generator, so its
ratio to the service is printed twice: as it is, and with the generator's CPU time added to each of the loop's bands.
"""

import argparse
import contextlib
import gzip
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from app.cores import usable_cores
from benchmarks.load import LoadResult, body_of
from benchmarks.load import offer as offer_to_port
from benchmarks.servers import REPOSITORY, Server, cpu_seconds, ionpath, quiet, running
from benchmarks.stores import free_port

CONCURRENCIES = (1, 8, 32, 128)
LITSERVE_GRID = ((2, 0), (8, 2), (32, 5))  # largest batch, wait in milliseconds
STORE = REPOSITORY / "model_store"
PATH = "/predict/barrier"
#: Enough to time stages by.
STAGED_BANDS = 160


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("IONPATH_DATA_DIR", "../shared/data")))
    parser.add_argument("--bands", type=int, default=500, help="distinct bands of each measurement")
    parser.add_argument("--rounds", type=int, default=3, help="repetitions; the medians are printed")
    parser.add_argument("--model", default="default", help="the checkpoint that answers, in every row of the table")
    arguments = parser.parse_args()
    model: str = arguments.model
    rows = chosen_rows(arguments.data, arguments.bands)
    bodies = [body_of(row) for row in rows]
    bare: list[dict[str, float]] = []
    naive: list[LoadResult] = []
    litserve: dict[tuple[int, int], list[LoadResult]] = {setting: [] for setting in LITSERVE_GRID}
    served: dict[int, list[LoadResult]] = {concurrency: [] for concurrency in CONCURRENCIES}
    cached: list[LoadResult] = []
    for _ in range(arguments.rounds):  # interleaved, so that a busy neighbour disturbs all alike
        bare.append(bare_loops(rows, model))
        with naive_service(model) as server:
            offer(server, PATH, bodies[:32], concurrency=8)
            naive.append(offer(server, PATH, bodies, concurrency=32))
        for setting in LITSERVE_GRID:
            with litserve_service(model, *setting) as server:
                offer(server, PATH, bodies[:32], concurrency=8)
                litserve[setting].append(offer(server, PATH, bodies, concurrency=32))
        with ionpath(IONPATH_CACHE="off", IONPATH_DEFAULT_MODEL=model) as server:
            offer(server, PATH, bodies[:32], concurrency=8)
            for concurrency in CONCURRENCIES:
                served[concurrency].append(offer(server, PATH, bodies, concurrency=concurrency))
        with ionpath(IONPATH_DEFAULT_MODEL=model) as server:
            offer(server, PATH, bodies, concurrency=32)
            cached.append(offer(server, PATH, bodies, concurrency=1))
    rows_of = {"naive FastAPI route, 32 at once": naive}
    rows_of |= {f"LitServe, batch {size}, wait {wait} ms, 32 at once": litserve[size, wait] for size, wait in litserve}
    report(model, bare, rows_of, served, cached)
    report_stages(in_a_process("benchmarks.stages", rows[:STAGED_BANDS], model), served[32])


def chosen_rows(data: Path, count: int) -> list[dict[str, Any]]:
    """A seeded choice of the data set's bands."""
    with gzip.open(data / "barriers" / "bands.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [row for row in map(json.loads, lines) if row["sound"]]
    order = np.random.default_rng(0).permutation(len(rows))
    return [rows[number] for number in order[:count]]


def bare_loops(rows: list[dict[str, Any]], model: str) -> dict[str, float]:
    """Bands a second of the loops."""
    rates: dict[str, float] = in_a_process("benchmarks.bare_loop", rows, model)
    return rates


def in_a_process(module: str, rows: list[dict[str, Any]], model: str) -> Any:
    """What a module prints as JSON, given the rows."""
    lines = "\n".join(json.dumps(row) for row in rows)
    done = subprocess.run(
        [sys.executable, "-m", module, model],
        input=lines,
        text=True,
        capture_output=True,
        check=True,
        env=quiet(),
    )
    return json.loads(done.stdout)


def offer(server: Server, path: str, bodies: list[bytes], *, concurrency: int) -> LoadResult:
    """Send every body once and take the server's CPU time with it."""
    before = cpu_seconds(server.pid)
    result = offer_to_port(server.port, path, bodies, concurrency=concurrency)
    return replace(result, server_cpu_s=cpu_seconds(server.pid) - before)


@contextlib.contextmanager
def naive_service(model: str) -> Iterator[Server]:
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.naive_service", str(port), model]
    with running(command, {}, f"http://127.0.0.1:{port}/docs") as pid:
        yield Server(port=port, pid=pid)


@contextlib.contextmanager
def litserve_service(model: str, batch_size: int, wait_ms: int) -> Iterator[Server]:
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.litserve_service", str(port), model, str(batch_size), str(wait_ms)]
    with running(command, {}, f"http://127.0.0.1:{port}/health") as pid:
        yield Server(port=port, pid=pid)


def report(
    model: str,
    bare: list[dict[str, float]],
    others: dict[str, list[LoadResult]],
    served: dict[int, list[LoadResult]],
    cached: list[LoadResult],
) -> None:
    """Print the rates and latencies of every row, and the service's as ratios to the others'."""
    table = Table(title=f"{model}: medians of {len(bare)} interleaved rounds, {usable_cores()} cores")
    for heading in ("", "bands/s", "p50 ms", "p95 ms", "p99 ms", "server CPU, ms", "generator CPU, ms"):
        table.add_column(heading, justify="left" if not heading else "right")
    rates = {f"bare loop, {name}": float(np.median([one[name] for one in bare])) for name in bare[0]}
    for name, rate in rates.items():
        table.add_row(name, f"{rate:.1f}", f"{1000 / rate:.1f}" if "one by one" in name else "", *[""] * 4)
    rows = dict(others)
    rows |= {f"ionpath, {concurrency} at once": results for concurrency, results in served.items()}
    rows["ionpath, cached, 1 at once"] = cached
    for name, results in rows.items():
        table.add_row(name, *[f"{value:.1f}" for value in medians(results)])
    console = Console(width=110)
    console.print(table)
    best = max(rates.values())
    at_32, *_, generator_ms = medians(served[32])
    with_generator = 1.0 / (1.0 / best + 1e-3 * generator_ms)
    console.print(
        f"ionpath at 32 at once: {at_32 / best:.2f} of the better bare loop; {at_32 / with_generator:.2f} where the "
        "loop pays for the generator's CPU too"
    )
    for name, results in others.items():
        console.print(f"    {at_32 / medians(results)[0]:.2f} of {name}")
    alone_ms = float(np.median([result.latencies_ms.mean() for result in served[1]]))
    single_ms = 1000 / next(rate for name, rate in rates.items() if "one by one" in name)
    of_single = f"{alone_ms / single_ms:.2f} of the bare single prediction ({single_ms:.1f} ms)"
    console.print(f"one caller, mean: {alone_ms:.1f} ms, {of_single}")
    console.print(f"cached answer, median: {medians(cached)[1]:.1f} ms")


def report_stages(measured: dict[str, dict[str, float]], at_32: list[LoadResult]) -> None:
    """Where the CPU time of a band goes, and how far from a floor it is."""
    table = Table(title="CPU of one band, milliseconds")
    table.add_column("")
    table.add_column("ms", justify="right")
    stages, least = measured["stages_ms"], measured["floor"]
    rate, *_, server_ms, generator_ms = medians(at_32)
    rows = stages | {"all stages": sum(stages.values())}
    rows |= {"HTTP, batching, log and waiting for each other: the rest": server_ms - sum(stages.values())}
    rows |= {"server, 32 at once": server_ms, "load generator": generator_ms}
    for name, value in rows.items():
        table.add_row(name, f"{value:.2f}")
    console = Console(width=110)
    console.print(table)
    cores = usable_cores()
    console.print(
        f"{server_ms + generator_ms:.1f} ms of CPU a band keep {cores} cores busy at "
        f"{1e3 * cores / (server_ms + generator_ms):.1f} bands/s; measured {rate:.1f}"
    )
    console.print(
        f"floor of the forward pass: {least['operations_per_band'] / 1e6:.0f} million operations in matrix products "
        f"at {least['operations_per_s'] / 1e9:.0f} billion a second and core: {least['ms_per_band']:.1f} ms a band"
    )


def medians(results: list[LoadResult]) -> list[float]:
    """Of rate, p50, p95, p99, and the server's and the generator's CPU milliseconds a band."""
    columns = [
        [
            result.per_second,
            *[result.latency_ms(q) for q in (50, 95, 99)],
            *[1e3 * seconds / result.requests for seconds in (result.server_cpu_s, result.cpu_s)],
        ]
        for result in results
    ]
    return [float(value) for value in np.median(columns, axis=0)]
