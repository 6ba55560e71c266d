"""Whether a band resembles what a model was fitted on, and in words why not."""

import numpy as np
import torch

from app.crystals.band import Band, model_band
from app.models.cards import Domain
from app.models.graphs import AtomGraph


def closest_approach_angstrom(graph: AtomGraph) -> float:
    """The shortest distance from any image of the ion to a host atom, angstrom; infinite where none is a neighbour."""
    of_ion = (graph.image_position[graph.edge_target] >= 0) & (graph.image_position[graph.edge_source] < 0)
    lengths = graph.edge_vector_angstrom[of_ion].norm(dim=1)
    return float(lengths.min()) if len(lengths) else float("inf")


def reasons_outside(band: Band, closest_approach: float, domain: Domain) -> tuple[str, ...]:
    """What of a band the model has never seen, a sentence each, from its chemistry and geometry.

    Args:
        band: as it was uploaded.
        closest_approach: of the ion to a host atom at any image, angstrom.
        domain: what the fitted bands cover.
    """
    reasons = []
    if band.ion not in domain.ions:
        reasons.append(f"no {band.ion} migration among the fitted barriers (they are of {', '.join(domain.ions)})")
    unknown = sorted(set(band.host_species) - set(domain.elements))
    if unknown:
        reasons.append(f"no fitted host contains {', '.join(unknown)}")
    band = model_band(band)
    reasons += _range_reason("the hop's length", band.hop_distance_angstrom, domain.hop_distance_angstrom)
    reasons += _range_reason(
        "the ion's closest approach to a host atom",
        closest_approach,
        domain.closest_approach_angstrom,
    )
    return tuple(reasons)


def _range_reason(what: str, value: float, bounds: tuple[float, float]) -> list[str]:
    low, high = bounds
    if low <= value <= high:
        return []
    return [f"{what}, {value:.2f} angstrom, is outside the fitted {low:.2f} to {high:.2f} angstrom"]


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
