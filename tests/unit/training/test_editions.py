"""What training keeps is found again by configuration, data and edition, and an edition stands for one behaviour."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from bands import rock_salt
from made_crystals import layered_oxide
from made_crystals import rock_salt as rock_salt_crystal

from app.crystals.crystal import Contents, Crystal
from app.crystals.hops.percolation import DIMENSIONS
from app.crystals.hops.search import find_hops
from app.models.features.path import path_descriptors
from app.models.graphs.band_graphs import band_graph
from app.models.graphs.crystal_graphs import crystal_graph
from app.models.graphs.ion_bonds import ion_bonds
from app.models.graphs.shells import GraphSpec
from app.models.networks.model_3 import Model3
from app.models.prediction import QUANTILE_LEVELS, Prediction
from app.serving.answers.bond_valence import bond_valence_answer
from app.serving.answers.crystal import HopOutcome, bands_of, compose
from training import editions
from training.barrier_task import BarrierTask
from training.config import FitConfig, RunConfig, read_config
from training.fit import fit
from training.pretraining.config import pretraining_config_path, read_pretraining_config
from training.pretraining.run import pretraining_name
from training.runs import run_name


@pytest.fixture
def config() -> RunConfig:
    return replace(read_config("literature-model-3-compact"), name="model-3", description="of a test")


def test_a_run_is_named_by_its_configuration_and_data_alone(config: RunConfig) -> None:
    name = run_name(config, "c0", "")
    assert name.startswith("model-3-")
    assert run_name(replace(config, description="other words", calibration_folds=(3,)), "c0", "") == name
    others = [
        run_name(replace(config, fit=replace(config.fit, seed=7)), "c0", ""),
        run_name(replace(config, network="model-4"), "c0", ""),
        run_name(config, "c1", ""),
        run_name(config, "c0", "t0"),
    ]
    assert len({name, *others}) == 5


def test_names_are_those_of_earlier_releases() -> None:
    # Written out: a name that depended on the text of the code would change with the next edit of a comment.
    plain = RunConfig(
        name="plain",
        description="",
        network="model-3",
        arguments={"head": [16]},
        graph={"neighbour_count": 12},
        target=read_config("model-3-compact").target,
        folding="fold_random",
        calibration_folds=(0,),
        batch_bands=8,
        fit=FitConfig(epochs=2, peak_learning_rate=0.01, weight_decay=0.0, gradient_norm=1.0, seed=0),
    )
    assert run_name(plain, "c0", "") == "plain-c1b5d518bc"


@pytest.mark.parametrize("edition", ["GRAPHS", "FITS"])
def test_another_edition_never_resumes_this_one(
    edition: str, config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = pretraining_config_path("mpt", "compact")
    assert path is not None
    pretraining = read_pretraining_config(path)
    before = run_name(config, "c0", ""), pretraining_name(pretraining, "d0")
    monkeypatch.setattr(editions, edition, 2)
    assert run_name(config, "c0", "") != before[0]
    assert pretraining_name(pretraining, "d0") != before[1]


# Figures of each edition: where one changes, so do kept results, and its edition is raised with the figure here.


def test_the_graphs_of_this_edition() -> None:
    assert editions.GRAPHS == 1
    band = rock_salt()
    of_path = band_graph(band, GraphSpec())
    of_cell = crystal_graph(
        band.lattice_angstrom, np.full(len(band.host_species), 8), band.host_frac_coords, GraphSpec()
    )
    assert [len(of_path.atomic_numbers), len(of_path.edge_source), len(of_cell.edge_source)] == [117, 1536, 1152]
    sums = [float(graph.edge_weight.sum()) for graph in (of_path, of_cell)]
    lengths = [float(graph.edge_vector_angstrom.norm(dim=1).sum()) for graph in (of_path, of_cell)]
    found = [*sums, float(of_path.node_weight.sum()), *lengths]
    assert found == pytest.approx([1219.688, 1152.0, 79.297, 4019.944, 3087.244], rel=1e-4)


def test_the_features_of_this_edition() -> None:
    assert editions.FEATURES == 2
    bonds = ion_bonds(rock_salt())
    assert [len(bonds.host_numbers), len(bonds.host_source), len(bonds.ion_host)] == [112, 10304, 480]
    described = path_descriptors(rock_salt())
    for values, figures in ((described.values, [258, 87.489]), (described.eased, [173, 82.372])):
        weights = np.cos(np.arange(len(values)))  # so that no two features can change places unnoticed
        assert [len(values), float(values @ weights)] == pytest.approx(figures, rel=1e-4)


def test_the_fit_of_this_edition(tmp_path: Path) -> None:
    assert editions.FITS == 1
    torch.manual_seed(0)
    trunk = {"features": 16, "alignn_layers": 1, "graph_layers": 1, "embedding": 8, "marks_ion": True}
    network = Model3(trunk=trunk, head=[16])
    bands = [rock_salt(spacing) for spacing in (2.0, 2.1, 2.2, 2.3)]
    task = BarrierTask(
        graphs=[(band_graph(band, GraphSpec()),) for band in bands],
        targets=np.array([0.1, 0.4, 0.2, 0.3]),
        batch_bands=2,
        seed=0,
    )
    losses: list[float] = []
    config = FitConfig(epochs=3, peak_learning_rate=0.01, weight_decay=0.0, gradient_norm=1.0, seed=0)
    fit(
        network,
        task,
        config=config,
        folder=tmp_path,
        device=torch.device("cpu"),
        report=lambda epoch: losses.append(epoch.loss),
    )
    assert losses == pytest.approx([0.4122, 0.2184, 0.0967], abs=2e-3)


def with_contents(crystal: Crystal, symbol: str, contents: Contents) -> Crystal:
    """The same crystal with other contents on an element's sites."""
    sites = (replace(site, species=contents) if site.occupancy_of(symbol) else site for site in crystal.sites)
    return replace(crystal, sites=tuple(sites))


