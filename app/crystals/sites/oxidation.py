"""Oxidation states guessed from a composition by a bounded search."""

import itertools
import json
import math
from collections.abc import Mapping
from functools import cache, lru_cache
from importlib.resources import files

#: Maximum number of combinations of oxidation states that are tried.
MOST_COMBINATIONS = 50_000
#: Maximum number of states per element that are tried, the most frequent first.
MOST_STATES = 5
#: Charge per atom up to which a combination counts as balanced: occupancies are accurate to a few hundredths.
BALANCED_PER_ATOM = 0.03

#: Compositions whose states are kept: bands of one crystal come one after the other.
_KEPT = 256
#: Pseudo-count of a state that was never observed, as a share of its element's count.
RARE = 1e-4


#: The lowest states of anions, which the ICSD's counts list alone or first.
_ANIONS = {"F": -1, "O": -2, "Cl": -1, "Br": -1, "I": -1, "S": -2, "Se": -2, "Te": -2, "N": -3}
#: Beside the first, each of the second may be oxidised, as Te in K2TeCl6 and I in ICl.
_OXIDISED_BY = {
    **dict.fromkeys(("F", "O"), frozenset(("Cl", "Br", "I", "S", "Se", "Te", "N"))),
    "Cl": frozenset(("Br", "I", "S", "Se", "Te")),
    "Br": frozenset(("I", "S", "Se", "Te")),
    "I": frozenset(("Se", "Te")),
    "S": frozenset(("Te",)),
}
#: The highest states of elements of the main groups, and of those that lose all d electrons: the valence electrons.
_HIGHEST = {
    **dict.fromkeys(("H", "Li", "Na", "K", "Rb", "Cs"), 1),
    **dict.fromkeys(("Be", "Mg", "Ca", "Sr", "Ba", "Zn", "Cd"), 2),
    **dict.fromkeys(("B", "Al", "Ga", "In", "Tl", "La", "Y", "Sc"), 3),
    **dict.fromkeys(("C", "Si", "Ge", "Sn", "Pb", "Ti", "Zr", "Hf"), 4),
    **dict.fromkeys(("N", "P", "As", "Sb", "Bi", "V", "Nb", "Ta"), 5),
    **dict.fromkeys(("S", "Se", "Te", "Cr", "Mo", "W", "Fe"), 6),
    **dict.fromkeys(("Cl", "Br", "I"), 7),
    **dict.fromkeys(("Ru", "Os"), 8),
}
#: A state that fewer of an element's entries have is none of its usual ones: set between P3+ (1.8 %), which would hide
#: an oxygen that LiFePO4 lost, and Nb2+ (2.2 %).
_USUAL_SHARE = 0.02
#: Without O or F, lower than any state that the ICSD counts often: LaS, LaI2 and their like have electrons in bands.
_LOWEST_IN_BANDS = {
    **dict.fromkeys(("Sc", "Y", "La", "Ce", "Pr", "Nd", "Pm", "Sm", "Eu", "Gd", "Tb", "Dy", "Ho", "Er", "Tm", "Yb"), 2),
    **dict.fromkeys(("Lu", "Th", "U", "Np", "Pu", "Am"), 2),
}
#: A composition with a smaller share of anions may be a metal, an electride or a compound of bonded cations.
_FEWEST_ANIONS = 0.35


def missing_cation_charge(amounts: Mapping[str, float]) -> float:
    """How much positive charge a composition lacks, per atom, with every element in its highest oxidation state.

    Halogens, chalcogens and N are anions, but those beside a more electronegative one may be oxidised. Of elements that
    keep d or f electrons it is one above the highest state that the ICSD has, since delithiated oxides go beyond.

    Args:
        amounts: of each element, in any unit; not necessarily integers.
    """
    oxidised = frozenset().union(*(_OXIDISED_BY.get(symbol, frozenset()) for symbol in amounts))
    charge = 0.0
    for symbol, amount in amounts.items():
        if symbol in _ANIONS and symbol not in oxidised:
            state = _ANIONS[symbol]
        else:
            state = _HIGHEST.get(symbol, max(counted_states(symbol), default=0) + 1)
        charge += amount * state
    return _per_atom(-charge, amounts)


