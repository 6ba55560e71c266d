"""Kernel machines on named groups of features, as tensors, and their mean with that of perceptrons."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from app.models.networks.descriptor_networks import DescriptorNetworks

#: Added to the variance, so that its logarithm is finite for a fitted band.
VARIANCE_FLOOR = 0.05


@dataclass(frozen=True, kw_only=True)
class KernelAnswer:
    """The predictions of the machines for some bands.

    Attributes:
        output: the transformed barrier, shape [n].
        difficulty: the expected error of the output, in the same units, shape [n].
        distance: to the nearest fitted band, in the last machine's metric or the mean of the views', shape [n].
        leans_on: how far each band resembles each of several corpora, shape [n, corpora]; no columns where the
            machines do not know them apart.
    """

    output: torch.Tensor
    difficulty: torch.Tensor
    distance: torch.Tensor
    leans_on: torch.Tensor


class KernelMetric(nn.Module):
    """Distances between bands in scaled features.

    Features are centred, scaled and clipped; the kernel's width and the groups' shares are in the scale.

    Args:
        groups: the feature groups that it reads, in order.
        features: total number of features.
        rows: number of fitted bands.
        clip: largest distance of a feature from its centre, in units of its spread; farther ones are clipped to it.
    """

    centre: torch.Tensor
    spread: torch.Tensor
    share: torch.Tensor
    support: torch.Tensor

    def __init__(self, *, groups: Sequence[str], features: int, rows: int, clip: float) -> None:
        super().__init__()
        self.groups = tuple(groups)
        self.clip = clip
        for name, shape in (
            ("centre", (features,)),
            ("spread", (features,)),
            ("share", (features,)),
            ("support", (rows, features)),
        ):
            self.register_buffer(name, torch.zeros(shape, dtype=torch.float64))
        self._kept: tuple[torch.Tensor, int, torch.Tensor] | None = None

    def place(self, groups: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Scaled features of bands, shape [n, features]."""
        joined = torch.cat([groups[name].double() for name in self.groups], dim=1)
        return ((joined - self.centre) / self.spread).clamp(-self.clip, self.clip) * self.share

    def squared_distances(self, groups: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Squared distances from every band to every fitted one, shape [n, rows].

        |x|^2 - 2 x.s + |s|^2: torch.cdist takes five times as long for a single band, as it multiplies nothing there.
        """
        place = self.place(groups)
        squared = torch.addmm(self._squared_lengths()[None], place, self.support.T, alpha=-2.0)
        return squared.add(torch.linalg.vecdot(place, place)[:, None]).clamp_min(0.0)

    def _squared_lengths(self) -> torch.Tensor:
        """Of every fitted band's scaled features, shape [rows]; kept until these are other ones."""
        kept, version = self._kept, self.support._version  # noqa: SLF001 # has no other name
        if kept is None or kept[0] is not self.support or kept[1] != version:
            kept = self._kept = self.support, version, torch.linalg.vecdot(self.support, self.support)
        return kept[2]


class KernelMachine(KernelMetric):
    """A regression with a Gaussian kernel: sum_i w_i exp(-|x - x_i|^2) + b.

    Args:
        groups, features, rows, clip: see KernelMetric.
    """

    weight: torch.Tensor
    intercept: torch.Tensor

    def __init__(self, *, groups: Sequence[str], features: int, rows: int, clip: float) -> None:
        super().__init__(groups=groups, features=features, rows=rows, clip=clip)
        self.register_buffer("weight", torch.zeros(rows, dtype=torch.float64))
        self.register_buffer("intercept", torch.zeros((), dtype=torch.float64))

    def forward(self, squared_distances: torch.Tensor) -> torch.Tensor:
        """The output from the distances, shape [n]."""
        return torch.exp(-squared_distances) @ self.weight + self.intercept


class KernelMachines(nn.Module):
    """The mean of several machines, perceptrons included, and its expected error.

    The difficulty is exp(a + b log v + c s + d m): v is the variance that a Gaussian process with the last machine's
    kernel would have, s the spread of the machines' outputs, m their mean.

    Args:
        machines: keyword arguments of each KernelMachine.
        networks: keyword arguments of each DescriptorNetworks, which counts as one machine.
    """

    inverse: torch.Tensor
    difficulty: torch.Tensor

    def __init__(
        self, *, machines: Sequence[Mapping[str, object]], networks: Sequence[Mapping[str, object]] = ()
    ) -> None:
        super().__init__()
        members = [KernelMachine(**keywords) for keywords in machines]  # type: ignore[arg-type]  # from the card
        self.machines = nn.ModuleList(members)
        self.networks = nn.ModuleList(
            DescriptorNetworks(**keywords)  # type: ignore[arg-type]  # from the card
            for keywords in networks
        )
        rows = len(members[-1].support) if members else 0
        self.register_buffer("inverse", torch.zeros(rows, rows, dtype=torch.float64))
        self.register_buffer("difficulty", torch.zeros(4, dtype=torch.float64))

    def forward(self, groups: Mapping[str, torch.Tensor]) -> KernelAnswer:
        """Answer for bands given as feature groups, each of shape [n, its features]."""
        outputs = []
        squared = torch.empty(0)
        for machine in self.machines:
            assert isinstance(machine, KernelMachine)
            squared = machine.squared_distances(groups)
            outputs.append(machine(squared))
        outputs += [network(groups) for network in self.networks]
        stacked = torch.stack(outputs)
        mean = stacked.mean(dim=0)
        kernel = torch.exp(-squared)
        variance = (1.0 - ((kernel @ self.inverse) * kernel).sum(dim=1)).clamp_min(0.0)
        spread = stacked.amax(dim=0) - stacked.amin(dim=0)
        terms = torch.stack([torch.ones_like(mean), torch.log(variance + VARIANCE_FLOOR), spread, mean])
        return KernelAnswer(
            output=mean,
            difficulty=torch.exp(self.difficulty @ terms),
            distance=squared.amin(dim=1).clamp_min(0.0).sqrt(),
            leans_on=mean.new_zeros(len(mean), 0),
        )
