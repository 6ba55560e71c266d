"""Bond valence site energies on a grid over the cell: the landscape that an ion moves in."""

from dataclasses import dataclass

import numpy as np
import torch

from app.crystals.band import FloatArray, IntArray
from app.crystals.charged_host import ChargedHost
from app.crystals.geometry.periodic import cell_heights_angstrom
from app.models.bond_valence.energies import NEAREST_ANGSTROM, REACH_ANGSTROM, coulomb_ev, morse_ev

#: The steep part of an atom's energy, which ends at the latter distance, is summed on the grid itself; the smooth rest,
#: which begins at the former, on a coarse grid, and is interpolated by its Fourier series.
_STEEP_ANGSTROM = (2.0, 4.0)
_COARSE_ANGSTROM = 0.4
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
    coarse = tuple(map(min, grid_shape(host.lattice_angstrom, _COARSE_ANGSTROM), shape))
    steep = _summed(host, shape, _STEEP_ANGSTROM[1], smooth=False, device=device)
    smooth = _summed(host, coarse, REACH_ANGSTROM, smooth=True, device=device)
    for axis, count in enumerate(shape):
        smooth = torch.tensordot(smooth, _fourier(count, coarse[axis], device), dims=([0], [1]))
    return EnergyGrid(lattice_angstrom=host.lattice_angstrom, energies_ev=(steep + smooth).double().cpu().numpy())


def _summed(
    host: ChargedHost, shape: tuple[int, ...], reach_angstrom: float, *, smooth: bool, device: str
) -> torch.Tensor:
    """Sums of the steep or the smooth part of the atoms' energies at the points of a grid."""
    tables, kinds = _tables(host, reach_angstrom, smooth=smooth)
    places = np.vstack([host.morse_frac_coords, host.coulomb_frac_coords]) % 1.0 * shape
    step, to_step, widest = _steps(host.lattice_angstrom, shape, reach_angstrom)
    # squared distances in places of the table, |a + b|^2 = a^2 + 2 a b + b^2, by one product of matrices
    to_place = _PLACES / reach_angstrom**2
    apart = (np.floor(places) - places) / shape @ host.lattice_angstrom
    left = np.column_stack([step, (step**2).sum(axis=1), np.ones(len(step))])
    right = np.column_stack([2.0 * apart, np.ones(len(apart)), (apart**2).sum(axis=1)]) * to_place
    # in a box of which the cell is the middle there is nothing to wrap
    box = np.array(shape) + 2 * widest
    to_atom = np.ravel_multi_index((np.floor(places).astype(np.int64) + widest).T, box)
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


def _tables(host: ChargedHost, reach_angstrom: float, *, smooth: bool) -> tuple[FloatArray, IntArray]:
    """Energies of each kind of atom over the squared distance, zero at its end, [n_kinds, _PLACES + 1]; its kind."""
    morse, morse_kinds = np.unique(host.morse, axis=0, return_inverse=True)
    coulomb, coulomb_kinds = np.unique(host.coulomb, axis=0, return_inverse=True)
    distance = (
        np.sqrt((np.arange(_PLACES + 1) + 0.5) / _PLACES).clip(NEAREST_ANGSTROM / reach_angstrom) * reach_angstrom
    )
    energies = np.concatenate([morse_ev(distance, morse[:, None]), coulomb_ev(distance, coulomb[:, None])])
    first, last = _STEEP_ANGSTROM
    x = ((distance - first) / (last - first)).clip(0.0, 1.0)
    rest = x**3 * (10.0 - 15.0 * x + 6.0 * x**2)  # from 0 to 1, with two derivatives that vanish at both ends
    energies *= rest if smooth else 1.0 - rest
    energies[:, -1] = 0.0
    return energies, np.concatenate([morse_kinds.ravel(), len(morse) + coulomb_kinds.ravel()])


def _steps(
    lattice_angstrom: FloatArray, shape: tuple[int, ...], reach_angstrom: float
) -> tuple[FloatArray, IntArray, IntArray]:
    """Whole steps on a grid that may lie within reach of an atom beside the first point.

    Returns:
        as vectors, shape [n, 3], angstrom; in a grid that is larger by the most steps on either side, as differences of
        flat indices, shape [n]; and these most steps by axis, shape [3].
    """
    cells = lattice_angstrom / np.array(shape)[:, None]
    reach = reach_angstrom + float(np.linalg.norm(cells, axis=1).sum())
    widest = np.ceil(reach / cell_heights_angstrom(cells)).astype(np.int64)
    axes = np.ix_(*(np.arange(-n, n + 1) for n in widest))
    vectors = sum(steps[..., None] * cell for steps, cell in zip(axes, cells, strict=True))
    near = np.einsum("abci,abci->abc", vectors, vectors) < reach**2
    _, size_b, size_c = np.array(shape) + 2 * widest
    return vectors[near], ((axes[0] * size_b + axes[1]) * size_c + axes[2])[near], widest


def _folded(sums: torch.Tensor, shape: tuple[int, ...], widest: IntArray) -> torch.Tensor:
    """Add what lies outside the cell to the periodic copy inside it."""
    for axis, count in enumerate(shape):
        inside = (torch.arange(sums.shape[axis], device=sums.device) - int(widest[axis])) % count
        size = [*sums.shape[:axis], count, *sums.shape[axis + 1 :]]
        sums = sums.new_zeros(size).index_add_(axis, inside, sums)
    return sums


def _fourier(count: int, coarse: int, device: str) -> torch.Tensor:
    """The matrix that interpolates a periodic function from some equally spaced points to others, [count, coarse]."""
    whole = count * coarse
    # in whole numbers, so that points which coincide are found exactly
    apart = (np.arange(count)[:, None] * coarse - np.arange(coarse) * count) % whole
    angle = np.pi / whole * np.where(apart == 0, 1, apart)
    # the sum of the waves in closed form, after Dirichlet; of an even number of points the fastest wave counts half
    kernel = np.sin(coarse * angle) / (coarse * np.sin(angle)) * (np.cos(angle) if coarse % 2 == 0 else 1.0)
    return torch.from_numpy(np.where(apart == 0, 1.0, kernel)).to(device, torch.float32)
