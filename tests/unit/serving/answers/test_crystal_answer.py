"""A crystal's answer from its hops' predictions, whose distributions are known."""

from dataclasses import replace

import numpy as np
import pytest
from made_crystals import layered_oxide, rock_salt

from app.crystals.hops.options import HopOptions
from app.crystals.hops.percolation import PercolationBarriers
from app.crystals.hops.search import HopSearch, find_hops
from app.models.prediction import QUANTILE_LEVELS, Prediction
from app.serving.answers.crystal import HopOutcome, bands_of, compose, percolating_prediction, unconnected
from app.serving.answers.types import BondValenceAnswer, CrystalAnswer, HopAnswer, PercolationPath

LEVELS = np.array(QUANTILE_LEVELS)
DOUBT = "doubted"


def predicted(quantiles_ev: np.ndarray) -> Prediction:
    quantiles = tuple(float(one) for one in quantiles_ev)
    return Prediction(barrier_ev=quantiles[7], quantiles_ev=quantiles, in_domain=True, domain_reasons=())


def doubted(prediction: Prediction, reason: str) -> Prediction:
    return replace(prediction, in_domain=False, domain_reasons=(*prediction.domain_reasons, DOUBT, reason))


def composed(search: HopSearch, *of_orderings: np.ndarray) -> CrystalAnswer:
    """Every hop has the same distribution in each ordering."""
    outcomes = {
        (hop, which): HopOutcome(outcome=predicted(of_orderings[which]), cached=False)
        for hop, which in bands_of(search)
    }
    return compose(search, outcomes, doubted)


@pytest.fixture(scope="module")
def disordered() -> HopSearch:
    """Three orderings."""
    crystal = layered_oxide()
    mixed = (("Al", 0.5), ("Ga", 0.5))
    sites = tuple(replace(site, species=mixed) if site.occupancy_of("Co") else site for site in crystal.sites)
    return find_hops(replace(crystal, sites=sites), "Li", HopOptions(max_hops=1), max_atoms=2000)


def mean_quantiles(search: HopSearch, *of_orderings: np.ndarray) -> np.ndarray:
    prediction = composed(search, *of_orderings).hops[0].prediction
    assert prediction is not None
    return np.array(prediction.quantiles_ev)


def test_equal_distributions_are_their_own_mixture_where_quantiles_are_equal(disordered: HopSearch) -> None:
    """The lowest quantiles of a low barrier are all zero: a fifth of the distribution is there, and stays there."""
    low = np.maximum(LEVELS - 0.25, 0.0)
    assert (low == 0).sum() == 5
    assert mean_quantiles(disordered, low, low, low) == pytest.approx(low)
    high = np.minimum(LEVELS, 0.6)
    assert mean_quantiles(disordered, high, high, high) == pytest.approx(high)


def test_a_mixture_has_the_quantiles_of_draws_from_its_parts(disordered: HopSearch) -> None:
    parts = np.maximum(LEVELS - 0.25, 0.0), np.maximum(LEVELS - 0.05, 0.0), 0.3 + 0.2 * LEVELS
    inner = np.random.default_rng(5).uniform(LEVELS[0], LEVELS[-1], 200_000)
    draws = np.concatenate([np.interp(inner, LEVELS, part) for part in parts])
    assert mean_quantiles(disordered, *parts)[1:-1] == pytest.approx(np.quantile(draws, LEVELS)[1:-1], abs=0.02)


def test_hops_that_end_where_geometry_found_a_site_are_doubted() -> None:
    whole = find_hops(layered_oxide(), "Li", max_atoms=2000)
    assert all(hop.prediction is None or hop.prediction.in_domain for hop in composed(whole, LEVELS).hops)
    without = replace(
        layered_oxide(), sites=tuple(site for site in layered_oxide().sites if not site.occupancy_of("Li"))
    )
    answer = composed(find_hops(without, "Li", max_atoms=2000), LEVELS)
    for hop in answer.hops:
        if hop.prediction is not None:
            assert DOUBT in hop.prediction.domain_reasons
            assert hop.prediction.domain_reasons[-1].startswith("both ends of the hop are interstitial sites")
    lowest = percolating_prediction(answer)
    assert lowest is not None
    assert not lowest.in_domain


