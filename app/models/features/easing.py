"""The relaxation of the ion off the straight line: a few steps in a simple pair potential."""

from dataclasses import dataclass

import numpy as np

from app.crystals.band import FloatArray
from app.crystals.hops.surroundings import fade
from app.models.features.profiles import COULOMB_EV_ANGSTROM, HARDNESS_ANGSTROM
from app.models.features.surroundings import (
    FIRST,
    IMAGES,
    LAST,
    MIDDLE,
    OUTER_ANGSTROM,
    SAME_PLACE_ANGSTROM,
    Surroundings,
    along_atoms,
    distances,
)
from app.models.features.tables import VALENCE_DECAY_ANGSTROM, element_table

# A pair of opposite ions in rock salt rests at the sum of its radii where its overlap carries this share (the
# Madelung constant over six neighbours) of what would hold it there alone.
_OVERLAP_SHARE = 0.29
# 1.6 angstrom at most: what is within six angstrom of the eased line is within eight of the straight one.
_STEPS = 8
_LONGEST_STEP_ANGSTROM = 0.2
# A step is the force over this share of the summed stiffness of all contacts: short enough to settle in any cage,
# and to let rounding grow no more than some tenfold where the ion sits on a crest and falls to neither side.
_STIFFNESS_SHARE = 0.6
_LEAST_STIFFNESS_EV_ANGSTROM2 = 2.0  # times the charge, where the ion has no contacts
# An oxide ion, held by two valences, feels some 20 eV/angstrom^2 against its neighbours at rest.
_HOST_STIFFNESS_EV_ANGSTROM2 = 10.0  # for each valence
_LEAST_HELD = 0.2  # valences, where an atom is bonded to nothing
_MOST_YIELD_ANGSTROM = 2.0

EASING_NAMES = (
    "pair_energy_ends_difference_asinh_ev",
    "pair_energy_quarters_minus_ends_asinh_ev",
    "pair_energy_middle_minus_ends_asinh_ev",
    "eased_energy_ends_difference_asinh_ev",
    "eased_energy_quarters_minus_ends_asinh_ev",
    "eased_energy_middle_minus_ends_asinh_ev",
    "eased_energy_highest_minus_ends_asinh_ev",
    "ends_move_angstrom",
    "quarters_move_angstrom",
    "middle_move_angstrom",
    "eased_ends_bond_valence_share",
    "eased_middle_bond_valence_share",
    "eased_bond_valence_middle_minus_ends",
    "eased_ends_free_radius_angstrom",
    "eased_middle_free_radius_angstrom",
    "yielding_quarters_asinh_ev",
    "yielding_middle_asinh_ev",
    "yielded_energy_quarters_minus_ends_asinh_ev",
    "yielded_energy_middle_minus_ends_asinh_ev",
    "yielding_move_at_middle_angstrom",
)


@dataclass(frozen=True, kw_only=True)
class EasedLine:
    """The straight line after eight damped steps downhill in the pair potential.

    The ends move freely, the places between only across the hop.

    Attributes:
        potential: of the ion in the host as it is.
        points: where the 13 places are, shape [..., 13, 3], angstrom.
    """

    potential: "PairPotential"
    points: FloatArray


def eased_line(around: Surroundings) -> EasedLine:
    """Ease the line off the atoms."""
    potential = PairPotential(around)
    hop = around.points[..., LAST, :] - around.points[..., FIRST, :]
    return EasedLine(potential=potential, points=potential.eased(around.points, hop))


def easing(around: Surroundings, line: EasedLine) -> dict[str, FloatArray]:
    """The descriptors of EASING_NAMES: energies, shifts and bonding of the five images before and after easing.

    Charges are those of the electrostatic sums and the overlap is Born and Mayer's, so that energies rank places and
    are not barriers. Energies in eV are compressed by asinh, since a place on top of an atom would dominate all others.
    Yielding is the linear response of the host to the change in the ion's force, with a stiffness of each atom in
    proportion to the strength of its bonds; yielded energies are reduced by it.
    """
    potential, images = line.potential, list(IMAGES)
    start, eased = around.points[..., images, :], line.points[..., images, :]
    before, after = potential.energy(start), potential.energy(eased)
    move = _by_image(np.linalg.norm(eased - start, axis=-1))
    apart = distances(eased, around.positions)
    valence = _by_image(_valence_share(around, apart))
    radius = around.radius_angstrom[..., None, :]
    room = _by_image((apart - radius).min(axis=-1, initial=OUTER_ANGSTROM))
    values = (
        *_relative(before)[:3],
        *_relative(after),
        0.5 * (move[0] + move[4]),
        0.5 * (move[1] + move[3]),
        move[2],
        0.5 * (valence[0] + valence[4]),
        valence[2],
        valence[2] - 0.5 * (valence[0] + valence[4]),
        0.5 * (room[0] + room[4]),
        room[2],
        *_yielding(potential.pair_forces(eased), around.held, after),
    )
    return dict(zip(EASING_NAMES, values, strict=True))


def _by_image(values: FloatArray) -> list[FloatArray]:
    """Values of shape [..., n_images] as a list of the images'."""
    return [values[..., image] for image in range(values.shape[-1])]


def _relative(energy: FloatArray) -> list[FloatArray]:
    """Energies at the five places relative to the ends: the ends' difference, quarters, middle and maximum."""
    first, second, middle, fourth, last = _by_image(energy)
    ends = 0.5 * (first + last)
    seen = (np.abs(first - last), 0.5 * (second + fourth) - ends, middle - ends, energy.max(axis=-1) - ends)
    return list(np.arcsinh(np.stack(seen)))


