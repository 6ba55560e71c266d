"""The JSON band: one record with the data set's field names, read without a crystal library."""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import cast

import numpy as np
import orjson

from app.crystals.band import Band, FloatArray
from app.crystals.elements import check_element, check_elements
from app.crystals.geometry.periodic import TIE_ANGSTROM, shortest_vectors
from app.crystals.limits import Limits
from app.crystals.readers.drift import drift_warnings, fine_drift, noticeable
from app.crystals.readers.joining import ambiguity_warnings, step_warnings
from app.crystals.readers.reading import Reading
from app.crystals.validation import check_cell, check_coordinates, one_image, validate_band
from app.errors import FormatError, InputError

FIELDS = ("lattice_angstrom", "host_species", "host_frac_coords", "ion", "image_frac_coords")
_NUMBERS = frozenset((int, float))
#: Larger than any total energy, and far below overflow.
_LARGEST_EV = 1e9


def read_json_band(payload: Mapping[str, object] | bytes, limits: Limits) -> Reading:
    """Read a band from JSON; fields besides the data set's own are ignored.

    Two images are joined through the shortest periodic vector; three or more are unwrapped step by step,
    each step the shortest way, whether or not they were wrapped into the cell; a step longer than half a cell in
    unwrapped coordinates is shortened as well, with a warning.
    `relaxed_host_frac_coords`, shape [n_images, n_host, 3], and `image_energies_ev`, a number or null for each image,
    are read if present.

    Args:
        payload: the JSON text, or its parsed content.
        limits: how large it may be.

    Raises:
        FormatError: not JSON, or not an object.
        InputError: a field is missing or invalid; `where` names it.
        TooLargeError: bytes, atoms or images.
    """
    record = _load(payload, limits) if isinstance(payload, bytes) else payload
    for field in FIELDS:
        if field not in record or record[field] is None:
            raise _missing(field)
    species = _species(record["host_species"], limits)
    ion = record["ion"]
    if not isinstance(ion, str):
        raise _wrong("The ion is not text", "ion", "an element's symbol, such as Li")
    check_elements(species, "host_species")
    if ion.strip() == "":
        raise _missing("ion")
    check_element(ion, "ion")
    images = record["image_frac_coords"]
    if isinstance(images, list):
        limits.check_images(len(images), "image_frac_coords")
        if len(images) < 2:  # noqa: PLR2004 - a hop has two ends
            raise one_image("image_frac_coords", len(images))
    lattice = _matrix(record["lattice_angstrom"], "lattice_angstrom", 3)
    check_cell(lattice, "lattice_angstrom")
    host = _matrix(record["host_frac_coords"], "host_frac_coords", len(species))
    given = _matrix(images, "image_frac_coords", None)
    relaxed = _relaxed(record.get("relaxed_host_frac_coords"), host, len(given), lattice)
    drifts = np.zeros((len(given), 3))
    if relaxed is not None and len(host) > 1:
        drifts[1:] = [fine_drift(relaxed[0], one, lattice) for one in relaxed[1:]]
        drifts = noticeable(drifts, lattice)
        relaxed = relaxed - drifts[:, None, :]
    positions, warnings = _join(given - drifts, lattice, ion)
    band = Band(
        lattice_angstrom=lattice,
        host_species=species,
        host_frac_coords=host,
        ion=ion,
        image_frac_coords=positions,
        relaxed_host_frac_coords=relaxed,
    )
    return Reading(
        band=band,
        warnings=(*drift_warnings(drifts, lattice), *warnings, *validate_band(band)),
        energies_ev=_energies(record.get("image_energies_ev"), len(given)),
    )


def _load(payload: bytes, limits: Limits) -> Mapping[str, object]:
    limits.check_bytes(len(payload), "the JSON band")
    try:
        record = orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        raise FormatError(
            f"This is no JSON: {error}.",
            kind="not-json",
            where=f"line {error.lineno}, column {error.colno}",
            expected="one JSON object; NaN and Infinity are not JSON",
        ) from error
    if not isinstance(record, dict):
        raise FormatError(
            "The JSON is not an object.",
            kind="not-a-band",
            where="the JSON band",
            expected="an object with " + ", ".join(FIELDS),
        )
    return cast("dict[str, object]", record)


def _missing(field: str) -> InputError:
    if field == "ion":
        return InputError(
            "The band does not say which ion hops.",
            kind="no-ion",
            where="ion",
            expected="the migrating ion's element, such as Li",
        )
    return InputError(
        f"The band has no {field}.",
        kind="missing-field",
        where=field,
        expected="a band with " + ", ".join(FIELDS),
    )


