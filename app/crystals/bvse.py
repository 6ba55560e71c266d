"""Percolation by bond-valence site energies: bvlain's force field and threshold search, on ordered hosts."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from app.crystals.band import FloatArray
from app.crystals.crystal import Crystal
from app.crystals.hops.percolation import PercolationBarriers
from app.crystals.sites.ion_sites import Sublattices, is_mixed, split
from app.crystals.sites.ordering import Orderings
from app.crystals.sites.oxidation import guess_oxidation_states, usual_charge
from app.crystals.sites.supercell import Supercell, choose_supercell, primitive_motif
from app.crystals.sites.symmetry import find_symmetry
from app.errors import InputError

#: Maximum number of points of the energy grid; it is as fine as that allows, and no finer than FINEST_ANGSTROM.
MOST_POINTS = 40_000
FINEST_ANGSTROM = 0.2
#: Number of atoms around a point that are summed, and their largest distance: the Coulomb part is screened.
NEIGHBOURS = 100
REACH_ANGSTROM = 10.0


@dataclass(frozen=True, kw_only=True)
class BondValenceOpinion:
    """Percolation barriers by bond-valence site energies.

    Attributes:
        barriers: the lowest energies, above the minimum of the grid, up to which the accessible space percolates.
        grid_angstrom: spacing of the energy grid.
        states: the oxidation states that were used.
    """

    barriers: PercolationBarriers
    grid_angstrom: float
    states: Mapping[str, float]


def bond_valence_percolation(crystal: Crystal, ion: str | None, *, max_atoms: int) -> BondValenceOpinion:
    """Percolation barriers of an ion in a crystal's host by bond-valence site energies.

    All ions of the migrating element are removed; a disordered host is ordered, once.

    Raises:
        InputError: there are no parameters for these elements and charges ("no-bond-valence"), or as `find_hops`.
    """
    lattices = split(crystal, ion)
    states = _states(lattices)
    lattice, species, frac_coords = _ordered_host(lattices, states, max_atoms=max_atoms)
    volume = abs(float(np.linalg.det(lattice)))
    spacing = max(FINEST_ANGSTROM, (volume / MOST_POINTS) ** (1 / 3))
    barriers = _bvlain(lattice, species, frac_coords, ion=lattices.ion, states=states, spacing_angstrom=spacing)
    return BondValenceOpinion(barriers=barriers, grid_angstrom=spacing, states=states)


def _states(lattices: Sublattices) -> dict[str, float]:
    """Oxidation states of the host's elements, with the ions present.

    A crystal uploaded without its ions is charged; the balance is assigned to the element with the most states, as its
    mean.
    """
    guessed = guess_oxidation_states(lattices.amounts)
    if guessed is None:
        raise _no_parameters(lattices.ion, "their oxidation states could not be guessed")
    return {lattices.ion: 0.0} | {symbol: float(state) for symbol, state in guessed.items()}


def _ordered_host(
    lattices: Sublattices, states: Mapping[str, float], *, max_atoms: int
) -> tuple[FloatArray, tuple[str, ...], FloatArray]:
    """Lattice, element symbols and fractional coordinates of the host, ordered where it is mixed."""
    if not any(map(is_mixed, lattices.host_contents)) and not any(site.shared_with for site in lattices.sites):
        crystal = primitive_motif(lattices, find_symmetry(lattices)).crystal
        species = tuple(contents[0][0] for contents in crystal.host_contents)
        return crystal.lattice_angstrom, species, crystal.host_frac_coords
    supercell: Supercell = choose_supercell(lattices, max_atoms=max_atoms)
    whole = {symbol: int(state) for symbol, state in states.items()}
    ordering = Orderings(ion=lattices.ion, states=whole, most=1).of(supercell)[0]
    fixed = [k for k, contents in enumerate(supercell.host_contents) if not is_mixed(contents)]
    placed, frac_coords = ordering.atoms
    species = tuple(supercell.host_contents[k][0][0] for k in fixed)
    return (
        supercell.lattice_angstrom,
        (*species, *placed),
        np.vstack([supercell.host_frac_coords[fixed], frac_coords]),
    )


def _bvlain(
    lattice_angstrom: FloatArray,
    species: tuple[str, ...],
    frac_coords: FloatArray,
    *,
    ion: str,
    states: Mapping[str, float],
    spacing_angstrom: float,
) -> PercolationBarriers:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # bvlain imports a part of scipy by its old name
        # takes a second to import, and only second opinions need it
        from bvlain import Lain  # noqa: PLC0415
        from pymatgen.core import Lattice, Species, Structure  # noqa: PLC0415

        charge = int(states[ion]) or usual_charge(ion)
        structure = Structure(
            Lattice(lattice_angstrom), [Species(symbol, states[symbol]) for symbol in species], frac_coords
        )
        calculator = Lain(verbose=False)
        calculator.read_structure(structure, oxi_check=False)
        try:
            calculator.bvse_distribution(
                mobile_ion=f"{ion}{abs(charge)}{'+' if charge > 0 else '-'}",
                r_cut=REACH_ANGSTROM,
                resolution=spacing_angstrom,
                k=NEIGHBOURS,
            )
        except KeyError as error:
            raise _no_parameters(ion, f"none for {ion} with one of {', '.join(sorted(set(species)))}") from error
        energies = calculator.percolation_barriers()
    one, two, three = (float(energies[f"E_{n}D"]) for n in (1, 2, 3))
    return PercolationBarriers(one_d=_known(one), two_d=_known(two), three_d=_known(three))


def _known(barrier_ev: float) -> float | None:
    return barrier_ev if np.isfinite(barrier_ev) else None


def _no_parameters(ion: str, reason: str) -> InputError:
    return InputError(
        f"There are no bond valence parameters for {ion} in this crystal: {reason}.",
        kind="no-bond-valence",
        where="second_opinion",
        expected="a crystal of cations and anions in their usual oxidation states",
    )
