"""The process that runs the model: it answers what the service itself would, and is replaced when it dies."""

import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from app.serving.modelling import IDLE_S, Loading, ModelFailedError, ModelProcess
from bands import band_of, rock_salt
from untrained import write_untrained

from app.crystals.band import Band
from app.errors import InputError, NotReadyError
from app.models.cards import CheckpointError
from app.models.predictor import Predictor
from app.models.preparation import PreparedBand
from app.models.registry import Registry

DEADLINE_S = 60.0


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
def process(store: Path) -> Iterator[ModelProcess]:
    process = ModelProcess(Loading(store=store, default="default", threads=1), DEADLINE_S)
    process.start()
    yield process
    process.stop()
    assert not ours()


@pytest.fixture(scope="module")
def hop_store(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    """The shipped default alone: a model that can begin before a band is described."""
    store = tmp_path_factory.mktemp("hops")
    shutil.copytree(repository / "model_store" / "default", store / "default")
    return store


@pytest.fixture(scope="module")
def hop_predictor(hop_store: Path) -> Predictor:
    return Registry.open(hop_store, "cpu", default="default", threads=1).predictor()


@pytest.fixture
def hop_process(hop_store: Path) -> Iterator[ModelProcess]:
    process = ModelProcess(Loading(store=hop_store, default="default", threads=1), DEADLINE_S)
    process.start()
    yield process
    process.stop()


def ours() -> list[int | None]:
    return [child.pid for child in multiprocessing.active_children() if child.name == "model"]


def prepared(predictor: Predictor, rows: Sequence[dict[str, Any]]) -> list[Any]:
    bands: list[Band] = [band_of(row) for row in rows if row["sound"] and len(row["host_species"]) < 60][:6]
    return [predictor.graph(band) for band in bands]


def test_it_answers_what_the_service_itself_would(
    process: ModelProcess, predictor: Predictor, data_rows: list[dict[str, Any]]
) -> None:
    graphs = prepared(predictor, data_rows)
    assert process.predict(predictor, graphs) == predictor.predict(graphs)


def test_what_is_asked_at_once_and_after_others_were_warmed_is_answered_alike(
    tmp_path: Path, data_rows: list[dict[str, Any]]
) -> None:
    for name in ("default", "other", "third"):
        write_untrained(tmp_path, name)
    registry = Registry.open(tmp_path, "cpu", default="default", threads=1)
    process = ModelProcess(Loading(store=tmp_path, default="default", threads=1), DEADLINE_S)
    process.start()
    try:
        for name in ("default", "other", "default", "third"):
            predictor = registry.predictor(name)
            graphs = prepared(predictor, data_rows)
            assert process.predict(predictor, graphs) == predictor.predict(graphs)
            time.sleep(1.5 * IDLE_S)  # what is tested: it does other things when nobody asks for so long
    finally:
        process.stop()


def late_one(graph: PreparedBand, rest: Callable[[], Any]) -> PreparedBand:
    """The same band with its descriptors still on their way."""
    return replace(graph, inputs=replace(graph.inputs, path=None), late=rest)


def test_descriptors_of_a_lone_band_may_come_later_or_not_at_all(
    hop_process: ModelProcess, hop_predictor: Predictor, data_rows: list[dict[str, Any]]
) -> None:
    first, second, *_ = prepared(hop_predictor, data_rows)
    late = late_one(first, lambda: first.inputs.path)
    before = ours()

    def refused() -> Any:
        raise InputError("it took too long", kind="preparing-took-too-long")

    def others_are_answered() -> bool:
        return hop_process.predict(hop_predictor, [second]) == hop_predictor.predict([second])

    assert hop_process.predict(hop_predictor, [late]) == hop_predictor.predict([first])
    assert hop_process.predict(hop_predictor, [late, second]) == hop_predictor.predict([first, second])
    with pytest.raises(InputError, match="it took too long"):
        hop_process.predict(hop_predictor, [late_one(first, refused)])
    assert others_are_answered()
    # What a pass that fails does not read must not be taken for the next question.
    with pytest.raises(ModelFailedError, match="AttributeError"):
        hop_process.predict(hop_predictor, [replace(late, inputs=None)])
    assert others_are_answered()
    assert ours() == before


def test_a_process_that_was_killed_is_replaced_and_a_lone_band_asked_for_again(
    process: ModelProcess, predictor: Predictor, data_rows: list[dict[str, Any]]
) -> None:
    (before,) = ours()
    assert before is not None
    os.kill(before, signal.SIGKILL)
    graphs = prepared(predictor, data_rows)[:1]
    assert process.predict(predictor, graphs) == predictor.predict(graphs)
    assert ours() not in ([], [before])


def test_of_several_bands_the_caller_tries_each_half(
    process: ModelProcess, predictor: Predictor, data_rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    """The batcher does, and so finds the band that ends the process without ending it for the others."""
    graphs = prepared(predictor, data_rows)
    with pytest.raises(ModelFailedError, match="ended at 7 bands"):
        process.predict(predictor, [*graphs, Killer(tmp_path, 1)])
    assert process.predict(predictor, graphs) == predictor.predict(graphs)


def test_a_band_that_ends_it_twice_is_given_up(process: ModelProcess, predictor: Predictor, tmp_path: Path) -> None:
    with pytest.raises(ModelFailedError, match="ended at 1 bands"):
        process.predict(predictor, [Killer(tmp_path, 2)])
    assert len(list(tmp_path.iterdir())) == 2


def test_a_pass_that_fails_says_why_and_ends_nothing(process: ModelProcess, predictor: Predictor) -> None:
    process.predict(predictor, [predictor.graph(rock_salt())])
    before = ours()
    with pytest.raises(ModelFailedError, match="AttributeError") as failed:
        process.predict(predictor, [None])
    assert "Traceback" in failed.value.__notes__[0]
    assert ours() == before


def test_a_pass_that_does_not_end_is_ended(store: Path, predictor: Predictor) -> None:
    process = ModelProcess(Loading(store=store, default="default", threads=1), 1e-6)
    process.start()
    with pytest.raises(ModelFailedError, match="took more than"):
        process.predict(predictor, [predictor.graph(rock_salt())])
    process.stop()


def test_a_store_that_cannot_be_loaded_is_told_at_the_start(tmp_path: Path) -> None:
    process = ModelProcess(Loading(store=tmp_path / "none", default="default", threads=1), DEADLINE_S)
    with pytest.raises(CheckpointError, match="is not a folder"):
        process.start()
    process.stop()
    with pytest.raises(ModelFailedError, match="stopping"):
        process.start()


def test_what_a_start_that_took_too_long_says_at_last_answers_nothing(
    store: Path, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = ModelProcess(Loading(store=store, default="default", threads=1), DEADLINE_S)
    process.start()
    process._end("a test")
    graphs = [predictor.graph(rock_salt())]
    monkeypatch.setattr("app.serving.modelling.START_TIMEOUT_S", 0.01)
    with pytest.raises(NotReadyError):
        process.predict(predictor, graphs)
    assert process.trouble is not None
    with pytest.raises(NotReadyError):
        process.predict(predictor, graphs)  # at once: not every request tries a start
    monkeypatch.undo()
    monkeypatch.setattr(process, "_not_before_s", 0.0)
    assert process.predict(predictor, graphs) == predictor.predict(graphs)
    assert process.trouble is None
    process.stop()


def test_another_checkpoint_of_the_same_name_does_not_answer(store: Path) -> None:
    process = ModelProcess(Loading(store=store, default="default", threads=1), DEADLINE_S)
    process.start()
    process._end("a test")
    process.digests = {"default": "another digest"}  # as if the store had been replaced since
    with pytest.raises(CheckpointError, match="other checkpoints"):
        process.start()
    process.stop()
