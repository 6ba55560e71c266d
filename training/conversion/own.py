"""A lab's own barriers: folders of NEB runs, and a table that says which barrier is whose."""

import csv
import io
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from app.console.sources import inputs_of
from app.crystals.band import Band
from app.crystals.geometry.identity import CanonicalBand, bucket_keys, canonical, same_band
from app.crystals.limits import Limits
from app.crystals.readers.band_file import read_band_file
from app.crystals.readers.reading import File
from app.errors import IonpathError
from training.barrier_rows import barrier_fault, barrier_row, straight_band
from training.conversion.tables import ConversionError, Converted, check_new, write_rows
from training.corpus import BARRIERS, LITERATURE, LITRAJ, barrier_files

TABLE = "barriers.csv"
#: Further columns of the table that go into the rows as they are.
_ABOUT = ("material_id", "family", "xc")
#: The names of the published sources, and of the file of one; rows in such a file are not checked when they are read.
_PUBLISHED = frozenset({"bands", LITERATURE, LITRAJ})
_WITH_COMMA = re.compile(r"\d*,\d+")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")
#: So many wrong rows are named in one error.
_MOST_FAULTS = 20
_EXPECTED = (
    "a table with the columns band and barrier_ev, where band is an NEB folder (00, 01, .. with a POSCAR each) or a "
    "file of a band, named from the folder of the table"
)


def convert_own(folder: Path, data: Path, name: str, report: Callable[[int, int], None]) -> Converted:
    """Write `barriers/NAME.jsonl.gz` of a data folder.

    Every band is read as if it were uploaded, so that a model is fitted on what it will see. Every row is read before
    anything is written, so that one error names all that are wrong.

    Args:
        folder: it holds `barriers.csv`, and what that names.
        data: the folder of the training data.
        name: of the source.
        report: called with the number of bands done and the number of all.

    Raises:
        ConversionError: the table or bands cannot be read (the message has their lines), or the output exists.
    """
    _check_name(name, data)
    path = data / BARRIERS / f"{name}.jsonl.gz"
    check_new(path)
    table = folder / TABLE
    names, lines, decimal_comma = _listed(table)
    rows: list[dict[str, Any]] = []
    notes: list[str] = []
    faults: list[str] = []
    seen: set[str] = set()
    known = _KnownBands()
    for number, cells in enumerate(lines, start=2):  # line 1 has the names of the columns
        where = f"{table}, line {number}"
        try:
            entry = _entry(names, cells, where, decimal_comma=decimal_comma)
            _note_name(entry["band"], seen, where)
            row, band, warnings = _row(folder, entry, where, name)
        except ConversionError as error:
            faults.append(str(error))
            continue
        finally:
            report(number - 1, len(lines))
        rows.append(row)
        notes += (f"{entry['band']}: {warning}" for warning in warnings)
        contradiction = known.add(band, _Label(line=number, name=entry["band"], barrier_ev=row["barrier_ev"]))
        notes += [contradiction] if contradiction else []
    _raise_all(faults)
    write_rows(path, rows)
    return Converted(path=path, rows=len(rows), notes=tuple(notes))


def _note_name(band: str, seen: set[str], where: str) -> None:
    if band in seen:
        raise ConversionError(f"{where}: {band!r} is listed twice")
    seen.add(band)


def _raise_all(faults: Sequence[str]) -> None:
    """One error for all rows that are wrong, the first of them named."""
    if not faults:
        return
    more = len(faults) - _MOST_FAULTS
    raise ConversionError("\n".join([*faults[:_MOST_FAULTS], *([f"and {more} more"] if more > 0 else [])]))


@dataclass(frozen=True, kw_only=True)
class _Label:
    """The barrier of a line of the table."""

    line: int
    name: str
    barrier_ev: float

    def __str__(self) -> str:
        return f"line {self.line} ({self.name}, {self.barrier_ev:g} eV)"


class _KnownBands:
    """The bands of the lines before, found as the service's cache finds them."""

    def __init__(self) -> None:
        self._buckets: dict[str, list[tuple[CanonicalBand, _Label]]] = {}

    def add(self, band: Band, label: _Label) -> str | None:
        """Keep a band, and say where the same one had another barrier before, in either direction of its hop."""
        form = canonical(band)
        keys = bucket_keys(form.fingerprint)
        before = [known for key in keys for known in self._buckets.get(key, ())]
        self._buckets.setdefault(keys[0], []).append((form, label))
        others = (other for known, other in before if other.barrier_ev != label.barrier_ev and same_band(known, form))
        other = next(others, None)
        if other is None:
            return None
        return f"{other} and {label} are the same band with two barriers: both are written, so keep the right one alone"


