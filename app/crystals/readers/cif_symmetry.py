"""The symmetry of a CIF: what its operations, symbols and number may mean, given the cell."""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from app.crystals.band import FloatArray, IntArray
from app.crystals.readers.cif_grammar import Block, is_null
from app.crystals.readers.cif_modulation import is_modulated
from app.crystals.readers.cif_settings import (
    DENOMINATOR,
    MOST,
    Operations,
    Setting,
    gemmi_group,
    misfit,
    operations_of,
    setting_of_hall,
    settings_of_number,
    settings_of_symbol,
    standard_number,
    type_number,
    with_code,
)
from app.errors import FormatError, InputError

#: The richest space group has 192 in its cell; larger cells of a crystal have some times as many.
MOST_OPERATIONS = 1_000
#: A cell that differs from what a symmetry asks for by so much, 0.05 degrees, is rounded.
ROUNDED_CELL = 1e-3
#: By more than this, 1.2 degrees or 2 %, it does not have that symmetry.
DISTORTED_CELL = 0.02
_OPERATION = re.compile(r"[xyzXYZ0-9+\-/.,\s'\"]{1,100}")
#: "1 x,y,z": the number of the row, in quotes with the operation; "1/2+x" begins with none.
_ROW_NUMBER = re.compile(r"\d+\s+(?=[-+]?(?:[xyzXYZ]|[\d./]+\s*[-+]?\s*[xyzXYZ]))")
_TIME_REVERSAL = re.compile(r",\s*[+-]?1\s*\Z")
_LISTED = ("_space_group_symop_operation_xyz", "_symmetry_equiv_pos_as_xyz")
_MAGNETIC, _MAGNETIC_CENTRING = "_space_group_symop_magn_operation_xyz", "_space_group_symop_magn_centering_xyz"
_HALL = ("_space_group_name_hall", "_symmetry_space_group_name_hall")
_SYMBOLS = (
    "_space_group_name_h-m_alt",
    "_symmetry_space_group_name_h-m",
    "_space_group_name_h-m_full",
    "_space_group_name_h-m",
    "_space_group_name_h-m_alt_description",
    "_symmetry_space_group_name_h-m_alt",
)
_NUMBERS = ("_space_group_it_number", "_symmetry_int_tables_number", "_space_group_number")
_CODE = "_space_group_it_coordinate_system_code"
_ASK = "the symmetry operations, in a table with _space_group_symop_operation_xyz"
_NAMED = 6


@dataclass(frozen=True, kw_only=True, eq=False)
class Symmetry:
    """One thing that the symmetry of a file may be.

    Attributes:
        name: a symbol, or "the listed operations".
        operations: its operations.
    """

    name: str
    operations: Operations


@dataclass(frozen=True, kw_only=True, eq=False)
class PossibleSymmetries:
    """What the symmetry of a file may be, and why that is open where there are several.

    Attributes:
        candidates: one or more.
        because: why there are several, a whole sentence; empty where there is one.
        contradicts_itself: whether the file gives different space groups in several places.
        expected: what would settle it.
        warnings: what was noticed of the operations.
    """

    candidates: tuple[Symmetry, ...]
    because: str = ""
    contradicts_itself: bool = False
    expected: str = _ASK
    warnings: tuple[str, ...] = ()


def possible_symmetries(
    block: Block, lattice_angstrom: FloatArray, name: str, *, every_atom_listed: bool = False
) -> PossibleSymmetries:
    """Find what the symmetry of a block may be: its operations; else its Hall symbol, Hermann-Mauguin symbol, number.

    Args:
        block: of the file.
        lattice_angstrom: rows are the lattice vectors, shape [3, 3], angstrom.
        name: of the file, for messages.
        every_atom_listed: whether a block that gives no symmetry at all has none.

    Raises:
        FormatError: kind "unreadable-cif", operations that cannot be read.
        InputError: kinds "no-space-group", "unknown-space-group", "not-a-group", "symmetry-disagrees".
    """
    listed = _listed(block, name)
    if listed is None:
        if every_atom_listed and not _said(block):
            return PossibleSymmetries(candidates=(Symmetry(name="P 1", operations=operations_of([])),))
        return _named(block, lattice_angstrom, name)
    numbers = _numbers(block)
    listed, notes = _completed(listed, numbers, name)
    if misfit(listed, lattice_angstrom) > DISTORTED_CELL:
        raise _other_cell(name, "the listed symmetry operations")
    own = Symmetry(name="the listed operations", operations=listed)
    if not numbers or notes or type_number(listed) in numbers:
        notes += _other_setting(block, listed, lattice_angstrom, name)
        return PossibleSymmetries(candidates=(own,), warnings=tuple(notes))
    settings, _ = _settings(block, lattice_angstrom)
    named = (Symmetry(name=one.symbol, operations=one.operations) for one in _fitting(settings, lattice_angstrom))
    said = _said(block)
    what = "x, y, z alone" if listed.is_identity else f"{len(listed)} operations of another space group"
    return PossibleSymmetries(
        candidates=(own, *named),
        because=f"{name} gives the space group as {said} and lists {what}.",
        contradicts_itself=True,
        expected="all symmetry operations of the space group; or, where every atom of the cell is listed, P 1",
    )


