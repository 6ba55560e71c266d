"""How percolation barriers rank measured conductivities: the model's, bond valence's, both, and the ranking figure.

Run it with `python -m benchmarks.conductivities`, on the published conductors of the data set that have a CIF. Nothing
is fitted on a conductivity. Barriers of bands are kept in a file, so that another percolation costs minutes.
"""

import argparse
import csv
import hashlib
import json
import os
import tarfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from scipy.stats import rankdata, spearmanr

from app.crystals.band import Band, FloatArray
from app.crystals.hops.options import HopOptions
from app.crystals.hops.search import find_hops
from app.crystals.limits import Limits
from app.crystals.readers import read_crystal
from app.crystals.readers.reading import File
from app.errors import IonpathError
from app.models.checkpoints import read_predictor
from app.models.networks.message_tables import SharedTables
from app.models.prediction import Prediction
from app.models.predictors.predictor import Predictor
from app.serving.answers.bond_valence import bond_valence_answer
from app.serving.answers.crystal import HopOutcome, bands_of, compose

DIMENSIONS = (1, 2, 3)
THRESHOLDS_S_PER_CM = (1e-4, 1e-3)
RESAMPLES = 1000
SEED = 5
#: A family with fewer crystals has no figure of its own.
LEAST_OF_FAMILY = 8
#: Well-known conductors, by what their composition begins with; several measurements of one are one line each.
KNOWN = (
    ("Li10GeP2S12", "tetragonal, fastest along c"),
    ("Li7La3Zr2O12", "garnet; tetragonal (142) is ordered and slow"),
    ("Li6.4La3Zr1.4Ta0.6O12", "garnet, cubic"),
    ("Li6PS5", "argyrodite, 3d"),
    ("LiTi2(PO4)3", "NASICON, 3d"),
    ("Li1.3Al0.3Ti1.7(PO4)3", "NASICON, 3d, faster than undoped"),
    ("La0.565Li0.305TiO3", "perovskite"),
    ("Li3N", "layers, 2d"),
    ("Li3YCl6", "halide"),
    ("LiFePO4", "one channel, 1d"),
    ("LiCoO2", "layers, 2d"),
    ("LiMn2O4", "spinel, 3d"),
)
Figures = dict[str, float | None]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What is said of one conductor; barriers in eV, None where nothing connects."""

    id: str
    composition: str
    family: str
    conductivity_s_per_cm: float
    is_bound: bool
    problem: str
    percolation_ev: Figures
    share: Figures
    bond_valence_ev: Figures
    ranking_ev: float | None
    bond_valence_detail: str | None
    seconds: float


class KeptBarriers:
    """Predictions of bands by their geometry, in a file of one JSON a line that is only ever appended to."""

    def __init__(self, path: Path, predictor: Predictor) -> None:
        self.predictor = predictor
        self._path = path
        self._known: dict[str, dict[str, Any]] = {}
        if path.exists():
            lines = path.read_text(encoding="utf-8").splitlines()
            self._known = {row["key"]: row for row in map(json.loads, lines) if row["digest"] == predictor.digest}

    def outcome(self, band: Band) -> HopOutcome:
        """The prediction of a band, computed where it is not known."""
        key = _key(band)
        if key not in self._known:
            row = {"key": key, "digest": self.predictor.digest, **self._predicted(band)}
            self._known[key] = row
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        row = self._known[key]
        if "error" in row:
            return HopOutcome(outcome=IonpathError(row["error"]), cached=False)
        prediction = Prediction(
            barrier_ev=row["barrier_ev"],
            quantiles_ev=tuple(row["quantiles_ev"]),
            in_domain=row["in_domain"],
            domain_reasons=tuple(row["domain_reasons"]),
        )
        return HopOutcome(outcome=prediction, cached=False)

    def _predicted(self, band: Band) -> dict[str, Any]:
        try:
            (found,) = self.predictor.predict([self.predictor.graph(band)])
        except IonpathError as error:
            return {"error": error.detail}
        return asdict(found)


def _key(band: Band) -> str:
    digest = hashlib.sha256()
    for rows in (band.lattice_angstrom, band.host_frac_coords, band.image_frac_coords):
        digest.update(np.ascontiguousarray(np.round(np.asarray(rows, dtype=np.float64), 9) + 0.0).tobytes())
    digest.update(f"{band.ion} {' '.join(band.host_species)}".encode())
    return digest.hexdigest()


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("IONPATH_DATA_DIR", "../shared/data")))
    parser.add_argument("--store", type=Path, default=Path("model_store"), help="the folder of checkpoints")
    parser.add_argument("--model", default="default")
    parser.add_argument("--barriers", type=Path, required=True, help="where the barriers of bands are kept (.jsonl)")
    parser.add_argument("--json", type=Path, help="write the outcomes here, one a line")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    predictor = read_predictor(arguments.store / arguments.model, device=torch.device("cpu"), tables=SharedTables())
    kept = KeptBarriers(arguments.barriers, predictor)
    with (arguments.data / "conductivity" / "obelix.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["has_cif"] == "1"]
    with tarfile.open(arguments.data / "conductivity" / "cifs.tar.xz") as archive:
        files = {
            Path(member.name).stem: archive.extractfile(member).read()  # type: ignore[union-attr] # all are files
            for member in archive.getmembers()
            if member.isfile()
        }
    outcomes = [asked(row, files[row["id"]], kept) for row in rows]
    if arguments.json:
        arguments.json.write_text("".join(json.dumps(asdict(one)) + "\n" for one in outcomes), encoding="utf-8")
    report(outcomes)


def asked(row: Mapping[str, str], cif: bytes, kept: KeptBarriers) -> Outcome:
    """Answer one conductor as the service does, without it."""
    begun = time.process_time()
    nothing: Figures = {f"{dimension}d": None for dimension in DIMENSIONS}
    percolation, share, bond_valence = nothing, nothing, nothing
    problem, detail, ranking_ev = "", None, None
    try:
        crystal = read_crystal(File(name=f"{row['id']}.cif", content=cif), Limits(), "Li")
        search = find_hops(crystal, "Li", HopOptions(max_hops=60), max_atoms=2000)
        by_bond_valence = bond_valence_answer(search.bond_valence_host)
        bond_valence = _figures([by_bond_valence.percolation_ev.of(dimension) for dimension in DIMENSIONS])
        detail = by_bond_valence.detail
        outcomes = {key: kept.outcome(band) for key, band in bands_of(search).items()}
        answer = replace(compose(search, outcomes, kept.predictor.doubted), bond_valence=by_bond_valence)
        ranking_ev = answer.ranking_ev
        percolation = _figures([answer.percolation_ev.of(dimension) for dimension in DIMENSIONS])
        share = _figures([answer.percolating_share(dimension) for dimension in DIMENSIONS])
    except IonpathError as error:
        problem = error.detail
    return Outcome(
        id=row["id"],
        composition=row["composition"],
        family=row["family"],
        conductivity_s_per_cm=float(row["conductivity_s_per_cm"]),
        is_bound=row["upper_bound"] == "1",
        problem=problem,
        percolation_ev=percolation,
        share=share,
        bond_valence_ev=bond_valence,
        ranking_ev=ranking_ev,
        bond_valence_detail=detail,
        seconds=time.process_time() - begun,
    )


def _figures(values: Sequence[float | None]) -> Figures:
    return {f"{dimension}d": value for dimension, value in zip(DIMENSIONS, values, strict=True)}


def scores_of(outcomes: Sequence[Outcome], dimension: str = "3d") -> dict[str, FloatArray]:
    """By method one number a crystal, low for a good conductor; a crystal that does not connect is the worst."""
    ours = ranks([one.percolation_ev[dimension] for one in outcomes])
    theirs = ranks([one.bond_valence_ev[dimension] for one in outcomes])
    return {
        "model": ours,
        "bond valence": theirs,
        "mean of both ranks": (ours + theirs) / 2,
        "ranking_ev": ranks([one.ranking_ev for one in outcomes]),
    }


def ranks(barriers: Sequence[float | None]) -> FloatArray:
    """Ranks, equal ones shared; None last."""
    return np.asarray(rankdata([np.inf if one is None else one for one in barriers]))


def roc_area(score: FloatArray, good: np.ndarray) -> float:
    """The probability that a good conductor has the lower score than one that is not; half where they are equal."""
    count, rest = int(good.sum()), int((~good).sum())
    if not count or not rest:
        return float("nan")
    return float(((rankdata(-score)[good].sum()) - count * (count + 1) / 2) / (count * rest))


def report(outcomes: Sequence[Outcome]) -> None:
    """Print the figures that the docs cite, by family, and the well-known conductors."""
    console = Console(width=150)
    values = np.array([one.conductivity_s_per_cm for one in outcomes])
    measured = np.array([not one.is_bound for one in outcomes])
    table = Table(
        title=f"{len(outcomes)} conductors, {measured.sum()} of them with a measured value; 3d, null is worst"
    )
    for heading in ("method", "null", "rank correlation", *(f"ROC > {one:g} S/cm" for one in THRESHOLDS_S_PER_CM)):
        table.add_column(heading, justify="left" if heading == "method" else "right")
    nulls = {
        "model": sum(one.percolation_ev["3d"] is None for one in outcomes),
        "bond valence": sum(one.bond_valence_ev["3d"] is None for one in outcomes),
    }
    for name, score in scores_of(outcomes).items():
        figures = [
            _with_interval(lambda rows, score=score: _rank(score[rows], values[rows], measured[rows]), len(outcomes))
        ]
        for threshold in THRESHOLDS_S_PER_CM:
            good = values > threshold
            figures.append(
                _with_interval(lambda rows, score=score, good=good: roc_area(score[rows], good[rows]), len(outcomes))
            )
        table.add_row(name, str(nulls.get(name, "")), *figures)
    console.print(table)
    _families(console, outcomes)
    _known(console, outcomes)
    console.print(f"refused: {sum(bool(one.problem) for one in outcomes)}")


def _rank(score: FloatArray, values: FloatArray, measured: np.ndarray) -> float:
    return float(spearmanr(score[measured], np.log10(values[measured])).statistic)


def _with_interval(figure: Any, count: int) -> str:
    """A figure of all crystals, and its 90 % bootstrap interval."""
    generator = np.random.default_rng(SEED)
    sampled = [figure(generator.integers(0, count, count)) for _ in range(RESAMPLES)]
    low, high = np.nanquantile(sampled, [0.05, 0.95])
    return f"{figure(np.arange(count)):.2f} [{low:.2f}, {high:.2f}]"


def _families(console: Console, outcomes: Sequence[Outcome]) -> None:
    table = Table(title=f"families with at least {LEAST_OF_FAMILY} measured values: rank correlation within")
    for heading in ("family", "crystals", *scores_of(outcomes), "median eV", "bond valence"):
        table.add_column(heading, justify="left" if heading == "family" else "right")
    for family in sorted({one.family for one in outcomes}):
        own = [one for one in outcomes if one.family == family and not one.is_bound]
        if len(own) < LEAST_OF_FAMILY:
            continue
        logs = np.log10([one.conductivity_s_per_cm for one in own])
        found = [float(spearmanr(score, logs).statistic) for score in scores_of(own).values()]
        medians = [
            float(np.median([np.inf if barrier is None else barrier for barrier in column]))
            for column in ([one.percolation_ev["3d"] for one in own], [one.bond_valence_ev["3d"] for one in own])
        ]
        table.add_row(
            family or "none",
            str(len(own)),
            *(f"{value:.2f}" for value in found),
            *("never" if np.isinf(value) else f"{value:.2f}" for value in medians),
        )
    console.print(table)


def _known(console: Console, outcomes: Sequence[Outcome]) -> None:
    table = Table(title="well-known conductors")
    for heading in (
        "composition",
        "id",
        "S/cm",
        "model 1d",
        "2d",
        "3d",
        "share 3d",
        "bond valence 1d",
        "2d",
        "3d",
        "ranking",
        "",
    ):
        table.add_column(heading, justify="left" if heading in {"composition", "id", ""} else "right")
    for beginning, remark in KNOWN:
        for one in outcomes:
            if one.composition.startswith(beginning):
                share = one.share["3d"]
                table.add_row(
                    one.composition,
                    one.id,
                    f"{'<= ' if one.is_bound else ''}{one.conductivity_s_per_cm:.1e}",
                    *(_shown(one.percolation_ev[name]) for name in one.percolation_ev),
                    "" if share is None else f"{share:.2f}",
                    *(_shown(one.bond_valence_ev[name]) for name in one.bond_valence_ev),
                    _shown(one.ranking_ev),
                    one.problem[:40] or remark,
                )
    console.print(table)


def _shown(barrier_ev: float | None) -> str:
    return "never" if barrier_ev is None else f"{barrier_ev:.2f}"


if __name__ == "__main__":
    main()
