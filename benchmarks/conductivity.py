"""How percolation barriers rank measured conductivities: rank correlation and ROC areas with bootstrap intervals.

Run it with `python -m benchmarks.conductivity --json answers.jsonl`. It sends the CIFs that belong to the measured
conductivities to a service, cache off, one after the other; `--from` reads answers written before. Nothing is fitted.
"""

import argparse
import csv
import io
import json
import math
import os
import tarfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.stats import rankdata, spearmanr
from sklearn.metrics import roc_auc_score

from app.crystals.band import FloatArray
from benchmarks.servers import ionpath

TIMEOUT_S = 300.0
BOOTSTRAPS = 1_000
#: Conductivities above these, S/cm, are told from others.
THRESHOLDS = (1e-4, 1e-3)
#: Where nothing connects.
NEVER_EV = 1e3
DIMENSIONS = ("1d", "2d", "3d")
LEAST_OF_FAMILY = 5
_HEADINGS = ("", "crystals", "null", "rank", "ROC > 1e-4 S/cm", "ROC > 1e-3 S/cm")
_FIGURES = 3


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("IONPATH_DATA_DIR", "../shared/data")))
    parser.add_argument("--json", type=Path, help="write the answers here, one a line")
    parser.add_argument("--from", type=Path, dest="answers", help="read answers that --json wrote")
    arguments = parser.parse_args()
    folder = arguments.data / "conductivity"
    with (folder / "obelix.csv").open(encoding="utf-8") as file:
        rows = {row["id"]: row for row in csv.DictReader(file) if row["has_cif"] == "1"}
    if arguments.answers:
        answers = dict(map(json.loads, arguments.answers.read_text().splitlines()))
    else:
        answers = ask(folder / "cifs.tar.xz", list(rows))
    if arguments.json:
        arguments.json.write_text("".join(json.dumps(one) + "\n" for one in answers.items()))
    report(rows, answers)


def ask(archive: Path, names: Sequence[str]) -> dict[str, Any]:
    """What a service answers to each CIF, by its name; the problem where it refuses."""
    answers: dict[str, Any] = {}
    with (
        tarfile.open(archive) as packed,
        ionpath(IONPATH_CACHE="off") as server,
        httpx.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=TIMEOUT_S) as client,
    ):
        members = {Path(member.name).stem: member for member in packed.getmembers() if member.isfile()}
        for name in names:
            content = (packed.extractfile(members[name]) or io.BytesIO()).read()
            files = {"structure": (f"{name}.cif", content)}
            body = client.post("/predict/barrier", files=files, data={"ion": "Li"}).json()
            fields = ("percolation_ev", "percolation", "bond_valence", "kind", "detail")
            answers[name] = {field: body.get(field) for field in fields}
    return answers


def report(rows: Mapping[str, Mapping[str, str]], answers: Mapping[str, Any]) -> None:
    """Print the figures that the docs cite, then those of each family, then each crystal."""
    names = [name for name in rows if name in answers]
    logs = np.array([math.log10(float(rows[name]["conductivity_s_per_cm"])) for name in names])
    measured = np.array([rows[name]["upper_bound"] != "1" for name in names])
    columns = {f"percolation, {n}": _barriers(answers, names, "percolation_ev", n) for n in DIMENSIONS}
    bond_valence = {
        f"bond valence, {n}": np.array([_barrier((answers[name].get("bond_valence") or {}), n) for name in names])
        for n in DIMENSIONS
    }
    both = rankdata(columns["percolation, 3d"]) + rankdata(bond_valence["bond valence, 3d"])
    console = Console(width=150)
    table = Table(*_HEADINGS, title="log10 of the conductivity at room temperature; worst where nothing connects")
    for label, values in (columns | bond_valence | {"mean of both ranks, 3d": both}).items():
        table.add_row(label, str(len(names)), str(int((values >= NEVER_EV).sum())), *_figures(values, logs, measured))
    console.print(table)
    families = defaultdict(list)
    for k, name in enumerate(names):
        families[rows[name]["family"] or "none"].append(k)
    by_family = Table("family", "crystals", "median of log10", "median barrier, eV", "rank", title="percolation, 3d")
    for family, members in sorted(families.items(), key=lambda item: -len(item[1])):
        if len(members) >= LEAST_OF_FAMILY:
            values = columns["percolation, 3d"][members]
            rank = spearmanr(values, logs[members])[0]
            shown = (np.median(logs[members]), np.median(values), rank)
            by_family.add_row(family, str(len(members)), *(f"{value:.2f}" for value in shown))
    console.print(by_family)


def _barriers(answers: Mapping[str, Any], names: Sequence[str], field: str, dimension: str) -> FloatArray:
    return np.array([_barrier({"percolation_ev": answers[name].get(field)}, dimension) for name in names])


def _barrier(answer: Mapping[str, Any], dimension: str) -> float:
    barrier = (answer.get("percolation_ev") or {}).get(dimension)
    return NEVER_EV if barrier is None else float(barrier)


def _figures(values: FloatArray, logs: FloatArray, measured: Any) -> list[str]:
    """Rank correlation over the measured ones, ROC areas over all, with 95 % intervals."""
    generator = np.random.default_rng(0)
    draws = [np.arange(len(logs)), *generator.integers(0, len(logs), (BOOTSTRAPS, len(logs)))]
    found = np.array([_figure(values, logs, measured, rows) for rows in draws])
    low, high = np.nanquantile(found[1:], [0.025, 0.975], axis=0)
    return [f"{found[0, k]:.2f} [{low[k]:.2f}, {high[k]:.2f}]" for k in range(_FIGURES)]


def _figure(values: FloatArray, logs: FloatArray, measured: Any, rows: Any) -> list[float]:
    known = rows[measured[rows]]
    areas = [float(roc_auc_score(logs[rows] > math.log10(limit), -values[rows])) for limit in THRESHOLDS]
    return [float(spearmanr(values[known], logs[known])[0]), *areas]


if __name__ == "__main__":
    main()
