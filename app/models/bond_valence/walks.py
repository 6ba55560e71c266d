"""Energies of an ion on its sites and along its hops, by bond valence, the ion free to leave the straight line."""

from dataclasses import dataclass

import numpy as np
from scipy.special import erfc

from app.crystals.band import FloatArray
from app.crystals.charged_host import ChargedHost
from app.models.bond_valence.energies import NEAREST_ANGSTROM, Neighbours, energies_among, neighbours

#: Positions along a hop, its ends included.
POINTS = 9
#: Steps down the gradient, and the longest of them: an ion moves half an angstrom at most.
STEPS = 10
_LONGEST_STEP_ANGSTROM = 0.05
#: Length of a step for a force of one eV per angstrom.
_STEP_ANGSTROM = 0.03
#: Sets of positions that are relaxed at once: some hundreds of atoms around each take tens of megabytes.
_PIECE_SETS = 64


@dataclass(frozen=True, kw_only=True, eq=False)
class WalkEnergies:
    """Energies of an ion, eV, relative to the ion far away from everything.

    Attributes:
        sites_ev: on each site, shape [n_sites].
        saddles_ev: the highest of each hop, its ends included, shape [n_hops].
    """

    sites_ev: FloatArray
    saddles_ev: FloatArray


def walk_energies(
    hosts: tuple[list[ChargedHost], list[ChargedHost]], sites: FloatArray, starts: FloatArray, ends: FloatArray
) -> WalkEnergies:
    """Relax an ion on each of its sites, and across each of its hops, among host atoms that do not move.

    Args:
        hosts: around each site and around each hop, without the atoms that cannot be there while the ion is.
        sites: fractional coordinates, shape [n_sites, 3].
        starts: of the hops, shape [n_hops, 3].
        ends: of the hops, not wrapped into the cell, shape [n_hops, 3].
    """
    around_sites, around_hops = hosts
    at_sites = _relaxed(around_sites, sites[:, None], None)
    shares = np.linspace(0.0, 1.0, POINTS)[None, :, None]
    along = _relaxed(around_hops, starts[:, None] + shares * (ends - starts)[:, None], ends - starts)
    return WalkEnergies(sites_ev=at_sites[:, 0], saddles_ev=along.max(axis=1, initial=-np.inf))


def _relaxed(hosts: list[ChargedHost], frac_coords: FloatArray, along: FloatArray | None) -> FloatArray:
    """Energies after some steps downhill, across the given directions alone, shape [n_sets, n_points]."""
    energies = np.empty(frac_coords.shape[:2])
    for start in range(0, len(hosts), _PIECE_SETS):
        piece = slice(start, start + _PIECE_SETS)
        energies[piece] = _relaxed_at_once(hosts[piece], frac_coords[piece], None if along is None else along[piece])
    return energies


def _relaxed_at_once(hosts: list[ChargedHost], frac_coords: FloatArray, along: FloatArray | None) -> FloatArray:
    lattice = hosts[0].lattice_angstrom
    places = frac_coords @ lattice
    around = neighbours(hosts, list(places))
    line = None
    if along is not None:
        line = (along @ lattice)[:, None]
        line = line / np.linalg.norm(line, axis=2, keepdims=True)
    for _ in range(STEPS):
        force = -_gradient(around, places)
        if line is not None:
            force = force - np.sum(force * line, axis=2, keepdims=True) * line
        size = np.maximum(np.linalg.norm(force, axis=2, keepdims=True), 1e-9)
        places = places + force / size * np.minimum(_STEP_ANGSTROM * size, _LONGEST_STEP_ANGSTROM)
    return energies_among(around, places)


def _gradient(around: Neighbours, places: FloatArray) -> FloatArray:
    """The gradient of the energy at each point, shape [n_sets, n_points, 3], eV per angstrom."""
    apart, distance = _apart(places, around.morse_positions)
    lowest, steepness, half_depth = np.moveaxis(around.morse[:, None], -1, 0)
    growth = np.exp(steepness * (lowest - distance))
    slope = -2.0 * steepness * half_depth * growth * (growth - 1.0)
    gradient = np.einsum("spa,spai->spi", slope / distance, apart)
    apart, distance = _apart(places, around.coulomb_positions)
    strength, screening = np.moveaxis(around.coulomb[:, None], -1, 0)
    reduced = screening * distance
    bell = 2.0 / np.sqrt(np.pi) * screening * np.exp(-reduced * reduced)
    slope = -strength * (erfc(reduced) / distance + bell) / distance
    return np.asarray(gradient + np.einsum("spa,spai->spi", slope / distance, apart))


def _apart(places: FloatArray, positions: FloatArray) -> tuple[FloatArray, FloatArray]:
    apart = places[:, :, None] - positions[:, None]
    return apart, np.maximum(np.sqrt(np.einsum("spai,spai->spa", apart, apart)), NEAREST_ANGSTROM)
