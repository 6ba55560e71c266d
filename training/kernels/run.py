"""A run of kernel machines and perceptrons: out of fold in both foldings, then on all sound bands."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path

import numpy as np

from training.corpus import Corpus
from training.kernels.config import KernelConfig
from training.kernels.ensemble import Ensemble, fit_ensemble
from training.kernels.features import feature_groups
from training.kernels.judged import Judged
from training.kernels.worlds import FittedWorlds, fit_worlds, worlds_of
from training.potentials import published_chgnet


@dataclass(frozen=True, kw_only=True)
class OutOfFold:
    """Predictions of every row by machines that had not seen its fold.

    Attributes:
        folding: which folds.
        judged: in transformed units.
        residuals: label minus output, shape [n_rows].
        seconds: duration of the fits.
        nested: by fold, the same by machines that had not seen that fold either.
    """

    folding: str
    judged: Judged
    residuals: np.ndarray
    seconds: float
    nested: Mapping[int, "OutOfFold"] = field(default_factory=dict)


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
        #: Of every row, the number of its world in the configuration.
        self.worlds = np.zeros(len(self.targets), dtype=int)
        if config.worlds is not None:
            self.worlds = worlds_of(corpus.sources, config.worlds)
        #: The same among the worlds that have rows here.
        self.world_numbers = np.unique(self.worlds, return_inverse=True)[1]

    @property
    def world_names(self) -> tuple[str, ...]:
        """The worlds that have rows here; none for a run without worlds."""
        if self.config.worlds is None:
            return ()
        return tuple(self.config.worlds.worlds[number].name for number in np.unique(self.worlds))

    def fit(self, rows: np.ndarray, folding: str = "fold_random") -> Ensemble | FittedWorlds:
        """Fit on some rows; settings that are chosen at all are chosen on a folding of these."""
        if self.config.worlds is not None:
            return fit_worlds(self.groups, self.targets, rows, self.worlds, self.config.worlds)
        return fit_ensemble(self.groups, self.targets, rows, self.corpus.folds(folding), self.config)

    def out_of_fold(self, folding: str, *, among: np.ndarray | None = None) -> OutOfFold:
        """Predict every fold by machines fitted on the sound rows of the others, with all choices made inside these.

        Args:
            folding: which folds.
            among: the rows that may be fitted, shape [n_rows]; None for all sound ones.
        """
        started = time.monotonic()
        folds = self.corpus.folds(folding)
        rows = self.corpus.sound if among is None else among
        judged: Judged | None = None
        for fold in np.unique(folds):
            said = self.fit((folds != fold) & rows, folding).judged()
            judged = said if judged is None else judged.replaced(said, folds == fold)
            self.report(f"{folding}, fold {fold} done")
        assert judged is not None
        return OutOfFold(
            folding=folding,
            judged=judged,
            residuals=self.targets - judged.outputs,
            seconds=time.monotonic() - started,
        )

    def nested(self, out: OutOfFold) -> OutOfFold:
        """The same with its nested predictions, from a fit for every pair of folds.

        Where the errors' size is a few linear terms, a fold's own labels in the others' residuals make hardly a
        difference: `out` is returned as it is.
        """
        if self.config.local is None:
            return out
        started = time.monotonic()
        folds = self.corpus.folds(out.folding)
        judged: dict[int, Judged] = {int(fold): out.judged for fold in np.unique(folds)}
        for one, other in combinations(judged, 2):
            said = self.fit((folds != one) & (folds != other) & self.corpus.sound, out.folding).judged()
            judged[one] = judged[one].replaced(said, folds == other)
            judged[other] = judged[other].replaced(said, folds == one)
        self.report(f"{out.folding}, pairs of folds done in {time.monotonic() - started:.0f} s")
        return replace(
            out,
            nested={
                fold: replace(out, judged=each, residuals=self.targets - each.outputs) for fold, each in judged.items()
            },
        )

    def fitted(self, folding: str = "fold_random") -> Ensemble | FittedWorlds:
        """The machines fitted on all sound rows, their settings chosen on a folding."""
        return self.fit(self.corpus.sound, folding)

    def barriers_ev(self, outputs: np.ndarray) -> np.ndarray:
        """Barriers from transformed outputs, eV."""
        return self.config.target.to_barriers_ev(outputs)
