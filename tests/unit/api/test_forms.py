"""Which form of a prediction a request asks for."""

import pytest

from app.api.forms import FORMS, asked_form
from app.api.problems import NotAcceptableError

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"


@pytest.mark.parametrize(
    ("accept", "name"),
    [
        ([], "json"),
        ([""], "json"),
        (["*/*"], "json"),
        ([BROWSER], "json"),
        (["application/json"], "json"),
        (["text/csv"], "csv"),
        (["text/*"], "csv"),
        (["Text/CSV; charset=utf-8"], "csv"),
        (["application/zip"], "zip"),
        (["application/vnd.ionpath.neb+json"], "neb-json"),
        (["application/json;q=0.5, text/csv;q=0.9"], "csv"),
        (["application/json;q=0.5", "text/csv;q=0.9"], "csv"),
        (["application/json;q=0, */*;q=0.1"], "csv"),
        (["application/*, application/json;q=0.1"], "zip"),
        (["text/csv;q=much, application/zip"], "zip"),
    ],
)
def test_the_accept_header_chooses(accept: list[str], name: str) -> None:
    assert asked_form(None, accept).name == name


@pytest.mark.parametrize("form", FORMS)
def test_the_format_goes_before_the_accept_header(form: object) -> None:
    named = form.name  # type: ignore[attr-defined] # pytest's parameters have no type
    assert asked_form(named, ["image/png"]).name == named


@pytest.mark.parametrize(
    ("name", "accept"),
    [("xml", []), ("", []), (None, ["image/png"]), (None, ["application/json;q=0"]), (None, ["text/csv;q=nan"])],
)
def test_what_is_not_given_is_said_to_be(name: str | None, accept: list[str]) -> None:
    with pytest.raises(NotAcceptableError) as caught:
        asked_form(name, accept)
    assert all(form.name in (caught.value.expected or "") for form in FORMS)
