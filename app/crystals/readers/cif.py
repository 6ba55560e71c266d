"""CIF, by pymatgen's parser, with what it passes over in silence made into errors and warnings."""

import math
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from app.crystals.crystal import Crystal, Site
from app.crystals.elements import is_element, plain_symbol, unknown_element
from app.crystals.limits import Limits
from app.crystals.readers.reading import File
from app.crystals.validation import LARGEST_FRACTION
from app.errors import FormatError, InputError, IonpathError, TooLargeError

#: Refined occupancies of a full site add up to a little more than one.
OCCUPANCY_TOLERANCE = 1.05
#: Coordinates nearer to 1/3 and the like than this are meant so: special positions need it.
SNAP = 1e-4
#: A site occupied less is empty in all but name.
LEAST_OCCUPANCY = 1e-6
#: An element with less than this share of what the formula says was lost with the end of the file.
LOST_SHARE = 0.9
#: The richest space group has 192 in its cell; larger cells of a crystal have some times as many.
MOST_OPERATIONS = 1_000
_OPERATION = re.compile(r"[xyzXYZ0-9+\-/.,\s'\"]{1,100}")
#: Positions that symmetry makes of the listed atoms, for each atom that is taken: most of them coincide in a crystal
#: with all its atoms on symmetry elements.
POSITIONS_PER_ATOM = 50
#: Of a file's own text in an error, characters.
_MOST_ECHOED = 80
_MOST_NAMED = 8
_FORMAT = "a whole CIF with its cell, symmetry and atoms"
_COORDINATE = "_atom_site_fract_x"
_CELL = tuple(
    f"_cell_{name}" for name in ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")
)
_SYMMETRY = ("_symmetry_equiv_pos_as_xyz", "_space_group_symop_operation_xyz")


