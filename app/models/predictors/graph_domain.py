"""Distances of graphs and of their pooled vectors to those that a network was fitted on."""

import numpy as np
import torch

from app.models.graphs.shells import AtomGraph


def closest_approach_angstrom(graph: AtomGraph) -> float:
    """The shortest distance from the ion to a host atom at any image, angstrom; infinite without neighbours."""
    of_ion = (graph.image_position[graph.edge_target] >= 0) & (graph.image_position[graph.edge_source] < 0)
    lengths = graph.edge_vector_angstrom[of_ion].norm(dim=1)
    return float(lengths.min()) if len(lengths) else float("inf")


class VectorDistance:
    """Distance of pooled vectors to the nearest fitted one, in units of the fitted vectors' spread.

    Args:
        fitted: pooled vectors of the fitted bands, shape [n, features].
    """

    def __init__(self, fitted: torch.Tensor) -> None:
        self.spread = fitted.std(dim=0).clamp_min(1e-3)
        self.fitted = fitted / self.spread

    def __call__(self, vectors: torch.Tensor) -> np.ndarray:
        """The distance to the nearest fitted band, shape [n]."""
        return np.asarray(self._all(vectors).min(dim=1).values)

    def fitted_quantile(self, level: float) -> float:
        """The quantile of the fitted bands' distances to their nearest other one."""
        distances = self._all(self.fitted * self.spread)
        distances.fill_diagonal_(float("inf"))
        return float(distances.min(dim=1).values.quantile(level))

    def _all(self, vectors: torch.Tensor) -> torch.Tensor:
        features = vectors.shape[1]
        distances: torch.Tensor = torch.cdist(vectors / self.spread, self.fitted) / features**0.5
        return distances
