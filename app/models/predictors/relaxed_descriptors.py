"""Descriptors from a few steps of relaxation, the same for both directions of a hop."""

import numpy as np

from app.crystals.band import FloatArray
from app.models.predictors.relaxation import RelaxedBand

_STEPS_SHOWN = (0, 2, 4, 6)
_SUMMARIES = ("log_range", "middle", "quarters", "ends_differ", "highest", "log_highest")
_PLACES = ("ends", "quarters", "middle")
_SOFTENING_EV = 0.1

RELAXED_DESCRIPTOR_NAMES = (
    *(f"{summary}_after_{step}" for step in _STEPS_SHOWN for summary in _SUMMARIES),
    *(f"{what}_{place}" for what in ("ion_shift", "greatest_shift", "greatest_force", "gain") for place in _PLACES),
)


def relaxed_descriptors(relaxed: RelaxedBand) -> FloatArray:
    """Describe a relaxed band by RELAXED_DESCRIPTOR_NAMES; energies above the ends' mean, in asinh(eV)."""
    profiles = [_profile(relaxed.energy_ev[step]) for step in _STEPS_SHOWN]
    gains = relaxed.energy_ev[0] - relaxed.energy_ev[-1]
    along = (
        relaxed.ion_shift_angstrom,
        relaxed.greatest_shift_angstrom,
        np.log(relaxed.greatest_force[-1] + 0.01),
        np.arcsinh(gains),
    )
    return np.concatenate([*profiles, *(_places(values) for values in along)])


def _profile(energy_ev: FloatArray) -> FloatArray:
    ends = 0.5 * (energy_ev[0] + energy_ev[-1])
    total = float(energy_ev.max() - energy_ev.min())
    highest = float(energy_ev.max() - ends)
    return np.array(
        [
            np.log(total + _SOFTENING_EV),
            np.arcsinh(energy_ev[2] - ends),
            np.arcsinh(0.5 * (energy_ev[1] + energy_ev[3]) - ends),
            np.arcsinh(abs(energy_ev[0] - energy_ev[-1])),
            np.arcsinh(highest),
            np.log(highest + _SOFTENING_EV),
        ]
    )


def _places(values: FloatArray) -> FloatArray:
    return np.array([0.5 * (values[0] + values[-1]), 0.5 * (values[1] + values[3]), values[2]])
