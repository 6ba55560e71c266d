"""pymatgen's JSON of one structure, read as plain data: no class that it names is imported."""

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import orjson

from app.crystals.crystal import Crystal, Site
from app.crystals.elements import plain_symbol
from app.crystals.limits import Limits
from app.errors import FormatError

_FORMAT = 'pymatgen\'s Structure.as_dict(): {"lattice": {"matrix": ...}, "sites": [{"species": ..., "abc": ...}]}'


def load_json(content: bytes, name: str) -> object:
    """Parse JSON text.

    Raises:
        FormatError: kind "not-json"; `where` names the line.
    """
    try:
        return orjson.loads(content.removeprefix(b"\xef\xbb\xbf"))
    except orjson.JSONDecodeError as error:
        raise FormatError(
            f"{name} looks like JSON but is not valid: {error}.",
            kind="not-json",
            where=f"{name}, line {error.lineno}, column {error.colno}",
            expected="JSON; NaN and Infinity are not JSON",
        ) from error


def is_structure(record: object) -> bool:
    """Whether a JSON value has the form of a pymatgen structure."""
    return isinstance(record, dict) and "lattice" in record and "sites" in record


def structure_crystal(record: object, name: str, limits: Limits) -> Crystal:
    """Read a pymatgen structure; charges, spins and other properties are dropped.

    Raises:
        FormatError: kind "not-a-structure"; `where` names the field.
        InputError: kind "unknown-element".
        TooLargeError: sites.
    """
    if not is_structure(record):
        raise _wrong("This JSON is not a structure", name)
    structure = cast("dict[str, Any]", record)
    lattice, sites = structure["lattice"], structure["sites"]
    matrix = lattice.get("matrix") if isinstance(lattice, dict) else None
    if not isinstance(sites, list) or not sites:
        raise _wrong("The structure's sites are not a list", f"{name}, sites")
    limits.check_atoms(len(sites), name)
    return Crystal(
        lattice_angstrom=np.array([_three(row, f"{name}, lattice.matrix") for row in _rows(matrix, name)]),
        sites=tuple(_site(site, f"{name}, sites[{k}]") for k, site in enumerate(sites)),
    )


def _rows(matrix: object, name: str) -> list[object]:
    if not isinstance(matrix, list) or len(matrix) != 3:  # noqa: PLR2004 - space has three directions
        raise _wrong("The lattice has no matrix of three rows", f"{name}, lattice.matrix")
    return matrix


def _three(value: object, where: str) -> tuple[float, float, float]:
    if not isinstance(value, list) or len(value) != 3 or any(type(x) not in (int, float) for x in value):  # noqa: PLR2004
        raise _wrong("Expected three numbers here", where)
    try:
        x, y, z = (float(number) for number in value)
    except OverflowError as error:
        raise _wrong("A number is too large", where) from error
    return x, y, z


def _site(site: object, where: str) -> Site:
    if not isinstance(site, dict) or not isinstance(site.get("species"), list) or not site["species"]:
        raise _wrong("A site has no species", where)
    amounts: dict[str, float] = {}
    for entry in site["species"]:
        if not isinstance(entry, dict) or not isinstance(entry.get("element"), str):
            raise _wrong("A species has no element", where)
        symbol = plain_symbol(entry["element"], where)
        amounts[symbol] = amounts.get(symbol, 0.0) + _occupancy(entry, where)
    total = sum(amounts.values())
    if total > 1.0 + 1e-3:
        raise _wrong(f"A site is occupied {total:.3f} times", where)
    return Site(species=tuple(sorted(amounts.items())), frac_coords=_three(site.get("abc"), f"{where}.abc"))


def _occupancy(entry: Mapping[str, object], where: str) -> float:
    occupancy = entry.get("occu", 1.0)
    if type(occupancy) not in (int, float) or not 0.0 < cast("float", occupancy) <= 1.0 + 1e-3:
        raise _wrong("An occupancy is not between 0 and 1", where)
    return min(float(cast("float", occupancy)), 1.0)


def _wrong(detail: str, where: str) -> FormatError:
    return FormatError(f"{detail}.", kind="not-a-structure", where=where, expected=_FORMAT)
