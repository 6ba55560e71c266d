"""MODEL-4: the band as MODEL-3 reads it, with self-attention over its atoms."""

from typing import ClassVar

import torch
from torch import nn

from app.models.graphs.band_graphs import State
from app.models.graphs.shells import GraphBatch
from app.models.networks.alignn import Alignn
from app.models.networks.graph_network import GraphNetwork
from app.models.networks.readout import Readout, checked_readout, make_head, pooled


class Model4(GraphNetwork):
    """ALIGNN on the band, attention among its atoms, a mean, and a head (MODEL-4 of the paper).

    The pooled vector is LayerNorm(mean of the atoms + mean of the attended vectors).

    Args:
        attention_heads, attention_dropout: of the self-attention (the paper: 4 and 0.2).
        trunk, head, dropout, readout: see Model3.
    """

    states: ClassVar[tuple[State, ...]] = ("band",)

    def __init__(
        self,
        *,
        trunk: dict[str, int | bool],
        head: tuple[int, ...] | list[int] = (64,),
        dropout: float = 0.0,
        readout: Readout = "path",
        attention_heads: int = 4,
        attention_dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.readout = checked_readout(readout)
        self.trunk = Alignn(**trunk)  # type: ignore[arg-type]  # the card keeps integers and flags in one mapping
        features = self.trunk.features
        self.attention = nn.MultiheadAttention(features, attention_heads, dropout=attention_dropout, batch_first=True)
        self.norm = nn.LayerNorm(features)
        self.head = make_head(features, head, dropout=dropout)

    def forward(self, band: GraphBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """The transformed barrier, shape [n_graphs], and the vector it was read from, [n_graphs, features]."""
        atoms = self.trunk(band)
        attended = self._attended(atoms, band)
        vectors = self.norm(pooled(atoms, band, self.readout) + pooled(attended, band, self.readout))
        return self.head(vectors).squeeze(1), vectors

    def _attended(self, atoms: torch.Tensor, band: GraphBatch) -> torch.Tensor:
        """The attended vector of each atom among those of its own graph, shape [n_nodes, features]."""
        sizes = torch.bincount(band.graph_of_node, minlength=band.graph_count)
        longest = int(sizes.max())
        place = torch.arange(len(atoms), device=atoms.device) - (sizes.cumsum(0) - sizes)[band.graph_of_node]
        padded = atoms.new_zeros(band.graph_count, longest, atoms.shape[1])
        padded[band.graph_of_node, place] = atoms
        # Attention is weighted by an atom's weight, so that atoms fade out smoothly at the edge of the graph.
        logarithm = atoms.new_full((band.graph_count, longest), float("-inf"))
        logarithm[band.graph_of_node, place] = band.node_weight.to(atoms.dtype).log()
        attended, _ = self.attention(padded, padded, padded, key_padding_mask=logarithm, need_weights=False)
        gathered: torch.Tensor = attended[band.graph_of_node, place]
        return gathered
