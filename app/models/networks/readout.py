"""Readouts: from vectors of atoms to one vector per structure, and to a number."""

from itertools import pairwise
from typing import Literal

import torch
from torch import nn

from app.models.graphs.shells import GraphBatch
from app.models.networks.sums import summed

#: "path" is the mean over atoms, each counting by its weight; "ion" the mean over the ion's images.
Readout = Literal["path", "ion"]


def checked_readout(readout: Readout) -> Readout:
    """The readout, checked.

    Raises:
        ValueError: it is unknown.
    """
    if readout not in {"path", "ion"}:
        raise ValueError(f"unknown readout {readout!r}: expected path or ion")
    return readout


def pooled(atoms: torch.Tensor, batch: GraphBatch, readout: Readout) -> torch.Tensor:
    """A vector for each graph, shape [n_graphs, features], from one for each atom, shape [n_nodes, features]."""
    weight = batch.node_weight if readout == "path" else (batch.image_position >= 0).to(atoms.dtype)
    total = _sum_by_graph(atoms * weight[:, None], batch)
    mean: torch.Tensor = total / _sum_by_graph(weight[:, None], batch)
    return mean


def _sum_by_graph(values: torch.Tensor, batch: GraphBatch) -> torch.Tensor:
    return summed(values, batch.graph_of_node, batch.graph_count)


def make_head(inputs: int, hidden: tuple[int, ...] | list[int], *, dropout: float = 0.0) -> nn.Sequential:
    """Linear layers with SiLU and dropout between them, ending in one number.

    Args:
        inputs: width of the input vector.
        hidden: widths of the layers between (the paper: 128 and 128).
        dropout: after each hidden layer, in training.
    """
    widths = [inputs, *hidden]
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.SiLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear(widths[-1], 1))
