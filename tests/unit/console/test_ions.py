"""`--ion` of `ionpath screen` means what that of `ionpath predict` means."""

import pytest
import typer

from app.console.screening import ions_of


@pytest.mark.parametrize(
    ("text", "ions"), [("Li", ("Li",)), ("Li+", ("Li",)), ("Li, Na,", ("Li", "Na")), ("Na,Li,Na+", ("Na", "Li"))]
)
def test_ions_are_read_as_predict_reads_one(text: str, ions: tuple[str, ...]) -> None:
    assert ions_of(text) == ions


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("li", '"li" is not the symbol of an element. Was Li meant?'),
        ("Li,xx", '"xx" is not the symbol of an element.'),
        (" , ", "no ion is named"),
    ],
)
def test_what_is_no_ion_is_refused(text: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended:
        ions_of(text)
    assert ended.value.exit_code == 2
    assert message in capsys.readouterr().err
