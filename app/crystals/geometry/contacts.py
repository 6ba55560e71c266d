"""How near two atoms can be: distances that no two atoms have, and those that hardly any two have."""

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from app.crystals.band import FloatArray
from app.crystals.crystal import Contents
from app.crystals.geometry.periodic import near_pairs

#: Nearer than this two atoms are on top of each other, whatever they are: the shortest bond, H-H, has 0.74.
OVERLAP_ANGSTROM = 0.5
#: Of the sum of two covalent radii (Cordero et al., Dalton Trans. 2832, 2008). The shortest bonds there are have 0.66
#: (U=O of uranyl, Cr-Cr), 0.72 (V=O), 0.77 (N-N of azide and C-N of cyanide) of it.
IMPOSSIBLE_SHARE = 0.55
IMPLAUSIBLE_SHARE = 0.65
#: Two ions of the same charge are never bonded: the nearest in crystals have 0.8 and more.
IMPLAUSIBLE_CATION_SHARE = 0.72
#: Longer than O-F and F-F bonds and shorter than the edge of a nitrate (2.1) there is nothing.
IMPLAUSIBLE_ANION_ANGSTROM = (1.53, 1.75)
#: Of two oxygen atoms from here on: a peroxide's O-O has 1.45 to 1.50 as measured and up to 1.57 by DFT (Li2O2, Na2O2).
IMPLAUSIBLE_OXYGEN_ANGSTROM = 1.59
#: Partial occupancies that add up to more have both atoms there at times.
TOGETHER = 1.2
#: A site that holds more than this is full but for rounding.
FULL = 0.98
#: A bond is shorter than this share of the radii's sum.
BOND_SHARE = 1.3
_SALT_FORMERS = frozenset({"Li", "Na", "K", "Rb", "Cs", "Mg", "Ca", "Sr", "Ba", "Zn", "Al", "Sc", "Y", "La", "Ag"})
_SMALL_ANIONS = frozenset({"O", "F"})
#: Pairs that are bonded to each other within one disordered group, so that both may be there.
_BONDED = frozenset(
    frozenset(pair)
    for pair in (
        *(("H", other) for other in ("B", "C", "N", "O", "F", "Al", "Si", "P", "S", "Cl")),
        *itertools.combinations("BCNO", 2),
        *(("B", "F"), ("C", "F"), ("C", "C"), ("N", "N"), ("S", "S"), ("P", "P")),
    )
)
#: Hydrogen is drawn in towards its partner in X-ray structures; other bonds are not shorter than this.
_SHORTEST_BOND_SHARE = 0.75


@dataclass(frozen=True, kw_only=True)
class Contact:
    """Two atoms that are too near each other.

    Attributes:
        pair: their indices.
        distance_angstrom: between them.
        least_angstrom: the shortest distance that such atoms have.
    """

    pair: tuple[int, int]
    distance_angstrom: float
    least_angstrom: float


@cache
def covalent_radius_angstrom(symbol: str) -> float:
    """The covalent radius of an element, angstrom (Cordero et al., Dalton Trans. 2832, 2008)."""
    from gemmi import Element  # noqa: PLC0415 - JSON bands, most of the requests, never need it

    return float(Element(symbol).covalent_r)


@cache
def impossible_angstrom(one: str, other: str) -> float:
    """No two atoms of these elements are nearer than this, angstrom."""
    together = covalent_radius_angstrom(one) + covalent_radius_angstrom(other)
    return max(OVERLAP_ANGSTROM, IMPOSSIBLE_SHARE * together)


@cache
def implausible_angstrom(one: str, other: str) -> float:
    """Hardly any two atoms of these elements are nearer than this, angstrom."""
    together = covalent_radius_angstrom(one) + covalent_radius_angstrom(other)
    salt = one in _SALT_FORMERS and other in _SALT_FORMERS
    return max(OVERLAP_ANGSTROM, (IMPLAUSIBLE_CATION_SHARE if salt else IMPLAUSIBLE_SHARE) * together)


@cache
def nearest_plausible_angstrom(one: str, other: str) -> float:
    """The distance from which on two atoms are in no way near each other, as `close_contacts` judges them."""
    gap = IMPLAUSIBLE_ANION_ANGSTROM[1] if _SMALL_ANIONS.issuperset((one, other)) else 0.0
    return max(implausible_angstrom(one, other), gap)


