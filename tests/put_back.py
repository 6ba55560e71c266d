"""Helpers: a published band's perfect crystal, and whether two bands see the same surroundings."""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np

from app.crystals.band import Band, FloatArray, model_band
from app.crystals.crystal import Crystal, Site
from app.crystals.geometry.distances import nearest_vectors
from app.crystals.hops.search import Hop, HopSearch

SIGHT_ANGSTROM = 6.0


def row_band(row: Mapping[str, Any]) -> Band:
    """A line of the data set as a band."""
    return Band(
        lattice_angstrom=np.array(row["lattice_angstrom"]),
        host_species=tuple(row["host_species"]),
        host_frac_coords=np.array(row["host_frac_coords"]),
        ion=row["ion"],
        image_frac_coords=np.array(row["image_frac_coords"]),
    )


def perfect_crystal(band: Band) -> Crystal:
    """The host with the ion put back at both ends of the hop."""
    atoms = [*zip(band.host_species, band.host_frac_coords, strict=True)]
    atoms += [(band.ion, band.image_frac_coords[0]), (band.ion, band.image_frac_coords[-1])]
    sites = tuple(
        Site(species=((symbol, 1.0),), frac_coords=(float(x), float(y), float(z))) for symbol, (x, y, z) in atoms
    )
    return Crystal(lattice_angstrom=band.lattice_angstrom, sites=sites)


def surroundings(band: Band, frac_coords: FloatArray) -> dict[str, FloatArray]:
    """Distances from a place to every copy of the host's atoms in sight, sorted, for each element."""
    reach = np.ceil(SIGHT_ANGSTROM * np.linalg.norm(np.linalg.inv(band.lattice_angstrom), axis=0) + 0.5).astype(int)
    cells = np.array(list(itertools.product(*(range(-r, r + 1) for r in reach))))
    away = band.host_frac_coords - frac_coords
    away -= np.rint(away)
    distances = np.linalg.norm((away[:, None] + cells[None]) @ band.lattice_angstrom, axis=-1)
    species = np.array(band.host_species)
    near = {symbol: np.sort(distances[species == symbol].ravel()) for symbol in sorted(set(species))}
    return {symbol: found[found < SIGHT_ANGSTROM] for symbol, found in near.items()}


def alike(a: dict[str, FloatArray], b: dict[str, FloatArray], tolerance_angstrom: float) -> bool:
    """Whether two places have the same surroundings; atoms at the edge of sight may be in one list alone."""
    for symbol in {*a, *b}:
        one, other = a.get(symbol, np.array([])), b.get(symbol, np.array([]))
        edge = SIGHT_ANGSTROM - tolerance_angstrom
        count = max(np.count_nonzero(one < edge), np.count_nonzero(other < edge))
        if min(len(one), len(other)) < count:
            return False
        if count and np.abs(one[:count] - other[:count]).max() > tolerance_angstrom:
            return False
    return True


def congruent(a: Band, b: Band, *, tolerance_angstrom: float = 0.03) -> bool:
    """Whether first, middle and last image of two bands have the same surroundings, in either direction."""
    a, b = model_band(a), model_band(b)
    if abs(a.hop_distance_angstrom - b.hop_distance_angstrom) > tolerance_angstrom:
        return False
    ours = [surroundings(a, a.image_frac_coords[k]) for k in (0, 2, 4)]
    theirs = [surroundings(b, b.image_frac_coords[k]) for k in (0, 2, 4)]
    return any(
        all(alike(x, y, tolerance_angstrom) for x, y in zip(ours, order, strict=True))
        for order in (theirs, theirs[::-1])
    )


def own_hop(band: Band, search: HopSearch) -> Hop | None:
    """The hop of a search between the two ends of a band, by place: whatever its surroundings."""
    ends = [band.image_frac_coords[0], band.image_frac_coords[-1]]
    sites = np.array([site.frac_coords for site in search.sites])
    place = []
    for end in ends:
        vectors = nearest_vectors(band.lattice_angstrom, (sites - end) @ band.lattice_angstrom)
        place.append(int(np.linalg.norm(vectors, axis=1).argmin()))
    shifts = [np.rint(end - sites[k]).astype(int) for end, k in zip(ends, place, strict=True)]
    offset = shifts[1] - shifts[0]
    wanted = {(place[0], place[1], *offset.tolist()), (place[1], place[0], *(-offset).tolist())}
    orbits = [e.orbit for e in search.all_hops if (e.from_site, e.to_site, *e.offset) in wanted]
    return search.hops[orbits[0]] if orbits and orbits[0] < len(search.hops) else None
