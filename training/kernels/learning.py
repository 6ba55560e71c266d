"""The learning curve: error against the number of bands that a run is fitted on."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from training.kernels.ensemble import Ensemble
from training.kernels.machines import Settings, fit_machine
from training.kernels.networks import fit_networks
from training.kernels.run import KernelRun

_FOLDING = "fold_random"


@dataclass(frozen=True, kw_only=True)
class LearningPoint:
    """The size of the training sides, and the out-of-fold mean absolute error of every repeat, eV.

    Attributes:
        worlds: the same on the rows of each world, where there are several.
    """

    rows: int
    mae_ev: tuple[float, ...]
    worlds: dict[str, tuple[float, ...]] = field(default_factory=dict)


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
    whole_fit = None if run.config.worlds is not None else run.fitted(_FOLDING)
    settings = [one.settings for one in whole_fit.machines] if isinstance(whole_fit, Ensemble) else []
    points = [
        _point(run, size, [_sampled_errors(run, sides, settings, size, seed + repeat) for repeat in range(repeats)])
        for size in sizes
        if size < smallest
    ]
    whole = round(float(np.mean([len(side) for side in sides])))
    return [*points, _point(run, whole, [_sampled_errors(run, sides, settings, None, seed)])]


def _point(run: KernelRun, rows: int, errors_ev: Sequence[np.ndarray]) -> LearningPoint:
    """The means over the sound rows of repeats' errors of every row."""

    def means(chosen: np.ndarray) -> tuple[float, ...]:
        return tuple(float(errors[chosen].mean()) for errors in errors_ev)

    sound = run.corpus.sound
    names = run.world_names if len(run.world_names) > 1 else ()
    worlds = {name: means(sound & (run.world_numbers == number)) for number, name in enumerate(names)}
    return LearningPoint(rows=rows, mae_ev=means(sound), worlds=worlds)


def _sampled_errors(
    run: KernelRun, sides: Sequence[np.ndarray], settings: Sequence[Settings], size: int | None, seed: int
) -> np.ndarray:
    """Absolute error of every row, eV; a size of None takes each training side whole."""
    generator = np.random.default_rng(seed)
    folds = run.corpus.folds(_FOLDING)
    outputs = np.empty(len(folds))
    for fold, side in zip(np.unique(folds), sides, strict=True):
        rows = np.zeros(len(folds), dtype=bool)
        rows[side if size is None else generator.choice(side, size, replace=False)] = True
        outputs[folds == fold] = _outputs(run, settings, rows)[folds == fold]
    return np.asarray(np.abs(run.barriers_ev(outputs) - run.corpus.barriers_ev))


def _outputs(run: KernelRun, settings: Sequence[Settings], rows: np.ndarray) -> np.ndarray:
    if run.config.worlds is not None:  # its settings are fixed
        return run.fit(rows).judged().outputs
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
