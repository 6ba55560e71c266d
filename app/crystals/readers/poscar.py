"""VASP's POSCAR, CONTCAR and XDATCAR, read line by line so that an error can name the line."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import isfinite

import numpy as np

from app.crystals.band import FloatArray
from app.crystals.elements import is_element, plain_symbol, unknown_element
from app.crystals.limits import Limits
from app.crystals.readers.frames import Frame
from app.crystals.readers.numbers import with_e
from app.crystals.validation import check_cell
from app.errors import FormatError

#: Of a file's text, so much is looked at to find the first configuration of an XDATCAR, and of a title its elements.
_MOST_HEAD = 2_000
_LONGEST_TITLE = 200
_CONFIGURATION = re.compile(r"[ \t]*(?:direct|cartesian)[ \t]+configuration\b", re.IGNORECASE)
_CONFIGURATIONS = re.compile(rf"^{_CONFIGURATION.pattern}", re.IGNORECASE | re.MULTILINE)
_SYMBOL = re.compile(r"[A-Za-z]{1,2}[\d+-]*+(?:[_/.]|\Z)")
_ELEMENT = re.compile(r"([A-Z][a-z]?)(\d+(?:\.\d+)?)?")
_FORMULA = re.compile(rf"(?:{_ELEMENT.pattern}[ \t]*)+")
#: After a position: each of the three of selective dynamics, and labels: "Fe", "Fe1", "Fe2+" or "Fe2+,spin=5".
_FLAG = re.compile(r"\.?(?:T|F|TRUE|FALSE)\.?\Z", re.IGNORECASE)
# Possessive quantifiers (++) do not backtrack: a label may have any number of digits.
_LABEL = re.compile(r"([A-Z][a-z]?)\d*+\.?+\d*+[+-]?+\d*+\.?+\d*+(?:,spin=\S*+)?\Z")
#: Larger than any length in angstrom, and far below overflow in a volume.
_LARGEST = 1e9
_FORMAT = (
    "the POSCAR format of VASP 5 and later: title, scale, three vectors, element names, counts, Direct or Cartesian"
)


@dataclass(frozen=True, kw_only=True)
class _Header:
    """What stands before the positions.

    Attributes:
        lattice_angstrom: shape [3, 3].
        scales: of Cartesian positions along x, y and z, shape [3].
        species: element symbols, one an atom.
        end: index of the line after it.
        names_line: number of the line that names the elements; None where there is none.
        warnings: where the elements were taken from the title or the labels.
    """

    lattice_angstrom: FloatArray
    scales: FloatArray
    species: tuple[str, ...]
    end: int
    names_line: int | None
    warnings: tuple[str, ...]


def read_poscars(text: str, name: str, limits: Limits) -> tuple[Frame, ...]:
    """Read one POSCAR, or several that follow each other: https://www.vasp.at/wiki/index.php/POSCAR.

    Selective dynamics, velocities, densities and anything else after the positions are ignored.

    Raises:
        FormatError: kinds "no-element-names" (VASP 4), "unreadable-poscar"; `where` names the line.
        InputError: kinds "unknown-element", "not-a-cell".
        TooLargeError: atoms or images.
    """
    lines = text.split("\n")
    frame, end = _read_one(lines, 0, name, limits)
    frames = [frame]
    while (start := _next_start(lines, end)) is not None:
        limits.check_images(len(frames) + 1, name)
        frame, end = _read_one(lines, start, name, limits)
        frames.append(frame)
    if len(frames) == 1:
        return tuple(frames)
    return tuple(replace(one, name=f"{name}, configuration {k}") for k, one in enumerate(frames, 1))


def read_xdatcar(text: str, name: str, limits: Limits, *, first_alone: bool = False) -> tuple[Frame, ...]:
    """Read the configurations of an XDATCAR, with one cell for all or one for each.

    Args:
        text: of the file.
        name: of the file.
        limits: how large it may be.
        first_alone: read the first and leave the others.

    Raises:
        FormatError: as `read_poscars`.
        InputError: as `read_poscars`.
        TooLargeError: atoms or images.
    """
    lines = text.rstrip().split("\n")
    header = _header(lines, 0, name, limits)
    at, frames = header.end, list[Frame]()
    while at < len(lines):
        if not lines[at].strip():
            at += 1
        elif not _CONFIGURATION.match(lines[at]):
            header = _header(lines, at, name, limits)
            at = header.end
        else:
            limits.check_images(len(frames) + 1, name)
            frames.append(_frame(lines, at, header, f"{name}, configuration {len(frames) + 1}", name))
            at += 1 + len(header.species)
            if first_alone:
                break
    if not frames:
        raise _unreadable("There is no configuration", f"{name}, line {len(lines)}")
    return tuple(frames)


def is_xdatcar(text: str) -> bool:
    """Whether a file with a POSCAR's head is an XDATCAR."""
    return configuration_count(text[:_MOST_HEAD]) > 0


