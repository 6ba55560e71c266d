"""The host atoms around a path, each periodic copy separately, independent of the supercell."""

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from app.crystals.band import Band, FloatArray, IntArray, model_band
from app.crystals.geometry.lattices import shortest_translation_angstrom
from app.crystals.geometry.periodic import copies_near_cell

_ROUNDING_ANGSTROM = 1e-6
#: Hosts whose copies around the cell are kept: all hops of a crystal share one.
_HOSTS_KEPT = 32

#: In a cell with a shorter translation the ion's own copies count as neighbours. A little under the 8 angstrom of a
#: right-sized supercell, since files round.
CLOSE_COPY_ANGSTROM = 7.99
#: A host atom of the ion's element this near to an end of the hop is the ion itself.
SAME_PLACE_ANGSTROM = 0.5
#: The host's coordinates are taken on a grid of this many steps a cell, some 1e-11 angstrom each. The shift keeps round
#: coordinates, such as a quarter of 0.1234, away from edges where the last bit would decide.
_GRID, _SHIFT = 10**12, 0.381966


@dataclass(frozen=True, kw_only=True)
class NearAtoms:
    """Host atoms near the path.

    Attributes:
        positions: shape [n_near, 3], angstrom.
        host_index: index of the host atom that each one is a copy of, shape [n_near].
        path_distance: to the nearest point of the path, shape [n_near], angstrom.
    """

    positions: FloatArray
    host_index: IntArray
    path_distance: FloatArray


@dataclass(frozen=True, kw_only=True)
class PathSurroundings:
    """The model band of a hop and the host atoms near it.

    Attributes:
        band: with copies of the ion in its host, which is the same to the last bit, atom by atom, for all hops of a
            crystal that have one host: what depends on the host alone can be kept.
        images: of the ion, the five straight ones first, shape [n_images, 3], angstrom.
        near: the host atoms, without the ion itself.
        ion_index: indices of the host's atoms that are the ion at an end of the hop.
    """

    band: Band
    images: FloatArray
    near: NearAtoms
    ion_index: IntArray

    def within(self, radius_angstrom: float) -> "PathSurroundings":
        """The surroundings within a smaller radius, angstrom."""
        return replace(self, near=_chosen(self.near, self.near.path_distance < radius_angstrom))

    def with_images(self, others: FloatArray) -> "PathSurroundings":
        """The same atoms around more images of the ion, their distances those to the nearest image.

        Args:
            others: shape [n_others, 3], angstrom; around them the atoms are complete to as much less than these
                surroundings' radius as they are away from the line.
        """
        images = np.concatenate([self.images, others])
        apart = self.near.positions[:, None] - images[None]
        distance = np.sqrt(np.einsum("aij,aij->ai", apart, apart)).min(axis=1)
        return replace(self, images=images, near=replace(self.near, path_distance=distance))


def path_surroundings(band: Band, radius_angstrom: float) -> PathSurroundings:
    """The host within a radius of a band's straight path, independent of the cell.

    A cell repeats its content, including the vacancy. In a host with other ions of the element, both sites of the hop
    are taken as filled in every copy of the cell: one hop in an otherwise complete crystal. In a host without any they
    stay empty, unless a translation is so short that the copies of the ion are its neighbours.
    """
    band = _arranged(_with_copies(model_band(band)))
    images = band.image_frac_coords @ band.lattice_angstrom
    near = host_near_path(band, images, radius_angstrom)
    same = np.array([symbol == band.ion for symbol in band.host_species], dtype=bool)
    own = np.flatnonzero(same[near.host_index] & (near.path_distance < SAME_PLACE_ANGSTROM))
    itself = own[at_ends(near.positions[own], images)]
    kept = np.ones(len(near.host_index), dtype=bool)
    kept[itself] = False
    return PathSurroundings(
        band=band, images=images, near=_chosen(near, kept), ion_index=np.unique(near.host_index[itself])
    )


def at_ends(positions: FloatArray, images: FloatArray) -> NDArray[np.bool_]:
    """Which of some positions, shape [n, 3], are an end of the path: there an ion is the one that hops."""
    apart = positions[:, None] - images[[0, -1]]
    return np.asarray((np.einsum("nei,nei->ne", apart, apart) < SAME_PLACE_ANGSTROM**2).any(axis=1))


def _chosen(near: NearAtoms, kept: NDArray[np.bool_]) -> NearAtoms:
    return NearAtoms(
        positions=near.positions[kept], host_index=near.host_index[kept], path_distance=near.path_distance[kept]
    )


