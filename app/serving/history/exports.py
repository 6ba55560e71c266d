"""A done prediction in the forms that other programs read: CSV, NEB folders in a zip, frames for NEB viewers."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Literal

import orjson

from app.crystals.band import Band
from app.crystals.elements import SYMBOLS
from app.crystals.writers import band_images, band_to_poscars, pack_files
from app.errors import NotDoneError, NotFoundError
from app.serving.reading.upload_reader import CrystalInput, ReadInput

ExportForm = Literal["csv", "zip", "neb-json"]

_ATOMIC_NUMBERS = {symbol: number for number, symbol in enumerate(SYMBOLS, start=1)}
#: ASE counts time in Julian years since 2000-01-01 12:00 UTC.
_ASE_EPOCH = datetime(2000, 1, 1, 12, tzinfo=UTC)
_JULIAN_YEAR_S = 365.25 * 86_400

_HOW_TO = """\
## To start a DFT-NEB

Each folder is one band: `00` and the last number are its end points, the others lie on the straight line between them.
Nothing is relaxed. Relax the two end points first, atoms only, with the cell as it is; put them in place, interpolate
the images again where the end points moved (`nebmake.pl`, ASE or pymatgen), and start with `IMAGES` as the table says.

- The ion that hops is the last atom of every POSCAR. Line 6 names the elements in the order that POTCAR needs; the
  ion's element stands there twice where the host has it too, and then POTCAR holds it twice.
- With the vacancy mechanism one ion is missing. The cell is neutral unless you set NELECT.
- Cells are those of the model, shortest translation 8 angstrom or more. Whether that is enough is yours to test.