def _check_name(name: str, data: Path) -> None:
    if not _NAME.fullmatch(name) or name in _PUBLISHED:
        raise ConversionError(f"{name!r} is no name for a new source: choose another, of letters, digits, - and _")
    if existing := barrier_files(data).get(name):  # with either ending
        raise ConversionError(
            f"the source {name!r} exists already, as {existing}: choose another --name, or remove that file first"
        )


def _listed(table: Path) -> tuple[list[str], list[list[str]], bool]:
    """The names of the table's columns, the cells of its lines, and whether a barrier may have a decimal comma.

    Cells are separated by commas, semicolons or tabs, as those of the first line. Where they are not separated by
    commas, spreadsheets write a decimal comma.
    """
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:  # spreadsheets begin a file with a byte order mark
            text = file.read()
        first = next((line for line in text.splitlines() if line.strip()), "")
        separator = max(",;\t", key=first.count)
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
        lines = [[cell.strip() for cell in cells] for cells in rows if cells]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConversionError(f"{table} cannot be read ({error}); expected: {_EXPECTED}") from error
    names, listed = (lines[0], lines[1:]) if lines else ([], [])
    if not {"band", "barrier_ev"} <= set(names) or not listed:
        shown = ", ".join(names) or "none"
        raise ConversionError(f"{table} has the columns {shown} and {len(listed)} rows; expected: {_EXPECTED}")
    return names, listed, separator != ","


def _entry(names: list[str], cells: list[str], where: str, *, decimal_comma: bool) -> dict[str, str]:
    """The cells of a row by their columns; a decimal comma becomes a point."""
    _check_cells(names, cells, where)
    column = names.index("barrier_ev")
    if decimal_comma and _WITH_COMMA.fullmatch("".join(cells[column : column + 1])):
        cells[column] = cells[column].replace(",", ".")
    return {name: cell for name, cell in zip_longest(names, cells, fillvalue="") if name}


def _check_cells(names: list[str], cells: list[str], where: str) -> None:
    """Refuse a row with a cell too many: where commas separate, most often a decimal comma has split its barrier."""
    column = names.index("barrier_ev")
    barrier = ",".join(cells[column : column + 2])
    split = _WITH_COMMA.fullmatch(barrier)
    # Spreadsheets end every line with commas for empty columns: there the other half is below a column without a name.
    unnamed = names[column + 1 : column + 2] == [""]
    if split and (unnamed or len(cells) > len(names)):
        raise ConversionError(f"{where}: barrier_ev is {barrier!r}: write a decimal point")
    if not any(cells[len(names) :]):  # commas at the end of a row say nothing
        return
    raise ConversionError(
        f"{where}: {len(cells)} cells under {len(names)} columns; write a decimal point, and put a text that has a "
        "comma in quotes"
    )


def _row(folder: Path, entry: dict[str, str], where: str, source: str) -> tuple[dict[str, Any], Band, tuple[str, ...]]:
    """The row of one line, its band, and the warnings of its reader."""
    if _WITH_COMMA.fullmatch(entry["barrier_ev"]):
        raise ConversionError(f"{where}: barrier_ev is {entry['barrier_ev']!r}: write a decimal point")
    try:
        barrier_ev = float(entry["barrier_ev"])
    except ValueError:
        barrier_ev = math.nan
    if fault := barrier_fault(barrier_ev, entry["barrier_ev"]):
        raise ConversionError(f"{where}: {fault}")
    path = folder / entry["band"]
    if not entry["band"] or not path.exists():
        raise ConversionError(f"{where}: there is no {path}; expected: {_EXPECTED}")
    uploaded = inputs_of([path], ion=None, initial=None, final=None)[0].load()
    try:
        file, content = uploaded.files.get("band") or uploaded.files["structure"]
        reading = read_band_file(File(name=file, content=content), Limits())
    except IonpathError as error:
        raise ConversionError(f"{where}: {error.detail} Expected: {error.expected}.") from error
    about = {column: entry[column] for column in _ABOUT if entry.get(column)}
    band = straight_band(reading.band)
    row = barrier_row(f"{source}-{entry['band']}", band, barrier_ev, {}, source=source, **about)
    return row, band, reading.warnings