def configuration_count(text: str) -> int:
    """How many configurations an XDATCAR announces."""
    return len(_CONFIGURATIONS.findall(text))


def _read_one(lines: list[str], at: int, name: str, limits: Limits) -> tuple[Frame, int]:
    """The POSCAR that begins at a line, and the index of the line after its positions."""
    header = _header(lines, at, name, limits)
    mode_line = header.end
    if _fields(lines, mode_line, name)[0][0] in "sS":
        mode_line += 1
    frame, end = _frame(lines, mode_line, header, name, name), mode_line + 1 + len(header.species)
    _check_labels(lines, mode_line + 1, header, name)
    _check_end(lines, end, header, name)
    return frame, end


def _check_labels(lines: list[str], first: int, header: _Header, name: str) -> None:
    """Refuse labels of the positions that contradict the elements above; they count where each position has one."""
    elements = set(header.species)
    labels = [_label(_fields(lines, first + k, name)[3:], elements) for k in range(len(header.species))]
    if not all(labels):
        return
    at = header.names_line
    source = "the title and the counts" if at is None else f"lines {at} and {at + 1} (elements and counts)"
    for number, (species, (label, element)) in enumerate(zip(header.species, filter(None, labels), strict=True), first):
        if element != species:
            raise _unreadable(
                f"Line {number + 1} is {species} according to {source}, but is labelled {label[:20]!r}",
                f"{name}, line {number + 1}",
                f"labels that agree with {source}, or none",
            )


def _label(after: list[str], elements: set[str]) -> tuple[str, str] | None:
    """What alone follows a position, and its flags, and the element that it names; None where it names none."""
    if len(after) >= 3 and all(map(_FLAG.match, after[:3])):  # noqa: PLR2004 - along x, y and z
        after = after[3:]
    match = _LABEL.match(after[0]) if len(after) == 1 else None
    if match is None or (_FLAG.match(after[0]) and after[0] not in elements):  # a flag of selective dynamics
        return None
    element = "H" if match[1] == "D" else match[1]
    return (after[0], element) if is_element(element) else None


def _check_end(lines: list[str], end: int, header: _Header, name: str) -> None:
    """Refuse more positions than are counted; velocities come after an empty line or one of words."""
    while end < len(lines) and lines[end].strip() and not _uncommented(lines, end):  # a comment separates nothing
        end += 1
    row = _uncommented(lines, end)
    if not _is_position(row) or _next_start(lines, end) is not None:  # numbers may be the title of another POSCAR
        return
    count = len(header.species)
    raise _unreadable(
        f"Line {header.end} counts {count} atom{'s' if count > 1 else ''}, and more coordinates follow theirs: line "
        f"{end + 1} reads {' '.join(row)[:60]!r}",
        f"{name}, line {end + 1}",
        f"as many lines of coordinates as line {header.end} counts; velocities after an empty line",
    )


def _is_position(row: list[str]) -> bool:
    """Whether a line begins with three finite numbers."""
    numbers = [with_e(field) for field in row[:3]]
    return len(numbers) == 3 and all(_is_number(one) and isfinite(float(one)) for one in numbers)  # noqa: PLR2004


def _frame(lines: list[str], mode_line: int, header: _Header, frame_name: str, name: str) -> Frame:
    """The positions after the line that says whether they are Direct or Cartesian."""
    mode = _fields(lines, mode_line, name)
    if len(mode) >= 3 and all(map(_is_number, mode[:3])):  # noqa: PLR2004 - a position
        raise _unreadable(
            f"Line {mode_line + 1} is to be Direct or Cartesian, and holds three numbers, {' '.join(mode)[:60]!r}",
            f"{name}, line {mode_line + 1}",
        )
    cartesian = mode[0][0] in "cCkK"
    positions = np.array([_floats(lines, mode_line + 1 + k, name, 3) for k in range(len(header.species))])
    lattice = header.lattice_angstrom
    if cartesian:
        positions = (positions * header.scales) @ np.linalg.inv(lattice)
    return Frame(
        lattice_angstrom=lattice,
        species=header.species,
        frac_coords=positions,
        name=frame_name,
        warnings=header.warnings,
    )


