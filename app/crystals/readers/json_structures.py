"""Structures in JSON: pymatgen's, alone, in entries or a REST reply; OPTIMADE's; ASE's rows, as in our `neb-json`."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np

from app.crystals.band import FloatArray
from app.crystals.crystal import Contents, Crystal, Site
from app.crystals.elements import SYMBOLS, plain_symbol
from app.crystals.limits import Limits
from app.crystals.readers.reading import several_hops
from app.crystals.readers.structure_json import is_structure, structure_crystal
from app.crystals.validation import check_cell
from app.errors import FormatError

#: Larger than any length in angstrom, and far below overflow.
_LARGEST = 1e9
#: OPTIMADE's names of what is no element.
_EMPTY = ("vacancy", "X")


def json_crystals(record: object, name: str, limits: Limits) -> tuple[Crystal, ...] | None:
    """Every structure of a JSON document; None where it is in none of the forms.

    The forms are pymatgen's Structure, an entry, document or MigrationGraph with one as `structure`, a list of these;
    as it is or as the `data` of a reply of Materials Project's REST interface; OPTIMADE's structures
    (https://www.optimade.org/); and a JSON database of ASE.

    Raises:
        FormatError: kinds "not-a-structure", "several-bands"; `where` names the field.
        InputError: kinds "unknown-element", "not-a-cell".
        TooLargeError: atoms or images.
    """
    if isinstance(record, list):
        return _list(record, name, limits)
    if not isinstance(record, dict):
        return None
    if _held(record) is not None:
        return (_pymatgen(record, name, limits),)
    if (entries := _optimade_entries(record)) is not None:
        limits.check_images(len(entries), name)
        return tuple(_optimade(entry, f"{name}, data[{k}]", limits) for k, entry in enumerate(entries))
    if isinstance(record.get("ids"), list) and "nextid" in record:
        return _ase_rows(record, name, limits)
    data = record.get("data")
    return _list(data, f"{name}, data", limits) if isinstance(data, list) else None


def _list(record: list[object], name: str, limits: Limits) -> tuple[Crystal, ...] | None:
    if not record or any(_held(one) is None for one in record):
        return None
    limits.check_images(len(record), name)
    return tuple(_pymatgen(one, f"{name}[{k}]", limits) for k, one in enumerate(record))


def _pymatgen(record: object, name: str, limits: Limits) -> Crystal:
    energy = record.get("energy") if isinstance(record, dict) else None
    return replace(structure_crystal(_held(record), name, limits), energy_ev=_energy_ev(energy))


def _held(record: object) -> object:
    """A pymatgen structure, or that of an entry, document or migration graph; None where there is none.

    The structure of a MigrationGraph has all sites of the ion filled, those of its paths.
    """
    if is_structure(record):
        return record
    if not isinstance(record, dict):
        return None
    graph = record.get("migration_graph")
    inner = record.get("structure") or (graph.get("structure") if isinstance(graph, dict) else None)
    return inner if is_structure(inner) else None


def _energy_ev(value: object) -> float | None:
    """A total energy as entries and rows give it, eV; None of anything else."""
    if type(value) not in (int, float):
        return None
    energy_ev = cast("float", value)
    return float(energy_ev) if abs(energy_ev) < _LARGEST else None


# --- OPTIMADE ---


def _optimade_entries(record: Mapping[str, Any]) -> list[Mapping[str, Any]] | None:
    data = record.get("data", record)
    entries = data if isinstance(data, list) else [data]
    found = [entry.get("attributes", entry) if isinstance(entry, dict) else None for entry in entries]
    if not found or not all(isinstance(one, dict) and "cartesian_site_positions" in one for one in found):
        return None
    return cast("list[Mapping[str, Any]]", found)


def _optimade(entry: Mapping[str, Any], where: str, limits: Limits) -> Crystal:
    positions = _rows(entry.get("cartesian_site_positions"), f"{where}.cartesian_site_positions", limits)
    lattice = _lattice(entry.get("lattice_vectors"), f"{where}.lattice_vectors", limits)
    names, kinds = entry.get("species_at_sites"), entry.get("species")
    if not isinstance(names, list) or len(names) != len(positions):
        raise _wrong("There is not one species for each site", f"{where}.species_at_sites")
    if kinds is None:  # older providers name elements directly
        known: dict[str, Contents] = {one: ((plain_symbol(one, where), 1.0),) for one in names if isinstance(one, str)}
    elif isinstance(kinds, list) and all(isinstance(kind, dict) for kind in kinds):
        known = {str(kind.get("name")): _contents(kind, f"{where}.species") for kind in kinds}
    else:
        raise _wrong("The species are not a list of objects", f"{where}.species")
    if any(not isinstance(one, str) or one not in known for one in names):
        raise _wrong("A site has a species that is not described", f"{where}.species_at_sites")
    frac = positions @ np.linalg.inv(lattice)
    sites = tuple(
        Site(species=known[one], frac_coords=(float(x), float(y), float(z)))
        for one, (x, y, z) in zip(names, frac, strict=True)
        if known[one]
    )
    if not sites:
        raise _wrong("There is no atom", f"{where}.species_at_sites")
    return Crystal(lattice_angstrom=lattice, sites=sites)


def _contents(kind: Mapping[str, Any], where: str) -> Contents:
    symbols, shares = kind.get("chemical_symbols"), kind.get("concentration")
    if not isinstance(symbols, list) or not all(isinstance(symbol, str) for symbol in symbols):
        raise _wrong("A species has no chemical_symbols", where)
    shares = [1.0] * len(symbols) if shares is None and len(symbols) == 1 else shares
    if (
        not isinstance(shares, list)
        or len(shares) != len(symbols)
        or not all(type(share) in (int, float) and 0.0 <= share <= 1.0 + 1e-3 for share in shares)
    ):
        raise _wrong("A species' concentration is not one share for each symbol", where)
    amounts: dict[str, float] = {}
    for symbol, share in zip(symbols, shares, strict=True):
        if symbol not in _EMPTY and share > 0:
            element = plain_symbol(symbol, where)
            amounts[element] = amounts.get(element, 0.0) + min(float(share), 1.0)
    if sum(amounts.values()) > 1.0 + 1e-3:
        raise _wrong("A species' concentrations add up to more than 1", where)
    return tuple(sorted(amounts.items()))


# --- ASE ---


def _ase_rows(record: Mapping[str, Any], name: str, limits: Limits) -> tuple[Crystal, ...]:
    ids = record["ids"]
    limits.check_images(len(ids), name)
    rows = [row for number in ids if isinstance(row := record.get(str(number)[:20]), dict)]
    if not rows or len(rows) != len(ids):
        raise _wrong("A row is missing", f"{name}, ids")
    hops = sorted({str(_pairs(row).get("hop", ""))[:20] for row in rows})
    if len(hops) > 1:
        raise several_hops(name, hops)
    return tuple(_ase_row(row, f"{name}, row {number}", limits) for number, row in zip(ids, rows, strict=True))


def _pairs(row: Mapping[str, Any]) -> Mapping[str, Any]:
    pairs = row.get("key_value_pairs")
    return pairs if isinstance(pairs, dict) else {}


def _ase_row(row: Mapping[str, Any], where: str, limits: Limits) -> Crystal:
    numbers = _plain(row.get("numbers"))
    positions = _rows(_plain(row.get("positions")), f"{where}.positions", limits)
    lattice = _lattice(_plain(row.get("cell")), f"{where}.cell", limits)
    if not isinstance(numbers, list) or len(numbers) != len(positions):
        raise _wrong("There is not one atomic number for each position", f"{where}.numbers")
    if not all(type(number) is int and 1 <= number <= len(SYMBOLS) for number in numbers):
        raise _wrong(f"An atomic number is not between 1 and {len(SYMBOLS)}", f"{where}.numbers")
    return Crystal(
        lattice_angstrom=lattice,
        sites=tuple(
            Site(species=((SYMBOLS[number - 1], 1.0),), frac_coords=(float(x), float(y), float(z)))
            for number, (x, y, z) in zip(numbers, positions @ np.linalg.inv(lattice), strict=True)
        ),
        energy_ev=_energy_ev(row.get("energy")),
    )


def _plain(value: object) -> object:
    """A list as it is, or out of the form in which ASE writes arrays and cells."""
    if isinstance(value, dict) and "array" in value:
        value = value["array"]
    if not isinstance(value, dict) or not isinstance(value.get("__ndarray__"), list):
        return value
    parts = value["__ndarray__"]
    if len(parts) != 3 or not isinstance(parts[0], list) or not isinstance(parts[2], list):  # noqa: PLR2004
        return None
    if len(parts[0]) == 1:
        return parts[2]
    flat = parts[2]
    return [flat[k : k + 3] for k in range(0, len(flat), 3)] if not flat or not isinstance(flat[0], list) else flat


def _lattice(value: object, where: str, limits: Limits) -> FloatArray:
    lattice = _rows(value, where, limits)
    if len(lattice) != 3:  # noqa: PLR2004 - space has three directions
        raise _wrong("The lattice does not have three vectors", where)
    check_cell(lattice, where)
    return lattice


def _rows(value: object, where: str, limits: Limits) -> FloatArray:
    """Rows of three numbers as an array, shape [n, 3], n > 0."""
    if not isinstance(value, list) or not value:
        raise _wrong("Expected rows of three numbers here", where)
    limits.check_atoms(len(value), where)
    for row in value:
        if not isinstance(row, Sequence) or len(row) != 3 or any(type(x) not in (int, float) for x in row):  # noqa: PLR2004
            raise _wrong("Expected rows of three numbers here", where)
    try:
        array = np.array(value, dtype=np.float64)
    except OverflowError as error:
        raise _wrong("A number is too large", where) from error
    if not (np.abs(array) < _LARGEST).all():  # written so that NaN is refused
        raise _wrong("A number is too large", where)
    return array


def _wrong(detail: str, where: str) -> FormatError:
    return FormatError(
        f"{detail}.",
        kind="not-a-structure",
        where=where,
        expected="pymatgen's Structure.as_dict(), an OPTIMADE structure, or rows of an ASE JSON database",
    )
