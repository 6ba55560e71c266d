"""The best crystals themselves: their structures and bottleneck hops, as CIF, NEB folders and drawings."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow.compute as pc

from app.crystals.crystal import Crystal, Site
from app.crystals.hops.options import HopOptions
from app.crystals.hops.search import find_hops
from app.crystals.writers import band_to_poscars, crystal_to_cif
from app.errors import IonpathError
from app.screening.pieces import cannot_write, table_of_folder
from app.screening.report.ranking import DIMENSIONS, Ranked, Row

Key = tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class Bands:
    """Folders of bottleneck hops that were written.

    Attributes:
        paths: of all POSCARs.
        crystals: of so many.
        left_out: rows without a folder, by the reason.
    """

    paths: Sequence[Path]
    crystals: int
    left_out: Mapping[str, Sequence[Row]]


def structures_of(result: Ranked, rows: Sequence[Row]) -> dict[Key, Crystal]:
    """The crystals of some rows, by id and ion."""
    wanted = {(row["id"], row["ion"]) for row in rows}
    ids = pc.field("id").isin(sorted({one for one, _ in wanted}))
    table = table_of_folder(result.folder, "crystals").to_table(columns=["id", "ion", "structure"], filter=ids)
    return {
        (row["id"], row["ion"]): crystal_from_json(row["structure"])
        for row in table.to_pylist()
        if (row["id"], row["ion"]) in wanted
    }


def hops_of(result: Ranked, rows: Sequence[Row]) -> dict[Key, list[Row]]:
    """The hops of some rows, by id and ion, in order."""
    ids = pc.field("id").isin(sorted({row["id"] for row in rows}))
    table = table_of_folder(result.folder, "hops").to_table(filter=ids).sort_by("hop")
    found: dict[Key, list[Row]] = {}
    for row in table.to_pylist():
        found.setdefault((row["id"], row["ion"]), []).append(row)
    return found


def crystal_from_json(text: str) -> Crystal:
    """A crystal as `app.screening.rows.structure_json` wrote it."""
    record = orjson.loads(text)
    return Crystal(
        lattice_angstrom=np.array(record["lattice_angstrom"]),
        sites=tuple(
            Site(species=tuple(species.items()), frac_coords=tuple(place))
            for species, place in zip(record["species"], record["frac_coords"], strict=True)
        ),
    )


def write_cifs(result: Ranked, rows: Sequence[Row], folder: Path) -> list[Path]:
    """Write a CIF of each crystal, named by rank and id.

    Raises:
        ScreeningError: the folder cannot be written.
    """
    structures = structures_of(result, rows)
    texts = {
        f"{_name(row)}.cif": crystal_to_cif(structures[row["id"], row["ion"]], f"{row['id']}_{row['ion']}")
        for row in rows
    }
    return _write(folder, texts)


def write_nebs(result: Ranked, rows: Sequence[Row], folder: Path) -> Bands:
    """Write the bottleneck hops of each crystal as folders 00 to NN of POSCARs, to start a DFT-NEB from.

    Of a crystal that does not percolate in the ranking's dimensions it is the bottleneck in the most that it does.
    Hops are found again in the stored structure, which takes what it took in the screening.

    Raises:
        ScreeningError: the folder cannot be written.
    """
    settings = result.run["settings"]
    options = HopOptions(**{field.name: settings[f"hops.{field.name}"] for field in fields(HopOptions)})
    structures, texts = structures_of(result, rows), dict[str, str]()
    left_out: dict[str, list[Row]] = {}
    for row in rows:
        numbers = _bottleneck(row, result.dimension)
        crystal = structures[row["id"], row["ion"]]
        found = _poscars(row["ion"], crystal, numbers, options, settings) if numbers else {}
        if not found:
            reason = "their hops were not found again" if numbers else "they have no bottleneck"
            left_out.setdefault(reason, []).append(row)
        for number, poscars in found.items():
            for image, text in enumerate(poscars):
                texts[f"{_name(row)}/hop-{number:02d}/{image:02d}/POSCAR"] = text
    paths = _write(folder, texts)
    return Bands(paths=paths, crystals=len(rows) - sum(map(len, left_out.values())), left_out=left_out)


def _bottleneck(row: Row, dimension: str) -> Sequence[int]:
    """Numbers of the bottleneck hops in so many dimensions, or in the most of fewer in which it percolates."""
    for one in reversed(DIMENSIONS[: DIMENSIONS.index(dimension) + 1]):
        if row[f"bottleneck_hops_{one}"]:
            numbers: Sequence[int] = row[f"bottleneck_hops_{one}"]
            return numbers
    return ()


def _poscars(
    ion: str, crystal: Crystal, numbers: Sequence[int], options: HopOptions, settings: Mapping[str, Any]
) -> dict[int, list[str]]:
    """The images of some hops, by number."""
    try:
        search = find_hops(crystal, ion, options, max_atoms=settings["limits.max_atoms"])
    except IonpathError:  # it was found once: the structure is stored with eight digits
        return {}
    bands = {number: search.hops[number - 1].band for number in numbers if number <= len(search.hops)}
    return {number: band_to_poscars(band) for number, band in bands.items() if band is not None}


def _name(row: Row) -> str:
    """A folder's or file's name for a row; of ids alone some systems could not make one."""
    plain = re.sub(r"[^A-Za-z0-9._+-]+", "_", row["id"]).strip("._")[:100]
    return f"{row['rank']:05d}-{row['ion']}-{plain.removesuffix('.cif')}"


def _write(folder: Path, texts: Mapping[str, str]) -> list[Path]:
    try:
        for name, text in texts.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise cannot_write(folder, error) from error
    return [folder / name for name in texts]
