"""The trunk: ALIGNN (Choudhary and DeCost, npj Comput. Mater. 7, 185, 2021), written in plain PyTorch.

Edge-gated convolutions alternate between the crystal graph, whose nodes are atoms, and its line graph, whose nodes
are bonds and whose edges are angles. Every edge has a weight of 0 to 1 (see GraphSpec); with all weights one the
equations are the published ones.
"""

import torch
from torch import nn

from app.models.graphs.shells import GraphBatch
from app.models.networks.elements import FEATURE_COUNT, element_features
from app.models.networks.sums import summed

_GATE_EPSILON = 1e-6


class Expansion(nn.Module):
    """Gaussians of a scalar at equally spaced centres (radial basis functions).

    Args:
        low, high: the first and the last centre.
        bins: number of centres; the width of each is their spacing.
    """

    centres: torch.Tensor

    def __init__(self, *, low: float, high: float, bins: int) -> None:
        super().__init__()
        self.register_buffer("centres", torch.linspace(low, high, bins), persistent=False)
        self.inverse_width = (bins - 1) / (high - low)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Expand shape [n] to [n, bins]."""
        # In place where gradients allow it: this is the widest tensor of a forward pass.
        away = (values[:, None] - self.centres).mul_(self.inverse_width)
        return torch.mul(away, away).neg_().exp_()


class Perceptron(nn.Sequential):
    """Linear, batch normalisation, SiLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.SiLU())


