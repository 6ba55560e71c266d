"""Oxidation states guessed from a composition by a bounded search."""

import itertools
import math
from collections.abc import Mapping

#: Maximum number of combinations of oxidation states that are tried.
MOST_COMBINATIONS = 50_000
#: Maximum number of states per element that are tried, the most frequent first.
MOST_STATES = 5
#: Charge per atom up to which a combination counts as balanced: occupancies are accurate to a few hundredths.
BALANCED_PER_ATOM = 0.03

#: Pseudo-count of a state that was never observed, as a share of its element's count.
RARE = 1e-4


def guess_oxidation_states(amounts: Mapping[str, float]) -> dict[str, int] | None:
    """Choose one oxidation state per element so that the charges cancel as far as possible.

    The states are those that pymatgen counts in the ICSD; of equally balanced combinations the most frequent is taken.
    An element of mixed valence gets its most frequent state, and a net charge remains.

    Args:
        amounts: of each element, in any unit; not necessarily integers.

    Returns:
        the state of each element; None where an element has no known state, or where all have the same sign.
    """
    choices: list[list[tuple[str, int, float]]] = []
    for symbol in sorted(amounts):
        counts = _counted_states(symbol)
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
    return next(iter(_counted_states(symbol)), 1)


def _counted_states(symbol: str) -> dict[int, float]:
    """Counts of the oxidation states of an element in the ICSD, by pymatgen, the most frequent first."""
    # pymatgen takes a second to import, and ordered crystals never need it
    from pymatgen.analysis.bond_valence import PRIOR_PROB  # noqa: PLC0415
    from pymatgen.core import Element, Species  # noqa: PLC0415

    element = Element(symbol)
    states = {int(state) for state in element.icsd_oxidation_states or element.common_oxidation_states} - {0}
    counts = {state: float(PRIOR_PROB.get(Species(symbol, state), 0.0)) for state in states}
    return {state: counts[state] for state in sorted(states, key=lambda state: (-counts[state], abs(state)))}