@pytest.mark.parametrize(
    ("crystal", "figures"),
    [
        (layered_oxide(), [0.2816, 0.2816, None, 1.3394, 1.3499, None, 1.0, 1.0, 0.0, 0.2879]),
        (
            with_contents(rock_salt_crystal(), "Li", (("Li", 0.25), ("Na", 0.75))),
            [0.3827, 0.3827, None, 1.2607, 1.2612, 1.3365, 1.0, 0.875, 0.2917, 0.3931],
        ),
        (
            with_contents(layered_oxide(), "Co", (("Co", 0.5), ("Al", 0.5))),
            [0.3016, 0.3016, None, 1.3576, 1.3684, None, 1.0, 1.0, 0.0, 0.2989],
        ),
    ],
)
def test_the_percolation_of_this_edition(crystal: Crystal, figures: list[float | None]) -> None:
    assert editions.PERCOLATION == 3
    search = find_hops(crystal, "Li", max_atoms=2000)
    outcomes = {
        key: HopOutcome(outcome=_by_length(search.hops[key[0]].distance_angstrom, key[1]), cached=False)
        for key in bands_of(search)
    }
    answer = compose(search, outcomes, lambda prediction, _: prediction)
    bond_valence = bond_valence_answer(search.bond_valence_host).percolation_ev
    found = [
        *(answer.percolation_ev.of(dimension) for dimension in DIMENSIONS),
        *(bond_valence.of(dimension) for dimension in DIMENSIONS),
        *(answer.percolating_share(dimension) for dimension in DIMENSIONS),
        sum(path.quantiles_ev[0] for path in answer.percolation.values() if path is not None),
    ]
    assert found == [None if one is None else pytest.approx(one, abs=5e-3) for one in figures]


def _by_length(distance_angstrom: float, ordering: int) -> Prediction:
    """A barrier that grows with the hop's length, out of the domain."""
    barrier_ev = 0.1 * distance_angstrom + 0.02 * ordering
    quantiles_ev = tuple(barrier_ev * (0.5 + level) for level in QUANTILE_LEVELS)
    return Prediction(barrier_ev=barrier_ev, quantiles_ev=quantiles_ev, in_domain=False, domain_reasons=("a test",))
