"""The host atoms around a path, each periodic copy separately, independent of the supercell."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from app.crystals.band import Band, FloatArray, IntArray, model_band
from app.crystals.geometry.lattices import shortest_translation_angstrom
from app.crystals.geometry.reduction import reduced_lattice

_SKEWED = 4  # a cell that needs this many times the copies of its reduced form is replaced by it
_ROUNDING_ANGSTROM = 1e-6
_POINTS_AT_ONCE = 4_000_000  # points compared with the path at once, which bounds memory


#: In a cell with a shorter translation the ion's own copies count as neighbours. A little under the 8 angstrom of a
#: right-sized supercell, since files round.
CLOSE_COPY_ANGSTROM = 7.99
_SAME_PLACE_ANGSTROM = 0.5


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
        band: with copies of the ion in its host.
        images: of the ion, shape [5, 3], angstrom.
        near: the host atoms, without the ion itself.
    """

    band: Band
    images: FloatArray
    near: NearAtoms

    def within(self, radius_angstrom: float) -> "PathSurroundings":
        """The surroundings within a smaller radius, angstrom."""
        return replace(self, near=_chosen(self.near, self.near.path_distance < radius_angstrom))


def path_surroundings(band: Band, radius_angstrom: float) -> PathSurroundings:
    """The host within a radius of a band's straight path, independent of the cell.

    A cell repeats its content, including the vacancy. In a host with other ions of the element, both sites of the hop
    are taken as filled in every copy of the cell: one hop in an otherwise complete crystal. In a host without any they
    stay empty, unless a translation is so short that the copies of the ion are its neighbours.
    """
    band = _with_copies(model_band(band))
    images = band.image_frac_coords @ band.lattice_angstrom
    near = host_near_path(band, images, radius_angstrom)
    same = np.array([symbol == band.ion for symbol in band.host_species], dtype=bool)[near.host_index]
    to_ends = np.linalg.norm(near.positions[:, None] - images[[0, -1]], axis=2).min(axis=1)
    kept = ~(same & (to_ends < _SAME_PLACE_ANGSTROM))
    return PathSurroundings(band=band, images=images, near=_chosen(near, kept))


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
    apart = np.linalg.norm((away - np.round(away)) @ band.lattice_angstrom) > _SAME_PLACE_ANGSTROM
    copies = np.stack([first, last] if apart else [first])
    return replace(
        band,
        host_species=(*band.host_species, *[band.ion] * len(copies)),
        host_frac_coords=np.concatenate([band.host_frac_coords, copies]),
    )


def host_near_path(band: Band, images: FloatArray, radius: float) -> NearAtoms:
    """Every host atom within a radius (angstrom) of the line through images, shape [n_images, 3], angstrom."""
    reach = radius + 0.5 * float(np.linalg.norm(images[-1] - images[0]))
    lattice, host = band.lattice_angstrom, band.host_frac_coords
    reduced, steps = reduced_lattice(lattice)
    if _copies(lattice, reach).prod() > _SKEWED * _copies(reduced, reach).prod():
        lattice, host = reduced, host @ np.linalg.inv(steps)
    repeats = _copies(lattice, reach) // 2
    middle = images.mean(axis=0)
    relative = host - middle @ np.linalg.inv(lattice)
    home = (relative - np.round(relative)) @ lattice + middle
    axes = [np.arange(-n, n + 1) for n in repeats]
    shifts = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3) @ lattice
    size = max(1, _POINTS_AT_ONCE // max(1, len(home)))
    pieces = [_keep_near(home, shifts[start : start + size], images, radius) for start in range(0, len(shifts), size)]
    return NearAtoms(
        positions=np.concatenate([piece[0] for piece in pieces]),
        host_index=np.concatenate([piece[1] for piece in pieces]),
        path_distance=np.concatenate([piece[2] for piece in pieces]),
    )


def _copies(lattice_angstrom: FloatArray, reach_angstrom: float) -> IntArray:
    """Number of cells along each lattice vector that contain everything within reach of the middle one, shape [3]."""
    plane_spacing = 1.0 / np.linalg.norm(np.linalg.inv(lattice_angstrom), axis=0)
    # An atom moved into the cell around the path's middle is at most half a cell away along each vector.
    return np.asarray(2 * np.ceil(reach_angstrom / plane_spacing + 0.5).astype(np.int64) + 1)


def _keep_near(
    home: FloatArray, shifts: FloatArray, images: FloatArray, radius: float
) -> tuple[FloatArray, IntArray, FloatArray]:
    """Copies of the host's atoms within a radius of the straight path."""
    axis = images[-1] - images[0]
    middle = 0.5 * (images[0] + images[-1])
    # Most copies are rejected by a cheap test: outside the sphere around the path, with a margin for rounding.
    centred = home - middle
    squared = 2.0 * shifts @ centred.T
    squared += np.einsum("ai,ai->a", centred, centred)
    squared += np.einsum("si,si->s", shifts, shifts)[:, None]
    shift_index, atom = np.nonzero(squared < (radius + 0.5 * np.linalg.norm(axis) + _ROUNDING_ANGSTROM) ** 2)
    positions = home[atom] + shifts[shift_index]
    along = np.clip((positions - images[0]) @ axis / max(float(axis @ axis), 1e-12), 0.0, 1.0)
    distance = np.linalg.norm(positions - images[0] - along[:, None] * axis, axis=1)
    near = distance < radius
    return positions[near], atom[near], distance[near]


def fade(excess: FloatArray) -> FloatArray:
    """A smooth step: 1 up to zero, then half a cosine down to 0 at one."""
    return np.asarray(0.5 * (1.0 + np.cos(np.pi * np.minimum(np.maximum(excess, 0.0), 1.0))))
