"""Graphs on disk: many per file, read without copying the file into memory."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from app.models.graphs.shells import AtomGraph


def write_graphs(path: Path, graphs: Sequence[AtomGraph], extra: dict[str, torch.Tensor]) -> None:
    """Write graphs and further tensors to a file, atomically.

    Args:
        path: of the file.
        graphs: at least one, each of at most 32,767 nodes.
        extra: further tensors, by name; read with `GraphFile.tensor`.
    """
    node_counts = torch.tensor([len(graph.atomic_numbers) for graph in graphs], dtype=torch.int32)
    if int(node_counts.max()) > torch.iinfo(torch.int16).max:
        raise ValueError(f"a graph has {int(node_counts.max())} nodes, more than the 32,767 that a graph file can hold")
    incoming = [
        torch.bincount(graph.edge_target, minlength=len(graph.atomic_numbers)).to(torch.int16) for graph in graphs
    ]
    tensors = {
        "node_counts": node_counts,
        "edge_counts": torch.tensor([len(graph.edge_source) for graph in graphs], dtype=torch.int32),
        "line_counts": torch.tensor([graph.line_edge_count for graph in graphs], dtype=torch.int64),
        "atomic_numbers": torch.cat([graph.atomic_numbers for graph in graphs]).to(torch.uint8),
        "image_position": torch.cat([graph.image_position for graph in graphs]),
        "node_weight": torch.cat([graph.node_weight for graph in graphs]),
        "incoming": torch.cat(incoming),
        "source": torch.cat([graph.edge_source for graph in graphs]).to(torch.int16),
        "vector": torch.cat([graph.edge_vector_angstrom for graph in graphs]),
        "weight": torch.cat([graph.edge_weight for graph in graphs]),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    pending = path.with_suffix(".pending")
    save_file(tensors | {f"extra.{name}": value for name, value in extra.items()}, pending)
    pending.replace(path)


class GraphFile:
    """A file of write_graphs; its tensors stay on disk until they are used."""

    def __init__(self, path: Path) -> None:
        with safe_open(path, framework="pt") as file:
            self._tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        self._first_node = _starts(self._tensors["node_counts"])
        self._first_edge = _starts(self._tensors["edge_counts"])

    def __len__(self) -> int:
        return len(self._first_node) - 1

    @property
    def line_counts(self) -> np.ndarray:
        """Edges of each graph's line graph, shape [n]."""
        return np.asarray(self._tensors["line_counts"].numpy())

    @property
    def node_counts(self) -> np.ndarray:
        """Nodes of each graph, shape [n]."""
        return np.asarray(self._tensors["node_counts"].numpy())

    def tensor(self, name: str) -> torch.Tensor:
        """A tensor that was written with the graphs."""
        tensor: torch.Tensor = self._tensors[f"extra.{name}"]
        return tensor

    def graph(self, number: int) -> AtomGraph:
        """A graph by its number."""
        nodes = slice(self._first_node[number], self._first_node[number + 1])
        edges = slice(self._first_edge[number], self._first_edge[number + 1])
        incoming = self._tensors["incoming"][nodes].long()
        return AtomGraph(
            atomic_numbers=self._tensors["atomic_numbers"][nodes].long(),
            image_position=self._tensors["image_position"][nodes],
            node_weight=self._tensors["node_weight"][nodes],
            edge_source=self._tensors["source"][edges].long(),
            edge_target=torch.repeat_interleave(torch.arange(len(incoming)), incoming),
            edge_vector_angstrom=self._tensors["vector"][edges],
            edge_weight=self._tensors["weight"][edges],
            line_edge_count=int(self._tensors["line_counts"][number]),
        )


def _starts(counts: torch.Tensor) -> list[int]:
    starts: list[int] = [0, *counts.long().cumsum(0).tolist()]
    return starts