def may_be_bonded(ones: Iterable[str], others: Iterable[str], distance_angstrom: float) -> bool:
    """Whether atoms at this distance may be a bond of one molecule or ion, such as C-N of a cyanide or O-H.

    Args:
        ones: elements that may be at the one place.
        others: those that may be at the other.
        distance_angstrom: between the places.
    """
    return any(
        _SHORTEST_BOND_SHARE * together <= distance_angstrom <= BOND_SHARE * together
        for one, other in itertools.product(ones, others)
        if frozenset({one, other}) in _BONDED
        and (together := covalent_radius_angstrom(one) + covalent_radius_angstrom(other))
    )


@dataclass(frozen=True, kw_only=True)
class Contacts:
    """Pairs of sites that are too near each other to be filled both, though the file fills both.

    Attributes:
        impossible: no two atoms are so near; nearest first, as a share of what is possible.
        implausible: hardly any two atoms are so near, or one of two overlapping sites is only partly occupied.
    """

    impossible: tuple[Contact, ...]
    implausible: tuple[Contact, ...]


def close_contacts(
    contents: Sequence[Contents],
    frac_coords: FloatArray,
    lattice_angstrom: FloatArray,
    *,
    together: float = TOGETHER,
) -> Contacts:
    """Find sites that are filled and too near each other.

    Args:
        contents: elements and occupancies of each site; of a shared one the elements that may be nearest count.
        frac_coords: shape [n, 3].
        lattice_angstrom: rows are the lattice vectors, shape [3, 3], angstrom.
        together: two sites count where their occupancies add up to more.
    """
    kinds = {one: number for number, one in enumerate(dict.fromkeys(contents))}
    kind_of = np.array([kinds[one] for one in contents])
    amounts = np.array([min(1.0, sum(amount for _, amount in one)) for one in kinds])
    both = amounts[:, None] + amounts > together
    if not both.any():
        return Contacts(impossible=(), implausible=())
    elements = [tuple(symbol for symbol, _ in one) for one in kinds]
    impossible = _table(elements, impossible_angstrom)
    implausible = _table(elements, implausible_angstrom)
    gap = np.array([_SMALL_ANIONS.issuperset(one) for one in elements])
    reach = max(float(implausible[both].max()), IMPLAUSIBLE_ANION_ANGSTROM[1] if gap.any() else 0.0)
    pairs, lengths = near_pairs(frac_coords, None, lattice_angstrom, reach)
    one, other = kind_of[pairs[:, 0]], kind_of[pairs[:, 1]]
    low, high = IMPLAUSIBLE_ANION_ANGSTROM
    oxygen = np.array(["O" in one for one in elements])
    lowest = np.where(oxygen[one] & oxygen[other], IMPLAUSIBLE_OXYGEN_ANGSTROM, low)
    between = gap[one] & gap[other] & (lengths > lowest) & (lengths < high)
    near = both[one, other] & ((lengths < implausible[one, other]) | between)
    found: tuple[list[Contact], list[Contact]] = ([], [])
    for k in np.flatnonzero(near):
        i, j = sorted(int(index) for index in pairs[k])
        least = float(impossible[one[k], other[k]])
        whole = min(amounts[one[k]], amounts[other[k]]) > FULL
        never = lengths[k] < least and whole
        shown = least if never else high if between[k] else float(implausible[one[k], other[k]])
        found[0 if never else 1].append(Contact(pair=(i, j), distance_angstrom=float(lengths[k]), least_angstrom=shown))
    by_share = [
        sorted(one, key=lambda contact: (contact.distance_angstrom / contact.least_angstrom, contact.pair))
        for one in found
    ]
    return Contacts(impossible=tuple(by_share[0]), implausible=tuple(by_share[1]))


def _table(elements: Sequence[tuple[str, ...]], least: Callable[[str, str], float]) -> FloatArray:
    """The shortest distance for each two kinds of sites, by the elements on them that come nearest."""
    return np.array(
        [
            [min(least(*sorted(pair)) for pair in itertools.product(one, other)) for other in elements]
            for one in elements
        ]
    )
