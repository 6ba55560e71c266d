"""A run of kernel machines and perceptrons: out of fold in both foldings, then on all sound bands."""

import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from app.models.prediction import QUANTILE_LEVELS
from training.corpus import Corpus
from training.kernels.config import KernelConfig
from training.kernels.ensemble import Ensemble, Judged, fit_difficulty, fit_ensemble
from training.kernels.features import feature_groups
from training.potentials import published_chgnet


@dataclass(frozen=True, kw_only=True)
class OutOfFold:
    """Predictions of every row by machines that had not seen its fold.

    Attributes:
        folding: which folds.
        judged: in transformed units.
        residuals: label minus output, shape [n_rows].
        seconds: duration of the fits.
    """

    folding: str
    judged: Judged
    residuals: np.ndarray
    seconds: float


class KernelRun:
    """A configuration, a corpus and a folder.

    Args:
        config: what to fit.
        corpus: the labelled bands; only sound ones are fitted.
        folder: where features are kept.
        processes: used for features that take long.
        report: called with messages on progress.
    """

    def __init__(
        self, config: KernelConfig, corpus: Corpus, folder: Path, *, processes: int, report: Callable[[str], None]
    ) -> None:
        self.config = config
        self.corpus = corpus
        self.report = report
        self.potential = published_chgnet()
        started = time.monotonic()
        self.groups = feature_groups(
            corpus,
            self.potential,
            folder / "features",
            relaxes=config.relaxes,
            processes=processes,
            report=report,
        )
        self.feature_seconds = time.monotonic() - started
        self.targets = config.target.to_output(corpus.barriers_ev)

    def out_of_fold(self, folding: str) -> OutOfFold:
        """Predict every fold by machines fitted on the sound rows of the others, with all choices made inside these."""
        started = time.monotonic()
        folds = self.corpus.folds(folding)
        collected = {field.name: np.empty(len(folds)) for field in fields(Judged)}
        for fold in np.unique(folds):
            ensemble = fit_ensemble(self.groups, self.targets, (folds != fold) & self.corpus.sound, folds, self.config)
            judged = ensemble.judged()
            for name, values in collected.items():
                values[folds == fold] = getattr(judged, name)[folds == fold]
            chosen = ", ".join(f"C {m.settings.penalty:g} width {m.settings.width:g}" for m in ensemble.machines)
            self.report(f"{folding}, fold {fold}: {chosen}")
        judged = Judged(**collected)
        return OutOfFold(
            folding=folding,
            judged=judged,
            residuals=self.targets - judged.outputs,
            seconds=time.monotonic() - started,
        )

    def fitted(self, folding: str = "fold_random") -> Ensemble:
        """The machines fitted on all sound rows, their settings chosen on a folding."""
        return fit_ensemble(self.groups, self.targets, self.corpus.sound, self.corpus.folds(folding), self.config)

    def barriers_ev(self, outputs: np.ndarray) -> np.ndarray:
        """Barriers from transformed outputs, eV."""
        return self.config.target.to_barriers_ev(outputs)


@dataclass(frozen=True, kw_only=True)
class Calibrated:
    """The distribution of every row's barrier, by a calibration that had not seen its fold.

    Attributes:
        quantiles_ev: at QUANTILE_LEVELS, shape [n_levels, n_rows].
    """

    quantiles_ev: np.ndarray


def calibrate(out: OutOfFold, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients of the difficulty, and quantiles of the residuals divided by it, from some rows.

    The k-th smallest of n is the quantile at level k / (n + 1), as in conformal prediction.
    """
    coefficients = fit_difficulty(out.judged, out.residuals, rows)
    scaled = (out.residuals / out.judged.difficulty(coefficients))[rows]
    return coefficients, np.quantile(scaled, QUANTILE_LEVELS, method="weibull")


def cross_calibrated(run: KernelRun, out: OutOfFold) -> Calibrated:
    """Calibrate every fold on the sound rows of the others."""
    folds = run.corpus.folds(out.folding)
    quantiles = np.empty((len(QUANTILE_LEVELS), len(folds)))
    for fold in np.unique(folds):
        coefficients, levels = calibrate(out, (folds != fold) & run.corpus.sound)
        scale = out.judged.difficulty(coefficients)
        outputs = out.judged.outputs + levels[:, None] * scale
        quantiles[:, folds == fold] = run.barriers_ev(outputs)[:, folds == fold]
    return Calibrated(quantiles_ev=quantiles)
