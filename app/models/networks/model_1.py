"""MODEL-1: the end points alone, each through the same trunk."""

from typing import ClassVar, Literal

import torch

from app.models.graphs.band_graphs import State
from app.models.graphs.shells import GraphBatch
from app.models.networks.alignn import Alignn
from app.models.networks.graph_network import GraphNetwork
from app.models.networks.readout import Readout, checked_readout, make_head, pooled

Joining = Literal["sum", "difference", "concatenation"]


class Model1(GraphNetwork):
    """ALIGNN on the initial and on the final structure, their vectors joined, and a head (MODEL-1 of the paper).

    Args:
        joining: how the two vectors are joined: initial + final, final - initial, or concatenated.
        trunk, head, dropout, readout: see Model3.
    """

    states: ClassVar[tuple[State, ...]] = ("initial", "final")

    def __init__(
        self,
        *,
        joining: Joining,
        trunk: dict[str, int | bool],
        head: tuple[int, ...] | list[int] = (64,),
        dropout: float = 0.0,
        readout: Readout = "path",
    ) -> None:
        super().__init__()
        if joining not in {"sum", "difference", "concatenation"}:
            raise ValueError(f"unknown joining {joining!r}: expected sum, difference or concatenation")
        self.joining = joining
        self.directional = joining != "sum"
        self.readout = checked_readout(readout)
        self.trunk = Alignn(**trunk)  # type: ignore[arg-type]  # the card keeps integers and flags in one mapping
        width = self.trunk.features * (2 if joining == "concatenation" else 1)
        self.head = make_head(width, head, dropout=dropout)

    def forward(self, initial: GraphBatch, final: GraphBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """The transformed barrier, shape [n_graphs], and the joined vectors, shape [n_graphs, width]."""
        before = pooled(self.trunk(initial), initial, self.readout)
        after = pooled(self.trunk(final), final, self.readout)
        if self.joining == "sum":
            vectors = before + after
        elif self.joining == "difference":
            vectors = after - before
        else:
            vectors = torch.cat([before, after], dim=1)
        return self.head(vectors).squeeze(1), vectors
