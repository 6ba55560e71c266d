"""MODEL-3: the whole band as one structure, the host with all five images of the ion in it."""

from itertools import pairwise
from typing import Literal

import torch
from torch import nn
from torch_geometric.utils import scatter

from app.models.graphs import GraphBatch
from app.models.networks.alignn import Alignn


class Model3(nn.Module):
    """ALIGNN on the band, a mean over atoms, and a head (Devi, Butler and Sai Gautam 2026, MODEL-3).

    Args:
        trunk: keyword arguments of Alignn.
        head: widths of the head's hidden layers.
        dropout: of the head, in training.
        readout: "path" is the mean over atoms, each counting by its weight near the path; "ion" the mean over the
            ion's five images.
    """

    def __init__(
        self,
        *,
        trunk: dict[str, int | bool],
        head: tuple[int, ...] | list[int] = (64,),
        dropout: float = 0.0,
        readout: Literal["path", "ion"] = "path",
    ) -> None:
        super().__init__()
        if readout not in {"path", "ion"}:
            raise ValueError(f"no readout {readout!r}: path or ion")
        self.readout = readout
        self.trunk = Alignn(**trunk)  # type: ignore[arg-type]  # the card keeps integers and flags in one mapping
        widths = [self.trunk.features, *head]
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            layers += [nn.Linear(inputs, outputs), nn.SiLU(), nn.Dropout(dropout)]
        self.head = nn.Sequential(*layers, nn.Linear(widths[-1], 1))

    def forward(self, batch: GraphBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """The transformed barrier, shape [n_graphs], and the vector it was read from, [n_graphs, features]."""
        vectors = self.pooled(batch)
        return self.head(vectors).squeeze(1), vectors

    def pooled(self, batch: GraphBatch) -> torch.Tensor:
        """A vector for each band, shape [n_graphs, features]."""
        atoms = self.trunk(batch)
        weight = batch.node_weight if self.readout == "path" else (batch.image_position >= 0).to(atoms.dtype)
        total = _sum_by_graph(atoms * weight[:, None], batch)
        mean: torch.Tensor = total / _sum_by_graph(weight[:, None], batch)
        return mean


def _sum_by_graph(values: torch.Tensor, batch: GraphBatch) -> torch.Tensor:
    total: torch.Tensor = scatter(values, batch.graph_of_node, dim=0, dim_size=batch.graph_count, reduce="sum")
    return total
