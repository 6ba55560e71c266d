"""CHGNet, a universal potential, reimplemented over its published weights."""

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from app.models.graphs.cutoffs import ATOM_CUTOFF_ANGSTROM, BOND_CUTOFF_ANGSTROM
from app.models.graphs.potential_graphs import PotentialGraph

FEATURES = 64
LAYERS = 4
ELEMENTS = 94
_RADIAL = 31
_ANGULAR = 15
_CUTOFF_POWER = 8
# As published: keeps the slope of the arc cosine finite for collinear bonds.
_INSIDE = 1 - 1e-6
# Squared angstrom: keeps distances and forces of coincident atoms finite.
_SAME_PLACE = 1e-12


@dataclass(frozen=True, kw_only=True)
class PotentialOutput:
    """The output of the potential for every atom.

    Attributes:
        site_energy_ev: each atom's share of the energy without the reference energies of the elements, shape [n_atoms],
            eV; None where fewer than all layers were run.
        features: of every atom after each layer that was run, each of shape [n_atoms, 64].
    """

    site_energy_ev: torch.Tensor | None
    features: tuple[torch.Tensor, ...]


class _GatedLayer(nn.Module):
    """A gated perceptron whose first layer is split by its inputs, so that each part is computed once.

    The published layer joins the features of a bond and its two atoms for every directed bond, then multiplies; a
    matrix product of joined vectors is the sum of the parts' products, and there are far fewer atoms than bonds.

    Args:
        parts: number of blocks of input features.
        hidden: whether there is a second layer.
    """

    def __init__(self, parts: int, *, hidden: bool) -> None:
        super().__init__()
        self.first = nn.ModuleList(nn.Linear(FEATURES, 2 * FEATURES, bias=part == 0) for part in range(parts))
        self.hidden = hidden
        if hidden:
            self.core = nn.Linear(FEATURES, FEATURES)
            self.gate = nn.Linear(FEATURES, FEATURES)
        self.core_norm = nn.LayerNorm(FEATURES)
        self.gate_norm = nn.LayerNorm(FEATURES)

    def forward(self, joined: torch.Tensor) -> torch.Tensor:
        """From the sum of the first layer's parts, shape [n, 128], to the message, shape [n, 64]."""
        if self.hidden:
            joined = functional.silu(joined)
            core, gate = self.core(joined[:, :FEATURES]), self.gate(joined[:, FEATURES:])
        else:
            core, gate = joined[:, :FEATURES], joined[:, FEATURES:]
        message: torch.Tensor = functional.silu(self.core_norm(core)) * torch.sigmoid(self.gate_norm(gate))
        return message


class _AtomLayer(nn.Module):
    """Messages along every bond, both ways, faded out at six angstrom."""

    def __init__(self) -> None:
        super().__init__()
        self.gated = _GatedLayer(3, hidden=True)
        self.out = nn.Linear(FEATURES, FEATURES, bias=False)

    def forward(
        self, atoms: torch.Tensor, bonds: torch.Tensor, weights: torch.Tensor, graph: PotentialGraph
    ) -> torch.Tensor:
        centre, bond, neighbour = self.gated.first[0](atoms), self.gated.first[1](bonds), self.gated.first[2](atoms)
        first, second = graph.bond_first, graph.bond_second
        to_first = self.gated(centre[first] + bond + neighbour[second]) * weights
        to_second = self.gated(centre[second] + bond + neighbour[first]) * weights
        total = torch.zeros_like(atoms).index_add(0, first, to_first).index_add(0, second, to_second)
        updated: torch.Tensor = atoms + self.out(total)
        return updated


class _PairInput(nn.Module):
    """The input of the layers on pairs of short bonds: both bonds, their angle, and the atom they share."""

    def __init__(self, *, hidden: bool) -> None:
        super().__init__()
        self.gated = _GatedLayer(4, hidden=hidden)

    def forward(
        self, atoms: torch.Tensor, bonds: torch.Tensor, angles: torch.Tensor, graph: PotentialGraph
    ) -> torch.Tensor:
        one, other, angle, atom = self.gated.first
        joined = one(bonds)[graph.pair_one] + other(bonds)[graph.pair_other] + angle(angles)
        message: torch.Tensor = self.gated(joined + atom(atoms)[graph.pair_atom])
        return message


class _BondLayer(nn.Module):
    """Messages to a short bond from every other that shares an atom, faded out at three angstrom."""

    def __init__(self) -> None:
        super().__init__()
        self.pairs = _PairInput(hidden=True)
        self.out = nn.Linear(FEATURES, FEATURES, bias=False)

    def forward(
        self,
        atoms: torch.Tensor,
        bonds: torch.Tensor,
        angles: torch.Tensor,
        pair_weights: torch.Tensor,
        graph: PotentialGraph,
    ) -> torch.Tensor:
        message = self.pairs(atoms, bonds, angles, graph) * pair_weights
        total = torch.zeros_like(bonds).index_add(0, graph.pair_one, message)
        updated: torch.Tensor = bonds + self.out(total)
        return updated


