"""Detection of straight hops that pass over a third site of the ion, and so are two hops."""

import numpy as np

from app.crystals.band import FloatArray
from app.crystals.sites.split_sites import SPLIT_ANGSTROM

#: A site nearer to the line than this is on the way: an ion on the line would stop there.
ON_THE_WAY_ANGSTROM = 0.8


def site_on_the_way(
    lattice_angstrom: FloatArray, site_frac_coords: FloatArray, start_frac: FloatArray, end_frac: FloatArray
) -> int | None:
    """The index of the site that a straight hop passes over; None if there is none.

    Sites less than 1 angstrom from an end do not count: they are split positions of one ion.

    Args:
        lattice_angstrom: of the cell that the sites are in, shape [3, 3].
        site_frac_coords: of the ion's sites, shape [n_sites, 3].
        start_frac: of the hop, in fractional coordinates of the same cell, shape [3].
        end_frac: of the hop, likewise and not wrapped into the cell, shape [3].
    """
    start, hop = start_frac @ lattice_angstrom, (end_frac - start_frac) @ lattice_angstrom
    length = float(np.linalg.norm(hop))
    # All copies of a site that can be near: those in the cells around the middle of the hop.
    reach = length / 2.0 + ON_THE_WAY_ANGSTROM
    middle = 0.5 * (start_frac + end_frac)
    cells = np.ceil(reach * np.linalg.norm(np.linalg.inv(lattice_angstrom), axis=0)).astype(int)
    shifts = np.stack(np.meshgrid(*(np.arange(-n, n + 1) for n in cells), indexing="ij"), axis=-1).reshape(-1, 3)
    home = site_frac_coords - np.round(site_frac_coords - middle)
    away = (home[:, None] + shifts[None]).reshape(-1, 3) @ lattice_angstrom - start
    along = away @ hop / length
    off_line = np.linalg.norm(away - along[:, None] * hop / length, axis=1)
    between = (np.linalg.norm(away, axis=1) >= SPLIT_ANGSTROM) & (np.linalg.norm(away - hop, axis=1) >= SPLIT_ANGSTROM)
    passed = (off_line < ON_THE_WAY_ANGSTROM) & (along > 0.0) & (along < length) & between
    return int(np.flatnonzero(passed)[off_line[passed].argmin()]) // len(shifts) if passed.any() else None
