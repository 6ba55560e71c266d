"""Crystals' conductivities as a table or CSV."""

from collections.abc import Iterator, Sequence
from typing import Any

from rich.text import Text

from app.console.asking import Result
from app.console.printing import CsvWriter, Heading, TableWriter, problem_line

CSV_COLUMNS = (
    *("file", "ion", "formula", "log10_conductivity_s_per_cm", "low", "high"),
    *("probability_above_1e-5", "probability_above_1e-4", "probability_above_1e-3", "in_domain", "reasons"),
    *("percolation_1d_ev", "percolation_2d_ev", "percolation_3d_ev", "influences", "model", "warnings", "problem"),
)


class ConductivityTable(TableWriter):
    """A row a crystal, with what speaks for and against below it."""

    headings = (
        Heading(name="S/cm", least_width=8, justify="right"),
        Heading(name="log10", least_width=6, justify="right"),
        Heading(name="90 % interval", least_width=15, justify="right"),
        Heading(name="above 1e-4", least_width=10, justify="right"),
        Heading(name="in domain", least_width=9),
    )

    def rows(self, result: Result) -> Iterator[Sequence[str]]:
        """See TableWriter."""
        if result.answer is not None:
            yield _cells(result.answer)

    def remarks(self, result: Result) -> Iterator[Text]:
        """See TableWriter."""
        return _remarks(result)


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


class ConductivityCsv(CsvWriter):
    """One row a crystal."""

    columns = CSV_COLUMNS

    def rows(self, answer: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """See CsvWriter."""
        yield _row(answer)


def _row(answer: dict[str, Any]) -> dict[str, Any]:
    return {
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
