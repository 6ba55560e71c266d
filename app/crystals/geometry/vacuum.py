"""Vacuum in a cell: planes between which there is no atom, as beside a slab, a sheet, a wire or a molecule."""

from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np

from app.crystals.band import FloatArray, IntArray
from app.crystals.geometry.periodic import cell_heights_angstrom, near_pairs
from app.crystals.geometry.reduction import reduced_lattice

#: The widest gap between planes of atoms that is not vacuum. Of 3,000 bulk crystals of the screening data two have a
#: wider one, both of them chains, and none has one of 5.1 to 8; slabs have 6 angstrom of vacuum at the least.
VACUUM_ANGSTROM = 5.5
#: Atoms of a slab are bonded to each other; the longest contacts between neighbouring ions, in CsI, are 3.95 angstrom.
#: Where most atoms have no neighbour this near, the whole cell is sparse, and no gap in it stands out as vacuum.
NEIGHBOUR_ANGSTROM = 4.0
_SHAPES: dict[int, Literal["slab", "wire", "molecule"]] = {1: "slab", 2: "wire", 3: "molecule"}


def _coprime_indices() -> IntArray:
    """Miller indices of the planes that are searched, one of each pair (hkl) and its opposite."""
    found = [
        index
        for index in product((-1, 0, 1), repeat=3)
        if index > (0, 0, 0)  # of two opposite directions, the one whose first index that is not 0 is positive
    ]
    return np.array(found, dtype=np.int64)


_PLANES = _coprime_indices()


@dataclass(frozen=True, kw_only=True, eq=False)
class Gap:
    """An empty space between two parallel planes of atoms.

    Attributes:
        normal: Miller indices of the planes in the given cell, shape [3]; frac_coords @ normal counts planes.
        spacing_angstrom: between planes of these indices.
        start: where the gap begins, the highest atoms below it, as a share of the spacing, 0 to 1.
        width_angstrom: to the lowest atoms above it.
    """

    normal: IntArray
    spacing_angstrom: float
    start: float
    width_angstrom: float

    def depths_angstrom(self, frac_coords: FloatArray) -> FloatArray:
        """How far places are from the nearer surface, shape [n], angstrom; negative in the vacuum.

        Args:
            frac_coords: in the given cell, shape [n, 3].
        """
        above = (frac_coords @ self.normal - self.start) % 1.0 * self.spacing_angstrom  # of the surface below the gap
        in_gap = above < self.width_angstrom
        outside = -np.minimum(above, self.width_angstrom - above)
        inside = np.minimum(above - self.width_angstrom, self.spacing_angstrom - above)
        return np.asarray(np.where(in_gap, outside, inside))


@dataclass(frozen=True, kw_only=True, eq=False)
class Vacuum:
    """What is not filled by atoms.

    Attributes:
        gaps: the widest first, in directions none of which follows from the others: at most three.
    """

    gaps: tuple[Gap, ...]

    @property
    def shape(self) -> Literal["slab", "wire", "molecule"]:
        """What the atoms are: bounded in one, two or three directions."""
        return _SHAPES[len(self.gaps)]

    @property
    def as_doubt(self) -> str:
        """Why a hop beside it is unlike those in bulk crystals."""
        return (
            f"the atoms are a {self.shape} with a gap of {self.gaps[0].width_angstrom:.1f} angstrom of vacuum, and the "
            "model was fitted on bulk crystals"
        )

    def depths_angstrom(self, frac_coords: FloatArray) -> FloatArray:
        """How far places are from the nearest surface, shape [n], angstrom; negative in the vacuum."""
        return np.asarray(np.min([gap.depths_angstrom(frac_coords) for gap in self.gaps], axis=0))


def find_vacuum(frac_coords: FloatArray, lattice_angstrom: FloatArray) -> Vacuum | None:
    """Find gaps between planes of atoms, along the axes and diagonals of the cell and of its shortest form.

    A gap is no wider than the spacing of its planes, so only planes of a large spacing are looked at: those of a cell
    without one cost no sorting.

    Args:
        frac_coords: of all atoms, shape [n, 3], n > 0.
        lattice_angstrom: rows are the lattice vectors, shape [3, 3], angstrom; a cell that `check_cell` takes.
    """
    basis, steps = reduced_lattice(lattice_angstrom)
    if cell_heights_angstrom(basis).max() < VACUUM_ANGSTROM:
        return None
    # indices in the shortest cell, turned into those of the given one: h . x is the same number
    to_reduced = np.rint(np.linalg.inv(steps)).astype(np.int64)
    normals = np.unique(np.vstack([_PLANES @ to_reduced.T, _PLANES]), axis=0)
    spacings = 1.0 / np.linalg.norm(normals @ np.linalg.inv(lattice_angstrom).T, axis=1)
    wide = spacings >= VACUUM_ANGSTROM
    normals, spacings = normals[wide], spacings[wide]
    along = np.sort((frac_coords @ normals.T) % 1.0, axis=0)
    empty = np.diff(np.vstack([along, along[:1] + 1.0]), axis=0)
    at = empty.argmax(axis=0)
    columns = np.arange(len(normals))
    widths = empty[at, columns] * spacings
    gaps: list[Gap] = []
    for k in np.argsort(-widths, kind="stable"):
        directions = np.array([*(gap.normal for gap in gaps), normals[k]])
        if widths[k] >= VACUUM_ANGSTROM and np.linalg.matrix_rank(directions) == len(directions):
            gaps.append(
                Gap(
                    normal=normals[k],
                    spacing_angstrom=float(spacings[k]),
                    start=float(along[at[k], k]),
                    width_angstrom=float(widths[k]),
                )
            )
    return Vacuum(gaps=tuple(gaps)) if gaps and _is_bonded(frac_coords, lattice_angstrom) else None


def _is_bonded(frac_coords: FloatArray, lattice_angstrom: FloatArray) -> bool:
    """Whether most atoms have a neighbour, another atom or their own periodic copy."""
    pairs, _ = near_pairs(frac_coords, None, lattice_angstrom, NEIGHBOUR_ANGSTROM)
    to_own_copy = float(np.linalg.norm(reduced_lattice(lattice_angstrom)[0][0]))
    return to_own_copy <= NEIGHBOUR_ANGSTROM or 2 * len(np.unique(pairs)) >= len(frac_coords)
