"""The shipped model, asked about real bands: what must change nothing changes nothing."""

from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from bands import CHANGES, band_of, rock_salt, with_images

from app.crystals.band import Band
from app.errors import InputError
from app.models.prediction import QUANTILE_LEVELS, Prediction
from app.models.predictors.predictor import Predictor
from app.models.registry import Registry

TOLERANCE_EV = 1e-4


@pytest.fixture(scope="module", params=["default", "model-3"])
def predictor(request: pytest.FixtureRequest, repository: Path) -> Predictor:
    return Registry.open(repository / "model_store", "cpu", default="default").predictor(request.param)


@pytest.fixture(scope="module", params=["composed", pytest.param("data set", marks=pytest.mark.needs_data)])
def bands(request: pytest.FixtureRequest) -> list[Band]:
    """Ten bands of crystals that the tests compose, or twenty that were fitted on."""
    if request.param == "composed":
        return [band_of(row) for row in request.getfixturevalue("composed_rows")[:10]]
    return cast("list[Band]", request.getfixturevalue("fitted"))


@pytest.fixture(scope="module")
def fitted(data_rows: list[dict[str, object]]) -> list[Band]:
    """Twenty rows: MgFe2O4 and other high-symmetry ones, hexagonal and triclinic cells, and a seeded sample."""
    named = [row for row in data_rows if str(row["id"]).startswith("MgFe2O4")][:2]
    for system in ("Hexagonal", "Triclinic", "Cubic"):
        named += [row for row in data_rows if row["crystal_system"] == system and row not in named][:2]
    rest = [row for row in data_rows if row not in named]
    order = np.random.default_rng(3).permutation(len(rest))
    chosen = named + [rest[number] for number in order[: 20 - len(named)]]
    assert len(chosen) == 20
    assert any(str(row["id"]).startswith("MgFe2O4") for row in chosen)
    return [band_of(row) for row in chosen]


def barriers(predictor: Predictor, bands: list[Band]) -> np.ndarray:
    return np.array([one.barrier_ev for one in predictor.predict([predictor.graph(band) for band in bands])])


@pytest.mark.parametrize("change", list(CHANGES))
def test_what_is_no_change_of_the_hop_changes_no_barrier(predictor: Predictor, bands: list[Band], change: str) -> None:
    generator = np.random.default_rng(7)
    changed = [CHANGES[change](band, generator) for band in bands]
    assert barriers(predictor, changed) == pytest.approx(barriers(predictor, bands), abs=TOLERANCE_EV)


@pytest.mark.parametrize("count", [2, 3, 9])
def test_the_number_of_straight_images_changes_no_barrier(predictor: Predictor, bands: list[Band], count: int) -> None:
    changed = [with_images(band, count) for band in bands]
    assert barriers(predictor, changed) == pytest.approx(barriers(predictor, bands), abs=TOLERANCE_EV)


def test_a_batch_answers_what_singles_answer(predictor: Predictor, bands: list[Band]) -> None:
    alone = np.concatenate([barriers(predictor, [band]) for band in bands])
    assert barriers(predictor, bands) == pytest.approx(alone, abs=TOLERANCE_EV)


def test_a_prediction_is_a_distribution_around_its_barrier(predictor: Predictor, bands: list[Band]) -> None:
    for prediction in predictor.predict([predictor.graph(band) for band in bands]):
        assert len(prediction.quantiles_ev) == len(QUANTILE_LEVELS)
        assert list(prediction.quantiles_ev) == sorted(prediction.quantiles_ev)
        low, high = prediction.interval_ev
        assert 0 <= low <= prediction.barrier_ev <= high
        below = [prediction.probability_below(threshold) for threshold in (0.0, low, prediction.barrier_ev, high, 20.0)]
        assert below == sorted(below)
        assert 0.01 <= below[0] <= below[-1] <= 0.99


def test_a_doubt_widens_an_interval_once_and_moves_no_barrier(predictor: Predictor, bands: list[Band]) -> None:
    for inside in predictor.predict([predictor.graph(band) for band in bands]):
        once = predictor.doubted(inside, "first")
        twice = predictor.doubted(once, "second")
        assert once.barrier_ev == twice.barrier_ev == inside.barrier_ev
        assert twice.quantiles_ev == once.quantiles_ev
        assert not once.in_domain
        assert twice.domain_reasons == (*inside.domain_reasons, "first", "second")
        if not inside.in_domain:
            assert once.quantiles_ev == inside.quantiles_ev
            continue
        assert list(once.quantiles_ev) == sorted(once.quantiles_ev)
        (low, high), (lower, higher) = inside.interval_ev, once.interval_ev
        assert lower <= low
        assert higher - inside.barrier_ev > 1.8 * (high - inside.barrier_ev)


