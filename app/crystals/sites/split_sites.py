"""Split sites: places so near each other that one ion is shared out between them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from app.crystals.band import FloatArray, IntArray
from app.crystals.crystal import FULL_OCCUPANCY_TOLERANCE
from app.crystals.geometry.contacts import impossible_angstrom, may_be_bonded
from app.crystals.geometry.periodic import near_pairs, shortest_vectors

#: Two places nearer than this are one site that is split, for an ion does not hop so short a way.
SPLIT_ANGSTROM = 1.0
#: The same for atoms of the host, whose places a refinement splits up farther: two such atoms are never so near.
HOST_SPLIT_ANGSTROM = 1.3
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
    others: tuple[Sequence[str], FloatArray] | None = None,
) -> MergedSites:
    """Put the parts of each split site together: their mean place by occupancy, and their occupancies' sum.

    Parts lie within some distance of another part, all within that of their mean, and hold one atom together at
    most; atoms that may be bonded to each other, such as C and N of a cyanide, are no parts of one site. Where the mean
    place is on another atom, as for the hydrogen of a rotating hydroxide, the best occupied part stands for all. A
    longer chain of places, where an ion is smeared out along a channel, is left as it is.

    Args:
        lattice_angstrom: rows are the lattice vectors, shape [3, 3], angstrom.
        frac_coords: of the sites, shape [n, 3].
        occupancies: of each, shape [n].
        names: the elements on each, "Co+Ni".
        within_angstrom: how near the parts of one site are.
        others: the elements on all other sites, and their fractional coordinates, shape [m, 3].
    """
    count = len(frac_coords)
    pairs = _parts(lattice_angstrom, frac_coords, names, within_angstrom)
    if not len(pairs):
        alone = tuple(np.array([k]) for k in range(count))
        return MergedSites(frac_coords=frac_coords, occupancies=occupancies, parts=alone, warnings=())
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
        if others is not None and _on_an_atom(lattice_angstrom, middle, names[parts[0]], others):
            middle = frac_coords[parts[np.argmax(occupancies[parts])]]
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


def _parts(lattice_angstrom: FloatArray, frac_coords: FloatArray, names: Sequence[str], within: float) -> IntArray:
    """Pairs of places that may be parts of one site, shape [n, 2]."""
    if not len(frac_coords):
        return np.empty((0, 2), dtype=np.int64)
    pairs, lengths = near_pairs(frac_coords, None, lattice_angstrom, within)
    bonded = [
        may_be_bonded(names[i].split("+"), names[j].split("+"), float(length))
        for (i, j), length in zip(pairs, lengths, strict=True)
    ]
    return np.asarray(pairs[~np.array(bonded, dtype=bool)])


def _on_an_atom(
    lattice_angstrom: FloatArray, middle: FloatArray, name: str, others: tuple[Sequence[str], FloatArray]
) -> bool:
    """Whether a place is nearer to another atom than any two atoms are."""
    symbols, places = others
    if not len(places):
        return False
    least = [
        min(impossible_angstrom(one, other) for one in name.split("+") for other in symbol.split("+"))
        for symbol in symbols
    ]
    pairs, lengths = near_pairs(middle[None], places, lattice_angstrom, max(least))
    return any(length < least[other] for (_, other), length in zip(pairs, lengths, strict=True))


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
