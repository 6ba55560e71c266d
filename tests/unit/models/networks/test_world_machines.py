"""A band leans on worlds that have its ion, whatever the regression of the rows' worlds says."""

import torch

from app.models.networks.world_machines import WorldMachines


def machines() -> WorldMachines:
    """Two worlds that share lithium, and one of sodium and potassium alone, whose prior is zero."""
    network = WorldMachines(
        worlds=[
            {"name": "a", "rows": 1, "ions": [3, 12]},
            {"name": "b", "rows": 1, "ions": [3]},
            {"name": "c", "rows": 1, "ions": [11, 19]},
        ],
        views=[{"groups": ["x"], "features": 1, "rows": 3, "clip": 6.0}],
    )
    network.prior.copy_(torch.tensor([0.4, 0.6, 0.0]))
    return network


def shares_of(ion: float) -> list[float]:
    shares: list[float] = machines().shares(torch.zeros(1, 3, dtype=torch.float64), torch.tensor([[ion]]))[0].tolist()
    return [round(share, 6) for share in shares]


def test_an_ion_of_one_world_alone_leans_on_it_though_its_prior_is_zero() -> None:
    assert shares_of(11.0) == [0.0, 0.0, 1.0]


def test_an_ion_of_several_worlds_leans_by_their_priors_and_one_of_none_by_variety() -> None:
    assert shares_of(3.0) == [0.4, 0.6, 0.0]
    assert shares_of(30.0) == [0.4, 0.2, 0.4]
