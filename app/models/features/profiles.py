"""Profiles of quantities along the line, and their summaries."""

import numpy as np
from scipy.special import erfc

from app.crystals.band import FloatArray
from app.crystals.hops.surroundings import fade
from app.models.features.surroundings import (
    FIRST,
    LAST,
    MIDDLE,
    OUTER_ANGSTROM,
    QUARTERS,
    Surroundings,
    along_atoms,
    vector_sums,
)
from app.models.features.tables import VALENCE_DECAY_ANGSTROM, element_table

#: The distance to a missing atom, and the largest distance that is distinguished.
FARTHEST_ANGSTROM = 6.0
COULOMB_EV_ANGSTROM = 14.399645
_SCREENING_PER_ANGSTROM = 0.25
HARDNESS_ANGSTROM = 0.3  # over which overlap repulsion changes e-fold
_BONDED, _UNBONDED = 1.15, 1.5  # distances over sums of radii between which an anion leaves the first shell

#: Profiles along the line, each with its unit. Distances to other ions of the same element are left out: they reduced
#: no error, and copies of a vacancy in a small cell made a hop differ from the same hop in a larger one.
PROFILE_NAMES = (
    "anion_coordination",
    "cation_coordination",
    "nearest_anion_angstrom",
    "nearest_cation_angstrom",
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
#: Summaries of each profile, symmetric in the two ends, so that a hop is the same in both directions.
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
    """The quantities of PROFILE_NAMES at 13 places along the line, each of shape [..., 13].

    Coordination is smooth: an anion counts 1 up to 1.15 times the sum of radii and 0 beyond 1.5 times. The
    free radius is the distance to the nearest surface of an ion. Electrostatic sums are damped and end at 8
    angstrom (Wolf et al. 1999), with the ion's usual charge and bond valences for the charges of host cations.
    """
    distance, anion, cation = around.distance, around.anion, around.cation
    kept = fade((distance - FARTHEST_ANGSTROM) / (OUTER_ANGSTROM - FARTHEST_ANGSTROM))
    valence, vector = _bond_valence(around, kept)
    radius, ion_charge = around.radius_angstrom[..., None, :], around.ion_charge[..., None]
    touching = radius + around.ion_radius_angstrom[..., None, None]
    overlap = np.exp((touching - distance) / HARDNESS_ANGSTROM) * kept
    room = distance - radius
    charges = COULOMB_EV_ANGSTROM * ion_charge * around.charge
    interaction = charges[..., None, :] * _damped_inverse(distance)
    return {
        "anion_coordination": bonded_anions(around).sum(axis=-1),
        "cation_coordination": along_atoms(fade(distance - 3.0), cation),
        "nearest_anion_angstrom": _nearest(distance, anion),
        "nearest_cation_angstrom": _nearest(distance, cation),
        "free_radius_angstrom": _nearest(room, np.ones_like(anion)),
        "cation_free_radius_angstrom": _nearest(room, cation),
        "bond_valence": valence,
        "bond_valence_mismatch": np.abs(valence / ion_charge - 1.0),
        "bond_valence_vector": vector,
        "anion_overlap_log": np.log1p(along_atoms(overlap, anion)),
        "cation_overlap_log": np.log1p(along_atoms(overlap, cation)),
        "cation_repulsion_ev": along_atoms(interaction, cation),
        "anion_attraction_ev": along_atoms(interaction, anion),
        "electrostatic_ev": interaction.sum(axis=-1),
        "atoms_within_4_angstrom": fade((distance - 3.5) / 1.0).sum(axis=-1),
        "atoms_within_6_angstrom": fade((distance - 5.5) / 1.0).sum(axis=-1),
    }


def bonded_anions(around: Surroundings) -> FloatArray:
    """The degree to which each atom is an anion in the ion's first shell, 0 to 1, shape [..., 13, n_near]."""
    touching = (around.radius_angstrom + around.ion_radius_angstrom[..., None]).clip(0.5)
    scaled = around.distance / touching[..., None, :]
    return around.anion[..., None, :] * fade((scaled - _BONDED) / (_UNBONDED - _BONDED))


def summaries(along: dict[str, FloatArray]) -> dict[str, FloatArray]:
    """Summaries of profiles along the line, each of shape [..., 13]: every one of SUMMARY_NAMES for every profile."""
    every = np.stack([along[name] for name in PROFILE_NAMES])
    first, last, middle = every[..., FIRST], every[..., LAST], every[..., MIDDLE]
    ends = 0.5 * (first + last)
    kept = (
        ends,
        np.abs(first - last),
        0.5 * (every[..., QUARTERS[0]] + every[..., QUARTERS[1]]),
        middle,
        middle - ends,
        every.max(axis=-1) - ends,
        every.min(axis=-1) - ends,
    )
    return {
        f"{profile}_{summary}": values[number]
        for number, profile in enumerate(PROFILE_NAMES)
        for summary, values in zip(SUMMARY_NAMES, kept, strict=True)
    }


def sorted_distances(distance: FloatArray, share: FloatArray, count: int) -> FloatArray:
    """The nearest atoms of one kind, at most 6 angstrom, shape [..., n_points, count], angstrom.

    An atom that is only partly of the kind is moved farther away in proportion, so that the order never jumps.
    """
    shown = np.minimum(distance + FARTHEST_ANGSTROM * (1.0 - share[..., None, :]), FARTHEST_ANGSTROM)
    shown = np.concatenate([shown, np.full((*shown.shape[:-1], count), FARTHEST_ANGSTROM)], axis=-1)
    return np.sort(np.partition(shown, count - 1, axis=-1)[..., :count], axis=-1)


def _nearest(distance: FloatArray, share: FloatArray) -> FloatArray:
    """The first of the sorted distances, shape [..., n_points], angstrom."""
    shown = distance + FARTHEST_ANGSTROM * (1.0 - share[..., None, :])
    return np.asarray(shown.min(axis=-1, initial=FARTHEST_ANGSTROM))


def _bond_valence(around: Surroundings, kept: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The ion's bond valence sum, and the length of the sum of its bonds as vectors, both of shape [..., 13]."""
    unit = element_table().unit_bond_angstrom(around.ion[..., None], around.numbers)
    bond = around.anion[..., None, :] * np.exp((unit[..., None, :] - around.distance) / VALENCE_DECAY_ANGSTROM)
    bond *= kept
    vector = vector_sums(bond / around.distance, around.points, around.positions)
    return bond.sum(axis=-1), np.linalg.norm(vector, axis=-1)


def _damped_inverse(distance: FloatArray) -> FloatArray:
    """1 / r, damped and shifted to vanish at 8 angstrom."""
    inside = np.minimum(distance, OUTER_ANGSTROM)
    end = erfc(_SCREENING_PER_ANGSTROM * OUTER_ANGSTROM) / OUTER_ANGSTROM
    return np.asarray(erfc(_SCREENING_PER_ANGSTROM * inside) / inside - end)
