"""Classical learners on descriptors of the path, every choice made inside the training folds."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.ensemble import ExtraTreesRegressor, HistGradientBoostingRegressor
from sklearn.kernel_ridge import KernelRidge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR

from app.models.features.path import path_descriptors
from training.corpus import Corpus

_SEED = 0
_OFFSET_EV = 0.1  # labels are fitted as log(barrier + offset)
_INNER_FOLDS = 5
_TIMED_BANDS = 24


def _trees() -> Any:
    return ExtraTreesRegressor(n_estimators=500, max_features=0.5, min_samples_leaf=2, random_state=_SEED)


def _boosting() -> Any:
    return HistGradientBoostingRegressor(
        loss="absolute_error", max_iter=400, learning_rate=0.05, max_leaf_nodes=15, random_state=_SEED
    )


def _kernel() -> Any:
    grid = {"kernelridge__alpha": [0.03, 0.1, 0.3, 1.0], "kernelridge__gamma": [3e-4, 1e-3, 3e-3]}
    return GridSearchCV(
        make_pipeline(StandardScaler(), KernelRidge(kernel="rbf")),
        grid,
        scoring="neg_mean_absolute_error",
        cv=_INNER_FOLDS,
    )


def _support_vectors() -> Any:
    return make_pipeline(StandardScaler(), SVR(C=1.0))


BASELINES: dict[str, Callable[[], Any]] = {
    "extra-trees": _trees,
    "gradient-boosting": _boosting,
    "kernel-ridge": _kernel,
    "support-vectors": _support_vectors,
}


@dataclass(frozen=True, kw_only=True)
class JudgedBaseline:
    """Out-of-fold predictions of every row, shape [n], eV, the seconds of a fit and the milliseconds of one band."""

    predictions_ev: np.ndarray
    seconds: float
    milliseconds: float


def judge_baseline(name: str, descriptors: np.ndarray, corpus: Corpus, folding: str) -> JudgedBaseline:
    """For each fold, fit a learner on the sound rows of the other folds and predict the fold.

    Args:
        name: one of BASELINES.
        descriptors: of every row, shape [n, n_descriptors].
        corpus: the labels.
        folding: which folds.
    """
    folds, labels = corpus.folds(folding), corpus.barriers_ev
    targets = np.log(labels + _OFFSET_EV)
    outputs, seconds = np.empty(len(labels)), []
    learner: Any = None
    for fold in np.unique(folds):
        train = (folds != fold) & corpus.sound
        learner = BASELINES[name]()
        started = time.perf_counter()
        learner.fit(descriptors[train], targets[train])
        seconds.append(time.perf_counter() - started)
        outputs[folds == fold] = learner.predict(descriptors[folds == fold])
    return JudgedBaseline(
        predictions_ev=np.maximum(np.exp(outputs) - _OFFSET_EV, 0.0),
        seconds=float(np.mean(seconds)),
        milliseconds=_milliseconds(learner, corpus),
    )


def _milliseconds(learner: Any, corpus: Corpus) -> float:
    bands = [record.band for record in corpus.records[:: max(1, len(corpus.records) // _TIMED_BANDS)]]
    seconds = []
    for band in bands:
        started = time.perf_counter()
        learner.predict(path_descriptors(band).values[None])
        seconds.append(time.perf_counter() - started)
    return 1000.0 * float(np.median(seconds))
