"""What bond valence says of a crystal, as its answer holds it."""

import asyncio
import hashlib

from cachetools import LRUCache

from app.crystals.charged_host import ChargedHost
from app.crystals.hops.percolation import PercolationBarriers
from app.errors import IonpathError
from app.models.bond_valence.percolation import host_percolation
from app.serving.answers.types import BondValenceAnswer

#: Hosts whose answer is kept: the same crystal is often sent again, to be classified or with other options.
_MOST_KEPT = 256


class BondValence:
    """Computes percolation by bond valence beside the predictions of a model; belongs to one event loop.

    Args:
        at_once: grids that are computed at the same time, each with up to some hundred MiB.
    """

    def __init__(self, at_once: int) -> None:
        self._kept: LRUCache[bytes, BondValenceAnswer] = LRUCache(_MOST_KEPT)
        self._turns = asyncio.Semaphore(at_once)

    async def answer(self, host: ChargedHost | str) -> BondValenceAnswer:
        """Answer for a host, from what is kept where it was asked for before; see bond_valence_answer."""
        if isinstance(host, str):
            return bond_valence_answer(host)
        key = _key(host)
        if key not in self._kept:
            async with self._turns:
                if key not in self._kept:  # computed while this one waited
                    self._kept[key] = await asyncio.to_thread(bond_valence_answer, host)
        return self._kept[key]


def _key(host: ChargedHost) -> bytes:
    digest = hashlib.sha256()
    for values in (host.lattice_angstrom, host.morse_frac_coords, host.morse, host.coulomb_frac_coords, host.coulomb):
        digest.update(f"{values.shape}".encode())
        digest.update(values.tobytes())
    return digest.digest()


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
