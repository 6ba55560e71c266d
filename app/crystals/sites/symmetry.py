"""The symmetry of a crystal decorated with an ion's sites, and the orbits of its hops."""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import spglib
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from app.crystals.band import FloatArray, IntArray
from app.crystals.crystal import Contents
from app.crystals.elements import SYMBOLS
from app.crystals.sites.ion_sites import Sublattices

#: Tolerance of positions under a symmetry operation: files round to about a thousandth.
SYMMETRY_TOLERANCE_ANGSTROM = 0.01
#: Occupancies that differ by less are equal.
OCCUPANCY_STEP = 0.01
FULL = round(1.0 / OCCUPANCY_STEP)
#: Hops, or pairs of sites, that operations are applied to at once, which bounds memory.
_MOVED_AT_ONCE = 500_000
#: Numbers of kinds of mixed sites begin here, after the elements.
ION_TYPE = 1000


@dataclass(frozen=True, kw_only=True, eq=False)
class Symmetry:
    """Operations of the uploaded cell that, with its translations, generate the space group.

    Attributes:
        rotations: shape [n, 3, 3], acting on fractional coordinates as x -> rotation @ x + translation.
        translations: shape [n, 3].
        pure_translations: those of operations without rotation, shape [m, 3], zero among them.
        primitive_atoms: for each atom of the host, then each site of the ion, the atom of the primitive cell that it is
            a copy of, shape [n_host + n_sites].
    """

    rotations: IntArray
    translations: FloatArray
    pure_translations: FloatArray
    primitive_atoms: IntArray


def find_symmetry(crystal: Sublattices) -> Symmetry:
    """Find the symmetry of a crystal, distinguishing the ion's sites by occupancy.

    A crystal whose symmetry cannot be found (sites that nearly coincide) has only the identity.
    """
    positions = np.vstack([crystal.host_frac_coords, crystal.site_frac_coords])
    types = _types(crystal)
    cell = (crystal.lattice_angstrom, positions, types)
    found = _dataset(cell)
    if found is None:
        return Symmetry(
            rotations=np.eye(3, dtype=np.int64)[None],
            translations=np.zeros((1, 3)),
            pure_translations=np.zeros((1, 3)),
            primitive_atoms=np.arange(len(types)),
        )
    rotations = np.asarray(found.rotations, dtype=np.int64)
    translations = np.asarray(found.translations, dtype=np.float64)
    # one operation of each rotation and the pure translations generate all others
    _, first = np.unique(rotations.reshape(-1, 9), axis=0, return_index=True)
    pure = np.all(rotations == np.eye(3, dtype=np.int64), axis=(1, 2))
    chosen = np.union1d(first, np.flatnonzero(pure))
    return Symmetry(
        rotations=rotations[chosen],
        translations=translations[chosen],
        pure_translations=translations[pure],
        primitive_atoms=np.asarray(found.mapping_to_primitive, dtype=np.int64),
    )


def _types(crystal: Sublattices) -> list[int]:
    """One integer per kind of site: an element, a mixture, or a site of the ion with the elements that share it."""
    kinds: list[tuple[bool, tuple[tuple[str, int], ...]]] = [
        (False, _rounded(contents)) for contents in crystal.host_contents
    ]
    kinds += [(True, (*_rounded(((crystal.ion, s.occupancy),)), *_rounded(s.shared_with))) for s in crystal.sites]
    number = {kind: ION_TYPE + k for k, kind in enumerate(sorted(set(kinds)))}
    return [
        SYMBOLS.index(kind[1][0][0]) + 1
        if not kind[0] and len(kind[1]) == 1 and kind[1][0][1] == FULL
        else number[kind]
        for kind in kinds
    ]


def _rounded(contents: Contents) -> tuple[tuple[str, int], ...]:
    return tuple((symbol, round(occupancy / OCCUPANCY_STEP)) for symbol, occupancy in contents)


def _dataset(cell: tuple[FloatArray, FloatArray, list[int]]) -> Any:
    """Call spglib; None where it finds no symmetry, which depending on its version it returns or raises."""
    with warnings.catch_warnings():
        # up to 2.8 it warns of a future change on each call
        warnings.filterwarnings("ignore", message="Set OLD_ERROR_HANDLING", category=DeprecationWarning)
        try:
            return spglib.get_symmetry_dataset(cell, symprec=SYMMETRY_TOLERANCE_ANGSTROM)
        except spglib.error.SpglibError:
            return None


