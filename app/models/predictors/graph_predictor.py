"""The predictor of checkpoints whose network reads the band as graphs."""

from collections.abc import Sequence

import torch

from app.crystals.band import Band
from app.models.cards.card import Card
from app.models.graphs.band_graphs import band_graph
from app.models.graphs.shells import GraphSpec, collate
from app.models.networks.graph_network import GraphNetwork
from app.models.predictors.domain import reasons_outside
from app.models.predictors.graph_domain import VectorDistance, closest_approach_angstrom
from app.models.predictors.parallel_passes import Lanes
from app.models.predictors.predictor import Output, Predictor
from app.models.predictors.preparation import PreparedBand, no_host_near_path


class GraphPredictor(Predictor):
    """A predictor with a graph network.

    Args:
        card, network, domain_vectors: as app.models.checkpoints.read_checkpoint returns them.
        device, lanes: see Predictor.
    """

    def __init__(
        self,
        card: Card,
        network: GraphNetwork,
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
        """Prepare a band: see Predictor.graph."""
        graphs = tuple(band_graph(band, self._spec, state) for state in self._network.states)
        if not bool((graphs[0].image_position < 0).any()):
            raise no_host_near_path(self._spec.outer_angstrom)
        approach = min(map(closest_approach_angstrom, graphs))
        return PreparedBand(
            inputs=graphs,
            cost=max(1, sum(graph.line_edge_count for graph in graphs)),
            reasons_outside=reasons_outside(band, approach, self.card.domain),
        )

    def _outputs(self, piece: Sequence[PreparedBand]) -> list[Output]:
        states = zip(*[item.inputs for item in piece], strict=True)
        outputs, vectors = self._network(*[collate(graphs).to(self._device) for graphs in states])
        distances = self._distance(vectors.float().cpu())
        return [
            Output(value=float(value), distance=float(distance))
            for value, distance in zip(outputs.double().cpu().numpy(), distances, strict=True)
        ]
