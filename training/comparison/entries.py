"""The rows of the comparison: out-of-fold predictions of each model, or the note that it did not run."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from app.crystals.band import Band
from app.models.cards.card import CARD_FILE
from app.models.checkpoints import GRAPH_NETWORKS, read_predictor
from app.models.predictors.predictor import Predictor
from training.comparison.baselines import BASELINES, judge_baseline
from training.config import RunConfig, read_config
from training.corpus import LITERATURE, LITRAJ, Corpus
from training.kernels.config import kernel_config_path, read_kernel_config
from training.kernels.run import KernelRun
from training.runs import Run

FOLDING = "fold_random"
#: The paper's comparison, with the counterparts that start from random weights.
FORMS = (
    "model-1-sum",
    "model-1-difference",
    "model-1-concat",
    "model-2",
    "model-3",
    "model-4",
    "scratch-model-1",
    "scratch-model-3",
)
#: Forms that are served with other barriers as well, and their configurations for the literature's alone.
_ON_LITERATURE = {"model-3": "literature-model-3", "model-4": "literature-model-4"}
KERNELS = ("default", "relaxed")
_TIMED_BANDS = 24


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One model's out-of-fold predictions.

    Attributes:
        name: of the model.
        fitted_on: sources of the barriers that it was fitted on; no predicted row was among the fitted ones.
        folds: that the predicted rows are of; empty where the model did not run.
        rows: of the corpus that were predicted, shape [n].
        predictions_ev: shape [n], eV.
        parameters: number of fitted parameters; None for a learner without such a number.
        training_seconds: of one fit, on all sound bands or a fold's training side, without making features.
        milliseconds: for one band alone, from a parsed band to its barrier, on this machine; None where there is no
            checkpoint to time.
    """

    name: str
    fitted_on: tuple[str, ...]
    folds: tuple[int, ...]
    rows: np.ndarray
    predictions_ev: np.ndarray
    parameters: int | None
    training_seconds: float | None
    milliseconds: float | None


@dataclass(frozen=True, kw_only=True)
class Sources:
    """The inputs of a comparison.

    Attributes:
        corpus: the bands to compare on.
        every: the bands that a model of several worlds is fitted on; those of `corpus` among them, in the same order.
        runs: where the runs' results are.
        store: the model store.
        size: of the configurations of the paper's models.
        processes: used for features that take long.
        report: called with messages on progress.
    """

    corpus: Corpus
    every: Corpus
    runs: Path
    store: Path
    size: str
    processes: int
    report: Callable[[str], None]


def entries(sources: Sources) -> list[Entry]:
    """All rows of the comparison.

    Runs of the paper's models are read, not made; on barriers of which there are none, the served ones are judged. All
    else is fitted now.
    """
    made = [_form(sources, name) for name in FORMS]
    runs = {
        name: run
        for name in KERNELS
        if (sources.store / name / CARD_FILE).is_file() and (run := _kernel_run(sources, name)) is not None
    }
    if runs:
        plain = next(iter(runs.values()))
        descriptors = plain.groups["path"][_compared(sources, plain)]
        for name in BASELINES:
            sources.report(f"fitting {name}")
            judged = judge_baseline(name, descriptors, sources.corpus, FOLDING)
            made.append(
                Entry(
                    name=name,
                    fitted_on=tuple(sources.corpus.files),
                    folds=_all_folds(sources.corpus),
                    rows=np.arange(len(sources.corpus.records)),
                    predictions_ev=judged.predictions_ev,
                    parameters=None,
                    training_seconds=judged.seconds,
                    milliseconds=judged.milliseconds,
                )
            )
    made += [_kernel(sources, name, run) for name, run in runs.items()]
    made += [_not_run(name) for name in KERNELS if name not in runs]
    return made


def _form(sources: Sources, name: str) -> Entry:
    config = read_config(f"{_ON_LITERATURE.get(name, name)}-{sources.size}")
    try:
        run = Run(config, sources.corpus, sources.runs, device=torch.device("cpu"), store=sources.store)
    except FileNotFoundError as error:
        sources.report(f"{name} did not run: {error}")
        return _not_run(name)
    results = [run.fold(fold, lambda *_: None) for fold in config.calibration_folds if run.has_fold(fold)]
    sources.report(f"{name}: folds {', '.join(str(result.fold) for result in results) or 'none'}")
    predictor = _predictor(sources, name)
    if not results:
        if predictor is None or LITERATURE in sources.corpus.files:
            return _not_run(name)
        return _served(sources, name, config, predictor)
    rows = np.concatenate([result.rows for result in results])
    outputs = np.concatenate([result.outputs for result in results])
    training = predictor.card.training if predictor is not None and predictor.name == config.name else {}
    return Entry(
        name=name,
        fitted_on=tuple(sources.corpus.files),
        folds=tuple(result.fold for result in results),
        rows=rows,
        predictions_ev=run.to_barriers_ev(outputs),
        parameters=run.parameter_count(),
        training_seconds=training.get("seconds", float(np.mean([result.seconds for result in results]))),
        milliseconds=_milliseconds(predictor, sources.corpus),
    )


