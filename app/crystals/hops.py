"""The hops of an ion through a crystal: which are distinct, and the band of each."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.spatial import cKDTree

from app.crystals.band import Band, FloatArray, IntArray
from app.crystals.crystal import FULL_OCCUPANCY_TOLERANCE, Crystal
from app.crystals.filling import CROWDED_ANGSTROM
from app.crystals.hop_bands import Mechanism, blocked_because, hop_band
from app.crystals.interstitials import with_interstitials
from app.crystals.lattices import short_translations
from app.crystals.ordering import Ordering, OrderingMethod, Orderings
from app.crystals.oxidation import guess_oxidation_states, usual_charge
from app.crystals.passed_sites import site_on_the_way
from app.crystals.percolation import HopEdge, Offset
from app.crystals.reduction import reduced_lattice
from app.crystals.sites import IonSite, Sublattices, is_mixed, split
from app.crystals.split_sites import SPLIT_ANGSTROM
from app.crystals.supercell import (
    SHORTEST_TRANSLATION_ANGSTROM,
    Motif,
    Supercell,
    choose_supercell,
)
from app.crystals.symmetry import (
    SYMMETRY_TOLERANCE_ANGSTROM,
    canonical_hops,
    find_symmetry,
    hop_orbits,
)
from app.crystals.validation import no_host
from app.errors import TooLargeError

#: An ion that fills less of its sites is the rare one, as in the hosts that are computed with it alone.
FEW_SHARE = 0.5


@dataclass(frozen=True, kw_only=True, eq=False)
class Hop:
    """One symmetry-distinct hop; sites and offset refer to the uploaded cell.

    Attributes:
        from_site: index of the ion's site where it starts.
        to_site: index of the site where it ends.
        offset: whole cells between the two, so that the end lies at the site's coordinates plus the offset.
        distance_angstrom: the straight distance.
        multiplicity: undirected copies per uploaded cell.
        bands: in its supercell, what a model predicts, one an ordering of the frame; None where there is no room for
            the hop in that ordering.
        excluded_because: in words, why the hop is not predicted in any.
        left_out: it may be passable and was not looked at, since its supercell is too large.
    """

    from_site: int
    to_site: int
    offset: Offset
    distance_angstrom: float
    multiplicity: int
    bands: tuple[Band | None, ...]
    excluded_because: str | None
    left_out: bool = False

    @property
    def band(self) -> Band | None:
        """The band in the first ordering that has room for it; None where the hop is excluded."""
        return next((band for band in self.bands if band is not None), None)


@dataclass(frozen=True, kw_only=True, eq=False)
class Disorder:
    """How the frame's shared and partly empty sites were filled.

    Attributes:
        method: the one arrangement of lowest electrostatic energy, or seeded samples.
        states: the oxidation state of each element; None where they could not be guessed.
        lattice_angstrom: of the supercell that was ordered, shape [3, 3].
        orderings: each is predicted.
    """

    method: OrderingMethod
    states: dict[str, int] | None
    lattice_angstrom: FloatArray
    orderings: tuple[Ordering, ...]


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
        disorder: how the frame was ordered; None where it is ordered as uploaded.
    """

    ion: str
    sites: tuple[IonSite, ...]
    hops: tuple[Hop, ...]
    all_hops: tuple[HopEdge, ...]
    truncated: bool
    mechanism: Mechanism
    warnings: tuple[str, ...]
    disorder: Disorder | None = None


