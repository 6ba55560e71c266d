"""Bands in crystals of published structure and lattice parameters, for tests that run without the data set.

Lattice parameters, angstrom, at room temperature, from R. W. G. Wyckoff, Crystal Structures (1963), where
`made_crystals` names no other source.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import count
from typing import Any

from made_crystals import fluorite, layered_oxide, olivine, rock_salt, spinel, zinc_blende

from app.crystals.band import Band
from app.crystals.hops.options import HopOptions
from app.crystals.hops.search import find_hops
from app.crystals.writers import band_to_json

CRYSTALS = {
    "LiFePO4": ("Li", olivine()),
    "LiCoO2": ("Li", layered_oxide()),
    "MgMn2O4": ("Mg", spinel()),
    "LiF": ("Li", rock_salt(a=4.027, other="F")),
    "LiCl": ("Li", rock_salt(a=5.130)),
    "NaCl": ("Na", rock_salt(a=5.640, ion="Na")),
    "KF": ("K", rock_salt(a=5.347, ion="K", other="F")),
    "MgO": ("Mg", rock_salt(a=4.212, ion="Mg", other="O")),
    "CaO": ("Ca", rock_salt(a=4.811, ion="Ca", other="O")),
    "SrO": ("Sr", rock_salt(a=5.160, ion="Sr", other="O")),
    "CaF2": ("Ca", fluorite()),
    "ZnS": ("Zn", zinc_blende()),
}
HOPS = 3
MOST_ATOMS = 500
#: Two bands are the same within 0.002 angstrom; cells are some ten angstrom wide.
STRAIN = 1e-3


@cache
def composed_bands() -> dict[str, Band]:
    """The shortest hops of each crystal that pass no atom too closely, by the crystal's formula and a number."""
    found: dict[str, Band] = {}
    for name, (ion, crystal) in CRYSTALS.items():
        search = find_hops(crystal, ion, HopOptions(max_hops=HOPS), max_atoms=MOST_ATOMS)
        bands = [hop.band for hop in search.hops if hop.band is not None and not hop.excluded_because]
        found |= {f"{name} {number}": band for number, band in enumerate(bands, 1)}
    return found


def composed_rows() -> Iterator[dict[str, Any]]:
    """Rows as the data set has them, without end: every round the crystals are strained a little further.

    `crystal` is its formula and `strain` the relative change of its lattice.
    """
    for step in count():
        for name, band in composed_bands().items():
            strained = replace(band, lattice_angstrom=band.lattice_angstrom * (1.0 + STRAIN * step))
            crystal = name.split()[0]
            yield {"id": name, "crystal": crystal, "strain": STRAIN * step, "sound": True, **band_to_json(strained)}
