"""Rows, filters and cursors: what goes in comes out, and nothing else goes in."""

from datetime import UTC, datetime, timedelta, timezone
from types import MappingProxyType
from uuid import UUID

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import InputError
from app.storage.cursors import Place, read_cursor, write_cursor
from app.storage.rows import JsonDocument, PredictionFilter, logged_formulas, pack_input, unpack_input, write_json


@given(moment=st.datetimes(timezones=st.just(UTC)), number=st.uuids())
def test_a_cursor_is_exact_for_every_moment(moment: datetime, number: UUID) -> None:
    place = Place(created_at=moment, id=number)
    assert read_cursor(write_cursor(place)) == place


@settings(max_examples=50)
@given(text=st.text())
def test_any_other_text_is_a_bad_cursor(text: str) -> None:
    with pytest.raises(InputError) as caught:
        read_cursor(text)
    assert caught.value.kind == "bad-cursor"


def test_a_cursor_beyond_the_calendar_is_bad() -> None:
    with pytest.raises(InputError):
        read_cursor("f" + "_" * 31)
    with pytest.raises(InputError):
        read_cursor("g" + "A" * 31)


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("Li4Fe4P4O16", "Fe4 Li4 O16 P4"),
        ("Fe4 Li4 O16 P4", "Fe4 Li4 O16 P4"),
        (" LiCoO2 ", "Co1 Li1 O2"),
        ("CH3CH2OH", "C2 H6 O1"),
        ("Li0.5 Co1 O2", "Li0.5 Co1 O2"),
        ("Ca(OH)2", "Ca(OH)2"),
        ("", ""),
    ],
)
def test_a_formula_stands_for_its_form_in_the_log(text: str, normal: str) -> None:
    assert logged_formulas(text)[0] == normal
    assert logged_formulas(normal)[0] == normal


def test_a_formula_stands_for_its_multiples_and_not_for_its_parts() -> None:
    assert logged_formulas("LiFePO4")[3] == "Fe4 Li4 O16 P4"
    assert "Fe1 Li1 O4 P1" not in logged_formulas("Li4Fe4P4O16")
    assert len(logged_formulas("Li999999999")) == 200
    assert logged_formulas("Li0") == ("Li0",)


@pytest.mark.parametrize(
    "bad",
    [
        {"ion": "Li\x00"},
        {"formula": "Li\n"},
        {"model_name": "\ud800"},
        {"barrier_below_ev": float("nan")},
        {"barrier_below_ev": float("inf")},
        {"created_after": datetime.max.replace(tzinfo=timezone(-timedelta(hours=5)))},
        {"created_before": datetime.min.replace(tzinfo=timezone(timedelta(hours=5)))},
    ],
    ids=repr,
)
def test_filters_that_mean_nothing_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(InputError) as caught:
        PredictionFilter(**bad)  # type: ignore[arg-type] # one of several fields, by name
    assert caught.value.kind == "bad-filter"
    assert caught.value.where == next(iter(bad))


def test_inputs_are_packed_without_loss_and_smaller() -> None:
    document = {"ion": "Li", "host_frac_coords": [[1.0 / 3.0, 0.5, 1e-17]] * 100}
    blob = pack_input(document)
    assert unpack_input(blob) == document
    assert len(blob) < 300


def test_a_document_is_written_once_and_put_into_others_as_it_is() -> None:
    content: dict[str, object] = {"barrier_ev": np.float64(0.5), "coords": np.eye(2), "hops": [{"offset": [0, 1, 0]}]}
    document = JsonDocument(content)
    content["barrier_ev"] = 9.9  # what is changed later is not in it
    expected = {"barrier_ev": 0.5, "coords": [[1.0, 0.0], [0.0, 1.0]], "hops": [{"offset": [0, 1, 0]}]}
    assert dict(document) == expected == orjson.loads(document.text)
    assert (len(document), list(document), document["barrier_ev"]) == (3, list(expected), 0.5)
    assert write_json([document, "x"]) == b"[" + document.text + b',"x"]'
    assert write_json(document) == document.text


def test_a_document_that_nobody_looks_into_is_not_parsed() -> None:
    document = JsonDocument({"barrier_ev": 0.5})
    write_json({"answer": document})
    assert "_parsed" not in vars(document)
    assert document["barrier_ev"] == 0.5
    assert "_parsed" in vars(document)


def test_other_mappings_are_written_and_what_is_no_json_is_an_error() -> None:
    assert write_json(MappingProxyType({"a": 1})) == b'{"a":1}'
    with pytest.raises(TypeError):
        write_json({"a": object()})
