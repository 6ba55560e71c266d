"""The search for hops of an ion through a crystal: the distinct ones, each with its band."""

from dataclasses import dataclass, replace

import numpy as np

from app.crystals.band import Band, FloatArray, IntArray
from app.crystals.charged_host import ChargedHost, average_host
from app.crystals.crystal import Crystal
from app.crystals.geometry.lattices import short_translations
from app.crystals.geometry.vacuum import Vacuum, find_vacuum
from app.crystals.hops.bands import Mechanism, PlacedHop, blocked_because, crowded_because, has_close_sites, hop_band
from app.crystals.hops.fillings import Fillings, sample_fillings
from app.crystals.hops.options import USUAL, USUAL_HOPS, HopOptions
from app.crystals.hops.orbits import distinct_hops
from app.crystals.hops.passed_sites import site_on_the_way
from app.crystals.hops.percolation import HopEdge, Offset, percolation
from app.crystals.hops.surface import at_surface_because
from app.crystals.hops.warnings import (
    bond_doubts,
    bond_warnings,
    count_warnings,
    disorder_warnings,
    long_hop_warnings,
    mechanism_warnings,
    occupancy_warnings,
)
from app.crystals.sites.empty_shares import with_empty_shares
from app.crystals.sites.interstitials import with_interstitials
from app.crystals.sites.ion_sites import IonSite, Sublattices, is_mixed, split
from app.crystals.sites.ordering import Ordering, OrderingMethod, Orderings
from app.crystals.sites.oxidation import guess_oxidation_states
from app.crystals.sites.soundness import bond_faults
from app.crystals.sites.split_sites import SPLIT_ANGSTROM
from app.crystals.sites.supercell import (
    SHORTEST_TRANSLATION_ANGSTROM,
    Supercell,
    choose_supercell,
)
from app.crystals.validation import no_host
from app.errors import TooLargeError

#: Of the 1,638 published hops that models are fitted on four are shorter.
SHORTEST_FITTED_ANGSTROM = 2.1


@dataclass(frozen=True, kw_only=True, eq=False)
class Hop:
    """One symmetry-distinct hop; sites and offset refer to the uploaded cell.

    Attributes:
        from_site: index of the ion's site where it starts.
        to_site: index of the site where it ends.
        offset: whole cells between the two, so that the end lies at the site's coordinates plus the offset.
        distance_angstrom: the straight distance.
        multiplicity: undirected copies per uploaded cell.
        bands: in its supercell, one per ordering of the host, for a model to predict; None where the path is blocked in
            that ordering. The first that is not None is that of these sites; the others may be of equivalent hops.
        excluded_because: the reason why the hop is not predicted in any ordering.
        left_out: whether the hop may be passable and was not examined, since its supercell is too large.
        doubt: why its prediction is out of the domain, whatever the model says; None without doubt.
    """

    from_site: int
    to_site: int
    offset: Offset
    distance_angstrom: float
    multiplicity: int
    bands: tuple[Band | None, ...]
    excluded_because: str | None
    left_out: bool = False
    doubt: str | None = None

    @property
    def band(self) -> Band | None:
        """The band in the first ordering where the path is free; None where the hop is excluded."""
        return next((band for band in self.bands if band is not None), None)


@dataclass(frozen=True, kw_only=True, eq=False)
class Disorder:
    """How the host's shared and partly empty sites were filled.

    Attributes:
        method: the one arrangement of lowest electrostatic energy, or seeded samples.
        states: the oxidation state of each element; None where they could not be guessed.
        lattice_angstrom: of the supercell that was ordered, shape [3, 3].
        orderings: each is predicted.
        fillings: samples of which of the ion's sites the host's atoms close.
    """

    method: OrderingMethod
    states: dict[str, int] | None
    lattice_angstrom: FloatArray
    orderings: tuple[Ordering, ...]
    fillings: Fillings


