"""The energy of an ion at any position of a host, by bond valence: a force field of published parameters, not a fit.

Adams and Rao, Phys. Status Solidi A 208, 1746 (2011); Chen, Wong and Adams, Acta Cryst. B 75, 18 (2019). A path has a
few thousand pairs of atoms, so these are arrays, and processes without tensors can compute them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import erfc

from app.crystals.band import Band, FloatArray, IntArray
from app.crystals.charged_host import ChargedHost, charged_host
from app.crystals.geometry.periodic import cell_heights_angstrom
from app.crystals.geometry.reduction import reduced_lattice
from app.crystals.sites.oxidation import guess_oxidation_states
from app.errors import InputError

#: Atoms farther away are not summed: all of them together change differences of energies by a few millielectronvolts
#: in a selenide, and by less than one in an oxide.
REACH_ANGSTROM = 8.0
#: Positions nearer to an atom count as this far away, so that energies stay finite.
NEAREST_ANGSTROM = 0.1
#: Positions that are summed at once: with a thousand atoms around each, 8 MB a term.
_PIECE_POINTS = 1000


@dataclass(frozen=True, kw_only=True, eq=False)
class Neighbours:
    """The atoms around sets of points, padded to one number a set; an atom of padding has no strength.

    Attributes:
        morse_positions: shape [n_sets, n_morse, 3], angstrom.
        morse: `ChargedHost.morse` of each, shape [n_sets, n_morse, 3].
        coulomb_positions: shape [n_sets, n_coulomb, 3], angstrom.
        coulomb: `ChargedHost.coulomb` of each, shape [n_sets, n_coulomb, 2].
    """

    morse_positions: FloatArray
    morse: FloatArray
    coulomb_positions: FloatArray
    coulomb: FloatArray


def site_energies(
    lattice_angstrom: FloatArray,
    host_species: Sequence[str],
    host_frac_coords: FloatArray,
    host_occupancies: Sequence[float] | FloatArray,
    *,
    ion: str,
    oxidation_states: Mapping[str, float],
    positions: FloatArray,
) -> FloatArray:
    """The energy of an ion at each of some positions.

    Args:
        lattice_angstrom: rows are the lattice vectors, shape [3, 3], angstrom.
        host_species: element symbols; a site that elements share is listed once for each. Atoms of the ion's own
            element repel it like any other.
        host_frac_coords: shape [n_host, 3].
        host_occupancies: how much of its site each atom fills; its energy is weighted by that.
        ion: element symbol.
        oxidation_states: of the ion and of every element of the host.
        positions: fractional coordinates, shape [..., 3].

    Returns:
        shape [...], eV, relative to the ion far away from everything.

    Raises:
        InputError: there are no parameters for one of these elements and charges ("no-bond-valence").
    """
    host = charged_host(
        lattice_angstrom, host_species, host_frac_coords, host_occupancies, ion=ion, oxidation_states=oxidation_states
    )
    wanted = np.asarray(positions, dtype=np.float64)
    basis, steps = reduced_lattice(host.lattice_angstrom)
    points = (wanted.reshape(-1, 3) @ np.linalg.inv(steps)) % 1.0 @ basis  # so that few atoms are near all of them
    if not len(points):
        return np.empty(wanted.shape[:-1])
    around = neighbours([host], [points])
    pieces = np.split(points, range(_PIECE_POINTS, len(points), _PIECE_POINTS))
    return np.concatenate([energies_among(around, piece[None])[0] for piece in pieces]).reshape(wanted.shape[:-1])


def band_energies(
    bands: Sequence[Band], oxidation_states: Sequence[Mapping[str, float] | None], frac_coords: FloatArray
) -> FloatArray:
    """The energy of the ion at given positions in each of some bands, all bands at once.

    Other ions of its element repel it where the band has them.

    Args:
        bands: their hosts.
        oxidation_states: of each band's elements (`band_oxidation_states`); None where they are not known.
        frac_coords: the positions, as many in each band, in the coordinates of `Band.image_frac_coords`; shape
            [n_bands, n_points, 3].

    Returns:
        shape [n_bands, n_points], eV, relative to the ion far away from everything; nan in the row of a band without
        parameters.
    """
    hosts = [band_host(band, states) for band, states in zip(bands, oxidation_states, strict=True)]
    energies = np.full(np.shape(frac_coords)[:2], np.nan)
    rows = [k for k, host in enumerate(hosts) if host is not None]
    if rows:
        points = np.stack([np.asarray(frac_coords[k]) @ bands[k].lattice_angstrom for k in rows])
        energies[rows] = energies_among(neighbours([host for host in hosts if host is not None], points), points)
    return energies


def band_oxidation_states(band: Band) -> dict[str, int] | None:
    """The oxidation states of a band's elements, guessed from its composition; None where they cannot be."""
    amounts = {symbol: float(band.host_species.count(symbol)) for symbol in sorted(set(band.host_species))}
    return guess_oxidation_states(amounts | {band.ion: amounts.get(band.ion, 0.0) + 1.0})


