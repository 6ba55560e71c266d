"""The literature barriers, read and checked, with their folds."""

import gzip
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from app.crystals.band import Band

BARRIERS_FILE = Path("barriers") / "bands.jsonl.gz"
FOLDINGS = ("fold_random", "fold_chemistry")
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


@dataclass(frozen=True, kw_only=True)
class Record:
    """One labelled band.

    Attributes:
        barrier_ev: the reported barrier, eV.
        sound: no two atoms come closer than 0.7 angstrom on the straight line.
        folds: the number of its fold in each folding.
        family: the structural family, as the source names it.
        functional: that the label was computed with.
    """

    id: str
    band: Band
    barrier_ev: float
    sound: bool
    folds: dict[str, int]
    family: str
    functional: str


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """All records of a file, with the file's SHA-256."""

    records: tuple[Record, ...]
    sha256: str

    @property
    def barriers_ev(self) -> np.ndarray:
        """Every label, shape [n], eV."""
        return np.array([record.barrier_ev for record in self.records])

    @property
    def sound(self) -> np.ndarray:
        """Which records are sound, shape [n]."""
        return np.array([record.sound for record in self.records])

    def folds(self, folding: str) -> np.ndarray:
        """Every record's fold in a folding, shape [n]."""
        return np.array([record.folds[folding] for record in self.records])


def read_corpus(data: Path) -> Corpus:
    """Read the barriers of a data folder.

    Raises:
        FileNotFoundError: the folder has no barriers; the message has the path.
    """
    path = data / BARRIERS_FILE
    if not path.is_file():
        raise FileNotFoundError(f"no barriers at {path}; --data (or IONPATH_DATA_DIR) names the folder that has them")
    content = path.read_bytes()
    lines = gzip.decompress(content).decode().splitlines()
    return Corpus(
        records=tuple(record_from_json(json.loads(line)) for line in lines),
        sha256=hashlib.sha256(content).hexdigest(),
    )


def record_from_json(row: dict[str, Any]) -> Record:
    """A record from a line of the data set."""
    return Record(
        id=row["id"],
        band=Band(
            lattice_angstrom=np.array(row["lattice_angstrom"], dtype=np.float64),
            host_species=tuple(row["host_species"]),
            host_frac_coords=np.array(row["host_frac_coords"], dtype=np.float64),
            ion=row["ion"],
            image_frac_coords=np.array(row["image_frac_coords"], dtype=np.float64),
        ),
        barrier_ev=float(row["barrier_ev"]),
        sound=bool(row["sound"]),
        folds={folding: int(row[folding]) for folding in FOLDINGS},
        family=row["family"],
        functional=row["xc"],
    )
