"""The learning curve: error against the number of bands that a run is fitted on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from training.kernels.machines import Settings, fit_machine
from training.kernels.networks import fit_networks
from training.kernels.run import KernelRun

_FOLDING = "fold_random"


@dataclass(frozen=True, kw_only=True)
class LearningPoint:
    """The size of the training sides, and the out-of-fold mean absolute error of every repeat, eV."""

    rows: int
    mae_ev: tuple[float, ...]


def learning_curve(run: KernelRun, sizes: Sequence[int], *, repeats: int, seed: int = 0) -> list[LearningPoint]:
    """Predict the sound rows of every random fold by machines fitted on seeded samples of the other folds' sound rows.

    The machines' settings are those chosen on all rows, in every fit, so that a fit takes seconds; where there are
    perceptrons, half a minute.

    Args:
        run: the machines.
        sizes: of the samples; sizes not below that of a training side are dropped, and the whole side is added.
        repeats: number of samples of each size.
        seed: of the first sample.
    """
    folds, sound = run.corpus.folds(_FOLDING), run.corpus.sound
    sides = [np.flatnonzero((folds != fold) & sound) for fold in np.unique(folds)]
    smallest = min(len(side) for side in sides)
    settings = [machine.settings for machine in run.fitted(_FOLDING).machines]
    points = [
        LearningPoint(
            rows=size,
            mae_ev=tuple(_sampled_error(run, sides, settings, size, seed + repeat) for repeat in range(repeats)),
        )
        for size in sizes
        if size < smallest
    ]
    whole = round(float(np.mean([len(side) for side in sides])))
    return [*points, LearningPoint(rows=whole, mae_ev=(_sampled_error(run, sides, settings, None, seed),))]


def _sampled_error(
    run: KernelRun, sides: Sequence[np.ndarray], settings: Sequence[Settings], size: int | None, seed: int
) -> float:
    """Mean absolute error over the sound rows, eV; a size of None takes each training side whole."""
    generator = np.random.default_rng(seed)
    folds = run.corpus.folds(_FOLDING)
    outputs = np.empty(len(folds))
    for fold, side in zip(np.unique(folds), sides, strict=True):
        rows = np.zeros(len(folds), dtype=bool)
        rows[side if size is None else generator.choice(side, size, replace=False)] = True
        outputs[folds == fold] = _outputs(run, settings, rows)[folds == fold]
    return float(np.abs(run.barriers_ev(outputs) - run.corpus.barriers_ev)[run.corpus.sound].mean())


def _outputs(run: KernelRun, settings: Sequence[Settings], rows: np.ndarray) -> np.ndarray:
    machines = [
        fit_machine(
            run.groups,
            shares,
            targets=run.targets,
            rows=rows,
            parts=np.zeros(len(rows)),
            config=replace(run.config, penalties=(chosen.penalty,), widths=(chosen.width,)),
        )
        for shares, chosen in zip(run.config.machines, settings, strict=True)
    ]
    networks = [
        fit_networks(run.groups, one, clip=run.config.clip, targets=run.targets, rows=rows)
        for one in run.config.networks
    ]
    outputs = [one.outputs for one in machines] + [one.outputs for one in networks]
    return np.asarray(np.mean(outputs, axis=0))
