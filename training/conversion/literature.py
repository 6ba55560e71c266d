"""The barriers from the literature, from the form in which their authors publish them."""

import hashlib
import json
import lzma
from pathlib import Path
from typing import Any

import numpy as np

from app.crystals.band import Band
from training.barrier_rows import barrier_row
from training.conversion.tables import ConversionError, Converted, check_new, read_table, write_rows
from training.corpus import BARRIERS_FILE
from training.download import DataFile, Report, fetch

#: R. Devi et al., arXiv:2508.06459: the training part, at one commit (MIT licence).
PUBLISHED_URL = (
    "https://github.com/sai-mat-group/predicting-migration-barriers/raw/577fbc45d8edb081a7b67b82f135c55ad0a4a256/"
    "DATA_FILES/MODEL-3-4/RAW"
)
PUBLISHED = DataFile(
    name="RAW-Em-5-images-TRAIN.json",
    sha256="e6d5579769d8ac2bdee2bdf462c5f24b3410779c7a768ed6673f0e47f9865c7c",
    size_bytes=4_054_304,
)
#: Each row lists the ion once for each image, before all other atoms.
_IMAGES = 5
_EXPECTED = "a list of objects with sys_name, target, class and atoms (lattice_mat, coords, elements), in .json or .xz"


def download_literature(data: Path, report: Report, url: str = PUBLISHED_URL) -> Path:
    """Download the published file to `upstream/` of the data folder, and check it.

    Raises:
        DownloadError: it cannot be downloaded, or its content is not the pinned one.
    """
    folder = data / "upstream"
    fetch([PUBLISHED], url, folder, report=report)
    return folder / PUBLISHED.name


def convert_literature(published: Path, data: Path) -> Converted:
    """Write `barriers/bands.jsonl.gz` of a data folder.

    Args:
        published: the authors' file, as it is or packed with xz.
        data: the folder.

    Raises:
        ConversionError: the file is another one, or the output exists.
        OSError: it cannot be read.
    """
    path = data / BARRIERS_FILE
    check_new(path)
    content = published.read_bytes()
    try:
        content = lzma.decompress(content) if published.suffix == ".xz" else content
        rows = json.loads(content)
        by_id = {row["sys_name"]: row for row in rows}
        folds = read_table("literature")
        converted = [_row(by_id[name], folds[name]) for name in folds if name in by_id]
    except (lzma.LZMAError, ValueError, TypeError, KeyError, IndexError) as error:
        raise ConversionError(f"{published} is not the published file ({error!r}); expected: {_EXPECTED}") from error
    if not converted:
        raise ConversionError(f"{published} has no row of the training part; expected: {_EXPECTED}")
    write_rows(path, converted)
    pinned = hashlib.sha256(content).hexdigest() == PUBLISHED.sha256
    return Converted(
        path=path,
        rows=len(converted),
        left_out=len(rows) - len(converted),
        missing=len(folds) - len(converted),
        notes=() if pinned else (f"{published} is another version than the one that is pinned",),
    )


def _row(row: dict[str, Any], folds: dict[str, int]) -> dict[str, Any]:
    atoms = row["atoms"]
    elements = [str(symbol).strip() for symbol in atoms["elements"]]
    lattice = np.array(atoms["lattice_mat"], dtype=np.float64)
    frac_coords = np.array(atoms["coords"], dtype=np.float64)
    if atoms.get("cartesian"):
        frac_coords = frac_coords @ np.linalg.inv(lattice)
    if len(elements) != len(frac_coords) or len(set(elements[:_IMAGES])) != 1 or len(elements) <= _IMAGES:
        raise ValueError(f"the first five atoms of {row['sys_name']} are not the images of one ion")
    band = Band(
        lattice_angstrom=lattice,
        host_species=tuple(elements[_IMAGES:]),
        host_frac_coords=frac_coords[_IMAGES:],
        ion=elements[0],
        image_frac_coords=frac_coords[:_IMAGES],
    )
    return barrier_row(row["sys_name"], band, float(row["target"]), folds, family=str(row["class"]).lower())
