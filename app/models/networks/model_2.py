"""MODEL-2: the initial structure through the trunk, and the change over the hop through a shallow trunk."""

from typing import ClassVar

import torch

from app.models.graphs.band_graphs import State
from app.models.graphs.shells import GraphBatch
from app.models.networks.alignn import Alignn
from app.models.networks.graph_network import GraphNetwork
from app.models.networks.readout import Readout, checked_readout, make_head, pooled


class Model2(GraphNetwork):
    """ALIGNN on the initial structure, a second and shallow ALIGNN on both, and a head (MODEL-2 of the paper).

    Args:
        trunk: keyword arguments of Alignn.
        shallow: of the second one (the paper: one layer of each kind).
        head, dropout, readout: see Model3.
    """

    states: ClassVar[tuple[State, ...]] = ("initial", "final")
    directional = True

    def __init__(
        self,
        *,
        trunk: dict[str, int | bool],
        shallow: dict[str, int | bool],
        head: tuple[int, ...] | list[int] = (64,),
        dropout: float = 0.0,
        readout: Readout = "path",
    ) -> None:
        super().__init__()
        self.readout = checked_readout(readout)
        self.trunk = Alignn(**trunk)  # type: ignore[arg-type]  # the card keeps integers and flags in one mapping
        self.shallow = Alignn(**shallow)  # type: ignore[arg-type]  # as above
        self.head = make_head(self.trunk.features + self.shallow.features, head, dropout=dropout)

    def forward(self, initial: GraphBatch, final: GraphBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """The transformed barrier, shape [n_graphs], and the joined vectors, shape [n_graphs, width]."""
        before = pooled(self.shallow(initial), initial, self.readout)
        after = pooled(self.shallow(final), final, self.readout)
        whole = pooled(self.trunk(initial), initial, self.readout)
        vectors = torch.cat([whole, after - before], dim=1)
        return self.head(vectors).squeeze(1), vectors
