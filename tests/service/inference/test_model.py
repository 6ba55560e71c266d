"""The worker that runs the model: it answers what the service itself would, and is replaced when it dies."""

import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bands import band_of, rock_salt
from made_crystals import layered_oxide
from untrained import write_untrained, write_untrained_properties
from waiting import wait_until

from app.crystals.band import Band
from app.crystals.crystal import Crystal, Site
from app.errors import InputError, NotReadyError
from app.models.cards.card import CheckpointError
from app.models.prediction import Prediction
from app.models.predictors.predictor import Predictor
from app.models.registry import Registry
from app.serving.inference.model import Loading, ModelHere, ModelWorker, Predicted, properties_here
from app.serving.worker_process import IDLE_S, TaskFailedError, WorkersStoppedError

DEADLINE_S = 60.0
HALF = Site(species=(("Li", 0.5), ("Na", 0.5)), frac_coords=(0.0, 0.0, 0.0))
#: Batches of several bands round differently.
ROUNDING_EV = 1e-5


@dataclass
class Killer:
    """A prepared band that ends the process that it comes to, so often; then it is one that fails."""

    folder: Path
    times: int

    def __reduce__(self) -> tuple[Any, ...]:
        return _fall, (os.getpid(), self.folder, self.times)


def _fall(sender: int, folder: Path, times: int) -> object:
    if os.getpid() != sender:
        fallen = len(list(folder.iterdir()))
        if fallen < times:
            (folder / str(fallen)).touch()
            os.kill(os.getpid(), signal.SIGKILL)
    return None


@pytest.fixture(scope="module")
def predictor(store: Path) -> Predictor:
    return Registry.open(store, "cpu", default="default", threads=1).predictor()


@pytest.fixture(scope="module")
def worker(store: Path) -> Iterator[ModelWorker]:
    worker = ModelWorker(Loading(store=store, default="default", threads=1), DEADLINE_S, warm="default")
    worker.start()
    yield worker
    worker.stop()
    assert not ours()


@pytest.fixture(scope="module")
def bands(composed_rows: list[dict[str, Any]]) -> list[Band]:
    return [band_of(row) for row in composed_rows if len(row["host_species"]) < 60][:6]


def ours() -> set[int]:
    return {
        child.pid
        for child in multiprocessing.active_children()
        if child.name in {"model", "slow-model"} and child.pid is not None
    }


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: pid not in ours())


def here(predictor: Predictor, bands: Sequence[Band]) -> Predicted:
    return ModelHere().predict(predictor, bands)


def assert_same(one: Predicted, other: Predicted) -> None:
    assert one.costs == other.costs
    assert barriers(one.predictions) == pytest.approx(barriers(other.predictions), abs=ROUNDING_EV)
    reasons = [[prediction.domain_reasons for prediction in each.predictions] for each in (one, other)]
    assert reasons[0] == reasons[1]


def barriers(predictions: Sequence[Prediction]) -> list[float]:
    return [prediction.barrier_ev for prediction in predictions]


def test_it_answers_what_the_service_itself_would(worker: ModelWorker, predictor: Predictor, bands: list[Band]) -> None:
    """Prepared bands and those that it prepares itself, also mixed, each with its cost and its time."""
    graphs = [predictor.graph(band) for band in bands]
    expected = here(predictor, bands)
    assert expected.costs == [predictor.cost(graph) for graph in graphs]
    assert barriers(expected.predictions) == pytest.approx(barriers(predictor.predict(graphs)), abs=ROUNDING_EV)
    for inputs in (graphs, bands, [*graphs[:3], *bands[3:]]):
        found = worker.predict(predictor, inputs)
        assert_same(found, expected)
        assert found.seconds > 0.0
    assert worker.digests == {"default": predictor.digest}


def test_a_shipped_model_answers_alike_wherever_it_is_prepared(
    tmp_path: Path, repository: Path, bands: list[Band]
) -> None:
    """Its bands are prepared apart from it, or in its worker where one comes alone."""
    shutil.copytree(repository / "model_store" / "default", tmp_path / "default")
    predictor = Registry.open(tmp_path, "cpu", default="default", threads=1).predictor()
    assert predictor.preparation is not None
    worker = ModelWorker(Loading(store=tmp_path, default="default", threads=1), DEADLINE_S, warm="default")
    worker.start()
    try:
        one, two = bands[:2]
        assert_same(worker.predict(predictor, [one]), here(predictor, [one]))
        assert_same(worker.predict(predictor, [predictor.preparation(one), two]), here(predictor, [one, two]))
    finally:
        worker.stop()


def test_bulk_properties_are_predicted_as_the_service_itself_would(tmp_path: Path) -> None:
    write_untrained(tmp_path)
    write_untrained_properties(tmp_path)
    predictor = Registry.open(tmp_path, "cpu", default="default", threads=1).property_predictor()
    worker = ModelWorker(Loading(store=tmp_path, default="default", threads=1), DEADLINE_S, warm="default")
    worker.start()
    try:
        answer, seconds = worker.properties(predictor, layered_oxide())
        assert answer.values == pytest.approx(properties_here(predictor, layered_oxide())[0].values, rel=1e-5)
        assert seconds > 0.0
        assert worker.digests[predictor.name] == predictor.digest
        disordered = Crystal(lattice_angstrom=np.eye(3) * 4.0, sites=(HALF,))
        with pytest.raises(TaskFailedError, match="only an ordered crystal"):
            worker.properties(predictor, disordered)
    finally:
        worker.stop()