def _header(lines: list[str], at: int, name: str, limits: Limits) -> _Header:
    lattice, scales = _lattice(lines, at, name)
    names_line = _fields(lines, at + 5, name)
    warnings: tuple[str, ...] = ()
    if all(field.isdecimal() for field in names_line):  # VASP 4 wrote counts alone
        counts = _counts(lines, at + 5, name, len(names_line))
        limits.check_atoms(sum(counts), name)
        symbols, source = _vasp_4_symbols(lines, at, counts, name)
        end, named_by = at + 6, None
        warnings = (f"The elements of {name} were taken from {source}: {' '.join(symbols)}.",)
    else:
        # pseudopotential names ("Li_sv", "Fe_pv/3f2a...") stand for their element
        symbols = [_named(re.split(r"[_/.]", field)[0], f"{name}, line {at + 6}") for field in names_line]
        counts, end, named_by = _counts(lines, at + 6, name, len(symbols)), at + 7, at + 6
    limits.check_atoms(sum(counts), name)
    check_cell(lattice, f"{name}, lines {at + 2} to {at + 5}")
    species = tuple(symbol for symbol, count in zip(symbols, counts, strict=True) for _ in range(count))
    return _Header(
        lattice_angstrom=lattice, scales=scales, species=species, end=end, names_line=named_by, warnings=warnings
    )


def _named(text: str, where: str) -> str:
    """The element of a name in the line of elements: "Fe", "Fe3+", "FE", or "Fe2" of a site with a number."""
    plain = text.rstrip("0123456789")
    if plain != text and plain in ("D", "T"):  # numbered sites, T1 a tetrahedral one, rather than isotopes
        raise unknown_element(text, where)
    return plain_symbol(plain.capitalize() if is_element(plain.capitalize()) else text, where)


def _vasp_4_symbols(lines: list[str], at: int, counts: Sequence[int], name: str) -> tuple[list[str], str]:
    """The elements that the title lists, or else the labels of the positions, and which of them."""
    try:
        return _title_symbols(lines[at], counts, name, at + 6), "its title"
    except FormatError:
        symbols = _labelled_symbols(lines, at + 6, counts)
        if symbols is None:
            raise
        return symbols, "the labels of its positions"


def _labelled_symbols(lines: list[str], mode_line: int, counts: Sequence[int]) -> list[str] | None:
    """The element of each count by the labels of its positions; None where one has none, or they disagree."""
    if (_uncommented(lines, mode_line) or [""])[0][:1] in ("s", "S"):
        mode_line += 1
    rows = range(mode_line + 1, mode_line + 1 + sum(counts))
    found = [label[1] if (label := _label(_uncommented(lines, row)[3:], {"F"})) else None for row in rows]
    symbols: list[str] = []
    for count in counts:
        elements, found = set(found[:count]), found[count:]
        if len(elements) != 1 or None in elements:
            return None
        symbols += filter(None, elements)
    return None if set(symbols) == {"F"} else symbols  # F alone is a flag of selective dynamics


def _title_symbols(title: str, counts: Sequence[int], name: str, line: int) -> list[str]:
    """The elements that a title lists: "Li Fe P O", "Li4 Fe4 P4 O16" or "LiFePO4".

    Amounts, where there are any, are in the proportion of the counts; an element without one has 1.
    """
    listed = _ELEMENT.findall(title) if _FORMULA.fullmatch(title[:_LONGEST_TITLE].strip()) else []
    symbols = [symbol for symbol, _ in listed]
    if not symbols or not all(map(is_element, symbols)):
        raise _unnamed("the title does not list them", name, line)
    if len(symbols) != len(counts):
        raise _unnamed(f"the title lists {len(symbols)} for {len(counts)} counts", name, line)
    if any(amount for _, amount in listed):
        amounts = [amount or "1" for _, amount in listed]
        disagreeing = _disagreeing([Fraction(amount) for amount in amounts], counts)
        if disagreeing:
            shown = ", ".join(f"{symbols[k]} {amounts[k]} and {counts[k]}" for k in disagreeing)
            raise _unnamed(f"the amounts of the title and the counts disagree ({shown})", name, line)
    return symbols


