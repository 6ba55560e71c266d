"""Whether the distances in a crystal are those of a crystal: contacts, and bond valences against oxidation states."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, Self

import numpy as np

from app.crystals.band import Band, FloatArray, IntArray
from app.crystals.bond_valence_table import bond_valence_table
from app.crystals.crystal import FULL_OCCUPANCY_TOLERANCE, Crystal
from app.crystals.geometry.contacts import close_contacts, nearest_plausible_angstrom
from app.crystals.geometry.periodic import pairs_of_copies
from app.crystals.sites.interstitials import DISTANCE_SCALE, SOFTNESS_ANGSTROM, bond_lengths
from app.crystals.sites.oxidation import guess_oxidation_states, missing_anion_charge, missing_cation_charge

#: Atoms, their neighbours and the distances between them, angstrom (`pairs_of_copies`).
_Pairs = tuple[IntArray, IntArray, FloatArray]

Soundness = Literal["sound", "doubtful", "impossible"]

#: Root mean square of how far bond valence sums are off the oxidation states, as shares of these: like the global
#: instability index (Salinas-Sanchez et al., J. Solid State Chem. 100, 201, 1992), but relative. Half of the screening
#: set's crystals have less than 0.3 and 19 of 20 less than 0.65; an atom with no bond at all is off by 1.
SOUND_VALENCE = 0.45
#: No single site is off by more than this share.
MOST_VALENCE_OFF = 0.8
#: Bonds add up to 0.76 of the oxidation states in the median crystal of the screening set, to 0.5 to 1.07 in nine of
#: ten. In 2 % they add up to less than the first share in the mean while none of the sites has more than the second.
STRETCHED_VALENCE = 0.5
MOST_VALENCE_STRETCHED = 0.65
#: The radii behind these sums make bonds of Li to Br and I and of K and Rb to O too short. So the shortest bonds of all
#: sites must also be longer in the mean, as a share of the distance of lowest energy in bond valence site energies,
#: which is known for fewer pairs. Of 1,500 crystals of the screening set 8 are left then; of 400 of them 368 with all
#: lengths 1.15 times too long (375 without this) and 392 with 1.25 (396).
STRETCHED_LENGTH = 1.1
#: In none of 700 crystals of the screening set, and in 2 of 292 CIFs of measured conductors, they add up to more than
#: the first share in the mean while every site has more than the second; with all lengths 0.9 of what they should be it
#: is 76 %, 0.85 of it 90 %.
SQUEEZED_VALENCE = 1.3
LEAST_VALENCE_SQUEEZED = 0.7
#: Bonds are looked for up to this share of the longest of these; a site without any counts as if it had one there.
_FARTHEST_BOND = 1.3
#: Where the bonds of one cation add up to more than the first share of its oxidation state in the mean, and those of
#: another to less than the second, the two are interchanged: so in 3 of 1,500 crystals of the screening set, in 2 of
#: 252 measured conductors, whose P-O bonds are far too short, and in a third of them with two cations interchanged at
#: random, as Fe and P of LiFePO4 or Li and La of a garnet. It does not distinguish two transition metals.
OVERBONDED_VALENCE = 2.5
UNDERBONDED_VALENCE = 0.4
#: Bonds of a single cation or anion, in a crystal whose sites are all full, do not add up to more than this many times
#: its charge. They do in 8 of 769 crystals of the screening set, half of which have K or Cs in MgO, in 4 of 252
#: measured conductors, whose P-O or Si-O bonds are too short, and in 8 of the 1,638 bands that models are fitted on, of
#: which the ion does not count. Of crystals with one coordinate of one atom off by 0.1 to 0.9, where nothing else shows
#: it, 15 % have such a site; of those with Fe replaced by La 80 %.
MOST_CATION_VALENCE = 2.5
MOST_ANION_VALENCE = 2.0
#: More charge than this is missing, per atom: positive in 23 of 1,500 crystals of the screening set, 4 of 252 measured
#: conductors, whose files lack lithium, and 6 of the 1,638 bands that models are fitted on, those of one ion in an
#: empty host; negative in 23, none and none.
MOST_MISSING_CHARGE = 0.05
#: Two like anions nearer than this are bonded to each other, angstrom.
_LIKE_BOND_ANGSTROM = {"O": 1.7, "N": 1.5, "S": 2.4, "Se": 2.7, "Te": 3.25, "I": 3.2, "Br": 2.6, "Cl": 2.2}
#: Two like atoms nearer than this are bonded as well, and one may be the other's anion, angstrom.
_LIKE_CATION_BOND_ANGSTROM = {"B": 2.0, "C": 1.7, "Si": 2.5, "Ge": 2.6, "P": 2.4, "As": 2.6, "Sb": 3.0}
#: Bonds beyond this have less than a hundredth of a valence, angstrom.
BOND_ANGSTROM = 4.0


def soundness(crystal: Crystal) -> Soundness:
    """Judge a crystal's distances.

    It is sound where no two atoms are implausibly near each other and bond valences are about those of its oxidation
    states, impossible where two are on top of each other, and doubtful otherwise, as where oxidation states cannot be
    guessed.
    """
    contents = [site.species for site in crystal.sites]
    frac = np.array([site.frac_coords for site in crystal.sites])
    contacts = close_contacts(contents, frac, crystal.lattice_angstrom)
    if contacts.impossible:
        return "impossible"
    atoms = _Atoms.of_crystal(crystal)
    states = _states(atoms)
    if contacts.implausible or states is None:
        return "doubtful"
    off = np.abs(_valences(atoms, states, _neighbours(atoms)).shares - 1.0)
    sound = np.sqrt((off**2).mean()) < SOUND_VALENCE and off.max() < MOST_VALENCE_OFF
    return "sound" if sound else "doubtful"


@dataclass(frozen=True, kw_only=True)
class BondFaults:
    """What bond valences show to be wrong with a crystal that was read.

    Attributes:
        strained_share: what bonds add up to, as a share of the oxidation states, where all are too long or too short,
            as in a cell in other units than angstrom or with a wrong length; else None.
        swapped: two cations that seem to be interchanged; else None.
        overbonded: the site whose bonds add up to far more than its charge, as where a coordinate or an element is
            wrong and neither of the former is found; else None.
        missing_charge: the charge that is missing, per atom: positive though each element has its highest oxidation
            state, as where hydrogen or a cation is not listed, or negative though each has its lowest usual one, as
            where an anion is not; else None.
        close_atoms: whether two atoms of a band may be implausibly near each other, which `close_contacts` decides.
    """

    strained_share: float | None = None
    swapped: "SwappedCations | None" = None
    overbonded: "OverbondedSite | None" = None
    missing_charge: float | None = None
    close_atoms: bool = False


@dataclass(frozen=True, kw_only=True)
class SwappedCations:
    """An overbonded and an underbonded cation, and what the bonds of each add up to, as shares of its charge."""

    overbonded: str
    overbonded_share: float
    underbonded: str
    underbonded_share: float


@dataclass(frozen=True, kw_only=True)
class OverbondedSite:
    """A site, and what its bonds add up to, as a share of its charge."""

    symbol: str
    frac_coords: tuple[float, float, float]
    share: float


@dataclass(frozen=True, kw_only=True, eq=False)
class _Valences:
    """Bond valence sums of the charged sites.

    Attributes:
        sites: their numbers, shape [m].
        shares: each sum as a share of the site's charge, shape [m].
        charges: oxidation states, shape [m].
        weights: how much each counts in a mean: the charge's size times the occupancy, shape [m].
    """

    sites: IntArray
    shares: FloatArray
    charges: FloatArray
    weights: FloatArray


@dataclass(frozen=True, kw_only=True, eq=False)
class _Atoms:
    """What bonds depend on.

    Attributes:
        symbols: the element of each site that fills most of it, length n.
        filled: how much of each site is filled, shape [n].
        amounts: of each element.
        frac_coords: shape [n, 3].
        lattice_angstrom: rows are the lattice vectors, shape [3, 3], angstrom.
        ion: the place of a band's ion, around which the host may not be relaxed; None for a crystal.
    """

    symbols: tuple[str, ...]
    filled: FloatArray
    amounts: dict[str, float]
    frac_coords: FloatArray
    lattice_angstrom: FloatArray
    ion: int | None = None

    @classmethod
    def of_crystal(cls, crystal: Crystal) -> Self:
        amounts: dict[str, float] = {}
        for site in crystal.sites:
            for symbol, amount in site.species:
                amounts[symbol] = amounts.get(symbol, 0.0) + amount
        return cls(
            symbols=tuple(max(site.species, key=lambda pair: pair[1])[0] for site in crystal.sites),
            filled=np.array([min(1.0, sum(amount for _, amount in site.species)) for site in crystal.sites]),
            amounts=amounts,
            frac_coords=np.array([site.frac_coords for site in crystal.sites]),
            lattice_angstrom=crystal.lattice_angstrom,
        )

    @classmethod
    def of_band(cls, band: Band) -> Self:
        symbols = (*band.host_species, band.ion)
        return cls(
            symbols=symbols,
            filled=np.ones(len(symbols)),
            amounts={symbol: float(count) for symbol, count in Counter(symbols).items()},
            frac_coords=np.vstack([band.host_frac_coords, band.image_frac_coords[:1]]),
            lattice_angstrom=band.lattice_angstrom,
            ion=len(symbols) - 1,
        )


def band_faults(band: Band) -> BondFaults:
    """Look for the same in a band, its ion in the first image, and for atoms too near each other."""
    atoms = _Atoms.of_band(band)
    pairs = _neighbours(atoms)
    return replace(_faults(atoms, pairs), close_atoms=_has_close_atoms(atoms, pairs))


def bond_faults(crystal: Crystal) -> BondFaults:
    """Look for wrong lengths, interchanged cations, an overbonded site and missing atoms.

    Only the last are found where oxidation states cannot be guessed.
    """
    atoms = _Atoms.of_crystal(crystal)
    return _faults(atoms, _neighbours(atoms))


def _neighbours(atoms: _Atoms) -> _Pairs:
    return pairs_of_copies(atoms.frac_coords, atoms.lattice_angstrom, BOND_ANGSTROM)


def _faults(atoms: _Atoms, pairs: _Pairs) -> BondFaults:
    states = _states(atoms)
    missing = _missing_charge(atoms)
    if states is None:
        return BondFaults(missing_charge=missing)
    valences = _valences(atoms, states, pairs)
    strained, swapped = _strained_share(atoms, states, valences), _swapped(atoms, valences)
    return BondFaults(
        strained_share=strained,
        swapped=swapped,
        overbonded=_overbonded(atoms, valences) if strained is None and swapped is None else None,
        missing_charge=missing,
    )


def _has_close_atoms(atoms: _Atoms, pairs: _Pairs) -> bool:
    one, other, lengths = pairs
    elements, kinds = np.unique(atoms.symbols, return_inverse=True)
    table = [
        [nearest_plausible_angstrom(symbol, partner) for partner in elements.tolist()] for symbol in elements.tolist()
    ]
    return bool((lengths < np.array(table)[kinds[one], kinds[other]]).any())


def _missing_charge(atoms: _Atoms) -> float | None:
    positive, negative = missing_cation_charge(_with_vacancy(atoms)), missing_anion_charge(atoms.amounts)
    if negative > MOST_MISSING_CHARGE and not _has_bonded(atoms, _LIKE_CATION_BOND_ANGSTROM):
        return -negative
    return positive if positive > MOST_MISSING_CHARGE and not _has_bonded(atoms, _LIKE_BOND_ANGSTROM) else None


def _with_vacancy(atoms: _Atoms) -> dict[str, float]:
    """The amounts with one more of a band's ion: that of the vacancy into which it hops."""
    if atoms.ion is None:
        return atoms.amounts
    ion = atoms.symbols[atoms.ion]
    return {**atoms.amounts, ion: atoms.amounts[ion] + 1.0}


