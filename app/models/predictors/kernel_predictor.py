"""The predictor of checkpoints with kernel machines and perceptrons on descriptors and a potential's features."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from app.crystals.band import Band, FloatArray
from app.models.cards.card import Card
from app.models.graphs.ion_graphs import join_ion_graphs
from app.models.networks.hop_kernel import HopKernel
from app.models.networks.message_tables import MessageTables
from app.models.networks.world_machines import ION
from app.models.predictors.parallel_passes import Lanes
from app.models.predictors.predictor import Output, Predictor
from app.models.predictors.preparation import (
    COST_OF_COMPUTED_BOND,
    HopInputs,
    HopPreparation,
    Preparation,
    PreparedBand,
)
from app.models.predictors.relaxation import STEPS, Structure, band_structure, relax
from app.models.predictors.relaxed_descriptors import relaxed_descriptors

#: Forces cost about three forward passes of each of five images; an atom has some sixty bonds and pairs.
_COST_OF_RELAXED_ATOM = COST_OF_COMPUTED_BOND * 60 * 5 * 3 * (STEPS + 1)


@dataclass(frozen=True, kw_only=True)
class _RelaxingInputs:
    """The inputs of machines that read a relaxation as well."""

    hop: HopInputs
    structure: Structure


class KernelPredictor(Predictor):
    """A predictor with kernel machines.

    Args:
        card, network: as app.models.checkpoints.read_checkpoint returns them.
        device, lanes: see Predictor.
        tables: of the network's potential, on a CPU; a GPU computes the same values in less time.
    """

    def __init__(
        self,
        card: Card,
        network: HopKernel,
        *,
        device: torch.device,
        lanes: Lanes | None = None,
        tables: MessageTables | None = None,
    ) -> None:
        super().__init__(card, device=device, lanes=lanes)
        self._network = network.to(device).eval()  # without eval() the perceptrons would apply dropout
        self._tables = tables
        self._prepare = HopPreparation(domain=card.domain)

    @property
    def preparation(self) -> Preparation | None:
        """See Predictor.preparation; with a relaxation the cost of preparing is negligible."""
        return None if self._network.relaxes else self._prepare

    def graph(self, band: Band) -> PreparedBand:
        """Prepare a band: see Predictor.graph."""
        prepared = self._prepare(band)
        if not self._network.relaxes:
            return prepared
        structure = band_structure(band)
        return PreparedBand(
            inputs=_RelaxingInputs(hop=prepared.inputs, structure=structure),
            cost=prepared.cost + _COST_OF_RELAXED_ATOM * len(structure.numbers),
            reasons_outside=prepared.reasons_outside,
        )

    def cost(self, prepared: PreparedBand) -> int:
        """See Predictor.cost: without tables the messages between host atoms are computed."""
        if self._tables is not None:
            return prepared.cost
        hop = _hop(prepared)
        return prepared.cost - hop.cost + hop.computed_cost

    def warm_up(self) -> None:
        """Run bands of a few sizes; skipped where each takes seconds, which would delay the start."""
        if not self._network.relaxes:
            super().warm_up()

    def _outputs(self, piece: Sequence[PreparedBand]) -> list[Output]:
        groups = feature_groups(self._network, [_hop(item) for item in piece], self._tables, self._device)
        if self._network.relaxes:
            groups["relaxed"] = _tensor(self._relaxed(piece), self._device)
        answer = self._network.machines(groups)
        columns = [column.cpu().tolist() for column in (answer.output, answer.distance, answer.difficulty)]
        return [
            Output(
                value=value,
                distance=distance,
                difficulty=difficulty,
                leans_on=dict(zip(self._network.worlds, shares, strict=True)),
            )
            for value, distance, difficulty, shares in zip(*columns, answer.leans_on.cpu().tolist(), strict=True)
        ]

    def _relaxed(self, piece: Sequence[PreparedBand]) -> list[FloatArray]:
        structures: list[Structure] = [item.inputs.structure for item in piece]
        return [relaxed_descriptors(one) for one in relax(structures, self._network.potential, self._device)]


def feature_groups(
    network: HopKernel, hops: Sequence[HopInputs], tables: MessageTables | None, device: torch.device
) -> dict[str, torch.Tensor]:
    """Every group of features but the relaxed ones, each of shape [n_bands, its features], in the order of the bands.

    Args:
        network: its potential describes the ion.
        hops: at least one.
        tables: lookup tables of the potential's first layer; None computes it.
        device: of the network.
    """
    looked_up = [k for k, hop in enumerate(hops) if hop.looked_up and tables is not None]
    computed = sorted(set(range(len(hops))).difference(looked_up))
    parts = [
        network.ion_groups(join_ion_graphs([hops[k].bonds for k in these]).to(device), used)
        for these, used in ((looked_up, tables), (computed, None))
        if these
    ]
    order = torch.tensor([*looked_up, *computed], device=device).argsort()
    groups = {name: torch.cat([part[name] for part in parts])[order] for name in parts[0]}
    return groups | {
        "path": _tensor([hop.path for hop in hops], device),
        "eased": _tensor([hop.eased for hop in hops], device),
        ION: _tensor([hop.bonds.ion_numbers[:1].astype(np.float64) for hop in hops], device),
    }


def _tensor(rows: Sequence[FloatArray], device: torch.device) -> torch.Tensor:
    return torch.from_numpy(np.stack(rows)).to(device)


def _hop(prepared: PreparedBand) -> HopInputs:
    inputs: HopInputs | _RelaxingInputs = prepared.inputs
    return inputs.hop if isinstance(inputs, _RelaxingInputs) else inputs
