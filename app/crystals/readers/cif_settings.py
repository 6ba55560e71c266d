"""The settings of the space groups: which of them a Hall symbol, a Hermann-Mauguin symbol or a number may mean.

Symbols, Hall symbols and operations come from gemmi's table (M. Wojdyr, J. Open Source Softw. 7, 4200, 2022), full
symbols and the codes of International Tables (`b1`, `cab`, `2`) from spglib's (A. Togo et al., Sci. Technol. Adv.
Mater. Meth. 4, 2384822, 2024).
"""

import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np

from app.crystals.band import FloatArray, IntArray

#: gemmi counts translations in parts of this.
DENOMINATOR = 24
#: Space groups.
MOST = 230
_MONOCLINIC, _ORTHORHOMBIC, _TRIGONAL, _CUBIC = range(3, 16), range(16, 75), range(143, 168), range(195, MOST + 1)
#: In its table: those of Hall's list.
SPGLIB_SETTINGS = 530
#: No symbol is longer, nor is a Hall symbol.
_LONGEST = 80
#: A letter behind a symbol, in files of ICSD and FullProf: origin 1, origin 2, hexagonal and rhombohedral axes.
_LETTERS = {"z": "2", "s": "1", "h": "h", "r": "r"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Operations:
    """Symmetry operations x -> rotation @ x + translation on fractional coordinates, the identity first.

    Attributes:
        rotations: shape [n, 3, 3].
        translations: in parts of 1/24 of the cell, shape [n, 3].
    """

    rotations: IntArray
    translations: IntArray

    def __len__(self) -> int:
        return len(self.rotations)

    @property
    def is_identity(self) -> bool:
        """Whether there is nothing but the identity."""
        return len(self) == 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Setting:
    """One setting of a space group: its axes and origin.

    Attributes:
        number: of the space group in International Tables.
        symbol: Hermann-Mauguin, with origin and axes ("F d -3 m:2").
        codes: of International Tables ("b1", "1cab", "2"); one, but for a few settings that have two; none of a
            setting beyond those of the tables, such as F 4/m m m.
        parts: of these codes ("1" and "cab"), which may stand for them.
        group: gemmi's.
    """

    number: int
    symbol: str
    codes: frozenset[str]
    parts: frozenset[str]
    group: Any

    @cached_property
    def operations(self) -> Operations:
        """Its operations."""
        return operations_of(self.group)

    @property
    def has_unique_axis_b(self) -> bool:
        """Whether it is a monoclinic one with the usual axis."""
        return any(code.lstrip("-").startswith("b") for code in self.codes)

    def fits(self, lattice_angstrom: FloatArray, tolerance: float) -> bool:
        """Whether a cell has its symmetry: angles to within the tolerance (radian), lengths relatively."""
        return misfit(self.operations, lattice_angstrom) < tolerance


def misfit(operations: Operations, lattice_angstrom: FloatArray) -> float:
    """How far operations are from leaving a cell's lengths and angles as they are: 0.01 is 1 % or 0.6 degrees."""
    metric = lattice_angstrom @ lattice_angstrom.T
    lengths = np.sqrt(np.diag(metric))
    rotations = np.unique(operations.rotations.reshape(-1, 9), axis=0).reshape(-1, 3, 3)
    turned = rotations.transpose(0, 2, 1) @ metric @ rotations
    return float(np.abs((turned - metric) / np.outer(lengths, lengths)).max())


def operations_of(group_operations: Iterable[Any]) -> Operations:
    """Operations of gemmi's as arrays; equal ones once, the identity first."""
    rows = {
        (*(value // DENOMINATOR for row in one.rot for value in row), *(value % DENOMINATOR for value in one.tran))
        for one in group_operations
    }
    identity = (1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0)
    table = np.array([identity, *sorted(rows - {identity})], dtype=np.int64)
    return Operations(rotations=table[:, :9].reshape(-1, 3, 3), translations=table[:, 9:])


def settings_of_number(number: int) -> tuple[Setting, ...]:
    """All settings of a space group that International Tables have."""
    return tuple(one for one in _table().settings if one.number == number and one.codes)


def with_code(settings: tuple[Setting, ...], code: str) -> tuple[Setting, ...]:
    """Those of some settings, or else of their space groups' others, that a code of International Tables means."""
    code = code.lower()
    numbers = sorted({one.number for one in settings})
    others = tuple(one for number in numbers for one in settings_of_number(number))
    for group in (settings, others):
        exact = tuple(one for one in group if code in one.codes)
        if found := exact or tuple(one for one in group if code in one.parts):
            return found
    # the only setting there is, counted
    return settings if code in {"1", "abc"} and len(settings) == 1 else ()


def setting_of_hall(symbol: str) -> Setting | None:
    """The setting that a Hall symbol means, one beyond the tables too; None where it is no Hall symbol."""
    import gemmi  # noqa: PLC0415

    if len(symbol) > _LONGEST:
        return None
    try:
        operations = gemmi.symops_from_hall(symbol.replace("_", " "))
    except (ValueError, RuntimeError):
        return None
    known = gemmi.find_spacegroup_by_ops(operations)
    if known is not None:
        return _table().by_symbol[known.xhm()]
    number = type_number(operations_of(operations))
    return Setting(number=number or 0, symbol=symbol.strip(), codes=frozenset(), parts=frozenset(), group=operations)


def type_number(operations: Operations) -> int | None:
    """The number of the space group that operations are of, in whatever setting; None where it is not found."""
    import gemmi  # noqa: PLC0415
    import spglib  # noqa: PLC0415

    group = gemmi_group(operations)
    known = gemmi.find_spacegroup_by_ops(group)
    if known is not None and len(group) == len(operations):
        return int(known.number)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # spglib tells its callers how to catch its errors
        found = spglib.get_spacegroup_type_from_symmetry(operations.rotations, operations.translations / DENOMINATOR)
    return int(found.number) if found is not None else None


def gemmi_group(operations: Operations) -> Any:
    """Operations as a group of gemmi's."""
    import gemmi  # noqa: PLC0415

    group = []
    for rotation, translation in zip(operations.rotations, operations.translations, strict=True):
        one = gemmi.Op()
        one.rot = (rotation * DENOMINATOR).tolist()
        one.tran = translation.tolist()
        group.append(one)
    return gemmi.GroupOps(group)


def settings_of_symbol(text: str) -> tuple[Setting, ...]:
    """The settings that a Hermann-Mauguin symbol may mean; none where it is not known.

    Known are short and full symbols, with or without spaces, in any case, with subscripts marked or not, old ones
    ("F m 3 m", "C m c a") and new ("C m c e"), and what chooses between settings: ":1", ":2", ":H", ":R", a code of
    International Tables (":b1", ":cab"), and a letter at the end (Z, S, H, R).

    Args:
        text: as the file has it.
    """
    symbol, own = _split(text)
    found = _lookup(symbol)
    if not found and own is None and symbol[-1:] in _LETTERS:
        found, own = _lookup(symbol[:-1].rstrip()), _LETTERS[symbol[-1]]
    if not found and own is None and symbol[-2:] in {" 1", " 2"}:
        found, own = _lookup(symbol[:-2]), symbol[-1]
    return found if own is None else with_code(found, own)


def standard_number(text: str) -> int | None:
    """The space group whose standard short symbol this is, with no origin or axes: files give it for any setting."""
    symbol, code = _split(text)
    return _table().standard.get(symbol.replace(" ", "")) if code is None else None


def _split(text: str) -> tuple[str, str | None]:
    """A symbol in lower case, one space between its parts, without marks of subscripts; and the code behind it."""
    symbol = " ".join(text[:_LONGEST].strip("'\" ").lower().split())
    symbol = re.sub(r"</?sub>|[~{}$^]", "", re.sub(r"\\(?:overline|bar)", "-", symbol))
    symbol = re.sub(r"[\s,]+(?:\((?:no\.?|\#)?\s*\d{1,3}\)|(?:no\.?|\#)\s*\d{1,3})$", "", symbol)
    symbol = re.sub(r"\((\d)\)", r"\1", symbol)
    code = None
    if origin := re.search(r"[\s,;:(]*(?:origin(?:\s*choice)?|(?<=\s)o)\s*([12])\)?$", symbol):
        symbol, code = symbol[: origin.start()], origin[1]
    elif ":" in symbol:
        symbol, _, code = (part.strip() for part in symbol.partition(":"))
    symbol = re.sub(r"(?<=\d)_(?=\d)", "", symbol).replace("_", " ")
    symbol = re.sub(r"\s*/\s*", "/", symbol)
    symbol = re.sub(r"-\s+(?=\d)", "-", symbol)
    symbol = re.sub(r"(\d)-(?!\d)", r"-\1", symbol)
    return " ".join(symbol.split()), code or None


def _lookup(symbol: str) -> tuple[Setting, ...]:
    table = _table()
    words = symbol.split(" ")
    return (
        table.spaced.get(symbol)
        or table.closed.get(symbol.replace(" ", ""))
        or table.spaced.get(" ".join([words[0], *(word for word in words[1:] if word != "1")]))
        or ()
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Table:
    """Settings by the symbols that stand for them.

    Attributes:
        settings: each once.
        by_symbol: by gemmi's symbol with origin and axes.
        spaced: by a symbol with spaces.
        closed: by a symbol without.
        standard: the number by the standard short symbol, without spaces.
    """

    settings: tuple[Setting, ...]
    by_symbol: dict[str, Setting]
    spaced: dict[str, tuple[Setting, ...]]
    closed: dict[str, tuple[Setting, ...]]
    standard: dict[str, int]


@cache
def _table() -> _Table:
    import gemmi  # noqa: PLC0415
    import spglib  # noqa: PLC0415

    groups = list(gemmi.spacegroup_table())
    # of a few the table has two symbols for the same operations: the first is used for both
    first = {one.xhm(): gemmi.find_spacegroup_by_ops(one.operations()) for one in groups}
    names: dict[str, set[str]] = {}
    codes: dict[str, set[str]] = {}
    standard: dict[str, int] = {}
    for one in groups:
        names.setdefault(first[one.xhm()].xhm(), set()).add(one.hm.lower())
        codes.setdefault(first[one.xhm()].xhm(), set())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # spglib tells its callers how to catch its errors
        kinds = [spglib.get_spacegroup_type(index) for index in range(1, SPGLIB_SETTINGS + 1)]
    for kind in kinds:
        key = gemmi.find_spacegroup_by_ops(gemmi.symops_from_hall(kind.hall_symbol)).xhm()
        for name in (kind.international_full, kind.international.rpartition("=")[2]):
            names[key].add(" ".join(name.replace("_", "").lower().split()))
        codes[key].add(kind.choice.lower())
        standard.setdefault(kind.international_short.replace("_", "").lower(), kind.number)
    settings = {
        key: Setting(
            number=first[key].number,
            symbol=key,
            codes=frozenset(codes[key]),
            parts=frozenset(part for code in codes[key] for part in _parts(code, first[key].number)),
            group=first[key].operations(),
        )
        for key in names
    }
    spaced: dict[str, dict[str, Setting]] = {}
    closed: dict[str, dict[str, Setting]] = {}
    for key, setting in settings.items():
        for name in names[key]:
            for spelling in _spellings(name, setting.number):
                spaced.setdefault(spelling, {})[key] = setting
                # "P32" is P 32 and not P 3 1 2 or P 3 2 1
                if setting.number not in _TRIGONAL or spelling.count(" ") >= name.count(" "):
                    closed.setdefault(spelling.replace(" ", ""), {})[key] = setting
    for symbol, number in ((one.short_name().lower(), one.number) for one in groups if one.is_reference_setting()):
        standard.setdefault(symbol, number)
    return _Table(
        settings=tuple(settings.values()),
        by_symbol={symbol: settings[one.xhm()] for symbol, one in first.items()},
        spaced={key: tuple(found.values()) for key, found in spaced.items()},
        closed={key: tuple(found.values()) for key, found in closed.items()},
        standard=standard,
    )


def _spellings(name: str, number: int) -> set[str]:
    """A symbol as it is, without the ones of its other axes, and without the bar that old cubic symbols lack."""
    words = name.split(" ")
    spellings = {name}
    if number in _MONOCLINIC or number in _TRIGONAL:
        spellings.add(" ".join([words[0], *(word for word in words[1:] if word != "1")]))
    if number in _CUBIC:
        spellings.add(" ".join([*words[:2], *(word.replace("-3", "3") for word in words[2:])]))
    return spellings


def _parts(code: str, number: int) -> set[str]:
    """What may stand for a code: "1" and "cab" for "1cab", "b" and "1" for "b1", "abc" for none of other axes."""
    parts: set[str] = set()
    if found := re.fullmatch(r"([12])(\D.*)", code) or re.fullmatch(r"([abc])(\d)", code):
        parts |= {found[1], found[2]}
    if number in _ORTHORHOMBIC:
        parts |= {"": {"abc"}, "1": {"1abc", "abc"}, "2": {"2abc", "abc"}}.get(code, set())
    return parts
