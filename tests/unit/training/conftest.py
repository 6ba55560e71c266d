"""A corpus small enough to fit kernel machines on in a test."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from training.corpus import LITERATURE, LITRAJ, Corpus, read_corpus
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
def two_worlds(data_dir: Path) -> Corpus:
    """Rows of the literature and of LiTraj."""
    whole = read_corpus(data_dir, (LITERATURE, LITRAJ))
    chosen = []
    for source in whole.files:
        mine = [one for one in whole.records if one.source == source and one.sound and one.band.ion == "Li"]
        chosen += [one for one in mine if len(one.band.host_species) < 70][: ROWS // 2]
    records = [
        replace(record, folds={"fold_random": n % FOLDS, "fold_chemistry": n % FOLDS})
        for n, record in enumerate(chosen)
    ]
    return replace(whole, records=tuple(records))


@pytest.fixture(scope="session")
def config() -> KernelConfig:
    """Machines and perceptrons as those of `relaxed`, without its relaxation."""
    path = kernel_config_path("relaxed")
    assert path is not None
    whole = read_kernel_config(path)
    machines = tuple(one for one in whole.machines if "relaxed" not in one)
    whole = replace(whole, name="default", relaxes=False, machines=machines)
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


@pytest.fixture(scope="session")
def world_run(two_worlds: Corpus, folder: Path) -> KernelRun:
    """The default as it is, on few rows of both worlds."""
    path = kernel_config_path("default")
    assert path is not None
    return KernelRun(read_kernel_config(path), two_worlds, folder, processes=1, report=lambda _: None)
