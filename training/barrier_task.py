"""Barriers as a task: bands as graphs of a network's form, and the absolute error of the transformed barrier."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from app.models.graphs.shells import AtomGraph, GraphBatch, collate

#: The graphs of one band, one for each state that the network reads.
BandGraphs = tuple[AtomGraph, ...]

_CLEARED_BANDS = 64  # bands in one pass without gradients


@dataclass(frozen=True, kw_only=True)
class BarrierTask:
    """Some bands and their transformed barriers.

    Attributes:
        graphs: of the bands.
        targets: shape [n].
        batch_bands: approximate number of bands in a batch.
        seed: decides the order of the bands.
    """

    graphs: Sequence[BandGraphs]
    targets: np.ndarray
    batch_bands: int
    seed: int

    @property
    def steps(self) -> int:
        """Batches in an epoch."""
        return max(1, round(len(self.graphs) / self.batch_bands))

    def batches(self, epoch: int) -> Iterator[tuple[list[GraphBatch], torch.Tensor]]:
        """Every band once, each batch with its targets."""
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.graphs))
        for rows in np.array_split(order, self.steps):
            yield (
                joined([self.graphs[row] for row in rows]),
                torch.from_numpy(self.targets[rows].astype(np.float32)),
            )

    def loss(self, network: nn.Module, batch: Any, device: torch.device) -> torch.Tensor:
        """Mean absolute error."""
        graphs, targets = batch
        outputs, _ = network(*[graph.to(device) for graph in graphs])
        loss: torch.Tensor = (outputs.float() - targets.to(device)).abs().mean()
        return loss

    def validation_loss(self, network: nn.Module, device: torch.device) -> float | None:  # noqa: ARG002 - a Task's
        """None: a fold's rows are held out to evaluate the network and choose nothing."""
        return None


def joined(bands: Sequence[BandGraphs]) -> list[GraphBatch]:
    """A batch for each state."""
    return [collate(graphs) for graphs in zip(*bands, strict=True)]


@torch.no_grad()
def outputs_of(
    network: nn.Module, graphs: Sequence[BandGraphs], device: torch.device
) -> tuple[np.ndarray, torch.Tensor]:
    """The network's outputs, shape [n], and pooled vectors, shape [n, features], for bands in their order."""
    network.to(device).eval()
    results = []
    for start in range(0, len(graphs), _CLEARED_BANDS):
        batches = joined(graphs[start : start + _CLEARED_BANDS])
        results.append(network(*[batch.to(device) for batch in batches]))
    outputs = torch.cat([output for output, _ in results]).double().cpu().numpy()
    return outputs, torch.cat([vectors for _, vectors in results]).cpu()
