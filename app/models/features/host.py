"""The role of each host atom: anion or cation, its valence, and the polyanion it belongs to."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from app.crystals.band import Band, FloatArray, IntArray
from app.crystals.geometry.periodic import pairs_of_copies
from app.crystals.hops.surroundings import fade
from app.models.features.tables import VALENCE_DECAY_ANGSTROM, atomic_number, element_table

#: Centres of polyanions that are distinguished; "other" is any other non-metal with bonds as short.
CENTRES = ("B", "C", "N", "Si", "P", "S", "other")

_BOND_REACH_ANGSTROM = 3.8
_VALENCE_FADE_ANGSTROM = 0.8  # a bond's valence fades out over this distance before the reach
_COVALENT_SLACK_ANGSTROM = 0.3  # a bond is covalent up to the covalent radii and this, and not beyond twice this
_OXYGEN, _FLUORINE = 8, 9
_MOST_VALENCE = 7.0
#: Hosts whose atoms' roles are kept: all hops of a crystal share one.
_KEPT = 32


@dataclass(frozen=True, kw_only=True)
class HostAtoms:
    """The roles of the host's atoms, from their neighbours.

    An element that may be either (sulfur in a sulfide or in a sulfate) is an anion to the extent that no atom more
    electronegative than itself is bonded to it. All figures change smoothly with the positions.

    Attributes:
        numbers: atomic numbers, shape [n_host].
        anion: 1 for an anion, 0 for a cation, shape [n_host].
        valence: a cation's bond valence sum, at most 7, shape [n_host].
        held: the sum of the bond valences of an atom as cation and as anion, shape [n_host].
        charge: the valence of a cation, the charge of the element's usual ion for an anion, shape [n_host].
        radius_angstrom: ionic radius in that role, shape [n_host], angstrom.
        bonded: the degree to which an anion belongs to a polyanion, by CENTRES, 0 to 1, shape [n_host, 7].
    """

    numbers: IntArray
    anion: FloatArray
    valence: FloatArray
    held: FloatArray
    charge: FloatArray
    radius_angstrom: FloatArray
    bonded: FloatArray


def host_atoms(band: Band) -> HostAtoms:
    """Read the role of each host atom from its neighbours within 3.8 angstrom; computed once for equal hosts."""
    return _host_atoms(band.lattice_angstrom.tobytes(), band.host_species, band.host_frac_coords.tobytes())


@lru_cache(maxsize=_KEPT)
def _host_atoms(lattice_bytes: bytes, species: tuple[str, ...], frac_bytes: bytes) -> HostAtoms:
    table = element_table()
    numbers = np.array([atomic_number(symbol) for symbol in species], dtype=np.int64)
    lattice, frac = (np.frombuffer(one).reshape(-1, 3) for one in (lattice_bytes, frac_bytes))
    atom, other, distance = _bonds_to_anions(lattice, frac, table.anion_charge[numbers] < 0)
    covalent = _covalent_share(numbers[atom], numbers[other], distance)
    anion = _anion_share(numbers, atom, other, covalent)
    of_anion = (1.0 - anion[atom]) * anion[other]
    valence = np.exp((table.unit_bond_angstrom(numbers[atom], numbers[other]) - distance) / VALENCE_DECAY_ANGSTROM)
    valence *= of_anion * fade(1.0 - (_BOND_REACH_ANGSTROM - distance) / _VALENCE_FADE_ANGSTROM)
    of_cation = np.bincount(atom, valence, len(numbers))
    total = _MOST_VALENCE * np.tanh(of_cation / _MOST_VALENCE)
    return HostAtoms(
        numbers=numbers,
        anion=anion,
        valence=total,
        held=np.asarray(of_cation + np.bincount(other, valence, len(numbers)), dtype=np.float64),
        charge=anion * table.anion_charge[numbers] + (1.0 - anion) * total,
        radius_angstrom=anion * table.anion_radius_angstrom[numbers]
        + (1.0 - anion) * table.cation_radius_angstrom[numbers],
        bonded=_polyanions(numbers, atom, other, covalent * of_anion),
    )


def _bonds_to_anions(
    lattice_angstrom: FloatArray, frac_coords: FloatArray, may_be: NDArray[np.bool_]
) -> tuple[IntArray, IntArray, FloatArray]:
    """Pairs of host atoms of which the second is of an element that may be an anion, and their distances."""
    atom, other, distance = pairs_of_copies(frac_coords, lattice_angstrom, _BOND_REACH_ANGSTROM)
    kept = np.flatnonzero(may_be[other])
    return atom[kept], other[kept], distance[kept]


def _covalent_share(numbers: IntArray, others: IntArray, distance: FloatArray) -> FloatArray:
    """1 for a pair as close as a covalent bond, falling to 0 over 0.3 angstrom."""
    radius = element_table().covalent_radius_angstrom
    excess = distance - radius[numbers] - radius[others] - _COVALENT_SLACK_ANGSTROM
    return fade(excess / _COVALENT_SLACK_ANGSTROM)


def _anion_share(numbers: IntArray, atom: IntArray, other: IntArray, covalent: FloatArray) -> FloatArray:
    table = element_table()
    may_be = table.anion_charge < 0
    electronegativity = table.electronegativity
    stronger = electronegativity[numbers[other]] > electronegativity[numbers[atom]]
    bonded = np.flatnonzero(may_be[numbers[atom]] & stronger & (covalent > 0.0))
    unbonded = np.ones(len(numbers))
    np.multiply.at(unbonded, atom[bonded], 1.0 - covalent[bonded])
    always = (numbers == _OXYGEN) | (numbers == _FLUORINE)
    return np.where(always, 1.0, np.where(may_be[numbers], unbonded, 0.0))


def _polyanions(numbers: IntArray, atom: IntArray, other: IntArray, share: FloatArray) -> FloatArray:
    """The degree to which each anion (`other`) is bonded covalently to each kind of centre (`atom`)."""
    bonded = np.zeros((len(numbers), len(CENTRES)))
    centre_of = np.full(len(element_table().mass_u), -1)
    centre_of[[atomic_number(symbol) for symbol in CENTRES[:-1]]] = np.arange(len(CENTRES) - 1)
    central = np.flatnonzero((element_table().anion_charge[numbers[atom]] < 0) & (share > 0.0))
    np.add.at(bonded, (other[central], centre_of[numbers[atom[central]]]), share[central])
    return np.minimum(bonded, 1.0)
