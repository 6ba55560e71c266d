"""A small table of the elements' sizes, charges and softness, hydrogen to fermium."""

import json
from dataclasses import dataclass, fields
from functools import cache
from importlib.resources import files

import numpy as np

from app.crystals.band import FloatArray, IntArray
from app.crystals.elements import SYMBOLS

#: The softness parameter of bond valences, angstrom (Brown and Altermatt 1985).
VALENCE_DECAY_ANGSTROM = 0.37


@dataclass(frozen=True, kw_only=True)
class ElementTable:
    """Properties by atomic number, each of shape [101]; row 0 is empty.

    Electronegativities (Pauling), masses, rows, groups and ionic radii (Shannon 1976) are those of pymatgen's
    element data; the charge of a cation is its commonest oxidation state, and the radius that of the listed charge
    nearest to it, six-fold where listed. Anion radii are Shannon's too and otherwise the covalent radius (Cordero
    et al. 2008, from ASE) and 0.75 angstrom, which is within 0.06 of Shannon's for N, O, F, S, Se, Cl, Br and I.
    Polarisabilities are those of free atoms (Tkatchenko and Scheffler 2009, from ASE). Bond valence radii and
    softness are those of O'Keeffe and Brese (1991), from pymatgen. Missing values are filled in: a polarisability, a
    bond valence radius or a softness from its trend with the covalent radius or the electronegativity, the rest with
    medians.

    Attributes:
        electronegativity: Pauling's scale.
        covalent_radius_angstrom: angstrom.
        cation_charge, cation_radius_angstrom: where the element is a cation; elementary charges, angstrom.
        anion_charge, anion_radius_angstrom: where it is an anion; both 0 for elements that are never one.
        mass_u: atomic mass units.
        row, group: of the periodic table.
        polarizability_angstrom3: cubic angstrom.
        bond_valence_radius_angstrom, bond_valence_softness: the parameters of the length of a bond of valence one.
    """

    electronegativity: FloatArray
    covalent_radius_angstrom: FloatArray
    cation_charge: FloatArray
    cation_radius_angstrom: FloatArray
    anion_charge: FloatArray
    anion_radius_angstrom: FloatArray
    mass_u: FloatArray
    row: FloatArray
    group: FloatArray
    polarizability_angstrom3: FloatArray
    bond_valence_radius_angstrom: FloatArray
    bond_valence_softness: FloatArray

    def unit_bond_angstrom(self, one: IntArray | int, other: IntArray) -> FloatArray:
        """The length of a bond of valence one between elements given by atomic number, angstrom."""
        radius, other_radius = self.bond_valence_radius_angstrom[one], self.bond_valence_radius_angstrom[other]
        soft, other_soft = self.bond_valence_softness[one], self.bond_valence_softness[other]
        shortening = radius * other_radius * (np.sqrt(soft) - np.sqrt(other_soft)) ** 2
        return np.asarray(radius + other_radius - shortening / (soft * radius + other_soft * other_radius))


@cache
def element_table() -> ElementTable:
    """The table, built once."""
    stored = json.loads(files("app.models.features").joinpath("elements.json").read_text(encoding="utf-8"))
    rows = stored["elements"]
    numbers = np.array([rows[symbol] for symbol in SYMBOLS[: len(rows)]], dtype=np.float64)
    columns = np.concatenate([np.zeros((1, numbers.shape[1])), numbers])
    index = {name: place for place, name in enumerate(stored["columns"])}
    return ElementTable(**{field.name: columns[:, index[field.name]].copy() for field in fields(ElementTable)})


@cache
def atomic_number(symbol: str) -> int:
    """The atomic number of an element."""
    return SYMBOLS.index(symbol) + 1
