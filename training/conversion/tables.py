"""What a conversion keeps to: the rows that have a fold, and one file that is the same each time it is written."""

import csv
import gzip
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TABLES = Path(__file__).resolve().parent / "tables"


class ConversionError(Exception):
    """What was named cannot be converted; the message says what is missing and what is expected."""


@dataclass(frozen=True, kw_only=True)
class Converted:
    """The outcome of a conversion.

    Attributes:
        path: the file written.
        rows: how many rows it has.
        left_out: how many rows of the input have no fold here, and were not written.
        missing: how many rows of our table the input does not have.
        notes: further messages for the user.
    """

    path: Path
    rows: int
    left_out: int = 0
    missing: int = 0
    notes: tuple[str, ...] = ()


def read_table(name: str) -> dict[str, dict[str, int]]:
    """The numbers of each row, folds mostly, by the id that its authors gave it."""
    with (TABLES / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return {
            row["id"]: {column: int(value) for column, value in row.items() if column != "id"}
            for row in csv.DictReader(file)
        }


def check_new(path: Path) -> None:
    """Refuse to overwrite a file.

    Raises:
        ConversionError: it exists.
    """
    if path.exists():
        raise ConversionError(f"{path} exists: move it away, or name another folder with --data")


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON object per line, packed; equal rows give equal bytes."""
    lines = "".join(f"{json.dumps(row, separators=(',', ':'))}\n" for row in rows)
    write_whole(path, gzip.compress(lines.encode(), mtime=0))


def write_whole(path: Path, content: bytes) -> None:
    """Write a file, so that an interrupted call leaves none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pending = path.with_name(f"{path.name}.pending")
    pending.write_bytes(content)
    pending.replace(path)
