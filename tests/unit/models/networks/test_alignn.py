import numpy as np
import pytest
import torch
from bands import rock_salt

from app.models.graphs.band_graphs import band_graph
from app.models.graphs.shells import GraphBatch, GraphSpec, collate
from app.models.networks.alignn import Alignn, AlignnLayer, EdgeGatedConvolution, Expansion, _cosines
from app.models.networks.elements import FEATURE_COUNT, element_features
from app.models.networks.model_3 import Model3


def test_an_edge_gated_convolution_follows_the_published_equations() -> None:
    """Three atoms and four bonds, every sum written out."""
    torch.manual_seed(1)
    layer = EdgeGatedConvolution(2).eval()
    for norm in (layer.node_norm, layer.edge_norm):
        assert isinstance(norm, torch.nn.BatchNorm1d)
        norm.running_mean = torch.tensor([0.1, -0.2])
        norm.running_var = torch.tensor([0.5, 2.0])
    atoms, bonds = torch.randn(3, 2), torch.randn(4, 2)
    source, target = torch.tensor([1, 2, 0, 1]), torch.tensor([0, 0, 1, 2])
    with torch.no_grad():
        new_atoms, new_bonds = layer(atoms, bonds, source, target, torch.ones(4))
    a, b, c, u, v = (
        (part.weight.detach().numpy(), part.bias.detach().numpy())
        for part in (layer.target_gate, layer.source_gate, layer.edge_gate, layer.target_update, layer.source_update)
    )
    x, e = atoms.numpy(), bonds.numpy()

    def affine(part: tuple[np.ndarray, np.ndarray], values: np.ndarray) -> np.ndarray:
        return np.asarray(part[0] @ values + part[1])

    def silu_norm(values: np.ndarray) -> np.ndarray:
        normed = (values - np.array([0.1, -0.2])) / np.sqrt(np.array([0.5, 2.0]) + 1e-5)
        return np.asarray(normed / (1 + np.exp(-normed)))

    for atom in range(3):
        total, gates = np.zeros(2), np.zeros(2)
        for bond in range(4):
            if int(target[bond]) == atom:
                other = x[int(source[bond])]
                gate = 1 / (1 + np.exp(-(affine(a, x[atom]) + affine(b, other) + affine(c, e[bond]))))
                total += gate * affine(v, other)
                gates += gate
        expected = x[atom] + silu_norm(affine(u, x[atom]) + total / (gates + 1e-6))
        assert new_atoms[atom].numpy() == pytest.approx(expected, abs=1e-5)
    for bond in range(4):
        message = affine(a, x[int(target[bond])]) + affine(b, x[int(source[bond])]) + affine(c, e[bond])
        assert new_bonds[bond].numpy() == pytest.approx(e[bond] + silu_norm(message), abs=1e-5)


def test_an_edge_of_no_weight_is_as_if_it_were_not_there() -> None:
    torch.manual_seed(2)
    layer = EdgeGatedConvolution(4).eval()
    atoms, bonds = torch.randn(3, 4), torch.randn(3, 4)
    source, target = torch.tensor([1, 2, 0]), torch.tensor([0, 0, 1])
    with torch.no_grad():
        faded, _ = layer(atoms, bonds, source, target, torch.tensor([1.0, 0.0, 1.0]))
        absent, _ = layer(atoms, bonds[[0, 2]], source[[0, 2]], target[[0, 2]], torch.ones(2))
    assert torch.allclose(faded, absent, atol=1e-6)


def test_the_bonds_that_the_crystal_graph_updates_are_the_line_graph_s_nodes() -> None:
    torch.manual_seed(3)
    layer = AlignnLayer(8).eval()
    batch = collate([band_graph(rock_salt(), GraphSpec(inner_angstrom=2.0, outer_angstrom=3.0))])
    atoms, bonds = torch.randn(len(batch.atomic_numbers), 8), torch.randn(len(batch.edge_source), 8)
    angles, weight = torch.randn(len(batch.line_source), 8), torch.ones(len(batch.line_source))
    with torch.no_grad():
        new = layer(atoms, bonds, angles, batch, weight)
        one = layer.crystal(atoms, bonds, batch.edge_source, batch.edge_target, batch.edge_weight)
        two = layer.line(one[1], angles, batch.line_source, batch.line_target, weight)
    assert torch.equal(new[0], one[0])
    assert torch.equal(new[1], two[0])
    assert torch.equal(new[2], two[1])