def hop_of(excluded_because: str | None) -> HopAnswer:
    return HopAnswer(
        from_site=0,
        to_site=0,
        offset=(1, 0, 0),
        distance_angstrom=3.0,
        multiplicity=1,
        excluded_because=excluded_because,
        prediction=None,
        cached=False,
        warnings=(),
    )


@pytest.mark.parametrize(
    ("reasons", "words"),
    [
        (["it is near O"], "the only hop is excluded (hop 1 since it is near O)."),
        (["it is near O", "it is near Fe"], "both hops are excluded (hop 1 since it is near O)."),
        ([None, "it is near O", "x"], "2 of 3 hops are excluded (hop 2 since it is near O), and the others do not"),
        ([None, "it is near O"], "1 of 2 hops is excluded (hop 2 since it is near O), and the others do not"),
        ([None], "do the hops connect a site to its own periodic copies; where another atom sits"),
    ],
)
def test_a_missing_barrier_is_explained(disordered: HopSearch, reasons: list[str | None], words: str) -> None:
    answer = composed(disordered, LEVELS, LEVELS, LEVELS)
    assert unconnected(answer) == ()
    hops = tuple(hop_of(reason) for reason in reasons)
    assert answer.disorder is not None
    assert answer.disorder.fillings is not None
    closed = replace(answer.disorder.fillings, shares=dict.fromkeys((1, 2, 3), 0.0))
    (warning,) = unconnected(
        replace(
            answer,
            hops=hops,
            percolation=dict.fromkeys((1, 2, 3)),
            disorder=replace(answer.disorder, fillings=closed),
        )
    )
    assert warning.startswith("There is no barrier: ")
    assert words in warning


def test_an_ordered_crystal_s_hops_do_not_connect(disordered: HopSearch) -> None:
    answer = composed(disordered, LEVELS, LEVELS, LEVELS)
    apart = replace(answer, hops=(hop_of(None),), percolation=dict.fromkeys((1, 2, 3)), disorder=None)
    (warning,) = unconnected(replace(apart, truncated=False))
    assert warning == "There is no barrier: the hops do not connect a site to its own periodic copies."
    (warning,) = unconnected(replace(apart, truncated=True))
    assert warning.startswith("There is no barrier: the hops that were predicted do not")
    assert warning.endswith("not all hops were predicted.")


def test_a_crystal_without_hops_has_its_own_warning(disordered: HopSearch) -> None:
    answer = composed(disordered, LEVELS, LEVELS, LEVELS)
    assert unconnected(replace(answer, hops=(), percolation=dict.fromkeys((1, 2, 3)))) == ()


def test_a_barrier_that_most_fillings_lack_is_explained_by_them(disordered: HopSearch) -> None:
    answer = composed(disordered, LEVELS, LEVELS, LEVELS)
    assert answer.disorder is not None
    assert answer.disorder.fillings is not None
    fillings = replace(answer.disorder.fillings, shares={1: 0.25, 2: 0.0, 3: 0.0})
    rarely = replace(
        answer,
        hops=(hop_of(None),),
        percolation=dict.fromkeys((1, 2, 3)),
        disorder=replace(answer.disorder, fillings=fillings),
    )
    (warning,) = unconnected(rarely)
    assert "connect in 25% of the fillings" in warning
    never = replace(fillings, shares=dict.fromkeys((1, 2, 3), 0.0))
    (warning,) = unconnected(replace(rarely, disorder=replace(answer.disorder, fillings=never)))
    assert f"in none of {never.count} sampled fillings" in warning


def test_hops_outside_the_domain_count_their_own_barrier() -> None:
    search = find_hops(layered_oxide(), "Li", max_atoms=2000)
    quantiles = tuple(float(one) for one in LEVELS)
    outside = Prediction(barrier_ev=0.4, quantiles_ev=quantiles, in_domain=False, domain_reasons=(DOUBT,))
    found = compose(search, {key: HopOutcome(outcome=outside, cached=False) for key in bands_of(search)}, doubted)
    assert found.percolation_ev == PercolationBarriers(one_d=0.4, two_d=0.4, three_d=None)


