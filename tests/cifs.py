"""Helpers: made-up CIFs, each with what a test is about."""

from collections.abc import Mapping, Sequence

import gemmi

from app.crystals.crystal import Crystal
from app.crystals.limits import Limits
from app.crystals.readers import File, read_crystal

#: Label, type symbol, three coordinates and the occupancy, as they are written.
Atom = tuple[str, ...]

CELL_TAGS = ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")
COLUMNS = ("label", "type_symbol", "fract_x", "fract_y", "fract_z", "occupancy")


def cif(
    *,
    cell: Sequence[float],
    atoms: Sequence[str],
    symbol: str | None = None,
    operations: str | Sequence[str] | None = None,
    columns: Sequence[str] = COLUMNS,
    name: str = "made_up",
    **items: str,
) -> str:
    """A CIF.

    Args:
        cell: lengths in angstrom and angles in degrees; one length is a cube's.
        atoms: rows of the table, as text.
        symbol: of the space group, to be named.
        operations: to be listed: those of a symbol, or as they are.
        columns: of the table, behind `_atom_site_`.
        name: of the block.
        items: other names, with `__` for the hyphen and capitals as they are, and their values.
    """
    parameters = [*cell] * 3 + [90, 90, 90] if len(cell) == 1 else [*cell]
    lines = [f"data_{name}"]
    lines += [f"_cell_{tag} {value:g}" for tag, value in zip(CELL_TAGS, parameters, strict=True)]
    if symbol is not None:
        lines.append(f"_symmetry_space_group_name_H-M '{symbol}'")
    lines += [f"_{key.replace('__', '-')} '{value}'" for key, value in items.items()]
    if isinstance(operations, str):
        operations = [one.triplet() for one in gemmi.SpaceGroup(operations).operations()]
    if operations is not None:
        lines += ["loop_", "_symmetry_equiv_pos_as_xyz", *(f"'{one}'" for one in operations)]
    lines += ["loop_", *(f"_atom_site_{column}" for column in columns), *atoms]
    return "\n".join(lines) + "\n"


def crystal_of(text: str, ion: str | None = None) -> Crystal:
    """What is read of a CIF."""
    return read_crystal(File(name="made-up.cif", content=text.encode()), Limits(), ion)


def said(crystal: Crystal) -> str:
    """All warnings as one text."""
    return " ".join(crystal.warnings)


def places(crystal: Crystal) -> set[tuple[object, ...]]:
    """Sites with what is on them, to compare two readings."""
    return {(*(round(value * 1_000) % 1_000 for value in site.frac_coords), *site.species) for site in crystal.sites}


def amounts(formula: str) -> Mapping[str, float]:
    """Numbers by element of a formula with spaces."""
    parts = [part.rstrip("0123456789.") for part in formula.split()]
    return {part: float(text[len(part) :]) for part, text in zip(parts, formula.split(), strict=True)}
