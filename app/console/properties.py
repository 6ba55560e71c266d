"""A crystal's bulk properties as a table or CSV."""

from collections.abc import Iterator, Sequence
from typing import Any, TextIO

from rich.text import Text

from app.console.asking import Result
from app.console.printing import CsvPrinter, Heading, TablePrinter, problem_line, problem_row

CSV_COLUMNS = ("file", "formula", "property", "value", "unit", "test_mae", "test_mae_unit", "model", "problem")


class TableWriter:
    """A table for people: a row a property, and what was noticed below.

    Args:
        labels: of all files that will come; of one file alone the name is known, and not in the rows.
        stream: where it is printed.
    """

    def __init__(self, labels: Sequence[str], stream: TextIO) -> None:
        self._several = len(labels) > 1
        headings = [Heading(name="file", least_width=max(map(len, labels), default=0)), *_HEADINGS]
        self._printer = TablePrinter(headings[0 if self._several else 1 :], stream)

    def write(self, result: Result) -> None:
        """Print a file's rows and remarks."""
        properties = (result.answer or {}).get("properties", ())
        cells = ((one["name"], f"{one['value']:.4g}", one["unit"], _off_by(one)) for one in properties)
        rows = ((result.label, *row) if self._several else row for row in cells)
        self._printer.print(rows, _remarks(result))


_HEADINGS = (
    Heading(name="property", least_width=24),
    Heading(name="value", least_width=9, justify="right"),
    Heading(name="unit", least_width=8),
    Heading(name="mean error", least_width=24),
)


def _off_by(one: dict[str, Any]) -> str:
    """The mean absolute error with its interval, and its unit where that is another one."""
    error = one["test_mae"]
    if error is None:
        return "not known"
    text = f"{error['value']:.3g}"
    text += f" ({error['low']:.3g} to {error['high']:.3g})" if error["low"] is not None else ""
    return text if error["unit"] == one["unit"] else f"{text} of {error['unit']}"


def _remarks(result: Result) -> Iterator[Text]:
    if result.answer is None:
        yield problem_line(result)
        return
    yield Text(f"{result.label}: {result.answer['formula']}, by {result.answer['model']['name']}")
    for warning in result.answer["warnings"]:
        yield Text(f"{result.label}: {warning}", style="yellow")


class CsvWriter:
    """One row a property, or the problem of a file."""

    def __init__(self, stream: TextIO) -> None:
        self._printer = CsvPrinter(CSV_COLUMNS, stream)

    def write(self, result: Result) -> None:
        """Write a file's rows."""
        self._printer.print(_rows(result))


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
