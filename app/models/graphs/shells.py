"""Graphs of atoms: smooth shells of neighbours, and batches with their line graph."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
import torch

#: First guess of the radius of the shell; the full reach is searched only where the shell is larger.
NEAR_REACH_ANGSTROM = 4.5
#: Edges of less weight are dropped: they do not change an answer.
LEAST_WEIGHT = 1e-6


@dataclass(frozen=True, kw_only=True)
class GraphSpec:
    """How a structure becomes a graph; kept in the card, since weights are valid for one spec only.

    Attributes:
        neighbour_count: atoms in the first shell of every node; the migrating ion counts only with the scope "cell".
        reach_angstrom: no neighbour is farther than this.
        shell_width_angstrom: a neighbour beyond the last of the shell fades out over this distance. Exactly twelve
            neighbours would cut through shells of equal distance, which are common in crystals of high symmetry, and
            rounding would choose between them; so would any other sharp cutoff for some crystal.
        inner_angstrom, outer_angstrom: an atom's weight falls from one to zero between these distances from the
            path, and beyond the outer one there are no nodes. The graph of a hop is thus independent of the size of its
            supercell.
        scope: "path" for that; "cell" for the paper's form, in which every atom of the band's cell is a node of equal
            weight, so that an answer depends on the supercell.
    """

    neighbour_count: int = 12
    reach_angstrom: float = 8.0
    shell_width_angstrom: float = 0.3
    inner_angstrom: float = 4.0
    outer_angstrom: float = 6.0
    scope: Literal["path", "cell"] = "path"

    def __post_init__(self) -> None:
        if not (self.neighbour_count >= 1 and self.shell_width_angstrom > 0 and self.reach_angstrom > 0):
            raise ValueError("neighbour_count, shell_width_angstrom and reach_angstrom must be positive")
        if not 0 < self.inner_angstrom < self.outer_angstrom:
            raise ValueError(
                "the weight must fall from one to zero over a distance: 0 < inner_angstrom < outer_angstrom"
            )
        if self.scope not in {"path", "cell"}:
            raise ValueError(f"unknown scope {self.scope!r}: expected path or cell")


@dataclass(frozen=True, kw_only=True)
class AtomGraph:
    """One structure as a graph, on the CPU; edges are sorted by their target.

    Attributes:
        atomic_numbers: shape [n_nodes].
        image_position: distance of an ion's node from the middle of the path, 0 (middle) to 1 (an end point), and -1
            for host atoms, shape [n_nodes].
        node_weight: 1 near the path, falling to 0 at the outer distance, shape [n_nodes].
        edge_source, edge_target: node numbers, shape [n_edges].
        edge_vector_angstrom: from the target to the source, shape [n_edges, 3], angstrom.
        edge_weight: 0 to 1, shape [n_edges].
        line_edge_count: edges of the line graph, the measure of the cost of a forward pass.
    """

    atomic_numbers: torch.Tensor
    image_position: torch.Tensor
    node_weight: torch.Tensor
    edge_source: torch.Tensor
    edge_target: torch.Tensor
    edge_vector_angstrom: torch.Tensor
    edge_weight: torch.Tensor
    line_edge_count: int


@dataclass(frozen=True, kw_only=True)
class GraphBatch:
    """Several graphs joined, with their line graph, on the device of the network.

    Attributes:
        graph_of_node: shape [n_nodes]; the other fields of nodes and edges are those of AtomGraph, joined.
        line_source, line_target: edge numbers; the source edge ends where the target edge starts, shape [n_line].
        graph_count: bands in the batch.
    """

    atomic_numbers: torch.Tensor
    image_position: torch.Tensor
    node_weight: torch.Tensor
    graph_of_node: torch.Tensor
    edge_source: torch.Tensor
    edge_target: torch.Tensor
    edge_vector_angstrom: torch.Tensor
    edge_weight: torch.Tensor
    line_source: torch.Tensor
    line_target: torch.Tensor
    graph_count: int

    def to(self, device: torch.device) -> "GraphBatch":
        """The same batch on another device."""
        moved: dict[str, Any] = {
            field.name: value.to(device, non_blocking=True) if isinstance(value, torch.Tensor) else value
            for field in fields(self)
            for value in [getattr(self, field.name)]
        }
        return GraphBatch(**moved)


def collate(graphs: Sequence[AtomGraph]) -> GraphBatch:
    """Join graphs into a batch and build its line graph."""
    sizes = [len(graph.atomic_numbers) for graph in graphs]
    offsets = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    source = torch.cat([graph.edge_source + int(o) for graph, o in zip(graphs, offsets, strict=True)])
    target = torch.cat([graph.edge_target + int(o) for graph, o in zip(graphs, offsets, strict=True)])
    incoming = torch.bincount(target, minlength=sum(sizes))
    line_source, line_target = _line_graph(source, incoming)
    return GraphBatch(
        atomic_numbers=torch.cat([graph.atomic_numbers for graph in graphs]),
        image_position=torch.cat([graph.image_position for graph in graphs]),
        node_weight=torch.cat([graph.node_weight for graph in graphs]),
        graph_of_node=torch.repeat_interleave(torch.arange(len(graphs)), torch.tensor(sizes)),
        edge_source=source,
        edge_target=target,
        edge_vector_angstrom=torch.cat([graph.edge_vector_angstrom for graph in graphs]),
        edge_weight=torch.cat([graph.edge_weight for graph in graphs]),
        line_source=line_source,
        line_target=line_target,
        graph_count=len(graphs),
    )


def _line_graph(source: torch.Tensor, incoming: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Every edge that ends where another starts is its neighbour in the line graph (k -> j before j -> i)."""
    first_incoming = incoming.cumsum(0) - incoming
    count = incoming[source]
    first_pair = count.cumsum(0) - count
    line_target = torch.repeat_interleave(torch.arange(len(source)), count)
    place = torch.arange(len(line_target)) - first_pair[line_target]
    return first_incoming[source][line_target] + place, line_target
