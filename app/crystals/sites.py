"""The sites of the migrating ion in an uploaded crystal, and the frame that they sit in."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from app.crystals.band import FloatArray
from app.crystals.crystal import Crystal, Site
from app.crystals.elements import plain_symbol
from app.crystals.split_sites import merge_split_sites
from app.errors import InputError

#: What usually hops: the migrating elements of the published barriers, suggested where no ion was named.
USUAL_IONS = ("Li", "Na", "K", "Rb", "Mg", "Ca", "Sr", "Zn", "Al")
#: So many mixed sites are named one by one; the rest are counted.
NAMED_SITES = 6


@dataclass(frozen=True, kw_only=True)
class IonSite:
    """A site of the migrating ion in the uploaded cell.

    Attributes:
        index: its place among the ion's sites, in the order of the file, a split site counted once.
        frac_coords: fractional coordinates in the uploaded cell, each in 0..1.
        occupancy: how much of it the ion fills, above 0 and at most 1.
    """

    index: int
    frac_coords: tuple[float, float, float]
    occupancy: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Sublattices:
    """A crystal split into the sites of one ion and the frame of all other atoms.

    Attributes:
        lattice_angstrom: rows are the vectors of the uploaded cell, shape [3, 3], angstrom.
        ion: element symbol of the migrating ion.
        sites: the ion's sites, partly occupied ones too.
        frame_species: element symbols of all other atoms, length n_frame.
        frame_frac_coords: shape [n_frame, 3].
        warnings: which of the ion's sites in the file were taken as one.
    """

    lattice_angstrom: FloatArray
    ion: str
    sites: tuple[IonSite, ...]
    frame_species: tuple[str, ...]
    frame_frac_coords: FloatArray
    warnings: tuple[str, ...] = ()

    @cached_property
    def site_frac_coords(self) -> FloatArray:
        """Fractional coordinates of the ion's sites, shape [n_sites, 3]."""
        return np.array([site.frac_coords for site in self.sites], dtype=np.float64).reshape(-1, 3)

    @cached_property
    def occupancies(self) -> FloatArray:
        """Occupancies of the ion's sites, shape [n_sites]."""
        return np.array([site.occupancy for site in self.sites], dtype=np.float64)


def split(crystal: Crystal, ion: str | None) -> Sublattices:
    """Separate the sites of an ion from the rest of a crystal; the parts of a split site become one site.

    Args:
        crystal: as it was uploaded.
        ion: an element symbol; a charge behind it ("Li+", "Mg2+") is ignored.

    Raises:
        InputError: no ion named ("no-ion"), not an element ("unknown-element"), the ion is not in the crystal
            ("ion-not-in-crystal"), or sites but the ion's own are shared or partly empty ("mixed-sites").
    """
    element = _element(crystal, ion)
    mobile = [site for site in crystal.sites if site.occupancy_of(element) > 0]
    if not mobile:
        others = _elements(crystal)
        raise InputError(
            f"There is no {element} in this crystal ({crystal.formula}), so it has no {element} sites to hop "
            f"between. Its elements are {', '.join(others)}; those that usually migrate: "
            f"{', '.join(_candidates(crystal)) or 'none of them'}.",
            kind="ion-not-in-crystal",
            where="ion",
            expected=f"one of {', '.join(others)}, or a crystal that contains {element}",
        )
    frame = [site for site in crystal.sites if site.occupancy_of(element) == 0]
    _refuse_mixed_sites([*frame, *(site for site in mobile if len(site.species) > 1)], element)
    lattice = np.asarray(crystal.lattice_angstrom, dtype=np.float64)
    merged = merge_split_sites(
        lattice,
        np.array([site.frac_coords for site in mobile], dtype=np.float64),
        np.array([1.0 if site.is_ordered else site.occupancy_of(element) for site in mobile]),
        element,
    )
    return Sublattices(
        lattice_angstrom=lattice,
        ion=element,
        sites=tuple(
            _ion_site(index, frac_coords, float(occupancy))
            for index, (frac_coords, occupancy) in enumerate(zip(merged.frac_coords, merged.occupancies, strict=True))
        ),
        frame_species=tuple(site.species[0][0] for site in frame),
        frame_frac_coords=np.array([site.frac_coords for site in frame], dtype=np.float64).reshape(-1, 3) % 1.0,
        warnings=merged.warnings,
    )


def _ion_site(index: int, frac_coords: FloatArray, occupancy: float) -> IonSite:
    x, y, z = (float(value) % 1.0 for value in frac_coords)
    return IonSite(index=index, frac_coords=(x, y, z), occupancy=occupancy)


def _element(crystal: Crystal, ion: str | None) -> str:
    if ion is None or not ion.strip():
        candidates = _candidates(crystal)
        hint = (
            f"here {' or '.join(candidates)} could be meant" if candidates else "here none of the usual ions is present"
        )
        raise InputError(
            f"It was not said which ion migrates through {crystal.formula}; {hint}.",
            kind="no-ion",
            where="ion",
            expected=f"an element symbol, such as ion={candidates[0] if candidates else 'Li'}",
        )
    return plain_symbol(ion, "ion")


def _elements(crystal: Crystal) -> list[str]:
    return sorted({symbol for site in crystal.sites for symbol, _ in site.species})


def _candidates(crystal: Crystal) -> list[str]:
    present = set(_elements(crystal))
    return [symbol for symbol in USUAL_IONS if symbol in present]


def _refuse_mixed_sites(sites: list[Site], ion: str) -> None:
    mixed = [site for site in sites if not site.is_ordered]
    if not mixed:
        return
    names = [
        f"{' + '.join(f'{symbol} {occupancy:.3g}' for symbol, occupancy in site.species)} at "
        f"({', '.join(f'{value:.3f}' for value in site.frac_coords)})"
        for site in mixed[:NAMED_SITES]
    ]
    more = f", and {len(mixed) - NAMED_SITES} more" if len(mixed) > NAMED_SITES else ""
    raise InputError(
        f"{len(mixed)} of the crystal's sites are shared between elements or partly empty: "
        f"{'; '.join(names)}{more}. A barrier needs to know which atom sits where.",
        kind="mixed-sites",
        where="structure",
        expected=f"an ordered crystal: every site but {ion}'s own filled by one element",
    )
