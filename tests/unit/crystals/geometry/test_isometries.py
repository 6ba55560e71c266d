"""Reduced bases, and the ways in which lattices fall onto each other."""

from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray

from app.crystals.geometry.isometries import lattice_isometries
from app.crystals.geometry.reduction import reduced_lattice

CUBIC = np.eye(3) * 4.2
HEXAGONAL = np.array([[3.0, 0, 0], [-1.5, 1.5 * 3**0.5, 0], [0, 0, 7.0]])
FCC = np.array([[0, 2.1, 2.1], [2.1, 0, 2.1], [2.1, 2.1, 0]])
TRICLINIC = np.array([[4.0, 0.1, 0.2], [0.7, 5.1, -0.3], [1.1, -0.8, 6.3]])
MONOCLINIC = np.array([[4.0, 0, 0], [0, 5.1, 0], [-1.3, 0, 6.3]])
TETRAGONAL = np.diag([4.0, 4.0, 46.0])


@pytest.mark.parametrize(
    ("lattice", "order"),
    [(CUBIC, 48), (FCC, 48), (HEXAGONAL, 24), (TETRAGONAL, 16), (MONOCLINIC, 4), (TRICLINIC, 2)],
)
def test_the_isometries_of_a_lattice_with_itself_are_its_point_group(lattice: NDArray[np.float64], order: int) -> None:
    reduced, _ = reduced_lattice(lattice)
    found = lattice_isometries(reduced, reduced, 2e-3)
    assert len(found) == order
    assert len(np.unique(found, axis=0)) == order
    metric = reduced @ reduced.T
    for matrix in found:
        assert matrix @ metric @ matrix.T == pytest.approx(metric, abs=1e-9)


def test_a_skewed_basis_is_reduced_to_its_successive_minima() -> None:
    rng = np.random.default_rng(5)
    for _ in range(50):
        lattice = rng.normal(size=(3, 3)) * 5
        matrix = np.eye(3, dtype=int)
        for _ in range(6):
            one, two = rng.permutation(3)[:2]
            matrix[one] += rng.integers(-3, 4) * matrix[two]
        reduced, steps = reduced_lattice(matrix @ lattice)
        assert abs(round(np.linalg.det(steps))) == 1
        assert reduced == pytest.approx(steps @ matrix @ lattice)
        again, _ = reduced_lattice(lattice)
        assert np.linalg.norm(reduced, axis=1) == pytest.approx(np.linalg.norm(again, axis=1))
        every = [np.array(c) @ reduced for c in product(range(-4, 5), repeat=3) if c[2]]
        assert np.linalg.norm(reduced[2]) <= min(np.linalg.norm(vector) for vector in every) * (1 + 1e-6)
        assert len(lattice_isometries(reduced, again, 2e-3)) >= 2


def test_lattices_that_differ_by_more_than_the_tolerance_have_no_isometry() -> None:
    assert len(lattice_isometries(CUBIC, CUBIC * 1.0006, 2e-3)) == 0
    assert len(lattice_isometries(CUBIC, CUBIC * 1.0004, 2e-3)) == 48
    sheared = CUBIC + np.array([[0, 0, 0], [0, 0, 0], [0.02, 0, 0]])
    assert len(lattice_isometries(CUBIC, sheared, 2e-3)) == 0


def test_small_errors_of_all_angles_add_up_for_each_vector() -> None:
    shear = 1.9e-3 * (np.ones((3, 3)) - np.eye(3))
    assert np.linalg.norm(shear[0]) > 2e-3
    assert len(lattice_isometries(CUBIC, CUBIC + shear, 2e-3)) == 0
    assert len(lattice_isometries(CUBIC, CUBIC + shear / 2, 2e-3)) == 48
