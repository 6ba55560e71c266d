"""Labelled bands of one or several sources, read and checked, with their folds."""

import gzip
import hashlib
import json
import math
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from app.crystals.band import Band
from app.crystals.limits import Limits
from app.crystals.readers.json_band import read_json_band
from app.errors import IonpathError
from training.barrier_rows import (
    FOLD_COUNT,
    band_of_row,
    barrier_fault,
    chemical_system,
    chosen_fold,
    is_sound,
    straight_band,
)

BARRIERS = Path("barriers")
BARRIERS_FILE = BARRIERS / "bands.jsonl.gz"
FOLDINGS = ("fold_random", "fold_chemistry")
LITERATURE, LITRAJ = "literature", "litraj"
#: Sources by the name of their file; any other file is a source of its own name.
_SOURCES = {"bands": LITERATURE}
#: Of these the conversion has checked every row.
_CHECKED = frozenset({LITERATURE, LITRAJ})
_ENDINGS = (".jsonl", ".jsonl.gz")
CORPUS_CITATIONS = (
    (
        "R. Devi, A. Balasubramanian, K. T. Butler, G. Sai Gautam, literature-derived DFT-NEB migration barriers, "
        "arXiv:2508.06459"
    ),
    (
        "R. Devi, K. T. Butler, G. Sai Gautam, Leveraging transfer learning for accurate estimation of ionic migration "
        "barriers in solids, npj Comput. Mater. 2026, doi:10.1038/s41524-026-01972-8"
    ),
)
LITRAJ_CITATIONS = (
    (
        "A. D. Dembitskiy et al., LiTraj nebDFT2k (MIT), crystals of the Materials Project (CC BY 4.0), "
        "npj Comput. Mater. 11, 131 (2025), doi:10.1038/s41524-025-01571-z"
    ),
)


@dataclass(frozen=True, kw_only=True)
class Record:
    """One labelled band.

    Attributes:
        barrier_ev: the reported barrier, eV, from the lower of the two ends: what both published sources mean, as far
            as can be said (docs/training.md).
        sound: no two atoms come closer than 0.7 angstrom on the straight line.
        folds: the number of its fold in each folding.
        source: the corpus that it is from: "literature", "litraj", or the name of another file.
        family: the structural family, as the source names it; empty where it does not.
        functional: that the label was computed with; empty where the source does not say.
    """

    id: str
    band: Band
    barrier_ev: float
    sound: bool
    folds: dict[str, int]
    source: str
    family: str = ""
    functional: str = ""

    @property
    def chemical_system(self) -> str:
        """Elements of the host and the ion, in alphabetical order, such as Fe-Li-O-P."""
        return chemical_system(self.band)


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """All records of one or several files.

    Attributes:
        sha256: of the file, or of the digests of all files.
        files: the SHA-256 of each file by its source.
    """

    records: tuple[Record, ...]
    sha256: str
    files: dict[str, str]

    @property
    def barriers_ev(self) -> np.ndarray:
        """Every label, shape [n], eV."""
        return np.array([record.barrier_ev for record in self.records])

    @property
    def sound(self) -> np.ndarray:
        """Which records are sound, shape [n]."""
        return np.array([record.sound for record in self.records])

    @property
    def sources(self) -> np.ndarray:
        """The source of every record, shape [n]."""
        return np.array([record.source for record in self.records])

    def folds(self, folding: str) -> np.ndarray:
        """Every record's fold in a folding, shape [n]; fold k is the same held-out part in every source."""
        return np.array([record.folds[folding] for record in self.records])


def read_corpus(data: Path, sources: Collection[str] | None = (LITERATURE,)) -> Corpus:
    """Read the barriers of a data folder.

    Args:
        data: the folder; each file of `barriers/` that ends in .jsonl or .jsonl.gz is a source of that name, and
            bands.jsonl.gz is the literature.
        sources: which to read, in this order; None for all of the folder, the two published ones first.

    Raises:
        FileNotFoundError: a source, or any, is missing; the message has the path.
        ValueError: a row is not a labelled band, or an id is there twice; the message has the file and the line.
    """
    files = barrier_files(data)
    wanted = tuple(files) if sources is None else tuple(sources)
    if not files or not wanted:
        raise FileNotFoundError(_missing(data / BARRIERS_FILE))
    records: list[Record] = []
    digests: dict[str, str] = {}
    for source in wanted:
        if source not in files:
            name = BARRIERS_FILE.name if source == LITERATURE else f"{source}.jsonl.gz"
            raise FileNotFoundError(_missing(data / BARRIERS / name))
        content = files[source].read_bytes()
        digests[source] = hashlib.sha256(content).hexdigest()
        records += _records(files[source], content, source, records)
    together = hashlib.sha256("\n".join(f"{name} {one}" for name, one in digests.items()).encode()).hexdigest()
    sha256 = next(iter(digests.values())) if len(digests) == 1 else together
    return Corpus(records=tuple(records), sha256=sha256, files=digests)