A barrier predicted here is what to expect, not what to start from: it is not part of the files. For a disordered
crystal the folders hold one ordering of its atoms, and the barrier is the mean over all that were predicted.
"""


def check_done(document: Mapping[str, Any]) -> None:
    """Refuse (NotDoneError) a stored prediction that has no answer, saying why it has none."""
    if document["status"] == "done":
        return
    if document["status"] == "failed":
        reason = (document.get("error") or {}).get("detail", "its log says why")
        raise NotDoneError(f"This prediction failed: {reason}", kind="prediction-failed")
    raise NotDoneError(
        f"This prediction is {document['status']} ({document['progress']:.0%}).",
        expected="the same request again once its status is done",
    )


def numbered_bands(document: Mapping[str, Any], read: ReadInput) -> dict[int, Band]:
    """The band of each hop of an answer, by the hop's number from 1; a hop that was excluded has none.

    Args:
        document: the answer.
        read: its stored input, read again.
    """
    if not isinstance(read.content, CrystalInput):
        return {1: read.content}
    search = read.content.search
    found = {}
    for edge in search.all_hops:
        if edge.orbit < len(search.hops):
            x, y, z = edge.offset
            # an earlier release may have answered another one of equivalent hops, or its reverse
            found[edge.from_site, edge.to_site, x, y, z] = search.hops[edge.orbit].band
            found[edge.to_site, edge.from_site, -x, -y, -z] = search.hops[edge.orbit].band
    hops = enumerate(document["hops"] or (), start=1)
    bands = {number: found.get((hop["from_site"], hop["to_site"], *hop["offset"])) for number, hop in hops}
    return {number: band for number, band in bands.items() if band is not None}


def input_not_kept() -> NotFoundError:
    """The problem of an export that needs the input where inputs are not stored."""
    return NotFoundError(
        "The input of this prediction was not kept, so its bands cannot be written.",
        kind="input-not-kept",
        expected="IONPATH_STORE_INPUTS=1 when it is predicted; the CSV needs no input",
    )


def to_neb_zip(document: Mapping[str, Any], bands: Mapping[int, Band]) -> bytes:
    """One folder a hop, each with 00/POSCAR to NN/POSCAR, and a README that says what they are."""
    files = {"README.md": _readme(document, bands)}
    for number, band in bands.items():
        for image, text in enumerate(band_to_poscars(band)):
            files[f"{_folder(number)}/{image:02d}/POSCAR"] = text
    return pack_files(files)


def to_neb_json(document: Mapping[str, Any], bands: Mapping[int, Band]) -> bytes:
    """Every image as one row of an ASE JSON database, which `ase gui FILE@:` and `ase.io.read` open.

    The ion is the last atom and is not wrapped into the cell, so its path is one line. A row's `key_value_pairs` say
    which hop and image it is, and the hop's barrier and interval in eV. There are no energies: none are predicted.
    """
    rows = list(_rows(document, bands))
    numbered: dict[str, Any] = {str(number): row for number, row in enumerate(rows, start=1)}
    content = {"ids": list(range(1, len(rows) + 1)), "nextid": len(rows) + 1}
    return orjson.dumps({**numbered, **content}, option=orjson.OPT_SERIALIZE_NUMPY)


def _rows(document: Mapping[str, Any], bands: Mapping[int, Band]) -> Iterator[dict[str, Any]]:
    made = (datetime.fromisoformat(document["created_at"]) - _ASE_EPOCH).total_seconds() / _JULIAN_YEAR_S
    own_id = document["prediction_id"].replace("-", "")
    for number, band in bands.items():
        species = [_ATOMIC_NUMBERS[symbol] for symbol in (*band.host_species, band.ion)]
        figures = _figures(_predicted(document, number))
        for image, frac_coords in enumerate(band_images(band)):
            yield {
                "numbers": species,
                "positions": frac_coords @ band.lattice_angstrom,
                "cell": band.lattice_angstrom,
                "pbc": [True, True, True],
                "key_value_pairs": {"hop": number, "image": image, "ion": band.ion, **figures},
                "unique_id": f"{own_id}{number:04d}{image:04d}",
                "user": "ionpath",
                "ctime": made,
                "mtime": made,
            }


def _figures(predicted: Mapping[str, Any]) -> dict[str, float]:
    if predicted.get("barrier_ev") is None:
        return {}
    interval = predicted["interval_ev"]
    figures = {"barrier_ev": predicted["barrier_ev"], "low_ev": interval["low"], "high_ev": interval["high"]}
    return {name: energy for name, energy in figures.items() if energy is not None}  # of an unbounded interval, no top


def _predicted(document: Mapping[str, Any], number: int) -> Mapping[str, Any]:
    """The hop of that number, or the answer itself where a band was sent."""
    hops = document.get("hops")
    found: Mapping[str, Any] = document if hops is None else hops[number - 1]
    return found


def _folder(number: int) -> str:
    return f"hop-{number:02d}"


def _readme(document: Mapping[str, Any], bands: Mapping[int, Band]) -> str:
    model = document["model"]
    by = f"{model['name']} {model['version']} ({model['digest'][:12]})"
    mechanism = f", {document['mechanism']} mechanism" if document.get("mechanism") else ""
    head = [
        f"# {document['ion']} in {document['formula']}{mechanism}",
        "",
        f"Prediction {document['prediction_id']} of {document['created_at'][:10]} by {by}.",
        "",
        "| folder | sites | offset | length, angstrom | atoms | IMAGES | predicted barrier, eV | interval, eV |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines = [_readme_row(document, number, band) for number, band in bands.items()]
    left_out = [
        f"- hop {number} ({hop['from_site']} to {hop['to_site']}, {hop['distance_angstrom']:.2f} angstrom): "
        f"{hop['excluded_because'] or 'its band could not be made again'}"
        for number, hop in enumerate(document.get("hops") or (), start=1)
        if number not in bands
    ]
    without = ["", "Without a folder:", "", *left_out] if left_out else []
    return "\n".join([*head, *lines, *without, "", _HOW_TO])


def _readme_row(document: Mapping[str, Any], number: int, band: Band) -> str:
    predicted = _predicted(document, number)
    is_hop = document.get("hops") is not None
    figures = _figures(predicted)
    cells = [
        _folder(number),
        f"{predicted['from_site']} to {predicted['to_site']}" if is_hop else "",
        " ".join(str(step) for step in predicted["offset"]) if is_hop else "",
        f"{band.hop_distance_angstrom:.3f}",
        str(band.atom_count),
        str(len(band.image_frac_coords) - 2),
        f"{figures['barrier_ev']:.3f}" if figures else "",
        _interval(figures) if figures else "",
    ]
    return f"| {' | '.join(cells)} |"


def _interval(figures: Mapping[str, float]) -> str:
    high = f"{figures['high_ev']:.3f}" if "high_ev" in figures else "unbounded"
    return f"{figures['low_ev']:.3f} to {high}"