def connected(mixed: bool, bond_valence_ev: float | None, detail: str | None = None) -> CrystalAnswer:
    path = PercolationPath(barrier_ev=0.3, quantiles_ev=(), bottleneck_hops=(), directions=())
    other = PercolationBarriers(one_d=0.1, two_d=0.2, three_d=bond_valence_ev)
    return CrystalAnswer(
        sites=(),
        hops=(),
        percolation={1: path, 2: path, 3: path},
        truncated=False,
        percolation_upper_bound=False,
        mechanism="vacancy",
        host_is_mixed=mixed,
        bond_valence=BondValenceAnswer(percolation_ev=other, detail=detail),
    )


@pytest.mark.parametrize(("mixed", "expected"), [(True, 0.5), (False, 1.0)])
def test_crystals_are_compared_by_both_barriers_and_what_a_carrier_costs(mixed: bool, expected: float) -> None:
    assert connected(mixed, 0.7).ranking_ev == pytest.approx(expected)
    assert replace(connected(mixed, 0.7), percolation={1: None, 2: None, 3: None}).ranking_ev is None


@pytest.mark.parametrize("mixed", [True, False])
def test_a_crystal_without_a_path_by_bond_valence_has_no_figure_to_compare_by(mixed: bool) -> None:
    assert connected(mixed, None).ranking_ev is None


def test_no_parameters_of_bond_valence_are_neither_for_nor_against_a_crystal() -> None:
    """What bond valence usually adds is in its place; half of the median over the measured conductors."""
    assert connected(mixed=True, bond_valence_ev=None, detail="no parameters").ranking_ev == pytest.approx(0.3 + 0.12)
    assert connected(mixed=False, bond_valence_ev=None, detail="no parameters").ranking_ev == pytest.approx(
        0.3 + 0.12 + 0.5
    )
    assert replace(connected(mixed=True, bond_valence_ev=None), bond_valence=None).ranking_ev == pytest.approx(
        0.3 + 0.12
    )


def test_a_host_is_mixed_where_elements_share_a_site_or_one_is_partly_empty(disordered: HopSearch) -> None:
    assert composed(disordered, LEVELS, LEVELS, LEVELS).host_is_mixed
    assert not composed(find_hops(layered_oxide(), "Li", max_atoms=2000), LEVELS).host_is_mixed
    sites = [
        replace(site, species=(("Li", 0.5),)) if site.occupancy_of("Li") else site for site in layered_oxide().sites
    ]
    half = find_hops(replace(layered_oxide(), sites=tuple(sites)), "Li", max_atoms=2000)
    assert not composed(half, LEVELS).host_is_mixed


@pytest.mark.parametrize(("amount", "mixed"), [(0.3, True), (0.75, False)])
def test_a_host_is_mixed_where_it_shares_sites_with_the_ion_that_stay_partly_empty(amount: float, mixed: bool) -> None:
    """As La is on the sites of Li in La0.565Li0.305TiO3; a full one makes no carrier."""
    shared = (("Li", 0.25), ("Na", amount))
    sites = [replace(site, species=shared) if site.occupancy_of("Li") else site for site in rock_salt().sites]
    search = find_hops(replace(rock_salt(), sites=tuple(sites)), "Li", max_atoms=2000)
    assert composed(search, *[LEVELS] * 3).host_is_mixed == mixed


def test_a_host_is_mixed_where_its_partly_empty_sites_are_offered_to_the_ion() -> None:
    crystal = layered_oxide()
    sites = [
        replace(site, species=(("Co", 0.7),)) if site.occupancy_of("Co") else site
        for site in crystal.sites
        if not site.occupancy_of("Li")
    ]
    search = find_hops(replace(crystal, sites=tuple(sites)), "Li", max_atoms=2000)
    assert all(len(contents) == 1 and contents[0][1] == 1.0 for contents in search.lattices.host_contents)
    assert composed(search, *[LEVELS] * 3).host_is_mixed