def find_hops(
    crystal: Crystal,
    ion: str | None,
    *,
    max_hop_angstrom: float = 5.0,
    mechanism: Literal["auto", "vacancy", "dilute"] = "auto",
    max_hops: int = 60,
    max_atoms: int,
    include_close_hops: bool = False,
    interstitials: bool = False,
    max_orderings: int = 3,
) -> HopSearch:
    """Find the symmetry-distinct hops of an ion between its sites, each as a band in a right-sized supercell.

    Args:
        crystal: as it was uploaded.
        ion: element symbol of the migrating ion. One that the crystal does not hold hops between interstitial sites.
        max_hop_angstrom: the longest hop, angstrom.
        mechanism: what becomes of the crystal's other mobile ions. "auto" is "vacancy", whatever cell the crystal is
            written in: a crystal that was uploaded with its ions has them.
        max_hops: most distinct hops that get a band, the shortest ones.
        max_atoms: most atoms of the supercell.
        include_close_hops: whether hops that pass an atom within 1.2 angstrom are predicted.
        interstitials: whether interstitial sites are looked for beside those that the crystal's own ions are on.
        max_orderings: most orderings of a frame with shared or partly empty sites.

    Raises:
        InputError: as `app.crystals.sites.split`, `app.crystals.interstitials.with_interstitials` and
            `app.crystals.ordering.Orderings.of`; or nothing is left once the ions are removed ("no-host").
        TooLargeError: the supercell is too large ("too-many-atoms").
    """
    lattices = split(crystal, ion)
    absent = not lattices.sites
    if absent or interstitials:
        lattices = with_interstitials(lattices)
    chosen: Mechanism = "dilute" if absent or mechanism == "dilute" else "vacancy"
    if chosen == "dilute" and not lattices.frame_contents:
        raise no_host(lattices.ion, "mechanism")
    supercell = choose_supercell(lattices, max_atoms=max_atoms)
    orbits = _distinct(lattices, supercell.motif, max_hop_angstrom)
    orderings = _orderings(lattices, max_orderings)
    disorder = _disorder(supercell, orderings)
    hops = [
        _hop(
            lattices,
            supercell,
            members,
            mechanism=chosen,
            max_atoms=max_atoms,
            orderings=orderings,
            include_close_hops=include_close_hops,
        )
        for members in orbits[:max_hops]
    ]
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
            *_mechanism_warnings(lattices, asked=mechanism, absent=absent),
            *_count_warnings(
                lattices.ion,
                len(orbits),
                max_hop_angstrom=max_hop_angstrom,
                max_hops=max_hops,
                between_all=absent or interstitials,
            ),
            *(_occupancy_warnings(lattices) if chosen == "vacancy" else ()),
            *_disorder_warnings(lattices, disorder),
        ),
        disorder=disorder,
    )


def _orderings(lattices: Sublattices, most: int) -> Orderings:
    contents = [*lattices.frame_contents, *(site.shared_with for site in lattices.sites)]
    if not any(is_mixed(one) for one in contents if one):
        return Orderings(ion=lattices.ion, states=None, most=1)
    return Orderings(ion=lattices.ion, states=guess_oxidation_states(lattices.amounts), most=most)


