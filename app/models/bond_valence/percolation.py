"""Percolation by bond valence: a host's landscape on a grid, and the lowest passes that connect through it."""

import math
from dataclasses import dataclass

import numpy as np

from app.crystals.charged_host import ChargedHost
from app.crystals.hops.percolation import PercolationBarriers
from app.errors import TooLargeError
from app.models.bond_valence.basins import basins, neighbours_within
from app.models.bond_valence.grid import energy_grid, grid_shape

#: Spacing of the grid, coarser in a large cell: with half of it barriers of forty published crystals change by 0.02 eV
#: in the median, and by 0.13 at most.
FINEST_ANGSTROM = 0.25
MOST_POINTS = 40_000
#: A path is a few tenths of an angstrom wide; a coarser grid than this does not show it.
COARSEST_ANGSTROM = 0.5
#: Points along one axis, points of a thin or skewed cell, and atoms times points: what bounds memory and time.
MOST_ALONG_AXIS = 512
MOST_POINTS_SKEWED = 4 * MOST_POINTS
MOST_TERMS = 20_000_000
#: Numbers of points are multiples of this, so that screw axes and glide planes of a cubic crystal map points on points.
_STEP = 4


@dataclass(frozen=True, kw_only=True)
class HostPercolation:
    """How the landscape of a host percolates.

    Attributes:
        barriers: the lowest energies above the lowest point up to which the landscape connects.
        grid_angstrom: spacing of the grid.
    """

    barriers: PercolationBarriers
    grid_angstrom: float


def host_percolation(host: ChargedHost) -> HostPercolation:
    """Find the energies, above the lowest point of a host's landscape, at which it connects in 1, 2 and 3 dimensions.

    Raises:
        TooLargeError: the cell is too large for a grid that would show the paths ("cell-too-large").
    """
    volume = abs(float(np.linalg.det(host.lattice_angstrom)))
    spacing = max(FINEST_ANGSTROM, (volume / MOST_POINTS) ** (1 / 3))
    if spacing > COARSEST_ANGSTROM:
        most = MOST_POINTS * COARSEST_ANGSTROM**3
        raise TooLargeError(
            f"The primitive cell has {volume:,.0f} cubic angstrom; bond valence takes at most {most:,.0f}.",
            kind="cell-too-large",
        )
    a, b, c = (-(-count // _STEP) * _STEP for count in grid_shape(host.lattice_angstrom, spacing))
    _check_work(host, (a, b, c))
    grid = energy_grid(host, (a, b, c))
    near = neighbours_within(host.lattice_angstrom, (a, b, c))
    found = basins(grid.energies_ev, neighbours=near)
    return HostPercolation(barriers=found.percolation(), grid_angstrom=grid.spacing_angstrom)


def _check_work(host: ChargedHost, shape: tuple[int, int, int]) -> None:
    """Refuse a grid that would take gigabytes or more than a few seconds.

    Raises:
        TooLargeError: it would ("cell-too-large").
    """
    longest = float(np.linalg.norm(host.lattice_angstrom, axis=1).max())
    points, atoms = math.prod(shape), len(host.morse) + len(host.coulomb)
    if max(shape) > MOST_ALONG_AXIS:
        raise TooLargeError(
            f"A lattice vector of the primitive cell has {longest:,.0f} angstrom, {max(shape):,} points of the grid; "
            f"bond valence takes at most {MOST_ALONG_AXIS:,} along one.",
            kind="cell-too-large",
        )
    if points > MOST_POINTS_SKEWED:
        raise TooLargeError(
            f"The primitive cell is so thin or skewed that its grid has {points:,} points; bond valence takes at most "
            f"{MOST_POINTS_SKEWED:,}.",
            kind="cell-too-large",
        )
    if points * atoms > MOST_TERMS:
        raise TooLargeError(
            f"The primitive cell has {atoms:,} atoms on a grid of {points:,} points; bond valence takes at most "
            f"{MOST_TERMS:,} pairs of an atom and a point.",
            kind="cell-too-large",
        )
