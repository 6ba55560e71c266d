"""A loaded checkpoint that answers for bands: graphs in, predictions out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from app.crystals.band import Band
from app.errors import InputError
from app.models.cards import Card
from app.models.domain import VectorDistance, reasons_outside
from app.models.graphs import BandGraph, GraphBatch, GraphSpec, band_graph, collate
from app.models.lanes import Lanes
from app.models.prediction import Prediction

# On a CPU, larger pieces are no faster and hold memory (40 MB a tensor); smaller ones ask for the interpreter more
# often, behind the threads that read and answer: pieces of 40,000 gave the service four fifths of this throughput.
_CPU_PIECE_LINE_EDGES = 160_000


class OutOfMemoryError(Exception):
    """The device has no room for a batch; a smaller one may fit."""


@dataclass(frozen=True, kw_only=True)
class PreparedBand:
    """A band's graph, and what of its chemistry and geometry the model has never seen."""

    graph: BandGraph
    reasons_outside: tuple[str, ...]


class Predictor:
    """Answers with one checkpoint on one device.

    Args:
        card, network, domain_vectors: as app.models.checkpoints.read_checkpoint returns them.
        device: where the network runs.
        lanes: where the pieces of a batch run side by side, on a CPU; None runs a batch whole.
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
        self.card = card
        self.name = card.name
        self.version = card.version
        self.digest = card.digest
        self._device = device
        self._lanes = lanes
        self._network = network.to(device)
        self._spec = GraphSpec(**card.graph)
        self._distance = VectorDistance(domain_vectors)
        self._residuals = np.asarray(card.calibration.residual_quantiles)

    @property
    def device(self) -> str:
        """The device's name, such as "cpu" or "cuda:0"."""
        return str(self._device)

    def graph(self, band: Band) -> PreparedBand:
        """Prepares a band of any number of images; safe to call from several threads.

        Raises:
            InputError: no host atom is near the ion's path, so there is no crystal to predict from.
        """
        graph = band_graph(band, self._spec)
        if not bool((graph.image_position < 0).any()):
            raise InputError(
                f"no host atom lies within {self._spec.outer_angstrom:g} angstrom of the ion's path",
                kind="no-host-near-path",
                expected="a crystal around the ion",
            )
        return PreparedBand(graph=graph, reasons_outside=reasons_outside(band, graph, self.card.domain))

    @staticmethod
    def cost(prepared: PreparedBand) -> int:
        """What a forward pass of this band costs, in edges of the line graph."""
        return max(1, prepared.graph.line_edge_count)

    def predict(self, prepared: Sequence[PreparedBand]) -> list[Prediction]:
        """Predicts all bands; each gets the answer that it would get alone.

        Raises:
            OutOfMemoryError: the device has no room for so many at once.
        """
        if self._lanes is None:
            return self._predict_piece(prepared)
        pieces = _split(prepared, self._lanes.threads)
        return [prediction for piece in self._lanes.map(self._predict_piece, pieces) for prediction in piece]

    def warm_up(self) -> None:
        """Runs bands of a few sizes, so that the first caller does not wait for kernels to be chosen."""
        lattice = np.eye(3) * 8.4
        corners = np.stack(np.meshgrid(*[np.arange(4) / 4] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
        band = Band(
            lattice_angstrom=lattice,
            host_species=("Mg", "O") * (len(corners) // 2),
            host_frac_coords=corners,
            ion="Li",
            image_frac_coords=np.array([[0.125, 0.125, 0.125], [0.375, 0.125, 0.125]]),
        )
        prepared = self.graph(band)
        for count in (1, 2, 4):
            self.predict([prepared] * count)

    def _predict_piece(self, piece: Sequence[PreparedBand]) -> list[Prediction]:
        if not piece:
            return []
        outputs, vectors = self._forward(collate([item.graph for item in piece]))
        distances = self._distance(vectors)
        return [
            self._prediction(float(output), float(distance), item.reasons_outside)
            for output, distance, item in zip(outputs, distances, piece, strict=True)
        ]

    def _forward(self, batch: GraphBatch) -> tuple[np.ndarray, torch.Tensor]:
        try:
            with torch.inference_mode():
                outputs, vectors = self._network(batch.to(self._device))
                return outputs.double().cpu().numpy(), vectors.float().cpu()
        except torch.OutOfMemoryError as error:
            torch.cuda.empty_cache()
            raise OutOfMemoryError(str(error)) from error
        except MemoryError as error:
            raise OutOfMemoryError(str(error)) from error
        except RuntimeError as error:
            if "can't allocate memory" in str(error) or "not enough memory" in str(error):
                raise OutOfMemoryError(str(error)) from error
            raise

    def _prediction(self, output: float, distance: float, reasons: tuple[str, ...]) -> Prediction:
        threshold = self.card.domain.vector_distance
        if distance > threshold:
            unlike = (
                f"the surroundings of the path are unlike any fitted band's (distance {distance:.2f}, "
                f"fitted bands lie within {threshold:.2f} of another)"
            )
            reasons = (*reasons, unlike)
        factor = self.card.calibration.outside_factor if reasons else 1.0
        quantiles = self._barrier_ev(output + factor * self._residuals)
        return Prediction(
            barrier_ev=float(self._barrier_ev(np.array([output]))[0]),
            quantiles_ev=tuple(float(value) for value in quantiles),
            in_domain=not reasons,
            domain_reasons=reasons,
        )

    def _barrier_ev(self, outputs: np.ndarray) -> np.ndarray:
        target = self.card.target
        # A hop always climbs: what the transform would put below zero is a barrier too small to tell.
        return np.maximum(np.exp(outputs * target.scale + target.mean) - target.offset_ev, 0.0)


def _split(prepared: Sequence[PreparedBand], ways: int) -> list[Sequence[PreparedBand]]:
    """A batch in pieces of like cost, at least one for each way, none too large for memory."""
    whole = sum(Predictor.cost(item) for item in prepared)
    largest = min(_CPU_PIECE_LINE_EDGES, whole / ways)
    pieces: list[Sequence[PreparedBand]] = []
    start, cost = 0, 0
    for number, item in enumerate(prepared):
        if number > start and cost + Predictor.cost(item) / 2 > largest:
            pieces.append(prepared[start:number])
            start, cost = number, 0
        cost += Predictor.cost(item)
    return [*pieces, prepared[start:]]
