"""An ensemble of small perceptrons on named groups of features; its output is their mean."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import nn
from torch.nn import functional


class DescriptorNetworks(nn.Module):
    """Perceptrons with two hidden layers that differ only in initial weights and dropout.

    Features are centred, scaled and clipped; those that did not vary among the fitted bands are ignored.

    Args:
        groups: the feature groups that they read, in order.
        features: total number of features.
        hidden: width of both hidden layers.
        members: number of perceptrons.
        clip: largest distance of a feature from its centre, in units of its spread; farther ones are clipped to it.
        input_dropout, dropout: dropout rates of features and of hidden values while fitting.

    Attributes:
        centre: of every feature, shape [features].
        scale: the inverse of its spread, 0 for an ignored one, shape [features].
    """

    centre: torch.Tensor
    scale: torch.Tensor

    def __init__(
        self,
        *,
        groups: Sequence[str],
        features: int,
        hidden: int,
        members: int,
        clip: float,
        input_dropout: float = 0.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.groups = tuple(groups)
        self.clip = clip
        self.input_dropout, self.dropout = input_dropout, dropout
        self.register_buffer("centre", torch.zeros(features, dtype=torch.float64))
        self.register_buffer("scale", torch.zeros(features, dtype=torch.float64))
        sizes = ((features, hidden), (hidden, hidden), (hidden, 1))
        self.weights = nn.ParameterList(torch.zeros(members, *size) for size in sizes)
        self.biases = nn.ParameterList(torch.zeros(members, 1, size[1]) for size in sizes)

    def reset(self, generator: torch.Generator) -> None:
        """Draw initial weights; those of the last layer are small, so that outputs start near zero."""
        with torch.no_grad():
            for weight, gain in zip(self.weights, (1.0, 1.0, 0.3), strict=True):
                weight.normal_(0.0, gain / math.sqrt(weight.shape[1]), generator=generator)

    def place(self, groups: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Scaled features, shape [n, features]."""
        joined = torch.cat([groups[name].double() for name in self.groups], dim=1)
        return ((joined - self.centre) * self.scale).clamp(-self.clip, self.clip).float()

    def member_outputs(self, places: torch.Tensor) -> torch.Tensor:
        """The outputs of every perceptron for scaled features, shape [members, n]."""
        values = places.expand(len(self.weights[0]), *places.shape)
        values = functional.dropout(values, self.input_dropout, self.training)
        *hidden, (last_weight, last_bias) = zip(self.weights, self.biases, strict=True)
        for weight, bias in hidden:
            values = functional.silu(torch.baddbmm(bias, values, weight))
            values = functional.dropout(values, self.dropout, self.training)
        return torch.baddbmm(last_bias, values, last_weight)[..., 0]

    def forward(self, groups: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The transformed barrier of bands given as feature groups, shape [n]."""
        return self.member_outputs(self.place(groups)).double().mean(dim=0)
