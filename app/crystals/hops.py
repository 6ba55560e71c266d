"""The hops of an ion through a crystal: which are distinct, and the band of each."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy.spatial import cKDTree

from app.crystals.band import MODEL_IMAGE_COUNT, Band, FloatArray, IntArray
from app.crystals.crystal import FULL_OCCUPANCY_TOLERANCE, Crystal
from app.crystals.filling import CROWDED_ANGSTROM, filled_sites
from app.crystals.geometry import clearances_angstrom
from app.crystals.lattices import short_translations
from app.crystals.percolation import HopEdge, Offset
from app.crystals.reduction import reduced_lattice
from app.crystals.sites import IonSite, Sublattices, split
from app.crystals.split_sites import SPLIT_ANGSTROM
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
from app.crystals.validation import no_host
from app.errors import TooLargeError

Mechanism = Literal["vacancy", "dilute"]

#: An image nearer to a host atom is inside it: the limit of `sound` bands in the published data.
IMAGE_CLEARANCE_ANGSTROM = 0.7
#: The straight line between images may pass nearer, but in no sound published band as near as this.
LINE_CLEARANCE_ANGSTROM = 0.35


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
        warnings: what the caller should know.
    """

    ion: str
    sites: tuple[IonSite, ...]
    hops: tuple[Hop, ...]
    all_hops: tuple[HopEdge, ...]
    truncated: bool
    mechanism: Mechanism
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
        mechanism: what becomes of the crystal's other mobile ions. "auto" is "vacancy", whatever cell the crystal is
            written in: a crystal that was uploaded with its ions has them.
        max_hops: most distinct hops that get a band, the shortest ones.
        max_atoms: most atoms of the supercell.

    Raises:
        InputError: as `app.crystals.sites.split`; or nothing is left once the ions are removed ("no-host").
        TooLargeError: the supercell is too large ("too-many-atoms").
    """
    lattices = split(crystal, ion)
    chosen: Mechanism = "vacancy" if mechanism == "auto" else mechanism
    if chosen == "dilute" and not lattices.frame_species:
        raise no_host(lattices.ion, "mechanism")
    supercell = choose_supercell(lattices, max_atoms=max_atoms)
    orbits = _distinct(lattices, supercell.motif, max_hop_angstrom)
    hops = [_hop(lattices, supercell, members, mechanism=chosen, max_atoms=max_atoms) for members in orbits[:max_hops]]
    return HopSearch(
        ion=lattices.ion,
        sites=lattices.sites,
        hops=tuple(hops),
        all_hops=tuple(edge for members in orbits for edge in members),
        truncated=len(orbits) > max_hops,
        mechanism=chosen,
        warnings=(
            *crystal.warnings,
            *lattices.warnings,
            *(_mechanism_warnings(lattices.ion) if mechanism == "auto" else ()),
            *_count_warnings(lattices.ion, len(orbits), max_hop_angstrom=max_hop_angstrom, max_hops=max_hops),
            *(_occupancy_warnings(lattices) if chosen == "vacancy" else ()),
        ),
    )


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
    # along a long, skewed cell's own vectors it would take very many copies
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
    hops = np.unique(canonical_hops(rows[~itself]), axis=0)
    given = lattices.site_frac_coords
    ends = given[hops[:, 1]] + hops[:, 2:] - given[hops[:, 0]]
    lengths = np.linalg.norm(ends @ lattices.lattice_angstrom, axis=1)
    order = np.lexsort([*hops.T[::-1], np.round(lengths, 4)])
    return hops[order], lengths[order]


def _hop(
    lattices: Sublattices, supercell: Supercell, members: list[HopEdge], *, mechanism: Mechanism, max_atoms: int
) -> Hop:
    vectors = _vectors(lattices, members)
    first = _roomiest(supercell, vectors)
    edge = members[first]
    distance = float(np.linalg.norm(vectors[first]))
    band, excluded = None, _too_short(lattices.ion, distance)
    if excluded is None:
        try:
            band = hop_band(lattices, supercell, edge, mechanism=mechanism, max_atoms=max_atoms)
            excluded = _excluded(band)
        except TooLargeError as error:  # this hop needs a larger supercell than the others
            excluded = error.detail
    return Hop(
        from_site=edge.from_site,
        to_site=edge.to_site,
        offset=edge.offset,
        distance_angstrom=distance,
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
    filled = filled_sites(supercell, empty, {start_ion, end_ion})
    return replace(
        empty,
        host_species=empty.host_species + (lattices.ion,) * len(filled),
        host_frac_coords=np.vstack([empty.host_frac_coords, supercell.ion_frac_coords[filled]]),
    )


def _too_short(ion: str, distance_angstrom: float) -> str | None:
    if distance_angstrom >= SPLIT_ANGSTROM:
        return None
    return (
        f"the two sites are {distance_angstrom:.2f} angstrom apart: one {ion} is shared out between them, "
        "and that is no hop"
    )


def _excluded(band: Band) -> str | None:
    if not band.host_species:
        return f"nothing is left in the supercell but the {band.ion} that hops"
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


def _mechanism_warnings(ion: str) -> tuple[str, ...]:
    sentence = (
        f"The mechanism is vacancy, as {ion} is part of the uploaded crystal: its other {ion} ions stay and one is "
        f"missing. Ask for `mechanism=dilute` where the host is empty but for the {ion} that hops."
    )
    return (sentence,)


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
