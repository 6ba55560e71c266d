"""The hops of an ion through a crystal: which are distinct, and the band of each."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy.spatial import cKDTree

from app.crystals.band import MODEL_IMAGE_COUNT, Band, FloatArray, IntArray
from app.crystals.crystal import FULL_OCCUPANCY_TOLERANCE, Crystal
from app.crystals.geometry import clearances_angstrom, nearest_vectors
from app.crystals.lattices import short_translations
from app.crystals.percolation import HopEdge, Offset
from app.crystals.sites import IonSite, Sublattices, split
from app.crystals.supercell import (
    SHORTEST_TRANSLATION_ANGSTROM,
    Motif,
    Supercell,
    choose_supercell,
    smallest_supercell,
)
from app.crystals.symmetry import (
    SYMMETRY_TOLERANCE_ANGSTROM,
    canonical_hops,
    find_symmetry,
    hop_orbits,
)

Mechanism = Literal["vacancy", "dilute"]

#: An image nearer to a host atom is inside it: the limit of `sound` bands in the published data.
IMAGE_CLEARANCE_ANGSTROM = 0.7
#: The straight line between images may pass nearer, but in no sound published band as near as this.
LINE_CLEARANCE_ANGSTROM = 0.35
#: A nearly empty host has one site to hop from, one to hop to, and many atoms to each.
SPARSE_SITES = 2
SPARSE_ATOMS_PER_SITE = 12
#: Two ions of a kind are not found nearer than this, so of two partly occupied sites only one is filled.
CROWDED_ANGSTROM = 1.8


@dataclass(frozen=True, kw_only=True, eq=False)
class Hop:
    """One symmetry-distinct hop; sites and offset refer to the uploaded cell.

    Attributes:
        from_site: index of the ion's site where it starts.
        to_site: index of the site where it ends.
        offset: whole cells between the two, so that the end lies at the site's coordinates plus the offset.
        distance_angstrom: the straight distance.
        multiplicity: undirected copies per uploaded cell.
        band: in its supercell, what a model predicts; None where the hop is excluded.
        excluded_because: in words, why the hop is not predicted.
    """

    from_site: int
    to_site: int
    offset: Offset
    distance_angstrom: float
    multiplicity: int
    band: Band | None
    excluded_because: str | None


@dataclass(frozen=True, kw_only=True, eq=False)
class HopSearch:
    """What was found in a crystal.

    Attributes:
        ion: element symbol of the migrating ion.
        sites: its sites in the uploaded cell.
        hops: symmetry-distinct, shortest first, at most as many as were asked for.
        all_hops: every undirected hop of the uploaded cell; `orbit` is the index in `hops`, or past its end
            where that was cut short.
        truncated: whether there are more distinct hops than `hops` holds.
        mechanism: whether the other mobile ions stay ("vacancy") or not ("dilute").
        mechanism_reason: in words, why.
        warnings: what the caller should know.
    """

    ion: str
    sites: tuple[IonSite, ...]
    hops: tuple[Hop, ...]
    all_hops: tuple[HopEdge, ...]
    truncated: bool
    mechanism: Mechanism
    mechanism_reason: str
    warnings: tuple[str, ...]


def find_hops(
    crystal: Crystal,
    ion: str | None,
    *,
    max_hop_angstrom: float = 5.0,
    mechanism: Literal["auto", "vacancy", "dilute"] = "auto",
    max_hops: int = 60,
    max_atoms: int,
) -> HopSearch:
    """Find the symmetry-distinct hops of an ion between its sites, each as a band in a right-sized supercell.

    Args:
        crystal: as it was uploaded.
        ion: element symbol of the migrating ion.
        max_hop_angstrom: the longest hop, angstrom.
        mechanism: what becomes of the crystal's other mobile ions.
        max_hops: most distinct hops that get a band, the shortest ones.
        max_atoms: most atoms of the supercell.

    Raises:
        InputError: as `app.crystals.sites.split`.
        TooLargeError: the supercell is too large ("too-many-atoms").
    """
    lattices = split(crystal, ion)
    supercell = choose_supercell(lattices, max_atoms=max_atoms)
    chosen, reason = _mechanism(mechanism, lattices)
    orbits = _distinct(lattices, supercell.motif, max_hop_angstrom)
    hops = [_hop(lattices, supercell, members, mechanism=chosen, max_atoms=max_atoms) for members in orbits[:max_hops]]
    return HopSearch(
        ion=lattices.ion,
        sites=lattices.sites,
        hops=tuple(hops),
        all_hops=tuple(edge for members in orbits for edge in members),
        truncated=len(orbits) > max_hops,
        mechanism=chosen,
        mechanism_reason=reason,
        warnings=(
            *crystal.warnings,
            *_count_warnings(lattices.ion, len(orbits), max_hop_angstrom=max_hop_angstrom, max_hops=max_hops),
            *(_occupancy_warnings(lattices) if chosen == "vacancy" else ()),
        ),
    )


def _mechanism(asked: Literal["auto", "vacancy", "dilute"], lattices: Sublattices) -> tuple[Mechanism, str]:
    """Choose: as asked, else by vacancies, unless the host is nearly empty.

    Three in four published bands keep the other ions, whatever their charge. The others were computed in an
    empty host, into which one ion was put: put back at both its ends, it has but two sites in a large cell.
    """
    ion, sites, others = lattices.ion, len(lattices.sites), len(lattices.frame_species)
    if asked != "auto":
        return asked, "as asked"
    if sites == SPARSE_SITES and others >= SPARSE_ATOMS_PER_SITE * sites:
        return "dilute", f"the host is nearly empty: two {ion} sites among {others} other atoms"
    return "vacancy", f"{ion} is part of the uploaded crystal: its other ions stay and one is missing"


def _distinct(lattices: Sublattices, motif: Motif, max_hop_angstrom: float) -> list[list[HopEdge]]:
    """Every undirected hop, in whole orbits, that with the shortest hop first.

    Symmetry is that of the motif: a cell that is kept as it was uploaded may have less than the crystal, and then
    hops that only the crystal makes equal have other surroundings in it.
    """
    # copies of one hop differ in length by the tolerance of the symmetry: none is cut off from its orbit
    hops, lengths = _all_hops(lattices, max_hop_angstrom + 10 * SYMMETRY_TOLERANCE_ANGSTROM)
    if not len(hops):
        return []
    folded, copies = np.unique(canonical_hops(motif.fold(hops)), axis=0, return_inverse=True)
    orbits = hop_orbits(motif.crystal, find_symmetry(motif.crystal), folded)[copies.ravel()]
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
    lattice, coords = lattices.lattice_angstrom, lattices.site_frac_coords
    reach = np.ceil(radius_angstrom * np.linalg.norm(np.linalg.inv(lattice), axis=0)).astype(int)
    cells = np.stack(np.meshgrid(*(np.arange(-r, r + 1) for r in reach), indexing="ij"), axis=-1).reshape(-1, 3)
    images = (coords[None] + cells[:, None]).reshape(-1, 3) @ lattice
    pairs = cKDTree(coords @ lattice).sparse_distance_matrix(cKDTree(images), radius_angstrom, output_type="coo_matrix")
    to, cell = pairs.col % len(coords), cells[pairs.col // len(coords)]
    rows = np.column_stack([pairs.row, to, cell]).astype(np.int64)
    itself = (rows[:, 0] == rows[:, 1]) & ~rows[:, 2:].any(axis=1)
    hops = np.unique(canonical_hops(rows[~itself]), axis=0)
    ends = coords[hops[:, 1]] + hops[:, 2:] - coords[hops[:, 0]]
    lengths = np.linalg.norm(ends @ lattice, axis=1)
    order = np.lexsort([*hops.T[::-1], np.round(lengths, 4)])
    return hops[order], lengths[order]


def _hop(
    lattices: Sublattices, supercell: Supercell, members: list[HopEdge], *, mechanism: Mechanism, max_atoms: int
) -> Hop:
    vectors = _vectors(lattices, members)
    first = _roomiest(supercell, vectors)
    edge = members[first]
    band = hop_band(lattices, supercell, edge, mechanism=mechanism, max_atoms=max_atoms)
    excluded = _excluded(band)
    return Hop(
        from_site=edge.from_site,
        to_site=edge.to_site,
        offset=edge.offset,
        distance_angstrom=float(np.linalg.norm(vectors[first])),
        multiplicity=len(members),
        band=None if excluded else band,
        excluded_because=excluded,
    )


def _vectors(lattices: Sublattices, edges: list[HopEdge]) -> FloatArray:
    """From start to end, shape [n, 3], angstrom."""
    coords = lattices.site_frac_coords
    ends = coords[[edge.to_site for edge in edges]] + np.array([edge.offset for edge in edges])
    return np.asarray((ends - coords[[edge.from_site for edge in edges]]) @ lattices.lattice_angstrom)


def _roomiest(supercell: Supercell, vectors: FloatArray) -> int:
    """The first of equal hops whose end is farthest from the supercell's copies of its start.

    A supercell has less symmetry than the crystal, so equal hops differ in how far their periodic copies are.
    """
    if len(vectors) == 1:
        return 0
    longest = float(np.linalg.norm(vectors, axis=1).max())
    translations, _ = short_translations(supercell.lattice_angstrom, longest + SHORTEST_TRANSLATION_ANGSTROM)
    copies = np.vstack([translations, -translations]) @ supercell.lattice_angstrom
    distances = np.linalg.norm(vectors[:, None] - copies[None], axis=2).min(axis=1, initial=np.inf)
    return int(np.round(distances, 2).argmax()) if len(copies) else 0


def hop_band(
    lattices: Sublattices, supercell: Supercell, edge: HopEdge, *, mechanism: Mechanism, max_atoms: int
) -> Band:
    """The band of one hop: its host in the supercell, and straight images.

    A hop to the copy of its own site that the supercell's translations make gets a larger supercell.

    Args:
        lattices: the crystal.
        supercell: where its hops are computed.
        edge: the hop.
        mechanism: what becomes of the other mobile ions.
        max_atoms: most atoms of the larger supercell.

    Raises:
        TooLargeError: the larger supercell is too large ("too-many-atoms").
    """
    start_ion, start = supercell.locate(edge.from_site, np.zeros(3, dtype=np.int64))
    end_ion, end = supercell.locate(edge.to_site, np.array(edge.offset, dtype=np.int64))
    if start_ion == end_ion:
        motif = supercell.motif
        step = motif.site_cell[edge.to_site] + np.array(edge.offset) @ motif.uploaded_cell
        larger = smallest_supercell(motif, max_atoms=max_atoms, without=step - motif.site_cell[edge.from_site])
        return hop_band(lattices, larger, edge, mechanism=mechanism, max_atoms=max_atoms)
    home = np.floor(start + 1e-9)
    steps = np.linspace(0.0, 1.0, MODEL_IMAGE_COUNT)[:, None]
    empty = Band(
        lattice_angstrom=supercell.lattice_angstrom,
        host_species=supercell.frame_species,
        host_frac_coords=supercell.frame_frac_coords,
        ion=lattices.ion,
        image_frac_coords=(start - home) + steps * (end - start),
    )
    if mechanism == "dilute":
        return empty
    filled = _filled(supercell, empty, {start_ion, end_ion})
    return replace(
        empty,
        host_species=empty.host_species + (lattices.ion,) * len(filled),
        host_frac_coords=np.vstack([empty.host_frac_coords, supercell.ion_frac_coords[filled]]),
    )


def _filled(supercell: Supercell, empty: Band, vacant: set[int]) -> IntArray:
    """Which of the other sites hold an ion: all full ones, and partly occupied ones as the formula allows.

    Those are filled from the best occupied down, each as far from the others as can be, and none within
    CROWDED_ANGSTROM of another ion or of the images.
    """
    others = np.setdiff1d(np.arange(len(supercell.occupancies)), list(vacant))
    occupancies = supercell.occupancies[others]
    full = occupancies > 1.0 - FULL_OCCUPANCY_TOLERANCE
    filled = list(others[full])
    wanted = round(float(supercell.occupancies.sum())) - 1
    if full.all() or len(filled) >= wanted:
        return np.asarray(others[full])
    lattice, coords = supercell.lattice_angstrom, supercell.ion_frac_coords
    partly, weights = others[~full], np.round(occupancies[~full], 2)

    def room(points: FloatArray) -> FloatArray:
        """How far each partly occupied site is from the nearest of some points, angstrom."""
        vectors = nearest_vectors(lattice, (coords[partly][:, None] - points[None]) @ lattice)
        return np.asarray(np.linalg.norm(vectors, axis=-1).min(axis=1))

    free = room(np.vstack([empty.image_frac_coords, coords[filled]]))
    while len(filled) < wanted and (free >= CROWDED_ANGSTROM).any():
        open_weights = np.where(free >= CROWDED_ANGSTROM, weights, -1.0)
        best = int(np.lexsort([np.arange(len(partly)), -np.round(free, 3), -open_weights])[0])
        filled.append(partly[best])
        free = np.minimum(free, room(coords[partly[best]][None]))
    return np.sort(np.array(filled, dtype=np.int64))


def _excluded(band: Band) -> str | None:
    if not band.host_species:
        return None
    images, line = clearances_angstrom(band)
    for distances, limit in ((images, IMAGE_CLEARANCE_ANGSTROM), (line, LINE_CLEARANCE_ANGSTROM)):
        atom = int(distances.argmin())
        if distances[atom] < limit:
            return (
                f"the straight path runs through an atom: it passes {band.host_species[atom]} at "
                f"{distances[atom]:.2f} angstrom"
            )
    return None


def _count_warnings(ion: str, orbit_count: int, *, max_hop_angstrom: float, max_hops: int) -> tuple[str, ...]:
    if not orbit_count:
        return (f"No two {ion} sites lie within {max_hop_angstrom:g} angstrom of each other: no hop.",)
    if orbit_count > max_hops:
        return (f"The crystal has {orbit_count} distinct hops; the {max_hops} shortest are listed.",)
    return ()


def _occupancy_warnings(lattices: Sublattices) -> tuple[str, ...]:
    partly = int((lattices.occupancies <= 1.0 - FULL_OCCUPANCY_TOLERANCE).sum())
    if not partly:
        return ()
    ion = lattices.ion
    sentence = (
        f"{partly} of {len(lattices.sites)} {ion} sites are partly occupied: each hop sees as many other {ion} as the "
        f"formula has, on the best occupied sites, none within {CROWDED_ANGSTROM:g} angstrom of another."
    )
    return (sentence,)
