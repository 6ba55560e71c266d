"""A few cheap steps of relaxation around the ion, and the energies along the band after each.

Instead of a converged nudged elastic band, a few evaluations of a potential's forces: each image is relaxed by itself,
the ion and the atoms near it move, the ion of an inner image only across the hop. The path is not converged; its
energies are features of a regression.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from app.crystals.band import MODEL_IMAGE_COUNT, Band, FloatArray, IntArray, model_band
from app.crystals.geometry.reduction import reduced_lattice
from app.crystals.hops.surroundings import host_near_path
from app.models.features.tables import atomic_number
from app.models.graphs.cutoffs import ATOM_CUTOFF_ANGSTROM, BOND_CUTOFF_ANGSTROM
from app.models.graphs.potential_graphs import PotentialGraph, join, potential_graph
from app.models.networks.chgnet import Chgnet

STEPS = 6
#: An atom moves freely up to the first distance from the ion, and is fixed beyond the second.
_FREE_ANGSTROM, _FIXED_ANGSTROM = 3.2, 4.8
_LONGEST_STEP_ANGSTROM = 0.12
#: A larger cell is replaced by a cluster in vacuum: the atoms within this distance of the path.
_LARGEST_CELL_ATOMS = 200
_CLUSTER_ANGSTROM = 8.0
_VOID_ANGSTROM = 80.0
#: Stiffness of an atom in a crystal, eV/angstrom^2: the initial value, and bounds of later estimates.
_FIRST_STIFFNESS, _LEAST_STIFFNESS, _GREATEST_STIFFNESS = 20.0, 5.0, 60.0
_LEAST_CURVATURE = 0.5
#: Ends whose energies and features differ by less are equivalent, and only half of the band is relaxed.
_SAME_EV, _SAME_FEATURE = 2e-3, 2e-2
_HALF = MODEL_IMAGE_COUNT // 2 + 1


@dataclass(frozen=True, kw_only=True)
class Structure:
    """The atoms of one band, the ion first.

    Attributes:
        numbers: atomic numbers, shape [n_atoms].
        images: positions with the ion at each image, shape [5, n_atoms, 3], angstrom.
        lattice_angstrom: rows are the lattice vectors, shape [3, 3].
        hop_direction: a unit vector from the first image to the last, shape [3].
    """

    numbers: IntArray
    images: FloatArray
    lattice_angstrom: FloatArray
    hop_direction: FloatArray


@dataclass(frozen=True, kw_only=True)
class RelaxedBand:
    """The result of a relaxation.

    Attributes:
        energy_ev: of every image before each step and after the last, shape [7, 5], eV, up to a constant of the band.
        ion_shift_angstrom, greatest_shift_angstrom: shifts of the ion and of the atom that moved most, shape [5].
        greatest_force: on any atom that is free to move, before each step and after the last, shape [7, 5],
            eV/angstrom.
    """

    energy_ev: FloatArray
    ion_shift_angstrom: FloatArray
    greatest_shift_angstrom: FloatArray
    greatest_force: FloatArray


def band_structure(band: Band) -> Structure:
    """The structure that is relaxed: the cell of a band, or the surroundings of the path where the cell is large."""
    band = model_band(band)
    lattice = band.lattice_angstrom
    path = band.image_frac_coords @ lattice
    host_numbers = np.array([atomic_number(symbol) for symbol in band.host_species], dtype=np.int64)
    host = band.host_frac_coords @ lattice
    if band.atom_count > _LARGEST_CELL_ATOMS:
        near = host_near_path(band, path, _CLUSTER_ANGSTROM)
        host, host_numbers = near.positions, host_numbers[near.host_index]
        lattice = np.eye(3) * _VOID_ANGSTROM
    hop = path[-1] - path[0]
    return Structure(
        numbers=np.concatenate([[atomic_number(band.ion)], host_numbers]),
        images=np.stack([np.vstack([place, host]) for place in path]),
        lattice_angstrom=lattice,
        hop_direction=hop / max(float(np.linalg.norm(hop)), 1e-12),
    )


def relax(structures: Sequence[Structure], potential: Chgnet, device: torch.device) -> list[RelaxedBand]:
    """Relax all images of several bands step by step, the forces of a step together.

    Args:
        structures: from band_structure.
        potential: on the device.
        device: on a GPU the forces of all images are computed in one pass; on a CPU one image at a time, which fits
            its cache.
    """
    bands = [_Relaxing(structure) for structure in structures]
    # Forces are gradients, which tensors made under inference mode cannot have.
    with torch.inference_mode(mode=False), torch.enable_grad():
        for step in range(STEPS + 1):
            _relax_step(bands, step, potential, device)
    return [band.result() for band in bands]


def _relax_step(bands: Sequence["_Relaxing"], step: int, potential: Chgnet, device: torch.device) -> None:
    asked = [(band, image) for band in bands for image in band.images]
    answers = _forces([band.graph(image) for band, image in asked], potential, device)
    for (band, image), answer in zip(asked, answers, strict=True):
        band.record(image, answer)
    for band in bands:
        if step == 0:
            band.drop_copies()
        if step < STEPS:
            band.move()


@dataclass(frozen=True, kw_only=True)
class _Forces:
    """Energy, its gradient and the ion's features in one structure."""

    energy_ev: float
    gradient: FloatArray
    ion_features: FloatArray


