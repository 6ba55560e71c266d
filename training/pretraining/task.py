"""Bulk properties as a task: batches of similar cost, and an absolute error over the values that a row has."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from app.models.graphs.shells import GraphBatch, collate
from training.pretraining.crystals import CrystalSet


@dataclass(frozen=True, kw_only=True)
class PropertyTask:
    """Some crystals and their scaled properties.

    A batch is a random mixture of small and large crystals: batches of one size each would be as fast, but batch
    normalisation would then remove what the simple chemistry of small cells has in common.

    Attributes:
        crystals: all of them.
        fitted, validated: row numbers.
        targets: scaled, NaN where a row has none, shape [n_rows, n_properties].
        weights: of the errors of each property, shape [n_properties].
        batch_line_edges: edges of line graphs in a batch.
        seed: decides the order of the rows.
    """

    crystals: CrystalSet
    fitted: np.ndarray
    validated: np.ndarray
    targets: np.ndarray
    weights: np.ndarray
    batch_line_edges: int
    seed: int

    @property
    def steps(self) -> int:
        """Batches in an epoch."""
        wanted = -(-int(self.crystals.line_counts[self.fitted].sum()) // self.batch_line_edges)
        return min(wanted, len(self.fitted))

    def batches(self, epoch: int) -> Iterator[tuple[GraphBatch, torch.Tensor]]:
        """Every row once, in batches of equal cost, each with its targets."""
        order = np.random.default_rng([self.seed, epoch]).permutation(self.fitted)
        cost = self.crystals.line_counts[order].cumsum()
        cuts = np.searchsorted(cost, np.arange(1, self.steps) * cost[-1] / self.steps)
        # A single crystal may cost more than the budget of a batch: every batch has at least one all the same.
        cuts = np.maximum.accumulate(np.maximum(cuts - np.arange(len(cuts)), 1)) + np.arange(len(cuts))
        cuts = np.minimum(cuts, len(order) - np.arange(len(cuts), 0, -1))
        for rows in np.split(order, cuts):
            yield self._batch(rows)

    def loss(self, network: nn.Module, batch: Any, device: torch.device) -> torch.Tensor:
        """Weighted absolute error of the values that the rows have, per row."""
        graphs, targets = batch
        outputs = network(graphs.to(device)).float()
        targets = targets.to(device)
        known = torch.isfinite(targets)
        error = (outputs - torch.where(known, targets, 0.0)).abs() * known
        weights = torch.from_numpy(self.weights.astype(np.float32)).to(device)
        loss: torch.Tensor = (error * weights).sum() / len(targets)
        return loss

    def validation_loss(self, network: nn.Module, device: torch.device) -> float | None:
        """The same loss of the validation rows."""
        if not len(self.validated):
            return None
        outputs = outputs_of(network, self.crystals, self.validated, self.batch_line_edges, device)
        error = np.nan_to_num(np.abs(outputs - self.targets[self.validated]))
        return float((error * self.weights).sum() / len(self.validated))

    def _batch(self, rows: np.ndarray) -> tuple[GraphBatch, torch.Tensor]:
        graphs = [self.crystals.graph(int(row)) for row in rows]
        return collate(graphs), torch.from_numpy(self.targets[rows].astype(np.float32))


@torch.no_grad()
def outputs_of(
    network: nn.Module, crystals: CrystalSet, rows: np.ndarray, batch_line_edges: int, device: torch.device
) -> np.ndarray:
    """The network's outputs for some rows in their order, shape [n, n_properties]."""
    network.to(device).eval()
    # Crystals of similar size together, so that batches come close to the budget.
    order = rows[np.argsort(crystals.line_counts[rows], kind="stable")]
    piece = (crystals.line_counts[order].cumsum() // batch_line_edges).astype(np.int64)
    results = [
        network(collate([crystals.graph(int(row)) for row in order[piece == number]]).to(device)).float().cpu()
        for number in np.unique(piece)
    ]
    place = np.argsort(np.argsort(crystals.line_counts[rows], kind="stable"))
    return np.asarray(torch.cat(results).double().numpy()[place])
