"""The paper's forms of a band: what each network reads, and what may not change its answer."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from app.crystals.band import Band
from app.models.checkpoints import GRAPH_NETWORKS
from app.models.graphs.band_graphs import band_graph
from app.models.graphs.shells import GraphSpec, collate
from app.models.networks.graph_network import GraphNetwork
from app.models.networks.model_4 import Model4
from training.comparison.entries import FORMS
from training.config import read_config

SMALL: dict[str, int | bool] = {"features": 16, "alignn_layers": 1, "graph_layers": 1, "embedding": 8}


def a_band(seed: int = 0) -> Band:
    random = np.random.default_rng(seed)
    corners = np.stack(np.meshgrid(*[np.arange(3) / 3] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    return Band(
        lattice_angstrom=np.diag([8.1, 8.4, 8.7]),
        host_species=tuple(random.choice(["Mg", "O", "P"], len(corners))),
        host_frac_coords=corners + random.uniform(-0.02, 0.02, corners.shape),
        ion="Li",
        image_frac_coords=np.linspace([0.15, 0.17, 0.16], [0.49, 0.18, 0.15], 5),
    )


def form(name: str, size: str) -> tuple[GraphNetwork, GraphSpec]:
    """A form's own network and graph, with a trunk small enough for a test."""
    config = read_config(f"{name}-{size}")
    marks = config.arguments["trunk"]["marks_ion"]
    trunk: dict[str, int | bool] = {**SMALL, "marks_ion": marks}
    small: dict[str, Any] = {key: trunk for key in ("trunk", "shallow") if key in config.arguments}
    torch.manual_seed(1)
    network = GRAPH_NETWORKS[config.network](**{**config.arguments, **small})
    return network.eval(), GraphSpec(**config.graph)


def ask(network: GraphNetwork, spec: GraphSpec, *bands: Band) -> np.ndarray:
    graphs = [[band_graph(band, spec, state) for band in bands] for state in network.states]
    with torch.inference_mode():
        outputs, vectors = network(*[collate(batch) for batch in graphs])
    assert vectors.shape[0] == len(bands)
    return np.asarray(outputs)


@pytest.mark.parametrize("size", ["compact", "full"])
@pytest.mark.parametrize("name", FORMS)
def test_a_batch_answers_what_singles_answer(name: str, size: str) -> None:
    network, spec = form(name, size)
    bands = [a_band(seed) for seed in range(3)]
    singles = np.concatenate([ask(network, spec, band) for band in bands])
    assert ask(network, spec, *bands) == pytest.approx(singles, abs=1e-6)
    assert len(set(singles.round(7))) == 3  # each form tells these bands apart


@pytest.mark.parametrize("size", ["compact", "full"])
@pytest.mark.parametrize("name", FORMS)
def test_only_a_directional_form_tells_a_hop_from_its_reverse(name: str, size: str) -> None:
    network, spec = form(name, size)
    band = a_band()
    back = replace(band, image_frac_coords=band.image_frac_coords[::-1])
    same = ask(network, spec, back) == pytest.approx(ask(network, spec, band), abs=1e-6)
    assert same is not network.directional
    assert network.directional is (name in {"model-1-difference", "model-1-concat", "scratch-model-1", "model-2"})


@pytest.mark.parametrize("name", ["model-1-concat", "model-2", "model-3", "model-4"])
def test_another_description_of_a_band_has_the_same_answer(name: str) -> None:
    for size in ("compact", "full"):
        network, spec = form(name, size)
        band = a_band()
        rotation = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))[0]
        order = np.random.default_rng(3).permutation(len(band.host_species))
        other = Band(
            lattice_angstrom=band.lattice_angstrom @ rotation,
            host_species=tuple(band.host_species[n] for n in order),
            host_frac_coords=band.host_frac_coords[order] + 0.3,
            ion=band.ion,
            image_frac_coords=band.image_frac_coords + 0.3,
        )
        assert ask(network, spec, other) == pytest.approx(ask(network, spec, band), abs=1e-5)


def test_an_end_point_alone_is_what_the_end_point_forms_read() -> None:
    spec = GraphSpec(neighbour_count=8)
    band = a_band()
    initial, final = (band_graph(band, spec, state) for state in ("initial", "final"))
    assert int((initial.image_position >= 0).sum()) == int((final.image_position >= 0).sum()) == 1
    assert int((band_graph(band, spec).image_position >= 0).sum()) == 5
    assert len(initial.edge_source) != len(final.edge_source) or not torch.equal(
        initial.edge_vector_angstrom, final.edge_vector_angstrom
    )


def test_the_paper_s_form_holds_every_atom_of_the_cell_once() -> None:
    band = a_band()
    graph = band_graph(band, GraphSpec(scope="cell"))
    assert len(graph.atomic_numbers) == len(band.host_species) + 5
    assert graph.node_weight.numpy() == pytest.approx(1.0)


def test_an_atom_that_fades_out_at_the_rim_is_attended_to_by_nobody() -> None:
    network, spec = form("model-4", "compact")
    assert isinstance(network, Model4)
    batch = collate([band_graph(a_band(), spec)])
    faded = batch.node_weight.clone()
    host = int((batch.image_position < 0).nonzero()[0])
    faded[host] = 0.0
    atoms = torch.randn(len(faded), 16)
    changed = atoms.clone()
    changed[host] += 5.0
    with torch.inference_mode():
        before = network._attended(atoms, replace(batch, node_weight=faded))
        after = network._attended(changed, replace(batch, node_weight=faded))
    others = torch.arange(len(faded)) != host
    assert torch.allclose(before[others], after[others], atol=1e-6)


def test_forms_at_full_size_have_the_paper_s_trunk() -> None:
    for name in FORMS:
        config = read_config(f"{name}-full")
        trunk = config.arguments["trunk"]
        assert (trunk["features"], trunk["alignn_layers"], trunk["graph_layers"], trunk["embedding"]) == (256, 4, 4, 64)
        assert config.graph["scope"] == "cell"
        assert config.arguments["readout"] == "path"
        assert config.batch_bands == (64 if name == "model-4" else 128)
        assert bool(config.pretrained) is not name.startswith("scratch")
