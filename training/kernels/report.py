"""Figures of a run's errors, and a table of the largest."""

import csv
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from app.models.prediction import QUANTILE_LEVELS
from training.corpus import Corpus
from training.kernels import drawing
from training.kernels.calibrated import cross_calibrated_ev
from training.kernels.drawing import Judgement, Kinds
from training.kernels.learning import learning_curve
from training.kernels.run import KernelRun, OutOfFold

_WORST = 10
_LEARNING_SIZES = (100, 200, 300, 400, 800)
_LEARNING_REPEATS = 3  # each takes a minute or two at the larger sizes
_FEWEST = 8  # rows that a kind needs to be listed by itself
_HOST_SIZES = (30, 60, 90, 120, 180)  # bounds between the bins, atoms


@dataclass(frozen=True, kw_only=True)
class WorstCase:
    """A sound row with a large error; lengths in angstrom, energies in eV.

    Attributes:
        random_ev, chemistry_ev: predicted out of fold, in each folding.
        low_ev, high_ev: the 90 % interval of the random folding.
        nearest: distance to the nearest row of the other random folds, in the last machine's metric.
    """

    id: str
    ion: str
    family: str
    functional: str
    host_atoms: int
    hop_angstrom: float
    label_ev: float
    random_ev: float
    chemistry_ev: float
    low_ev: float
    high_ev: float
    nearest: float


def write_report(run: KernelRun, outs: Mapping[str, OutOfFold], folder: Path) -> list[Path]:
    """Draw accuracy-*.png and write accuracy-worst.csv.

    Args:
        run: the run; only its sound rows are shown.
        outs: by folding, the out-of-fold predictions of every row.
        folder: created if it is missing.

    Returns: The files written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    judgements = {folding: judgement(run, out) for folding, out in outs.items()}
    curve = learning_curve(run, _LEARNING_SIZES, repeats=_LEARNING_REPEATS)
    figures = {
        "parity": drawing.parity(judgements),
        "calibration": drawing.calibration(judgements),
        "kinds": drawing.errors_by_kind(kinds(run.corpus), judgements),
        "learning": drawing.learning(curve),
        "distance": drawing.errors_by_distance(judgements),
    }
    written = []
    for name, figure in figures.items():
        written.append(folder / f"accuracy-{name}.png")
        figure.savefig(written[-1], dpi=drawing.DPI)
    written.append(folder / "accuracy-worst.csv")
    write_worst(worst_cases(run.corpus, judgements), written[-1])
    return written


def judgement(run: KernelRun, out: OutOfFold) -> Judgement:
    """Predictions of the sound rows, calibrated without their own fold."""
    sound = run.corpus.sound
    return Judgement(
        labels_ev=run.corpus.barriers_ev[sound],
        predictions_ev=run.barriers_ev(out.judged.outputs)[sound],
        quantiles_ev=cross_calibrated_ev(run, out)[:, sound],
        distance=out.judged.distance[sound],
    )


def kinds(corpus: Corpus) -> Kinds:
    """Row numbers of the sound rows by ion, functional, size of the host and family, the most frequent first.

    Sizes are in ascending order, and families of few rows are grouped at the end.
    """
    records = [record for record in corpus.records if record.sound]
    sizes = np.array([len(record.band.host_species) for record in records])
    families = _by_name([record.family or "not named" for record in records])
    few = [name for name, rows in families.items() if len(rows) < _FEWEST]
    shown = {name: rows for name, rows in families.items() if name not in few}
    if few:
        shown[f"others, under {_FEWEST} each"] = np.concatenate([families[name] for name in few])
    return {
        "ion": _by_name([record.band.ion for record in records]),
        "functional": _by_name([record.functional or "not named" for record in records]),
        "atoms of the host": _by_size(sizes),
        "family": shown,
    }


def _by_name(names: list[str]) -> dict[str, np.ndarray]:
    each = np.array(names)
    return {name: np.flatnonzero(each == name) for name, _ in Counter(names).most_common()}


def _by_size(sizes: np.ndarray) -> dict[str, np.ndarray]:
    bounds = zip((0, *_HOST_SIZES), (*_HOST_SIZES, None), strict=True)
    groups = {
        f"{low} and more" if high is None else f"{low} to {high - 1}" if low else f"under {high}": np.flatnonzero(
            (sizes >= low) & (sizes < (high or np.inf))
        )
        for low, high in bounds
    }
    return {name: rows for name, rows in groups.items() if len(rows)}


def worst_cases(corpus: Corpus, judgements: Mapping[str, Judgement]) -> list[WorstCase]:
    """The sound rows whose error, the mean of both foldings, is largest, worst first."""
    records = [record for record in corpus.records if record.sound]
    one, two = judgements["fold_random"], judgements["fold_chemistry"]
    order = np.argsort(-(one.errors_ev + two.errors_ev), kind="stable")[:_WORST]
    low, high = (one.quantiles_ev[QUANTILE_LEVELS.index(level)] for level in (0.05, 0.95))
    return [
        WorstCase(
            id=records[n].id,
            ion=records[n].band.ion,
            family=records[n].family,
            functional=records[n].functional,
            host_atoms=len(records[n].band.host_species),
            hop_angstrom=round(records[n].band.hop_distance_angstrom, 2),
            label_ev=records[n].barrier_ev,
            random_ev=round(float(one.predictions_ev[n]), 2),
            chemistry_ev=round(float(two.predictions_ev[n]), 2),
            low_ev=round(float(low[n]), 2),
            high_ev=round(float(high[n]), 2),
            nearest=round(float(one.distance[n]), 2),
        )
        for n in order
    ]


def write_worst(cases: list[WorstCase], path: Path) -> None:
    """Write one line per case, with the field names as header."""
    rows = [asdict(case) for case in cases]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
