"""A regression of log10 conductivity: monotone in a few physical numbers, corrected by measured relatives."""

import torch
from torch import nn


class ConductorRegression(nn.Module):
    """The sum of a linear part, which holds for any chemistry, and of a kernel's, which ends near the fitted crystals.

    The linear part's coefficients have the signs that physics gives them. The kernel is that of a Gaussian process on
    its residuals, over composition, volume and the same numbers; far from every fitted crystal it is zero.

    Args:
        descriptors: number of physical numbers.
        points: number of fitted crystals.
        features: of a crystal in the kernel's metric.
        clip: numbers are at most this many standard deviations from the mean.
        volume_weight, descriptor_weight: of these in the metric, beside the square roots of element shares.
        length: of the kernel.
    """

    medians: torch.Tensor
    means: torch.Tensor
    scales: torch.Tensor
    coefficients: torch.Tensor
    intercept: torch.Tensor
    median_log_volume: torch.Tensor
    points: torch.Tensor
    weights: torch.Tensor
    whitening: torch.Tensor

    def __init__(
        self,
        *,
        descriptors: int,
        points: int,
        features: int,
        clip: float,
        volume_weight: float,
        descriptor_weight: float,
        length: float,
    ) -> None:
        super().__init__()
        self.clip, self.length = clip, length
        self.volume_weight, self.descriptor_weight = volume_weight, descriptor_weight
        for name, shape in {
            "medians": (descriptors,),
            "means": (descriptors,),
            "scales": (descriptors,),
            "coefficients": (descriptors,),
            "intercept": (),
            "median_log_volume": (),
            "points": (points, features),
            "weights": (points,),
            "whitening": (points, points),
        }.items():
            self.register_buffer(name, torch.zeros(shape, dtype=torch.float64))

    def standardized(self, values: torch.Tensor) -> torch.Tensor:
        """Numbers in standard deviations from their mean, shape [n, descriptors]; a missing one is the median."""
        filled = torch.where(torch.isfinite(values), values, self.medians)
        return ((filled - self.means) / self.scales).clamp(-self.clip, self.clip)

    def metric(self, values: torch.Tensor, root_fractions: torch.Tensor, log_volume: torch.Tensor) -> torch.Tensor:
        """Coordinates in which the kernel has length 1, shape [n, features]; arguments as `forward`."""
        volume = torch.where(torch.isfinite(log_volume), log_volume, self.median_log_volume)[:, None]
        own = self.descriptor_weight * self.standardized(values)
        return torch.cat([root_fractions, self.volume_weight * volume, own], dim=1) / self.length

    def forward(
        self, values: torch.Tensor, root_fractions: torch.Tensor, log_volume: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Predict some crystals.

        Args:
            values: physical numbers, shape [n, descriptors]; NaN where missing.
            root_fractions: square roots of element shares, shape [n, elements].
            log_volume: log of the volume for each anion, shape [n].

        Returns:
            the linear part's terms, shape [n, descriptors]; the kernel's, shape [n]; and the novelty, shape [n]: the
            share of the process's variance that fitted crystals leave, 0 to 1.
        """
        near = kernel(self.metric(values, root_fractions, log_volume), self.points)
        terms = self.standardized(values) * self.coefficients
        known = (near @ self.whitening.T).square().sum(dim=1)
        return terms, near @ self.weights, (1.0 - known).clamp(0.0, 1.0)


def kernel(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """A Gaussian kernel of length 1 between coordinates, shape [n_one, n_other]."""
    return torch.exp(-0.5 * torch.cdist(one, other).square())
