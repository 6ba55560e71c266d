"""The ion's features along the band, arranged to be the same for both directions of a hop."""

import torch


def direction_free(along: torch.Tensor) -> torch.Tensor:
    """Features of ends, middle and quarters, middle minus ends, and the difference of the ends.

    Args:
        along: one value for each image of the model's band, shape [n_bands, 5, n_features].

    Returns:
        shape [n_bands, 5 * n_features].
    """
    first, second, middle, fourth, last = along.unbind(dim=1)
    ends = 0.5 * (first + last)
    parts = [ends, middle, 0.5 * (second + fourth), middle - ends, (first - last).abs()]
    return torch.cat(parts, dim=1)


def by_band(images: torch.Tensor, count: int) -> torch.Tensor:
    """Rows of images, shape [count * n_bands, n_features], as shape [n_bands, count, n_features]."""
    return images.reshape(-1, count, images.shape[-1])
