"""The wire form: the fields that the contract names, and nothing that JSON cannot say."""

import csv
import io
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import orjson
import pytest

from app.console.asking import Result
from app.console.outputs import BarrierTable
from app.crystals.hops.percolation import PercolationBarriers
from app.errors import InputError
from app.models.prediction import QUANTILE_LEVELS, Prediction
from app.serving.answers.as_csv import answer_rows, answer_to_csv
from app.serving.answers.as_json import answer_to_json, error_to_json, row_to_json
from app.serving.answers.types import (
    Answer,
    BondValenceAnswer,
    CrystalAnswer,
    HopAnswer,
    ModelReference,
    PercolationPath,
    SecondOpinion,
    SiteAnswer,
)
from app.storage.rows import PredictionRow

PREDICTION = Prediction(
    barrier_ev=0.5,
    quantiles_ev=tuple(0.5 + (level - 0.5) for level in QUANTILE_LEVELS),
    in_domain=False,
    domain_reasons=("no fitted host contains Xe",),
)
HOP = HopAnswer(
    from_site=0,
    to_site=1,
    offset=(0, 0, -1),
    distance_angstrom=3.0,
    multiplicity=4,
    excluded_because=None,
    prediction=PREDICTION,
    cached=True,
    warnings=(),
)
EXCLUDED = HopAnswer(
    from_site=0,
    to_site=0,
    offset=(1, 0, 0),
    distance_angstrom=4.0,
    multiplicity=2,
    excluded_because="the straight path runs through an atom",
    prediction=None,
    cached=False,
    warnings=(),
)
ANSWER = Answer(
    prediction_id=UUID(int=7),
    created_at=datetime(2026, 1, 2, tzinfo=UTC),
    ion="Li",
    formula="Li1 O1",
    model=ModelReference(name="model-3", version="1", digest="ab"),
    prediction=PREDICTION,
    threshold_ev=0.65,
    cached=True,
    warnings=("a warning",),
    crystal=CrystalAnswer(
        sites=(SiteAnswer(index=0, frac_coords=(0.0, 0.5, 0.25), occupancy=0.5),),
        hops=(HOP, EXCLUDED),
        percolation={
            1: PercolationPath(
                barrier_ev=0.5,
                quantiles_ev=PREDICTION.quantiles_ev,
                bottleneck_hops=(0,),
                directions=((0, 1, 0),),
            ),
            2: None,
            3: None,
        },
        truncated=False,
        percolation_upper_bound=True,
        mechanism="vacancy",
        bond_valence=BondValenceAnswer(
            percolation_ev=PercolationBarriers(one_d=0.3, two_d=0.7, three_d=None), grid_angstrom=0.25
        ),
        second_opinion=SecondOpinion(
            method="bvse",
            percolation_ev=PercolationBarriers(one_d=0.4, two_d=None, three_d=None),
            detail="all ions removed",
            seconds=1.0,
            answered=True,
        ),
    ),
)


def test_an_answer_has_the_fields_of_the_contract() -> None:
    body = orjson.loads(orjson.dumps(answer_to_json(ANSWER)))
    assert body["barrier_ev"] == 0.5
    assert body["interval_ev"]["coverage"] == 0.9
    assert body["interval_ev"]["low"] == pytest.approx(0.05)
    assert body["interval_ev"]["high"] == pytest.approx(0.95)
    assert body["good_conductor"]["verdict"] is True
    assert body["good_conductor"]["probability"] == pytest.approx(0.65)
    assert body["in_domain"] == {"verdict": False, "reasons": ["no fitted host contains Xe"]}
    assert body["model"] == {"name": "model-3", "version": "1", "digest": "ab"}
    assert body["prediction_id"] == str(UUID(int=7))
    assert body["warnings"] == ["a warning"]
    assert body["percolation_ev"] == {"1d": 0.5, "2d": None, "3d": None}
    assert body["percolation"].keys() == {"1d", "2d", "3d"}
    path = body["percolation"]["1d"]
    assert path["barrier_ev"] == 0.5
    assert path["interval_ev"] == {
        "low": pytest.approx(0.05),
        "high": pytest.approx(0.95),
        "coverage": 0.9,
    }
    assert (path["bottleneck_hops"], path["directions"]) == ([0], [[0, 1, 0]])
    assert path["percolating_share"] == 1.0
    nothing: dict[str, object] = {"barrier_ev": None, "interval_ev": None, "bottleneck_hops": [], "directions": []}
    assert body["percolation"]["2d"] == {**nothing, "percolating_share": 0.0}
    assert body["percolation_upper_bound"] is True
    assert body["second_opinion"]["method"] == "bvse"
    assert body["second_opinion"]["percolation_ev"] == {"1d": 0.4, "2d": None, "3d": None}
    assert body["bond_valence"] == {
        "percolation_ev": {"1d": 0.3, "2d": 0.7, "3d": None},
        "grid_angstrom": 0.25,
        "detail": None,
    }
    assert body["disorder"] is None
    assert [hop["barrier_ev"] for hop in body["hops"]] == [0.5, None]
    assert body["hops"][1]["good_conductor"] == {"verdict": None, "probability": None, "threshold_ev": 0.65}
    assert body["sites"] == [{"index": 0, "frac_coords": [0.0, 0.5, 0.25], "occupancy": 0.5}]
    assert body["ranking_ev"] is None  # nothing connects in three dimensions


