"""Which of an ion's sites hold an ion while one of them hops."""

import math

import numpy as np

from app.crystals.band import FloatArray, IntArray
from app.crystals.crystal import FULL_OCCUPANCY_TOLERANCE
from app.crystals.geometry.periodic import shortest_lengths
from app.crystals.sites.ordering import Ordering
from app.crystals.sites.supercell import Supercell

#: Two ions of a kind are not found nearer than this, so of two partly occupied sites only one is filled.
CROWDED_ANGSTROM = 1.8


def filled_sites(supercell: Supercell, image_frac_coords: FloatArray, vacant: set[int], ordering: Ordering) -> IntArray:
    """Which of the other sites hold an ion: all full ones, and partly occupied ones as the formula allows.

    Those are filled from the best occupied down, each as far from the others as can be, and none within
    CROWDED_ANGSTROM of another ion or of the images, or on an atom of the host.

    Args:
        supercell: where the hop is.
        image_frac_coords: of the hop, shape [n_images, 3].
        vacant: the two sites of the hop, indices among the supercell's sites of the ion.
        ordering: of the host's atoms, some of which may be on the ion's sites.

    Returns:
        indices of the filled sites, in rising order.
    """
    blocked = [
        ion for ion, symbol in zip(ordering.places.ion_sites, ordering.filled, strict=True) if ion >= 0 and symbol
    ]
    is_other = np.ones(len(supercell.occupancies), dtype=bool)
    is_other[[*vacant, *blocked]] = False
    others = np.flatnonzero(is_other)
    occupancies = supercell.occupancies[others]
    full = occupancies > 1.0 - FULL_OCCUPANCY_TOLERANCE
    filled = list(others[full])
    wanted = round(math.fsum(supercell.occupancies)) - 1  # exact, so that half an ion is rounded alike in any order
    if full.all() or len(filled) >= wanted:
        return np.asarray(others[full])
    coords = supercell.ion_frac_coords
    partly, weights = others[~full], np.round(occupancies[~full], 2)
    # how far each partly occupied site is from the nearest image, ion or atom on one of the ion's sites
    to_images = (coords[partly][:, None] - image_frac_coords).reshape(-1, 3)
    lengths = shortest_lengths(to_images, supercell.lattice_angstrom)
    free = np.asarray(lengths.reshape(len(partly), -1).min(axis=1))
    if occupied := [supercell.distances_from(int(ion)) for ion in (*filled, *blocked)]:
        free = np.minimum(free, np.min(occupied, axis=0)[partly])
    for atoms in (ordering.places.fixed_frac_coords, ordering.atoms[1]):
        free[np.isin(partly, supercell.ions_on(atoms))] = 0.0
    while len(filled) < wanted and (free >= CROWDED_ANGSTROM).any():
        open_weights = np.where(free >= CROWDED_ANGSTROM, weights, -1.0)
        best = int(np.lexsort([supercell.ion_ranks[partly], -np.round(free, 3), -open_weights])[0])
        filled.append(partly[best])
        free = np.minimum(free, supercell.distances_from(int(partly[best]))[partly])
    return np.sort(np.array(filled, dtype=np.int64))
