"""A screening measured: crystals a second, memory of all its processes, and what comes of killing it.

    python -m benchmarks.screening ../shared/data/screening/crystals.tar.xz --count 2000
    python -m benchmarks.screening CRYSTALS --count 300 --kills 3
    python -m benchmarks.screening CRYSTALS --count 100 --nodes 3

The first prints the rate and the highest memory up to a tenth, then to a half and to the whole. `--kills` has the same
screened twice, once undisturbed and once killed by SIGKILL so many times, and compares every row. `--nodes` screens on
so many nodes of `ray.cluster_utils`, of which one is killed in the middle.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil

IONS = "Li,Na,K,Mg,Ca,Zn"
#: Beyond the decimals that are written, answers depend on what was predicted beside them.
SAME = 1e-5


@dataclass(frozen=True, kw_only=True)
class Sample:
    """How far a screening was, and what it took.

    Attributes:
        memory_mib: of all its processes, shared pages counted once (PSS).
        largest_mib: of the largest of them.
    """

    seconds: float
    done: int
    memory_mib: int
    largest_mib: int


def command(crystals: str, output: Path, count: int, *words: str) -> list[str]:
    """The command line of a screening of a seeded choice."""
    ionpath = str(Path(sys.executable).parent / "ionpath")
    chosen = ["--limit", str(count), "--shuffle", "7", "--ion", IONS, "--only-present", "--save-every-s", "5"]
    return [ionpath, "screen", crystals, "--output", str(output), *chosen, *words]


def done_in(output: Path) -> int:
    """Inputs whose rows are written."""
    with contextlib.suppress(OSError, ValueError):
        return int(json.loads((output / "run.json").read_text()).get("counts", {}).get("inputs_done", 0))
    return 0


def sampled(words: Sequence[str], output: Path, every_s: float = 2.0) -> Iterator[Sample]:
    """Run a screening to its end, and look at it now and then, and at what is done once more at the end."""
    started_s = time.monotonic()
    last = Sample(seconds=0.0, done=0, memory_mib=0, largest_mib=0)
    process = subprocess.Popen(words, stderr=subprocess.DEVNULL)
    try:
        while process.poll() is None:
            sizes = list(_sizes(psutil.Process(process.pid)))
            last = Sample(
                seconds=time.monotonic() - started_s,
                done=done_in(output),
                memory_mib=sum(sizes),
                largest_mib=max(sizes, default=0),
            )
            yield last
            time.sleep(every_s)
    finally:
        process.terminate()
        process.wait()
    assert process.returncode == 0, process.returncode
    yield replace(last, seconds=time.monotonic() - started_s, done=done_in(output))


def _sizes(process: psutil.Process) -> Iterator[int]:
    with contextlib.suppress(psutil.Error):
        for one in [process, *process.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                yield one.memory_full_info().pss >> 20


def measure(crystals: str, folder: Path, count: int, workers: int) -> None:
    """Print the rate, and the highest memory up to a tenth, from there to a half, and from there to the whole."""
    output = folder / "measured"
    samples = list(sampled(command(crystals, output, count, "--workers", str(workers)), output))
    first = next((one for one in samples if one.done), samples[-1])
    between_s = samples[-1].seconds - first.seconds
    rate = f"{(count - first.done) / between_s:.1f}" if count > first.done and between_s else "too few to say how many"
    rows = pd.read_parquet(output / "crystals.parquet")
    failures = pd.read_parquet(output / "failures.parquet")
    print(f"{count} crystals, {workers} workers: {rate} a second, first rows after {first.seconds:.0f} s")
    print(
        f"CPU time of a row of {len(rows)}: mean {rows.seconds.mean():.3f} s, 99 % {rows.seconds.quantile(0.99):.2f} s"
    )
    print(f"failures: {len(failures)} ({', '.join(f'{k} {n}' for k, n in failures.kind.value_counts().items())})")
    print(
        "| crystals done | seconds | memory of all processes, MiB: highest since | of the largest |\n|---|---|---|---|"
    )
    for at in highest_of_parts(samples, count):
        print(f"| {at.done} | {at.seconds:.0f} | {at.memory_mib} | {at.largest_mib} |")


def highest_of_parts(samples: Sequence[Sample], count: int) -> Iterator[Sample]:
    """Where a tenth, a half and the whole are done, with the highest memory since the one before.

    Where one sample passes two of them, as in a short run, it is there once.
    """
    start = 0
    for share in (0.1, 0.5, 1.0):
        end = next((place for place, one in enumerate(samples) if one.done >= share * count), len(samples) - 1) + 1
        if part := samples[start:end]:
            yield replace(
                part[-1],
                memory_mib=max(one.memory_mib for one in part),
                largest_mib=max(one.largest_mib for one in part),
            )
        start = max(start, end)


def kill(crystals: str, folder: Path, count: int, workers: int, times: int) -> None:
    """Print whether a screening that was killed has the rows of one that was not."""
    undisturbed, killed = folder / "undisturbed", folder / "killed"
    words = ("--workers", str(workers))
    subprocess.run(command(crystals, undisturbed, count, *words), check=True)
    for number in range(times):
        before = done_in(killed)
        process = subprocess.Popen(command(crystals, killed, count, *words), stderr=subprocess.DEVNULL)
        wanted = max(before + 1, count * (number + 1) // (times + 2))
        while done_in(killed) < wanted and process.poll() is None:
            time.sleep(0.2)
        process.send_signal(signal.SIGKILL)
        process.wait()
        print(f"killed at {done_in(killed)} of {count}")
    subprocess.run(command(crystals, killed, count, *words), check=True)
    compare(undisturbed, killed)


def compare(undisturbed: Path, other: Path) -> None:
    """Print how many rows two screenings have, and the largest difference."""
    for name, key in (("crystals", ["id", "ion"]), ("hops", ["id", "ion", "hop"]), ("failures", ["id", "kind"])):
        ours, theirs = (
            pd.read_parquet(one / f"{name}.parquet").sort_values(key).drop(columns="seconds", errors="ignore")
            for one in (undisturbed, other)
        )
        assert not theirs.duplicated(key).any(), name
        assert len(ours) == len(theirs), (name, len(ours), len(theirs))
        largest, texts = 0.0, 0
        for column in ours.columns:
            for one, two in zip(ours[column], theirs[column], strict=True):
                if isinstance(one, float) and isinstance(two, float):
                    assert np.isnan(one) == np.isnan(two), (name, column)
                    largest = max(largest, 0.0 if np.isnan(one) else abs(one - two))
                else:
                    texts += _plain(one) != _plain(two)
        print(f"{name}: {len(ours)} rows, each once; largest difference {largest:.1e}, {texts} other cells differ")
        assert largest <= SAME, name


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | list):
        return [_plain(one) for one in value]
    return None if value is None or value is pd.NA else value


def nodes(crystals: str, folder: Path, count: int, number: int) -> None:
    """Print what comes of a screening on several nodes of which one is killed."""
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
    from ray.cluster_utils import Cluster  # noqa: PLC0415 # Ray reads the environment when it is imported

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        others = [cluster.add_node(num_cpus=1) for _ in range(number - 1)]
        output = folder / "nodes"
        process = subprocess.Popen(command(crystals, output, count, "--ray-address", cluster.address))
        while done_in(output) < count // 3 and process.poll() is None:
            time.sleep(0.2)
        print(f"{number} nodes; one killed at {done_in(output)} of {count}")
        cluster.remove_node(others[-1], allow_graceful=False)
        status = process.wait()
        rows = pd.read_parquet(output / "crystals.parquet")
        failures = pd.read_parquet(output / "failures.parquet")
        ids = pd.concat([rows.input, failures.input]).unique()
        print(
            f"exit status {status}; {len(ids)} inputs of {count}, {len(rows)} rows, {len(failures)} failures, "
            f"{int(rows.duplicated(['id', 'ion']).sum())} twice"
        )
    finally:
        cluster.shutdown()  # type: ignore[no-untyped-call] # it has no annotations


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("crystals", help="INPUT of ionpath screen")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--nodes", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="keeps the tables; a temporary folder if left out")
    asked = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = asked.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if asked.nodes:
            nodes(asked.crystals, folder, asked.count, asked.nodes)
        elif asked.kills:
            kill(asked.crystals, folder, asked.count, asked.workers, asked.kills)
        else:
            measure(asked.crystals, folder, asked.count, asked.workers)


if __name__ == "__main__":
    main()