def _has_bonded(atoms: _Atoms, longest_angstrom: Mapping[str, float]) -> bool:
    """Whether two like atoms are bonded, as in peroxides and P2S6: their charges are smaller."""
    symbols = atoms.symbols
    longest = max((longest_angstrom.get(symbol, 0.0) for symbol in symbols), default=0.0)
    if not longest:
        return False
    one, other, lengths = pairs_of_copies(atoms.frac_coords, atoms.lattice_angstrom, longest)
    return any(
        symbols[i] == symbols[j] and length < longest_angstrom.get(symbols[i], 0.0)
        for i, j, length in zip(one, other, lengths, strict=True)
    )


def _overbonded(atoms: _Atoms, valences: _Valences) -> OverbondedSite | None:
    most = np.where(valences.charges > 0, MOST_CATION_VALENCE, MOST_ANION_VALENCE)
    over = np.where(valences.sites == atoms.ion, 0.0, valences.shares / most)
    if not len(over) or over.max() <= 1.0 or (atoms.filled < 1.0 - FULL_OCCUPANCY_TOLERANCE).any():
        return None
    worst = int(over.argmax())
    x, y, z = atoms.frac_coords[valences.sites[worst]].tolist()
    return OverbondedSite(
        symbol=atoms.symbols[valences.sites[worst]], frac_coords=(x, y, z), share=float(valences.shares[worst])
    )


