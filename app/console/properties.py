"""A crystal's bulk properties as a table or CSV."""

from collections.abc import Iterator, Sequence
from typing import Any

from rich.text import Text

from app.console.asking import Result
from app.console.printing import CsvWriter, Heading, TableWriter, problem_line

CSV_COLUMNS = ("file", "formula", "property", "value", "unit", "test_mae", "test_mae_unit", "model", "problem")


class PropertyTable(TableWriter):
    """A row a property."""

    headings = (
        Heading(name="property", least_width=24),
        Heading(name="value", least_width=9, justify="right"),
        Heading(name="unit", least_width=8),
        Heading(name="mean error", least_width=24),
    )

    def rows(self, result: Result) -> Iterator[Sequence[str]]:
        """See TableWriter."""
        properties = (result.answer or {}).get("properties", ())
        return ((one["name"], f"{one['value']:.4g}", one["unit"], _off_by(one)) for one in properties)

    def remarks(self, result: Result) -> Iterator[Text]:
        """See TableWriter."""
        if result.answer is None:
            yield problem_line(result)
            return
        yield Text(f"{result.label}: {result.answer['formula']}, by {result.answer['model']['name']}")
        for warning in result.answer["warnings"]:
            yield Text(f"{result.label}: {warning}", style="yellow")


def _off_by(one: dict[str, Any]) -> str:
    """The mean absolute error with its interval, and its unit where that is another one."""
    error = one["test_mae"]
    if error is None:
        return "not known"
    text = f"{error['value']:.3g}"
    text += f" ({error['low']:.3g} to {error['high']:.3g})" if error["low"] is not None else ""
    return text if error["unit"] == one["unit"] else f"{text} of {error['unit']}"


class PropertyCsv(CsvWriter):
    """One row a property."""

    columns = CSV_COLUMNS

    def rows(self, answer: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """See CsvWriter."""
        for one in answer["properties"]:
            error = one["test_mae"] or {"value": "", "unit": ""}
            yield {
                "formula": answer["formula"],
                "property": one["name"],
                "value": one["value"],
                "unit": one["unit"],
                "test_mae": error["value"],
                "test_mae_unit": error["unit"],
                "model": answer["model"]["name"],
            }
