"""How far a run can be trusted on a corpus that it was never fitted on: fitted on one world, judged on each other."""

import numpy as np

from training.kernels.calibrated import calibrate, fitted_domain, outside_domain
from training.kernels.figures import INTERVAL, bootstrapped_over
from training.kernels.run import KernelRun


def transfer_figures(run: KernelRun) -> dict[str, dict[str, object]]:
    """For each world, errors and coverage on the sound rows of the others when it alone is fitted and calibrated.

    Returns:
        by the fitted world; empty for a run of one.
    """
    if len(run.world_names) < 2:  # noqa: PLR2004 - one and another
        return {}
    return {name: _judged_elsewhere(run, number) for number, name in enumerate(run.world_names)}


def _judged_elsewhere(run: KernelRun, number: int) -> dict[str, object]:
    mine = run.world_numbers == number
    fitted, others = mine & run.corpus.sound, ~mine & run.corpus.sound
    out = run.out_of_fold(run.config.calibrated_on, among=fitted)
    calibrated = calibrate(run, out, fitted)
    judged = run.fit(fitted).judged()
    outside = outside_domain(run, judged, fitted_domain(run, fitted, calibrated.farthest))
    quantiles = run.barriers_ev(judged.outputs + calibrated.offsets(judged, outside))[:, others]
    labels = run.corpus.barriers_ev[others]
    errors = np.abs(run.barriers_ev(judged.outputs)[others] - labels)
    inside = ~outside[others]
    low, high = quantiles[INTERVAL[0]], quantiles[INTERVAL[1]]
    covered = ((labels >= low) & (labels <= high)).astype(float)
    return {
        "rows": int(others.sum()),
        "rows_inside": int(inside.sum()),
        "mae_ev": bootstrapped_over(errors),
        "mae_ev_inside": bootstrapped_over(errors[inside]),
        "mae_ev_outside": bootstrapped_over(errors[~inside]),
        "coverage_of_90_percent_intervals": bootstrapped_over(covered),
        "coverage_inside": bootstrapped_over(covered[inside]),
    }
