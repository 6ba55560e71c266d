"""Descriptors of a crystal as a conductor: a few physical numbers of its host, its ions and how they percolate."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.crystals.band import FloatArray, IntArray
from app.crystals.crystal import Contents
from app.crystals.elements import LAST_COVERED
from app.crystals.geometry.periodic import pairs_of_copies
from app.crystals.hops.percolation import PercolationBarriers
from app.crystals.sites.ion_sites import Sublattices
from app.models.features.tables import atomic_number, element_table

#: In the order of the values. Each is monotone for a reason, which docs/conductivity.md gives.
DESCRIPTORS = (
    "host_disorder",
    "host_substitution",
    "anion_electronegativity",
    "percolation_3d_ev",
    "ion_site_occupancy",
)
#: A crystal in which hops do not connect counts as one of this barrier: above it nothing conducts at room temperature.
HIGHEST_PERCOLATION_EV = 0.8
#: Mixing entropy per host site (units of k) beyond which more disorder means nothing more.
_FULL_DISORDER = 0.15
#: At this entropy a host counts as half substituted: a tenth of a percent of mixed atoms is enough to make carriers.
_HALF_SUBSTITUTED = 0.005
#: No covalent bond that makes an element a cation is longer (Bi-I).
_REACH_ANGSTROM = 3.3
#: Atoms nearer than this are parts of one split site.
_SPLIT_ANGSTROM = 0.5
_COVALENT_SLACK_ANGSTROM = 0.3
#: A neighbour that is there less often does not make an element a cation.
_SELDOM = 0.15
_ALWAYS_ANIONS = (8, 9)


@dataclass(frozen=True, kw_only=True, eq=False)
class ConductorDescriptors:
    """What a conductivity is predicted from; none of it depends on the choice of the cell or the order of atoms.

    Attributes:
        values: of DESCRIPTORS, shape [5]; NaN where there is none, such as the percolation of a crystal without hops.
        root_fractions: square roots of the share of each element in all atoms, by atomic number from 1, shape [94].
        log_anion_volume: of the volume for each anion, cubic angstrom.
        elements: of the crystal.
    """

    values: FloatArray
    root_fractions: FloatArray
    log_anion_volume: float
    elements: tuple[str, ...]


def conductor_descriptors(lattices: Sublattices, barriers: PercolationBarriers | None) -> ConductorDescriptors:
    """Describe a crystal.

    Args:
        lattices: the sites of the ion that conducts, and the host.
        barriers: at which its hops connect, eV; None where that is not known.
    """
    atoms = _Atoms(lattices)
    anions = atoms.occupancies * atoms.is_anion
    anion_amount = float(anions.sum())
    volume = abs(float(np.linalg.det(lattices.lattice_angstrom)))
    entropy = float(np.mean([_entropy(contents) for contents in lattices.host_contents])) if atoms.has_host else 0.0
    occupancies = [site.occupancy for site in lattices.sites if not site.is_interstitial]
    electronegativity = element_table().electronegativity[atoms.numbers]
    values = [
        min(entropy / _FULL_DISORDER, 1.0),
        entropy / (entropy + _HALF_SUBSTITUTED),
        float((electronegativity * anions).sum()) / anion_amount if anion_amount > 0 else np.nan,
        _percolation_ev(barriers),
        float(np.mean(occupancies)) if occupancies else np.nan,
    ]
    amounts = {symbol: amount for symbol, amount in lattices.amounts.items() if amount > 0}
    fractions = np.zeros(LAST_COVERED)
    for symbol, amount in amounts.items():
        fractions[atomic_number(symbol) - 1] = amount
    return ConductorDescriptors(
        values=np.array(values),
        root_fractions=np.sqrt(fractions / max(float(fractions.sum()), 1e-12)),
        log_anion_volume=float(np.log(volume / anion_amount)) if anion_amount > 0 else np.nan,
        elements=tuple(sorted(amounts)),
    )


def _percolation_ev(barriers: PercolationBarriers | None) -> float:
    if barriers is None:
        return np.nan
    return HIGHEST_PERCOLATION_EV if barriers.three_d is None else min(barriers.three_d, HIGHEST_PERCOLATION_EV)


def _entropy(contents: Contents) -> float:
    """The mixing entropy of a site in units of k; an empty part counts as a kind of atom."""
    shares = np.array([amount for _, amount in contents])
    empty = 1.0 - shares.sum()
    shares = np.append(shares, empty) if empty > 1e-3 else shares / shares.sum()  # noqa: PLR2004 - files round
    return float(max(0.0, -(shares * np.log(np.maximum(shares, 1e-12))).sum()))


class _Atoms:
    """The host's atoms, a row for each element on each site, and which of them are anions."""

    def __init__(self, lattices: Sublattices) -> None:
        places: Sequence[tuple[Contents, FloatArray]] = [
            *zip(lattices.host_contents, lattices.host_frac_coords, strict=True),
            *((site.shared_with, np.array(site.frac_coords)) for site in lattices.sites if site.shared_with),
        ]
        rows = [(symbol, amount, place) for contents, place in places for symbol, amount in contents]
        self.has_host = bool(lattices.host_contents)
        self.numbers: IntArray = np.array([atomic_number(symbol) for symbol, _, _ in rows], dtype=np.int64)
        self.occupancies: FloatArray = np.array([amount for _, amount, _ in rows], dtype=np.float64)
        frac = np.array([place for _, _, place in rows], dtype=np.float64).reshape(-1, 3)
        self.is_anion = self._anions(frac, lattices.lattice_angstrom)

    def _anions(self, frac: FloatArray, lattice_angstrom: FloatArray) -> NDArray[np.bool_]:
        """Which atoms are anions: of an element that may be one, bonded to none that is more electronegative."""
        table, numbers = element_table(), self.numbers
        is_anion = table.anion_charge[numbers] < 0
        if not is_anion.any():
            return np.asarray(is_anion)
        one, other, distance = pairs_of_copies(frac, lattice_angstrom, _REACH_ANGSTROM)
        radius = table.covalent_radius_angstrom[numbers]
        bonded = (distance > _SPLIT_ANGSTROM) & (distance < radius[one] + radius[other] + _COVALENT_SLACK_ANGSTROM)
        stronger = table.electronegativity[numbers[other]] > table.electronegativity[numbers[one]]
        is_anion[one[bonded & stronger & (self.occupancies[other] > _SELDOM)]] = False
        return np.asarray(is_anion | np.isin(numbers, _ALWAYS_ANIONS))
