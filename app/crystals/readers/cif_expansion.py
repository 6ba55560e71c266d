"""From the listed atoms and the symmetry to every site of the cell."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from app.crystals.band import FloatArray, IntArray
from app.crystals.crystal import FULL_OCCUPANCY_TOLERANCE, Site
from app.crystals.geometry.periodic import near_pairs
from app.crystals.limits import Limits
from app.crystals.readers.cif_rows import MOST_OCCUPANCY, Row
from app.crystals.readers.cif_settings import DENOMINATOR, Operations
from app.crystals.validation import OTHER_COORDINATES
from app.errors import InputError, TooLargeError

#: Positions that symmetry makes of the listed atoms, for each atom that is taken: most of them coincide in a crystal
#: with all its atoms on symmetry elements.
POSITIONS_PER_ATOM = 50
#: Numbers of many digits are exact to within this.
ROUNDING_ANGSTROM = 0.002
#: An atom this near to its own image is on a symmetry element, where the two cannot both be there.
OWN_IMAGE_ANGSTROM = 0.1
#: Rows whose places are this near share one site.
SHARED_ANGSTROM = 0.005
#: Larger moves are reported: thirds with three digits cause them, thirds with four do not.
SAID_ANGSTROM = 1e-3
_DIGITS_TRUSTED = 4  # images of a place differ by the roundings of up to three coordinates, twice
_STEPS = 5
#: Positions are compared on a grid of this many steps a cell, off the places where coordinates lie.
_GRID, _OFF_GRID = 100_000, 0.3137


@dataclass(frozen=True, kw_only=True, eq=False)
class Expansion:
    """Every site of the cell.

    Attributes:
        sites: in the order of the file.
        moved: labels of rows that were moved onto symmetry elements, and by how much at most, angstrom.
        repeated: labels of rows that symmetry makes of other rows.
        cells_apart: labels of full rows that are other rows moved by whole cells, such as the atoms of a box drawn with
            both its faces.
        overfull: of places with more than one atom each, labels, coordinates and the occupancy; empty in a sound
            crystal.
        multiplicities_agree: whether the file's own numbers of sites, where it has them, are these; None without.
    """

    sites: tuple[Site, ...]
    moved: tuple[tuple[str, ...], float]
    repeated: tuple[str, ...]
    cells_apart: tuple[str, ...]
    overfull: tuple[str, ...]
    multiplicities_agree: bool | None


def check_size(rows: Sequence[Row], operations: Operations, limits: Limits, name: str) -> None:
    """Refuse so many atoms and operations that their product takes minutes.

    Raises:
        TooLargeError: kind "too-many-atoms".
    """
    if len(rows) * len(operations) > POSITIONS_PER_ATOM * limits.max_atoms:
        raise TooLargeError(
            f"{name} lists {len(rows)} atoms and {len(operations)} symmetry operations, too many positions for the "
            f"{limits.max_atoms:,} atoms that are taken here (IONPATH_MAX_ATOMS).",
            kind="too-many-atoms",
            where=name,
            expected=f"at most {limits.max_atoms:,} atoms",
        )


def expand(rows: Sequence[Row], operations: Operations, lattice_angstrom: FloatArray) -> Expansion:
    """Apply symmetry operations to the listed atoms.

    An atom that is off a symmetry element by no more than its digits are rounded is moved onto it. Rows with one place
    share it.

    Args:
        rows: of the file.
        operations: a group.
        lattice_angstrom: rows are the lattice vectors, shape [3, 3], angstrom.
    """
    places, moved_angstrom = _on_elements(rows, operations, lattice_angstrom)
    frac, row_of = _orbits(places, operations)
    agree = _agree(rows, np.bincount(row_of, minlength=len(rows)))
    groups = _shared(frac, lattice_angstrom)
    sites: list[Site] = []
    repeated: dict[str, None] = {}
    cells_apart: dict[str, None] = {}
    overfull: list[str] = []
    for group in groups:
        members = list(dict.fromkeys(int(row_of[k]) for k in group))
        kept = [members[0]]
        for row in members[1:]:
            # the same atom of another row, put here by symmetry: the file lists more than the asymmetric unit
            if any(_same(rows[row], rows[other]) and not _same_place(rows[row], rows[other]) for other in kept):
                repeated[rows[row].label] = None
            elif any(_same(rows[row], rows[other]) and _cells_apart(rows[row], rows[other]) for other in kept):
                cells_apart[rows[row].label] = None
            else:
                kept.append(row)
        amounts: dict[str, float] = {}
        for row in kept:
            for symbol, amount in rows[row].contents:
                amounts[symbol] = amounts.get(symbol, 0.0) + amount
        total = sum(amounts.values())
        x, y, z = (float(value) for value in frac[group[0]])
        if total > MOST_OCCUPANCY:
            labels = " and ".join(rows[row].label for row in kept)
            overfull.append(f"{labels} at ({x:.4f}, {y:.4f}, {z:.4f}), {total:.3g} atoms")
        scale = max(1.0, total) if total > 1.0 + FULL_OCCUPANCY_TOLERANCE else 1.0
        contents = tuple(sorted((symbol, amount / scale) for symbol, amount in amounts.items()))
        sites.append(Site(species=contents, frac_coords=(x, y, z)))
    far = [rows[int(k)].label for k in np.flatnonzero(moved_angstrom > SAID_ANGSTROM)]
    return Expansion(
        sites=tuple(sites),
        moved=(tuple(far), float(moved_angstrom.max(initial=0.0))),
        repeated=tuple(repeated),
        cells_apart=tuple(cells_apart),
        overfull=tuple(overfull),
        multiplicities_agree=agree,
    )


def overfull_error(expansion: Expansion, name: str) -> InputError:
    """The error for a file that puts several atoms in one place."""
    shown = "; ".join(expansion.overfull[:6]) + ("; ..." if len(expansion.overfull) > 6 else "")  # noqa: PLR2004
    return InputError(
        f"{name} puts several atoms in one place: {shown}.",
        kind="atoms-overlap",
        where=name,
        expected="each atom once; of a split or mixed site, occupancies that add up to 1 at most; " + OTHER_COORDINATES,
    )


def _on_elements(
    rows: Sequence[Row], operations: Operations, lattice_angstrom: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Places moved onto the symmetry elements they were rounded off.

    Returns:
        fractional coordinates, shape [n, 3]; moves, shape [n], angstrom.
    """
    places = np.array([row.frac_coords for row in rows], dtype=np.float64)
    written = places.copy()
    edges = np.linalg.norm(lattice_angstrom, axis=1)
    rounding = ROUNDING_ANGSTROM + _DIGITS_TRUSTED * (np.array([row.rounding for row in rows]) @ edges)
    alone = np.array([2 * row.occupancy > MOST_OCCUPANCY for row in rows])
    within = np.where(alone, OWN_IMAGE_ANGSTROM, np.minimum(rounding, OWN_IMAGE_ANGSTROM))
    shifts = operations.translations / DENOMINATOR
    if operations.is_identity:
        return places, np.zeros(len(rows))
    for _ in range(_STEPS):
        away = np.einsum("gij,nj->ngi", operations.rotations, places) + shifts - places[:, None]
        away -= np.rint(away)
        stays = np.linalg.norm(away @ lattice_angstrom, axis=2) < within[:, None]
        moves = (away * stays[..., None]).sum(axis=1) / stays.sum(axis=1)[:, None]
        places = places + moves
        if np.abs(moves).max() < 1e-12:  # noqa: PLR2004 - the last bits
            break
    moved = np.linalg.norm((places - written) @ lattice_angstrom, axis=1)
    return places, moved


