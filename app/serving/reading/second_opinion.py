"""A second opinion on a crystal's percolation: computed in a worker process, part of the answer."""

import asyncio
from collections.abc import Awaitable

from app.crystals.bvse import BondValenceOpinion, bond_valence_percolation
from app.crystals.hops.percolation import PercolationBarriers
from app.crystals.readers import read_crystal
from app.errors import FormatError, InputError, IonpathError, TooLargeError
from app.serving.answers.types import SecondOpinion
from app.serving.reading.upload_reader import ReadOptions
from app.serving.reading.uploads import CrystalUpload
from app.serving.worker_process import BUSY_FACTOR
from app.settings import Settings

#: How much of a request's time limit, which begins anew at its last hop, may pass until its second opinion comes: the
#: model's own answer must not be lost over it.
_MOST_OF_REQUEST = 0.8


def bvse_or_refuse(upload: CrystalUpload, options: ReadOptions) -> BondValenceOpinion | IonpathError:
    """Ask bond valence, and give errors back as values, so that whatever a library raises can leave the process."""
    try:
        crystal = read_crystal(upload.file, options.limits, upload.ion)
        return bond_valence_percolation(crystal, upload.ion, max_atoms=options.limits.max_atoms)
    except IonpathError as error:
        return error
    except MemoryError:
        return TooLargeError("it took more memory than one reading process has (IONPATH_PARSE_MEMORY_MIB)")
    except Exception as error:  # noqa: BLE001 # bvlain may raise anything at a crystal it was not made for
        return FormatError(f"bvlain failed on this crystal ({type(error).__name__}: {str(error)[:200]})")


def opinion_wait_s(settings: Settings) -> float:
    """How long an answer waits for its second opinion once its hops are predicted, seconds."""
    whole_s = settings.queue_max_wait_s + BUSY_FACTOR * settings.second_opinion_timeout_s
    return min(whole_s, _MOST_OF_REQUEST * settings.request_timeout_s)


async def opinion_within(opinion: Awaitable[SecondOpinion], most_s: float) -> SecondOpinion:
    """Wait for an opinion, computed behind others; one that does not come in time is given up and says so."""
    try:
        return await asyncio.wait_for(opinion, most_s)
    except TimeoutError:
        late = InputError(f"it waited for others, or was computed, until {most_s:g} s after the hops, and was given up")
        return opinion_of(late, seconds=most_s)


def opinion_of(found: BondValenceOpinion | IonpathError, *, seconds: float) -> SecondOpinion:
    """The same as an answer holds it; an opinion that failed says why and fails nothing else."""
    nothing = PercolationBarriers(one_d=None, two_d=None, three_d=None)
    if isinstance(found, IonpathError):
        detail = found.detail.rstrip(".")
        return SecondOpinion(method="bvse", percolation_ev=nothing, detail=detail, seconds=seconds, answered=False)
    states = ", ".join(f"{symbol} {state:+g}" for symbol, state in sorted(found.states.items()) if state)
    return SecondOpinion(
        method="bvse",
        percolation_ev=found.barriers,
        detail=f"all ions removed, {states}, a grid of {found.grid_angstrom:.2f} angstrom",
        seconds=seconds,
        answered=True,
    )
