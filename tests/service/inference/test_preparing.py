"""The processes that prepare bands: what they give, and what a band that kills one does to others (nothing)."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from app.serving.preparing import LateDescriptors, PreparingFailedError, PreparingProcesses
from bands import rock_salt

from app.crystals.band import Band, FloatArray
from app.errors import InputError, NotReadyError
from app.models.cards import Domain
from app.models.preparation import HopInputs, HopPreparation, Preparation, PreparedBand

DOMAIN = Domain(
    ions=("Na",),
    elements=("Mg", "O"),
    hop_distance_angstrom=(0.5, 8.0),
    closest_approach_angstrom=(0.5, 8.0),
    vector_distance=1.0,
)
DEADLINE_S = 30.0


@dataclass(frozen=True)
class Told:
    """Does to its process what the name of the ion says; else tells where it was prepared."""

    def __call__(self, band: Band) -> PreparedBand:
        if band.ion == "die":
            os._exit(9)
        if band.ion == "hang":
            threading.Event().wait()
        if band.ion == "raise":
            raise ZeroDivisionError("nothing to divide")
        return PreparedBand(inputs=os.getpid(), cost=int("torch" in sys.modules), reasons_outside=())


@dataclass(frozen=True, kw_only=True)
class Failing(HopPreparation):
    """Does what `fault` says where it should describe, so many times, each of which leaves a file in `folder`."""

    folder: Path
    fault: str
    times: int = 1

    def begin(self, band: Band) -> tuple[PreparedBand, Callable[[], FloatArray]]:
        prepared, describe = super().begin(band)
        return prepared, partial(self._described, describe)

    def _described(self, describe: Callable[[], FloatArray]) -> FloatArray:
        fallen = len(list(self.folder.iterdir()))
        if fallen < self.times:
            (self.folder / str(fallen)).touch()
            Told()(ion(self.fault))
        return describe()


@dataclass(frozen=True)
class Model:
    """A model as far as preparing goes."""

    preparation: Preparation | None
    name: str = "small"

    def graph(self, band: Band) -> PreparedBand:
        return (self.preparation or Told())(band)

    def cost(self, graph: PreparedBand) -> int:
        return graph.cost


@contextmanager
def running(count: int = 1, timeout_s: float = DEADLINE_S) -> Iterator[Callable[..., Any]]:
    processes = PreparingProcesses(count, timeout_s)
    processes.start()
    try:
        yield lambda preparation, band, **how: processes.prepare(Model(preparation), band, **how)  # type: ignore[arg-type] # predicts nothing
    finally:
        processes.stop()
        assert not ours()


def ours() -> list[int | None]:
    return [child.pid for child in multiprocessing.active_children() if child.name == "prepare"]


def ion(name: str) -> Band:
    return replace(rock_salt(), ion=name)


def test_a_process_prepares_as_the_model_does_and_loads_no_tensors() -> None:
    preparation = HopPreparation(domain=DOMAIN)
    with running() as prepare:
        there, here = prepare(preparation, rock_salt()), preparation(rock_salt())
        told = prepare(Told(), rock_salt())
    assert (there.cost, there.reasons_outside) == (here.cost, here.reasons_outside)
    assert isinstance(there.inputs, HopInputs)
    assert there.inputs.path is not None
    assert np.array_equal(there.inputs.path, here.inputs.path)
    for field in fields(here.inputs.bonds):
        one, other = (getattr(inputs.bonds, field.name) for inputs in (there.inputs, here.inputs))
        assert np.array_equal(one, other), field.name
        assert one.dtype == other.dtype
        assert one.flags.writeable, "torch takes no arrays that cannot be written"
    assert told.inputs != os.getpid()
    assert told.cost == 0, "torch was loaded"


def test_a_lone_band_is_handed_over_before_it_is_described() -> None:
    preparation = HopPreparation(domain=DOMAIN)
    with running() as prepare:
        begun, here = prepare(preparation, rock_salt(), alone=True), preparation(rock_salt())
        assert begun.inputs.path is None
        assert isinstance(begun.late, LateDescriptors)
        begun.late.fetch()
        assert np.array_equal(begun.whole().inputs.path, here.inputs.path)
        assert begun.whole().late is None
        assert (begun.cost, begun.reasons_outside) == (here.cost, here.reasons_outside)
        assert prepare(preparation, rock_salt()).late is None, "one of many is handed over whole"
        assert prepare(Told(), ion("Li"), alone=True).inputs != os.getpid()


def test_a_lone_band_that_cannot_be_prepared_is_told_and_the_process_goes_on() -> None:
    void = replace(rock_salt(), lattice_angstrom=np.eye(3) * 400.0)
    with running() as prepare:
        (before,) = ours()
        with pytest.raises(InputError) as told:
            prepare(HopPreparation(domain=DOMAIN), void, alone=True)
        assert told.value.kind == "no-host-near-path"
        assert prepare(Told(), ion("Li")).inputs == before


def test_a_process_that_dies_while_it_describes_is_replaced(tmp_path: Path) -> None:
    with running() as prepare:
        begun = prepare(Failing(domain=DOMAIN, folder=tmp_path, fault="die"), rock_salt(), alone=True)
        begun.late.fetch()
        whole = HopPreparation(domain=DOMAIN)(rock_salt())
        assert np.array_equal(begun.whole().inputs.path, whole.inputs.path)
        assert prepare(Told(), ion("Li")).inputs != os.getpid()


@pytest.mark.parametrize(
    ("fault", "error", "said", "fallen"),
    [
        ("hang", InputError, "took more than 2 s", 2),
        ("die", InputError, "died of it", 2),
        ("raise", PreparingFailedError, "nothing to divide", 1),
    ],
)
def test_who_waits_for_descriptors_is_told_why_there_are_none(
    tmp_path: Path, fault: str, error: type[Exception], said: str, fallen: int
) -> None:
    with running() as prepare:
        begun = prepare(Failing(domain=DOMAIN, folder=tmp_path, fault=fault, times=9), rock_salt(), alone=True)
        assert isinstance(begun.late.fetch(), error)
        with pytest.raises(error, match=said):
            begun.whole()
        assert len(list(tmp_path.iterdir())) == fallen
        assert prepare(Told(), ion("Li")).inputs != os.getpid()


def test_who_waits_for_descriptors_is_told_when_the_service_stops(tmp_path: Path) -> None:
    processes = PreparingProcesses(1, DEADLINE_S)
    processes.start()
    preparation = Failing(domain=DOMAIN, folder=tmp_path, fault="hang", times=9)
    begun = processes.prepare(Model(preparation), rock_salt(), alone=True)  # type: ignore[arg-type] # predicts nothing
    processes.stop()
    assert isinstance(begun.late.fetch(), NotReadyError)
    with pytest.raises(NotReadyError):
        begun.whole()


def test_a_band_that_cannot_be_prepared_is_told_as_the_model_tells_it() -> None:
    void = replace(rock_salt(), lattice_angstrom=np.eye(3) * 400.0)
    with running() as prepare, pytest.raises(InputError) as told:
        prepare(HopPreparation(domain=DOMAIN), void)
    assert told.value.kind == "no-host-near-path"


def test_a_failure_is_told_and_the_process_goes_on() -> None:
    with running() as prepare:
        before = prepare(Told(), ion("Li")).inputs
        with pytest.raises(PreparingFailedError, match="ZeroDivisionError: nothing to divide"):
            prepare(Told(), ion("raise"))
        assert prepare(Told(), ion("Li")).inputs == before


def test_a_process_that_was_killed_is_replaced_and_its_band_is_prepared() -> None:
    with running() as prepare:
        before = prepare(Told(), ion("Li")).inputs
        os.kill(before, signal.SIGKILL)
        after = prepare(Told(), ion("Li")).inputs
        assert after not in {before, os.getpid()}


@pytest.mark.parametrize(("fault", "kind"), [("die", "preparing-crashed"), ("hang", "preparing-took-too-long")])
def test_a_band_that_ends_a_process_is_refused_and_the_next_is_prepared(fault: str, kind: str) -> None:
    with running(timeout_s=1.0 if fault == "hang" else DEADLINE_S) as prepare:
        with pytest.raises(InputError) as told:
            prepare(Told(), ion(fault))
        assert told.value.kind == kind
        assert prepare(Told(), ion("Li")).inputs != os.getpid()


def test_what_only_the_model_can_prepare_is_prepared_where_it_is_asked_for() -> None:
    with running() as prepare:
        assert prepare(None, ion("Li")).inputs == os.getpid()


def test_without_a_free_process_a_band_is_prepared_where_it_is_asked_for() -> None:
    with running(count=0) as prepare:
        assert prepare(Told(), ion("Li")).inputs == os.getpid()


def test_once_stopped_no_process_is_started_any_more() -> None:
    processes = PreparingProcesses(1, DEADLINE_S)
    processes.stop()
    with pytest.raises(NotReadyError):
        processes.start()
    assert not ours()
