"""The model of conductivity: monotone, careful where it is strange, and refused where its file is damaged."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conductors import fitted, small_card, write_small
from made_crystals import layered_oxide, olivine

from app.crystals.elements import LAST_COVERED
from app.crystals.hops.percolation import PercolationBarriers
from app.crystals.sites.ion_sites import split
from app.errors import InputError, NotFoundError
from app.models.cards.card import CheckpointError
from app.models.cards.conductivity_card import ConductivityCalibration
from app.models.checkpoints import read_conductivity_predictor
from app.models.features.conductor import DESCRIPTORS, ConductorDescriptors
from app.models.prediction import QUANTILE_LEVELS
from app.models.predictors.conductivity_predictor import ConductivityPredictor
from app.models.registry import Registry

PREDICTOR = ConductivityPredictor(small_card(60), fitted()[0])
_, DESCRIBED, VALUES = fitted()


def stranger(one: ConductorDescriptors) -> ConductorDescriptors:
    """The same numbers in a crystal of elements that no fitted one has."""
    fractions = np.zeros(LAST_COVERED)
    fractions[[36, 52]] = 0.5
    return replace(one, root_fractions=np.sqrt(fractions), elements=("I", "Rb"))


def test_what_was_fitted_is_known_and_what_is_strange_is_wider() -> None:
    known = [PREDICTOR.predict_described(one) for one in DESCRIBED]
    strange = [PREDICTOR.predict_described(stranger(one)) for one in DESCRIBED]
    assert np.mean(np.abs([one.log10_s_per_cm for one in known] - VALUES)) < 0.3
    width = [np.mean([one.interval[1] - one.interval[0] for one in each]) for each in (known, strange)]
    assert width[1] > 2 * width[0]
    assert all(not one.in_domain for one in strange)
    for words in ("no crystal of a similar composition", "no measured crystal contains I, Rb"):
        assert any(words in reason for reason in strange[0].domain_reasons)


@pytest.mark.parametrize(("name", "sign"), list(zip(DESCRIPTORS, (1, 1, -1, -1, -1), strict=True)))
def test_far_from_all_it_is_monotone_in_each_number(name: str, sign: int) -> None:
    base = stranger(DESCRIBED[0])
    column = DESCRIPTORS.index(name)
    low, high = small_card(1).ranges[column]
    found = []
    for value in np.linspace(low, high, 9):
        changed = base.values.copy()
        changed[column] = value
        found.append(PREDICTOR.predict_described(replace(base, values=changed)).log10_s_per_cm)
    steps = sign * np.diff(found)
    assert (steps >= -1e-9).all()
    assert steps.sum() > 0.1


def test_three_numbers_are_named_and_the_parts_add_up() -> None:
    for one in DESCRIBED[:5]:
        prediction = PREDICTOR.predict_described(one)
        assert len(prediction.influences) == 3
        sizes = [abs(influence.decades) for influence in prediction.influences]
        assert sizes == sorted(sizes, reverse=True)
        for influence in prediction.influences:
            assert (" adds " if influence.decades >= 0 else " takes ") in influence.text


def test_a_probability_falls_with_what_is_asked_for_and_is_never_certain() -> None:
    prediction = PREDICTOR.predict_described(DESCRIBED[0])
    chances = [prediction.probability_above(10.0**power) for power in range(-25, 10)]
    assert chances == sorted(chances, reverse=True)
    assert (chances[0], chances[-1]) == pytest.approx((0.99, 0.01))
    assert prediction.quantiles == tuple(sorted(prediction.quantiles))
    assert prediction.interval[0] < prediction.log10_s_per_cm < prediction.interval[1]


def test_what_is_missing_or_out_of_range_is_said() -> None:
    one = DESCRIBED[0]
    assert PREDICTOR.predict_described(one).in_domain
    missing = one.values.copy()
    missing[3] = np.nan
    reasons = PREDICTOR.predict_described(replace(one, values=missing)).domain_reasons
    assert "the barrier of a path in three dimensions is not known" in reasons
    outside = one.values.copy()
    outside[2] = 1.2
    reasons = PREDICTOR.predict_described(replace(one, values=outside)).domain_reasons
    assert any("outside 2.00 to 4.00" in reason for reason in reasons)
    assert PREDICTOR.predict_described(one, ("doubt",)).domain_reasons == ("doubt",)


@pytest.mark.parametrize(
    ("measured_range_log10", "words"),
    [
        ((-12.0, -11.0), "S/cm is above the highest measured conductivity, 1.0e-11 S/cm"),
        ((1.0, 2.0), "S/cm is below the lowest measured conductivity, 1.0e+01 S/cm"),
        (None, None),
    ],
)
def test_a_value_beyond_all_measured_ones_is_doubtful(
    measured_range_log10: tuple[float, float] | None, words: str | None
) -> None:
    card = replace(small_card(60), measured_range_log10=measured_range_log10)
    prediction = ConductivityPredictor(card, fitted()[0]).predict_described(DESCRIBED[0])
    assert prediction.in_domain is (words is None)
    assert all(reason.endswith(words or "") for reason in prediction.domain_reasons)


def test_the_shipped_model_ranks_known_conductors(repository: Path) -> None:
    shipped = read_conductivity_predictor(repository / "model_store" / "conductivity")
    path = PercolationBarriers(one_d=0.3, two_d=0.4, three_d=0.5)
    never = PercolationBarriers(one_d=0.3, two_d=None, three_d=None)
    olivine_log, blocked = (shipped.predict(split(olivine(), "Li"), one).log10_s_per_cm for one in (path, never))
    assert blocked < olivine_log < -5.0
    assert shipped.predict(split(layered_oxide(), "Li"), path).log10_s_per_cm < -4.0
    for folding, mae in (("fold_family", 1.95), ("fold_random", 1.2)):
        figures = shipped.card.metrics[folding]
        assert figures["model"]["mae_decades"]["value"] < mae
        assert 0.86 <= figures["coverage"]["value"] <= 0.94
    assert shipped.card.metrics["fold_family"]["less_than_trees_decades"]["high"] < 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"ion": None}, "does not fit|not a whole card"),
        ({"descriptors": ["host_disorder"]}, "does not fit"),
        ({"arguments": {}}, "does not fit"),
        ({"kind": "properties"}, "not the card of a model of conductivity"),
        ({"calibration": {"residual_quantiles": [0.0], "scale_known": 1.0, "scale_new": 1.0, "rows": 1}}, "whole card"),
        ({"weights_sha256": "0" * 64}, "has the SHA-256"),
    ],
)
def test_a_damaged_checkpoint_is_refused(change: dict[str, object], words: str, tmp_path: Path) -> None:
    write_small(tmp_path)
    card = tmp_path / "conductivity" / "card.json"
    content = json.loads(card.read_text())
    if change.get("ion", "") is None:
        del content["ion"]
    else:
        content |= change
    card.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=words):
        read_conductivity_predictor(tmp_path / "conductivity")


def test_scales_must_grow_with_novelty() -> None:
    quantiles = tuple(level - 0.5 for level in QUANTILE_LEVELS)
    with pytest.raises(ValueError, match="scale_known"):
        ConductivityCalibration(residual_quantiles=quantiles, scale_known=2.0, scale_new=1.0, rows=3)


def test_a_model_of_conductivity_answers_no_other_call(repository: Path) -> None:
    registry = Registry.open(repository / "model_store", "cpu", default="default", threads=1)
    assert registry.conductivity_names() == ("conductivity",)
    for ask in (registry.predictor, registry.property_predictor):
        with pytest.raises(InputError, match="predicts conductivity, at POST /predict/conductivity"):
            ask("conductivity")
    with pytest.raises(InputError, match="conductivity of Na is not predicted"):
        registry.conductivity_predictor("Na")
    assert registry.card("conductivity")["ion"] == "Li"


def test_a_store_without_one_says_so() -> None:
    with pytest.raises(NotFoundError, match="no model of conductivity"):
        Registry({"default": None}, default="default").conductivity_predictor("Li")  # type: ignore[dict-item] # unused
