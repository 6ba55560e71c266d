"""Quantities that change as the ion moves along the line, and what is kept of each profile."""

import numpy as np
from scipy.special import erfc

from app.crystals.band import FloatArray
from app.crystals.surroundings import fade
from app.models.features.surroundings import FIRST, LAST, MIDDLE, OUTER_ANGSTROM, QUARTERS, Surroundings
from app.models.features.tables import VALENCE_DECAY_ANGSTROM, element_table

#: A distance to what is not there, and the most that is told apart.
FARTHEST_ANGSTROM = 6.0
COULOMB_EV_ANGSTROM = 14.399645
_SCREENING_PER_ANGSTROM = 0.25
_HARDNESS_ANGSTROM = 0.3  # over which overlap repulsion changes e-fold
_BONDED, _UNBONDED = 1.15, 1.5  # distances over sums of radii between which an anion leaves the first shell

#: Profiles along the line, each with its unit.
PROFILE_NAMES = (
    "anion_coordination",
    "cation_coordination",
    "same_element_coordination",
    "nearest_anion_angstrom",
    "nearest_cation_angstrom",
    "nearest_same_element_angstrom",
    "free_radius_angstrom",
    "cation_free_radius_angstrom",
    "bond_valence",
    "bond_valence_mismatch",
    "bond_valence_vector",
    "anion_overlap_log",
    "cation_overlap_log",
    "cation_repulsion_ev",
    "anion_attraction_ev",
    "electrostatic_ev",
    "atoms_within_4_angstrom",
    "atoms_within_6_angstrom",
)
#: What is kept of each: the ends count alike, so a hop is the same both ways.
SUMMARY_NAMES = (
    "ends_mean",
    "ends_difference",
    "quarters_mean",
    "middle",
    "middle_minus_ends",
    "highest_minus_ends",
    "lowest_minus_ends",
)


def profiles(around: Surroundings) -> dict[str, FloatArray]:
    """The quantities of PROFILE_NAMES at 13 places along the line, each of shape [13].

    Coordination is soft: an anion counts 1 up to 1.15 times the sum of radii and nothing beyond 1.5 times. The
    free radius is the distance to the nearest surface of an ion. Electrostatic sums are damped and end at 8
    angstrom (Wolf et al. 1999), with the ion's usual charge and bond valences for the charges of host cations.
    """
    distance, anion, cation = around.distance, around.anion, around.cation
    scaled = distance / (around.radius_angstrom + around.ion_radius_angstrom).clip(0.5)
    coordination = anion * fade((scaled - _BONDED) / (_UNBONDED - _BONDED))
    valence, vector = _bond_valence(around)
    overlap = np.exp((around.radius_angstrom + around.ion_radius_angstrom - distance) / _HARDNESS_ANGSTROM)
    overlap *= fade((distance - FARTHEST_ANGSTROM) / (OUTER_ANGSTROM - FARTHEST_ANGSTROM))
    interaction = around.ion_charge * COULOMB_EV_ANGSTROM * around.charge * _damped_inverse(distance)
    return {
        "anion_coordination": coordination.sum(axis=1),
        "cation_coordination": (cation * fade(distance - 3.0)).sum(axis=1),
        "same_element_coordination": (around.same_element * fade((distance - 3.0) / 2.0)).sum(axis=1),
        "nearest_anion_angstrom": sorted_distances(distance, anion, 1)[:, 0],
        "nearest_cation_angstrom": sorted_distances(distance, cation, 1)[:, 0],
        "nearest_same_element_angstrom": sorted_distances(distance, around.same_element, 1)[:, 0],
        "free_radius_angstrom": sorted_distances(distance - around.radius_angstrom, np.ones(len(anion)), 1)[:, 0],
        "cation_free_radius_angstrom": sorted_distances(distance - around.radius_angstrom, cation, 1)[:, 0],
        "bond_valence": valence,
        "bond_valence_mismatch": np.abs(valence - around.ion_charge),
        "bond_valence_vector": vector,
        "anion_overlap_log": np.log1p((anion * overlap).sum(axis=1)),
        "cation_overlap_log": np.log1p((cation * overlap).sum(axis=1)),
        "cation_repulsion_ev": (cation * interaction).sum(axis=1),
        "anion_attraction_ev": (anion * interaction).sum(axis=1),
        "electrostatic_ev": interaction.sum(axis=1),
        "atoms_within_4_angstrom": fade((distance - 3.5) / 1.0).sum(axis=1),
        "atoms_within_6_angstrom": fade((distance - 5.5) / 1.0).sum(axis=1),
    }


def summaries(profile: FloatArray) -> dict[str, float]:
    """What is kept of a profile along the line, shape [13]."""
    ends = float(0.5 * (profile[FIRST] + profile[LAST]))
    return {
        "ends_mean": ends,
        "ends_difference": float(abs(profile[FIRST] - profile[LAST])),
        "quarters_mean": float(profile[list(QUARTERS)].mean()),
        "middle": float(profile[MIDDLE]),
        "middle_minus_ends": float(profile[MIDDLE]) - ends,
        "highest_minus_ends": float(profile.max()) - ends,
        "lowest_minus_ends": float(profile.min()) - ends,
    }


def sorted_distances(distance: FloatArray, share: FloatArray, count: int) -> FloatArray:
    """The nearest atoms of one kind, at most 6 angstrom, shape [n_points, count], angstrom.

    An atom that is only partly of the kind stands farther off by what is missing, so that an order never jumps.
    """
    shown = np.minimum(distance + FARTHEST_ANGSTROM * (1.0 - share), FARTHEST_ANGSTROM)
    shown = np.concatenate([shown, np.full((len(shown), count), FARTHEST_ANGSTROM)], axis=1)
    return np.sort(np.partition(shown, count - 1, axis=1)[:, :count], axis=1)


def _bond_valence(around: Surroundings) -> tuple[FloatArray, FloatArray]:
    """The ion's bond valence sum, and the length of the sum of its bonds as vectors, both of shape [13]."""
    unit = element_table().unit_bond_angstrom(around.ion, around.numbers)
    bond = around.anion * np.exp((unit - around.distance) / VALENCE_DECAY_ANGSTROM)
    bond *= fade((around.distance - FARTHEST_ANGSTROM) / (OUTER_ANGSTROM - FARTHEST_ANGSTROM))
    direction = (around.positions[None] - around.points[:, None]) / around.distance[:, :, None]
    vector = np.einsum("pa,pai->pi", bond, direction)
    return bond.sum(axis=1), np.linalg.norm(vector, axis=1)


def _damped_inverse(distance: FloatArray) -> FloatArray:
    """1 / r, damped and shifted to vanish at 8 angstrom."""
    inside = np.minimum(distance, OUTER_ANGSTROM)
    end = erfc(_SCREENING_PER_ANGSTROM * OUTER_ANGSTROM) / OUTER_ANGSTROM
    return np.asarray(erfc(_SCREENING_PER_ANGSTROM * inside) / inside - end)