@dataclass(frozen=True, kw_only=True, eq=False)
class HopSearch:
    """The hops found in a crystal.

    Attributes:
        ion: element symbol of the migrating ion.
        sites: its sites in the uploaded cell.
        hops: symmetry-distinct, shortest first, at most `max_hops`.
        all_hops: every undirected hop of the uploaded cell; `orbit` is the index in `hops`, or beyond its end for a hop
            that was cut off.
        truncated: whether there are more distinct hops than `hops` contains.
        mechanism: whether the other mobile ions stay ("vacancy") or not ("dilute").
        warnings: for the caller.
        disorder: how the host was ordered; None where it is ordered as uploaded.
        lattices: those sites and the host around them.
        bond_valence_host: what bond valence computes percolation on, without the ions; or why there is no such thing.
    """

    ion: str
    sites: tuple[IonSite, ...]
    hops: tuple[Hop, ...]
    all_hops: tuple[HopEdge, ...]
    truncated: bool
    mechanism: Mechanism
    warnings: tuple[str, ...]
    lattices: Sublattices
    bond_valence_host: ChargedHost | str
    disorder: Disorder | None = None


def find_hops(
    crystal: Crystal,
    ion: str | None,
    options: HopOptions = USUAL,
    *,
    max_atoms: int,
) -> HopSearch:
    """Find the symmetry-distinct hops of an ion between its sites, each as a band in a right-sized supercell.

    Args:
        crystal: as it was uploaded.
        ion: element symbol of the migrating ion. One that the crystal does not contain hops between interstitial sites.
        options: which hops, and how.
        max_atoms: maximum number of atoms of the supercell.

    Raises:
        InputError: as `app.crystals.sites.split`, `app.crystals.sites.interstitials.with_interstitials` and
            `app.crystals.sites.ordering.Orderings.of`; or no atoms are left once the ions are removed ("no-host").
        TooLargeError: the supercell is too large ("too-many-atoms").
    """
    found = _search(crystal, ion, options, max_atoms=max_atoms)
    searched = options.interstitials or any(site.is_interstitial for site in found.sites)
    if searched or any(hop.band for hop in found.hops):
        return found
    between = _search(crystal, ion, replace(options, interstitials=True), max_atoms=max_atoms)
    if not _connects(between):
        return found
    warning = (
        f"There is no open hop between the {found.ion} sites of the file, so sites between them were added, as with "
        "interstitials=true."
    )
    return replace(between, warnings=(*between.warnings, warning))


def _connects(search: HopSearch) -> bool:
    """Whether the hops with a band, at whatever barrier, connect in one dimension at least."""
    return percolation(search.all_hops, [0.0 if hop.band else None for hop in search.hops]).one_d is not None


def _search(crystal: Crystal, ion: str | None, options: HopOptions, *, max_atoms: int) -> HopSearch:
    max_hops = USUAL_HOPS if options.max_hops is None else options.max_hops
    lattices = split(crystal, ion)
    absent = not lattices.sites
    if absent or options.interstitials:
        lattices = with_interstitials(with_empty_shares(lattices))
    chosen: Mechanism = "dilute" if absent or options.mechanism == "dilute" else "vacancy"
    if not lattices.host_contents and not any(site.shared_with for site in lattices.sites):
        raise no_host(lattices.ion, "structure")
    vacuum = find_vacuum(np.array([site.frac_coords for site in crystal.sites]), lattices.lattice_angstrom)
    faults = bond_faults(crystal)
    doubts = crystal.doubts if vacuum is None else (*crystal.doubts, vacuum.as_doubt)
    doubts += bond_doubts(faults)
    supercell = choose_supercell(lattices, max_atoms=max_atoms)
    orbits = distinct_hops(lattices, supercell.motif, options.max_hop_angstrom)
    orderings = _orderings(lattices, options.max_orderings)
    disorder = _disorder(lattices, supercell, orderings)
    crowded = has_close_sites(lattices)
    hops = [
        _hop(
            lattices,
            supercell,
            members,
            mechanism=chosen,
            max_atoms=max_atoms,
            orderings=orderings,
            include_close_hops=options.include_close_hops,
            crowded=crowded,
            vacuum=vacuum,
            of_crystal=doubts,
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
            *bond_warnings(faults),
            *lattices.warnings,
            *mechanism_warnings(lattices, asked=options.mechanism, absent=absent),
            *count_warnings(
                lattices.ion,
                len(orbits),
                max_hop_angstrom=options.max_hop_angstrom,
                max_hops=max_hops,
                between_all=absent or options.interstitials,
            ),
            *(() if absent or options.interstitials else long_hop_warnings(lattices.ion, _shortest_hop_angstrom(hops))),
            *(occupancy_warnings(lattices) if chosen == "vacancy" else ()),
            *(_ordering_warnings(lattices, disorder) if disorder else ()),
        ),
        disorder=disorder,
        lattices=lattices,
        bond_valence_host=average_host(supercell.motif),
    )


