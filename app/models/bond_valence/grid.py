"""Bond valence site energies on a grid over the cell: the landscape that an ion moves in."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from app.crystals.band import FloatArray, IntArray
from app.crystals.charged_host import ChargedHost
from app.crystals.geometry.periodic import cell_heights_angstrom
from app.models.bond_valence.energies import NEAREST_ANGSTROM, REACH_ANGSTROM, coulomb_ev, morse_ev

#: The steep part of an atom's energy, which ends at the latter distance, is summed at the points around the atom; the
#: smooth rest, which begins at the former, by its waves. In steps of the grid: a coarser one has fewer waves.
_STEEP_STEPS = (6.4, 12.8)
#: Steps are rounded up to multiples of this, and are at least the latter, so that few tables of waves are needed.
_STEP_ANGSTROM = 0.025
_LEAST_STEPS = 10
#: Steps of the tables of waves, 1/angstrom and angstrom.
_WAVE_STEP = 0.01
_RADIUS_STEP_ANGSTROM = 0.02
#: Places of a table of an energy over the squared distance: the error of the nearest one is under 1 meV.
_PLACES = 1 << 14
#: Pairs of an atom and a point that are summed at once: what stays in a core's cache.
_PIECE_PAIRS = 300_000


@dataclass(frozen=True, kw_only=True, eq=False)
class EnergyGrid:
    """Energies of an ion at equally spaced points of a cell.

    Attributes:
        lattice_angstrom: rows are the lattice vectors, shape [3, 3], angstrom.
        energies_ev: at (i / n_a, j / n_b, k / n_c), shape [n_a, n_b, n_c].
    """

    lattice_angstrom: FloatArray
    energies_ev: FloatArray

    @property
    def spacing_angstrom(self) -> float:
        """The largest distance of neighbouring points along a lattice vector."""
        lengths = np.linalg.norm(self.lattice_angstrom, axis=1)
        return float((lengths / np.array(self.energies_ev.shape)).max())


def grid_shape(lattice_angstrom: FloatArray, spacing_angstrom: float) -> tuple[int, int, int]:
    """Numbers of points along the lattice vectors, neighbours at most so far apart; at least four each."""
    lengths = np.linalg.norm(lattice_angstrom, axis=1)
    a, b, c = (max(4, int(np.ceil(length / spacing_angstrom - 1e-6))) for length in lengths)
    return a, b, c


def energy_grid(host: ChargedHost, shape: tuple[int, int, int], *, device: str = "cpu") -> EnergyGrid:
    """The energy of an ion at each point of a grid, to a few millielectronvolts where it is low.

    Args:
        host: without the ions that migrate, as a rule.
        shape: numbers of points along the lattice vectors, at least four each.
        device: where it is computed.
    """
    steps = np.linalg.norm(host.lattice_angstrom, axis=1) / shape
    step = _STEP_ANGSTROM * max(_LEAST_STEPS, int(np.ceil(steps.max() / _STEP_ANGSTROM - 1e-6)))
    energies = _steep(host, shape, step, device) + _smooth(host, shape, step, device)
    return EnergyGrid(lattice_angstrom=host.lattice_angstrom, energies_ev=energies.double().cpu().numpy())


def _smooth(host: ChargedHost, shape: tuple[int, int, int], step_angstrom: float, device: str) -> torch.Tensor:
    """The sum of the smooth parts: the Fourier transform of each kind of atom, times the waves of its places."""
    radii, radial_waves = _radial_waves(step_angstrom)
    energies, kinds = _of_kinds(host, radii.numpy(), step_angstrom, smooth=True)
    strengths = (torch.from_numpy(energies) @ radial_waves).to(device, torch.float32)
    waves = [torch.fft.fftfreq(count, 1.0 / count, dtype=torch.float64) for count in shape[:2]]
    waves.append(torch.arange(shape[2] // 2 + 1, dtype=torch.float64))
    vectors = torch.from_numpy(2.0 * np.pi * np.linalg.inv(host.lattice_angstrom).T)
    a, b, c = (one.reshape([-1 if k == axis else 1 for k in range(3)]) for axis, one in enumerate(waves))
    squared = sum((a * x + b * y + c * z) ** 2 for x, y, z in vectors.T)
    place = (torch.sqrt(torch.as_tensor(squared)) / _WAVE_STEP).to(device, torch.float32)
    # of an even number of points the fastest wave is its own opposite, and is left out
    fastest = [(2 * one.abs() == count).to(device) for one, count in zip((a, b, c), shape, strict=True)]
    kept = (place < np.pi / step_angstrom / _WAVE_STEP) & ~(fastest[0] | fastest[1] | fastest[2])
    below = torch.where(kept, place, 0.0).floor()
    share, below = place - below, below.long()
    places = torch.from_numpy(np.vstack([host.morse_frac_coords, host.coulomb_frac_coords]))
    along = [
        torch.exp(-2j * np.pi * places[:, axis, None] * one).to(device, torch.complex64)
        for axis, one in enumerate(waves)
    ]
    total = torch.zeros(place.shape, dtype=torch.complex64, device=device)
    for kind, strength in enumerate(strengths):
        own = torch.from_numpy(np.flatnonzero(kinds == kind)).to(device)
        first, second, third = (one[own] for one in along)
        flat = (first[:, :, None] * second[:, None, :]).flatten(start_dim=1)
        total += torch.lerp(strength[below], strength[below + 1], share) * (flat.T @ third).reshape(place.shape)
    points = shape[0] * shape[1] * shape[2]
    volume = abs(float(np.linalg.det(host.lattice_angstrom)))
    found: torch.Tensor = torch.fft.irfftn(torch.where(kept, total, 0.0) * (points / volume), s=shape)
    return found


@lru_cache(maxsize=8)
def _radial_waves(step_angstrom: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Distances, and what turns a function of them into its Fourier transform, shape [n_distances, n_waves]."""
    radii = torch.arange(_STEEP_STEPS[0] * step_angstrom, REACH_ANGSTROM, _RADIUS_STEP_ANGSTROM, dtype=torch.float64)
    waves = torch.arange(0.0, np.pi / step_angstrom + 2 * _WAVE_STEP, _WAVE_STEP, dtype=torch.float64)
    kernel = 4.0 * np.pi * _RADIUS_STEP_ANGSTROM * radii[:, None] ** 2 * torch.sinc(waves * radii[:, None] / np.pi)
    return radii, kernel


