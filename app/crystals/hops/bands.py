"""The band of a hop: its host in a supercell, and whether the straight path is free."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from app.crystals.band import MODEL_IMAGE_COUNT, Band, FloatArray
from app.crystals.geometry.contacts import OVERLAP_ANGSTROM, close_contacts
from app.crystals.geometry.distances import clearances_angstrom
from app.crystals.hops.percolation import HopEdge, Offset
from app.crystals.sites.filling import filled_sites
from app.crystals.sites.ion_sites import Sublattices
from app.crystals.sites.ordering import Ordering, Orderings
from app.crystals.sites.supercell import Supercell, smallest_supercell

Mechanism = Literal["vacancy", "dilute"]

#: Images nearer to a host atom overlap with it: the limit of `sound` bands in the published data.
IMAGE_CLEARANCE_ANGSTROM = 0.7
#: The straight line between images may come nearer; in no sound published band does it come this near.
LINE_CLEARANCE_ANGSTROM = 0.35
#: A straight path that passes an atom this near is not the path of the ion, which curves, and has another barrier.
PASSABLE_CLEARANCE_ANGSTROM = 1.2


@dataclass(frozen=True, kw_only=True)
class PlacedHop:
    """A hop, and the cell of the uploaded crystal in which it starts."""

    edge: HopEdge
    cell: Offset = (0, 0, 0)


def hop_band(
    lattices: Sublattices,
    supercell: Supercell,
    hop: PlacedHop,
    *,
    mechanism: Mechanism,
    max_atoms: int,
    orderings: Orderings | None = None,
    which: int = 0,
) -> Band:
    """The band of a hop: its host in the supercell, and straight images.

    A hop to a periodic copy of its own site gets a larger supercell.

    Args:
        lattices: the crystal.
        supercell: in which its hops are predicted.
        hop: where it starts matters where the supercell is not periodic with the uploaded cell.
        mechanism: whether the other mobile ions stay.
        max_atoms: most atoms of the larger supercell.
        orderings: of the host's mixed sites; None where all are ordered.
        which: index of the ordering.

    Raises:
        TooLargeError: the larger supercell is too large ("too-many-atoms").
    """
    edge, cell = hop.edge, np.array(hop.cell, dtype=np.int64)
    start_ion, start = supercell.locate(edge.from_site, cell)
    end_ion, end = supercell.locate(edge.to_site, cell + edge.offset)
    if start_ion == end_ion:
        motif = supercell.motif
        step = motif.site_cell[edge.to_site] + np.array(edge.offset) @ motif.uploaded_cell
        larger = smallest_supercell(motif, max_atoms=max_atoms, without=step - motif.site_cell[edge.from_site])
        return hop_band(
            lattices, larger, hop, mechanism=mechanism, max_atoms=max_atoms, orderings=orderings, which=which
        )
    ordering = _ordering(orderings or Orderings(ion=lattices.ion, states=None, most=1), supercell, which)
    ordering = ordering.freed({start_ion, end_ion})
    species, frac_coords = _host(ordering)
    home = np.floor(start + 1e-9)
    steps = np.linspace(0.0, 1.0, MODEL_IMAGE_COUNT)[:, None]
    empty = Band(
        lattice_angstrom=supercell.lattice_angstrom,
        host_species=species,
        host_frac_coords=frac_coords,
        ion=lattices.ion,
        image_frac_coords=(start - home) + steps * (end - start),
    )
    if mechanism == "dilute":
        return empty
    filled = filled_sites(supercell, empty.image_frac_coords, {start_ion, end_ion}, ordering)
    return replace(
        empty,
        host_species=empty.host_species + (lattices.ion,) * len(filled),
        host_frac_coords=np.vstack([empty.host_frac_coords, supercell.ion_frac_coords[filled]]),
    )


def _ordering(orderings: Orderings, supercell: Supercell, which: int) -> Ordering:
    found = orderings.of(supercell)
    return found[which % len(found)]  # a larger supercell may have fewer distinct ones


def _host(ordering: Ordering) -> tuple[tuple[str, ...], FloatArray]:
    """The host's atoms in one ordering, those on mixed sites last."""
    placed, frac_coords = ordering.atoms
    return ordering.places.fixed_species + placed, np.vstack([ordering.places.fixed_frac_coords, frac_coords])


def has_close_sites(lattices: Sublattices) -> bool:
    """Whether some sites of a crystal are so near that a supercell with both filled is doubtful."""
    own = [((lattices.ion, 1.0),) for site in lattices.sites if not site.is_interstitial]
    coords = lattices.site_frac_coords[: len(own)]
    found = close_contacts(
        [*lattices.host_contents, *own],
        np.vstack([lattices.host_frac_coords, coords]),
        lattices.lattice_angstrom,
        together=0.0,
    )
    return bool(found.impossible or found.implausible)


def crowded_because(band: Band) -> tuple[str | None, str | None]:
    """Check a generated host as an uploaded one is.

    Returns:
        why the hop is excluded, where two host atoms are on top of each other; and why it is doubtful, where two are
        nearer than is plausible.
    """
    found = close_contacts(
        [((symbol, 1.0),) for symbol in band.host_species], band.host_frac_coords, band.lattice_angstrom
    )
    nearest = next(iter((*found.impossible, *found.implausible)), None)
    if nearest is None:
        return None, None
    one, other = (band.host_species[index] for index in nearest.pair)
    what = f"{one} and {other} of its host are {nearest.distance_angstrom:.2f} angstrom apart"
    if nearest.distance_angstrom < OVERLAP_ANGSTROM:
        return f"{what}, on top of each other", None
    return None, f"{what}, nearer than such atoms are in crystals"


def blocked_because(band: Band, *, include_close_hops: bool) -> str | None:
    """The reason why a straight path is blocked; None where it is free.

    Args:
        band: of the hop.
        include_close_hops: whether a path may pass an atom within PASSABLE_CLEARANCE_ANGSTROM.
    """
    if not band.host_species:
        return f"nothing is left in the supercell but the {band.ion} that hops"
    images, line = clearances_angstrom(band, PASSABLE_CLEARANCE_ANGSTROM)
    for distances, limit in ((images, IMAGE_CLEARANCE_ANGSTROM), (line, LINE_CLEARANCE_ANGSTROM)):
        atom = int(distances.argmin())
        if distances[atom] < limit:
            return (
                f"the straight path runs through an atom: it passes {band.host_species[atom]} at "
                f"{distances[atom]:.2f} angstrom"
            )
    atom = int(line.argmin())
    if include_close_hops or line[atom] >= PASSABLE_CLEARANCE_ANGSTROM:
        return None
    return (
        f"the straight path passes {band.host_species[atom]} at {line[atom]:.2f} angstrom, nearer than "
        f"{PASSABLE_CLEARANCE_ANGSTROM:g}; include_close_hops=true predicts it"
    )
