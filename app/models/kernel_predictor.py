"""Checkpoints of kernel machines over a hop's descriptors and a potential's features."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from app.crystals.band import Band, FloatArray
from app.models.cards import Card
from app.models.domain import reasons_outside
from app.models.features.path import path_descriptors
from app.models.features.relaxed import relaxed_descriptors
from app.models.ion_graphs import IonGraph, ion_graph, join_ion_graphs
from app.models.lanes import Lanes
from app.models.networks.chgnet import ATOM_CUTOFF_ANGSTROM
from app.models.networks.hop_kernel import HopKernel
from app.models.predictor import Output, Predictor, PreparedBand, no_host_near_path
from app.models.relaxation import STEPS, Structure, band_structure, relax

#: A bond or a pair of bonds costs about as much as four edges of a line graph (measured on a CPU).
_COST_OF_BOND = 4
#: Forces cost about three forward passes of each of five images; an atom has some sixty bonds and pairs.
_COST_OF_RELAXED_ATOM = _COST_OF_BOND * 60 * 5 * 3 * (STEPS + 1)


@dataclass(frozen=True, kw_only=True)
class HopInputs:
    """What the machines read of a band, before the potential has run."""

    graph: IonGraph
    path: FloatArray
    structure: Structure | None


def hop_inputs(band: Band, *, relaxes: bool) -> HopInputs:
    """Prepares a band of any number of images.

    Raises:
        InputError: no host atom is near the ion's path, so there is no crystal to predict from.
    """
    graph = ion_graph(band)
    if not len(graph.ion_host):
        raise no_host_near_path(ATOM_CUTOFF_ANGSTROM)
    return HopInputs(
        graph=graph,
        path=path_descriptors(band).values,
        structure=band_structure(band) if relaxes else None,
    )


class KernelPredictor(Predictor):
    """Answers with kernel machines.

    Args:
        card, network: as app.models.checkpoints.read_checkpoint returns them.
        device, lanes: see Predictor.
    """

    def __init__(self, card: Card, network: HopKernel, *, device: torch.device, lanes: Lanes | None = None) -> None:
        super().__init__(card, device=device, lanes=lanes)
        self._network = network.to(device)

    def graph(self, band: Band) -> PreparedBand:
        """Prepares a band: see Predictor.graph."""
        inputs = hop_inputs(band, relaxes=self._network.relaxes)
        cost = _COST_OF_BOND * inputs.graph.cost
        if inputs.structure is not None:
            cost += _COST_OF_RELAXED_ATOM * len(inputs.structure.numbers)
        closest = float(inputs.graph.ion_vector.norm(dim=1).min())
        return PreparedBand(inputs=inputs, cost=cost, reasons_outside=reasons_outside(band, closest, self.card.domain))

    def warm_up(self) -> None:
        """Runs bands of a few sizes; not where each takes seconds anyway, which a start would wait for."""
        if not self._network.relaxes:
            super().warm_up()

    def _outputs(self, piece: Sequence[PreparedBand]) -> list[Output]:
        inputs: list[HopInputs] = [item.inputs for item in piece]
        structures = [item.structure for item in inputs if item.structure is not None]
        relaxed = (
            [relaxed_descriptors(one) for one in relax(structures, self._network.potential, self._device)]
            if structures
            else None
        )
        answer = self._network(
            join_ion_graphs([item.graph for item in inputs]).to(self._device),
            self._tensor([item.path for item in inputs]),
            None if relaxed is None else self._tensor(relaxed),
        )
        columns = [column.cpu().tolist() for column in (answer.output, answer.distance, answer.difficulty)]
        return [
            Output(value=value, distance=distance, difficulty=difficulty)
            for value, distance, difficulty in zip(*columns, strict=True)
        ]

    def _tensor(self, rows: Sequence[FloatArray]) -> torch.Tensor:
        return torch.from_numpy(np.stack(rows)).to(self._device)