def test_what_is_asked_at_once_and_after_others_were_warmed_is_answered_alike(
    tmp_path: Path, bands: list[Band]
) -> None:
    names = ("default", "other")
    for name in names:
        write_untrained(tmp_path, name)
    registry = Registry.open(tmp_path, "cpu", default="default", threads=1)
    worker = ModelWorker(Loading(store=tmp_path, default="default", threads=1), DEADLINE_S, warm="default")
    worker.start()
    try:
        for name in names:
            predictor = registry.predictor(name)
            assert_same(worker.predict(predictor, bands[:2]), here(predictor, bands[:2]))
            time.sleep(1.2 * IDLE_S)  # what is tested: it does other things when nobody asks for so long
    finally:
        worker.stop()


def test_a_worker_that_was_killed_is_replaced_unnoticed(
    worker: ModelWorker, predictor: Predictor, bands: list[Band]
) -> None:
    (before,) = ours()
    kill(before)
    assert_same(worker.predict(predictor, bands), here(predictor, bands))
    assert len(ours()) == 1


def test_several_bands_that_crash_it_are_left_to_their_halves(
    worker: ModelWorker, predictor: Predictor, bands: list[Band], tmp_path: Path
) -> None:
    """The batcher tries these, and so finds the band at fault; each new worker loads for seconds."""
    with pytest.raises(TaskFailedError, match="ended at 7 bands"):
        worker.predict(predictor, [*bands, Killer(tmp_path, 2)])
    assert len(list(tmp_path.iterdir())) == 1
    assert_same(worker.predict(predictor, bands), here(predictor, bands))


def test_a_band_alone_that_crashes_it_is_tried_once_more(
    worker: ModelWorker, predictor: Predictor, tmp_path: Path
) -> None:
    with pytest.raises(TaskFailedError, match="ended at 1 bands"):
        worker.predict(predictor, [Killer(tmp_path, 2)])
    assert len(list(tmp_path.iterdir())) == 2


def test_a_pass_that_fails_says_why_and_ends_nothing(worker: ModelWorker, predictor: Predictor) -> None:
    worker.predict(predictor, [rock_salt()])
    before = ours()
    with pytest.raises(TaskFailedError, match="AttributeError") as failed:
        worker.predict(predictor, [None])
    assert "Traceback" in failed.value.__notes__[0]
    assert ours() == before


def test_a_band_that_it_cannot_prepare_is_refused_as_here(worker: ModelWorker, predictor: Predictor) -> None:
    void = replace(rock_salt(), lattice_angstrom=np.eye(3) * 400.0)
    errors = []
    for runner in (worker, ModelHere()):
        with pytest.raises(InputError) as refused:
            runner.predict(predictor, [void])
        errors.append((refused.value.kind, refused.value.detail))
    assert errors[0] == errors[1]


def test_a_worker_on_demand_starts_with_the_first_band_and_a_pass_that_takes_too_long_ends_it(
    store: Path, predictor: Predictor
) -> None:
    before = ours()
    worker = ModelWorker(Loading(store=store, default="default", threads=1), 1e-6, warm=None)
    worker.start()
    assert ours() == before
    with pytest.raises(TaskFailedError, match="took more than"):
        worker.predict(predictor, [rock_salt()])
    assert worker.digests == {"default": predictor.digest}, "it did not start"
    assert ours() == before
    worker.stop()


def test_a_store_that_cannot_be_loaded_fails_the_start(tmp_path: Path) -> None:
    worker = ModelWorker(Loading(store=tmp_path / "none", default="default", threads=1), DEADLINE_S, warm="default")
    with pytest.raises(CheckpointError, match="is not a folder"):
        worker.start()
    worker.stop()
    with pytest.raises(WorkersStoppedError):
        worker.start()


def test_another_checkpoint_of_the_same_name_does_not_answer_under_the_digest_of_the_first(tmp_path: Path) -> None:
    """The service is not ready then, and says why."""
    write_untrained(tmp_path)
    predictor = Registry.open(tmp_path, "cpu", default="default", threads=1).predictor()
    others = ours()
    worker = ModelWorker(Loading(store=tmp_path, default="default", threads=1), DEADLINE_S, warm="default")
    worker.start()
    try:
        (pid,) = ours() - others
        kill(pid)
        shutil.rmtree(tmp_path / "default")
        write_untrained(tmp_path, seed=5)
        with pytest.raises(NotReadyError) as refused:
            worker.predict(predictor, [rock_salt()])
        assert refused.value.kind == "model-stopped"
        assert "restart the service" in str(worker.trouble)
    finally:
        worker.stop()
    with pytest.raises(NotReadyError) as refused:
        worker.predict(predictor, [rock_salt()])
    assert refused.value.kind == "stopping"
