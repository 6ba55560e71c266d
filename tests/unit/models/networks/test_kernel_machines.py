"""Distances to fitted bands: as exact as one by one, and never those of earlier ones."""

import pytest
import torch

from app.models.networks.kernel_machines import KernelMetric


def metric() -> KernelMetric:
    made = KernelMetric(groups=["x"], features=40, rows=30, clip=6.0)
    generator = torch.Generator().manual_seed(0)
    made.spread.fill_(2.0)
    made.share.fill_(0.7)
    made.support.copy_(torch.randn(30, 40, generator=generator))
    return made


@pytest.mark.parametrize("count", [1, 7])
def test_squared_distances_are_those_of_pairs(count: int) -> None:
    made = metric()
    groups = {"x": torch.randn(count, 40, generator=torch.Generator().manual_seed(1))}
    exact = (made.place(groups)[:, None] - made.support[None]).square().sum(dim=2)
    torch.testing.assert_close(made.squared_distances(groups), exact, rtol=1e-13, atol=1e-12)
    own = {"x": (made.support[:3] / made.share * made.spread + made.centre)}
    assert made.squared_distances(own).diagonal().abs().max() < 1e-12
    assert (made.squared_distances(own) >= 0.0).all()


def test_distances_follow_other_fitted_bands() -> None:
    made, groups = metric(), {"x": torch.ones(1, 40)}
    before = made.squared_distances(groups)
    made.support.mul_(2.0)
    exact = (made.place(groups)[:, None] - made.support[None]).square().sum(dim=2)
    assert not torch.equal(before, made.squared_distances(groups))
    torch.testing.assert_close(made.squared_distances(groups), exact)
    other = metric()
    other.support.add_(1.0)
    made.load_state_dict(other.state_dict())
    torch.testing.assert_close(made.squared_distances(groups), other.squared_distances(groups))
