"""Empty shares: sites of the host that are partly empty, such as the A sites of a perovskite, offered to the ion."""

from dataclasses import replace

import numpy as np

from app.crystals.crystal import Contents
from app.crystals.geometry.periodic import near_pairs
from app.crystals.sites.ion_sites import IonSite, Sublattices, shown_site
from app.crystals.sites.oxidation import usual_charge

#: A site of the host that is filled less than this has room for an ion.
MOST_FILLED = 0.9
#: Partly empty sites nearer to each other than cations are exclude each other: no share of them is free.
APART_ANGSTROM = 2.2
#: Kinds of sites named one by one; the rest are counted.
_NAMED_KINDS = 3


def with_empty_shares(lattices: Sublattices) -> Sublattices:
    """Add to an ion's sites those of the host that are partly empty and hold atoms of the same charge, if any.

    Each has occupancy 0, as the file has no ion there, and keeps its own atoms as what shares it; a warning names them.
    """
    free = _free(lattices)
    if not free:
        return lattices
    places = lattices.host_frac_coords[free] % 1.0
    added = tuple(
        IonSite(
            index=len(lattices.sites) + k,
            frac_coords=(float(x), float(y), float(z)),
            occupancy=0.0,
            shared_with=lattices.host_contents[site],
        )
        for k, (site, (x, y, z)) in enumerate(zip(free, places, strict=True))
    )
    kept = np.setdiff1d(np.arange(len(lattices.host_contents)), free)
    return replace(
        lattices,
        sites=(*lattices.sites, *added),
        host_contents=tuple(lattices.host_contents[site] for site in kept),
        host_frac_coords=lattices.host_frac_coords[kept],
        warnings=(*lattices.warnings, _warning(lattices, free)),
    )


def _free(lattices: Sublattices) -> list[int]:
    """Indices of the host's sites with room for the ion."""
    sign = np.sign(usual_charge(lattices.ion))
    partly = [site for site, contents in enumerate(lattices.host_contents) if _filled(contents) < MOST_FILLED]
    alike = [
        site
        for site in partly
        if all(np.sign(usual_charge(symbol)) == sign for symbol, _ in lattices.host_contents[site])
    ]
    if not alike:
        return []
    coords = lattices.host_frac_coords
    own, _ = near_pairs(coords[alike], coords[partly], lattices.lattice_angstrom, APART_ANGSTROM)
    excluding = {alike[i] for i, j in own if alike[i] != partly[j]}
    return [site for site in alike if site not in excluding]


def _filled(contents: Contents) -> float:
    return sum(amount for _, amount in contents)


def _warning(lattices: Sublattices, free: list[int]) -> str:
    kinds: dict[Contents, int] = {}
    for site in free:
        kinds.setdefault(lattices.host_contents[site], site)
    shown = [shown_site(contents, lattices.host_frac_coords[site]) for contents, site in kinds.items()]
    more = len(shown) - _NAMED_KINDS
    named = "; ".join(shown[:_NAMED_KINDS]) + (f"; and {more} more kinds" if more > 0 else "")
    return (
        f"{len(free)} partly empty site{'s' if len(free) > 1 else ''} of the host ({named}) "
        f"{'are' if len(free) > 1 else 'is'} offered to {lattices.ion}, which the file does not have there: hops that "
        "end there are outside the domain and have wide intervals."
    )
