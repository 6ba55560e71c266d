"""Crystals' conductivities as a table or CSV."""

from collections.abc import Iterator, Sequence
from typing import Any, TextIO

from rich.text import Text

from app.console.asking import Result
from app.console.printing import CsvPrinter, Heading, TablePrinter, problem_line, problem_row

CSV_COLUMNS = (
    *("file", "ion", "formula", "log10_conductivity_s_per_cm", "low", "high"),
    *("probability_above_1e-5", "probability_above_1e-4", "probability_above_1e-3", "in_domain", "reasons"),
    *("percolation_1d_ev", "percolation_2d_ev", "percolation_3d_ev", "influences", "model", "warnings", "problem"),
)
_HEADINGS = (
    Heading(name="S/cm", least_width=8, justify="right"),
    Heading(name="log10", least_width=6, justify="right"),
    Heading(name="90 % interval", least_width=15, justify="right"),
    Heading(name="above 1e-4", least_width=10, justify="right"),
    Heading(name="in domain", least_width=9),
)


class TableWriter:
    """A table for people: a row a crystal, with what speaks for and against below it.

    Args:
        labels: of all files that will come; of one file alone the name is known, and not in the rows.
        stream: where it is printed.
    """

    def __init__(self, labels: Sequence[str], stream: TextIO) -> None:
        self._several = len(labels) > 1
        headings = [Heading(name="file", least_width=max(map(len, labels), default=0)), *_HEADINGS]
        self._printer = TablePrinter(headings[0 if self._several else 1 :], stream)

    def write(self, result: Result) -> None:
        """Print a crystal's row and remarks."""
        rows = [] if result.answer is None else [_cells(result.answer)]
        self._printer.print(([*([result.label] if self._several else []), *row] for row in rows), _remarks(result))


def _cells(answer: dict[str, Any]) -> list[str]:
    value, interval = answer["log10_conductivity_s_per_cm"], answer["interval_log10"]
    return [
        f"{10.0**value:.1e}",
        f"{value:.1f}",
        f"{interval['low']:.1f} to {interval['high']:.1f}",
        f"{answer['probability_above']['1e-4']:.2f}",
        "yes" if answer["in_domain"]["verdict"] else "no",
    ]


def _remarks(result: Result) -> Iterator[Text]:
    if result.answer is None:
        yield problem_line(result)
        return
    for influence in result.answer["influences"]:
        yield Text(f"{result.label}: {influence['text']}")
    for reason in result.answer["in_domain"]["reasons"]:
        yield Text(f"{result.label}: outside of what the model knows: {reason}", style="yellow")
    for warning in result.answer["warnings"]:
        yield Text(f"{result.label}: {warning}", style="yellow")


class CsvWriter:
    """One row a crystal, or the problem of a file."""

    def __init__(self, stream: TextIO) -> None:
        self._printer = CsvPrinter(CSV_COLUMNS, stream)

    def write(self, result: Result) -> None:
        """Write a crystal's row."""
        self._printer.print([problem_row(result) if result.answer is None else _row(result.label, result.answer)])


def _row(label: str, answer: dict[str, Any]) -> dict[str, Any]:
    return {
        "file": label,
        "ion": answer["ion"],
        "formula": answer["formula"],
        "log10_conductivity_s_per_cm": round(answer["log10_conductivity_s_per_cm"], 2),
        "low": round(answer["interval_log10"]["low"], 2),
        "high": round(answer["interval_log10"]["high"], 2),
        **{f"probability_above_{name}": round(value, 3) for name, value in answer["probability_above"].items()},
        "in_domain": "yes" if answer["in_domain"]["verdict"] else "no",
        "reasons": " | ".join(answer["in_domain"]["reasons"]),
        **{
            f"percolation_{name}_ev": round(value, 4)
            for name, value in answer["percolation_ev"].items()
            if value is not None
        },
        "influences": " | ".join(one["text"] for one in answer["influences"]),
        "model": answer["model"]["name"],
        "warnings": " | ".join(answer["warnings"]),
    }
