"""The shipped default: what it looks up, what it computes, and what either costs."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from bands import band_of, rock_salt

from app.crystals.band import Band
from app.models.checkpoints import read_predictor
from app.models.networks.message_tables import SharedTables
from app.models.predictors.predictor import Predictor
from app.models.predictors.preparation import MOST_LOOKED_UP_PAIRS, HopInputs

CPU = torch.device("cpu")
TOLERANCE_EV = 1e-5


@pytest.fixture(scope="module")
def looking_up(repository: Any) -> Predictor:
    return read_predictor(repository / "model_store" / "default", device=CPU, tables=SharedTables())


@pytest.fixture(scope="module")
def computing(repository: Any) -> Predictor:
    return read_predictor(repository / "model_store" / "default", device=CPU)


@pytest.fixture(scope="module")
def of_many_elements() -> Band:
    """No crystal that there is: of as many pairs of elements tables would be made for seconds."""
    band = rock_salt()
    some = ("O", "F", "S", "Cl", "Mg", "Al", "Si", "P", "Ca", "Ti", "V", "Cr", "Mn", "Fe", "Co", "Ni", "Cu", "Zn")
    species = tuple(some[k % len(some)] for k in range(len(band.host_species)))
    return replace(band, host_species=species)


def test_what_is_looked_up_answers_as_what_is_computed(
    looking_up: Predictor, computing: Predictor, data_rows: list[dict[str, Any]]
) -> None:
    bands = [band_of(row) for row in [row for row in data_rows if row["sound"]][::25]]
    here, there = ([p.predict([p.graph(band)])[0].barrier_ev for band in bands] for p in (looking_up, computing))
    assert here == pytest.approx(there, abs=TOLERANCE_EV)


def test_a_crystal_of_many_elements_is_computed_and_others_beside_it_are_not(
    looking_up: Predictor, computing: Predictor, of_many_elements: Band, data_rows: list[dict[str, Any]]
) -> None:
    bands = [band_of(data_rows[0]), of_many_elements, band_of(data_rows[1])]
    prepared = [looking_up.graph(band) for band in bands]
    inputs = [item.inputs for item in prepared]
    assert [one.looked_up for one in inputs] == [True, False, True]
    assert inputs[1].bonds.element_pairs > MOST_LOOKED_UP_PAIRS
    together = [one.barrier_ev for one in looking_up.predict(prepared)]
    assert together == pytest.approx([looking_up.predict([one])[0].barrier_ev for one in prepared], abs=TOLERANCE_EV)
    assert together[1] == pytest.approx(computing.predict([prepared[1]])[0].barrier_ev, abs=TOLERANCE_EV)


def test_what_is_looked_up_costs_less(looking_up: Predictor, computing: Predictor, of_many_elements: Band) -> None:
    usual, computed = looking_up.graph(rock_salt()), looking_up.graph(of_many_elements)
    assert isinstance(usual.inputs, HopInputs)
    assert looking_up.cost(usual) == usual.cost < computing.cost(usual) / 2
    assert looking_up.cost(computed) == computing.cost(computed)
    # The same crystal but for its elements; which atoms the eased images see differs a little with these.
    bonds = [len(one.inputs.bonds.host_target) for one in (usual, computed)]
    assert looking_up.cost(computed) / bonds[1] > 2 * looking_up.cost(usual) / bonds[0]