def _shortest_hop_angstrom(hops: list[Hop]) -> float | None:
    return min((hop.distance_angstrom for hop in hops if hop.band is not None), default=None)


def _ordering_warnings(lattices: Sublattices, disorder: Disorder) -> tuple[str, ...]:
    return disorder_warnings(lattices, disorder.method, len(disorder.orderings), len(disorder.fillings.closed))


def _orderings(lattices: Sublattices, most: int) -> Orderings:
    contents = [*lattices.host_contents, *(site.shared_with for site in lattices.sites)]
    if not any(is_mixed(one) for one in contents if one):
        return Orderings(ion=lattices.ion, states=None, most=1)
    return Orderings(ion=lattices.ion, states=guess_oxidation_states(lattices.amounts), most=most)


def _disorder(lattices: Sublattices, supercell: Supercell, orderings: Orderings) -> Disorder | None:
    found = orderings.of(supercell)
    if not len(found[0].filled):
        return None
    return Disorder(
        method="samples" if found[0].energy_ev is None else "lowest-energy",
        states=None if orderings.states is None else dict(orderings.states),
        lattice_angstrom=supercell.lattice_angstrom,
        orderings=found,
        fillings=sample_fillings(lattices),
    )


def _hop(
    lattices: Sublattices,
    supercell: Supercell,
    members: list[HopEdge],
    *,
    mechanism: Mechanism,
    max_atoms: int,
    orderings: Orderings,
    include_close_hops: bool,
    crowded: bool,
    vacuum: Vacuum | None,
    of_crystal: tuple[str, ...],
) -> Hop:
    placed = _representatives(lattices, supercell, members, orderings, len(orderings.of(supercell)))
    edge = placed[0].edge
    distance = float(np.linalg.norm(_vectors(lattices, [edge])[0]))
    bands: list[Band | None] = []
    doubts = list(of_crystal)
    if distance < SHORTEST_FITTED_ANGSTROM:
        doubts.append(
            f"the hop is {distance:.2f} angstrom long, and hardly any fitted one is below {SHORTEST_FITTED_ANGSTROM:g}"
        )
    excluded, left_out = _too_short(lattices.ion, distance), False
    if excluded is None and vacuum is not None:
        excluded = at_surface_because(lattices, edge, vacuum)
    if excluded is None and not include_close_hops:
        excluded = _two_hops(lattices, edge)
    if excluded is None:
        reasons: list[str] = []
        for which, hop in enumerate(placed):
            try:
                band = hop_band(
                    lattices,
                    supercell,
                    hop,
                    mechanism=mechanism,
                    max_atoms=max_atoms,
                    orderings=orderings,
                    which=which,
                )
            except TooLargeError as error:  # this hop needs a larger supercell than the others
                reasons, left_out = [error.detail], True
                break
            reason = blocked_because(band, include_close_hops=include_close_hops)
            if crowded and reason is None:
                reason, doubt = crowded_because(band)
                doubts += [doubt] if doubt else []
            bands.append(None if reason else band)
            reasons += [reason] if reason else []
        excluded = reasons[0] if reasons and not any(bands) else None
        edge = next((hop.edge for hop, band in zip(placed, bands, strict=False) if band is not None), edge)
    return Hop(
        from_site=edge.from_site,
        to_site=edge.to_site,
        offset=edge.offset,
        distance_angstrom=distance,
        multiplicity=len(members),
        bands=() if excluded else tuple(bands),
        excluded_because=excluded,
        left_out=left_out,
        doubt="; ".join(dict.fromkeys(doubts)) or None,
    )


