"""Files of a report: the page and the CSV."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from app.screening.pieces import cannot_write
from app.screening.report.page import page
from app.screening.report.ranking import Ranked


def write_page(result: Ranked, path: Path, *, top: int) -> None:
    """Write the report.

    Raises:
        ScreeningError: it cannot be written.
    """
    try:
        path.write_text(page(result, top=top), encoding="utf-8")
    except OSError as error:
        raise cannot_write(path, error) from error


def write_csv(result: Ranked, path: Path) -> None:
    """Write every row of the ranking as CSV (RFC 4180), lists joined by ` | `.

    Raises:
        ScreeningError: it cannot be written.
    """
    try:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(result.rows[0]) if result.rows else ["rank"])
            writer.writeheader()
            writer.writerows(map(_flat, result.rows))
    except OSError as error:
        raise cannot_write(path, error) from error


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _text(value) for name, value in row.items()}


def _text(value: Any) -> Any:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, list):
        return value
    return " | ".join(" ".join(map(str, one)) if isinstance(one, list) else str(one) for one in value)
