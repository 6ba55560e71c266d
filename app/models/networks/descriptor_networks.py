"""Small perceptrons over named groups of features, several side by side; what they say is their mean."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import nn
from torch.nn import functional


class DescriptorNetworks(nn.Module):
    """Perceptrons with two hidden layers, alike but for their first weights and for what was dropped while fitted.

    Features are centred, scaled and clipped; one that did not vary among the fitted bands is not read.

    Args:
        groups: the feature groups that they read, in order.
        features: how many features they have together.
        hidden: width of both hidden layers.
        members: how many perceptrons.
        clip: features farther from their centre are taken as this far, in units of their spread.
        input_dropout, dropout: shares of the features and of the hidden values left out while fitting.

    Attributes:
        centre: of every feature, shape [features].
        scale: the inverse of its spread, 0 for one that is not read, shape [features].
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
        """Draw first weights; the last layer's are small, so that the members begin near to zero."""
        with torch.no_grad():
            for weight, gain in zip(self.weights, (1.0, 1.0, 0.3), strict=True):
                weight.normal_(0.0, gain / math.sqrt(weight.shape[1]), generator=generator)

    def place(self, groups: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Features as the perceptrons read them, shape [n, features]."""
        joined = torch.cat([groups[name].double() for name in self.groups], dim=1)
        return ((joined - self.centre) * self.scale).clamp(-self.clip, self.clip).float()

    def member_outputs(self, places: torch.Tensor) -> torch.Tensor:
        """What every perceptron says of placed features, shape [members, n]."""
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
