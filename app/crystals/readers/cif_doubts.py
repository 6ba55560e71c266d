"""Where a CIF contradicts itself, or is the average of a modulated structure: its hops are out of the domain."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from app.crystals.band import FloatArray
from app.crystals.crystal import Site
from app.crystals.elements import is_element
from app.crystals.readers.cif_grammar import Block
from app.crystals.readers.cif_modulation import is_modulated
from app.crystals.readers.cif_rows import Row, Rows, formula_of, has_clear_formula

_VOLUME = "_cell_volume"
#: All of 294 published CIFs agree with their own volume within 0.2 %.
_VOLUME_TOLERANCE = 0.01
DENSITY = "_exptl_crystal_density_diffrn"
#: Six minerals of the Crystallography Open Database agree within 0.02 %; two digits of a density round by less.
_DENSITY_TOLERANCE = 0.03
#: Osmium, the densest element, has 22.6; larger numbers are in another unit.
_DENSEST_G_PER_CUBIC_CM = 23.0
#: Of one dalton in a cubic angstrom.
_G_PER_CUBIC_CM = 1.66053907
#: Occupancies and a formula's amounts are rounded.
_HYDROGEN_TOLERANCE = 0.02
#: A label that names an element, by two letters: one letter, as in B1 of a perovskite, may name a kind of site.
_ELEMENT_LABEL = re.compile(r"([A-Z][a-z])(?![a-z]).*")
#: Labels of kinds of atoms: a rare earth, a transition metal.
_SITE_LABELS = frozenset({"Re", "Tm"})
#: Places of atoms that share one may be rounded apart, as fractions of the cell.
_SAME_PLACE = 0.01
_MOST_ECHOED = 80
_MOST_NAMED = 8


@dataclass(frozen=True, kw_only=True)
class Doubt:
    """Why a file may not be of the crystal that was meant.

    Attributes:
        reason: a clause about "it", the file, for the reasons of each hop.
        warning: the same as whole sentences, with what to do.
    """

    reason: str
    warning: str


def doubts_of(
    block: Block, rows: Rows, sites: Sequence[Site], lattice_angstrom: FloatArray, *, units: float, name: str
) -> tuple[Doubt, ...]:
    """Compare a CIF's cell and contents with what else it says of them.

    Args:
        block: of the file.
        rows: its table of atoms.
        sites: of the cell, symmetry applied.
        lattice_angstrom: rows are the lattice vectors, shape [3, 3], angstrom.
        units: how many of its formulas are in the cell.
        name: of the file.
    """
    volume_fault = _volume(block, lattice_angstrom)
    found: list[tuple[str | None, str]] = [
        (_elements(block, rows), "Which is wrong, the formula or an atom?"),
        (_label(rows), "The type was read: which is right?"),
        (volume_fault, f"Is a length or an angle of the cell wrong? Where the cell is right, correct {_VOLUME}."),
    ]
    if volume_fault is None:  # a wrong volume explains a wrong density
        reason = _density(block, rows, sites, lattice_angstrom, units)
        advice = "Is a length, an occupancy or an element wrong, or are atoms missing? Where they are right, correct "
        found.append((reason, f"{advice}{DENSITY}."))
    doubts = [
        Doubt(reason=reason, warning=f"{name} contradicts itself: {reason}. {advice} Its hops are out of the domain.")
        for reason, advice in found
        if reason is not None
    ]
    if is_modulated(block):
        average = f"The structure of {name} is modulated; its average was read, and its hops are out of the domain."
        doubts.insert(0, Doubt(reason="the structure is modulated, and its average was read", warning=average))
    return tuple(doubts)


def foreign_elements(block: Block, rows: Rows) -> tuple[str, ...]:
    """Elements that are among the atoms and not in the formula, where there is one that can be read."""
    formula = formula_of(block)
    return tuple(sorted(rows.elements - formula.keys())) if formula and has_clear_formula(block) else ()


def _elements(block: Block, rows: Rows) -> str | None:
    """Why the formula contradicts the elements of the atoms; hydrogen without a position does not."""
    foreign = foreign_elements(block, rows)
    if not foreign:
        return None
    absent = sorted(formula_of(block).keys() - rows.elements - {"H"})
    echoed = (block.text("_chemical_formula_sum") or "")[:_MOST_ECHOED]
    beside = f", and the formula has {_listing(absent)}, which they lack" if absent else ""
    return f"its atoms have {_listing(foreign)}, which its formula, {echoed}, lacks{beside}"


def _label(rows: Rows) -> str | None:
    """Why a label contradicts its row's element; not on a shared place, nor where it may be no element's.

    Ca, Cb and so on beside the type C are carbon's labels in molecules, as those of any type of one letter are.
    """
    for row in rows.rows:
        label = _ELEMENT_LABEL.fullmatch(row.label)
        types = {symbol for symbol, _ in row.contents}
        if label is None or not is_element(label[1]) or label[1] in _SITE_LABELS:
            continue
        agrees = label[1] in types or label[1][0] in types
        if not agrees and not _is_shared(row, rows):
            return f"its atom {row.label} has the type {_listing(sorted(types))}"
    return None


def _is_shared(row: Row, rows: Rows) -> bool:
    places = np.array([other.frac_coords for other in rows.rows])
    near = (np.abs(places - row.frac_coords) < _SAME_PLACE).all(axis=1)
    return len(row.contents) > 1 or int(near.sum()) > 1


def _listing(symbols: Sequence[str]) -> str:
    more = f" and {len(symbols) - _MOST_NAMED} more" if len(symbols) > _MOST_NAMED else ""
    return ", ".join(symbols[:_MOST_NAMED]) + more


def _volume(block: Block, lattice_angstrom: FloatArray) -> str | None:
    """Why the reported volume contradicts the cell; None where it does not."""
    reported = _reported(block, _VOLUME)
    volume = abs(float(np.linalg.det(lattice_angstrom)))
    if reported is None or abs(volume - reported) <= _VOLUME_TOLERANCE * reported:
        return None
    return f"its lengths and angles make a cell of {volume:.4g} cubic angstrom, and {_VOLUME} is {reported:.4g}"


def _density(block: Block, rows: Rows, sites: Sequence[Site], lattice_angstrom: FloatArray, units: float) -> str | None:
    """Why the reported density contradicts the cell and its atoms; None where it does not.

    It is not compared where hydrogen has no position, and perhaps water neither.
    """
    reported = _reported(block, DENSITY)
    if reported is None or reported > _DENSEST_G_PER_CUBIC_CM or rows.lacks_hydrogen:
        return None
    hydrogen = formula_of(block).get("H", 0.0) * units
    if sum(site.occupancy_of("H") for site in sites) < hydrogen * (1.0 - _HYDROGEN_TOLERANCE):
        return None
    density = _mass_dalton(sites) * _G_PER_CUBIC_CM / abs(float(np.linalg.det(lattice_angstrom)))
    if abs(density - reported) <= _DENSITY_TOLERANCE * reported:
        return None
    return f"its cell and atoms have a density of {density:.4g} g/cm3, and {DENSITY} is {reported:.4g}"


def _mass_dalton(sites: Sequence[Site]) -> float:
    from gemmi import Element  # noqa: PLC0415 - JSON bands, most of the requests, never need it

    return sum(float(Element(symbol).weight) * amount for site in sites for symbol, amount in site.species)


def _reported(block: Block, key: str) -> float | None:
    """A positive number that the file states, without its standard uncertainty; None where there is none."""
    try:
        value = float((block.text(key) or "").partition("(")[0])
    except ValueError:
        return None
    return value if math.isfinite(value) and value > 0.0 else None
