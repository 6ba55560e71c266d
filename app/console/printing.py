"""What every table and CSV of the command line has in common."""

import csv
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TextIO

from rich.console import Console, JustifyMethod
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from app.console.asking import Result

_WIDEST = 1_000


#: Query parameters that messages name, as the command line has them; words of ordinary text are meant where they have a
#: value.
_PARAMETER = re.compile(
    r"`?\b(?:(include_close_hops|interstitials)=true|(ion|mechanism|max_hops|max_hop_angstrom|second_opinion)=(\w+)"
    r"|(include_close_hops|max_hops|max_hop_angstrom|second_opinion|threshold_ev)\b)`?"
)
_CELL = "the form field `cell`"


def as_options(text: str) -> str:
    """A message with its query parameters as options: include_close_hops=true is --include-close-hops."""

    def option(found: re.Match[str]) -> str:
        flag, name, value, alone = found.groups()
        words = f"--{(flag or name or alone).replace('_', '-')}"
        return f"{words} {value}" if value else words

    return _PARAMETER.sub(option, text).replace(_CELL, "--cell")


class Writer(Protocol):
    """Writes one result after the other, each as soon as it is there."""

    def write(self, result: Result) -> None:
        """Write a result."""


def plain_table(*, show_header: bool = True) -> Table:
    """A table without lines, its headings bold."""
    return Table(box=None, pad_edge=False, header_style="bold", show_header=show_header)


def show(table: Table, stream: TextIO) -> None:
    """Print a table, if it has rows.

    Wider than the terminal it is still whole: a figure cut short would be another figure.
    """
    if not table.row_count:
        return
    console = Console(file=stream, highlight=False, markup=False)  # file names and formulas are no markup
    whole = Measurement.get(console, console.options.update_width(_WIDEST), table).maximum
    Console(file=stream, highlight=False, markup=False, width=max(console.width, whole)).print(table)


@dataclass(frozen=True, kw_only=True)
class Heading:
    """A column of a table: its least width, in characters, lines up what is printed piece by piece."""

    name: str
    least_width: int
    justify: JustifyMethod = "left"


class TableWriter(ABC):
    """A table for people, in pieces that line up: a file's rows, and what was noticed below them.

    Args:
        labels: of all files that will come; of one file alone the name is known, and not in the rows.
        stream: where it is printed.
    """

    #: Besides the file's.
    headings: ClassVar[Sequence[Heading]]

    def __init__(self, labels: Sequence[str], stream: TextIO) -> None:
        self._several = len(labels) > 1
        of_file = Heading(name="file", least_width=max(map(len, labels), default=0))
        self._headings = [of_file, *self.headings] if self._several else self.headings
        self._stream = stream
        self._is_first = True
        self._remarked = False

    @abstractmethod
    def rows(self, result: Result) -> Iterable[Sequence[str]]:
        """A file's cells, below `headings`."""

    @abstractmethod
    def remarks(self, result: Result) -> Iterable[Text]:
        """What was noticed."""

    def write(self, result: Result) -> None:
        """Print a file's rows and remarks."""
        table = plain_table(show_header=self._is_first)
        for heading in self._headings:
            table.add_column(
                heading.name,
                justify=heading.justify,
                no_wrap=True,
                min_width=max(heading.least_width, len(heading.name)),
            )
        for row in self.rows(result):
            table.add_row(*([result.label] if self._several else []), *row)
        if table.row_count:
            if self._remarked:
                self._stream.write("\n")
            show(table, self._stream)
            self._is_first = self._remarked = False
        console = Console(file=self._stream, highlight=False, markup=False)
        for remark in self.remarks(result):
            console.print(remark, soft_wrap=True)
            self._remarked = True
        self._stream.flush()


class CsvWriter(ABC):
    """A CSV, the columns' names before the first row; empty where a row has nothing to say."""

    columns: ClassVar[Sequence[str]]

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._writer = csv.DictWriter(stream, self.columns, restval="", lineterminator="\n")
        self._is_first = True

    @abstractmethod
    def rows(self, answer: dict[str, Any]) -> Iterable[Mapping[str, Any]]:
        """The rows of an answer, all but their file."""

    def write(self, result: Result) -> None:
        """Write a file's rows, or its problem."""
        if self._is_first:
            self._writer.writeheader()
            self._is_first = False
        if result.answer is None:
            self._writer.writerow({"file": result.label, "problem": (result.problem or {}).get("detail", "")})
        else:
            self._writer.writerows({"file": result.label, **row} for row in self.rows(result.answer))
        self._stream.flush()


def problem_line(result: Result) -> Text:
    """What was wrong with a file, where, and what would be right."""
    parts = ((result.problem or {}).get(name) for name in ("detail", "where", "expected"))
    return Text(f"{result.label}: " + as_options(" | ".join(part for part in parts if part)), style="red")