def _other_setting(block: Block, listed: Operations, lattice_angstrom: FloatArray, name: str) -> list[str]:
    """A warning where a name means a setting with other operations than the listed ones.

    A standard short symbol is the group's name in many files, whatever the setting: there the group alone is compared.
    """
    number, own = type_number(listed), _key(listed)
    for one in _names(block, lattice_angstrom):
        if one.is_number or one.is_standard:
            agrees = number in one.numbers
        else:
            agrees = any(_key(setting.operations) == own for setting in one.settings)
        if not agrees:
            meant = " or ".join(setting.symbol for setting in one.settings[:_NAMED])
            said = f"not those of {meant}, as {_said(block)} says; the listed ones were taken"
            return [f"The symmetry operations that {name} lists are {said}."]
    return []


def _key(operations: Operations) -> frozenset[bytes]:
    """The same for operations in any order."""
    table = np.concatenate([operations.rotations.reshape(-1, 9), operations.translations % DENOMINATOR], axis=1)
    return frozenset(row.tobytes() for row in table.astype(np.int8))


def _listed(block: Block, name: str) -> Operations | None:
    """The operations that a file lists; None where it lists none."""
    found = [(key, block.values[key]) for key in _LISTED if not all(map(is_null, block.column(key)))]
    if found:
        key, texts = found[0]
        return operations_of(_read(texts, key, name))
    texts = [_TIME_REVERSAL.sub("", text) for text in block.column(_MAGNETIC)]
    if all(map(is_null, texts)):
        return None
    operations = _read(texts, _MAGNETIC, name)
    centring = [_TIME_REVERSAL.sub("", text) for text in block.column(_MAGNETIC_CENTRING) if not is_null(text)]
    shifts = _read(centring or ["x,y,z"], _MAGNETIC_CENTRING, name)
    if len(operations) * len(shifts) > MOST_OPERATIONS:
        raise _too_many(len(operations) * len(shifts), _MAGNETIC, name)
    return operations_of([one * shift for one in operations for shift in shifts])


def _read(texts: list[str], key: str, name: str) -> list[Any]:
    """Operations as gemmi reads them, each checked to turn the cell's lattice onto itself."""
    import gemmi  # noqa: PLC0415 - JSON bands, most of the requests, never need it

    if len(texts) > MOST_OPERATIONS:
        raise _too_many(len(texts), key, name)
    read = []
    for row, text in enumerate(texts):
        problem = ""
        if not _OPERATION.fullmatch(text):
            problem = "it has other signs than x, y, z, numbers, + - / and commas"
        elif text.count(",") < 2:  # noqa: PLR2004 - between three parts
            problem = "it is not three parts with commas between them; an operation with blanks needs quotes around it"
        else:
            try:
                one = gemmi.Op(_ROW_NUMBER.sub("", text.strip("'\" ")).replace("+-", "-"))
            except (ValueError, RuntimeError) as error:
                problem = " ".join(str(error).split())[:100]
            else:
                rotation = np.array(one.rot)
                if np.abs(rotation).max() > gemmi.Op.DEN or abs(one.det_rot()) != gemmi.Op.DEN**3:
                    problem = "it does not turn the lattice onto itself"
                read.append(one)
        if problem:
            raise FormatError(
                f"{text[:40]!r} is not a symmetry operation: {problem}.",
                kind="unreadable-cif",
                where=f"{name}, {key}, row {row + 1}",
                expected="such as 'x, -y+1/2, z', with quotes, or x,-y+1/2,z; translations in multiples of 1/24",
            )
    return read


def _too_many(count: int, key: str, name: str) -> FormatError:
    return FormatError(
        f"{name} lists {count} symmetry operations; no space group has so many.",
        kind="unreadable-cif",
        where=f"{name}, {key}",
        expected=f"at most {MOST_OPERATIONS}",
    )


