"""A crystal's bulk properties as a table or CSV."""

from collections.abc import Iterator, Sequence
from typing import Any, TextIO

from rich.text import Text

from app.console.asking import Result
from app.console.printing import plain_table, problem_line, problem_row, show, write_rows

CSV_COLUMNS = ("file", "formula", "property", "value", "unit", "test_mae", "test_mae_unit", "model", "problem")


def write_table(results: Sequence[Result], stream: TextIO) -> None:
    """A table for people: a row a property, and what was noticed below."""
    table = plain_table()
    several = len(results) > 1  # of one file alone the name is known
    for heading in ("file", "property", "value", "unit", "mean error")[0 if several else 1 :]:
        table.add_column(heading, justify="right" if heading == "value" else "left", no_wrap=True)
    for result in results:
        for one in (result.answer or {}).get("properties", ()):
            cells = (one["name"], f"{one['value']:.4g}", one["unit"], _off_by(one))
            table.add_row(*((result.label, *cells) if several else cells))
    show(table, (line for result in results for line in _remarks(result)), stream)


def _off_by(one: dict[str, Any]) -> str:
    """The mean absolute error with its interval, and its unit where that is another one."""
    error = one["test_mae"]
    if error is None:
        return "not known"
    told = f"{error['value']:.3g}"
    told += f" ({error['low']:.3g} to {error['high']:.3g})" if error["low"] is not None else ""
    return told if error["unit"] == one["unit"] else f"{told} of {error['unit']}"


def _remarks(result: Result) -> Iterator[Text]:
    if result.answer is None:
        yield problem_line(result)
        return
    yield Text(f"{result.label}: {result.answer['formula']}, by {result.answer['model']['name']}")
    for warning in result.answer["warnings"]:
        yield Text(f"{result.label}: {warning}", style="yellow")


def write_csv(results: Sequence[Result], stream: TextIO) -> None:
    """One row a property, or the problem of a file."""
    write_rows(CSV_COLUMNS, (row for result in results for row in _rows(result)), stream)


def _rows(result: Result) -> Iterator[dict[str, Any]]:
    if result.answer is None:
        yield problem_row(result)
        return
    for one in result.answer["properties"]:
        error = one["test_mae"] or {"value": "", "unit": ""}
        yield {
            "file": result.label,
            "formula": result.answer["formula"],
            "property": one["name"],
            "value": one["value"],
            "unit": one["unit"],
            "test_mae": error["value"],
            "test_mae_unit": error["unit"],
            "model": result.answer["model"]["name"],
        }