def hop_orbits(crystal: Sublattices, symmetry: Symmetry, hops: IntArray) -> IntArray:
    """Group hops into orbits under symmetry operations and reversal.

    Args:
        crystal: the ion's sites.
        symmetry: its operations.
        hops: canonical undirected hops (see `canonical_hops`), rows (from, to, offset x, y, z), shape [n, 5].

    Returns:
        the orbit of each hop, shape [n], numbered from 0 without gaps.
    """
    codes, scale = _encode(hops)
    order = np.argsort(codes)
    links_from, links_to = [], []
    size = max(1, _MOVED_AT_ONCE // max(len(hops), len(crystal.sites) ** 2))
    for start in range(0, len(symmetry.rotations), size):
        some = slice(start, start + size)
        moved = _moved_hops(crystal, symmetry.rotations[some], symmetry.translations[some], hops)
        moved_codes, _ = _encode(moved, scale)
        place = order[np.searchsorted(codes, moved_codes, sorter=order).clip(max=len(codes) - 1)]
        # a copy just outside the search radius is not among the hops
        known = np.flatnonzero(np.all(hops[place] == moved, axis=1))
        links_from.append(known % len(hops))
        links_to.append(place[known])
    sources, targets = np.concatenate([*links_from, []]), np.concatenate([*links_to, []])
    graph = coo_array((np.ones(len(sources)), (sources.astype(int), targets.astype(int))), shape=(len(hops),) * 2)
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)


def canonical_hops(hops: IntArray) -> IntArray:
    """Write each undirected hop in the canonical one of its two directions.

    From the lower site to the higher; between a site and its own copy, the first offset not zero is positive.

    Args:
        hops: rows (from, to, offset x, y, z), shape [n, 5].
    """
    first = np.where(hops[:, 2] != 0, hops[:, 2], np.where(hops[:, 3] != 0, hops[:, 3], hops[:, 4]))
    back = (hops[:, 0] > hops[:, 1]) | ((hops[:, 0] == hops[:, 1]) & (first < 0))
    reversed_hops = np.column_stack([hops[:, 1], hops[:, 0], -hops[:, 2:]])
    return np.where(back[:, None], reversed_hops, hops)


def distinct_rows(hops: IntArray) -> tuple[IntArray, IntArray]:
    """Every hop once, and for each of the given ones which of these it is: rows (from, to, offset x, y, z)."""
    codes, _ = _encode(hops)
    _, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
    return hops[first], inverse


def _encode(hops: IntArray, scale: tuple[int, int] | None = None) -> tuple[IntArray, tuple[int, int]]:
    """One integer per hop; hops beyond the scale may share a number, so compare rows."""
    sites, span = scale or (int(hops[:, :2].max()) + 1, 2 * int(np.abs(hops[:, 2:]).max()) + 3)
    code = hops[:, 0]
    for column, base in ((1, sites), (2, span), (3, span), (4, span)):
        code = code * base + hops[:, column]
    return code, (sites, span)


def _moved_hops(crystal: Sublattices, rotations: IntArray, translations: FloatArray, hops: IntArray) -> IntArray:
    """The canonical hops that operations map hops to, all those of the first operation first.

    An operation that does not map the ion's sites one to one is left out.
    """
    sites = crystal.site_frac_coords
    moved = sites @ rotations.transpose(0, 2, 1) + translations[:, None]
    difference = moved[:, :, None] - sites
    cells = np.rint(difference)
    apart = (difference - cells) @ crystal.lattice_angstrom
    squared = np.einsum("gnmi,gnmi->gnm", apart, apart)
    site = squared.argmin(axis=2)
    nearest = np.take_along_axis(squared, site[:, :, None], axis=2)[:, :, 0]
    cell = np.take_along_axis(cells, site[:, :, None, None], axis=2)[:, :, 0].astype(np.int64)
    one_to_one = (np.sort(site, axis=1) == np.arange(len(sites))).all(axis=1)
    fits = one_to_one & (nearest.max(axis=1) < (5 * SYMMETRY_TOLERANCE_ANGSTROM) ** 2)
    site, cell, start, end = site[fits], cell[fits], hops[:, 0], hops[:, 1]
    offsets = hops[:, 2:] @ rotations[fits].transpose(0, 2, 1) + cell[:, end] - cell[:, start]
    rows = np.concatenate([site[:, start, None], site[:, end, None], offsets], axis=2)
    return canonical_hops(rows.reshape(-1, 5))
