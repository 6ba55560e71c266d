"""Measured conductivities with their crystals, read from the data folder."""

import csv
import hashlib
import io
import math
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from app.crystals.crystal import Crystal
from app.crystals.limits import Limits
from app.crystals.readers import read_crystal
from app.crystals.readers.reading import File
from app.errors import IonpathError
from training.conversion.obelix import CIFS_FILE, CONDUCTIVITIES_FILE

FOLDINGS = ("fold_family", "fold_random")
CITATIONS = (
    (
        "F. Therrien et al., OBELiX: a curated dataset of crystal structures and experimentally measured ionic "
        "conductivities for lithium solid-state electrolytes, 2026, doi:10.1039/d5dd00441a (CC BY 4.0)"
    ),
)
#: Columns that describe the cell, for the comparison with trees.
_CELL = ("a_angstrom", "b_angstrom", "c_angstrom", "alpha_degree", "beta_degree", "gamma_degree", "space_group_number")


@dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """One measured conductor that has a CIF.

    Attributes:
        log10_s_per_cm: at room temperature.
        is_bound: the conductivity is this or less.
        family: as the source names it; the composition where it names none.
        cell: lengths (angstrom), angles (degree) and the number of the space group, shape [7].
        close_match: the CIF is of a similar crystal, not of the one that was measured.
        crystal: None where the CIF cannot be read, for the reason in `unreadable`.
    """

    id: str
    composition: str
    log10_s_per_cm: float
    is_bound: bool
    family: str
    cell: np.ndarray
    close_match: bool
    folds: dict[str, int]
    crystal: Crystal | None
    unreadable: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Measurements:
    """All rows that have a CIF.

    Attributes:
        sha256: of the table and the CIFs.
    """

    rows: tuple[Measured, ...]
    sha256: str

    @property
    def values(self) -> np.ndarray:
        """log10 of every conductivity in S/cm, shape [n]; of a bound, the bound."""
        return np.array([row.log10_s_per_cm for row in self.rows])

    @property
    def is_bound(self) -> np.ndarray:
        """Which rows are upper bounds, shape [n]."""
        return np.array([row.is_bound for row in self.rows])

    @property
    def families(self) -> np.ndarray:
        """The family of every row, shape [n]."""
        return np.array([row.family for row in self.rows])

    def folds(self, folding: str) -> np.ndarray:
        """Every row's fold in a folding, shape [n]."""
        return np.array([row.folds[folding] for row in self.rows])


def read_measurements(data: Path, ion: str) -> Measurements:
    """Read the rows of a data folder that have a CIF.

    Raises:
        FileNotFoundError: the folder has no conductivities; the message has the path.
        ValueError: a row cannot be read; the message has its line.
    """
    table, archive = data / CONDUCTIVITIES_FILE, data / CIFS_FILE
    for path in (table, archive):
        if not path.is_file():
            raise FileNotFoundError(
                f"no conductivities at {path}; --data (or IONPATH_DATA_DIR) names the folder that has them, and "
                "`ionpath data convert obelix` makes them"
            )
    content, packed = table.read_bytes(), archive.read_bytes()
    cifs = _cifs(packed)
    rows = []
    for number, row in enumerate(csv.DictReader(io.StringIO(content.decode())), start=2):
        if row["id"] not in cifs:
            continue
        try:
            rows.append(_measured(row, cifs[row["id"]], ion))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{table}, line {number}: {error!r}") from error
    return Measurements(rows=tuple(rows), sha256=hashlib.sha256(content + packed).hexdigest())


def _cifs(packed: bytes) -> dict[str, bytes]:
    """CIFs by the stem of their name."""
    found: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        for member in archive:
            if member.isfile() and (content := archive.extractfile(member)) is not None:
                found[Path(member.name).stem] = content.read()
    return found


def _measured(row: dict[str, str], cif: bytes, ion: str) -> Measured:
    crystal, unreadable = None, ""
    try:
        crystal = read_crystal(File(name=f"{row['id']}.cif", content=cif), Limits(), ion)
    except IonpathError as error:
        unreadable = error.detail
    return Measured(
        id=row["id"],
        composition=row["composition"],
        log10_s_per_cm=math.log10(float(row["conductivity_s_per_cm"])),
        is_bound=row["upper_bound"] == "1",
        family=row["family"] or row["composition"],
        cell=np.array([float(row[name] or "nan") for name in _CELL]),
        close_match=row["cif_of_a_close_match"] == "1",
        folds={folding: int(row[folding]) for folding in FOLDINGS},
        crystal=crystal,
        unreadable=unreadable,
    )