def _orbits(places: FloatArray, operations: Operations) -> tuple[FloatArray, IntArray]:
    """Every image of every place in the cell once, the place itself first, and the row that each is of."""
    images = np.einsum("gij,nj->ngi", operations.rotations, places) + operations.translations / DENOMINATOR
    images -= np.floor(images)
    images[images > 1.0 - 1e-9] = 0.0
    if operations.is_identity:
        return images[:, 0], np.arange(len(places))
    steps = np.floor(images * _GRID + _OFF_GRID).astype(np.int64) % _GRID
    codes = (steps @ np.array([_GRID**2, _GRID, 1])).astype(np.int64)
    frac, row_of = [], []
    for row in range(len(places)):
        _, first = np.unique(codes[row], return_index=True)
        first.sort()
        frac.append(images[row, first])
        row_of.append(np.full(len(first), row))
    return np.concatenate(frac), np.concatenate(row_of)


def _shared(frac: FloatArray, lattice_angstrom: FloatArray) -> list[IntArray]:
    """Groups of places that are one, in the order of their first."""
    count = len(frac)
    pairs, _ = near_pairs(frac, None, lattice_angstrom, SHARED_ANGSTROM)
    if not len(pairs):
        return [np.array([k]) for k in range(count)]
    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    labels = connected_components(graph, directed=False)[1]
    order = np.argsort(labels, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)
    return sorted(groups, key=lambda group: int(group[0]))


def _same(one: Row, other: Row) -> bool:
    return one.contents == other.contents


def _same_place(one: Row, other: Row) -> bool:
    """Whether two rows give the same coordinates, so that the file lists one atom twice."""
    apart = np.array(one.frac_coords) - np.array(other.frac_coords)
    return bool(np.abs(apart - np.rint(apart)).max() < 1e-3)  # noqa: PLR2004 - files round


def _cells_apart(one: Row, other: Row) -> bool:
    """Whether two rows with full sites give coordinates that differ by whole cells."""
    apart = np.abs(np.array(one.frac_coords) - np.array(other.frac_coords))
    return one.occupancy >= 1.0 - FULL_OCCUPANCY_TOLERANCE and bool(apart.max() > 0.5)  # noqa: PLR2004 - cells


def _agree(rows: Sequence[Row], found: IntArray) -> bool | None:
    """Whether the file's numbers of sites are these; None where it has none, or 1 throughout."""
    listed = [row.multiplicity for row in rows]
    if None in listed or set(listed) == {1}:
        return None
    return [int(count) for count in found] == listed
