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
    for rotation, translation in zip(symmetry.rotations, symmetry.translations, strict=True):
        moved_sites = _moved_sites(crystal, rotation, translation)
        if moved_sites is None:
            continue
        site, cell = moved_sites
        offsets = hops[:, 2:] @ rotation.T + cell[hops[:, 1]] - cell[hops[:, 0]]
        moved = canonical_hops(np.column_stack([site[hops[:, 0]], site[hops[:, 1]], offsets]))
        moved_codes, _ = _encode(moved, scale)
        place = np.searchsorted(codes, moved_codes, sorter=order).clip(max=len(codes) - 1)
        # a copy just outside the search radius is not among the hops
        known = np.flatnonzero(np.all(hops[order[place]] == moved, axis=1))
        links_from.append(known)
        links_to.append(order[place[known]])
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


def _encode(hops: IntArray, scale: tuple[int, int] | None = None) -> tuple[IntArray, tuple[int, int]]:
    """One integer per hop; hops beyond the scale may share a number, so compare rows."""
    sites, span = scale or (int(hops[:, :2].max()) + 1, 2 * int(np.abs(hops[:, 2:]).max()) + 3)
    code = hops[:, 0]
    for column, base in ((1, sites), (2, span), (3, span), (4, span)):
        code = code * base + hops[:, column]
    return code, (sites, span)


def _moved_sites(crystal: Sublattices, rotation: IntArray, translation: FloatArray) -> tuple[IntArray, IntArray] | None:
    """The site and cell that an operation maps each of the ion's sites to; None where not one to one."""
    moved = crystal.site_frac_coords @ rotation.T + translation
    difference = moved[:, None] - crystal.site_frac_coords[None]
    cells = np.rint(difference)
    distances = np.linalg.norm((difference - cells) @ crystal.lattice_angstrom, axis=2)
    site = distances.argmin(axis=1)
    rows = np.arange(len(site))
    near = distances[rows, site].max() < 5 * SYMMETRY_TOLERANCE_ANGSTROM
    if not near or len(np.unique(site)) < len(site):
        return None
    return site.astype(np.int64), cells[rows, site].astype(np.int64)