def test_a_problem_leaves_out_what_does_not_apply() -> None:
    body = error_to_json(InputError("no ion", kind="no-ion"))
    assert body == {"title": InputError.title, "status": 422, "detail": "no ion", "kind": "no-ion"}


@pytest.mark.parametrize(("status", "progress"), [("queued", 0.0), ("running", 0.0), ("done", 1.0)])
def test_a_stored_prediction_says_how_far_it_is(status: str, progress: float) -> None:
    row = PredictionRow(
        id=UUID(int=7),
        created_at=ANSWER.created_at,
        key_id=None,
        status=status,  # type: ignore[arg-type] # one of the three above
        kind="crystal",
        model_name="model-3",
        answer=answer_to_json(ANSWER) if status == "done" else None,
    )
    body = orjson.loads(orjson.dumps(row_to_json(row)))
    assert (body["status"], body["progress"]) == (status, progress)
    assert ("barrier_ev" in body) == (status == "done")
    assert row_to_json(row, progress=0.25)["progress"] == 0.25


def test_a_top_above_15_ev_is_null_and_unbounded_in_words() -> None:
    wide = replace(PREDICTION, quantiles_ev=tuple(0.4 * 100.0**level for level in QUANTILE_LEVELS))
    assert ANSWER.crystal is not None
    crystal = replace(ANSWER.crystal, hops=(replace(HOP, prediction=wide),))
    body = orjson.loads(orjson.dumps(answer_to_json(replace(ANSWER, prediction=wide, crystal=crystal))))
    for predicted in (body, body["hops"][0]):
        assert predicted["interval_ev"]["high"] is None
        assert predicted["interval_ev"]["low"] < 1.0
        tops = [energy for level, energy in predicted["quantiles_ev"].items() if 0.4 * 100.0 ** float(level) > 15.0]
        assert tops
        assert set(tops) == {None}
    (row,) = csv.DictReader(io.StringIO(answer_to_csv(body).decode()))
    assert row["high_ev"] == "unbounded"
    shown = io.StringIO()
    BarrierTable(["one.cif"], shown).write(Result(label="one.cif", answer=body))
    assert "to unbounded" in shown.getvalue()
    assert "above 15 eV are given as unbounded" in shown.getvalue()


def test_an_answer_says_in_numbers_which_corpora_it_leans_on() -> None:
    leaning = replace(PREDICTION, leans_on={"literature": 0.0876, "litraj": 0.9124})
    body = answer_to_json(replace(ANSWER, prediction=leaning))
    assert body["leans_on"] == {"literature": 0.088, "litraj": 0.912}
    assert answer_to_json(ANSWER)["leans_on"] is None
    assert answer_to_json(replace(ANSWER, prediction=None))["leans_on"] is None
    (row,) = answer_rows(answer_to_json(replace(ANSWER, prediction=leaning, crystal=None)))
    assert row["leans_on"] == "literature 0.088, litraj 0.912"
    two = [leaning, replace(leaning, leans_on={"literature": 0.5, "litraj": 0.5})]
    assert Prediction.mean_leaning(two) == pytest.approx({"literature": 0.2938, "litraj": 0.7062})
    assert Prediction.mean_leaning([]) == Prediction.mean_leaning([PREDICTION]) == {}