def _swapped(atoms: _Atoms, valences: _Valences) -> SwappedCations | None:
    elements = np.array(atoms.symbols)[valences.sites]
    cations = sorted(set(elements[valences.charges > 0].tolist()))
    if not cations:
        return None
    means = {
        symbol: float(np.average(valences.shares[elements == symbol], weights=valences.weights[elements == symbol]))
        for symbol in cations
    }
    most, least = max(cations, key=means.__getitem__), min(cations, key=means.__getitem__)
    if means[most] <= OVERBONDED_VALENCE or means[least] >= UNDERBONDED_VALENCE:
        return None
    return SwappedCations(
        overbonded=most, overbonded_share=means[most], underbonded=least, underbonded_share=means[least]
    )


def _strained_share(atoms: _Atoms, states: dict[str, int], valences: _Valences) -> float | None:
    shares = valences.shares
    mean = float(np.average(shares, weights=valences.weights))
    stretched = mean < STRETCHED_VALENCE and shares.max() < MOST_VALENCE_STRETCHED and _is_longer(atoms, states)
    squeezed = mean > SQUEEZED_VALENCE and shares.min() > LEAST_VALENCE_SQUEEZED
    return mean if stretched or squeezed else None


def _is_longer(atoms: _Atoms, states: dict[str, int]) -> bool:
    """Whether the sites' shortest bonds are longer than those of lowest energy; true where none of these is known."""
    symbols = atoms.symbols
    known = {
        pair: numbers[0]
        for pair, numbers in bond_valence_table().pairs.items()
        if states.get(pair[0]) == pair[1] and states.get(pair[2]) == pair[3]
    }
    if not known:
        return True
    in_sight = _FARTHEST_BOND * max(known.values())
    one, other, lengths = pairs_of_copies(atoms.frac_coords, atoms.lattice_angstrom, in_sight)
    of_lowest_energy = [
        known.get((symbols[i], states[symbols[i]], symbols[j], states[symbols[j]]), np.nan)
        for i, j in zip(one, other, strict=True)
    ]
    shares = lengths / np.array(of_lowest_energy)
    shortest = np.full(len(symbols), np.inf)
    bonded = np.isfinite(shares)
    np.minimum.at(shortest, one[bonded], shares[bonded])
    np.minimum.at(shortest, other[bonded], shares[bonded])
    partners = {symbol for pair in known for symbol in (pair[0], pair[2])}
    counted = np.array([symbol in partners for symbol in symbols])
    return float(np.minimum(shortest[counted], _FARTHEST_BOND).mean()) > STRETCHED_LENGTH