def _yielding(pair_forces: FloatArray, held: FloatArray, energy: FloatArray) -> list[FloatArray]:
    """The energy gained as the host yields at quarters and middle, energies without it, and its largest shift."""
    stiffness = _HOST_STIFFNESS_EV_ANGSTROM2 * (held[..., None, :] + _LEAST_HELD)
    of_ends = 0.5 * (pair_forces[..., [0], :, :] + pair_forces[..., [4], :, :])
    changed = pair_forces[..., 1:4, :, :] - of_ends
    squared = np.einsum("...pai,...pai->...pa", changed, changed)
    given = 0.5 * (squared / stiffness).sum(axis=-1)
    left = energy[..., 1:4] - given - 0.5 * (energy[..., [0]] + energy[..., [4]])
    seen = [value for one in (given, left) for value in (0.5 * (one[..., 0] + one[..., 2]), one[..., 1])]
    move = (np.sqrt(squared[..., 1, :]) / stiffness[..., 0, :]).max(axis=-1, initial=0.0)
    return [*np.arcsinh(np.stack(seen)), np.minimum(move, _MOST_YIELD_ANGSTROM)]


def _valence_share(around: Surroundings, apart: FloatArray) -> FloatArray:
    unit = element_table().unit_bond_angstrom(around.ion[..., None], around.numbers)
    bond = np.exp((unit[..., None, :] - apart) / VALENCE_DECAY_ANGSTROM) * fade((apart - 6.0) / 2.0)
    return along_atoms(bond, around.anion) / around.ion_charge[..., None]


class PairPotential:
    """Coulomb and overlap energies of the ion with the host.

    The Coulomb force of each pair is shifted to vanish at 8 angstrom, its energy with it, which is the cheapest smooth
    cutoff for a sum that is evaluated eight times.
    """

    def __init__(self, around: Surroundings) -> None:
        self._middle = around.points[..., [MIDDLE], :]
        self._positions = around.positions - self._middle
        # so that a squared distance is one product, |p|^2 - 2 p.r + |r|^2
        squared = np.einsum("...ai,...ai->...a", self._positions, self._positions)
        ones = np.ones_like(squared)
        self._columns = np.concatenate(
            [-2.0 * self._positions.swapaxes(-1, -2), ones[..., None, :], squared[..., None, :]], axis=-2
        )
        self._rows = np.concatenate([self._positions, ones[..., None]], axis=-1)
        self._charge = around.ion_charge[..., None]
        touching = (around.radius_angstrom + around.ion_radius_angstrom[..., None]).clip(0.8)
        self._coulomb = COULOMB_EV_ANGSTROM * self._charge * around.charge
        at_touch = _OVERLAP_SHARE * np.abs(self._coulomb) * HARDNESS_ANGSTROM / touching**2
        self._overlap = at_touch * np.exp(touching / HARDNESS_ANGSTROM)
        self._push = self._overlap / HARDNESS_ANGSTROM

    def energy(self, points: FloatArray) -> FloatArray:
        """The energy at each point, shape [..., n_points], eV."""
        distance = self._distances(points - self._middle)
        coulomb = (1.0 - distance / OUTER_ANGSTROM) ** 2 / distance
        overlap = np.exp(-distance / HARDNESS_ANGSTROM)
        return along_atoms(coulomb, self._coulomb) + along_atoms(overlap, self._overlap)

    def eased(self, points: FloatArray, hop: FloatArray) -> FloatArray:
        """The points after the steps; all but the first and last stay in their plane across the hop."""
        axis = hop / np.maximum(np.linalg.norm(hop, axis=-1, keepdims=True), 1e-6)
        across = np.eye(3) - axis[..., :, None] * axis[..., None, :]
        points = points - self._middle
        for _ in range(_STEPS):
            weights, stiffness = self._weights(points)
            sums = weights @ self._rows
            downhill = sums[..., 3:] * points - sums[..., :3]
            downhill[..., 1:-1, :] = downhill[..., 1:-1, :] @ across
            size = np.sqrt(np.einsum("...pi,...pi->...p", downhill, downhill))
            step = downhill / (_STIFFNESS_SHARE * stiffness + size / _LONGEST_STEP_ANGSTROM)[..., None]
            points = points + step
        return np.asarray(points + self._middle)

    def pair_forces(self, points: FloatArray) -> FloatArray:
        """The force of each atom on the ion, shape [..., n_points, n_atoms, 3], eV/angstrom."""
        points = points - self._middle
        apart = points[..., :, None, :] - self._positions[..., None, :, :]
        return np.asarray(self._weights(points)[0][..., None] * apart)

    def _weights(self, points: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Forces over distances, [..., n_points, n_atoms], eV/angstrom^2; the contacts' stiffness, [..., n_points]."""
        distance = self._distances(points)
        inverse = 1.0 / distance
        push = self._push[..., None, :] * np.exp(distance / -HARDNESS_ANGSTROM)
        stiffness = push.sum(axis=-1) / HARDNESS_ANGSTROM + _LEAST_STIFFNESS_EV_ANGSTROM2 * self._charge
        pull = self._coulomb[..., None, :] * (inverse * inverse - 1.0 / OUTER_ANGSTROM**2)
        return (pull + push) * inverse, stiffness

    def _distances(self, points: FloatArray) -> FloatArray:
        """From points relative to the middle to each atom, from 0.3 to 8 angstrom, shape [..., n_points, n_atoms]."""
        rows = np.ones((*points.shape[:-1], 5))
        rows[..., :3], rows[..., 3] = points, np.einsum("...pi,...pi->...p", points, points)
        squared = np.minimum(np.maximum(rows @ self._columns, SAME_PLACE_ANGSTROM**2), OUTER_ANGSTROM**2)
        return np.asarray(np.sqrt(squared))
