"""LiTraj's nebDFT2k, from the layout that its documentation describes."""

import csv
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from app.crystals.limits import Limits
from app.crystals.readers.band_file import read_band_file
from app.crystals.readers.reading import File
from app.errors import IonpathError
from training.barrier_rows import barrier_row, straight_band
from training.conversion.tables import ConversionError, Converted, check_new, read_table, write_rows
from training.corpus import BARRIERS, FOLDINGS, LITRAJ

_INITIAL = "_init.xyz"
_RELAXED = "_relaxed.xyz"
_COLUMNS = frozenset({"em", "_split"})
_EXPECTED = (
    "the unpacked archive: an index (.csv) with the columns em and _split and one with the names of the hops, and for "
    f"each hop NAME{_INITIAL} and NAME{_RELAXED}"
)


def convert_litraj(published: Path, data: Path, report: Callable[[int, int], None]) -> Converted:
    """Write `barriers/litraj.jsonl.gz` of a data folder.

    The band of a hop is that of its initial trajectory: the host of the first image, and straight images between its
    end points. The barrier is `em` of the index, max(E) - min(E) over the relaxed band; relaxed positions are not used.

    Args:
        published: the folder of the unpacked archive.
        data: the folder.
        report: called with the number of hops done and the number of all.

    Raises:
        ConversionError: the folder is laid out differently, or the output exists.
    """
    path = data / BARRIERS / f"{LITRAJ}.jsonl.gz"
    check_new(path)
    trajectories = {one.name.removesuffix(_INITIAL): one for one in sorted(published.rglob(f"*{_INITIAL}"))}
    labels = _labels(_index(published), trajectories)
    table = read_table(LITRAJ)
    wanted = [name for name in table if name in labels]
    rows, refused = [], []
    for done, name in enumerate(wanted, start=1):
        try:
            rows.append(_row(name, trajectories[name], labels[name], table[name]))
        except IonpathError as error:
            refused.append(f"{trajectories[name]} was left out: {error.detail}")
        report(done, len(wanted))
    if not rows:
        reason = refused[0] if refused else "no hop of the index has a fold here"
        raise ConversionError(f"{published}: {reason}; expected: {_EXPECTED}")
    write_rows(path, rows)
    left_out, missing = len(labels) - len(rows), len(table) - len(rows)
    return Converted(path=path, rows=len(rows), left_out=left_out, missing=missing, notes=tuple(refused))


def _row(name: str, trajectory: Path, barrier_ev: float, numbers: dict[str, int]) -> dict[str, Any]:
    reading = read_band_file(File(name=trajectory.name, content=trajectory.read_bytes()), Limits())
    folds = {folding: numbers[folding] for folding in FOLDINGS}
    about = {"xc": "PBE", "source": "LiTraj nebDFT2k", "material_id": name.split("_", maxsplit=1)[0]}
    row = barrier_row(f"{LITRAJ}-{name}", straight_band(reading.band), barrier_ev, folds, **about)
    # A few bands overlap nowhere and are known to be wrong otherwise.
    row["sound"] = row["sound"] and bool(numbers["sound"])
    return row


def _index(published: Path) -> list[dict[str, str]]:
    """The rows of the one table that has the labels."""
    found: list[list[dict[str, str]]] = []
    for path in sorted(published.rglob("*.csv")):
        with path.open(encoding="utf-8", newline="", errors="replace") as file:
            reader = csv.DictReader(file)
            if _COLUMNS.issubset(reader.fieldnames or ()):
                found.append(list(reader))
    if len(found) != 1:
        raise ConversionError(f"{published} has {len(found)} tables with em and _split; expected: {_EXPECTED}")
    return found[0]


def _labels(index: list[dict[str, str]], trajectories: dict[str, Path]) -> dict[str, float]:
    """The barrier of each hop, eV; the column that names a hop is the one in which its trajectory's name stands."""
    labels: dict[str, float] = {}
    for row in index:
        name = next((value for value in row.values() if value in trajectories), None)
        if name is None:
            continue
        try:
            labels[name] = float(row["em"])
        except ValueError as error:
            raise ConversionError(f"the index has {row['em']!r} as em of {name}, which is no number") from error
        if not math.isfinite(labels[name]):
            raise ConversionError(f"the index has {row['em']!r} as em of {name}; expected: a barrier in eV")
    if not labels:
        raise ConversionError(f"no row of the index has a trajectory NAME{_INITIAL}; expected: {_EXPECTED}")
    return labels