def _states(atoms: _Atoms) -> dict[str, int] | None:
    """Oxidation states of the elements; None where they cannot be guessed or are all zero."""
    states = guess_oxidation_states(atoms.amounts)
    return states if states is not None and any(states.values()) else None


def _valences(atoms: _Atoms, states: dict[str, int], pairs: _Pairs) -> _Valences:
    """Of a shared site its main element counts."""
    symbols, filled = atoms.symbols, atoms.filled
    charges = np.array([float(states.get(symbol, 0)) for symbol in symbols])
    one, other, lengths = pairs
    bonded = charges[one] * charges[other] < 0
    one, other, lengths = one[bonded], other[bonded], lengths[bonded]
    elements, kinds = np.unique(symbols, return_inverse=True)
    single = {symbol: bond_lengths(symbol, symbols) for symbol in elements.tolist()}
    table = np.array([[single[symbol][partner] for partner in elements.tolist()] for symbol in elements.tolist()])
    lengths_of_one = table[kinds[one], kinds[other]]
    sums = np.zeros(len(symbols))
    np.add.at(sums, one, filled[other] * np.exp((lengths_of_one - lengths * DISTANCE_SCALE) / SOFTNESS_ANGSTROM))
    counted = np.flatnonzero(charges)
    sizes = np.abs(charges[counted])
    return _Valences(
        sites=counted, shares=sums[counted] / sizes, charges=charges[counted], weights=filled[counted] * sizes
    )