def read_cif(file: File, text: str, limits: Limits) -> Crystal:
    """Read the first structure of a CIF, symmetry applied.

    Args:
        file: for its name.
        text: its content.
        limits: atoms are counted before and after the symmetry is applied.

    Raises:
        FormatError: kinds "truncated-cif", "unreadable-cif".
        InputError: kind "unknown-element".
        TooLargeError: atoms.
    """
    # pymatgen takes a second to import, and JSON bands, most of the requests, never need it
    from pymatgen.io.cif import CifFile, CifParser  # noqa: PLC0415

    chunks = _chunks_with_atoms(_without_blank_lines(text), file.name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pymatgen keeps the useful ones in parser.warnings too
        block = _parse(file.name, lambda: next(iter(CifFile.from_str(chunks[0]).data.values())))
        _check_block(block.data, file.name, limits)
        # without symmetry nothing is gained by moving an atom to 1/3, and up to 1e-3 angstrom lost
        snap = SNAP if _has_symmetry(block.data) else 0.0
        parser = _parse(
            file.name,
            lambda: CifParser.from_str(
                chunks[0], occupancy_tolerance=OCCUPANCY_TOLERANCE, frac_tolerance=snap, check_cif=False
            ),
        )
        structures = _parse(file.name, lambda: parser.parse_structures(primitive=False, on_error="raise"))
    structure = structures[0]
    limits.check_atoms(len(structure), file.name)
    sites = tuple(_site(site, file.name) for site in structure)
    notes = [_plainly(note) for note in parser.warnings]
    if len(chunks) > 1:
        notes.insert(0, f"{file.name} holds {len(chunks)} structures; the first, {block.header}, was read.")
    notes += _compare_with_formula(block, sites, file.name, ends_in_a_line=text.endswith("\n"))
    return Crystal(
        lattice_angstrom=np.array(structure.lattice.matrix, dtype=np.float64),
        sites=sites,
        warnings=tuple(dict.fromkeys(notes)),
    )


def _without_blank_lines(text: str) -> str:
    """They mean nothing in a CIF, and a run of them takes pymatgen time that grows with its square."""
    return "\n".join(line for line in text.split("\n") if line and not line.isspace()) + "\n"


def _chunks_with_atoms(text: str, name: str) -> list[str]:
    """The text of each data block that lists atoms."""
    if sum(line.startswith(";") for line in text.split("\n")) % 2:
        raise _truncated(name, "a block of text is not closed")
    blocks = re.split(r"^[ \t]*data_", text, flags=re.MULTILINE | re.IGNORECASE)
    # lines before the first block are a comment, or the whole of a file without the data_ line
    chunks = [f"data_{block}" for block in blocks[1:]] or [f"data_unnamed\n{text}"]
    with_atoms = [chunk for chunk in chunks if _COORDINATE in chunk]
    if not with_atoms:
        raise _truncated(name, f"it ends before its atoms: it has no {_COORDINATE}")
    return with_atoms


def _parse(name: str, parse: Any) -> Any:
    """Call pymatgen, and say in words what it tripped over."""
    try:
        return parse()
    except (IonpathError, MemoryError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        if isinstance(error, KeyError):
            reason = f"it has no {reason.strip(chr(39))}"
        if isinstance(error, ZeroDivisionError) or "zip()" in reason or "not a multiple" in reason:
            raise _truncated(name, "a row of one of its tables (loop_) is not complete") from error
        if "exceeded tolerance" in reason:
            raise InputError(
                f"{name} puts several atoms in one place: the occupancies there add up to more than 1 ({reason}).",
                kind="atoms-overlap",
                where=name,
                expected="each atom once; of a split or mixed site, occupancies that add up to 1 at most",
            ) from error
        raise FormatError(
            f"{name} cannot be read as a CIF: {reason or type(error).__name__}.",
            kind="unreadable-cif",
            where=name,
            expected=_FORMAT,
        ) from error


def _truncated(name: str, how: str, expected: str = _FORMAT) -> FormatError:
    return FormatError(f"{name} is cut short: {how}.", kind="truncated-cif", where=name, expected=expected)


def _check_block(data: Mapping[str, Any], name: str, limits: Limits) -> None:
    if not isinstance(data.get(_COORDINATE), str | list):
        raise _truncated(name, f"it ends before its atoms: it has no {_COORDINATE}")
    missing = [key for key in _CELL if not data.get(key)]
    if missing:
        raise _truncated(name, f"it has no {missing[0]}")
    rows = data[_COORDINATE]
    if isinstance(rows, str):
        raise FormatError(
            f"{name} does not list its atoms in a table (loop_).", kind="unreadable-cif", where=name, expected=_FORMAT
        )
    if not rows:
        raise _truncated(name, "its table of atoms is empty")
    limits.check_atoms(len(rows), name)
    _check_numbers(data, name)
    _check_operations(data, name, limits, atoms=len(rows))
    # pymatgen leaves out an atom whose symbol it does not know, and says nothing
    symbols = data.get("_atom_site_type_symbol") or data.get("_atom_site_label") or []
    for row, text in enumerate(symbols):
        if not _begins_with_element(text):
            raise unknown_element(text, f"{name}, row {row + 1} of its atoms")


def _check_numbers(data: Mapping[str, Any], name: str) -> None:
    for key in (_COORDINATE, "_atom_site_fract_y", "_atom_site_fract_z"):
        for row, text in enumerate(data.get(key, [])):
            if not _is_coordinate(text):
                raise FormatError(
                    f"Atom {row + 1} of {name} has no position: {key} is {text[:20]!r}.",
                    kind="unreadable-cif",
                    where=f"{name}, {key}, row {row + 1}",
                    expected="a fractional coordinate",
                )
    for row, text in enumerate(data.get("_atom_site_occupancy", [])):
        if text.strip() not in {"?", "."} and not (_is_number(text) and not text.strip().startswith("-")):
            raise FormatError(
                f"Atom {row + 1} of {name} has no occupancy: it is {text[:20]!r}.",
                kind="unreadable-cif",
                where=f"{name}, _atom_site_occupancy, row {row + 1}",
                expected="a number from 0 to 1",
            )


def _check_operations(data: Mapping[str, Any], name: str, limits: Limits, *, atoms: int) -> None:
    """Refuse symmetry that is none, or that makes far too many atoms: pymatgen takes minutes over either."""
    for key in (*_SYMMETRY, *(f"{key}_" for key in _SYMMETRY)):  # pymatgen takes both
        given = data.get(key, [])
        operations = [given] if isinstance(given, str) else given
        if len(operations) > MOST_OPERATIONS:
            raise FormatError(
                f"{name} lists {len(operations)} symmetry operations; no space group has so many.",
                kind="unreadable-cif",
                where=f"{name}, {key}",
                expected=f"at most {MOST_OPERATIONS}",
            )
        if atoms * len(operations) > POSITIONS_PER_ATOM * limits.max_atoms:
            raise TooLargeError(
                f"{name} lists {atoms} atoms and {len(operations)} symmetry operations, too many positions for the "
                f"{limits.max_atoms:,} atoms that are taken here (IONPATH_MAX_ATOMS).",
                kind="too-many-atoms",
                where=name,
                expected=f"at most {limits.max_atoms:,} atoms",
            )
        for row, text in enumerate(operations):
            if not _OPERATION.fullmatch(text):
                raise FormatError(
                    f"{text[:40]!r} is no symmetry operation.",
                    kind="unreadable-cif",
                    where=f"{name}, {key}, row {row + 1}",
                    expected="such as 'x, -y+1/2, z'",
                )


def _is_coordinate(text: str) -> bool:
    return text.strip() == "." or _is_number(text, LARGEST_FRACTION)


def _is_number(text: str, largest: float = math.inf) -> bool:
    """Whether it is a finite number, its uncertainty in parentheses left out, and not larger than `largest`."""
    try:
        value = float(text.partition("(")[0])
    except ValueError:
        return False
    return math.isfinite(value) and abs(value) <= largest


def _begins_with_element(text: str) -> bool:
    letters = re.match(r"[A-Za-z]*", text.strip())
    word = letters.group() if letters else ""
    # "D" is deuterium, "Wat" and "O-H" are water and hydroxyl in old files
    return word[:1].upper() == "D" or is_element(word[:2].capitalize()) or is_element(word[:1].upper())


def _has_symmetry(data: Mapping[str, Any]) -> bool:
    for key in _SYMMETRY:
        operations = data.get(key)
        if operations:
            return not isinstance(operations, str) and len(operations) > 1
    group = re.sub(
        r"[\s_]", "", str(data.get("_symmetry_space_group_name_H-M") or data.get("_space_group_name_H-M_alt"))
    )
    return group != "P1"


def _site(site: Any, name: str) -> Site:
    amounts: dict[str, float] = {}
    for species, occupancy in site.species.items():
        symbol = plain_symbol(str(getattr(species, "symbol", species)), name)
        if occupancy > LEAST_OCCUPANCY:
            amounts[symbol] = amounts.get(symbol, 0.0) + float(occupancy)
    if not amounts:
        raise InputError(
            f"A site of {name} at {np.round(site.frac_coords, 4).tolist()} is occupied by nothing.",
            kind="empty-site",
            where=name,
            expected="occupancies above zero",
        )
    x, y, z = (float(value) for value in site.frac_coords)
    return Site(species=tuple(sorted(amounts.items())), frac_coords=(x, y, z))


def _compare_with_formula(block: Any, sites: Sequence[Site], name: str, *, ends_in_a_line: bool) -> list[str]:
    """Warn where fewer atoms are listed than the formula says; refuse where the file looks cut.

    That is where it ends with its atoms and its last line has no end, or what is missing is what a cut takes: the
    elements that come last. Elsewhere they may be somebody's vacancies.
    """
    formula = block.data.get("_chemical_formula_sum")
    if not isinstance(formula, str):
        return []
    wanted = {symbol: float(number or 1) for symbol, number in re.findall(r"([A-Z][a-z]?)(\d*\.?\d*)", formula)}
    wanted = {symbol: number for symbol, number in wanted.items() if symbol not in ("H", "D") and number > 0}
    shares = {symbol: sum(site.occupancy_of(symbol) for site in sites) / number for symbol, number in wanted.items()}
    if not shares:
        return []
    whole = LOST_SHARE * max(*shares.values(), _least_formulas(block.data))
    lost = sorted(symbol for symbol, share in shares.items() if share < whole)
    if not lost:
        return []
    more = f" and {len(lost) - _MOST_NAMED} more" if len(lost) > _MOST_NAMED else ""
    named, echoed = ", ".join(lost[:_MOST_NAMED]) + more, formula.strip()[:_MOST_ECHOED]
    words = f"fewer {named} atoms are listed than its formula {echoed} says"
    loops = cast("list[list[str]]", block.loops)
    # of an element that fills its places in part the rows are all there
    rows_gone = {symbol for symbol in lost if _places(symbol, sites) < whole * wanted[symbol]}
    as_by_a_cut = any(shares[symbol] == 0 for symbol in lost) or _last_listed(block.data) in rows_gone
    if loops and _COORDINATE in loops[-1] and (as_by_a_cut or not ends_in_a_line):
        raise _truncated(name, words, f"{_FORMAT}; where atoms are left out on purpose, no _chemical_formula_sum")
    return [f"In {name} {words}."]


def _places(symbol: str, sites: Sequence[Site]) -> int:
    return sum(site.occupancy_of(symbol) > 0 for site in sites)


def _least_formulas(data: Mapping[str, Any]) -> float:
    """How many formulas a cell holds at least.

    By some writers the formula is that of the whole cell, whatever `_cell_formula_units_Z` says: one is sure, and less
    where that is less than one.
    """
    try:
        units = float(str(data.get("_cell_formula_units_Z")))
    except ValueError:
        return 1.0
    return min(units, 1.0) if units > 0 else 1.0


def _last_listed(data: Mapping[str, Any]) -> str | None:
    """The element of the last row of atoms."""
    symbols = data.get("_atom_site_type_symbol") or data.get("_atom_site_label") or [""]
    letters = re.sub(r"[^A-Za-z].*", "", str(symbols[-1]).strip())
    return next((word for word in (letters[:2].capitalize(), letters[:1].upper()) if is_element(word)), None)


def _plainly(note: str) -> str:
    return "CIF: " + " ".join(note.split())[:300]
