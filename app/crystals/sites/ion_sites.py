"""The sites of the migrating ion in an uploaded crystal, and the host that they sit in."""

import itertools
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from app.crystals.band import FloatArray, IntArray
from app.crystals.crystal import FULL_OCCUPANCY_TOLERANCE, Contents, Crystal, Site
from app.crystals.elements import plain_symbol
from app.crystals.geometry.contacts import close_contacts
from app.crystals.geometry.periodic import position_keys
from app.crystals.sites.split_sites import HOST_SPLIT_ANGSTROM, merge_split_sites
from app.errors import InputError

#: What usually hops: the migrating elements of the published barriers, suggested where no ion was named.
USUAL_IONS = ("Li", "Na", "K", "Rb", "Mg", "Ca", "Sr", "Zn", "Al")
#: Refined occupancies of a full, shared site add up to one within this.
_PARTLY_EMPTY = 0.02


@dataclass(frozen=True, kw_only=True)
class IonSite:
    """A site of the migrating ion in the uploaded cell.

    Attributes:
        index: its place among the ion's sites, in the order of the file, a split site counted once.
        frac_coords: fractional coordinates in the uploaded cell, each in 0..1.
        occupancy: how much of it the ion fills, at most 1; 0 of an interstitial site, which geometry found.
        shared_with: the elements of the host that fill other parts of it.
        excludes: indices of sites that are too near it for both to be filled, though the file fills both.
    """

    index: int
    frac_coords: tuple[float, float, float]
    occupancy: float
    shared_with: Contents = ()
    excludes: tuple[int, ...] = ()

    @property
    def is_interstitial(self) -> bool:
        """Whether geometry found it, and the file does not have it."""
        return self.occupancy == 0


@dataclass(frozen=True, kw_only=True, eq=False)
class Sublattices:
    """A crystal split into the sites of one ion and the host of all other atoms.

    Attributes:
        lattice_angstrom: rows are the vectors of the uploaded cell, shape [3, 3], angstrom.
        ion: element symbol of the migrating ion.
        sites: the ion's sites, partly occupied ones too.
        host_contents: what sits on every other site, length n_host.
        host_frac_coords: shape [n_host, 3].
        warnings: which sites in the file were taken as one.
    """

    lattice_angstrom: FloatArray
    ion: str
    sites: tuple[IonSite, ...]
    host_contents: tuple[Contents, ...]
    host_frac_coords: FloatArray
    warnings: tuple[str, ...] = ()

    @cached_property
    def site_frac_coords(self) -> FloatArray:
        """Fractional coordinates of the ion's sites, shape [n_sites, 3]."""
        return np.array([site.frac_coords for site in self.sites], dtype=np.float64).reshape(-1, 3)

    @cached_property
    def site_position_keys(self) -> IntArray:
        """The numbers by which the ion's sites are in order of their positions, shape [n_sites, 6]."""
        return position_keys(self.site_frac_coords)

    @cached_property
    def occupancies(self) -> FloatArray:
        """Occupancies of the ion's sites, shape [n_sites]."""
        return np.array([site.occupancy for site in self.sites], dtype=np.float64)

    @property
    def is_full(self) -> bool:
        """Whether every site is filled by the ion, interstitial sites counted as empty."""
        return bool((self.occupancies > 1.0 - FULL_OCCUPANCY_TOLERANCE).all())

    @cached_property
    def amounts(self) -> dict[str, float]:
        """Atoms of each element in the uploaded cell, the ion's among them where it has any."""
        own = ((self.ion, site.occupancy) for site in self.sites if not site.is_interstitial)
        others = (*self.host_contents, *(site.shared_with for site in self.sites))
        amounts: dict[str, float] = {}
        for symbol, occupancy in itertools.chain(own, *others):
            amounts[symbol] = amounts.get(symbol, 0.0) + occupancy
        return amounts


def split(crystal: Crystal, ion: str | None) -> Sublattices:
    """Separate the sites of an ion from the rest of a crystal; the parts of a split site become one site.

    Args:
        crystal: as it was uploaded.
        ion: an element symbol; a charge behind it ("Li+", "Mg2+") is ignored. One that the crystal does not hold has
            no sites.

    Raises:
        InputError: no ion named ("no-ion"), not an element ("unknown-element").
    """
    element = _element(crystal, ion)
    mobile = [site for site in crystal.sites if site.occupancy_of(element) > 0]
    host = [site for site in crystal.sites if site.occupancy_of(element) == 0]
    lattice = np.asarray(crystal.lattice_angstrom, dtype=np.float64)
    sites, site_warnings = _ion_sites(lattice, mobile, element, host)
    contents, frac_coords, host_warnings = _host(lattice, host)
    sites = _excluding(lattice, sites, element)
    return Sublattices(
        lattice_angstrom=lattice,
        ion=element,
        sites=sites,
        host_contents=contents,
        host_frac_coords=frac_coords,
        warnings=(*site_warnings, *host_warnings),
    )


