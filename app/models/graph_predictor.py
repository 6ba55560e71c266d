"""Checkpoints whose network reads the band as one graph."""

from collections.abc import Sequence

import torch
from torch import nn

from app.crystals.band import Band
from app.models.cards import Card
from app.models.domain import reasons_outside
from app.models.graph_domain import VectorDistance, closest_approach_angstrom
from app.models.graphs import GraphSpec, band_graph, collate
from app.models.lanes import Lanes
from app.models.predictor import Output, Predictor
from app.models.preparation import PreparedBand, no_host_near_path


class GraphPredictor(Predictor):
    """Answers with a graph network.

    Args:
        card, network, domain_vectors: as app.models.checkpoints.read_checkpoint returns them.
        device, lanes: see Predictor.
    """

    def __init__(
        self,
        card: Card,
        network: nn.Module,
        domain_vectors: torch.Tensor,
        *,
        device: torch.device,
        lanes: Lanes | None = None,
    ) -> None:
        super().__init__(card, device=device, lanes=lanes)
        self._network = network.to(device)
        self._spec = GraphSpec(**card.graph)
        self._distance = VectorDistance(domain_vectors)

    def graph(self, band: Band) -> PreparedBand:
        """Prepares a band: see Predictor.graph."""
        graph = band_graph(band, self._spec)
        if not bool((graph.image_position < 0).any()):
            raise no_host_near_path(self._spec.outer_angstrom)
        return PreparedBand(
            inputs=graph,
            cost=max(1, graph.line_edge_count),
            reasons_outside=reasons_outside(band, closest_approach_angstrom(graph), self.card.domain),
        )

    def _outputs(self, piece: Sequence[PreparedBand]) -> list[Output]:
        outputs, vectors = self._network(collate([item.inputs for item in piece]).to(self._device))
        distances = self._distance(vectors.float().cpu())
        return [
            Output(value=float(value), distance=float(distance))
            for value, distance in zip(outputs.double().cpu().numpy(), distances, strict=True)
        ]
