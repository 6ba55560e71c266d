"""The grammar of a CIF: from its text to data blocks whose values are found by name."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.errors import FormatError

#: Lines of which an unquoted value of several words is quoted, before the file is refused.
MOST_QUOTED = 20
#: Lists and tables of CIF 2 nest; none of them holds anything that is read here.
MOST_NESTED = 10
COORDINATE = "_atom_site_fract_x"
_CARTESIAN = "_atom_site_cartn_x"
_WHOLE = "a whole CIF with its cell, symmetry and atoms"
#: Other names are of no use here, and reflections may be many.
_READ = ("_atom_site_", "_cell_", "_symmetry", "_space_group", "_chemical_formula_", "_exptl_crystal_density_")
_NULL = ("?", ".")
_DATA = re.compile(r"^[ \t]*data_", re.MULTILINE | re.IGNORECASE)
_ITEM = re.compile(r"^[ \t]*(?:_(?:cell|atom_site|symmetry|space_group)|loop_)", re.MULTILINE | re.IGNORECASE)
_SEVERAL_WORDS = re.compile(r"\s*(_\S+)[ \t]+(\S.*?)\s*")
_BLOCK_NAME = re.compile(r"\s*(data_)(\S+)[ \t]+(\S.*?)\s*", re.IGNORECASE)
_PLACE = re.compile(r"string:(\d+):")
_TRIPLE_QUOTED = re.compile(r"'''(.*?)'''|\"\"\"(.*?)\"\"\"", re.DOTALL)
_LIST = re.compile(r"(?<=[\s\[{:])[\[{][^\[\]{}]*[\]}]")
_OVERBAR = re.compile("([0-9])[\u0304\u0305]")
_MINUS = str.maketrans({"\u2212": "-", "\u2013": "-", "\u2010": "-", "\u00a0": " "})


@dataclass(frozen=True, kw_only=True, eq=False)
class Block:
    """A data block.

    Attributes:
        name: what follows `data_`.
        values: by name, in lower case and with `_` for the dots of DDLm; of a table its column, else one value.
        ends_with_atoms: whether the table of atoms is the last thing in the block.
    """

    name: str
    values: Mapping[str, list[str]]
    ends_with_atoms: bool

    def text(self, *names: str) -> str | None:
        """The value of the first of some names that has one; neither `?` nor `.` is one."""
        for name in names:
            values = self.values.get(name, [])
            if len(values) == 1 and values[0].strip() and values[0] not in _NULL:
                return values[0].strip()
        return None

    def column(self, *names: str) -> list[str]:
        """The values of the first of some names that is there."""
        return next((self.values[name] for name in names if name in self.values), [])


def is_null(text: str) -> bool:
    """Whether a value is unknown (`?`) or does not apply (`.`)."""
    return text.strip() in {*_NULL, ""}


def blocks_with_atoms(text: str, name: str) -> list[Block]:
    """The data blocks that list atoms.

    Args:
        text: of the file.
        name: of the file, for messages.

    Raises:
        FormatError: kinds "truncated-cif", "unreadable-cif"; `where` names the line.
    """
    blocks = [_block(block) for block in _parse(_plain(text), name)]
    with_atoms = [block for block in blocks if block.values.get(COORDINATE)]
    if with_atoms:
        return with_atoms
    if any(COORDINATE in block.values for block in blocks):
        raise truncated(name, "its table of atoms is empty")
    if any(_CARTESIAN in block.values for block in blocks):
        raise FormatError(
            f"{name} has Cartesian coordinates alone, and how they are turned against the cell is not read.",
            kind="unreadable-cif",
            where=f"{name}, _atom_site_Cartn_x",
            expected="fractional coordinates: _atom_site_fract_x, _y, _z",
        )
    raise truncated(name, "it ends before its atoms: it has no _atom_site_fract_x")


def truncated(name: str, how: str, expected: str = _WHOLE) -> FormatError:
    """The error for a file whose end is missing."""
    return FormatError(f"{name} is cut short: {how}.", kind="truncated-cif", where=name, expected=expected)


def _parse(text: str, name: str) -> Any:
    """Parse the text; an unquoted value of several words, as in files written by hand, is quoted."""
    from gemmi import cif  # noqa: PLC0415 - JSON bands, most of the requests, never need it

    for _ in range(MOST_QUOTED):
        try:
            return cif.read_string(text, check_level=0)
        except (ValueError, RuntimeError) as error:
            quoted = _quoted(text, str(error))
            if quoted is None:
                raise _broken(name, text, str(error)) from error
            text = quoted
    raise _broken(name, text, "too many lines of several words")


def _plain(text: str) -> str:
    """The text in ASCII, with one data block at least and without the lists of CIF 2."""
    if text.lstrip().startswith("#\\#CIF_2"):
        text = _TRIPLE_QUOTED.sub(lambda found: "?" + "\n" * found[0].count("\n"), text)
        for _ in range(MOST_NESTED):
            text, count = _LIST.subn(lambda found: "?" + "\n" * found[0].count("\n"), text)
            if not count:
                break
    if not text.isascii():
        text = _OVERBAR.sub(r"-\1", text.translate(_MINUS)).encode("ascii", "replace").decode()
    first = _DATA.search(text)
    head = text if first is None else text[: first.start()]
    if first is None or _ITEM.search(head):
        return f"data_unnamed {text}"
    return re.sub(r"^[^#\n].*$", "", head, flags=re.MULTILINE) + text[first.start() :]


def _quoted(text: str, problem: str) -> str | None:
    """The text with the value in the line of a problem in quotes; None where that is not what is wrong."""
    place = _PLACE.match(problem)
    if place is None or ("parse error" not in problem and "unterminated '" not in problem):
        return None
    lines = text.split("\n")
    number = int(place[1]) - 1
    if number >= len(lines):
        return None
    line = lines[number]
    if block := _BLOCK_NAME.fullmatch(line):
        lines[number] = block[1] + "_".join([block[2], *block[3].split()])
        return "\n".join(lines)
    item = _SEVERAL_WORDS.fullmatch(line)
    if item is None:
        return None
    value = item[2].partition(" #")[0].strip()
    quote = next((sign for sign in "\"'" if sign not in value), None)
    if quote is None:
        return None
    lines[number] = f"{item[1]} {quote}{value}{quote}"
    return "\n".join(lines) if lines[number] != line else None


def _broken(name: str, text: str, problem: str) -> FormatError:
    if "Wrong number of values in loop" in problem:
        return truncated(name, "a row of one of its tables (loop_) is not complete")
    if "unterminated text" in problem:
        return truncated(name, "a block of text is not closed")
    place = _PLACE.match(problem)
    number = int(place[1]) if place else 1
    lines = text.rstrip().split("\n")
    if number > len(lines) or (number == len(lines) and lines[-1].strip().lower() in {"loop_", "data_"}):
        return truncated(name, "it ends within a table (loop_)")
    shown = lines[number - 1].strip()[:60]
    return FormatError(
        f"{name} cannot be read as a CIF: line {number}, {shown!r}, is neither a name with one value, nor a row of a "
        "table (loop_), nor text between semicolons.",
        kind="unreadable-cif",
        where=f"{name}, line {number}",
        expected="a value of several words in quotes; text of several lines between lines that begin with ;",
    )


def _block(parsed: Any) -> Block:
    values: dict[str, list[str]] = {}
    last: Sequence[str] = ()
    for item in parsed:
        if item.pair is not None:
            last, columns = (_name(item.pair[0]),), [[item.pair[1]]]
        elif item.loop is not None:
            last = tuple(_name(tag) for tag in item.loop.tags)
            if not any(name.startswith(_READ) for name in last):
                continue
            cells = item.loop.values
            columns = [cells[column :: len(last)] for column in range(len(last))]
        else:
            continue
        for name, column in zip(last, columns, strict=True):
            if name.startswith(_READ):
                values.setdefault(name, [_value(text) for text in column])
    return Block(name=parsed.name.strip() or "unnamed", values=values, ends_with_atoms=COORDINATE in last)


def _name(tag: str) -> str:
    return tag.lower().replace(".", "_").rstrip("_")


def _value(raw: str) -> str:
    """A value without its quotes; `?` and `.` stay what they are."""
    if raw[:1] == ";" and "\n" in raw:
        return raw[1:].removesuffix(";").strip()
    if len(raw) > 1 and raw[0] == raw[-1] and raw[0] in "'\"":
        return raw[1:-1]
    return raw
