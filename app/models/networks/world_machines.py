"""Kernel machines of several corpora of barriers, and how far a band resembles the rows of each, as tensors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from app.models.networks.kernel_machines import VARIANCE_FLOOR, KernelAnswer, KernelMachine, KernelMetric

#: The group with the atomic number of the ion, shape [n, 1].
ION = "ion"


@dataclass(frozen=True, kw_only=True)
class Said:
    """What the regressions say of bands, before any difficulty.

    Attributes:
        output: the transformed barrier, shape [n].
        shares: of the worlds, shape [n, worlds].
        variance, spread, distance: see WorldMachines, shape [n].
    """

    output: torch.Tensor
    shares: torch.Tensor
    variance: torch.Tensor
    spread: torch.Tensor
    distance: torch.Tensor


class KernelView(KernelMetric):
    """Regressions with one Gaussian kernel on the same features: one of each world's rows, and one of all rows.

    Args:
        groups, features, rows, clip: see KernelMetric; the rows of all worlds, world by world.
        worlds: number of worlds.
    """

    weight: torch.Tensor
    intercept: torch.Tensor

    def __init__(self, *, groups: Sequence[str], features: int, rows: int, clip: float, worlds: int) -> None:
        super().__init__(groups=groups, features=features, rows=rows, clip=clip)
        self.register_buffer("weight", torch.zeros(rows, worlds + 1, dtype=torch.float64))
        self.register_buffer("intercept", torch.zeros(worlds + 1, dtype=torch.float64))

    def forward(self, kernel: torch.Tensor) -> torch.Tensor:
        """The transformed barrier as each world's rows have it, and as all rows have it, shape [n, worlds + 1]."""
        return kernel @ self.weight + self.intercept


class WorldMachines(nn.Module):
    """Barriers of several worlds: corpora whose labels and crystals differ, so that their fits do.

    Each view has a regression for every world and one for all rows; `mix` says how much each counts. A band's shares p
    of the worlds come from a regression of the rows' worlds with the mean kernel of the views; a world without the
    band's ion has none. The output is the mean of the regressions over the worlds by these shares, mixed with that of
    all rows. The difficulty is exp(sum_w a_w p_w + b log v + c s + d m + e): v is the variance that a Gaussian process
    with the mean kernel on the rows of each world would have, averaged by the shares, s the mean absolute deviation of
    the regressions from the output, m the output, and e a kernel regression of its own on what the other terms leave
    of the logarithm of the errors: bands of one kind share the size of their errors.

    Args:
        worlds: for each its name, its number of rows, and the atomic numbers of its ions.
        views: keyword arguments of each KernelView, but for the number of worlds.
        local: those of the kernel regression e; None for machines that have none, as those before it had.
    """

    mix: torch.Tensor
    lean: torch.Tensor
    prior: torch.Tensor
    difficulty: torch.Tensor

    def __init__(
        self,
        *,
        worlds: Sequence[Mapping[str, object]],
        views: Sequence[Mapping[str, object]],
        local: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__()
        self.names = tuple(str(world["name"]) for world in worlds)
        self.rows = [int(world["rows"]) for world in worlds]  # type: ignore[call-overload]  # from the card
        self.views = nn.ModuleList(
            KernelView(**view, worlds=len(worlds))  # type: ignore[arg-type]  # from the card
            for view in views
        )
        self.local = None if local is None else KernelMachine(**local)  # type: ignore[arg-type]  # from the card
        count = len(worlds)
        for number, rows in enumerate(self.rows):
            self.register_buffer(f"inverse_{number}", torch.zeros(rows, rows, dtype=torch.float64))
        # Of every view and regression: those of one world and those of all rows together add up to one.
        self.register_buffer("mix", torch.zeros(len(views), count + 1, dtype=torch.float64))
        self.register_buffer("lean", torch.zeros(sum(self.rows), count, dtype=torch.float64))
        self.register_buffer("prior", torch.zeros(count, dtype=torch.float64))
        self.register_buffer("difficulty", torch.zeros(count + 3, dtype=torch.float64))
        self._ions = [torch.tensor(world["ions"], dtype=torch.float64) for world in worlds]

    def forward(self, groups: Mapping[str, torch.Tensor]) -> KernelAnswer:
        """Answer for bands given as feature groups, each of shape [n, its features], with that of ION."""
        said = self.said(groups)
        others = torch.stack([torch.log(said.variance + VARIANCE_FLOOR), said.spread, said.output], dim=1)
        size = torch.cat([said.shares, others], dim=1) @ self.difficulty
        if self.local is not None:
            size = size + self.local(self.local.squared_distances(groups))
        return KernelAnswer(
            output=said.output,
            difficulty=torch.exp(size),
            distance=said.distance,
            leans_on=said.shares,
        )

    def said(self, groups: Mapping[str, torch.Tensor]) -> Said:
        """The same without its difficulty."""
        kernels, outputs, squared = [], [], []
        for view in self.views:
            assert isinstance(view, KernelView)
            squared.append(view.squared_distances(groups))
            kernels.append(torch.exp(-squared[-1]))
            outputs.append(view(kernels[-1]))
        kernel, apart = (torch.stack(values).mean(dim=0) for values in (kernels, squared))
        shares = self.shares(kernel, groups[ION])
        of_all = shares.new_ones(len(shares), 1)
        weights = self.mix[:, None] * torch.cat([shares, of_all], dim=1)
        each = torch.stack(outputs)
        output = (weights * each).sum(dim=(0, 2))
        return Said(
            output=output,
            shares=shares,
            variance=(shares * self._variances(kernel)).sum(dim=1),
            spread=(weights * (each - output[:, None]).abs()).sum(dim=(0, 2)),
            distance=(shares * self._distances(apart)).sum(dim=1),
        )

    def shares(self, kernel: torch.Tensor, ions: torch.Tensor) -> torch.Tensor:
        """How far each band resembles the rows of each world, shape [n, worlds]; they sum to one.

        Args:
            kernel: the mean of the views', shape [n, rows].
            ions: atomic numbers, shape [n, 1].
        """
        known = torch.stack([torch.isin(ions[:, 0], one.to(ions)) for one in self._ions], dim=1).double()
        likely = (kernel @ self.lean + self.prior).clamp(0.0, 1.0) * known
        # An ion that no world has leans on those with the most ions; a band unlike all rows on all that have its ion.
        total = likely.sum(dim=1, keepdim=True)
        variety = likely.new_tensor([len(ions) for ions in self._ions])
        own = self.prior * known
        own = torch.where(own.sum(dim=1, keepdim=True) > 0.0, own, known)  # no prior where no world shares its ions
        fallback = torch.where(known.sum(dim=1, keepdim=True) > 0.0, own, variety)
        chosen = torch.where(total > 0.0, likely, fallback)
        return chosen / chosen.sum(dim=1, keepdim=True)

    def _variances(self, kernel: torch.Tensor) -> torch.Tensor:
        parts = torch.split(kernel, self.rows, dim=1)
        explained = [
            ((part @ self.get_buffer(f"inverse_{number}")) * part).sum(dim=1) for number, part in enumerate(parts)
        ]
        return (1.0 - torch.stack(explained, dim=1)).clamp_min(0.0)

    def _distances(self, squared: torch.Tensor) -> torch.Tensor:
        nearest = [part.amin(dim=1) for part in torch.split(squared, self.rows, dim=1)]
        return torch.stack(nearest, dim=1).clamp_min(0.0).sqrt()
