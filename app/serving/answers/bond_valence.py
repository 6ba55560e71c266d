"""What bond valence says of a crystal, as its answer holds it."""

from app.crystals.charged_host import ChargedHost
from app.crystals.hops.percolation import PercolationBarriers
from app.errors import IonpathError
from app.models.bond_valence.percolation import host_percolation
from app.serving.answers.types import BondValenceAnswer


def bond_valence_answer(host: ChargedHost | str) -> BondValenceAnswer:
    """Compute percolation by bond valence; where that cannot be, say why and fail nothing.

    Args:
        host: of the crystal without its ions, or why there is none.
    """
    if isinstance(host, str):
        return _without(host)
    try:
        found = host_percolation(host)
    except IonpathError as error:
        return _without(error.detail)
    except MemoryError:
        return _without("There was not enough memory for the grid of bond valence.")
    return BondValenceAnswer(percolation_ev=found.barriers, grid_angstrom=found.grid_angstrom)


def _without(reason: str) -> BondValenceAnswer:
    nothing = PercolationBarriers(one_d=None, two_d=None, three_d=None)
    return BondValenceAnswer(percolation_ev=nothing, detail=reason)