def test_angles_are_those_between_bonds() -> None:
    corner = GraphBatch(
        atomic_numbers=torch.tensor([8, 3, 8]),
        image_position=torch.tensor([-1.0, 0.0, -1.0]),
        node_weight=torch.ones(3),
        graph_of_node=torch.zeros(3, dtype=torch.long),
        edge_source=torch.tensor([0, 1]),
        edge_target=torch.tensor([1, 2]),
        # From the target to the source: atom 0 is 2 A along x from atom 1, which is 1 A along (1, 1) from atom 2.
        edge_vector_angstrom=torch.tensor([[2.0, 0.0, 0.0], [0.5**0.5, 0.5**0.5, 0.0]]),
        edge_weight=torch.ones(2),
        line_source=torch.tensor([0]),
        line_target=torch.tensor([1]),
        graph_count=1,
    )
    length = corner.edge_vector_angstrom.norm(dim=1)
    # At atom 1 the bonds point along (1, 0) and (-1, -1): 135 degrees.
    assert float(_cosines(corner, length)) == pytest.approx(-(0.5**0.5), abs=1e-6)


def test_the_radial_basis_is_one_at_its_centres() -> None:
    expansion = Expansion(low=0.0, high=8.0, bins=81)
    values = expansion(torch.tensor([0.0, 4.0, 8.0]))
    assert values.shape == (3, 81)
    assert values[1, 40] == 1.0
    assert float(values[1, 41]) == pytest.approx(np.exp(-1.0), rel=1e-4)


def test_elements_differ_and_neighbours_in_a_group_share_most() -> None:
    table = element_features()
    assert table.shape == (101, FEATURE_COUNT)
    common = torch.cat([table[1:58], table[72:84]])  # neighbouring lanthanides may share all their bins
    assert len(torch.unique(common, dim=0)) == len(common)
    lithium, sodium, oxygen = table[3], table[11], table[8]
    assert float(lithium @ sodium) > float(lithium @ oxygen)


def test_the_full_size_has_the_parameters_of_its_layers() -> None:
    """Counted by hand from the published layer sizes: 256 wide, four and four layers, 64-wide embeddings."""
    width, embedding = 256, 64

    def perceptron(inputs: int, outputs: int) -> int:
        return inputs * outputs + outputs + 2 * outputs

    convolution = 5 * (width * width + width) + 2 * width
    norm = 2 * width
    embeddings = perceptron(92, width) + sum(
        perceptron(bins, embedding) + perceptron(embedding, width) for bins in (80, 40)
    )
    # Twelve convolutions; the last angles and the last bonds are read by nobody, so their norms are left out.
    expected = embeddings + 12 * convolution + 10 * norm
    assert sum(parameter.numel() for parameter in Alignn().parameters()) == expected


@pytest.mark.parametrize("readout", ["path", "ion"])
def test_a_batch_answers_what_singles_answer(readout: str) -> None:
    torch.manual_seed(4)
    network = Model3(
        trunk={"features": 16, "alignn_layers": 1, "graph_layers": 1, "marks_ion": True},
        head=[16],
        readout=readout,  # type: ignore[arg-type]  # parametrised with both values
    ).eval()
    graphs = [band_graph(rock_salt(spacing), GraphSpec(outer_angstrom=5.0)) for spacing in (2.0, 2.1, 2.3)]
    with torch.no_grad():
        together, _ = network(collate(graphs))
        alone = torch.cat([network(collate([graph]))[0] for graph in graphs])
    assert torch.allclose(together, alone, atol=1e-5)
    assert len(set(alone.tolist())) == 3
