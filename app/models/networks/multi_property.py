"""MPT: one trunk with a head for each bulk property, trained on all of them at once."""

import torch
from torch import nn

from app.models.graphs.shells import GraphBatch
from app.models.networks.alignn import Alignn
from app.models.networks.readout import make_head, pooled


class MultiProperty(nn.Module):
    """ALIGNN on a crystal, a mean over atoms, and a head a property (Devi, Butler and Sai Gautam 2024, MPT).

    Args:
        properties: names of the properties, in the order of the outputs.
        trunk: keyword arguments of Alignn.
        head: widths of every head's hidden layers.
    """

    def __init__(
        self,
        *,
        properties: tuple[str, ...] | list[str],
        trunk: dict[str, int | bool],
        head: tuple[int, ...] | list[int] = (128, 128),
    ) -> None:
        super().__init__()
        self.properties = tuple(properties)
        self.trunk = Alignn(**trunk)  # type: ignore[arg-type]  # the card keeps integers and flags in one mapping
        self.heads = nn.ModuleList(make_head(self.trunk.features, head) for _ in properties)

    def forward(self, crystals: GraphBatch) -> torch.Tensor:
        """Scaled properties, shape [n_graphs, n_properties]."""
        vectors = pooled(self.trunk(crystals), crystals, "path")
        return torch.cat([head(vectors) for head in self.heads], dim=1)
