"""Filters of the history are read as what is predicted is, and those that can find nothing are refused."""

import pytest

from app.api.queries import ListQuery
from app.crystals.elements import plain_symbol
from app.errors import InputError
from app.serving.history.filters import filter_of


@pytest.mark.parametrize(("text", "ion"), [("Li", "Li"), ("Li+", "Li"), (" Mg2+ ", "Mg"), ("D", "H"), (None, None)])
def test_an_ion_is_read_as_that_of_a_prediction(text: str | None, ion: str | None) -> None:
    assert filter_of(ListQuery(ion=text)).ion == ion


@pytest.mark.parametrize("text", ["li", "lithium", "Xx", "Lr", "", "Li,Na"])
def test_an_ion_is_refused_as_that_of_a_prediction(text: str) -> None:
    with pytest.raises(InputError) as predicted:
        plain_symbol(text, "ion")
    with pytest.raises(InputError) as listed:
        filter_of(ListQuery(ion=text))
    assert vars(listed.value) == vars(predicted.value)


@pytest.mark.parametrize("text", ["LiFePO4", " Fe4 Li4 O16 P4 ", "Fe4 Li3.5 O16 P4", "O4Mg4", "Li" + "9" * 150])
def test_a_formula_goes_to_the_log_as_it_is(text: str) -> None:
    assert filter_of(ListQuery(formula=text)).formula == text


@pytest.mark.parametrize("text", ["lifepo4", "LIFEPO4", "Ca(OH)2", "Xx2O", "Li-Co-O", "4", "", "Li.5O", "x" * 200])
def test_a_formula_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InputError) as refused:
        filter_of(ListQuery(formula=text))
    assert (refused.value.kind, refused.value.where, refused.value.status) == ("bad-filter", "formula", 422)
    assert f'"{text[:40]}' in refused.value.detail
    assert "is not a formula: write element symbols with capitals, such as LiFePO4" in refused.value.detail