def _vectors(lattices: Sublattices, edges: list[HopEdge]) -> FloatArray:
    """From start to end, shape [n, 3], angstrom."""
    coords = lattices.site_frac_coords
    ends = coords[[edge.to_site for edge in edges]] + np.array([edge.offset for edge in edges])
    return np.asarray((ends - coords[[edge.from_site for edge in edges]]) @ lattices.lattice_angstrom)


def _representatives(
    lattices: Sublattices, supercell: Supercell, members: list[HopEdge], orderings: Orderings, count: int
) -> list[PlacedHop]:
    """Of equivalent hops the one that is predicted in each ordering, of those with the most room.

    Where their surroundings are equal, that is the first in all of them. Where these differ, as in a filling of a
    disordered host, each ordering has another one, as far as there are as many, so that the mean depends less on which
    arrangements were drawn: lowest barriers of 22 conductors, each at four origins, have a standard deviation of 0.016
    eV in place of 0.023. They are then chosen by position: the order of the file does not matter.
    """
    roomiest = [members[k] for k in map(int, _roomiest(supercell, _vectors(lattices, members)))]
    if not len(orderings.of(supercell)[0].filled) and lattices.is_full:
        return [PlacedHop(edge=roomiest[0])] * count
    placed = sorted((_placed(edge, lattices.site_position_keys) for edge in roomiest), key=lambda pair: pair[0])
    return [placed[len(placed) * k // count][1] for k in range(count)]


def _placed(edge: HopEdge, keys: IntArray) -> tuple[tuple[object, ...], PlacedHop]:
    """Put the end of a hop whose position is first into the first cell; and a key by which hops are in order."""
    start, end = tuple(keys[edge.from_site].tolist()), tuple(keys[edge.to_site].tolist())
    x, y, z = edge.offset
    back = (-x, -y, -z)
    if (start, end, edge.offset) <= (end, start, back):
        return (start, end, edge.offset), PlacedHop(edge=edge)
    return (end, start, back), PlacedHop(edge=edge, cell=back)


def _roomiest(supercell: Supercell, vectors: FloatArray) -> IntArray:
    """Of equivalent hops, those whose end is farthest from the supercell's copies of its start: indices, rising.

    A supercell has less symmetry than the crystal, so equivalent hops differ in the distance to their periodic copies.
    """
    if len(vectors) == 1:
        return np.zeros(1, dtype=np.int64)
    longest = float(np.linalg.norm(vectors, axis=1).max())
    translations, _ = short_translations(supercell.lattice_angstrom, longest + SHORTEST_TRANSLATION_ANGSTROM)
    copies = np.vstack([translations, -translations]) @ supercell.lattice_angstrom
    distances = np.linalg.norm(vectors[:, None] - copies[None], axis=2).min(axis=1, initial=np.inf)
    rounded = np.round(distances, 2)
    return np.flatnonzero(rounded == rounded.max())


def _too_short(ion: str, distance_angstrom: float) -> str | None:
    if distance_angstrom >= SPLIT_ANGSTROM:
        return None
    return (
        f"the two sites are {distance_angstrom:.2f} angstrom apart: one {ion} is split between them, which is not a hop"
    )


def _two_hops(lattices: Sublattices, edge: HopEdge) -> str | None:
    coords = lattices.site_frac_coords
    end = coords[edge.to_site] + np.array(edge.offset)
    passed = site_on_the_way(lattices.lattice_angstrom, coords, coords[edge.from_site], end)
    if passed is None:
        return None
    return f"the straight path runs over site {passed}, so that it is two hops; include_close_hops=true predicts it"
