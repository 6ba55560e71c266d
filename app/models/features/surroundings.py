"""The host atoms that a hop's descriptors depend on, and the ion's distances to them along the line.

Hops may be stacked: every array then has their axis in front of those that are named here, which "..."
stands for, and functions of surroundings give a value for each. An array of one hop is so small that numpy needs as
long to begin with it as to do the work.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from app.crystals.band import FloatArray, IntArray
from app.crystals.hops.surroundings import PathSurroundings, fade
from app.models.features.host import host_atoms
from app.models.features.tables import atomic_number, element_table

#: Atoms farther than this from the path are ignored.
OUTER_ANGSTROM = 8.0
_INNER_ANGSTROM = 6.0  # and an atom's weight in averages begins to fall here
POINT_COUNT = 13
#: Indices of places along the line, of POINT_COUNT.
FIRST, LAST, MIDDLE, QUARTERS = 0, 12, 6, (3, 9)
#: Of the five images among them.
IMAGES = (FIRST, QUARTERS[0], MIDDLE, QUARTERS[1], LAST)
#: How far away the atoms are that fill the places of hops with fewer atoms than others of a stack, angstrom.
_NOWHERE_ANGSTROM = 1e3
SAME_PLACE_ANGSTROM = 0.3  # an atom that the line runs through is kept at this distance, so that sums stay finite


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """A hop's line and the host atoms within 8 angstrom of it; or several hops' lines.

    Attributes:
        ion: atomic number, shape [...].
        points: 13 places along the straight line, shape [..., 13, 3], angstrom.
        numbers: atomic numbers, shape [..., n_near]; 0 where a place is filled with nothing.
        positions: shape [..., n_near, 3], angstrom.
        distance: from each place to each atom, shape [..., 13, n_near], angstrom.
        weight: 1 near the path, falling to 0 from 6 to 8 angstrom, shape [..., n_near].
        anion, valence, held, charge, radius_angstrom, bonded: as those of HostAtoms, shapes [..., n_near], and
            [..., n_near, 7].
    """

    ion: IntArray
    points: FloatArray
    numbers: IntArray
    positions: FloatArray
    distance: FloatArray
    weight: FloatArray
    anion: FloatArray
    valence: FloatArray
    held: FloatArray
    charge: FloatArray
    radius_angstrom: FloatArray
    bonded: FloatArray

    @property
    def cation(self) -> FloatArray:
        """1 for a cation, 0 for an anion, shape [..., n_near]."""
        return np.asarray(1.0 - self.anion)

    @property
    def same_element(self) -> FloatArray:
        """1 for atoms of the ion's element, shape [..., n_near]."""
        return np.asarray(self.numbers == self.ion[..., None], dtype=np.float64)

    @property
    def ion_charge(self) -> FloatArray:
        """The ion's usual charge, elementary charges, shape [...]."""
        return np.asarray(element_table().cation_charge[self.ion])

    @property
    def ion_radius_angstrom(self) -> FloatArray:
        """The ion's radius, angstrom, shape [...]."""
        return np.asarray(element_table().cation_radius_angstrom[self.ion])


def surroundings(around: PathSurroundings) -> Surroundings:
    """Measure the straight line of a band against the unrelaxed host within 8 angstrom of it."""
    band, images, near = around.band, around.images, around.near
    host = host_atoms(band)
    points = images[0] + np.linspace(0.0, 1.0, POINT_COUNT)[:, None] * (images[-1] - images[0])
    return Surroundings(
        ion=np.array(atomic_number(band.ion)),
        points=points,
        numbers=host.numbers[near.host_index],
        positions=near.positions,
        distance=distances(points, near.positions),
        weight=fade((near.path_distance - _INNER_ANGSTROM) / (OUTER_ANGSTROM - _INNER_ANGSTROM)),
        anion=host.anion[near.host_index],
        valence=host.valence[near.host_index],
        held=host.held[near.host_index],
        charge=host.charge[near.host_index],
        radius_angstrom=host.radius_angstrom[near.host_index],
        bonded=host.bonded[near.host_index],
    )


def stacked(hops: Sequence[Surroundings]) -> Surroundings:
    """Several hops as one; those with fewer atoms have nothing in the places of the others' last ones."""
    most = max(len(hop.numbers) for hop in hops)
    arrays: dict[str, FloatArray | IntArray] = {}
    for field in fields(Surroundings):
        parts = [getattr(hop, field.name) for hop in hops]
        if field.name in {"ion", "points"}:
            arrays[field.name] = np.stack(parts)
        else:
            axis = 1 if field.name == "distance" else 0
            shape = [*parts[0].shape]
            shape[axis] = most
            filled = np.zeros((len(hops), *shape), dtype=parts[0].dtype)
            if field.name in {"distance", "positions"}:
                filled += _NOWHERE_ANGSTROM
            for one, part in zip(filled, parts, strict=True):
                one[(slice(None),) * axis + (slice(part.shape[axis]),)] = part
            arrays[field.name] = filled
    return Surroundings(**arrays)  # type: ignore[arg-type] # numbers are whole, the others are not


def distances(points: FloatArray, positions: FloatArray) -> FloatArray:
    """From each point to each atom, never under 0.3 angstrom, shape [..., n_points, n_atoms], angstrom."""
    # one product in place of an array of vectors, from the middle of the points, so that nothing is lost by rounding
    middle = points.mean(axis=-2, keepdims=True)
    one, other = points - middle, positions - middle
    squared = (-2.0 * one) @ other.swapaxes(-1, -2)
    squared += np.einsum("...pi,...pi->...p", one, one)[..., None]
    squared += np.einsum("...ai,...ai->...a", other, other)[..., None, :]
    return np.asarray(np.sqrt(np.maximum(squared, SAME_PLACE_ANGSTROM**2)))


def vector_sums(weights: FloatArray, points: FloatArray, positions: FloatArray) -> FloatArray:
    """Weighted sums of the vectors from each atom to each point, shape [..., n_points, 3], angstrom.

    Args:
        weights: shape [..., n_points, n_atoms].
        points: shape [..., n_points, 3], angstrom.
        positions: of the atoms, shape [..., n_atoms, 3], angstrom.
    """
    middle = points.mean(axis=-2, keepdims=True)
    return np.asarray(weights.sum(axis=-1)[..., None] * (points - middle) - weights @ (positions - middle))


def along_atoms(values: FloatArray, weights: FloatArray) -> FloatArray:
    """Sums over atoms, shape [..., n_points].

    Args:
        values: shape [..., n_points, n_atoms].
        weights: of the atoms, shape [..., n_atoms].
    """
    return np.asarray((values @ weights[..., None])[..., 0])