def test_a_barrier_of_zero_is_doubted_too(predictor: Predictor, bands: list[Band]) -> None:
    (one,) = predictor.predict([predictor.graph(bands[0])])
    flat = replace(one, barrier_ev=0.0, quantiles_ev=(0.0,) * 8 + (0.1,) * 7, in_domain=True, domain_reasons=())
    assert predictor.doubted(flat, "why").interval_ev[1] > 0.2


def test_a_fitted_band_is_in_the_domain_and_a_strange_one_says_why_not(
    predictor: Predictor, fitted: list[Band]
) -> None:
    inside = [one.in_domain for one in predictor.predict([predictor.graph(band) for band in fitted])]
    assert sum(inside) >= 18
    strange = Band(
        lattice_angstrom=np.eye(3) * 9.0,
        host_species=("Xe",) * 8,
        host_frac_coords=np.stack(np.meshgrid(*[[0.0, 0.5]] * 3), axis=-1).reshape(-1, 3),
        ion="Cs",
        image_frac_coords=np.array([[0.25, 0.25, 0.25], [0.75, 0.25, 0.25]]),
    )
    (prediction,) = predictor.predict([predictor.graph(strange)])
    assert not prediction.in_domain
    assert "no Cs migration" in prediction.domain_reasons[0]
    assert "Xe" in prediction.domain_reasons[1]
    # The distribution is wider outside the domain than that of most bands inside it.
    widths = [log_width(predictor, one) for one in predictor.predict([predictor.graph(band) for band in fitted])]
    assert log_width(predictor, prediction) > 1.2 * np.median(widths)


def log_width(predictor: Predictor, prediction: Prediction) -> float:
    low, high = prediction.interval_ev
    offset = predictor.card.target.offset_ev
    return float(np.log((high + offset) / (low + offset)))


def test_a_doubled_host_with_the_copied_vacancy_filled_changes_little(
    predictor: Predictor, data_rows: list[dict[str, object]]
) -> None:
    sound = [row for row in data_rows if row["sound"]]
    chosen = np.random.default_rng(5).permutation(len(sound))[:50]
    bands = [band_of(sound[number]) for number in chosen]
    changes = np.abs(barriers(predictor, bands) - barriers(predictor, [doubled(band) for band in bands]))
    assert np.median(changes) < 0.03


def doubled(band: Band) -> Band:
    """The host twice along its shortest vector, the ion's first site filled in the copy."""
    times = np.ones(3)
    times[int(np.argmin(np.linalg.norm(band.lattice_angstrom, axis=1)))] = 2
    step = (times - 1.0)[None]
    host = [band.host_frac_coords, band.host_frac_coords + step, band.image_frac_coords[:1] + step]
    return replace(
        band,
        lattice_angstrom=band.lattice_angstrom * times[:, None],
        host_species=(*band.host_species, *band.host_species, band.ion),
        host_frac_coords=np.concatenate(host) / times,
        image_frac_coords=band.image_frac_coords / times,
    )


def test_a_line_through_an_atom_is_outside_the_domain_and_its_interval_wide(
    predictor: Predictor, bands: list[Band]
) -> None:
    band = rock_salt(2.1)
    way = np.array([1.3, 0.9, 0.7]) @ np.linalg.inv(band.lattice_angstrom)
    through = replace(
        band, image_frac_coords=np.stack([band.host_frac_coords[0] - way, band.host_frac_coords[0] + way])
    )
    usual = [log_width(predictor, one) for one in predictor.predict([predictor.graph(each) for each in bands])]
    (prediction,) = predictor.predict([predictor.graph(through)])
    assert any("closest approach" in reason for reason in prediction.domain_reasons)
    assert log_width(predictor, prediction) > np.median(usual)


def test_an_ion_in_the_void_is_refused(predictor: Predictor) -> None:
    band = Band(
        lattice_angstrom=np.eye(3) * 60.0,
        host_species=("O",),
        host_frac_coords=np.zeros((1, 3)),
        ion="Li",
        image_frac_coords=np.array([[0.4, 0.5, 0.5], [0.45, 0.5, 0.5]]),
    )
    with pytest.raises(InputError) as refused:
        predictor.graph(band)
    assert refused.value.kind == "no-host-near-path"


def test_cost_grows_with_what_is_near_the_path(predictor: Predictor) -> None:
    assert predictor.cost(predictor.graph(rock_salt(1.9))) > predictor.cost(predictor.graph(rock_salt(2.4))) > 0


def test_warm_up_runs_on_the_device(predictor: Predictor) -> None:
    predictor.warm_up()
    assert predictor.device == "cpu"
