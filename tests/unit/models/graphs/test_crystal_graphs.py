"""Graphs of periodic crystals: who is whose neighbour, whatever cell the crystal is given in."""

import numpy as np
import pytest
import torch
from pymatgen.core import Lattice, Structure

from app.models.graphs.crystal_graphs import crystal_graph
from app.models.graphs.shells import AtomGraph, GraphSpec, collate
from app.models.networks.multi_property import MultiProperty

SPEC = GraphSpec(neighbour_count=12)


def graph_of(structure: Structure, spec: GraphSpec = SPEC) -> AtomGraph:
    return crystal_graph(
        np.array(structure.lattice.matrix), np.array(structure.atomic_numbers), structure.frac_coords, spec
    )


def rock_salt() -> Structure:
    return Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.6), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def low_symmetry() -> Structure:
    lattice = Lattice.from_parameters(4.1, 6.3, 5.2, 78.0, 101.0, 95.0)
    coords = np.random.default_rng(4).random((5, 3))
    return Structure(lattice, ["Li", "O", "P", "O", "Fe"], coords)


def lengths(graph: AtomGraph) -> np.ndarray:
    return np.asarray(graph.edge_vector_angstrom.norm(dim=1))


def test_a_shell_of_equal_distances_is_never_cut() -> None:
    # Six neighbours at 2.8 and twelve at 3.96 angstrom: the twelfth neighbour lies in the second shell.
    graph = graph_of(rock_salt().get_primitive_structure())
    per_atom = np.bincount(graph.edge_target)
    assert list(per_atom) == [18, 18]
    assert graph.edge_weight.numpy() == pytest.approx(1.0)
    assert sorted(set(lengths(graph).round(2))) == [2.8, 3.96]
    assert graph.line_edge_count == 2 * 18 * 18


def test_neighbours_are_those_that_pymatgen_finds() -> None:
    structure = low_symmetry()
    graph = graph_of(structure)
    for atom in range(len(structure)):
        found = sorted(neighbour.nn_distance for neighbour in structure.get_neighbors(structure[atom], 8.4))
        expected = [length for length in found if length < found[11] + SPEC.shell_width_angstrom]
        mine = sorted(lengths(graph)[graph.edge_target.numpy() == atom])
        # Of the last ones, those that have all but faded out are left out.
        assert len(expected) - 1 <= len(mine) <= len(expected)
        assert mine == pytest.approx(expected[: len(mine)], abs=1e-5)


def test_an_atom_far_from_all_others_keeps_what_is_within_reach() -> None:
    graph = graph_of(Structure(Lattice.cubic(7.9), ["He"], [[0, 0, 0]]))
    assert lengths(graph) == pytest.approx(7.9, abs=1e-5)
    assert len(graph.edge_source) == 6
    lone = graph_of(Structure(Lattice.cubic(20.0), ["He"], [[0, 0, 0]]))
    assert len(lone.edge_source) == 0


def answers(graph: AtomGraph) -> np.ndarray:
    torch.manual_seed(0)
    trunk: dict[str, int | bool] = {"features": 16, "alignn_layers": 1, "graph_layers": 1, "embedding": 8}
    network = MultiProperty(properties=("one", "two"), trunk=trunk, head=[8]).eval()
    with torch.inference_mode():
        return np.asarray(network(collate([graph])))


def rotated(structure: Structure) -> Structure:
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    return Structure(structure.lattice.matrix @ rotation, structure.species, structure.frac_coords)


def moved(structure: Structure) -> Structure:
    return Structure(structure.lattice, structure.species, structure.frac_coords + np.array([0.4, -1.7, 0.23]))


def reordered(structure: Structure) -> Structure:
    return Structure.from_sites([structure[n] for n in reversed(range(len(structure)))])


def sheared(structure: Structure) -> Structure:
    matrix = np.array([[1, 2, 0], [0, 1, -1], [0, 0, 1]])
    new = Lattice(matrix @ structure.lattice.matrix)
    return Structure(new, structure.species, structure.cart_coords, coords_are_cartesian=True)


def doubled(structure: Structure) -> Structure:
    return structure.make_supercell([[2, 0, 0], [0, 1, 0], [0, 1, 1]], in_place=False)


@pytest.mark.parametrize("change", [rotated, moved, reordered, sheared, doubled])
@pytest.mark.parametrize("structure", [rock_salt(), low_symmetry()], ids=["high symmetry", "low symmetry"])
def test_another_description_of_a_crystal_has_the_same_answer(structure: Structure, change: object) -> None:
    assert callable(change)
    assert answers(graph_of(change(structure))) == pytest.approx(answers(graph_of(structure)), abs=1e-5)