def _wrong(detail: str, where: str, expected: str) -> InputError:
    return InputError(f"{detail}.", kind="wrong-shape", where=where, expected=expected)


def _species(value: object, limits: Limits) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):
        raise _wrong("The host's species are not a list", "host_species", "a list of element symbols")
    limits.check_atoms(len(value) + 1, "the band")
    for k, symbol in enumerate(value):
        if not isinstance(symbol, str):
            raise _wrong("A species is not text", f"host_species[{k}]", "an element's symbol, such as O")
    return tuple(value)


def _matrix(value: object, where: str, rows: int | None) -> FloatArray:
    """A list of rows of three finite numbers as an array, shape [rows, 3]; strings and booleans are refused."""
    wanted = "rows of 3 numbers" if rows is None else f"{rows} rows of 3 numbers"
    if not isinstance(value, list | tuple):
        raise _wrong(f"{where} is not a list", where, wanted)
    if rows is not None and len(value) != rows:
        beside = ", as many as host_species" if where.startswith(("host", "relaxed")) else ""
        raise _wrong(f"{where} has {len(value)} rows, not {rows}{beside}", where, wanted)
    for k, row in enumerate(value):
        if not isinstance(row, list | tuple) or len(row) != 3:  # noqa: PLR2004 - space has three directions
            raise _wrong(f"Row {k} of {where} is not 3 numbers", f"{where}[{k}]", wanted)
    table = cast("Sequence[Sequence[object]]", value)
    if not _NUMBERS.issuperset(map(type, chain.from_iterable(table))):
        row, column = next((i, j) for i in range(len(table)) for j in range(3) if type(table[i][j]) not in _NUMBERS)
        raise _wrong(f"{str(table[row][column])[:20]!r} is not a number", f"{where}[{row}][{column}]", wanted)
    try:
        array = np.array(table, dtype=np.float64)
    except OverflowError as error:
        raise _wrong(f"{where} has a number that is too large", where, wanted) from error
    if not where.startswith("lattice"):
        check_coordinates(array, where)
    return array


def _join(images: FloatArray, lattice: FloatArray, ion: str) -> tuple[FloatArray, tuple[str, ...]]:
    """Unwrap the images of the ion, shape [n, 3], with warnings where this is ambiguous."""
    found = shortest_vectors(np.diff(images, axis=0), lattice)
    joined = images.copy()
    joined[1:] += np.cumsum(found.offsets, axis=0)
    if len(images) > 2:  # noqa: PLR2004 - only two alone leave open how they are joined
        return joined, step_warnings(ion, images, found, lattice)
    as_written = float(np.linalg.norm((images[1] - images[0]) @ lattice))
    shortest = float(found.lengths_angstrom[0])
    warnings = list(ambiguity_warnings(ion, found))
    if as_written > shortest + TIE_ANGSTROM:
        warnings.append(
            f"Two images alone are joined through the shortest periodic vector, {shortest:.2f} angstrom, not the "
            f"{as_written:.2f} angstrom between them as written; give an image between them to go that way."
        )
    return joined, tuple(warnings)


def _energies(value: object, image_count: int) -> tuple[float | None, ...]:
    """The total energy of each image, eV; none of a band without."""
    where = "image_energies_ev"
    if value is None:
        return ()
    if not isinstance(value, list | tuple) or len(value) != image_count:
        raise _wrong(f"{where} does not have one energy per image", where, f"{image_count} numbers, null where unknown")
    for k, energy in enumerate(value):
        if energy is not None and (type(energy) not in _NUMBERS or not abs(energy) < _LARGEST_EV):
            raise _wrong(
                f"{str(energy)[:20]!r} is not an energy", f"{where}[{k}]", "a number of eV, null where unknown"
            )
    return tuple(None if energy is None else float(energy) for energy in value)


def _relaxed(value: object, host: FloatArray, image_count: int, lattice: FloatArray) -> FloatArray | None:
    where = "relaxed_host_frac_coords"
    if value is None:
        return None
    if not isinstance(value, list | tuple) or len(value) != image_count:
        raise _wrong(f"{where} does not have one host per image", where, f"{image_count} hosts of {len(host)} rows")
    hosts = np.stack([_matrix(rows, f"{where}[{k}]", len(host)) for k, rows in enumerate(value)])
    for k in range(image_count):
        before = host if k == 0 else hosts[k - 1]
        hosts[k] += shortest_vectors(hosts[k] - before, lattice).offsets
    return hosts
