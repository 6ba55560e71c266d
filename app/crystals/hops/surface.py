"""Hops at the surface of a slab, a wire or a molecule, which are not those in a crystal."""

from app.crystals.geometry.vacuum import Vacuum
from app.crystals.hops.percolation import HopEdge
from app.crystals.sites.ion_sites import Sublattices

#: An ion nearer to the outermost atoms than this has fewer neighbours than in the bulk: about the distance between an
#: ion and the cations around it.
SURFACE_ANGSTROM = 3.0


def at_surface_because(lattices: Sublattices, edge: HopEdge, vacuum: Vacuum) -> str | None:
    """The reason why a hop is at the surface; None where both of its sites are below it.

    Args:
        lattices: the crystal.
        edge: the hop.
        vacuum: beside the crystal's atoms.
    """
    ends = lattices.site_frac_coords[[edge.from_site, edge.to_site]]
    depths = vacuum.depths_angstrom(ends)
    nearest = int(depths.argmin())
    if depths[nearest] >= SURFACE_ANGSTROM:
        return None
    place = ", ".join(f"{value:.3f}" for value in ends[nearest])
    depth = float(depths[nearest])
    where = f"{depth:.1f} angstrom below the outermost atoms" if depth >= 0 else f"{-depth:.1f} angstrom outside of it"
    return (
        f"it is at the surface of a {vacuum.shape}: the {lattices.ion} site at ({place}) is {where}, and the vacuum "
        f"begins there; a bulk crystal is needed, or sites at least {SURFACE_ANGSTROM:g} angstrom below the surface"
    )