def barrier_files(data: Path) -> dict[str, Path]:
    """The files of barriers in a data folder by their source, the two published ones first.

    Raises:
        ValueError: two files of one name.
    """
    found: dict[str, Path] = {}
    for path in sorted((data / BARRIERS).glob("*")):
        if not path.name.endswith(_ENDINGS) or not path.is_file():
            continue
        stem = path.name.removesuffix(".gz").removesuffix(".jsonl")
        source = _SOURCES.get(stem, stem)
        if source in found:
            raise ValueError(f"{found[source]} and {path} are both the source {source}: rename or remove one")
        found[source] = path
    published = [source for source in (LITERATURE, LITRAJ) if source in found]
    return {source: found[source] for source in (*published, *(one for one in found if one not in _CHECKED))}


def _missing(path: Path) -> str:
    return f"no barriers at {path}; --data (or IONPATH_DATA_DIR) names the folder that has them"


def _records(path: Path, content: bytes, source: str, before: Sequence[Record]) -> list[Record]:
    """The records of a file; a row without folds has that of its chemical system, where this has one already."""
    known = {record.chemical_system: record.folds["fold_chemistry"] for record in before if source not in _CHECKED}
    lines = {record.id: "" for record in before}
    records: list[Record] = []
    for number, line in enumerate(_lines(path, content), start=1):
        where = f"{path}, line {number}"
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            record = record_from_json(row, source) if source in _CHECKED else _own_record(row, source, known)
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{where}: {_shown(error)}") from error
        if record.id in lines:
            raise ValueError(
                f"{where}: the id {record.id!r} is there already{lines[record.id]}; every row needs its own"
            )
        lines[record.id] = f" in line {number}"
        records.append(record)
    return records


def _lines(path: Path, content: bytes) -> list[str]:
    try:
        return (gzip.decompress(content) if path.suffix == ".gz" else content).decode().splitlines()
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error


def _shown(error: Exception) -> str:
    return f"the field {error} is missing" if isinstance(error, KeyError) else str(error)


def record_from_json(row: dict[str, Any], source: str = LITERATURE) -> Record:
    """A record from a line of the data set, whose content is known to be valid."""
    return Record(
        id=row["id"],
        band=band_of_row(row),
        barrier_ev=float(row["barrier_ev"]),
        sound=bool(row["sound"]),
        folds={folding: int(row[folding]) for folding in FOLDINGS},
        source=source,
        family=row.get("family", ""),
        functional=row.get("xc", ""),
    )


def _own_record(row: object, source: str, known: Mapping[str, int]) -> Record:
    """A record from a line of any other file: checked as an upload is, and completed.

    Raises:
        ValueError: what is wrong with it.
        KeyError: a field is missing.
    """
    if not isinstance(row, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - the caller gives it the file and the line
    try:
        band = straight_band(read_json_band(row, Limits()).band)
    except IonpathError as error:
        where = f" ({error.where})" if error.where else ""
        raise ValueError(f"{error.detail}{where} Expected: {error.expected}.") from error
    barrier = row["barrier_ev"]
    if isinstance(barrier, bool) or not isinstance(barrier, int | float):
        barrier = math.nan
    if fault := barrier_fault(barrier, row["barrier_ev"]):
        raise ValueError(fault)
    system = chemical_system(band)
    group = str(row.get("material_id") or system)
    chosen = {"fold_random": chosen_fold(group), "fold_chemistry": known.get(system, chosen_fold(system))}
    return Record(
        id=str(row["id"]),
        band=band,
        barrier_ev=float(barrier),
        sound=is_sound(band),
        folds={folding: _fold(row, folding, chosen[folding]) for folding in FOLDINGS},
        source=source,
        family=str(row.get("family", "")),
        functional=str(row.get("xc", "")),
    )


def _fold(row: Mapping[str, Any], folding: str, otherwise: int) -> int:
    fold = row.get(folding, otherwise)
    if isinstance(fold, bool) or not isinstance(fold, int) or not 0 <= fold < FOLD_COUNT:
        raise ValueError(f"{folding} is {fold!r}, not a whole number from 0 to {FOLD_COUNT - 1}")
    return fold
