"""The crystal: what a CIF or POSCAR holds before it is known which of its atoms hops."""

from collections import Counter
from dataclasses import dataclass

from app.crystals.band import FloatArray

#: Element symbols and their occupancies, each above 0, together at most 1.
Contents = tuple[tuple[str, float], ...]

#: Occupancies nearer to one than this are full: files round.
FULL_OCCUPANCY_TOLERANCE = 1e-3


@dataclass(frozen=True, kw_only=True)
class Site:
    """One site of a crystal and what sits on it.

    Attributes:
        species: element symbols and their occupancies, each above 0, together at most 1.
        frac_coords: fractional coordinates in the uploaded cell.
    """

    species: Contents
    frac_coords: tuple[float, float, float]

    @property
    def is_ordered(self) -> bool:
        """Whether one element fills the site."""
        return len(self.species) == 1 and abs(self.species[0][1] - 1.0) < FULL_OCCUPANCY_TOLERANCE

    def occupancy_of(self, element: str) -> float:
        """How much of the site an element fills, 0 to 1."""
        return sum(occupancy for symbol, occupancy in self.species if symbol == element)


@dataclass(frozen=True, kw_only=True, eq=False)
class Crystal:
    """A periodic crystal as it was uploaded, every site of its cell listed.

    Attributes:
        lattice_angstrom: rows are the lattice vectors, shape [3, 3], angstrom.
        sites: every site of the cell, symmetry already applied.
        warnings: what was noticed while the file was read.
        energy_ev: the total energy that the file gives for it, None where it gives none.
        doubts: why all predictions for it are out of the domain, whatever the model says.
    """

    lattice_angstrom: FloatArray
    sites: tuple[Site, ...]
    warnings: tuple[str, ...] = ()
    energy_ev: float | None = None
    doubts: tuple[str, ...] = ()

    @property
    def is_ordered(self) -> bool:
        """Whether one element fills each site."""
        return all(site.is_ordered for site in self.sites)

    def contains(self, symbol: str) -> bool:
        """Whether an element is on any of its sites."""
        return any(site.occupancy_of(symbol) for site in self.sites)

    @property
    def formula(self) -> str:
        """The cell's formula with the elements in alphabetical order, such as "Fe4 Li3.5 O16 P4"."""
        counts: Counter[str] = Counter()
        for site in self.sites:
            for symbol, occupancy in site.species:
                counts[symbol] += occupancy  # type: ignore[assignment] # typeshed's Counter counts in int; parts of atoms add too
        return " ".join(f"{symbol}{round(counts[symbol], 3):g}" for symbol in sorted(counts))