def _disorder(supercell: Supercell, orderings: Orderings) -> Disorder | None:
    found = orderings.of(supercell)
    if not len(found[0].filled):
        return None
    return Disorder(
        method="samples" if found[0].energy_ev is None else "lowest-energy",
        states=None if orderings.states is None else dict(orderings.states),
        lattice_angstrom=supercell.lattice_angstrom,
        orderings=found,
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
    lattices: Sublattices,
    supercell: Supercell,
    members: list[HopEdge],
    *,
    mechanism: Mechanism,
    max_atoms: int,
    orderings: Orderings,
    include_close_hops: bool,
) -> Hop:
    vectors = _vectors(lattices, members)
    first = _roomiest(supercell, vectors)
    edge = members[first]
    distance = float(np.linalg.norm(vectors[first]))
    bands: list[Band | None] = []
    excluded, left_out = _too_short(lattices.ion, distance), False
    if excluded is None and not include_close_hops:
        excluded = _two_hops(lattices, edge)
    if excluded is None:
        reasons: list[str] = []
        for which in range(len(orderings.of(supercell))):
            try:
                band = hop_band(
                    lattices,
                    supercell,
                    edge,
                    mechanism=mechanism,
                    max_atoms=max_atoms,
                    orderings=orderings,
                    which=which,
                )
            except TooLargeError as error:  # this hop needs a larger supercell than the others
                reasons, left_out = [error.detail], True
                break
            reason = blocked_because(band, include_close_hops=include_close_hops)
            bands.append(None if reason else band)
            reasons += [reason] if reason else []
        excluded = reasons[0] if reasons and not any(bands) else None
    return Hop(
        from_site=edge.from_site,
        to_site=edge.to_site,
        offset=edge.offset,
        distance_angstrom=distance,
        multiplicity=len(members),
        bands=() if excluded else tuple(bands),
        excluded_because=excluded,
        left_out=left_out,
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


def _too_short(ion: str, distance_angstrom: float) -> str | None:
    if distance_angstrom >= SPLIT_ANGSTROM:
        return None
    return (
        f"the two sites are {distance_angstrom:.2f} angstrom apart: one {ion} is shared out between them, "
        "and that is no hop"
    )


def _two_hops(lattices: Sublattices, edge: HopEdge) -> str | None:
    coords = lattices.site_frac_coords
    end = coords[edge.to_site] + np.array(edge.offset)
    passed = site_on_the_way(lattices.lattice_angstrom, coords, coords[edge.from_site], end)
    if passed is None:
        return None
    return f"the straight path runs over site {passed}, so that it is two hops; include_close_hops=true predicts it"


def _count_warnings(
    ion: str, orbit_count: int, *, max_hop_angstrom: float, max_hops: int, between_all: bool
) -> tuple[str, ...]:
    """Say that there are no hops or too many; `between_all` is whether interstitial sites were looked for."""
    if not orbit_count:
        or_else = "" if between_all else ", or for interstitials=true, which looks for sites between them"
        sentence = (
            f"No two {ion} sites lie within {max_hop_angstrom:g} angstrom of each other: no hop. Ask for a longer "
            f"max_hop_angstrom{or_else}."
        )
        return (sentence,)
    if orbit_count > max_hops:
        sentence = (
            f"The crystal has {orbit_count} distinct hops and the {max_hops} shortest were predicted, so the "
            "percolation barriers are upper bounds. Send it again with `Prefer: respond-async` and "
            f"max_hops={orbit_count} for all."
        )
        return (sentence,)
    return ()


def _mechanism_warnings(lattices: Sublattices, *, asked: str, absent: bool) -> tuple[str, ...]:
    """Say what was chosen where the other choice is a usual one too: ions of more than one charge, and few of them."""
    ion = lattices.ion
    if absent:
        sentence = f"There is no {ion} in the uploaded crystal: one {ion} alone hops between its interstitial sites."
        return (sentence,)
    own = lattices.occupancies[lattices.occupancies > 0]
    if asked != "auto" or (own.mean() >= FEW_SHARE and abs(usual_charge(ion)) == 1):
        return ()
    sentence = (
        f"The mechanism is vacancy, as {ion} is part of the uploaded crystal: its other {ion} ions stay and one is "
        f"missing. Ask for `mechanism=dilute` where the host is empty but for the {ion} that hops."
    )
    return (sentence,)


def _occupancy_warnings(lattices: Sublattices) -> tuple[str, ...]:
    own = lattices.occupancies[lattices.occupancies > 0]
    partly = int((own <= 1.0 - FULL_OCCUPANCY_TOLERANCE).sum())
    if not partly:
        return ()
    ion = lattices.ion
    sentence = (
        f"{partly} of {len(own)} {ion} sites are partly occupied: each hop sees as many other {ion} as the "
        f"formula has, on the best occupied sites, none within {CROWDED_ANGSTROM:g} angstrom of another."
    )
    return (sentence,)


def _disorder_warnings(lattices: Sublattices, disorder: Disorder | None) -> tuple[str, ...]:
    if disorder is None:
        return ()
    mixed = sum(is_mixed(contents) for contents in lattices.frame_contents)
    shared = sum(bool(site.shared_with) for site in lattices.sites)
    sites = " and ".join(
        f"{count} of the {what}"
        for count, what in ((mixed, "frame's sites"), (shared, f"{lattices.ion} sites"))
        if count
    )
    count = len(disorder.orderings)
    how = (
        "the ordering of lowest electrostatic energy was predicted"
        if disorder.method == "lowest-energy"
        else f"{count} random ordering{'s were' if count > 1 else ' was'} predicted and averaged (`disorder` has each)"
    )
    sentence = f"Shared between elements or partly empty are {sites}: {how}; equal hops are those of the mean crystal."
    closed = "" if not shared else f" Every {lattices.ion} site counts as open, whatever else may sit on it."
    return (sentence + closed,)
