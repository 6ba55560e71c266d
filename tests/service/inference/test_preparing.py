"""The workers that prepare bands: what they give, and what a band that ends one does to others (nothing)."""

import multiprocessing
import os
import sys
import threading
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
from app.serving.inference.preparing import BandPreparer
from app.serving.worker_process import TaskFailedError, WorkersStoppedError

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


#: Prepares bands together, and gives of each the prepared band or an error.
Prepared = Callable[..., list[Any]]


@contextmanager
def running(count: int = 1, timeout_s: float = DEADLINE_S) -> Iterator[Prepared]:
    preparer = BandPreparer(count, timeout_s)
    preparer.start()
    try:
        yield lambda preparation, *bands: [
            done.value
            for done in preparer.prepare(Model(preparation), bands)  # type: ignore[arg-type] # it predicts nothing
        ]
    finally:
        preparer.stop()
        assert not ours()


def ours() -> list[int | None]:
    return [child.pid for child in multiprocessing.active_children() if child.name == "prepare"]


def ion(name: str) -> Band:
    return replace(rock_salt(), ion=name)


def test_a_worker_prepares_as_the_model_does_and_loads_no_tensors() -> None:
    preparation = HopPreparation(domain=DOMAIN)
    with running() as prepare:
        (there,), here = prepare(preparation, rock_salt()), preparation(rock_salt())
        (where,) = prepare(Obedient(), rock_salt())
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
    some = preparer.prepare(Model(HopPreparation(domain=DOMAIN)), [rock_salt()] * 3)  # type: ignore[arg-type] # it predicts nothing
    preparer.stop()
    assert all(done.seconds > 0.0 for done in some)
    assert len(some) == 3


def test_a_band_that_cannot_be_prepared_is_refused_as_the_model_refuses_it() -> None:
    void = replace(rock_salt(), lattice_angstrom=np.eye(3) * 400.0)
    with running() as prepare:
        one, refused, other = prepare(HopPreparation(domain=DOMAIN), rock_salt(), void, rock_salt())
    assert isinstance(refused, InputError)
    assert refused.kind == "no-host-near-path"
    assert one.cost == other.cost > 0


def test_a_failure_says_why_and_the_worker_goes_on() -> None:
    with running() as prepare:
        before = prepare(Obedient(), ion("Li"))[0].inputs
        one, failed, other = prepare(Obedient(), ion("Li"), ion("raise"), ion("Na"))
        assert isinstance(failed, TaskFailedError)
        assert "ZeroDivisionError: nothing to divide" in str(failed)
        assert one.inputs == other.inputs == before


@pytest.mark.parametrize(("fault", "kind"), [("die", "preparing-crashed"), ("hang", "preparing-took-too-long")])
def test_a_band_that_ends_a_worker_is_refused_and_others_are_prepared(fault: str, kind: str) -> None:
    with running(timeout_s=1.0 if fault == "hang" else DEADLINE_S) as prepare:
        one, refused, other = prepare(Obedient(), ion("Li"), ion(fault), ion("Na"))
        assert isinstance(refused, InputError)
        assert refused.kind == kind
        for prepared in (one, other, *prepare(Obedient(), ion("Li"))):
            assert prepared.inputs != os.getpid()


def test_where_no_worker_can_be_started_the_service_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    with running(timeout_s=0.2) as prepare:
        monkeypatch.setattr(workers, "START_TIMEOUT_S", 0.0)
        assert isinstance(prepare(Obedient(), ion("hang"))[0], InputError)
        for refused in prepare(Obedient(), ion("Li"), ion("Na")):
            assert isinstance(refused, NotReadyError)
            assert refused.kind == "preparing-restarts"


def test_once_stopped_nothing_is_prepared_and_no_worker_started() -> None:
    preparer = BandPreparer(1, DEADLINE_S)
    preparer.stop()
    with pytest.raises(WorkersStoppedError):
        preparer.start()
    (refused,) = preparer.prepare(Model(Obedient()), [rock_salt()])  # type: ignore[arg-type] # it predicts nothing
    assert isinstance(refused.value, NotReadyError)
    assert refused.value.kind == "stopping"
    assert not ours()
