from dataclasses import replace

import numpy as np
import pytest
import torch
from bands import band_of, rock_salt

from app.crystals.band import Band
from app.models.graphs.band_graphs import band_graph
from app.models.graphs.shells import GraphSpec, collate

SPEC = GraphSpec(inner_angstrom=3.0, outer_angstrom=5.0)


def test_neighbours_and_weights_agree_with_a_plain_search() -> None:
    band = rock_salt()
    graph = band_graph(band, SPEC)
    images = band_images(band)
    copies = np.stack(np.meshgrid(*[np.arange(-3, 4)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    host = ((band.host_frac_coords[None] + copies[:, None]) @ band.lattice_angstrom).reshape(-1, 3)
    along = np.clip((host - images[0]) @ (images[-1] - images[0]) / np.sum((images[-1] - images[0]) ** 2), 0, 1)
    to_path = np.linalg.norm(host - images[0] - along[:, None] * (images[-1] - images[0]), axis=1)
    assert int((graph.image_position < 0).sum()) == int((to_path < SPEC.outer_angstrom).sum())
    middle = len(graph.atomic_numbers) - 3
    mine = graph.edge_target == middle
    distance = np.sort(np.linalg.norm(host - images[2], axis=1))
    twelfth = distance[11]
    in_graph = host[to_path < SPEC.outer_angstrom]
    expected = np.linalg.norm(in_graph - images[2], axis=1)
    others = np.linalg.norm(np.delete(images, 2, axis=0) - images[2], axis=1)
    lengths = np.concatenate([expected, others])
    assert int(mine.sum()) == int((lengths < twelfth + 0.99 * SPEC.shell_width_angstrom).sum())


def test_a_neighbour_that_leaves_the_shell_fades_and_does_not_jump() -> None:
    """The sum of an atom's edge weights is continuous where a hard count of neighbours would jump."""
    band = rock_salt()
    sums = []
    for step in np.linspace(-0.02, 0.02, 9):
        host = band.host_frac_coords.copy()
        host[5] += step / 8.4
        graph = band_graph(replace(band, host_frac_coords=host), SPEC)
        sums.append(float(graph.edge_weight.sum()))
    steps = np.abs(np.diff(sums))
    assert steps.max() < 1.5
    assert steps.max() < 4 * max(np.median(steps), 0.05)


def test_a_doubled_host_gives_the_same_graph() -> None:
    band = rock_salt()
    # The vacancy-free host, doubled: what is near the path is the same.
    doubled = replace(
        band,
        lattice_angstrom=band.lattice_angstrom * np.array([[2.0], [1.0], [1.0]]),
        host_species=band.host_species * 2,
        host_frac_coords=np.concatenate(
            [band.host_frac_coords / [2, 1, 1], (band.host_frac_coords + np.array([1, 0, 0])) / [2, 1, 1]]
        ),
        image_frac_coords=band.image_frac_coords / [2, 1, 1],
    )
    one, two = band_graph(band, SPEC), band_graph(doubled, SPEC)
    assert one.line_edge_count == two.line_edge_count
    assert torch.allclose(one.edge_weight.sort().values, two.edge_weight.sort().values, atol=1e-5)
    lengths = [graph.edge_vector_angstrom.norm(dim=1).sort().values for graph in (one, two)]
    assert torch.allclose(lengths[0], lengths[1], atol=1e-5)


def test_the_line_graph_joins_each_bond_to_those_that_end_where_it_starts(
    data_rows: list[dict[str, object]],
) -> None:
    graphs = [band_graph(band_of(row), SPEC) for row in data_rows[:3]]
    batch = collate(graphs)
    assert batch.graph_count == 3
    assert len(batch.line_source) == sum(graph.line_edge_count for graph in graphs)
    assert torch.equal(batch.edge_target[batch.line_source], batch.edge_source[batch.line_target])
    pairs = {(int(a), int(b)) for a, b in zip(batch.line_source, batch.line_target, strict=True)}
    expected = {
        (before, after)
        for after in range(0, len(batch.edge_source), 97)
        for before in range(len(batch.edge_source))
        if batch.edge_target[before] == batch.edge_source[after]
    }
    assert expected == {pair for pair in pairs if pair[1] % 97 == 0}


@pytest.mark.parametrize("species", [(), ("O",)])
def test_a_host_of_few_atoms_still_has_a_graph(species: tuple[str, ...]) -> None:
    band = Band(
        lattice_angstrom=np.eye(3) * 30.0,
        host_species=species,
        host_frac_coords=np.zeros((len(species), 3)),
        ion="Li",
        image_frac_coords=np.array([[0.06, 0.0, 0.0], [0.16, 0.0, 0.0]]),
    )
    graph = band_graph(band, SPEC)
    assert int((graph.image_position >= 0).sum()) == 5


def band_images(band: Band) -> np.ndarray:
    steps = np.linspace(0, 1, 5)[:, None]
    first, last = band.image_frac_coords
    return np.asarray((first + steps * (last - first)) @ band.lattice_angstrom)
