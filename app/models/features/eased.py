"""The descriptors of the eased line: what the ion meets where it leaves the straight line for an easier way."""

from dataclasses import replace

import numpy as np

from app.crystals.band import FloatArray
from app.models.features.easing import EasedLine
from app.models.features.line import BOTTLENECK_NAMES, PROFILE_SUMMARY_NAMES, SHELL_NAMES, bottleneck, shells
from app.models.features.profiles import profiles, summaries
from app.models.features.surroundings import FIRST, LAST, MIDDLE, Surroundings, distances

_OF_THE_WAY = (
    "energy_highest_minus_lowest_asinh_ev",
    "energy_highest_minus_ends_asinh_ev",
    "energy_highest_minus_lower_end_asinh_ev",
    "energy_ends_minus_lowest_asinh_ev",
    "energy_middle_minus_ends_asinh_ev",
    "energy_ends_difference_asinh_ev",
    "way_angstrom",
    "greatest_move_angstrom",
    "mean_move_angstrom",
)

#: Those of the straight line that change with it, and the way's own.
EASED_NAMES = tuple(
    f"eased_line_{name}" for name in (*PROFILE_SUMMARY_NAMES, *SHELL_NAMES, *BOTTLENECK_NAMES, *_OF_THE_WAY)
)


def eased_descriptors(around: Surroundings, line: EasedLine) -> FloatArray:
    """The descriptors of EASED_NAMES, shape [..., n_eased]; the same in both directions of a hop."""
    eased = replace(around, points=line.points, distance=distances(line.points, around.positions))
    along = profiles(eased)
    found = summaries(along) | shells(eased) | bottleneck(eased, along) | _way(around, line)
    return np.stack([found[name.removeprefix("eased_line_")] for name in EASED_NAMES], axis=-1)


def _way(around: Surroundings, line: EasedLine) -> dict[str, FloatArray]:
    """The profile of the pair potential's energy, compressed by asinh, and how far the line has moved."""
    energy = line.potential.energy(line.points)
    first, last, middle = energy[..., FIRST], energy[..., LAST], energy[..., MIDDLE]
    highest, lowest, ends = energy.max(axis=-1), energy.min(axis=-1), 0.5 * (first + last)
    above = (
        highest - lowest,
        highest - ends,
        highest - np.minimum(first, last),
        ends - lowest,
        middle - ends,
        np.abs(first - last),
    )
    move = np.linalg.norm(line.points - around.points, axis=-1)
    way = np.linalg.norm(np.diff(line.points, axis=-2), axis=-1).sum(axis=-1)
    values = (*np.arcsinh(np.stack(above)), way, move.max(axis=-1), move.mean(axis=-1))
    return dict(zip(_OF_THE_WAY, values, strict=True))
