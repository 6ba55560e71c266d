"""Reads crystals and finds their hops, in a process that may be ended; loads no tensors.

Everything that has hung, crashed or eaten memory so far was a crystal's file, its symmetry or its orderings: these run
here, under the supervision of `app.serving.workers`, and the model in the process that supervises.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import spglib

from app.crystals.band import Band
from app.crystals.crystal import Crystal
from app.crystals.hops.options import HopOptions
from app.crystals.hops.search import HopSearch, find_hops
from app.crystals.limits import Limits
from app.crystals.readers import File, read_crystal, structures_in
from app.errors import FormatError, InputError, IonpathError, TooLargeError
from app.models.predictors.preparation import Preparation, prepared_together
from app.serving.answers.crystal import BandKey, bands_of
from app.serving.worker_process import Handler

#: Sites closer than this are the same under symmetry, angstrom: as CIFs round.
_SYMMETRY_ANGSTROM = 0.01

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class StructuresTask:
    """Asks which structures a file holds."""

    file: File
    limits: Limits


@dataclass(frozen=True, kw_only=True)
class HopsTask:
    """Asks for the hops of an ion in one structure of a file.

    Attributes:
        number: of the structure, where the file has several.
        only_present: refuse a crystal that does not hold the ion.
        prepare: prepares a band for the model; None leaves that to the model's process.
    """

    file: File
    number: int | None
    ion: str
    only_present: bool
    hops: HopOptions
    limits: Limits
    prepare: Preparation | None


class IonAbsentError(InputError):
    """The crystal does not hold the ion."""

    default_kind = "ion-absent"


@dataclass(frozen=True, kw_only=True, eq=False)
class FoundHops:
    """A crystal, the hops of an ion, and what the model reads of each.

    Attributes:
        bands: by hop and ordering: prepared, the band itself where the model prepares it, or why it cannot be.
        space_group: international number; None where sites are mixed or spglib finds none.
    """

    crystal: Crystal
    search: HopSearch
    bands: dict[BandKey, Any]
    space_group: int | None


def open_reader() -> Handler:
    """What a reading worker does; see `app.serving.workers`."""
    warnings.simplefilter("ignore")  # crystal libraries warn of what readers report
    return Handler(run=_Reader())


class _Reader:
    """Remembers the crystal read last: each of its ions is a task of its own."""

    def __init__(self) -> None:
        self._last: tuple[tuple[bytes, int | None], Crystal] | None = None

    def __call__(self, task: StructuresTask | HopsTask) -> object:
        if isinstance(task, StructuresTask):
            return _guarded(lambda: structures_in(task.file, task.limits))
        return _guarded(lambda: self._found(task))

    def _found(self, task: HopsTask) -> FoundHops:
        crystal = self._crystal(task)
        if task.only_present and not crystal.contains(task.ion):
            raise IonAbsentError(
                f"It holds no {task.ion}: {crystal.formula}.",
                expected="a crystal with the ion; without --only-present it is placed on interstitial sites",
            )
        search = find_hops(crystal, task.ion, task.hops, max_atoms=task.limits.max_atoms)
        bands: dict[BandKey, Any] = dict(bands_of(search))
        if task.prepare is not None:
            bands = dict(zip(bands, prepared_together(task.prepare, list(bands.values())), strict=True))
        return FoundHops(
            crystal=crystal,
            search=search if task.prepare is None else _without_hosts(search),
            bands=bands,
            space_group=space_group(crystal),
        )

    def _crystal(self, task: HopsTask) -> Crystal:
        key = (task.file.content, task.number)
        if self._last is None or self._last[0] != key:
            # as `ionpath predict`: of a file with one structure the ion decides nothing
            self._last = key, read_crystal(task.file, task.limits, task.ion, number=task.number)
        return self._last[1]


def _without_hosts(search: HopSearch) -> HopSearch:
    """The same with bands of no atoms: that there is one is all that is still asked, and hosts are most bytes."""
    bare = Band(
        lattice_angstrom=np.eye(3),
        host_species=(),
        host_frac_coords=np.zeros((0, 3)),
        ion=search.ion,
        image_frac_coords=np.zeros((2, 3)),
    )
    hops = tuple(replace(hop, bands=tuple(None if band is None else bare for band in hop.bands)) for hop in search.hops)
    return replace(search, hops=hops)


def space_group(crystal: Crystal) -> int | None:
    """The international number of an ordered crystal's space group; None of another, or where spglib finds none."""
    if not crystal.is_ordered:
        return None
    symbols = [site.species[0][0] for site in crystal.sites]
    numbers = {symbol: number for number, symbol in enumerate(dict.fromkeys(symbols), start=1)}
    cell = (
        crystal.lattice_angstrom,
        np.array([site.frac_coords for site in crystal.sites]),
        [numbers[symbol] for symbol in symbols],
    )
    try:
        dataset = spglib.get_symmetry_dataset(cell, symprec=_SYMMETRY_ANGSTROM)
    except spglib.error.SpglibError:
        return None
    return None if dataset is None else int(dataset.number)


def _guarded(work: Callable[[], T]) -> T | IonpathError:
    """Do something, and give errors back as values, so that whatever a library raises can leave the process."""
    try:
        return work()
    except IonpathError as error:
        return error
    except MemoryError:
        return TooLargeError(
            "Reading it and finding its hops took more memory than one reading process has.",
            kind="took-too-much-memory",
            expected="a smaller crystal, or more with --memory-mib",
        )
    except Exception as error:  # noqa: BLE001 # a crystal library may raise anything at a malformed file
        return FormatError(
            f"It cannot be read: {type(error).__name__}: {str(error)[:200]}",
            kind="unreadable-input",
            expected="a file that other crystal programs open",
        )
