"""Electrostatic energies of point charges in a periodic cell."""

import numpy as np

from app.crystals.band import FloatArray


def pair_energies_ev(lattice_angstrom: FloatArray, frac_coords: FloatArray) -> FloatArray:
    """Ewald energies of unit charges: a matrix such that charges q have the energy q @ matrix @ q.

    A uniform background compensates a net charge.

    Args:
        lattice_angstrom: rows are the lattice vectors, shape [3, 3], angstrom.
        frac_coords: of the charges, shape [n, 3]; no two coincide.

    Returns:
        shape [n, n], eV.
    """
    # pymatgen takes a second to import, and ordered crystals never need it
    from pymatgen.analysis.ewald import EwaldSummation  # noqa: PLC0415
    from pymatgen.core import Lattice, Species, Structure  # noqa: PLC0415

    unit = Structure(Lattice(lattice_angstrom), [Species("H", 1)] * len(frac_coords), frac_coords)
    # in the sum for a charged cell the background's own energy is added to the whole and to no pair
    return np.asarray(EwaldSummation(unit).total_energy_matrix, dtype=np.float64)