def _forces(graphs: Sequence[PotentialGraph], potential: Chgnet, device: torch.device) -> list[_Forces]:
    groups = [list(graphs)] if device.type == "cuda" else [[graph] for graph in graphs]
    return [answer for group in groups for answer in _forces_together(group, potential, device)]


def _forces_together(graphs: Sequence[PotentialGraph], potential: Chgnet, device: torch.device) -> list[_Forces]:
    graph = join(graphs).to(device)
    positions = graph.positions.clone().requires_grad_()
    output = potential(graph, positions)
    assert output.site_energy_ev is not None
    site_energy = output.site_energy_ev.double()
    (gradient,) = torch.autograd.grad(site_energy.sum(), positions)
    sizes = [len(one.atomic_numbers) for one in graphs]
    # Every structure begins with its ion.
    begins = torch.from_numpy(np.cumsum([0, *sizes[:-1]])).to(device)
    features = torch.cat([layer.detach()[begins] for layer in output.features], dim=1).double().cpu().numpy()
    energies = [float(part.sum()) for part in torch.split(site_energy.detach().cpu(), sizes)]
    gradients = torch.split(gradient.double().cpu(), sizes)
    return [
        _Forces(energy_ev=energy, gradient=part.numpy(), ion_features=feature)
        for energy, part, feature in zip(energies, gradients, features, strict=True)
    ]


@dataclass(kw_only=True)
class _Image:
    """The state of one image during relaxation: shifts scaled by mobility, and the estimated curvature."""

    start: FloatArray
    mobility: FloatArray
    moved: FloatArray
    gradient: FloatArray = field(default_factory=lambda: np.empty(0))
    last_moved: FloatArray | None = None
    last_gradient: FloatArray = field(default_factory=lambda: np.empty(0))
    memory: list[tuple[FloatArray, FloatArray]] = field(default_factory=list)
    energies_ev: list[float] = field(default_factory=list)
    greatest_forces: list[float] = field(default_factory=list)
    ion_features: FloatArray = field(default_factory=lambda: np.empty(0))

    @property
    def shift(self) -> FloatArray:
        return self.mobility * self.moved