class EdgeGatedConvolution(nn.Module):
    """One edge-gated graph convolution, residual in nodes and edges.

    m = A x_target + B x_source + C e;  gate = sigmoid(m);
    e' = e + SiLU(BN(m));  x' = x + SiLU(BN(U x + sum(gate V x_source) / sum(gate))), sums over incoming edges, each
    times its weight.

    Args:
        features: width of nodes and edges.
        updates_edges: False leaves the edges unchanged (the last use of a line graph needs no new angles).
    """

    def __init__(self, features: int, *, updates_edges: bool = True) -> None:
        super().__init__()
        self.target_gate = nn.Linear(features, features)
        self.source_gate = nn.Linear(features, features)
        self.edge_gate = nn.Linear(features, features)
        self.source_update = nn.Linear(features, features)
        self.target_update = nn.Linear(features, features)
        self.node_norm = nn.BatchNorm1d(features)
        self.edge_norm = nn.BatchNorm1d(features) if updates_edges else None

    def forward(
        self,
        nodes: torch.Tensor,
        edges: torch.Tensor,
        source: torch.Tensor,
        target: torch.Tensor,
        weight: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Update nodes [n, features] and edges [m, features]; source, target and weight have shape [m]."""
        message = self.edge_gate(edges)
        message = message + self.target_gate(nodes).index_select(0, target)
        message = message + self.source_gate(nodes).index_select(0, source)
        gate = torch.sigmoid(message) * weight[:, None]
        update = gate * self.source_update(nodes).index_select(0, source)
        total = summed(update, target, len(nodes))
        norm = summed(gate, target, len(nodes))
        new = self.target_update(nodes) + total / (norm + _GATE_EPSILON)
        nodes = nodes + nn.functional.silu(self.node_norm(new))
        if self.edge_norm is not None:
            edges = edges + nn.functional.silu(self.edge_norm(message))
        return nodes, edges


class AlignnLayer(nn.Module):
    """An edge-gated convolution on the crystal graph, then one on its line graph.

    The bonds that the first one updates are the nodes of the second.
    """

    def __init__(self, features: int, *, updates_angles: bool = True) -> None:
        super().__init__()
        self.crystal = EdgeGatedConvolution(features)
        self.line = EdgeGatedConvolution(features, updates_edges=updates_angles)

    def forward(
        self,
        atoms: torch.Tensor,
        bonds: torch.Tensor,
        angles: torch.Tensor,
        batch: GraphBatch,
        weight: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Update atoms, bonds and angles; weight is that of the line graph's edges."""
        atoms, bonds = self.crystal(atoms, bonds, batch.edge_source, batch.edge_target, batch.edge_weight)
        bonds, angles = self.line(bonds, angles, batch.line_source, batch.line_target, weight)
        return atoms, bonds, angles


class Alignn(nn.Module):
    """The trunk, from a batch of graphs to a vector for each atom.

    Args:
        features: width of atoms, bonds and angles (the paper: 256).
        alignn_layers, graph_layers: number of layers of each kind (the paper: 4 and 4).
        embedding: width between the radial basis functions and the features (64).
        bond_bins, angle_bins: radial basis functions of bond lengths (80, on 0..8 angstrom) and of the angles'
            cosines (40, on -1..1).
        marks_ion: adds the position of an image along the band to the ion's embedding, which distinguishes images from
            host atoms; the paper's networks do not.
    """

    element_table: torch.Tensor

    def __init__(
        self,
        *,
        features: int = 256,
        alignn_layers: int = 4,
        graph_layers: int = 4,
        embedding: int = 64,
        bond_bins: int = 80,
        angle_bins: int = 40,
        marks_ion: bool = False,
    ) -> None:
        super().__init__()
        self.features = features
        self.register_buffer("element_table", element_features().clone())
        self.atoms = Perceptron(FEATURE_COUNT, features)
        self.bond_expansion = Expansion(low=0.0, high=8.0, bins=bond_bins)
        self.bonds = nn.Sequential(Perceptron(bond_bins, embedding), Perceptron(embedding, features))
        self.angle_expansion = Expansion(low=-1.0, high=1.0, bins=angle_bins)
        self.angles = nn.Sequential(Perceptron(angle_bins, embedding), Perceptron(embedding, features))
        self.ion_mark = nn.Linear(2, features, bias=False) if marks_ion else None
        # The angles that the last layer would make are not used.
        self.alignn = nn.ModuleList(
            AlignnLayer(features, updates_angles=layer < alignn_layers - 1) for layer in range(alignn_layers)
        )
        self.graph = nn.ModuleList(
            EdgeGatedConvolution(features, updates_edges=layer < graph_layers - 1) for layer in range(graph_layers)
        )

    def forward(self, batch: GraphBatch) -> torch.Tensor:
        """A vector for each node, shape [n_nodes, features]."""
        atoms: torch.Tensor = self.atoms(self.element_table[batch.atomic_numbers])
        if self.ion_mark is not None:
            atoms = atoms + self.ion_mark(_ion_features(batch.image_position))
        length = batch.edge_vector_angstrom.norm(dim=1)
        bonds = self.bonds(self.bond_expansion(length))
        if self.alignn:
            angles = self.angles(self.angle_expansion(_cosines(batch, length)))
            line_weight = batch.edge_weight.index_select(0, batch.line_source)
            for layer in self.alignn:
                atoms, bonds, angles = layer(atoms, bonds, angles, batch, line_weight)
        for layer in self.graph:
            atoms, bonds = layer(atoms, bonds, batch.edge_source, batch.edge_target, batch.edge_weight)
        return atoms


def _ion_features(image_position: torch.Tensor) -> torch.Tensor:
    is_ion = (image_position >= 0).to(image_position.dtype)
    return torch.stack([is_ion, image_position * is_ion], dim=1)


def _cosines(batch: GraphBatch, length: torch.Tensor) -> torch.Tensor:
    """Of the angle at the middle atom between a bond that ends there and one that starts there, shape [n_line]."""
    direction = batch.edge_vector_angstrom / length.clamp_min(1e-9)[:, None]
    before = direction.index_select(0, batch.line_source)  # from the middle atom to the one before
    after = direction.index_select(0, batch.line_target)  # from the atom after to the middle one
    cosines: torch.Tensor = -(before * after).sum(dim=1)
    return cosines
