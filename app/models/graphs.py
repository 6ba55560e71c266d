"""From a band to the graph that a network reads: atoms near the path, their neighbours, and soft shells."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pymatgen.core import Element

from app.crystals.band import Band, FloatArray, IntArray, model_band
from app.crystals.surroundings import NearAtoms, fade, host_near_path

# First guess of how far the twelfth neighbour is; the full reach is searched only where it is farther.
_NEAR_REACH_ANGSTROM = 4.5


@dataclass(frozen=True, kw_only=True)
class GraphSpec:
    """How a band becomes a graph; kept in the card, since weights are good for one spec only.

    Attributes:
        neighbour_count: host atoms in the first shell of every node.
        reach_angstrom: no neighbour is farther than this.
        shell_width_angstrom: a neighbour beyond the last of the shell fades out over this distance. A hard
            count of twelve would cut through shells of equal distance, which high-symmetry crystals are full of,
            and rounding would then choose the neighbours; so would any other sharp cut for some crystal.
        inner_angstrom, outer_angstrom: an atom's weight falls from one to zero between these distances from the
            path, and beyond the outer one there are no nodes. The graph of a hop is thereby the same whatever the
            size of the supercell that it was cut from.
    """

    neighbour_count: int = 12
    reach_angstrom: float = 8.0
    shell_width_angstrom: float = 0.3
    inner_angstrom: float = 4.0
    outer_angstrom: float = 6.0

    def __post_init__(self) -> None:
        if not (self.neighbour_count >= 1 and self.shell_width_angstrom > 0 and self.reach_angstrom > 0):
            raise ValueError("a graph needs neighbours, a shell and a reach")
        if not 0 < self.inner_angstrom < self.outer_angstrom:
            raise ValueError("the weight must fall from one to zero over a distance: 0 < inner < outer")


@dataclass(frozen=True, kw_only=True)
class BandGraph:
    """One band as a graph, on the CPU; edges are sorted by their target.

    Attributes:
        atomic_numbers: shape [n_nodes].
        image_position: how far from the middle of the path an ion's node is, 0 (middle) to 1 (an end point), and -1
            for host atoms, shape [n_nodes].
        node_weight: 1 near the path, falling to 0 at the outer distance, shape [n_nodes].
        edge_source, edge_target: node numbers, shape [n_edges].
        edge_vector_angstrom: from the target to the source, shape [n_edges, 3], angstrom.
        edge_weight: 0 to 1, shape [n_edges].
        line_edge_count: edges of the line graph, which is what a forward pass costs.
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
    """Several graphs side by side, with the line graph, on the device of the network.

    Attributes:
        graph_of_node: shape [n_nodes]; the other fields of nodes and edges are those of BandGraph, joined.
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


def band_graph(band: Band, spec: GraphSpec) -> BandGraph:
    """Builds the graph of a band in MODEL-3's form: the host with all five images of the ion in it.

    Nodes are the five images and every host atom, periodic copies counted one by one, within the outer distance
    of the straight path. Copies of the ion in neighbouring supercells are left out: they are an artefact of the
    supercell, not part of the hop.
    """
    band = model_band(band)
    images = band.image_frac_coords @ band.lattice_angstrom
    host_numbers = np.array([Element(symbol).Z for symbol in band.host_species], dtype=np.int64)
    reach = min(_NEAR_REACH_ANGSTROM, spec.reach_angstrom)
    while True:
        found = host_near_path(band, images, spec.outer_angstrom + reach)
        shells = _Shells.measure(found, images, spec, reach)
        if shells.complete or reach >= spec.reach_angstrom:
            break
        reach = spec.reach_angstrom
    return _assemble(
        near=found,
        host_numbers=host_numbers,
        ion_number=Element(band.ion).Z,
        images=images,
        shells=shells,
        spec=spec,
    )


@dataclass(frozen=True, kw_only=True)
class _Shells:
    """Distances from every node to every atom near the path, and how far each node's first shell goes.

    Nodes are the host atoms within the outer distance (in_graph), then the images.
    """

    in_graph: NDArray[np.bool_]
    distance: FloatArray  # [n_nodes, n_near + n_images]
    vector: FloatArray  # [n_nodes, n_near + n_images, 3], from the node
    radius: FloatArray  # [n_nodes]
    complete: bool

    @classmethod
    def measure(cls, near: NearAtoms, images: FloatArray, spec: GraphSpec, reach: float) -> "_Shells":
        in_graph = near.path_distance < spec.outer_angstrom
        everything = np.concatenate([near.positions, images])
        nodes = np.concatenate([near.positions[in_graph], images])
        vector = everything[None, :, :] - nodes[:, None, :]
        distance = np.sqrt(np.einsum("nmi,nmi->nm", vector, vector))
        distance[np.arange(len(nodes)), np.concatenate([np.flatnonzero(in_graph), np.arange(-5, 0)])] = np.inf
        # The ion counts in no shell, so that a host's neighbourhood does not depend on how many images there are.
        to_host = distance[:, : len(near.positions)]
        rank = spec.neighbour_count - 1
        if to_host.shape[1] <= rank:
            radius = np.full(len(nodes), reach)
        else:
            radius = np.partition(to_host, rank, axis=1)[:, rank]
        complete = bool(np.all(radius + spec.shell_width_angstrom <= reach))
        return cls(
            in_graph=in_graph,
            distance=distance,
            vector=vector,
            radius=np.minimum(radius, spec.reach_angstrom),
            complete=complete,
        )


def _assemble(
    *,
    near: NearAtoms,
    host_numbers: IntArray,
    ion_number: int,
    images: FloatArray,
    shells: _Shells,
    spec: GraphSpec,
) -> BandGraph:
    kept = np.concatenate([shells.in_graph, np.ones(len(images), dtype=bool)])
    distance = shells.distance[:, kept]
    excess = (distance - shells.radius[:, None]) / spec.shell_width_angstrom
    node_weight = np.concatenate(
        [
            fade(
                (near.path_distance[shells.in_graph] - spec.inner_angstrom)
                / (spec.outer_angstrom - spec.inner_angstrom)
            ),
            np.ones(len(images)),
        ]
    )
    weight = np.where(np.isfinite(excess), fade(excess), 0.0) * node_weight[None, :]
    target, source = np.nonzero(weight > 1e-6)  # noqa: PLR2004 - too little to be seen in an answer
    incoming = np.bincount(target, minlength=len(node_weight))
    numbers = np.concatenate([host_numbers[near.host_index[shells.in_graph]], np.full(len(images), ion_number)])
    position = np.full(len(numbers), -1.0)
    position[-len(images) :] = np.abs(np.linspace(-1.0, 1.0, len(images)))
    return BandGraph(
        atomic_numbers=torch.from_numpy(numbers),
        image_position=torch.from_numpy(position.astype(np.float32)),
        node_weight=torch.from_numpy(node_weight.astype(np.float32)),
        edge_source=torch.from_numpy(source),
        edge_target=torch.from_numpy(target),
        edge_vector_angstrom=torch.from_numpy(shells.vector[:, kept][target, source].astype(np.float32)),
        edge_weight=torch.from_numpy(weight[target, source].astype(np.float32)),
        line_edge_count=int(incoming[source].sum()),
    )


def collate(graphs: Sequence[BandGraph]) -> GraphBatch:
    """Joins graphs into a batch and builds its line graph."""
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