def _completed(operations: Operations, numbers: set[int], name: str) -> tuple[Operations, list[str]]:
    """The group that listed operations make, and a warning where some of it is not listed.

    Raises:
        InputError: kind "not-a-group": operations are missing, and what the listed ones make is not the space group
            that the file names.
    """
    import gemmi  # noqa: PLC0415

    group = gemmi_group(operations)
    if len(group) == len(operations) and gemmi.find_spacegroup_by_ops(group) is not None:
        return operations, []
    whole, missing = _closure(operations)
    if len(whole) == len(operations):
        return operations, []
    if len(whole) <= MOST_OPERATIONS and type_number(whole) in numbers:
        count = len(whole) - len(operations)
        added = (
            f"{name} lists {len(operations)} of the {len(whole)} symmetry operations of its space group; the other "
            f"{count}, which follow from them, were added."
        )
        return whole, [added]
    raise InputError(
        f"The {len(operations)} symmetry operations that {name} lists are not a group: two of them, one after the "
        f"other, make {missing}, which is not listed.",
        kind="not-a-group",
        where=f"{name}, {_LISTED[0]}",
        expected="every operation of the space group, centring included",
    )


def _closure(operations: Operations) -> tuple[Operations, str]:
    """All products of operations, at most a few more than MOST_OPERATIONS, and the first that is not listed."""
    import gemmi  # noqa: PLC0415

    rotations, translations = operations.rotations, operations.translations
    first = ""
    k = 0
    while k < len(rotations) <= MOST_OPERATIONS:
        products, shifts = rotations[k] @ rotations, translations @ rotations[k].T + translations[k]
        if np.abs(products).max() > 1:  # a product of no space group: the rest would not end either
            endless = np.zeros((MOST_OPERATIONS + 1, 3, 3), dtype=np.int64)
            return Operations(rotations=endless, translations=translations), "a shear"
        new = np.flatnonzero(~np.isin(_codes(products, shifts), _codes(rotations, translations)))
        if len(new) and not first:
            one = gemmi.Op()
            one.rot = (products[new[0]] * gemmi.Op.DEN).tolist()
            one.tran = (shifts[new[0]] % DENOMINATOR).tolist()
            first = one.triplet()
        rotations = np.concatenate([rotations, products[new]])
        translations = np.concatenate([translations, shifts[new] % DENOMINATOR])
        k += 1
    return Operations(rotations=rotations, translations=translations), first


def _codes(rotations: IntArray, translations: IntArray) -> IntArray:
    """A number for each operation, the same for those that differ by whole cells."""
    entries = np.clip(rotations.reshape(-1, 9) + 2, 0, 4)  # beyond -1..1 only where they are not a group
    digits = np.concatenate([entries, translations % DENOMINATOR], axis=1)
    return np.asarray(digits @ _PLACES)


#: Place values of the digits above: 5 values each for the rotation, 24 for the translation.
_PLACES = np.cumprod([1, *[5] * 9, *[DENOMINATOR] * 2])


