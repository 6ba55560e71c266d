"""What every table and CSV of the command line has in common."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TextIO

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from app.console.asking import Result

_WIDEST = 1_000


def plain_table() -> Table:
    """A table without lines, its headings bold."""
    return Table(box=None, pad_edge=False, header_style="bold")


def show(table: Table, remarks: Iterable[Text], stream: TextIO) -> None:
    """Print a table, if it has rows, and remarks below.

    Wider than the terminal it is still whole: a figure cut short would be another figure.
    """
    console = Console(file=stream, highlight=False, markup=False)  # file names and formulas are no markup
    if table.row_count:
        whole = Measurement.get(console, console.options.update_width(_WIDEST), table).maximum
        Console(file=stream, highlight=False, markup=False, width=max(console.width, whole)).print(table)
    for remark in remarks:
        console.print(remark, soft_wrap=True)


def write_rows(columns: Sequence[str], rows: Iterable[Mapping[str, Any]], stream: TextIO) -> None:
    """CSV, empty where a row has nothing to say."""
    writer = csv.DictWriter(stream, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


def problem_row(result: Result) -> dict[str, Any]:
    """A file that could not be predicted, as a row of a CSV."""
    return {"file": result.label, "problem": (result.problem or {}).get("detail", "")}


def problem_line(result: Result) -> Text:
    """What was wrong with a file, where, and what would be right."""
    parts = ((result.problem or {}).get(name) for name in ("detail", "where", "expected"))
    return Text(f"{result.label}: " + " | ".join(part for part in parts if part), style="red")
