"""Worlds that a band leans on by its ion, and the errors of similar bands in its difficulty."""

from collections.abc import Mapping

import torch

from app.models.networks.world_machines import WorldMachines


def machines(local: Mapping[str, object] | None = None) -> WorldMachines:
    """Two worlds that share lithium, and one of sodium and potassium alone, whose prior is zero."""
    network = WorldMachines(
        worlds=[
            {"name": "a", "rows": 1, "ions": [3, 12]},
            {"name": "b", "rows": 1, "ions": [3]},
            {"name": "c", "rows": 1, "ions": [11, 19]},
        ],
        views=[{"groups": ["x"], "features": 1, "rows": 3, "clip": 6.0}],
        local=local,
    )
    network.prior.copy_(torch.tensor([0.4, 0.6, 0.0]))
    network.get_buffer("views.0.spread").fill_(1.0)
    return network


def shares_of(ion: float) -> list[float]:
    shares: list[float] = machines().shares(torch.zeros(1, 3, dtype=torch.float64), torch.tensor([[ion]]))[0].tolist()
    return [round(share, 6) for share in shares]


def test_an_ion_of_one_world_alone_leans_on_it_though_its_prior_is_zero() -> None:
    assert shares_of(11.0) == [0.0, 0.0, 1.0]


def test_an_ion_of_several_worlds_leans_by_their_priors_and_one_of_none_by_variety() -> None:
    assert shares_of(3.0) == [0.4, 0.6, 0.0]
    assert shares_of(30.0) == [0.4, 0.2, 0.4]


def test_errors_of_similar_bands_count_in_the_difficulty_alone() -> None:
    local = {"groups": ["x"], "features": 1, "rows": 1, "clip": 6.0}
    network = machines(local)
    assert network.local is not None
    for name, value in {"spread": 1.0, "share": 1.0, "weight": 0.7}.items():
        network.local.get_buffer(name).fill_(value)
    groups = {"x": torch.tensor([[0.0], [1.0], [5.0]]).double(), "ion": torch.full((3, 1), 3.0).double()}
    with_it, without = network(groups), machines()(groups)
    expected = torch.exp(0.7 * torch.exp(-torch.tensor([0.0, 1.0, 25.0]).double()))
    torch.testing.assert_close(with_it.difficulty / without.difficulty, expected)
    torch.testing.assert_close(with_it.output, without.output)