def _disagreeing(amounts: Sequence[Fraction], counts: Sequence[int]) -> list[int]:
    """Indices of the counts that are not as many times their amount as most of the others."""
    times = [count / amount if amount else None for amount, count in zip(amounts, counts, strict=True)]
    ((most, _),) = Counter(times).most_common(1)
    return [k for k, one in enumerate(times) if one is None or one != most]


def _unnamed(why: str, name: str, line: int) -> FormatError:
    return FormatError(
        f"{name} does not name its elements: line {line} has counts only, as VASP 4 wrote it, and {why}.",
        kind="no-element-names",
        where=f"{name}, line {line}",
        expected="a line of element symbols, such as Li Fe P O, before the line of counts; or a title of as many "
        "elements in their order, with amounts in the proportion of the counts or none; or an element after each "
        "position",
    )


def _next_start(lines: list[str], at: int) -> int | None:
    """Where another POSCAR begins after the positions of one; None where velocities, densities or nothing follow."""
    while at < len(lines) and not lines[at].strip():
        at += 1
    shape = [line.split() for line in lines[at + 1 : at + 7]]
    if len(shape) < 6 or not shape[0] or not all(_is_number(field) for field in shape[0][:1]):  # noqa: PLR2004
        return None
    vectors = all(len(row) >= 3 and all(_is_number(field) for field in row[:3]) for row in shape[1:4])  # noqa: PLR2004
    symbols, counts = shape[4], shape[5]
    named = bool(symbols) and all(_SYMBOL.match(field) for field in symbols) and bool(counts) and counts[0].isdecimal()
    return at if vectors and (named or (bool(symbols) and all(field.isdecimal() for field in symbols))) else None


def _lattice(lines: list[str], at: int, name: str) -> tuple[FloatArray, FloatArray]:
    """The scaled vectors, shape [3, 3], angstrom, and the scales along x, y and z, shape [3]."""
    given = _fields(lines, at + 1, name)
    scales = np.array(_floats(lines, at + 1, name, 3 if len(given) >= 3 and _is_number(given[2]) else 1))  # noqa: PLR2004
    vectors = np.array([_floats(lines, k, name, 3) for k in (at + 2, at + 3, at + 4)])
    volume = abs(float(np.linalg.det(vectors)))
    if len(scales) == 1 and scales[0] < 0 and volume > 0:
        scales = np.array([(-scales[0] / volume) ** (1 / 3)])  # a negative scale is the volume
    if not np.isfinite(scales).all() or (scales <= 0).any():
        raise _unreadable("The scale is not a positive number", f"{name}, line {at + 2}")
    scales = np.broadcast_to(scales, 3)
    return vectors * scales, scales


def _counts(lines: list[str], index: int, name: str, expected: int) -> list[int]:
    fields = _fields(lines, index, name)
    digits = [field for field in fields if field.isdecimal()]
    if len(digits) != expected or len(fields) != expected or any(len(field) > 9 for field in digits):  # noqa: PLR2004
        raise _unreadable(
            f"{expected} elements are named, and the line of counts reads {' '.join(fields)[:60]!r}",
            f"{name}, line {index + 1}",
        )
    counts = [int(field) for field in digits]
    if sum(counts) == 0:
        raise _unreadable("There are no atoms", f"{name}, line {index + 1}")
    return counts


def _uncommented(lines: list[str], index: int) -> list[str]:
    """The fields of a line; none after the end of the file."""
    return lines[index].split("!")[0].split("#")[0].split() if index < len(lines) else []


def _fields(lines: list[str], index: int, name: str) -> list[str]:
    fields = _uncommented(lines, index)
    if not fields:
        raise _unreadable(f"{name} ends early, or line {index + 1} is empty", f"{name}, line {index + 1}")
    return fields


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _floats(lines: list[str], index: int, name: str, count: int) -> list[float]:
    fields = _fields(lines, index, name)[:count]
    try:
        numbers = [float(with_e(field)) for field in fields]
    except ValueError:
        numbers = []
    if len(numbers) != count or any(abs(number) > _LARGEST for number in numbers):
        raise _unreadable(
            f"Line {index + 1} of {name} is to have {count} number{'s' if count > 1 else ''}, and reads "
            f"{' '.join(fields)[:60]!r}",
            f"{name}, line {index + 1}",
        )
    return numbers


def _unreadable(detail: str, where: str, expected: str = _FORMAT) -> FormatError:
    return FormatError(f"{detail}.", kind="unreadable-poscar", where=where, expected=expected)
