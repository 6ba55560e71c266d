"""The published parameters of bond valence site energies, read from `bond_valence_parameters.json`."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True, kw_only=True)
class BondValenceTable:
    """The parameters of bond valence site energies (softBV), as `bond_valence_parameters.json` cites them.

    Attributes:
        pairs: by cation and anion, each an element symbol and a charge, ("Li", 1), ("O", -2): the distance of lowest
            energy, angstrom; the steepness, 1/angstrom; the depth, eV.
        elements: by symbol, the principal quantum number and the covalent radius, angstrom.
    """

    pairs: Mapping[tuple[str, int, str, int], tuple[float, float, float]]
    elements: Mapping[str, tuple[float, float]]


@cache
def bond_valence_table() -> BondValenceTable:
    """The table, read once."""
    stored = json.loads(files("app.crystals").joinpath("bond_valence_parameters.json").read_text(encoding="utf-8"))
    pairs = {
        (*_ion_of(cation), *_ion_of(anion)): tuple(numbers)
        for cation, anions in stored["pairs"].items()
        for anion, numbers in anions.items()
    }
    return BondValenceTable(
        pairs=pairs, elements={symbol: tuple(numbers) for symbol, numbers in stored["elements"].items()}
    )


def _ion_of(name: str) -> tuple[str, int]:
    symbol, charge = name.split()
    return symbol, int(charge)
