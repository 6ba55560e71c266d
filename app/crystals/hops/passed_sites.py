"""Detection of straight hops that pass over a third site of the ion, and so are two hops."""

import numpy as np

from app.crystals.band import FloatArray
from app.crystals.hops.surroundings import near_line
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
    ends = np.stack([start_frac, end_frac]) @ lattice_angstrom
    near = near_line(lattice_angstrom, site_frac_coords, ends, ON_THE_WAY_ANGSTROM)
    to_ends = np.linalg.norm(near.positions[:, None] - ends, axis=2).min(axis=1)
    along = (near.positions - ends[0]) @ (ends[1] - ends[0])
    passed = (to_ends >= SPLIT_ANGSTROM) & (along > 0.0) & (along < float(np.sum((ends[1] - ends[0]) ** 2)))
    if not passed.any():
        return None
    # of copies at one distance to rounding, the first site
    order = np.lexsort([near.host_index[passed], np.round(near.path_distance[passed], 6)])
    return int(near.host_index[passed][order[0]])