def missing_anion_charge(amounts: Mapping[str, float]) -> float:
    """How much negative charge a composition lacks, per atom, with every element in its lowest usual oxidation state.

    It is zero where there is hydrogen, which may be a hydride, and where hardly anything is an anion.

    Args:
        amounts: of each element, in any unit; not necessarily integers.
    """
    total = sum(amounts.values())
    anions = sum(amounts.get(symbol, 0.0) for symbol in _ANIONS)
    if "H" in amounts or anions < _FEWEST_ANIONS * total:
        return 0.0
    in_bands = {} if {"O", "F"} & amounts.keys() else _LOWEST_IN_BANDS
    states = {symbol: _ANIONS.get(symbol, in_bands.get(symbol, _lowest_usual(symbol))) for symbol in amounts}
    charge = sum(amount * states[symbol] for symbol, amount in amounts.items())
    return _per_atom(charge, amounts)


def _per_atom(charge: float, amounts: Mapping[str, float]) -> float:
    return max(0.0, charge) / (sum(amounts.values()) or 1.0)


def _lowest_usual(symbol: str) -> int:
    """The lowest positive state that is usual; the most frequent one where none is."""
    counts = counted_states(symbol)
    if not (seen := sum(counts.values())):
        return 1  # nothing is known of it
    usual = [state for state, count in counts.items() if state > 0 and count >= _USUAL_SHARE * seen]
    return min(usual, default=next(iter(counts), 0))


def guess_oxidation_states(amounts: Mapping[str, float]) -> dict[str, int] | None:
    """Choose one oxidation state per element so that the charges cancel as far as possible.

    The states are those that pymatgen counts in the ICSD; of equally balanced combinations the most frequent is taken.
    An element of mixed valence gets its most frequent state, and a net charge remains.

    Args:
        amounts: of each element, in any unit; not necessarily integers.

    Returns:
        the state of each element; None where an element has no known state, or where all have the same sign.
    """
    states = _guessed(tuple(sorted(amounts.items())))
    return None if states is None else dict(states)


@lru_cache(maxsize=_KEPT)
def _guessed(sorted_amounts: tuple[tuple[str, float], ...]) -> dict[str, int] | None:
    amounts = dict(sorted_amounts)
    choices: list[list[tuple[str, int, float]]] = []
    for symbol in amounts:
        counts = counted_states(symbol)
        if not counts:
            return None
        seen = sum(counts.values()) or 1.0
        commonest = list(counts)[:MOST_STATES]
        choices.append([(symbol, state, counts[state] / seen) for state in commonest])
    while math.prod(len(states) for states in choices) > MOST_COMBINATIONS:
        max(choices, key=len).pop()
    total = sum(amounts.values())
    best: tuple[float, float, dict[str, int]] | None = None
    for combination in itertools.product(*choices):
        charge = abs(sum(amounts[symbol] * state for symbol, state, _ in combination)) / total
        rare = -sum(math.log(share + RARE) for *_, share in combination)
        rank = (max(0.0, charge - BALANCED_PER_ATOM), rare)
        if best is None or rank < best[:2]:
            best = (*rank, {symbol: state for symbol, state, _ in combination})
    return best[2] if best and len({state > 0 for state in best[2].values()}) > 1 else None


def usual_charge(symbol: str) -> int:
    """The most frequent oxidation state of an element in the ICSD; 1 where none is known."""
    return next(iter(counted_states(symbol)), 1)


def counted_states(symbol: str) -> Mapping[int, float]:
    """Counts of the oxidation states of an element in the ICSD, the most frequent first."""
    return _table().get(symbol, {})


@cache
def _table() -> Mapping[str, Mapping[int, float]]:
    """Counts by pymatgen, of the states that it lists for each element; importing it would take a second."""
    stored = json.loads(files("app.crystals.sites").joinpath("oxidation_counts.json").read_text(encoding="utf-8"))
    return {
        symbol: {int(state): float(count) for state, count in counts.items()}
        for symbol, counts in stored["states"].items()
    }
