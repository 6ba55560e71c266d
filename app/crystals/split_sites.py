"""Split sites: places so near each other that one ion is shared out between them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from app.crystals.band import FloatArray, IntArray
from app.crystals.crystal import FULL_OCCUPANCY_TOLERANCE
from app.crystals.periodic import near_pairs, shortest_vectors

#: Two places nearer than this are one site that is split, for an ion does not hop so short a way.
SPLIT_ANGSTROM = 1.0
#: The same for atoms of the frame, whose places a refinement splits up farther: two such atoms are never so near.
FRAME_SPLIT_ANGSTROM = 1.3
#: Refined occupancies of the parts of a full site add up to a little more than one.
MOST_OCCUPANCY = 1.05
#: So many split sites are named one by one; the rest are counted.
_NAMED_SITES = 6


@dataclass(frozen=True, kw_only=True, eq=False)
class MergedSites:
    """An ion's sites, each split one as a whole.

    Attributes:
        frac_coords: shape [n, 3], in the order of the first part of each.
        occupancies: shape [n].
        parts: of each, its places among those that were given.
        warnings: which were merged.
    """

    frac_coords: FloatArray
    occupancies: FloatArray
    parts: tuple[IntArray, ...]
    warnings: tuple[str, ...]


def merge_split_sites(
    lattice_angstrom: FloatArray,
    frac_coords: FloatArray,
    occupancies: FloatArray,
    names: Sequence[str],
    *,
    within_angstrom: float = SPLIT_ANGSTROM,
) -> MergedSites:
    """Put the parts of each split site together: their mean place by occupancy, and their occupancies' sum.

    Parts lie within some distance of another part, all within that of their mean, and hold one atom together at
    most. A longer chain of places, where an ion is smeared out along a channel, is left as it is.

    Args:
        lattice_angstrom: rows are the lattice vectors, shape [3, 3], angstrom.
        frac_coords: of the sites, shape [n, 3].
        occupancies: of each, shape [n].
        names: what sits on each, for the warning.
        within_angstrom: how near the parts of one site are.
    """
    count = len(frac_coords)
    pairs, _ = near_pairs(frac_coords, None, lattice_angstrom, within_angstrom) if count else (np.empty((0, 2), int), 0)
    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    groups = connected_components(graph, directed=False)[1]
    places, amounts = frac_coords.copy(), occupancies.copy()
    kept = np.ones(count, dtype=bool)
    members = [np.array([k]) for k in range(count)]
    merged: list[str] = []
    for group in np.unique(groups[pairs[:, 0]]):
        parts = np.flatnonzero(groups == group)
        middle = _middle(lattice_angstrom, frac_coords[parts], occupancies[parts], within_angstrom)
        if middle is None:
            continue
        places[parts[0]], amounts[parts[0]] = middle, _total(occupancies[parts])
        kept[parts[1:]] = False
        members[parts[0]] = parts
        merged.append(_name(names[parts[0]], parts, frac_coords, middle, amounts[parts[0]]))
    return MergedSites(
        frac_coords=places[kept],
        occupancies=amounts[kept],
        parts=tuple(members[k] for k in np.flatnonzero(kept)),
        warnings=_warnings(sorted(set(names)), merged, within_angstrom),
    )


def _middle(
    lattice_angstrom: FloatArray, parts: FloatArray, occupancies: FloatArray, within_angstrom: float
) -> FloatArray | None:
    """The mean place of a site's parts; None where they are no parts of one site."""
    if occupancies.sum() > MOST_OCCUPANCY:
        return None
    from_first = parts - parts[0]
    from_first = from_first + shortest_vectors(from_first, lattice_angstrom).offsets
    middle = parts[0] + occupancies @ from_first / occupancies.sum()
    away = np.linalg.norm((parts[0] + from_first - middle) @ lattice_angstrom, axis=1)
    return np.asarray(middle) if away.max() < within_angstrom else None


def _total(occupancies: FloatArray) -> float:
    total = float(occupancies.sum())
    return 1.0 if total > 1.0 - 5 * FULL_OCCUPANCY_TOLERANCE else total


def _name(name: str, parts: IntArray, frac_coords: FloatArray, middle: FloatArray, occupancy: float) -> str:
    places = " and ".join(_shown(frac_coords[part]) for part in parts)
    return f"{name} at {places} as {_shown(middle % 1.0)}, occupied {occupancy:.3g}"


def _shown(frac_coords: FloatArray) -> str:
    return f"({', '.join(f'{value:.3f}' for value in frac_coords)})"


def _warnings(names: Sequence[str], merged: list[str], within_angstrom: float) -> tuple[str, ...]:
    if not merged:
        return ()
    more = f"; and {len(merged) - _NAMED_SITES} more" if len(merged) > _NAMED_SITES else ""
    sentence = (
        f"{len(merged)} {', '.join(names)} site{'s are' if len(merged) > 1 else ' is'} split into places less than "
        f"{within_angstrom:g} angstrom apart, of which one alone can be filled; each was taken as one site: "
        f"{'; '.join(merged[:_NAMED_SITES])}{more}."
    )
    return (sentence,)
