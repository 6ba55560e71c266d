"""Oxidation states guessed from a composition, by a search whose size is bounded."""

import itertools
import math
from collections.abc import Mapping

#: Combinations of oxidation states that are tried at most.
MOST_COMBINATIONS = 50_000
#: States of one element that are tried at most, the commonest first.
MOST_STATES = 5
#: Charge per atom up to which a combination counts as balanced: occupancies are refined to some hundredths.
BALANCED_PER_ATOM = 0.03

#: What is counted for a state that was never seen, as a share of its element's.
RARE = 1e-4


def guess_oxidation_states(amounts: Mapping[str, float]) -> dict[str, int] | None:
    """Choose one oxidation state an element so that their charges cancel as far as they can.

    The states are those that pymatgen counts in the ICSD, and of equally balanced combinations the commonest wins. An
    element of mixed valence gets its commonest state, and some charge is left.

    Args:
        amounts: atoms of each element, in any unit; need not be whole numbers.

    Returns:
        the state of each element; None where an element has none that is known, or where all have the same sign.
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
    """The oxidation state that an element has most often in the ICSD; 1 where none is known."""
    return next(iter(_counted_states(symbol)), 1)


def _counted_states(symbol: str) -> dict[int, float]:
    """How often pymatgen counts each oxidation state of an element in the ICSD, the commonest first."""
    # pymatgen takes a second to import, and ordered crystals never need it
    from pymatgen.analysis.bond_valence import PRIOR_PROB  # noqa: PLC0415
    from pymatgen.core import Element, Species  # noqa: PLC0415

    element = Element(symbol)
    states = {int(state) for state in element.icsd_oxidation_states or element.common_oxidation_states} - {0}
    counts = {state: float(PRIOR_PROB.get(Species(symbol, state), 0.0)) for state in states}
    return {state: counts[state] for state in sorted(states, key=lambda state: (-counts[state], abs(state)))}
