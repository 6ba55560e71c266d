"""Helpers: crystals with textbook structures, made from their lattice parameters."""

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from pymatgen.core import Lattice, Structure

from app.crystals.band import FloatArray
from app.crystals.crystal import Crystal, Site

Atom = tuple[str, tuple[float, float, float]]


def crystal_of(lattice: FloatArray, atoms: Sequence[Atom]) -> Crystal:
    """An ordered crystal."""
    sites = tuple(Site(species=((symbol, 1.0),), frac_coords=coords) for symbol, coords in atoms)
    return Crystal(lattice_angstrom=lattice, sites=sites)


def layered_oxide(*, a: float = 2.816, c: float = 14.05) -> Crystal:
    """LiCoO2 in its hexagonal setting (R-3m): Li in 3b, Co in 3a, O in 6c with z = 0.2605 (to Co)."""
    lattice = np.array([[a, 0, 0], [-a / 2, a * np.sqrt(3) / 2, 0], [0, 0, c]])
    atoms: list[Atom] = []
    for x, y, z in ((0.0, 0.0, 0.0), (2 / 3, 1 / 3, 1 / 3), (1 / 3, 2 / 3, 2 / 3)):
        for symbol, height in (("Co", 0.0), ("Li", 0.5), ("O", 0.2605), ("O", -0.2605)):
            atoms.append((symbol, (x, y, (z + height) % 1.0)))
    return crystal_of(lattice, atoms)


def rock_salt(*, a: float = 5.13, ion: str = "Li", other: str = "Cl") -> Crystal:
    """LiCl in its cubic setting (Fm-3m)."""
    corners = [(0.0, 0.0, 0.0), (0.0, 0.5, 0.5), (0.5, 0.0, 0.5), (0.5, 0.5, 0.0)]
    atoms: list[Atom] = [(ion, corner) for corner in corners]
    atoms += [(other, ((x + 0.5) % 1, (y + 0.5) % 1, (z + 0.5) % 1)) for x, y, z in corners]
    return crystal_of(np.eye(3) * a, atoms)


def spinel(*, a: float = 8.5, x: float = 0.2624, ion: str = "Mg", other: str = "Mn") -> Crystal:
    """MgMn2O4 as a cubic spinel (Fd-3m, origin at the centre): Mg in 8a, Mn in 16d, O in 32e."""
    faces = np.array([(0, 0, 0), (0, 0.5, 0.5), (0.5, 0, 0.5), (0.5, 0.5, 0)])
    tetrahedra = np.array([(1 / 8, 1 / 8, 1 / 8), (7 / 8, 3 / 8, 3 / 8)])
    octahedra = np.array([(1 / 2, 1 / 2, 1 / 2), (1 / 4, 3 / 4, 0), (3 / 4, 0, 1 / 4), (0, 1 / 4, 3 / 4)])
    first = [(x, x, x), (-x + 3 / 4, -x + 1 / 4, x + 1 / 2), (-x + 1 / 4, x + 1 / 2, -x + 3 / 4)]
    oxygen = np.array([*first, (x + 1 / 2, -x + 3 / 4, -x + 1 / 4)])
    atoms: list[Atom] = []
    for symbol, places in ((ion, tetrahedra), (other, octahedra), ("O", np.vstack([oxygen, -oxygen]))):
        for place, face in itertools.product(places, faces):
            u, v, w = (float(value) % 1.0 for value in np.round(place + face, 9))
            atoms.append((symbol, (u, v, w)))
    return crystal_of(np.eye(3) * a, atoms)


def garnet(*, a: float = 12.98) -> Crystal:
    """Li7La3Zr2O12 as a cubic garnet (Ia-3d): La in 24c, Zr in 16a, O in 96h, Li partly on 24d and 96h.

    Rounded from J. Awaka et al., Chem. Lett. 40, 60 (2011).
    """
    kinds = ({"La": 1.0}, {"Zr": 1.0}, {"O": 1.0}, {"Li": 0.94}, {"Li": 0.349})
    places = ((1 / 8, 0, 1 / 4), (0, 0, 0), (-0.0318, 0.0545, 0.1503), (3 / 8, 0, 1 / 4), (0.0997, 0.6853, 0.5772))
    return crystal_from(Structure.from_spacegroup("Ia-3d", Lattice.cubic(a), kinds, places))


def olivine() -> Crystal:
    """LiFePO4 (Pnma): Li in 4a, Fe, P and two O in 4c, O in 8d.

    Rounded from V. A. Streltsov et al., Acta Cryst. B49, 147 (1993).
    """
    kinds = ("Li", "Fe", "P", "O", "O", "O")
    places = (
        (0.0, 0.0, 0.0),
        (0.282, 0.25, 0.975),
        (0.095, 0.25, 0.418),
        (0.097, 0.25, 0.743),
        (0.457, 0.25, 0.206),
        (0.166, 0.047, 0.285),
    )
    return crystal_from(Structure.from_spacegroup("Pnma", Lattice.orthorhombic(10.332, 6.010, 4.692), kinds, places))


def fluorite(*, a: float = 5.463, ion: str = "Ca", other: str = "F") -> Crystal:
    """CaF2 (Fm-3m): Ca in 4a, F in 8c."""
    return crystal_from(
        Structure.from_spacegroup("Fm-3m", Lattice.cubic(a), (ion, other), ((0.0, 0.0, 0.0), (0.25, 0.25, 0.25)))
    )


def zinc_blende(*, a: float = 5.409, ion: str = "Zn", other: str = "S") -> Crystal:
    """ZnS (F-43m): Zn in 4a, S in 4c."""
    return crystal_from(
        Structure.from_spacegroup("F-43m", Lattice.cubic(a), (ion, other), ((0.0, 0.0, 0.0), (0.25, 0.25, 0.25)))
    )


def crystal_from(structure: Structure) -> Crystal:
    """A crystal as pymatgen has it, with its shared and partly empty sites."""
    sites = []
    for site in structure:
        u, v, w = (float(value) % 1.0 for value in np.round(site.frac_coords, 9))
        species = tuple((str(species), float(amount)) for species, amount in site.species.items())
        sites.append(Site(species=species, frac_coords=(u, v, w)))
    return Crystal(lattice_angstrom=np.array(structure.lattice.matrix), sites=tuple(sites))


def repeated(crystal: Crystal, times: tuple[int, int, int]) -> Crystal:
    """The same crystal in a cell that is so many times as large."""
    sites = [
        replace(site, frac_coords=_divided(site.frac_coords, cell, times))
        for cell in itertools.product(*(range(n) for n in times))
        for site in crystal.sites
    ]
    return replace(crystal, lattice_angstrom=crystal.lattice_angstrom * np.array(times)[:, None], sites=tuple(sites))


def _divided(
    frac: tuple[float, float, float], cell: tuple[int, ...], times: tuple[int, int, int]
) -> tuple[float, float, float]:
    x, y, z = ((value + n) / count for value, n, count in zip(frac, cell, times, strict=True))
    return x, y, z
