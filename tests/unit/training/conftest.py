"""A corpus small enough to fit kernel machines on in a test."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from training.corpus import Corpus, read_corpus
from training.kernels.config import KernelConfig, kernel_config_path, read_kernel_config
from training.kernels.run import KernelRun

ROWS, FOLDS = 60, 3


@pytest.fixture(scope="session")
def corpus(data_dir: Path) -> Corpus:
    whole = read_corpus(data_dir)
    small = [record for record in whole.records if record.sound and len(record.band.host_species) < 60][:ROWS]
    records = [
        replace(record, folds={"fold_random": n % FOLDS, "fold_chemistry": n % FOLDS}) for n, record in enumerate(small)
    ]
    return replace(whole, records=tuple(records))


@pytest.fixture(scope="session")
def config() -> KernelConfig:
    path = kernel_config_path("default")
    assert path is not None
    whole = read_kernel_config(path)
    networks = tuple(replace(one, hidden=16, members=2, epochs=24) for one in whole.networks)
    return replace(whole, penalties=(7.0, 14.0), widths=(0.5,), inner_folds=FOLDS, networks=networks)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="session")
def make_run(config: KernelConfig, folder: Path) -> Callable[[Corpus], KernelRun]:
    return lambda corpus: KernelRun(config, corpus, folder, processes=1, report=lambda _: None)


@pytest.fixture(scope="session")
def run(make_run: Callable[[Corpus], KernelRun], corpus: Corpus) -> KernelRun:
    return make_run(corpus)