def _with_copies(band: Band) -> Band:
    alone = band.ion not in band.host_species
    if alone and shortest_translation_angstrom(band.lattice_angstrom) >= CLOSE_COPY_ANGSTROM:
        return band
    first, last = band.image_frac_coords[0], band.image_frac_coords[-1]
    away = last - first
    apart = away - np.round(away)
    two = np.linalg.norm(apart @ band.lattice_angstrom) > SAME_PLACE_ANGSTROM
    copies = np.stack([first, last] if two else [first + 0.5 * apart])  # halfway, the same in both directions
    return replace(
        band,
        host_species=(*band.host_species, *[band.ion] * len(copies)),
        host_frac_coords=np.concatenate([band.host_frac_coords, copies]),
    )


def _arranged(band: Band) -> Band:
    """The band with its host's atoms sorted by element and place, in the home cell and on a grid."""
    steps = np.floor(band.host_frac_coords * _GRID + _SHIFT).astype(np.int64) % _GRID
    order = np.lexsort((*steps.T, np.array(band.host_species)))
    return replace(
        band,
        host_species=tuple(band.host_species[k] for k in order),
        host_frac_coords=steps[order] / _GRID,
    )


def host_near_path(band: Band, images: FloatArray, radius: float) -> NearAtoms:
    """Every host atom within a radius (angstrom) of the line through images, shape [n_images, 3], angstrom."""
    return near_line(band.lattice_angstrom, band.host_frac_coords, images[[0, -1]], radius)


def near_line(lattice_angstrom: FloatArray, frac_coords: FloatArray, ends: FloatArray, radius: float) -> NearAtoms:
    """Every periodic copy of some atoms that is within a distance of a line.

    Args:
        lattice_angstrom: rows are the lattice vectors, shape [3, 3], angstrom.
        frac_coords: of the atoms, shape [n, 3]; what follows from them alone is kept for the next line.
        ends: of the line, shape [2, 3], angstrom.
        radius: largest distance from the line between them, angstrom.
    """
    axis = ends[1] - ends[0]
    reach = radius + 0.5 * float(np.linalg.norm(axis))
    around = _host_around_cell(lattice_angstrom.tobytes(), frac_coords.tobytes(), math.ceil(reach))
    middle = 0.5 * (ends[0] + ends[1])
    shift = np.floor(middle @ around.to_frac) @ around.basis_angstrom
    # most copies are rejected by a cheap test: outside the sphere around the path, with a margin for rounding
    apart = around.positions - (middle - shift)
    inside = np.flatnonzero(np.einsum("ai,ai->a", apart, apart) < (reach + _ROUNDING_ANGSTROM) ** 2)
    positions = around.positions[inside] + shift
    from_start = positions - ends[0]
    along = np.minimum(np.maximum(from_start @ axis / max(float(axis @ axis), 1e-12), 0.0), 1.0)
    off_path = from_start - along[:, None] * axis
    distance = np.sqrt(np.einsum("ai,ai->a", off_path, off_path))
    near = distance < radius
    return NearAtoms(
        positions=positions[near], host_index=around.host_index[inside[near]], path_distance=distance[near]
    )


@dataclass(frozen=True, kw_only=True)
class _HostAroundCell:
    """A host's reduced cell and all copies of its atoms within a distance of that cell.

    Attributes:
        basis_angstrom: rows are the reduced cell's vectors, shape [3, 3].
        to_frac: from angstrom to fractional coordinates in it, shape [3, 3].
        positions: of the copies, shape [n, 3], angstrom.
        host_index: of the host atom that each is a copy of, shape [n].
    """

    basis_angstrom: FloatArray
    to_frac: FloatArray
    positions: FloatArray
    host_index: IntArray


@lru_cache(maxsize=_HOSTS_KEPT)
def _host_around_cell(lattice_bytes: bytes, frac_bytes: bytes, within_angstrom: int) -> _HostAroundCell:
    lattice, frac = (np.frombuffer(one).reshape(-1, 3) for one in (lattice_bytes, frac_bytes))
    basis, positions, host_index, _ = copies_near_cell(frac, lattice, within_angstrom + _ROUNDING_ANGSTROM)
    to_frac = np.asarray(np.linalg.inv(basis), dtype=np.float64)
    return _HostAroundCell(basis_angstrom=basis, to_frac=to_frac, positions=positions, host_index=host_index)


def fade(excess: FloatArray) -> FloatArray:
    """A smooth step: 1 up to zero, then half a cosine down to 0 at one."""
    faded = np.asarray(excess < 1.0, dtype=np.float64)
    # most atoms are on either side of the step, and a cosine takes longer than all else here
    on_the_step = np.flatnonzero((faded > 0.0) & (excess > 0.0))
    np.put(faded, on_the_step, 0.5 * (1.0 + np.cos(np.pi * excess.take(on_the_step))))
    return faded
