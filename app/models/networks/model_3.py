"""MODEL-3: the whole band as one structure, the host with all five images of the ion in it."""

from typing import ClassVar

import torch

from app.models.graphs.band_graphs import State
from app.models.graphs.shells import GraphBatch
from app.models.networks.alignn import Alignn
from app.models.networks.graph_network import GraphNetwork
from app.models.networks.readout import Readout, checked_readout, make_head, pooled


class Model3(GraphNetwork):
    """ALIGNN on the band, a mean over atoms, and a head (Devi, Butler and Sai Gautam 2026, MODEL-3).

    Args:
        trunk: keyword arguments of Alignn.
        head: widths of the head's hidden layers.
        dropout: of the head, in training.
        readout: see app.models.networks.readout.
    """

    states: ClassVar[tuple[State, ...]] = ("band",)

    def __init__(
        self,
        *,
        trunk: dict[str, int | bool],
        head: tuple[int, ...] | list[int] = (64,),
        dropout: float = 0.0,
        readout: Readout = "path",
    ) -> None:
        super().__init__()
        self.readout = checked_readout(readout)
        self.trunk = Alignn(**trunk)  # type: ignore[arg-type]  # the card keeps integers and flags in one mapping
        self.head = make_head(self.trunk.features, head, dropout=dropout)

    def forward(self, band: GraphBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """The transformed barrier, shape [n_graphs], and the vector it was read from, [n_graphs, features]."""
        vectors = pooled(self.trunk(band), band, self.readout)
        return self.head(vectors).squeeze(1), vectors
