"""The workers that prepare bands: what they give, and what a band that ends one does to others (nothing)."""

import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pytest
from bands import rock_salt

from app.crystals.band import Band
from app.errors import InputError, NotReadyError
from app.models.cards.card import Domain
from app.models.predictors.preparation import HopInputs, HopPreparation, Preparation, PreparedBand
from app.serving import workers
from app.serving.inference.preparing import TOGETHER_S, BandPreparer
from app.serving.worker_process import Done, TaskFailedError, WorkersStoppedError

DOMAIN = Domain(
    ions=("Na",),
    elements=("Mg", "O"),
    hop_distance_angstrom=(0.5, 8.0),
    closest_approach_angstrom=(0.5, 8.0),
    vector_distance=1.0,
)
DEADLINE_S = 30.0


@dataclass(frozen=True)
class Obedient:
    """Does to its process what the name of the ion says; else gives its id, and whether torch is loaded as the cost."""

    def __call__(self, band: Band) -> PreparedBand:
        if band.ion == "die":
            os._exit(9)
        if band.ion == "hang":
            threading.Event().wait()
        if band.ion == "raise":
            raise ZeroDivisionError("nothing to divide")
        return PreparedBand(inputs=os.getpid(), cost=int("torch" in sys.modules), reasons_outside=())


@dataclass(frozen=True)
class Model:
    """A model as far as preparing goes."""

    preparation: Preparation


Prepared = Callable[[Preparation, Band], Any]


@contextmanager
def running(count: int = 1, timeout_s: float = DEADLINE_S) -> Iterator[Prepared]:
    preparer = BandPreparer(count, timeout_s)
    preparer.start()
    try:
        yield lambda preparation, band: preparer.prepare(Model(preparation), band).value  # type: ignore[arg-type] # it predicts nothing
    finally:
        preparer.stop()
        assert not ours()


@contextmanager
def together() -> Iterator[Callable[[Preparation, list[Band]], list[Done] | None]]:
    preparer = BandPreparer(1, DEADLINE_S)
    preparer.start()
    try:
        yield lambda preparation, bands: preparer.prepare_together(Model(preparation), bands)  # type: ignore[arg-type] # it predicts nothing
    finally:
        preparer.stop()


def ours() -> list[int | None]:
    return [child.pid for child in multiprocessing.active_children() if child.name == "prepare"]


def ion(name: str) -> Band:
    return replace(rock_salt(), ion=name)


def test_a_worker_prepares_as_the_model_does_and_loads_no_tensors() -> None:
    preparation = HopPreparation(domain=DOMAIN)
    with running() as prepare:
        there, here = prepare(preparation, rock_salt()), preparation(rock_salt())
        where = prepare(Obedient(), rock_salt())
    assert (there.cost, there.reasons_outside) == (here.cost, here.reasons_outside)
    assert isinstance(there.inputs, HopInputs)
    assert np.array_equal(there.inputs.path, here.inputs.path)
    for field in fields(here.inputs.bonds):
        one, other = (getattr(inputs.bonds, field.name) for inputs in (there.inputs, here.inputs))
        assert np.array_equal(one, other), field.name
        assert one.dtype == other.dtype
        assert one.flags.writeable, "torch takes no arrays that cannot be written"
    assert where.inputs != os.getpid()
    assert where.cost == 0, "torch was loaded"


def test_the_time_that_it_took_is_given() -> None:
    preparer = BandPreparer(1, DEADLINE_S)
    preparer.start()
    done = preparer.prepare(Model(HopPreparation(domain=DOMAIN)), rock_salt())  # type: ignore[arg-type] # it predicts nothing
    preparer.stop()
    assert done.seconds > 0.0


def test_a_band_that_cannot_be_prepared_is_refused_as_the_model_refuses_it() -> None:
    void = replace(rock_salt(), lattice_angstrom=np.eye(3) * 400.0)
    with running() as prepare, pytest.raises(InputError) as refused:
        prepare(HopPreparation(domain=DOMAIN), void)
    assert refused.value.kind == "no-host-near-path"


def test_bands_are_prepared_together_and_what_is_wrong_with_one_is_its_own() -> None:
    void = replace(rock_salt(), lattice_angstrom=np.eye(3) * 400.0)
    with together() as prepare:
        some = prepare(HopPreparation(domain=DOMAIN), [rock_salt(), void, rock_salt()])
    assert some is not None
    one, refused, other = some
    assert isinstance(refused.value, InputError)
    assert refused.value.kind == "no-host-near-path"
    assert one.value.cost == other.value.cost > 0
    assert one.seconds == other.seconds > 0.0


@pytest.mark.parametrize("fault", ["die", "hang", "raise"])
def test_where_one_of_several_fails_the_others_wait_for_no_time_limit(fault: str) -> None:
    with together() as prepare:
        started_s = time.monotonic()
        assert prepare(Obedient(), [ion("Li"), ion(fault), ion("Na")]) is None
        assert time.monotonic() - started_s < 3 * TOGETHER_S + 5.0
        assert prepare(Obedient(), [ion("Li"), ion("Na")]) is not None


def test_a_failure_says_why_and_the_worker_goes_on() -> None:
    with running() as prepare:
        before = prepare(Obedient(), ion("Li")).inputs
        with pytest.raises(TaskFailedError, match="ZeroDivisionError: nothing to divide"):
            prepare(Obedient(), ion("raise"))
        assert prepare(Obedient(), ion("Li")).inputs == before


@pytest.mark.parametrize(("fault", "kind"), [("die", "preparing-crashed"), ("hang", "preparing-took-too-long")])
def test_a_band_that_ends_a_worker_is_refused_and_the_next_is_prepared(fault: str, kind: str) -> None:
    with running(timeout_s=1.0 if fault == "hang" else DEADLINE_S) as prepare:
        with pytest.raises(InputError) as refused:
            prepare(Obedient(), ion(fault))
        assert refused.value.kind == kind
        assert prepare(Obedient(), ion("Li")).inputs != os.getpid()


def test_where_no_worker_can_be_started_the_service_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    with running(timeout_s=0.2) as prepare:
        monkeypatch.setattr(workers, "START_TIMEOUT_S", 0.0)
        with pytest.raises(InputError):
            prepare(Obedient(), ion("hang"))
        with pytest.raises(NotReadyError) as refused:
            prepare(Obedient(), ion("Li"))
    assert refused.value.kind == "preparing-restarts"


def test_once_stopped_nothing_is_prepared_and_no_worker_started() -> None:
    preparer = BandPreparer(1, DEADLINE_S)
    preparer.stop()
    with pytest.raises(WorkersStoppedError):
        preparer.start()
    with pytest.raises(NotReadyError) as refused:
        preparer.prepare(Model(Obedient()), rock_salt())  # type: ignore[arg-type] # it predicts nothing
    assert refused.value.kind == "stopping"
    assert not ours()
