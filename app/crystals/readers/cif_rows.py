"""The rows of a CIF's table of atoms: elements, occupancies, coordinates, and why a row is left out."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.crystals.crystal import Contents
from app.crystals.elements import LAST_COVERED, SYMBOLS, is_element, plain_symbol, unknown_element
from app.crystals.limits import Limits
from app.crystals.readers.cif_grammar import COORDINATE, Block, is_null
from app.crystals.validation import LARGEST_FRACTION
from app.errors import FormatError, InputError

#: Refined occupancies of a full site add up to a little more than one.
MOST_OCCUPANCY = 1.05
#: A row occupied less is empty in all but name.
LEAST_OCCUPANCY = 1e-6
_COORDINATES = (COORDINATE, "_atom_site_fract_y", "_atom_site_fract_z")
#: So many rows are named in a warning; the rest are counted.
_NAMED_ROWS = 6
#: Written with so few digits, 0.5 and the like are exact and not rounded.
_EXACT_DIGITS = 3
_EXACT_PARTS = 8
_COMMA = re.compile(r"[-+]?\d*,\d+(?:\(\d+\))?")
#: 1/2, 2/3, -1/3: exact.
_FRACTION = re.compile(r"([-+]?\d{1,3})\s*/\s*(\d{1,3})")
#: A point that is no atom: X of many programs, Q of a peak of SHELXL.
_POINT = re.compile(r"X[xX]?|[XQ]\d*")
_NOTHING = re.compile(r"(?:dum|dummy|cnt|cent\w*|cg|va|vac|vacancy|void|empty|em|box|lp)\d*", re.IGNORECASE)
_SHARE = re.compile(r"\s*(\d*\.?\d+)\s*\*?\s*([A-Z][a-z]?)[\d.]*[+-]?\d*\s*")
_SHARE_BEHIND = re.compile(r"\s*([A-Z][a-z]?)[+-]?\s*(0?\.\d+)\s*")
_CHARGED = re.compile(
    r"([A-Z][a-z]?)(?:\d*\.?\d*[+-]\d*\.?\d*|[+-]?\d+\.?\d*|\(\w{1,4}\))?(?:iso|ani|va|val|_(?:pv|sv|[dhs23])(?:_GW)?)?"
)
#: A molecule that is refined as one atom, its hydrogen unplaced: OH, H2O, OH2, NH4, CH3, BH4.
_WITH_HYDROGEN = re.compile(r"(?:[HD]\d*-?([BCNOS])|([BCNOS])-?[HD]\d*)[+-]?\d*", re.IGNORECASE)
_WATER = re.compile(r"(?:wat|ow|aq|hoh|o\d+w)[\d_]*", re.IGNORECASE)
#: A symbol and its number, as a formula in capitals has them.
_CAPITALS = re.compile(r"[A-Z]{1,2}\d*\.?\d*")
_HYDROGEN = {"D": "H", "T": "H"}
_STABLE = frozenset(SYMBOLS[:LAST_COVERED])
_MADE_OF = {"OW": "O", "WAT": "O", "HOH": "O", "AQ": "O", "HW": "H"}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of the table of atoms.

    Attributes:
        label: as the file names it.
        contents: elements and how much of the place each fills.
        frac_coords: as written.
        rounding: half a unit in the last digit of each coordinate; 0 of those that are exact, such as 0.5.
        multiplicity: how many such places the cell has, where the file says so.
    """

    label: str
    contents: Contents
    frac_coords: tuple[float, float, float]
    rounding: tuple[float, float, float]
    multiplicity: int | None

    @property
    def occupancy(self) -> float:
        """Of all its elements together."""
        return sum(amount for _, amount in self.contents)


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The rows that have atoms, and what was noticed.

    Attributes:
        rows: in the order of the file.
        warnings: rows that were left out, atoms without a position.
        lacks_hydrogen: whether rows are of water, hydroxide and the like, and the hydrogen has no position.
        elements: all that are listed.
    """

    rows: tuple[Row, ...]
    warnings: tuple[str, ...]
    lacks_hydrogen: bool = False

    @property
    def elements(self) -> set[str]:
        """All that are listed."""
        return {symbol for row in self.rows for symbol, _ in row.contents}


def read_rows(block: Block, name: str, limits: Limits) -> Rows:
    """Read the table of atoms.

    Args:
        block: of the file.
        name: of the file, for messages.
        limits: rows are counted.

    Raises:
        FormatError: kind "unreadable-cif", a number that is none.
        InputError: kinds "unknown-element", "element-not-covered", "occupancy-above-one", "empty-site".
        TooLargeError: rows.
    """
    count = len(block.column(COORDINATE))
    limits.check_atoms(count, name)
    labels = _padded(block, count, name, "_atom_site_label")
    symbols = _padded(block, count, name, "_atom_site_type_symbol")
    flags = _padded(block, count, name, "_atom_site_calc_flag")
    occupancies = _padded(block, count, name, "_atom_site_occupancy")
    multiplicities = _padded(
        block, count, name, "_atom_site_site_symmetry_multiplicity", "_atom_site_symmetry_multiplicity"
    )
    coordinates = [_padded(block, count, name, key) for key in _COORDINATES]
    formula = formula_of(block)
    capitals = all(text == text.upper() for text in symbols)
    has_symbols = bool(block.column("_atom_site_type_symbol"))
    rows: list[Row] = []
    notes = _Notes()
    for k in range(count):
        symbol, label = symbols[k].strip(), labels[k].strip()
        where = f"{name}, row {k + 1} of its atoms"
        shown = label if not is_null(label) else symbol
        if flags[k].strip().lower() == "dum" or _is_nothing(symbol, label):
            notes.dummies.append(shown)
            continue
        occupancy = _occupancy(occupancies[k], k, name)
        try:
            contents = _contents(symbol, label, formula, where, notes, capitals=capitals)
        except InputError as error:
            raise _in_its_row(error, symbol, label, k, has_symbols=has_symbols) from error
        texts = [column[k] for column in coordinates]
        if all(map(is_null, texts)):
            notes.unplaced.append(shown)
            continue
        place = _place(texts, k, name)
        if occupancy <= LEAST_OCCUPANCY:
            notes.empty.append(shown)
            continue
        x, y, z = place
        rows.append(
            Row(
                label=shown,
                contents=tuple((element, share * occupancy) for element, share in contents),
                frac_coords=(x, y, z),
                rounding=(_rounding(texts[0], x), _rounding(texts[1], y), _rounding(texts[2], z)),
                multiplicity=_multiplicity(multiplicities[k].strip()),
            )
        )
    if not rows:
        raise InputError(
            f"No row of the table of atoms of {name} has an atom with a position: {' '.join(notes.warnings(name))}",
            kind="empty-site",
            where=name,
            expected="rows with an element, three coordinates and an occupancy above zero",
        )
    if not any("H" in dict(row.contents) for row in rows) and notes.with_hydrogen:
        notes.bare = True
    return Rows(rows=tuple(rows), warnings=tuple(notes.warnings(name)), lacks_hydrogen=notes.bare)


def formula_of(block: Block) -> dict[str, float]:
    """Elements and numbers of _chemical_formula_sum; empty where there is none that can be read."""
    amounts: dict[str, float] = {}
    for symbol, number in re.findall(r"([A-Z][a-z]?)(\d*\.?\d*)", _formula_text(block)):
        element = _HYDROGEN.get(symbol, symbol)
        if is_element(element):
            amounts[element] = amounts.get(element, 0.0) + _number(number or "1", 0.0)
    return {symbol: number for symbol, number in amounts.items() if number > 0}


def has_clear_formula(block: Block) -> bool:
    """Whether _chemical_formula_sum is elements and numbers alone, each symbol written as usual."""
    symbols = re.findall(r"([A-Z][a-z]?)\d*\.?\d*", _formula_text(block))
    rest = re.sub(r"[A-Z][a-z]?\d*\.?\d*", "", _formula_text(block))
    in_capitals = re.search(r"[A-Z]{2}", _formula_text(block)) and not re.search(r"[a-z]", _formula_text(block))
    return not rest.strip() and not in_capitals and all(is_element(_HYDROGEN.get(one, one)) for one in symbols)


def _formula_text(block: Block) -> str:
    """The formula, with the symbols of one in capitals, such as "LI FE P O4", in their usual case."""
    text = block.text("_chemical_formula_sum") or ""
    parts = text.split()
    is_in_capitals = all(_CAPITALS.fullmatch(part) for part in parts)
    return " ".join(part.capitalize() for part in parts) if len(parts) > 1 and is_in_capitals else text


def last_element(rows: Sequence[Row]) -> str | None:
    """The element of the last row of atoms."""
    return rows[-1].contents[-1][0] if rows else None


class _Notes:
    """What was noticed of rows, collected so that each warning appears once."""

    def __init__(self) -> None:
        self.dummies: list[str] = []
        self.unplaced: list[str] = []
        self.empty: list[str] = []
        self.with_hydrogen: dict[str, list[str]] = {}
        self.from_labels: list[str] = []
        self.bare = False

    def warnings(self, name: str) -> list[str]:
        """Describe what was left out of a file, what it lacks, and what was taken from labels."""
        left_out = [
            (self.dummies, "a dummy, a centroid or a vacancy"),
            (self.unplaced, "without coordinates"),
            (self.empty, "occupancy zero"),
        ]
        found = [f"Left out of {name}: {_listing(labels)} ({why})." for labels, why in left_out if labels]
        if self.bare:
            parts = [
                f"{_listing(labels)} was read as {element}" for element, labels in sorted(self.with_hydrogen.items())
            ]
            found.append(f"Hydrogen without a position is missing from {name}: {' and '.join(parts)}.")
        if self.from_labels:
            found.append(f"The elements of {_listing(self.from_labels)} in {name} were taken from the rows' labels.")
        return found


def _listing(labels: Sequence[str]) -> str:
    names = list(dict.fromkeys(label[:20] for label in labels))
    more = f" and {len(names) - _NAMED_ROWS} more" if len(names) > _NAMED_ROWS else ""
    return ", ".join(names[:_NAMED_ROWS]) + more


def _padded(block: Block, count: int, name: str, *keys: str) -> list[str]:
    """A column of the table of atoms, `?` in each row where it is not there."""
    column = block.column(*keys)
    if not column:
        return ["?"] * count
    if len(column) != count:
        raise FormatError(
            f"The column {keys[0]} of {name} has {len(column)} values, and there are {count} atoms.",
            kind="unreadable-cif",
            where=f"{name}, {keys[0]}",
            expected="one table (loop_) with every column of the atoms",
        )
    return column


def _is_nothing(symbol: str, label: str) -> bool:
    """Whether a row is a dummy, a centroid, a lone pair or a vacancy: by its symbol, else by its label."""
    if not is_null(symbol):
        return _NOTHING.fullmatch(symbol) is not None or _POINT.fullmatch(symbol) is not None
    return re.fullmatch(rf"(?:{_NOTHING.pattern}|[XQ]\d+\w?)", label, re.IGNORECASE) is not None and not is_element(
        re.sub(r"[^A-Za-z].*", "", label)
    )


def _contents(  # noqa: PLR0911 - one return for each way to write a symbol
    symbol: str, label: str, formula: Mapping[str, float], where: str, notes: _Notes, *, capitals: bool
) -> Contents:
    """The elements of a row and their shares, which add up to one or less."""
    if is_null(symbol):
        return ((_of_label(label, formula, where, notes), 1.0),)
    if shares := _shares(symbol, where):
        return shares
    plain = _CHARGED.fullmatch(symbol)
    if plain and (is_element(plain[1]) or plain[1] == "D"):
        # so is water labelled, but for oxygen beside tungsten
        if plain[1] == "O" and _WATER.fullmatch(label) and (not formula or "H" in formula):
            notes.with_hydrogen.setdefault("O", []).append(label)
        return ((plain_symbol(plain[1], where), 1.0),)
    if element := _MADE_OF.get(symbol.upper().rstrip("0123456789")):
        if element == "O":
            notes.with_hydrogen.setdefault(element, []).append(label)
        return ((element, 1.0),)
    letters = re.match(r"[A-Za-z]*", symbol)
    word = letters[0] if letters else ""
    whole = word.capitalize() if re.fullmatch(r"[A-Za-z]+[\d+\-.]*", symbol) else ""
    molecule = _WITH_HYDROGEN.fullmatch(symbol)
    # "HO" is holmium where the formula has it, or where all symbols are in capitals, and hydroxide elsewhere
    if molecule and not (whole in _STABLE and (whole in formula or (capitals and not formula))):
        element = (molecule[1] or molecule[2]).upper()
        notes.with_hydrogen.setdefault(element, []).append(label)
        return ((element, 1.0),)
    if is_element(whole):
        return ((plain_symbol(whole, where), 1.0),)
    own = _exact(label)
    if own is not None and (not formula or own in formula) and word[:1].upper() == own[:1]:
        notes.from_labels.append(label)
        return ((plain_symbol(own, where), 1.0),)
    raise unknown_element(symbol, where)


def _shares(symbol: str, where: str) -> Contents:
    """Elements with shares ("0.75Si + 0.25Al", "Si0.75Al0.25"); empty where it is not such a symbol."""
    parts = re.split(r"\s*\+\s*(?=\d*\.\d)", symbol)  # the sign of a charge has no decimal behind it
    found = [one for part in parts if (one := _SHARE.fullmatch(part))]
    amounts: dict[str, float] = {}
    if len(found) == len(parts) and (len(found) > 1 or _number(found[0][1], 0.0) < 1.0):
        pairs = [(one[2], one[1]) for one in found]
    elif re.fullmatch(rf"(?:{_SHARE_BEHIND.pattern}){{2,}}", symbol):
        pairs = _SHARE_BEHIND.findall(symbol)
    else:
        return ()
    for element, share in pairs:
        known = plain_symbol(element, where)
        amounts[known] = amounts.get(known, 0.0) + _number(share, 0.0)
    total = sum(amounts.values())
    if not 0.0 < total <= MOST_OCCUPANCY:
        raise InputError(
            f"The shares in {symbol[:40]!r} add up to {total:.4g}.",
            kind="occupancy-above-one",
            where=where,
            expected="shares of one place, which add up to 1 at most",
        )
    return tuple(sorted((element, share / max(1.0, total)) for element, share in amounts.items()))


def _of_label(label: str, formula: Mapping[str, float], where: str, notes: _Notes) -> str:
    """The element that a label begins with: one that the formula has, where there is a formula."""
    letters = re.match(r"[A-Za-z]*", label.strip())
    word = letters[0] if letters else ""
    if _WATER.fullmatch(label) and "Ow" not in formula:
        notes.with_hydrogen.setdefault("O", []).append(label)
        return "O"
    options = [one for one in (word[:2].capitalize(), word[:1].upper()) if is_element(one) or one == "D"]
    exact = _exact(label)
    if exact is not None and (not formula or exact in formula):
        return plain_symbol(exact, where)
    molecule = _WITH_HYDROGEN.fullmatch(word)
    if molecule and not (word.capitalize() in _STABLE and (not formula or word.capitalize() in formula)):
        element = (molecule[1] or molecule[2]).upper()
        notes.with_hydrogen.setdefault(element, []).append(label)
        return element
    for option in options:
        if not formula or option in formula or (option == "D" and "H" in formula):
            return plain_symbol(option, where)
    if not options:
        raise unknown_element(label, where)
    return plain_symbol(options[0], where)


def _in_its_row(error: InputError, symbol: str, label: str, row: int, *, has_symbols: bool) -> InputError:
    """The error of a row whose element is not known, with where it was looked for."""
    if error.kind != "unknown-element":
        return error
    if not is_null(symbol):
        looked, expected = f"the _atom_site_type_symbol of {label[:20]}, row {row + 1} of the atoms", error.expected
    else:
        column = "_atom_site_type_symbol is ? there" if has_symbols else "the column _atom_site_type_symbol is missing"
        looked = f"the label of row {row + 1} of the atoms, and {column}"
        expected = "_atom_site_type_symbol with an element in each row, or labels that begin with one, such as Li1"
    return InputError(f"{error.detail} It is {looked}.", kind=error.kind, where=error.where, expected=expected)


def _exact(label: str) -> str | None:
    """The element that a label begins with as elements are written: Ca of "Ca1", C of "C1" and of "CA1" none."""
    found = re.match(r"([A-Z][a-z]?)(?![A-Za-z])", label)
    return found[1] if found and is_element(found[1]) else None


def _occupancy(text: str, row: int, name: str) -> float:
    if is_null(text):
        return 1.0
    value = _number(text, math.nan)
    if has_decimal_comma(text):
        raise comma_error(text, "_atom_site_occupancy", name, f"row {row + 1}")
    if not value >= 0.0:  # so written that NaN is refused
        raise FormatError(
            f"Atom {row + 1} of {name} has no occupancy: it is {text[:20]!r}.",
            kind="unreadable-cif",
            where=f"{name}, _atom_site_occupancy, row {row + 1}",
            expected="a number from 0 to 1",
        )
    if value > MOST_OCCUPANCY:
        raise InputError(
            f"Atom {row + 1} of {name} has an occupancy of {value:.4g}: a place holds one atom at most.",
            kind="occupancy-above-one",
            where=f"{name}, _atom_site_occupancy, row {row + 1}",
            expected="a number from 0 to 1 (not per cent, and not the number of atoms in the cell)",
        )
    return min(value, 1.0)


def _place(texts: Sequence[str], row: int, name: str) -> list[float]:
    place = []
    for key, text in zip(_COORDINATES, texts, strict=True):
        value = _coordinate(text)
        if has_decimal_comma(text):
            raise comma_error(text, key, name, f"row {row + 1}")
        if not abs(value) <= LARGEST_FRACTION:
            raise FormatError(
                f"Atom {row + 1} of {name} has no position: {key} is {text[:20]!r}.",
                kind="unreadable-cif",
                where=f"{name}, {key}, row {row + 1}",
                expected="a fractional coordinate",
            )
        place.append(value)
    return place


def has_decimal_comma(text: str) -> bool:
    """Whether a number is written as 0,5."""
    return _COMMA.fullmatch(text.strip()) is not None


def comma_error(text: str, key: str, name: str, place: str = "") -> FormatError:
    """The error for a number with a decimal comma.

    Args:
        text: the number.
        key: the field.
        name: of the file.
        place: in the field, such as a row.
    """
    where = f", {place}" if place else ""
    return FormatError(
        f"{key} of {name}{where} is {text[:20]!r}, with a decimal comma: a CIF has decimal points.",
        kind="unreadable-cif",
        where=f"{name}, {key}{where}",
        expected="a point in every number, 0.5 and not 0,5",
    )


def _number(text: str, otherwise: float) -> float:
    """A finite number, its uncertainty in parentheses left out."""
    try:
        value = float(text.partition("(")[0])
    except ValueError:
        return otherwise
    return value if math.isfinite(value) else otherwise


def _coordinate(text: str) -> float:
    """The value of a coordinate, a decimal number or a fraction such as 2/3; NaN where it is neither."""
    fraction = _FRACTION.fullmatch(text.strip())
    if fraction is None:
        return _number(text, math.nan)
    numerator, denominator = (int(part) for part in fraction.groups())
    return numerator / denominator if denominator else math.nan


def _multiplicity(text: str) -> int | None:
    """The number that a file gives; None where it gives none."""
    return int(text) if text.isdecimal() and len(text) <= 6 else None  # noqa: PLR2004 - digits, more than any cell needs


def _rounding(text: str, value: float) -> float:
    digits = text.partition("(")[0].lower()
    if "e" in digits or "/" in digits:
        return 0.0
    places = len(digits.partition(".")[2].strip())
    if places <= _EXACT_DIGITS and (value * _EXACT_PARTS).is_integer():
        return 0.0
    return 0.5 * 10.0**-places
