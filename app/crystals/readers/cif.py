"""CIF: the crystal that its author meant, or an error that says what is missing."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from app.crystals.band import FloatArray
from app.crystals.crystal import Crystal, Site
from app.crystals.geometry.contacts import FULL
from app.crystals.limits import Limits
from app.crystals.readers.cif_doubts import doubts_of, foreign_elements
from app.crystals.readers.cif_expansion import Expansion, check_size, expand, overfull_error
from app.crystals.readers.cif_grammar import Block, blocks_with_atoms, truncated
from app.crystals.readers.cif_rows import Rows, comma_error, formula_of, has_decimal_comma, last_element, read_rows
from app.crystals.readers.cif_symmetry import PossibleSymmetries, Symmetry, possible_symmetries
from app.crystals.readers.reading import File
from app.crystals.sites.soundness import Soundness, soundness
from app.crystals.validation import check_cell
from app.errors import FormatError, InputError

#: An element with less than this share of what the formula says was lost with the end of the file.
LOST_SHARE = 0.9
#: Contents and formula agree where no element is off by more than this share.
FORMULA_TOLERANCE = 0.02
#: Ions that a powder pattern may not locate, so that a whole file lists none: those of zeolites and the like.
UNLOCATED_IONS = frozenset({"Li", "Na", "K", "Rb", "Cs", "Mg", "Ca", "Sr", "Ba", "Zn", "Ag", "Cu"})
#: Distances between fewer listed atoms may be those of a crystal by chance.
ROWS_TELLING = 3
#: Of a file's own text in an error, characters.
_MOST_ECHOED = 80
_MOST_NAMED = 8
_LENGTHS = ("_cell_length_a", "_cell_length_b", "_cell_length_c")
_ANGLES = ("_cell_angle_alpha", "_cell_angle_beta", "_cell_angle_gamma")


def cif_blocks(text: str, name: str) -> tuple[str, ...]:
    """Names of the data blocks that list atoms, in the file's order: each is a structure.

    Raises:
        FormatError: kinds "truncated-cif", "unreadable-cif".
    """
    return tuple(block.name for block in blocks_with_atoms(text, name))


def read_cif(
    file: File,
    text: str,
    limits: Limits,
    ion: str | None = None,
    *,
    every_atom_listed: bool = False,
    number: int | None = None,
) -> Crystal:
    """Read the first structure of a CIF that holds an ion, the first of all where none does; symmetry is applied.

    Args:
        file: for its name.
        text: its content.
        limits: atoms are counted before and after the symmetry is applied.
        ion: element symbol of the migrating ion, where it is known.
        every_atom_listed: whether a file that gives no symmetry at all has none, as an image of a band.
        number: of the structure to read, its index in `cif_blocks`; None chooses.

    Raises:
        FormatError: kinds "truncated-cif", "unreadable-cif".
        InputError: kinds "unknown-element", "atoms-overlap", "no-space-group", "ambiguous-space-group", ...
        TooLargeError: atoms.
    """
    blocks = blocks_with_atoms(text, file.name)
    if number is not None:
        blocks = blocks[number : number + 1]
    block, rows, notes = _chosen(blocks, ion, file.name, limits)
    lattice = _lattice(block, file.name)
    check_cell(lattice, f"{file.name}, the cell")
    possible = possible_symmetries(block, lattice, file.name, every_atom_listed=every_atom_listed)
    for one in possible.candidates:
        check_size(rows.rows, one.operations, limits, file.name)
    reading, said = _settled(possible, block, rows, lattice, file.name)
    if reading.expansion.overfull:
        raise overfull_error(reading.expansion, file.name)
    sites = reading.expansion.sites
    limits.check_atoms(len(sites), file.name)
    notes += [*possible.warnings, *said, *rows.warnings, *_noticed(reading.expansion, file.name)]
    notes += _compare_with_formula(block, rows, sites, file.name, ends_in_a_line=text.endswith("\n"))
    units = _units_found(_shares(block, sites), sites, _units(block))
    doubts = doubts_of(block, rows, sites, lattice, units=units, name=file.name)
    notes += [one.warning for one in doubts]
    return Crystal(
        lattice_angstrom=lattice,
        sites=sites,
        warnings=tuple(dict.fromkeys(notes)),
        doubts=tuple(one.reason for one in doubts),
    )


def _chosen(blocks: Sequence[Block], ion: str | None, name: str, limits: Limits) -> tuple[Block, Rows, list[str]]:
    """The block to read, its rows, and a warning where there are several."""
    if len(blocks) == 1:
        return blocks[0], read_rows(blocks[0], name, limits), []
    letters = re.match(r"[A-Za-z]+", ion or "")
    element = letters[0].capitalize() if letters else None
    read: list[tuple[Block, Rows]] = []
    problem: InputError | None = None
    for block in blocks:
        try:
            rows = read_rows(block, name, limits)
        except InputError as error:
            problem = problem or error
            continue
        read.append((block, rows))
        if element is None or element in rows.elements:
            break
    if not read:
        assert problem is not None
        raise problem
    holds = element is not None and element in read[-1][1].elements
    block, rows = read[-1] if holds else read[0]
    place = "the first" if block is blocks[0] else f"number {blocks.index(block) + 1}"
    why = f", as it has {element}" if holds and len(read) > 1 else ""
    return block, rows, [f"{name} holds {len(blocks)} structures; {place}, {block.name[:40]}, was read{why}."]


def _lattice(block: Block, name: str) -> FloatArray:
    """Rows are the lattice vectors, angstrom: c along z, a in the plane of x and z."""
    numbers = [_cell_number(block, key, name) for key in (*_LENGTHS, *_ANGLES)]
    a, b, c = numbers[:3]
    alpha, beta, gamma = (math.radians(value) for value in numbers[3:])
    if any(not 0.0 < value < 180.0 for value in numbers[3:]):  # noqa: PLR2004 - degrees
        raise _no_cell(name, [f"{value:g}" for value in numbers[3:]])
    cosine = (math.cos(alpha) * math.cos(beta) - math.cos(gamma)) / (math.sin(alpha) * math.sin(beta))
    if abs(cosine) >= 1.0:
        raise _no_cell(name, [f"{value:g}" for value in numbers[3:]])
    turned = math.acos(cosine)
    return np.array(
        [
            [a * math.sin(beta), 0.0, a * math.cos(beta)],
            [-b * math.sin(alpha) * math.cos(turned), b * math.sin(alpha) * math.sin(turned), b * math.cos(alpha)],
            [0.0, 0.0, c],
        ]
    )


def _no_cell(name: str, angles: Sequence[str]) -> InputError:
    return InputError(
        f"The cell angles of {name}, {', '.join(angles)} degrees, do not close a cell.",
        kind="not-a-cell",
        where=f"{name}, {_ANGLES[0]}",
        expected="angles in degrees, each above 0 and below 180",
    )


def _without(key: str, block: Block, name: str) -> FormatError:
    """The error for a cell without one of its numbers: the file was cut there, or goes on without it."""
    written = [*block.values]
    if written[-1] in {*_LENGTHS, *_ANGLES}:
        return truncated(name, f"it has no {key}")
    return FormatError(
        f"{name} has no {key}.",
        kind="unreadable-cif",
        where=f"{name}, {key}",
        expected=f"all of {', '.join((*_LENGTHS, *_ANGLES))}; angles of 90 degrees too",
    )


def _cell_number(block: Block, key: str, name: str) -> float:
    text = block.text(key)
    if text is None:
        raise _without(key, block, name)
    try:
        value = float(text.partition("(")[0])
    except ValueError:
        value = math.nan
    if has_decimal_comma(text):
        raise comma_error(text, key, name)
    if not math.isfinite(value):
        raise FormatError(
            f"{key} of {name} is {text[:20]!r}, not a number.",
            kind="unreadable-cif",
            where=f"{name}, {key}",
            expected="lengths in angstrom and angles in degrees",
        )
    return value


# The symmetry, of several that the file may mean


@dataclass(frozen=True, kw_only=True, eq=False)
class _Reading:
    """A file read with one symmetry, and how well that goes with the rest of it.

    Attributes:
        symmetry: what was applied.
        expansion: every site of the cell.
        formula: whether contents and formula agree; None where the formula does not tell.
    """

    symmetry: Symmetry
    expansion: Expansion
    formula: bool | None
    lattice_angstrom: FloatArray

    def soundness(self) -> Soundness:
        """Whether its distances are those of a crystal."""
        if self.expansion.overfull:
            return "impossible"
        return soundness(Crystal(lattice_angstrom=self.lattice_angstrom, sites=self.expansion.sites))


def _settled(
    possible: PossibleSymmetries, block: Block, rows: Rows, lattice_angstrom: FloatArray, name: str
) -> tuple[_Reading, list[str]]:
    """The reading that agrees with the rest of the file, and a warning that says why it was chosen.

    Raises:
        InputError: kinds "ambiguous-space-group", "symmetry-disagrees": nothing settles it.
    """
    formula, units = formula_of(block), _units(block)
    readings = []
    for one in possible.candidates:
        expansion = expand(rows.rows, one.operations, lattice_angstrom)
        agrees = _agrees(expansion.sites, formula, units)
        readings.append(_Reading(symmetry=one, expansion=expansion, formula=agrees, lattice_angstrom=lattice_angstrom))
    if len(readings) == 1:
        return readings[0], []
    left, why = readings, ""
    for reason, kept in (
        ("the formula and the number of formula units (Z)", [one for one in left if one.formula]),
        (
            "the listed multiplicities",
            [one for one in left if one.expansion.multiplicities_agree],
        ),
    ):
        narrowed = [one for one in kept if one in left]
        if narrowed and len(narrowed) < len(left):
            left, why = narrowed, reason
    if len(left) > 1 and _all_the_same(left):
        return left[0], [] if len(left) == len(readings) else [_said(possible, left[0], why)]
    if len(left) > 1 and len(rows.rows) >= ROWS_TELLING:
        sound = [(one, one.soundness()) for one in left]
        best = [one for one, state in sound if state == "sound"]
        if len(best) == 1 and all(state == "impossible" for one, state in sound if one is not best[0]):
            left, why = best, "the distances between atoms in crystals"
    if len(left) == 1:
        return left[0], [_said(possible, left[0], why)]
    raise InputError(
        f"{possible.because} Formula, number of formula units (Z) and distances do not decide between them.",
        kind="symmetry-disagrees" if possible.contradicts_itself else "ambiguous-space-group",
        where=name,
        expected=possible.expected,
    )


def _said(possible: PossibleSymmetries, chosen: _Reading, why: str) -> str:
    return f"{possible.because} It was read as {chosen.symmetry.name}, which alone agrees with {why}."


def _units(block: Block) -> float | None:
    """How many formulas a cell holds."""
    try:
        units = float(block.text("_cell_formula_units_z") or "")
    except ValueError:
        return None
    return units if math.isfinite(units) and units > 0 else None


def _agrees(sites: Sequence[Site], formula: dict[str, float], units: float | None) -> bool | None:
    """Whether a cell holds as many formulas as the file says; None where it does not say."""
    wanted = {symbol: number for symbol, number in formula.items() if symbol != "H"}
    if not wanted or units is None:
        return None
    return all(
        abs(_amount(symbol, sites) - number * units) <= FORMULA_TOLERANCE * number * units
        for symbol, number in wanted.items()
    )


def _amount(symbol: str, sites: Sequence[Site]) -> float:
    return sum(site.occupancy_of(symbol) for site in sites)


def _all_the_same(readings: Sequence[_Reading]) -> bool:
    """Whether all readings give the same atoms in the same places."""
    first, *others = ({_key(site) for site in one.expansion.sites} for one in readings)
    return not any(one.expansion.overfull for one in readings) and all(other == first for other in others)


def _key(site: Site) -> tuple[object, ...]:
    places = tuple(round(value * 1000) % 1000 for value in site.frac_coords)
    return (*places, *((symbol, round(amount, 3)) for symbol, amount in site.species))


# Warnings


def _noticed(expansion: Expansion, name: str) -> list[str]:
    said = []
    labels, furthest = expansion.moved
    if labels:
        said.append(
            f"In {name}, {_listing(labels)} {'were' if len(labels) > 1 else 'was'} moved by up to {furthest:.3f} "
            "angstrom onto a symmetry element; coordinates with more digits avoid that."
        )
    if expansion.repeated:
        said.append(
            f"In {name}, {_listing(expansion.repeated)} are symmetry copies of other rows: each atom was read once."
        )
    if expansion.cells_apart:
        said.append(
            f"In {name}, {_listing(expansion.cells_apart)} are other rows moved by whole cells: each atom was read "
            "once."
        )
    return said


def _listing(labels: Sequence[str]) -> str:
    more = f" and {len(labels) - _MOST_NAMED} more" if len(labels) > _MOST_NAMED else ""
    return ", ".join(label[:20] for label in labels[:_MOST_NAMED]) + more


def _compare_with_formula(
    block: Block, rows: Rows, sites: Sequence[Site], name: str, *, ends_in_a_line: bool
) -> list[str]:
    """Warn where fewer atoms are listed than the formula says; refuse where the file looks cut.

    That is where it ends with its atoms and its last line has no end, or what is missing is what a cut takes: the
    elements that come last. Elsewhere they may be somebody's vacancies, or water and ions that were not located.
    """
    formula = formula_of(block)
    shares = _shares(block, sites)
    if not shares:
        return []
    stated = _units(block)
    units = _units_found(shares, sites, stated)
    echoed = (block.text("_chemical_formula_sum") or "")[:_MOST_ECHOED]
    notes = []
    if stated is not None and units > stated * (1.0 + FORMULA_TOLERANCE):
        notes.append(
            f"The cell of {name} holds {units:.3g} formulas {echoed} and not {stated:g} as it says (Z): check its "
            "symmetry and its formula."
        )
    lost = sorted(symbol for symbol, share in shares.items() if share < LOST_SHARE * units)
    if foreign_elements(block, rows):  # in place of those that are in the formula alone
        lost = [symbol for symbol in lost if shares[symbol] > 0]
    if not lost:
        return notes
    more = f" and {len(lost) - _MOST_NAMED} more" if len(lost) > _MOST_NAMED else ""
    named = ", ".join(lost[:_MOST_NAMED]) + more
    words = f"fewer {named} atoms are listed than its formula {echoed} says"
    unlocated = {symbol for symbol in lost if symbol in UNLOCATED_IONS and shares[symbol] == 0}
    water = formula.get("H", 0.0) * units - _amount("H", sites)
    if "O" in lost and formula["O"] * (units - shares["O"]) <= water * (1.0 + FORMULA_TOLERANCE):
        unlocated.add("O")  # each with a hydrogen or two that are missing as well: water or hydroxide
    # of an element that fills its places in part the rows are all there
    rows_gone = {symbol for symbol in lost if _places(symbol, sites) < LOST_SHARE * units * formula[symbol]} - unlocated
    left = set(lost) - unlocated
    as_by_a_cut = any(shares[symbol] == 0 for symbol in rows_gone) or last_element(rows.rows) in rows_gone
    if block.ends_with_atoms and left and (as_by_a_cut or not ends_in_a_line):
        expected = "a whole CIF with its cell, symmetry and atoms; where atoms are left out on purpose, no "
        raise truncated(name, words, expected + "_chemical_formula_sum")
    hidden = "; water or ions that were not located are missing from the crystal" if unlocated else ""
    return [*notes, f"In {name} {words}{hidden}."]


def _shares(block: Block, sites: Sequence[Site]) -> dict[str, float]:
    """Atoms of each element in the cell, divided by its number in the formula; without hydrogen, often not located."""
    wanted = {symbol: number for symbol, number in formula_of(block).items() if symbol != "H"}
    return {symbol: _amount(symbol, sites) / number for symbol, number in wanted.items()}


def _units_found(shares: Mapping[str, float], sites: Sequence[Site], stated: float | None) -> float:
    """How many formulas the listed atoms make, whatever a dopant with a rounded amount or a lost element says.

    Elements on filled sites count, as their amounts are rarely rounded: Z where one of them agrees with it, else the
    middle one, since what is lost with the end of a file leaves at most one element with some of its atoms.

    Args:
        shares: atoms of each element, divided by its number in the formula.
        sites: of the cell.
        stated: Z, where the file has it.
    """
    present = {symbol: share for symbol, share in shares.items() if share > 0}
    partly = {symbol for site in sites if sum(dict(site.species).values()) < FULL for symbol, _ in site.species}
    full = [share for symbol, share in present.items() if symbol not in partly]
    counted = sorted(full or present.values())
    least = min(stated or 1.0, 1.0)
    if stated is not None and any(abs(share - stated) <= FORMULA_TOLERANCE * stated for share in counted):
        return stated
    return max(counted[len(counted) // 2], least) if counted else least


def _places(symbol: str, sites: Sequence[Site]) -> int:
    return sum(site.occupancy_of(symbol) > 0 for site in sites)
