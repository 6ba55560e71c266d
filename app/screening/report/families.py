"""The anion and the structural family of a crystal, by its formula and space group: rough, for grouping alone."""

from collections.abc import Mapping
from dataclasses import dataclass

Amounts = Mapping[str, float]

_CHALCOGENS = ("S", "Se", "Te")
_HALOGENS = ("F", "Cl", "Br", "I")
_ANIONS = ("O", *_CHALCOGENS, *_HALOGENS)
_PNICTOGENS = ("N", "P", "As", "Sb")
#: Elements in the middle of tetrahedral groups, such as phosphate and silicate.
_TETRAHEDRAL = ("P", "Si", "As", "S", "Ge", "V", "Mo", "W")
_THIO = ("P", "Ge", "Si", "Sn", "As", "Sb", "Al", "Ga", "B")
_OXIDISED = 3.0  # oxygens to each atom of an element that is a cation then: sulfates, nitrates, chlorates
_TOLERANCE = 0.05
_PNMA, _FM3M = 62, 225


def amounts_of(formula: str) -> dict[str, float]:
    """Numbers of atoms by element, from a formula such as "Co3 Li3 O6"."""
    found: dict[str, float] = {}
    for word in formula.split():
        symbol = word.rstrip("0123456789.")
        found[symbol] = found.get(symbol, 0.0) + float(word[len(symbol) :] or 1)
    return found


def anion_of(formula: str) -> str:
    """The anions, the most frequent first, such as "O" or "S+Cl"; "none" of metals and of what is not known."""
    amounts = amounts_of(formula)
    oxygen = amounts.get("O", 0.0)
    found = {
        symbol: amounts[symbol]
        for symbol in _ANIONS
        if symbol in amounts and (symbol in {"O", "F"} or oxygen < _OXIDISED * amounts[symbol])
    }
    if not found:
        found = {symbol: amounts[symbol] for symbol in (*_PNICTOGENS, "C", "H", "Si", "Ge") if symbol in amounts}
        found = dict([next(iter(found.items()))]) if found else {}
    return "+".join(sorted(found, key=lambda symbol: -found[symbol])) or "none"


@dataclass(frozen=True, kw_only=True)
class _Contents:
    """A formula as the rules read it: how many ions, anions and other atoms."""

    ion: float
    anions: float
    others: Amounts
    amounts: Amounts
    space_group: int | None

    @property
    def rest(self) -> float:
        return sum(self.others.values())

    def ratio(self, amount: float, to: float, wanted: float) -> bool:
        return to > 0 and abs(amount / to - wanted) < _TOLERANCE * max(1.0, wanted)

    def sum_of(self, symbols: tuple[str, ...]) -> float:
        return sum(self.others.get(symbol, 0.0) for symbol in symbols)

    def has(self, *symbols: str) -> bool:
        return any(symbol in self.amounts for symbol in symbols)


def family_of(formula: str, ion: str, space_group: int | None) -> str:
    """The name of the structural family, "other" where no rule holds.

    Args:
        formula: of the cell.
        ion: element symbol of the one that hops.
        space_group: international number; None where it is not known.
    """
    amounts = amounts_of(formula)
    anions = set(anion_of(formula).split("+"))
    c = _Contents(
        ion=amounts.get(ion, 0.0),
        anions=sum(amounts.get(symbol, 0.0) for symbol in anions),
        others={symbol: amount for symbol, amount in amounts.items() if symbol != ion and symbol not in anions},
        amounts=amounts,
        space_group=space_group,
    )
    rules = (_sulfide, _of_oxygen, _simple)
    return next((name for rule in rules if (name := rule(c, anions))), "other")


def _sulfide(c: _Contents, anions: set[str]) -> str | None:
    centre = c.sum_of(_THIO)
    if not anions & set(_CHALCOGENS) or not centre or not c.ratio(c.rest, centre, 1.0):
        return None
    ions, several = c.ion / centre, len([symbol for symbol in _THIO if symbol in c.others]) > 1
    return _first(
        argyrodite=c.ratio(c.anions, centre, 6.0) and 5.0 <= ions <= 8.0,  # noqa: PLR2004 # Li7PS6, Li6PS5Cl, Li5.5PS4.5Cl1.5
        LGPS=several and c.ratio(c.anions, centre, 4.0) and 3.1 <= ions <= 3.8,  # noqa: PLR2004 # Li10GeP2S12
        thiophosphate=c.has("P"),
    )


def _of_oxygen(c: _Contents, anions: set[str]) -> str | None:
    if "O" not in anions:
        return None
    tetrahedral = c.sum_of(_TETRAHEDRAL)
    around = c.ratio(c.anions, tetrahedral, 4.0)
    return _first(
        garnet=c.space_group in {230, 220, 142, 206} and c.ratio(c.anions, c.rest, 12 / 5),
        NASICON=around and c.ratio(c.rest, tetrahedral, 5 / 3),
        olivine=around and c.space_group == _PNMA and c.ratio(c.rest, tetrahedral, 2.0),
        phosphate=c.has("P") and c.ratio(c.anions, c.amounts.get("P", 0.0), 4.0),
    )


def _simple(c: _Contents, anions: set[str]) -> str | None:
    group, cations = c.space_group, c.ion + c.rest
    halide = anions <= set(_HALOGENS) and c.ratio(c.anions, c.rest, 6.0) and c.ratio(c.ion, c.rest, 3.0)
    layered = group in {166, 12, 160, 194, 15} and c.ratio(c.anions, c.rest, 2.0) and c.ratio(c.ion, c.rest, 1.0)
    perovskite = group in {221, 62, 99, 127, 140, 167, 74} and c.ratio(c.anions, cations, 3 / 2) and c.rest > 0
    names = {
        "halide A3MX6": halide,
        "A3N": anions == {"N"} and not c.rest and c.ratio(c.ion, c.anions, 3.0),
        "spinel": group in {227, 141, 212, 213} and c.ratio(c.anions, cations, 4 / 3),
        "layered AMX2": layered,
        "perovskite": perovskite,
        "antiperovskite": len(anions) > 1 and not c.rest and c.ratio(c.ion, c.anions, 3 / 2),
        "rock salt": group == _FM3M and not c.rest and c.ratio(c.anions, cations, 1.0),
        "antifluorite": group == _FM3M and not c.rest and c.ratio(cations, c.anions, 2.0),
    }
    return _first(**names)


def _first(**names: bool) -> str | None:
    """The first name that holds."""
    return next((name for name, holds in names.items() if holds), None)