def is_mixed(contents: Contents) -> bool:
    """Whether a site of the host is shared between elements or partly empty."""
    return len(contents) > 1 or contents[0][1] < 1.0 - FULL_OCCUPANCY_TOLERANCE


def shown_site(contents: Contents, frac_coords: FloatArray) -> str:
    """A site as text: "Co 0.5 + Ni 0.5 at (0.000, 0.000, 0.000)"."""
    amounts = " + ".join(f"{symbol} {occupancy:.3g}" for symbol, occupancy in contents)
    return f"{amounts} at ({', '.join(f'{value:.3f}' for value in frac_coords)})"


def _ion_sites(
    lattice_angstrom: FloatArray, mobile: list[Site], element: str, host: list[Site]
) -> tuple[tuple[IonSite, ...], tuple[str, ...]]:
    merged = merge_split_sites(
        lattice_angstrom,
        np.array([site.frac_coords for site in mobile], dtype=np.float64).reshape(-1, 3),
        np.array([1.0 if site.is_ordered else site.occupancy_of(element) for site in mobile]),
        [element] * len(mobile),
        others=_listed(host),
    )
    sites = []
    for index, (place, occupancy, parts) in enumerate(
        zip(merged.frac_coords, merged.occupancies, merged.parts, strict=True)
    ):
        others = _together([mobile[k].species for k in parts], without=element)
        x, y, z = (float(value) % 1.0 for value in place)
        sites.append(IonSite(index=index, frac_coords=(x, y, z), occupancy=float(occupancy), shared_with=others))
    return tuple(sites), merged.warnings


def _host(lattice_angstrom: FloatArray, host: list[Site]) -> tuple[tuple[Contents, ...], FloatArray, tuple[str, ...]]:
    """Contents and places of the host's sites, the split ones merged, in the order of the file."""
    partly = [k for k, site in enumerate(host) if sum(amount for _, amount in site.species) < 1.0 - _PARTLY_EMPTY]
    merged = merge_split_sites(
        lattice_angstrom,
        np.array([host[k].frac_coords for k in partly], dtype=np.float64).reshape(-1, 3),
        np.array([sum(amount for _, amount in host[k].species) for k in partly]),
        ["+".join(symbol for symbol, _ in host[k].species) for k in partly],
        within_angstrom=HOST_SPLIT_ANGSTROM,
        others=_listed([site for k, site in enumerate(host) if k not in set(partly)]),
    )
    places: dict[int, tuple[Contents, FloatArray]] = {
        k: (_normal(site), np.array(site.frac_coords)) for k, site in enumerate(host) if k not in set(partly)
    }
    for place, parts in zip(merged.frac_coords, merged.parts, strict=True):
        places[partly[parts[0]]] = (_together([host[partly[k]].species for k in parts]), place)
    rows = [places[k] for k in sorted(places)]
    coords = np.array([place for _, place in rows], dtype=np.float64).reshape(-1, 3) % 1.0
    return tuple(contents for contents, _ in rows), coords, merged.warnings


def _listed(sites: list[Site]) -> tuple[list[str], FloatArray]:
    """The elements on each site, "Co+Ni", and the sites' coordinates, shape [n, 3]."""
    names = ["+".join(symbol for symbol, _ in site.species) for site in sites]
    return names, np.array([site.frac_coords for site in sites], dtype=np.float64).reshape(-1, 3)


def _excluding(lattice_angstrom: FloatArray, sites: tuple[IonSite, ...], element: str) -> tuple[IonSite, ...]:
    """The sites, each with those that are too near it for both to be filled, though the file fills both."""
    if not sites:
        return sites
    found = close_contacts(
        [((element, site.occupancy),) for site in sites],
        np.array([site.frac_coords for site in sites]),
        lattice_angstrom,
    )
    excluded: dict[int, set[int]] = {}
    for contact in (*found.impossible, *found.implausible):
        i, j = contact.pair
        excluded.setdefault(i, set()).add(j)
        excluded.setdefault(j, set()).add(i)
    return tuple(
        replace(site, excludes=tuple(sorted(excluded[site.index]))) if site.index in excluded else site
        for site in sites
    )


def _normal(site: Site) -> Contents:
    """A site's contents, rounding taken off where one element fills it."""
    return ((site.species[0][0], 1.0),) if site.is_ordered else site.species


def _together(parts: list[Contents], *, without: str | None = None) -> Contents:
    """What several places hold as one, an element left out."""
    amounts: dict[str, float] = {}
    for contents in parts:
        for symbol, occupancy in contents:
            if symbol != without:
                amounts[symbol] = amounts.get(symbol, 0.0) + occupancy
    total = sum(amounts.values())
    full = without is None and abs(total - 1.0) < _PARTLY_EMPTY
    return tuple((symbol, amount / total if full else amount) for symbol, amount in sorted(amounts.items()))


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