def _named(block: Block, lattice_angstrom: FloatArray, name: str) -> PossibleSymmetries:
    """What the symbols and the number of a block may mean."""
    settings, because = _settings(block, lattice_angstrom)
    if not settings:
        raise _unknown(block, name)
    fitting = _fitting(settings, lattice_angstrom)
    if not fitting:
        raise _other_cell(name, _said(block))
    candidates = tuple(Symmetry(name=one.symbol, operations=one.operations) for one in fitting)
    if len(candidates) == 1:
        only = f"{because} It was read as {candidates[0].name}, which alone agrees with the cell."
        return PossibleSymmetries(candidates=candidates, warnings=(only,) if because else ())
    names = [one.name for one in candidates]
    shown = ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
    if because:
        return PossibleSymmetries(
            candidates=candidates,
            because=f"{because} They fit {shown}.",
            contradicts_itself=True,
        )
    return PossibleSymmetries(
        candidates=candidates,
        because=(
            f"{name} lists no symmetry operations, and its space group, {_said(block)}, has several settings in such a "
            f"cell: {shown}."
        ),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Name:
    """One name of the space group in a file, and the settings that it may mean.

    Attributes:
        settings: one or more.
        is_number: whether it is a number, which any setting of its group has.
        is_standard: whether it is a standard short symbol, which files give beside the operations of other settings.
    """

    settings: tuple[Setting, ...]
    is_number: bool = False
    is_standard: bool = False

    @property
    def numbers(self) -> set[int]:
        """The space groups that it may mean."""
        return {one.number for one in self.settings}


def _settings(block: Block, lattice_angstrom: FloatArray) -> tuple[tuple[Setting, ...], str]:
    """Settings that the names in a block may mean, and a sentence where the names contradict each other.

    Without a contradiction these are the settings that all names may mean, else those that any of them may.
    """
    names = _names(block, lattice_angstrom)
    if not names:
        return (), ""
    first, *others = names
    common = tuple(one for one in first.settings if all(_may_mean(other, one) for other in others))
    if common:
        return common, ""
    of_one_group = set.intersection(*(name.numbers for name in names))
    # a number that goes with all other names is no reason to read a setting that none of them means
    meant = [name for name in names if not (of_one_group and name.is_number)]
    every = tuple(dict.fromkeys(one for name in meant for one in name.settings))
    return every, f"The names {_said(block)} are of different {'settings' if of_one_group else 'space groups'}."


def _names(block: Block, lattice_angstrom: FloatArray) -> list[_Name]:
    """The names of a block that are known ones: Hall symbol, Hermann-Mauguin symbols, the code beside them, number."""
    hall_text, number, code = block.text(*_HALL), _number(block), block.text(_CODE)
    hall = None if hall_text is None else setting_of_hall(hall_text)
    names = [] if hall is None else [_Name(settings=(hall,))]
    for text in filter(None, map(block.text, _SYMBOLS)):
        settings = settings_of_symbol(text)
        standard = standard_number(text)
        if standard is not None and standard in _MONOCLINIC and settings:
            settings = _own_or_others(settings, settings_of_number(standard), lattice_angstrom)
        if settings:
            names.append(_Name(settings=settings, is_standard=standard is not None))
    if number is not None:
        names.append(_Name(settings=settings_of_number(number), is_number=True))
    if code and names:
        meant = [with_code(name.settings, code) for name in names]
        if found := tuple(dict.fromkeys(one for settings in meant for one in settings)):
            names.append(_Name(settings=found))
    return names


def _may_mean(name: _Name, setting: Setting) -> bool:
    # a number is that of settings beyond International Tables too, such as F 4/m m m
    return setting in name.settings or (name.is_number and setting.number in name.numbers)


def _own_or_others(
    own: tuple[Setting, ...], others: tuple[Setting, ...], lattice_angstrom: FloatArray
) -> tuple[Setting, ...]:
    """What "P 21/c" means: for a cell with another unique axis it may be the group's name and not the setting's."""
    for tolerance in (ROUNDED_CELL, DISTORTED_CELL):
        if any(one.fits(lattice_angstrom, tolerance) for one in own if one.has_unique_axis_b):
            return own
        if any(one.fits(lattice_angstrom, tolerance) for one in others):
            return others
    return others


_MONOCLINIC = range(3, 16)


def _fitting(settings: tuple[Setting, ...], lattice_angstrom: FloatArray) -> tuple[Setting, ...]:
    """Those whose symmetry the cell has, exactly where some of them are exact."""
    for tolerance in (ROUNDED_CELL, DISTORTED_CELL):
        fitting = tuple(dict.fromkeys(one for one in settings if one.fits(lattice_angstrom, tolerance)))
        if fitting:
            return fitting
    return ()


def _number(block: Block) -> int | None:
    text = (block.text(*_NUMBERS) or "").strip()
    return int(text) if re.fullmatch(r"\d{1,3}", text) and 1 <= int(text) <= MOST else None


def _numbers(block: Block) -> set[int]:
    """The space groups that the names of a block may mean, whatever its cell."""
    hall_text, number = block.text(*_HALL), _number(block)
    hall = None if hall_text is None else setting_of_hall(hall_text)
    found = {one.number for key in _SYMBOLS if (text := block.text(key)) for one in settings_of_symbol(text)}
    return found | ({number} if number else set()) | ({hall.number} if hall else set())


def _said(block: Block) -> str:
    """The symbols and the number as the file gives them."""
    parts = [repr(text[:40]) for key in (*_SYMBOLS, *_HALL) if (text := block.text(key))]
    number = block.text(*_NUMBERS)
    parts = list(dict.fromkeys(parts)) + ([f"number {number[:10]}"] if number else [])
    if parts and (code := block.text(_CODE)):
        parts.append(f"coordinate system {code[:10]!r}")
    return ", ".join(parts)


def _unknown(block: Block, name: str) -> InputError:
    said = _said(block)
    if said:
        return InputError(
            f"{name} lists no symmetry operations, and its space group, {said}, is not a known one.",
            kind="unknown-space-group",
            where=f"{name}, _space_group_name_H-M_alt",
            expected=f"{_ASK}; or a symbol of International Tables, such as 'F d -3 m :2'",
        )
    if is_modulated(block):
        return InputError(
            f"The structure of {name} is modulated, and it gives no symmetry of the average structure, which could be "
            "read: no operations in three dimensions, no space group symbol and no number.",
            kind="no-space-group",
            where=name,
            expected=f"{_ASK}, or the symbol of the average's space group; or a supercell as an approximant",
        )
    return InputError(
        f"{name} gives no symmetry: no operations, no space group symbol and no number.",
        kind="no-space-group",
        where=name,
        expected=f"{_ASK}; where every atom of the cell is listed, _space_group_name_H-M_alt 'P 1'",
    )


def _other_cell(name: str, what: str) -> InputError:
    return InputError(
        f"The cell of {name} does not have the symmetry of {what}: its lengths and angles are others.",
        kind="symmetry-disagrees",
        where=name,
        expected="lengths and angles as the space group asks for, its unique axis where the symbol says",
    )
