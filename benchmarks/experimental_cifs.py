"""What a running service says of experimental crystals: answered or refused, how fast, and how bond valence sees them.

Run it with `python -m benchmarks.experimental_cifs`. It sends the forty CIFs of the data set, which seven times in ten
are disordered, and every CIF that an installed package ships, one after the other with the cache off.
"""

import argparse
import json
import math
import os
import re
import sysconfig
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.stats import spearmanr

from app.cores import usable_cores
from app.crystals.sites.ion_sites import USUAL_IONS
from benchmarks.servers import ionpath

LONGEST_S = 60.0
LEAST_ANSWERED = 32
TIMEOUT_S = 300.0
DIMENSIONS = ("1d", "2d", "3d")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one file; barriers in eV, None where nothing connects."""

    file: str
    published: bool
    ion: str
    status: int
    seconds: float
    problem: str
    formula: str
    method: str
    percolation_ev: dict[str, float | None]
    bond_valence_ev: dict[str, float | None] | None
    in_domain: bool | None


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("IONPATH_DATA_DIR", "../shared/data")))
    parser.add_argument("--second-opinion", action="store_true", help="ask bond valence as well, and compare")
    parser.add_argument("--json", type=Path, help="write the outcomes here, one a line")
    arguments = parser.parse_args()
    published = sorted((arguments.data / "cifs").glob("*.cif"))
    shipped = sorted(Path(sysconfig.get_paths()["purelib"]).rglob("*.cif"))
    query = {"second_opinion": "bvse"} if arguments.second_opinion else {}
    with (
        ionpath(IONPATH_CACHE="off") as server,
        httpx.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=TIMEOUT_S) as client,
    ):
        outcomes = [send(client, path, "Li", query, published=True) for path in published]
        outcomes += [send(client, path, ion, query, published=False) for path, ion in with_ions(shipped)]
    if arguments.json:
        arguments.json.write_text("".join(json.dumps(asdict(one)) + "\n" for one in outcomes))
    report(outcomes)


def with_ions(paths: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    """Each file with the first of the usual ions that its text names, lithium where it names none."""
    for path in paths:
        words = set(re.findall(r"\b[A-Z][a-z]?(?=\d|\b)", path.read_text(encoding="utf-8", errors="replace")))
        yield path, next((ion for ion in USUAL_IONS if ion in words), "Li")


def send(client: httpx.Client, path: Path, ion: str, query: dict[str, str], *, published: bool) -> Outcome:
    """Ask the service about one file, and keep how it answered."""
    begun = time.monotonic()
    files = {"structure": (path.name, path.read_bytes())}
    response = client.post("/predict/barrier", params=query, files=files, data={"ion": ion})
    seconds = time.monotonic() - begun
    body: dict[str, Any] = response.json()
    opinion = body.get("second_opinion")
    return Outcome(
        file=path.name,
        published=published,
        ion=ion,
        status=response.status_code,
        seconds=seconds,
        problem="" if response.is_success else f"{body['kind']}: {body['detail']}",
        formula=body.get("formula", ""),
        method=_method(body),
        percolation_ev=body.get("percolation_ev") or dict.fromkeys(DIMENSIONS),
        bond_valence_ev=opinion["percolation_ev"] if opinion and opinion["answered"] else None,
        in_domain=(body.get("in_domain") or {}).get("verdict"),
    )


def _method(body: dict[str, Any]) -> str:
    disorder = body.get("disorder")
    words = [] if disorder is None else [f"{disorder['method']}, {len(disorder['orderings'])}"]
    words += ["upper bound"] if body.get("percolation_upper_bound") else []
    return "; ".join(words)


def report(outcomes: Sequence[Outcome]) -> None:
    """Print a line a file, and the figures that the docs cite."""
    console = Console(width=150)
    table = Table(title=f"one after the other, cache off, {usable_cores()} cores")
    for heading in (
        "file",
        "ion",
        "status",
        "seconds",
        "1d eV",
        "2d",
        "3d",
        "BVSE 1d",
        "2d",
        "3d",
        "orderings, problem",
    ):
        table.add_column(heading, justify="left" if heading in {"file", "orderings, problem"} else "right")
    for one in outcomes:
        opinion = one.bond_valence_ev
        table.add_row(
            one.file,
            one.ion,
            str(one.status),
            f"{one.seconds:.1f}",
            *(_shown(one.percolation_ev[name]) if not one.problem else "" for name in DIMENSIONS),
            *(_shown(opinion[name]) if opinion else "" for name in DIMENSIONS),
            (one.problem or one.method)[:60],
        )
    console.print(table)
    published = [one for one in outcomes if one.published]
    answered = sum(not one.problem for one in published)
    console.print(f"answered: {answered} of {len(published)} published (wanted: {LEAST_ANSWERED})")
    console.print(f"slowest: {max(one.seconds for one in outcomes):.1f} s (allowed: {LONGEST_S:g})")
    console.print(f"replies of 500 or above: {sum(one.status >= 500 for one in outcomes)}")
    for name in DIMENSIONS:
        rank, count = rank_correlation(outcomes, name)
        if count:
            console.print(f"rank correlation with bond valence, {name}: {rank:.2f} over {count} crystals")


def rank_correlation(outcomes: Sequence[Outcome], dimension: str) -> tuple[float, int]:
    """Spearman's, over the crystals that both say percolate; and how many those are."""
    pairs = [
        (ours, theirs)
        for one in outcomes
        if one.bond_valence_ev is not None
        and (ours := one.percolation_ev[dimension]) is not None
        and (theirs := one.bond_valence_ev[dimension]) is not None
    ]
    if len(pairs) < 3:
        return math.nan, len(pairs)
    ours, theirs = np.array(pairs).T
    return float(spearmanr(ours, theirs).statistic), len(pairs)


def _shown(barrier_ev: float | None) -> str:
    return "never" if barrier_ev is None else f"{barrier_ev:.2f}"


if __name__ == "__main__":
    main()
