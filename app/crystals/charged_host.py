"""A host as bond valence sees it: every atom with its charge, its share of the site and its part of the force field."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from app.crystals.band import FloatArray
from app.crystals.bond_valence_table import bond_valence_table
from app.crystals.geometry.reduction import reduced_lattice
from app.crystals.sites.ion_sites import Sublattices
from app.crystals.sites.oxidation import guess_oxidation_states, usual_charge
from app.crystals.sites.supercell import Motif, primitive_motif
from app.errors import InputError

#: Coulomb's constant, eV angstrom, and how far it is screened: a share of the sum of the covalent radii.
_COULOMB_EV_ANGSTROM = 14.4
_SCREENING = 0.74


@dataclass(frozen=True, kw_only=True, eq=False)
class ChargedHost:
    """The atoms around a migrating ion, and the parameters of its energy among them.

    An atom of opposite charge attracts the ion by a Morse potential; one of equal sign repels it by a screened Coulomb
    potential. Both are weighted by how much of its site the atom fills.

    Attributes:
        lattice_angstrom: rows are the lattice vectors, shape [3, 3], angstrom.
        morse_frac_coords: of atoms of opposite charge, shape [n_morse, 3].
        morse: for each the distance of lowest energy, angstrom, the steepness, 1/angstrom, and half the depth times the
            occupancy, eV; shape [n_morse, 3].
        coulomb_frac_coords: of atoms of equal sign, shape [n_coulomb, 3].
        coulomb: for each the strength times the occupancy, eV angstrom, and the screening, 1/angstrom; shape
            [n_coulomb, 2].
    """

    lattice_angstrom: FloatArray
    morse_frac_coords: FloatArray
    morse: FloatArray
    coulomb_frac_coords: FloatArray
    coulomb: FloatArray


def charged_host(
    lattice_angstrom: FloatArray,
    species: Sequence[str],
    frac_coords: FloatArray,
    occupancies: Sequence[float] | FloatArray,
    *,
    ion: str,
    oxidation_states: Mapping[str, float],
) -> ChargedHost:
    """Give each atom of a host its part of the force field.

    Args:
        lattice_angstrom: shape [3, 3], angstrom.
        species: element symbols, length n; a site that elements share is listed once for each.
        frac_coords: shape [n, 3].
        occupancies: how much of its site each fills, 0 to 1, length n.
        ion: element symbol of the migrating ion.
        oxidation_states: of the ion and of every element of the host; an element of charge 0 counts for nothing. Where
            the parameters of a charge are lacking, those of the nearest one of its element are taken.

    Raises:
        InputError: there are no parameters for one of these elements and charges ("no-bond-valence").
    """
    charge = oxidation_states.get(ion, 0)
    if not charge:
        raise no_parameters(ion, f"{ion} has no charge")
    parameters = {symbol: _pair(ion, charge, symbol, oxidation_states) for symbol in sorted(set(species))}
    rows = [parameters[symbol] for symbol in species]
    filled = np.asarray(occupancies, dtype=np.float64)[:, None]
    coords = np.asarray(frac_coords, dtype=np.float64).reshape(-1, 3)
    attracts = np.array([len(row) == 3 for row in rows], dtype=bool)  # noqa: PLR2004 # a Morse potential has three
    repels = np.array([len(row) == 2 for row in rows], dtype=bool)  # noqa: PLR2004 # a screened Coulomb one has two
    morse = np.array([row for row in rows if len(row) == 3], dtype=np.float64).reshape(-1, 3)  # noqa: PLR2004
    coulomb = np.array([row for row in rows if len(row) == 2], dtype=np.float64).reshape(-1, 2)  # noqa: PLR2004
    return ChargedHost(
        lattice_angstrom=np.asarray(lattice_angstrom, dtype=np.float64),
        morse_frac_coords=coords[attracts],
        morse=morse * np.concatenate([np.ones((len(morse), 2)), filled[attracts]], axis=1),
        coulomb_frac_coords=coords[repels],
        coulomb=coulomb * np.concatenate([filled[repels], np.ones((len(coulomb), 1))], axis=1),
    )


def crystal_host(lattices: Sublattices) -> tuple[ChargedHost, dict[str, float]]:
    """The average host of a crystal without its ions, and the oxidation states that were used.

    A mixed or partly empty site counts by its occupancies; so does what shares a site with the ion.

    Raises:
        InputError: the oxidation states cannot be guessed, or there are no parameters ("no-bond-valence").
    """
    guessed = guess_oxidation_states(lattices.amounts)
    if guessed is None:
        raise no_parameters(lattices.ion, "their oxidation states could not be guessed")
    states = {lattices.ion: float(usual_charge(lattices.ion))} | {one: float(state) for one, state in guessed.items()}
    contents = [*lattices.host_contents, *(site.shared_with for site in lattices.sites)]
    places = np.vstack([lattices.host_frac_coords, lattices.site_frac_coords])
    atoms = [
        (symbol, place, occupancy) for one, place in zip(contents, places, strict=True) for symbol, occupancy in one
    ]
    host = charged_host(
        lattices.lattice_angstrom,
        [symbol for symbol, _, _ in atoms],
        np.array([place for _, place, _ in atoms]).reshape(-1, 3),
        [occupancy for _, _, occupancy in atoms],
        ion=lattices.ion,
        oxidation_states=states,
    )
    return host, states


def average_host(motif: Motif) -> ChargedHost | str:
    """The average host of a crystal in its reduced primitive cell, or the reason why bond valence has none."""
    try:
        host, _ = crystal_host(primitive_motif(motif.crystal, motif.symmetry).crystal)
    except InputError as error:
        return error.detail
    basis, steps = reduced_lattice(host.lattice_angstrom)
    to_basis = np.linalg.inv(steps)
    return replace(
        host,
        lattice_angstrom=basis,
        morse_frac_coords=host.morse_frac_coords @ to_basis,
        coulomb_frac_coords=host.coulomb_frac_coords @ to_basis,
    )


def _pair(ion: str, charge: float, symbol: str, states: Mapping[str, float]) -> tuple[float, ...]:
    """Of an ion and an atom: distance, steepness and half the depth; or strength and screening; or nothing."""
    table = bond_valence_table()
    if symbol not in states:
        raise no_parameters(ion, f"the oxidation state of {symbol} could not be guessed")
    other = states[symbol]
    if not other:
        return ()
    if charge * other < 0:
        # a guessed state may be one off, as S-1 in an argyrodite, and a mean one is no whole number
        tabulated = [
            (abs(anion_charge - other if charge > 0 else cation_charge - other), row)
            for (cation, cation_charge, anion, anion_charge), row in table.pairs.items()
            if (cation, cation_charge, anion) == (ion, charge, symbol)
            or (cation, anion, anion_charge) == (symbol, ion, charge)
        ]
        if not tabulated:
            raise no_parameters(ion, f"none for {ion}{charge:+g} with {symbol}{other:+g}")
        _, (distance, steepness, depth) = min(tabulated)
        return distance, steepness, depth / 2.0
    lacking = [one for one in (ion, symbol) if one not in table.elements]
    if lacking:
        raise no_parameters(ion, f"none for {lacking[0]}")
    (shell, radius), (other_shell, other_radius) = table.elements[ion], table.elements[symbol]
    strength = _COULOMB_EV_ANGSTROM * charge * other / float(np.sqrt(shell * other_shell))
    return strength, 1.0 / (_SCREENING * (radius + other_radius))


def no_parameters(ion: str, reason: str) -> InputError:
    """The error where bond valence has nothing to say."""
    return InputError(
        f"There are no bond valence parameters for {ion} in this crystal: {reason}.",
        kind="no-bond-valence",
        where="second_opinion",
        expected="a crystal of cations and anions in their usual oxidation states",
    )
