"""All hops between an ion's sites, grouped into orbits of symmetry-equivalent hops."""

import numpy as np
from scipy.spatial import cKDTree

from app.crystals.band import FloatArray, IntArray
from app.crystals.geometry.reduction import reduced_lattice
from app.crystals.hops.percolation import HopEdge
from app.crystals.sites.ion_sites import Sublattices
from app.crystals.sites.supercell import Motif
from app.crystals.sites.symmetry import SYMMETRY_TOLERANCE_ANGSTROM, canonical_hops, distinct_rows, hop_orbits


def distinct_hops(lattices: Sublattices, motif: Motif, max_hop_angstrom: float) -> list[list[HopEdge]]:
    """Every undirected hop, grouped by orbit, the orbit with the shortest hop first.

    The symmetry is that of the motif: an uploaded cell that is kept may have less than the crystal, and hops that are
    equivalent in the crystal may then have different surroundings in the cell.
    """
    # equivalent hops differ in length by the tolerance of the symmetry: the margin keeps orbits whole
    hops, lengths = _all_hops(lattices, max_hop_angstrom + 10 * SYMMETRY_TOLERANCE_ANGSTROM)
    if not len(hops):
        return []
    folded, copies = distinct_rows(canonical_hops(motif.fold(hops)))
    orbits = hop_orbits(motif.crystal, motif.symmetry, folded)[copies]
    members: dict[int, list[int]] = {}
    for k, orbit in enumerate(orbits):
        members.setdefault(int(orbit), []).append(k)
    rows = [group for group in members.values() if lengths[group].min() <= max_hop_angstrom]
    return [
        [
            HopEdge(from_site=int(i), to_site=int(j), offset=(int(a), int(b), int(c)), orbit=rank)
            for i, j, a, b, c in hops[group]
        ]
        for rank, group in enumerate(rows)
    ]


def _all_hops(lattices: Sublattices, radius_angstrom: float) -> tuple[IntArray, FloatArray]:
    """Every undirected hop up to a length: rows (from, to, offset x, y, z) and lengths, shortest first."""
    # along the vectors of a long, skewed cell it would take very many copies
    lattice, steps = reduced_lattice(lattices.lattice_angstrom)
    in_reduced = lattices.site_frac_coords @ np.linalg.inv(steps)
    home = np.floor(in_reduced)
    coords = in_reduced - home
    reach = np.ceil(radius_angstrom * np.linalg.norm(np.linalg.inv(lattice), axis=0)).astype(int)
    cells = np.stack(np.meshgrid(*(np.arange(-r, r + 1) for r in reach), indexing="ij"), axis=-1).reshape(-1, 3)
    images = (coords[None] + cells[:, None]).reshape(-1, 3) @ lattice
    pairs = cKDTree(coords @ lattice).sparse_distance_matrix(cKDTree(images), radius_angstrom, output_type="coo_matrix")
    start, to = pairs.row, pairs.col % len(coords)
    offsets = (cells[pairs.col // len(coords)] + home[start] - home[to]) @ steps
    rows = np.column_stack([start, to, np.rint(offsets)]).astype(np.int64)
    itself = (rows[:, 0] == rows[:, 1]) & ~rows[:, 2:].any(axis=1)
    if itself.all():
        return np.empty((0, 5), dtype=np.int64), np.empty(0)
    hops, _ = distinct_rows(canonical_hops(rows[~itself]))
    given = lattices.site_frac_coords
    ends = given[hops[:, 1]] + hops[:, 2:] - given[hops[:, 0]]
    lengths = np.linalg.norm(ends @ lattices.lattice_angstrom, axis=1)
    order = np.lexsort([*hops.T[::-1], np.round(lengths, 4)])
    return hops[order], lengths[order]