def _steep(host: ChargedHost, shape: tuple[int, int, int], step_angstrom: float, device: str) -> torch.Tensor:
    """The sum of the steep parts, atom by atom at the points around it."""
    reach = min(_STEEP_STEPS[1] * step_angstrom, REACH_ANGSTROM)
    distances = np.sqrt((np.arange(_PLACES + 1) + 0.5) / _PLACES).clip(NEAREST_ANGSTROM / reach) * reach
    tables, kinds = _of_kinds(host, distances, step_angstrom, smooth=False)
    tables[:, -1] = 0.0
    places = np.vstack([host.morse_frac_coords, host.coulomb_frac_coords]) % 1.0 * shape
    nearest = np.rint(places)
    step, to_step, widest = _steps(host.lattice_angstrom, shape, reach)
    # squared distances in places of the table, |a + b|^2 = a^2 + 2 a b + b^2, by one product of matrices
    to_place = _PLACES / reach**2
    apart = (nearest - places) / shape @ host.lattice_angstrom
    left = np.column_stack([step, (step**2).sum(axis=1), np.ones(len(step))])
    right = np.column_stack([2.0 * apart, np.ones(len(apart)), (apart**2).sum(axis=1)]) * to_place
    # in a box of which the cell is the middle there is nothing to wrap
    box = np.array(shape) + 2 * widest + 1  # an atom may be nearest to the last point but one's neighbour
    to_atom = np.ravel_multi_index((nearest.astype(np.int64) + widest).T, box)
    table = torch.from_numpy(tables).to(device, torch.float32).flatten()
    of_steps, of_atoms = (torch.from_numpy(one).to(device, torch.float32) for one in (left, right))
    here, there, first_place = (
        torch.from_numpy(one).to(device, torch.int32) for one in (to_atom, to_step, kinds * (_PLACES + 1))
    )
    sums = torch.zeros(int(box.prod()), device=device)
    at_once = max(1, _PIECE_PAIRS // len(step))
    for start in range(0, len(places), at_once):
        atoms = slice(start, start + at_once)
        place = (of_atoms[atoms] @ of_steps.T).clamp_(0, _PLACES).int() + first_place[atoms, None]
        sums.index_add_(0, (here[atoms, None] + there).flatten(), table.index_select(0, place.flatten()))
    return _folded(sums.reshape(tuple(box)), shape, widest)


def _of_kinds(
    host: ChargedHost, distances: FloatArray, step_angstrom: float, *, smooth: bool
) -> tuple[FloatArray, IntArray]:
    """The smooth or the steep part of the energies of each kind of atom, shape [n_kinds, n_distances]; its kind."""
    morse, morse_kinds = np.unique(host.morse, axis=0, return_inverse=True)
    coulomb, coulomb_kinds = np.unique(host.coulomb, axis=0, return_inverse=True)
    energies = np.concatenate([morse_ev(distances, morse[:, None]), coulomb_ev(distances, coulomb[:, None])])
    first, last = (one * step_angstrom for one in _STEEP_STEPS)
    x = ((distances - first) / (last - first)).clip(0.0, 1.0)
    rest = x**3 * (10.0 - 15.0 * x + 6.0 * x**2)  # from 0 to 1, with two derivatives that vanish at both ends
    kinds = np.concatenate([morse_kinds.ravel(), len(morse) + coulomb_kinds.ravel()])
    return energies * (rest if smooth else 1.0 - rest), kinds


def _steps(
    lattice_angstrom: FloatArray, shape: tuple[int, ...], reach_angstrom: float
) -> tuple[FloatArray, IntArray, IntArray]:
    """Whole steps on a grid that may lie within reach of an atom nearest to the first point.

    Returns:
        as vectors, shape [n, 3], angstrom; in a grid that is larger by the most steps on either side, as differences of
        flat indices, shape [n]; and these most steps by axis, shape [3].
    """
    cells = lattice_angstrom / np.array(shape)[:, None]
    reach = reach_angstrom + float(np.linalg.norm(cells, axis=1).sum()) / 2.0
    widest = np.ceil(reach / cell_heights_angstrom(cells)).astype(np.int64)
    a, b, c = np.ix_(*(np.arange(-n, n + 1.0) for n in widest))
    (aa, ab, ac), (_, bb, bc), (_, _, cc) = cells @ cells.T
    squared = (a * (aa * a + 2.0 * ab * b) + bb * b * b) + c * (2.0 * (ac * a + bc * b) + cc * c)
    steps = np.argwhere(squared < reach**2) - widest
    _, size_b, size_c = np.array(shape) + 2 * widest + 1
    return steps @ cells, steps @ np.array([size_b * size_c, size_c, 1]), widest


def _folded(sums: torch.Tensor, shape: tuple[int, ...], widest: IntArray) -> torch.Tensor:
    """Add what lies outside the cell to the periodic copy inside it."""
    for axis, count in enumerate(shape):
        inside = (torch.arange(sums.shape[axis], device=sums.device) - int(widest[axis])) % count
        size = [*sums.shape[:axis], count, *sums.shape[axis + 1 :]]
        sums = sums.new_zeros(size).index_add_(axis, inside, sums)
    return sums