class _Radial(nn.Module):
    """Bessel functions of a distance, faded out at the cutoff."""

    def __init__(self, cutoff_angstrom: float) -> None:
        super().__init__()
        self.cutoff = cutoff_angstrom
        self.frequencies = nn.Parameter(math.pi * torch.arange(1, _RADIAL + 1, dtype=torch.float32))

    def forward(self, distance: torch.Tensor) -> torch.Tensor:
        p = _CUTOFF_POWER
        scaled = distance / self.cutoff
        fade = 1 - (p + 1) * (p + 2) / 2 * scaled**p + p * (p + 2) * scaled ** (p + 1)
        fade = fade - p * (p + 1) / 2 * scaled ** (p + 2)
        fade = torch.where(scaled < 1, fade, torch.zeros_like(fade)) / distance
        waves: torch.Tensor = torch.sin(self.frequencies * scaled[:, None])
        return math.sqrt(2 / self.cutoff) * fade[:, None] * waves


class Chgnet(nn.Module):
    """CHGNet 0.3.0 (Deng et al., Nature Machine Intelligence 5, 1031, 2023).

    The published function, regrouped to need fewer operations: see _GatedLayer. Charges and stress are left out. Its
    weights come from the published package through `training.potentials`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.elements = nn.Embedding(ELEMENTS, FEATURES)
        self.atom_radial = _Radial(ATOM_CUTOFF_ANGSTROM)
        self.bond_radial = _Radial(BOND_CUTOFF_ANGSTROM)
        self.bond_embedding = nn.Linear(_RADIAL, FEATURES, bias=False)
        self.atom_weights = nn.Linear(_RADIAL, FEATURES, bias=False)
        self.bond_weights = nn.Linear(_RADIAL, FEATURES, bias=False)
        self.angle_frequencies = nn.Parameter(torch.arange(1, _ANGULAR + 1, dtype=torch.float32))
        self.angle_embedding = nn.Linear(2 * _ANGULAR + 1, FEATURES, bias=False)
        self.atom_layers = nn.ModuleList(_AtomLayer() for _ in range(LAYERS))
        self.bond_layers = nn.ModuleList(_BondLayer() for _ in range(LAYERS - 1))
        # The published network has one more, whose output is not used.
        self.angle_layers = nn.ModuleList(_PairInput(hidden=False) for _ in range(LAYERS - 2))
        self.readout_norm = nn.LayerNorm(FEATURES)
        self.readout = nn.Sequential(
            *(layer for _ in range(3) for layer in (nn.Linear(FEATURES, FEATURES), nn.SiLU())),
            nn.Linear(FEATURES, 1),
        )
        self.references_ev = nn.Parameter(torch.zeros(ELEMENTS))

    def forward(
        self, graph: PotentialGraph, positions: torch.Tensor | None = None, *, layers: int = LAYERS
    ) -> PotentialOutput:
        """Run the potential.

        Args:
            graph: of all structures.
            positions: of the atoms, shape [n_atoms, 3], angstrom, to take gradients; None uses the graph's.
            layers: number of layers to run, 1 to 4; energies need all four.
        """
        positions = graph.positions if positions is None else positions
        vector = positions[graph.bond_second] + graph.bond_shift - positions[graph.bond_first]
        distance = (vector.square().sum(dim=1) + _SAME_PLACE).sqrt()
        radial = self.atom_radial(distance)
        bonds, atom_weights = self.bond_embedding(radial), self.atom_weights(radial)
        short = graph.short_bond
        bond_weights = self.bond_weights(self.bond_radial(distance[short]))
        pair_weights = bond_weights[graph.pair_one] * bond_weights[graph.pair_other]
        direction = vector[short] / distance[short][:, None]
        cosine = (direction[graph.pair_one] * direction[graph.pair_other]).sum(dim=1) * graph.pair_sign
        angles = self.angles(cosine)
        atoms = self.elements(graph.atomic_numbers - 1)
        features = []
        for layer in range(layers):
            atoms = self.atom_layers[layer](atoms, bonds, atom_weights, graph)
            features.append(atoms)
            if layer == layers - 1:
                break
            short_bonds = self.bond_layers[layer](atoms, bonds[short], angles, pair_weights, graph)
            bonds = bonds.index_copy(0, short, short_bonds)
            if layer < LAYERS - 2:
                angles = angles + self.angle_layers[layer](atoms, short_bonds, angles, graph)
        energy = self.readout(self.readout_norm(atoms))[:, 0] if layers == LAYERS else None
        return PotentialOutput(site_energy_ev=energy, features=tuple(features))

    def angles(self, cosine: torch.Tensor) -> torch.Tensor:
        """Embed the cosines of angles, shape [n] to [n, 64]."""
        angle = torch.arccos(cosine * _INSIDE)
        phases = angle[:, None] * self.angle_frequencies
        constant = torch.full_like(angle, 1 / math.sqrt(2))[:, None]
        waves = torch.cat([constant, torch.sin(phases), torch.cos(phases)], dim=1) / math.sqrt(math.pi)
        embedded: torch.Tensor = self.angle_embedding(waves)
        return embedded