def band_host(band: Band, oxidation_states: Mapping[str, float] | None) -> ChargedHost | None:
    """The host of a band with its charges; None where there are no parameters."""
    if oxidation_states is None:
        return None
    try:
        return charged_host(
            band.lattice_angstrom,
            band.host_species,
            band.host_frac_coords,
            np.ones(len(band.host_species)),
            ion=band.ion,
            oxidation_states=oxidation_states,
        )
    except InputError:
        return None


def neighbours(hosts: Sequence[ChargedHost], points: Sequence[FloatArray] | FloatArray) -> Neighbours:
    """Collect the atoms, periodic copies included, within reach of each set of points.

    Args:
        hosts: one a set.
        points: one array a set, shape [n_points, 3], angstrom.
    """
    morse = [_around(host.lattice_angstrom, host.morse_frac_coords, at) for host, at in zip(hosts, points, strict=True)]
    coulomb = [
        _around(host.lattice_angstrom, host.coulomb_frac_coords, at) for host, at in zip(hosts, points, strict=True)
    ]
    return Neighbours(
        morse_positions=_padded([places for _, places in morse]),
        morse=_padded([host.morse[which] for host, (which, _) in zip(hosts, morse, strict=True)]),
        coulomb_positions=_padded([places for _, places in coulomb]),
        coulomb=_padded([host.coulomb[which] for host, (which, _) in zip(hosts, coulomb, strict=True)]),
    )


def energies_among(around: Neighbours, points: FloatArray) -> FloatArray:
    """The energies of an ion at sets of points, each among its own neighbours.

    Args:
        around: of each set.
        points: shape [n_sets, n_points, 3], angstrom.

    Returns:
        shape [n_sets, n_points], eV.
    """
    distance = _distances(points, around.morse_positions)
    attraction = np.where(distance < REACH_ANGSTROM, morse_ev(distance, around.morse[:, None]), 0.0)
    distance = _distances(points, around.coulomb_positions)
    repulsion = np.where(distance < REACH_ANGSTROM, coulomb_ev(distance, around.coulomb[:, None]), 0.0)
    return np.asarray(attraction.sum(axis=-1) + repulsion.sum(axis=-1))


def morse_ev(distance_angstrom: FloatArray, parameters: FloatArray) -> FloatArray:
    """The energy of an ion and an atom of opposite charge, eV; parameters as `ChargedHost.morse`."""
    lowest, steepness, half_depth = np.moveaxis(parameters, -1, 0)
    growth = np.exp(steepness * (lowest - distance_angstrom))
    return np.asarray(half_depth * growth * (growth - 2.0))


def coulomb_ev(distance_angstrom: FloatArray, parameters: FloatArray) -> FloatArray:
    """The energy of an ion and an atom of equal sign, eV; parameters as `ChargedHost.coulomb`."""
    strength, screening = np.moveaxis(parameters, -1, 0)
    return np.asarray(strength * erfc(screening * distance_angstrom) / distance_angstrom)


def _distances(points: FloatArray, positions: FloatArray) -> FloatArray:
    """From each point to each atom of its set, shape [n_sets, n_points, n_atoms], angstrom."""
    apart = points[:, :, None] - positions[:, None]
    return np.asarray(np.maximum(np.sqrt(np.einsum("spai,spai->spa", apart, apart)), NEAREST_ANGSTROM))


def _around(lattice_angstrom: FloatArray, frac_coords: FloatArray, points: FloatArray) -> tuple[IntArray, FloatArray]:
    """The atoms, periodic copies included, within reach of any of some points: which, and where, shape [n, 3]."""
    centre = 0.5 * (points.min(axis=0) + points.max(axis=0))
    reach = REACH_ANGSTROM + float(np.linalg.norm(points - centre, axis=1).max())
    basis, steps = reduced_lattice(lattice_angstrom)
    apart = frac_coords @ np.linalg.inv(steps) - centre @ np.linalg.inv(basis)
    apart -= np.rint(apart)
    most = np.floor(reach / cell_heights_angstrom(basis) + 0.5).astype(np.int64)
    cells = np.stack(np.meshgrid(*(np.arange(-n, n + 1) for n in most), indexing="ij"), axis=-1).reshape(-1, 3)
    vectors = (apart @ basis)[:, None] + cells @ basis
    atom, cell = np.nonzero(np.einsum("aci,aci->ac", vectors, vectors) < reach**2)
    return atom, vectors[atom, cell] + centre


def _padded(rows: Sequence[FloatArray]) -> FloatArray:
    """Rows of different lengths as one array, zeros behind the shorter ones: such an atom has no strength."""
    padded = np.zeros((len(rows), max(map(len, rows)), rows[0].shape[1]))
    for k, row in enumerate(rows):
        padded[k, : len(row)] = row
    return padded