def _served(sources: Sources, name: str, config: RunConfig, predictor: Predictor) -> Entry:
    """One of the paper's models as it is served, if it was fitted on none of these rows."""
    entry = predictor.card.corpus
    fitted_on = tuple(entry.get("files", (LITERATURE,)))
    if set(fitted_on) & set(sources.corpus.files) or entry.get("sha256") in sources.corpus.files.values():
        sources.report(f"{name}: fitted on these barriers, by other folds; ionpath evaluate {name} has its figures")
        return _not_run(name)
    folds = config.calibration_folds
    sources.report(f"{name}: as served, fitted on {', '.join(fitted_on)}; folds {', '.join(map(str, folds))}")
    rows = np.flatnonzero(np.isin(sources.corpus.folds(FOLDING), folds))
    network = GRAPH_NETWORKS[config.network](**config.arguments)
    predictions = [predictor.predict([predictor.graph(sources.corpus.records[row].band)])[0].barrier_ev for row in rows]
    return Entry(
        name=name,
        fitted_on=fitted_on,
        folds=tuple(folds),
        rows=rows,
        predictions_ev=np.array(predictions),
        parameters=sum(weights.numel() for weights in network.parameters()),
        training_seconds=predictor.card.training.get("seconds"),
        milliseconds=_milliseconds(predictor, sources.corpus),
    )


def _kernel_run(sources: Sources, name: str) -> KernelRun | None:
    """The run of a model; None for one without worlds on bands that it is not fitted on."""
    path = kernel_config_path(name)
    assert path is not None, name
    config = read_kernel_config(path)
    if config.worlds is None and LITRAJ in sources.corpus.files:
        return None
    return KernelRun(
        config,
        sources.corpus if config.worlds is None else sources.every,
        sources.runs,
        processes=sources.processes,
        report=sources.report,
    )


def _kernel(sources: Sources, name: str, run: KernelRun) -> Entry:
    out = run.out_of_fold(FOLDING)
    predictor = _predictor(sources, name)
    return Entry(
        name=name,
        fitted_on=tuple(run.corpus.files),
        folds=_all_folds(sources.corpus),
        rows=np.arange(len(sources.corpus.records)),
        predictions_ev=run.barriers_ev(out.judged.outputs)[_compared(sources, run)],
        parameters=None,
        training_seconds=out.seconds / len(_all_folds(sources.corpus)),
        # Relaxing takes seconds per band: its card has the time.
        milliseconds=_card_milliseconds(predictor) if run.config.relaxes else _milliseconds(predictor, sources.corpus),
    )


def _compared(sources: Sources, run: KernelRun) -> np.ndarray:
    """Which rows of a run are compared, shape [n_rows]."""
    return np.isin(run.corpus.sources, list(sources.corpus.files))


def _not_run(name: str) -> Entry:
    return Entry(
        name=name,
        fitted_on=(),
        folds=(),
        rows=np.empty(0, dtype=np.int64),
        predictions_ev=np.empty(0),
        parameters=None,
        training_seconds=None,
        milliseconds=None,
    )


def _all_folds(corpus: Corpus) -> tuple[int, ...]:
    return tuple(int(fold) for fold in np.unique(corpus.folds(FOLDING)))


def _predictor(sources: Sources, name: str) -> Predictor | None:
    folder = sources.store / name
    return read_predictor(folder, device=torch.device("cpu")) if (folder / CARD_FILE).is_file() else None


def _card_milliseconds(predictor: Predictor | None) -> float | None:
    seconds = predictor.card.training.get("seconds_per_band") if predictor is not None else None
    return None if seconds is None else 1000.0 * float(seconds)


def _milliseconds(predictor: Predictor | None, corpus: Corpus) -> float | None:
    """The median over some bands, one at a time, after a first one that is not counted."""
    if predictor is None:
        return None
    bands: list[Band] = [record.band for record in corpus.records[:: max(1, len(corpus.records) // _TIMED_BANDS)]]
    predictor.predict([predictor.graph(bands[0])])
    seconds = []
    for band in bands:
        started = time.perf_counter()
        predictor.predict([predictor.graph(band)])
        seconds.append(time.perf_counter() - started)
    return 1000.0 * float(np.median(seconds))
