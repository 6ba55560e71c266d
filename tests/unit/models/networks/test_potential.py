"""CHGNet on our own layers: the published potential, image by image, and the ion's features from what can reach it."""

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from bands import band_of
from pymatgen.core import Lattice, Structure

from app.crystals.band import Band, model_band
from app.models.features.tables import atomic_number
from app.models.graphs.cutoffs import ATOM_CUTOFF_ANGSTROM, BOND_CUTOFF_ANGSTROM
from app.models.graphs.ion_bonds import ion_bonds
from app.models.graphs.ion_graphs import join_ion_graphs
from app.models.graphs.potential_graphs import PotentialGraph, join, potential_graph
from app.models.networks.chgnet import Chgnet
from app.models.networks.ion_environment import IonEnvironment
from training.potentials import published_chgnet

TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def potential() -> Chgnet:
    return published_chgnet()


@pytest.fixture(scope="module")
def published() -> Iterator[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the published package, on its own tensors
        from chgnet.model.model import CHGNet  # noqa: PLC0415 - takes seconds

        yield CHGNet.load(model_name="0.3.0", use_device="cpu", verbose=False)


@pytest.fixture(scope="module")
def small(data_rows: list[dict[str, Any]]) -> list[Band]:
    rows = sorted((row for row in data_rows if row["sound"]), key=lambda row: len(row["host_species"]))
    return [model_band(band_of(row)) for row in (rows[0], rows[25], rows[60])]


@pytest.fixture(scope="module")
def large(data_rows: list[dict[str, Any]]) -> list[Band]:
    """Cells in which no copy of the ion lies within the twelve angstrom that two layers see, none of them filled."""

    def height(row: dict[str, Any]) -> float:
        return float((1 / np.linalg.norm(np.linalg.inv(row["lattice_angstrom"]), axis=0)).min())

    rows = [row for row in data_rows if height(row) > 12.1 and row["ion"] not in row["host_species"]]
    assert len(rows) >= 3
    return [model_band(band_of(row)) for row in sorted(rows, key=lambda row: len(row["host_species"]))[:3]]


def numbers_of(band: Band) -> np.ndarray:
    return np.array([atomic_number(symbol) for symbol in (band.ion, *band.host_species)])


def image_graph(band: Band, image: int) -> PotentialGraph:
    coords = np.vstack([band.image_frac_coords[image], band.host_frac_coords])
    return potential_graph(
        numbers_of(band),
        coords @ band.lattice_angstrom,
        band.lattice_angstrom,
        cutoff_angstrom=ATOM_CUTOFF_ANGSTROM,
        short_cutoff_angstrom=BOND_CUTOFF_ANGSTROM,
    )


@pytest.mark.parametrize("image", [0, 2])
def test_energies_features_and_forces_are_the_published_potential_s(
    potential: Chgnet, published: Any, small: list[Band], image: int
) -> None:
    for band in small:
        structure = Structure(
            Lattice(band.lattice_angstrom),
            [band.ion, *band.host_species],
            np.vstack([band.image_frac_coords[image], band.host_frac_coords]),
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = published.predict_structure(structure, task="ef", return_atom_feas=True)
        graph = image_graph(band, image)
        positions = graph.positions.clone().requires_grad_()
        output = potential(graph, positions)
        assert output.site_energy_ev is not None
        (gradient,) = torch.autograd.grad(output.site_energy_ev.double().sum(), positions)
        reference = potential.references_ev[graph.atomic_numbers - 1]
        energy = float((output.site_energy_ev + reference).double().mean())
        assert energy == pytest.approx(float(expected["e"]), abs=1e-5)
        assert output.features[2].detach().numpy() == pytest.approx(expected["atom_fea"], abs=TOLERANCE)
        assert -gradient.numpy() == pytest.approx(expected["f"], abs=1e-3)


def test_structures_side_by_side_answer_what_each_answers_alone(potential: Chgnet, small: list[Band]) -> None:
    graphs = [image_graph(band, 1) for band in small]
    with torch.inference_mode():
        together = potential(join(graphs)).site_energy_ev
        alone = torch.cat([potential(graph).site_energy_ev for graph in graphs])
    assert together is not None
    assert together.numpy() == pytest.approx(alone.numpy(), abs=TOLERANCE)


def test_the_ion_s_features_from_its_surroundings_are_those_in_the_whole_cell(
    potential: Chgnet, large: list[Band]
) -> None:
    environment = IonEnvironment(potential)
    with torch.inference_mode():
        for band in large:
            first, second = environment(join_ion_graphs([ion_bonds(band)]))
            for image in range(5):
                whole = potential(image_graph(band, image), layers=2).features
                assert first[image].numpy() == pytest.approx(whole[0][0].numpy(), abs=TOLERANCE)
                assert second[image].numpy() == pytest.approx(whole[1][0].numpy(), abs=TOLERANCE)


def test_bands_side_by_side_have_the_features_of_each_alone(potential: Chgnet, small: list[Band]) -> None:
    environment = IonEnvironment(potential)
    with torch.inference_mode():
        together = environment(join_ion_graphs([ion_bonds(band) for band in small]))
        alone = [environment(join_ion_graphs([ion_bonds(band)])) for band in small]
    for layer in (0, 1):
        expected = torch.cat([one[layer] for one in alone]).numpy()
        assert together[layer].numpy() == pytest.approx(expected, abs=TOLERANCE)


def test_a_small_cell_and_its_repetition_with_the_copied_sites_filled_look_alike(
    potential: Chgnet, data_rows: list[dict[str, Any]]
) -> None:
    row = next(row for row in data_rows if row["id"].startswith("MnBO3_Li_p-6_1"))
    band = model_band(band_of(row))
    axis = int(np.argmin(np.linalg.norm(band.lattice_angstrom, axis=1)))
    times = np.ones(3)
    times[axis] = 2
    step = (times - 1.0)[None]
    host = np.concatenate([band.host_frac_coords, band.host_frac_coords + step, band.image_frac_coords[[0, -1]] + step])
    repeated = Band(
        lattice_angstrom=band.lattice_angstrom * times[:, None],
        host_species=(*band.host_species, *band.host_species, band.ion, band.ion),
        host_frac_coords=host / times,
        ion=band.ion,
        image_frac_coords=band.image_frac_coords / times,
    )
    environment = IonEnvironment(potential)
    with torch.inference_mode():
        one, other = (environment(join_ion_graphs([ion_bonds(each)]))[0].numpy() for each in (band, repeated))
    assert one == pytest.approx(other, abs=TOLERANCE)
