"""Whether the distances in a crystal are those of a crystal: contacts, and bond valences against oxidation states."""

from typing import Literal

import numpy as np

from app.crystals.band import FloatArray
from app.crystals.crystal import Crystal
from app.crystals.geometry.contacts import close_contacts
from app.crystals.geometry.periodic import pairs_of_copies
from app.crystals.sites.interstitials import DISTANCE_SCALE, SOFTNESS_ANGSTROM, bond_lengths
from app.crystals.sites.oxidation import guess_oxidation_states

Soundness = Literal["sound", "doubtful", "impossible"]

#: Root mean square of how far bond valence sums are off the oxidation states, as shares of these: like the global
#: instability index (Salinas-Sanchez et al., J. Solid State Chem. 100, 201, 1992), but relative. Half of the screening
#: set's crystals have less than 0.3 and 19 of 20 less than 0.65; an atom with no bond at all is off by 1.
SOUND_VALENCE = 0.45
#: No single site is off by more than this share.
MOST_VALENCE_OFF = 0.8
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
    amounts: dict[str, float] = {}
    for site in contents:
        for symbol, amount in site:
            amounts[symbol] = amounts.get(symbol, 0.0) + amount
    states = guess_oxidation_states(amounts)
    if contacts.implausible or states is None or not any(states.values()):
        return "doubtful"
    off = _valences_off(crystal, states)
    sound = np.sqrt((off**2).mean()) < SOUND_VALENCE and off.max() < MOST_VALENCE_OFF
    return "sound" if sound else "doubtful"


def _valences_off(crystal: Crystal, states: dict[str, int]) -> FloatArray:
    """How far each site's bond valence sum is off, as a share; of a shared site its main element counts."""
    symbols = [max(site.species, key=lambda pair: pair[1])[0] for site in crystal.sites]
    filled = np.array([min(1.0, sum(amount for _, amount in site.species)) for site in crystal.sites])
    charges = np.array([float(states.get(symbol, 0)) for symbol in symbols])
    frac = np.array([site.frac_coords for site in crystal.sites])
    one, other, lengths = pairs_of_copies(frac, crystal.lattice_angstrom, BOND_ANGSTROM)
    bonded = charges[one] * charges[other] < 0
    one, other, lengths = one[bonded], other[bonded], lengths[bonded]
    single = {symbol: bond_lengths(symbol, symbols) for symbol in set(symbols)}
    lengths_of_one = np.array([single[symbols[i]][symbols[j]] for i, j in zip(one, other, strict=True)])
    sums = np.zeros(len(symbols))
    np.add.at(sums, one, filled[other] * np.exp((lengths_of_one - lengths * DISTANCE_SCALE) / SOFTNESS_ANGSTROM))
    counted = charges != 0
    return np.asarray(np.abs(sums[counted] / np.abs(charges[counted]) - 1.0))