class _Relaxing:
    """The state of a band during relaxation."""

    def __init__(self, structure: Structure) -> None:
        self._structure = structure
        lattice, _ = reduced_lattice(structure.lattice_angstrom)
        self.images = {
            number: _Image(start=start, mobility=_mobility(start, lattice), moved=np.zeros_like(start))
            for number, start in enumerate(structure.images)
        }

    def graph(self, number: int) -> PotentialGraph:
        image = self.images[number]
        return potential_graph(
            self._structure.numbers,
            image.start + image.shift,
            self._structure.lattice_angstrom,
            cutoff_angstrom=ATOM_CUTOFF_ANGSTROM,
            short_cutoff_angstrom=BOND_CUTOFF_ANGSTROM,
        )

    def record(self, number: int, forces: _Forces) -> None:
        image = self.images[number]
        gradient = forces.gradient * image.mobility
        if 0 < number < MODEL_IMAGE_COUNT - 1:
            # An inner image's ion would slide back along the hop: it moves only across it.
            along = self._structure.hop_direction
            gradient[0] -= (gradient[0] @ along) * along
        image.gradient = gradient
        image.energies_ev.append(forces.energy_ev)
        image.greatest_forces.append(float(np.linalg.norm(gradient, axis=1).max()))
        if not len(image.ion_features):
            image.ion_features = forces.ion_features

    def drop_copies(self) -> None:
        """Drop the second half of the images where it mirrors the first."""
        for number in range(_HALF - 1):
            one, other = self.images[number], self.images[MODEL_IMAGE_COUNT - 1 - number]
            if abs(one.energies_ev[0] - other.energies_ev[0]) > _SAME_EV:
                return
        if np.abs(self.images[0].ion_features - self.images[MODEL_IMAGE_COUNT - 1].ion_features).max() > _SAME_FEATURE:
            return
        for number in range(_HALF, MODEL_IMAGE_COUNT):
            del self.images[number]

    def move(self) -> None:
        for image in self.images.values():
            step = _quasi_newton_step(image)
            longest = float(np.linalg.norm(step * image.mobility, axis=1).max())
            image.last_moved, image.last_gradient = image.moved, image.gradient
            image.moved = image.moved + step * min(1.0, _LONGEST_STEP_ANGSTROM / max(longest, 1e-9))

    def result(self) -> RelaxedBand:
        images = [
            self.images.get(number, self.images[min(number, MODEL_IMAGE_COUNT - 1 - number)])
            for number in range(MODEL_IMAGE_COUNT)
        ]
        shifts = [np.linalg.norm(image.shift, axis=1) for image in images]
        return RelaxedBand(
            energy_ev=np.array([image.energies_ev for image in images]).T,
            ion_shift_angstrom=np.array([shift[0] for shift in shifts]),
            greatest_shift_angstrom=np.array([shift.max() for shift in shifts]),
            greatest_force=np.array([image.greatest_forces for image in images]).T,
        )


def _mobility(positions: FloatArray, lattice_angstrom: FloatArray) -> FloatArray:
    """The square root of the mobility of each atom, 1 near the ion falling to 0, shape [n_atoms, 1].

    The lattice must be reduced: in a skewed cell the nearest copy may not be in a neighbouring cell.
    """
    relative = (positions - positions[0]) @ np.linalg.inv(lattice_angstrom)
    relative -= np.round(relative)
    copies = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    nearest = np.linalg.norm((relative[:, None] + copies) @ lattice_angstrom, axis=2).min(axis=1)
    fade = np.clip((nearest - _FREE_ANGSTROM) / (_FIXED_ANGSTROM - _FREE_ANGSTROM), 0.0, 1.0)
    return np.asarray(np.sqrt(0.5 * (1.0 + np.cos(np.pi * fade))))[:, None]


def _quasi_newton_step(image: _Image) -> FloatArray:
    """The limited-memory BFGS step (Nocedal and Wright, Numerical Optimization, algorithm 7.4)."""
    if image.last_moved is not None:
        moved, turned = image.moved - image.last_moved, image.gradient - image.last_gradient
        if float((moved * turned).sum()) > _LEAST_CURVATURE * float((moved * moved).sum()):
            image.memory.append((moved, turned))
    remaining = image.gradient.copy()
    shares = []
    for moved, turned in reversed(image.memory):
        share = float((moved * remaining).sum()) / float((moved * turned).sum())
        shares.append(share)
        remaining -= share * turned
    remaining /= _stiffness(image)
    for (moved, turned), share in zip(image.memory, reversed(shares), strict=True):
        remaining += (share - float((turned * remaining).sum()) / float((moved * turned).sum())) * moved
    return -remaining


def _stiffness(image: _Image) -> float:
    if not image.memory:
        return _FIRST_STIFFNESS
    moved, turned = image.memory[-1]
    measured = float((turned * turned).sum()) / float((moved * turned).sum())
    return min(max(measured, _LEAST_STIFFNESS), _GREATEST_STIFFNESS)
