"""What a crystal's answer holds of bond valence: figures, or why there are none."""

import asyncio

import numpy as np
import pytest
from made_crystals import crystal_of, garnet, layered_oxide, rock_salt, spinel

from app.crystals.band import FloatArray
from app.crystals.charged_host import ChargedHost, charged_host
from app.crystals.crystal import Crystal
from app.crystals.hops.search import find_hops
from app.serving.answers.bond_valence import BondValence, bond_valence_answer
from app.serving.answers.types import BondValenceAnswer


def answer_of(crystal: Crystal, ion: str) -> BondValenceAnswer:
    return bond_valence_answer(find_hops(crystal, ion, max_atoms=2000).bond_valence_host)


def test_known_crystals_connect_in_as_many_dimensions_as_is_known() -> None:
    layered, cubic = answer_of(layered_oxide(), "Li").percolation_ev, answer_of(spinel(), "Mg").percolation_ev
    assert layered.one_d is not None
    assert layered.two_d == pytest.approx(layered.one_d, abs=0.1)
    assert layered.three_d is None or layered.three_d > layered.one_d + 1.0
    assert cubic.one_d is not None
    assert (cubic.two_d, cubic.three_d) == pytest.approx((cubic.one_d, cubic.one_d), abs=0.005)


def test_a_host_that_is_asked_for_again_is_not_computed_again() -> None:
    layered, cubic = (
        find_hops(crystal, ion, max_atoms=2000).bond_valence_host
        for crystal, ion in ((layered_oxide(), "Li"), (spinel(), "Mg"))
    )
    again = find_hops(layered_oxide(), "Li", max_atoms=2000).bond_valence_host

    async def answers() -> list[BondValenceAnswer]:
        bond_valence = BondValence(at_once=1)
        return list(await asyncio.gather(*map(bond_valence.answer, (layered, again, cubic, "no parameters"))))

    first, second, other, without = asyncio.run(answers())
    assert second is first
    assert first == answer_of(layered_oxide(), "Li")
    assert other == answer_of(spinel(), "Mg")
    assert without.detail == "no parameters"


def test_a_disordered_host_counts_by_its_occupancies() -> None:
    found = answer_of(garnet(), "Li")
    assert found.detail is None
    assert found.grid_angstrom is not None
    assert 0.25 < found.grid_angstrom < (12.98**3 / 2 / 40_000) ** (1 / 3)  # 40,000 points and no more would be coarser
    assert found.percolation_ev.three_d is not None
    assert 0.2 < found.percolation_ev.three_d < 0.8


def test_a_supercell_has_the_same_figures() -> None:
    crystal = rock_salt()
    steps = ((0.0, 0.0, 0.0), (0.5, 0.0, 0.0))
    doubled = crystal_of(
        crystal.lattice_angstrom * [[2], [1], [1]],
        [
            (site.species[0][0], (site.frac_coords[0] / 2 + x, site.frac_coords[1] + y, site.frac_coords[2] + z))
            for site in crystal.sites
            for x, y, z in steps
        ],
    )
    one, two = (answer_of(each, "Li").percolation_ev for each in (crystal, doubled))
    assert two.three_d == pytest.approx(one.three_d, abs=1e-3)


def test_what_has_no_parameters_has_a_reason_and_an_answer_all_the_same() -> None:
    found = answer_of(rock_salt(other="H"), "Li")
    assert found.percolation_ev.one_d is None
    assert found.grid_angstrom is None
    assert found.detail is not None
    assert "none for Li+1 with H-1" in found.detail


def long_cell(length_angstrom: float) -> Crystal:
    """Sixty atoms in a row, lithium among them."""
    atoms = [(("Li", "Ti", "O")[k % 3], (0.0, 0.5 * (k % 2), (k + 0.5) / 60)) for k in range(60)]
    atoms[1] = ("O", atoms[1][1])  # so that the row is its own primitive cell
    return crystal_of(np.diag([2.8, 2.8, length_angstrom]), atoms)


def test_a_cell_too_long_for_a_grid_is_answered_with_the_reason() -> None:
    found = answer_of(long_cell(600.0), "Li")
    assert found.percolation_ev.one_d is None
    assert found.detail is not None
    assert "600 angstrom" in found.detail
    assert "at most 512 along one" in found.detail


@pytest.mark.parametrize(
    ("lattice", "atoms", "reason"),
    [
        (np.diag([17.0, 17.0, 17.0]), 600, "600 atoms on a grid of 46,656 points"),
        (np.array([[20.0, 0, 0], [20.0, 2.0, 0], [20.0, 0, 20.0]]), 1, "so thin or skewed"),
    ],
)
def test_a_grid_that_would_take_long_is_not_begun(lattice: FloatArray, atoms: int, reason: str) -> None:
    coords = np.random.default_rng(0).random((atoms, 3))
    states = {"Li": 1, "O": -2}
    host = charged_host(lattice, ["O"] * atoms, coords, np.ones(atoms), ion="Li", oxidation_states=states)
    found = bond_valence_answer(host)
    assert found.detail is not None
    assert reason in found.detail


def test_a_cell_of_which_no_grid_would_show_the_paths_is_left_out() -> None:
    host = charged_host(np.eye(3) * 18.0, ["O"], np.zeros((1, 3)), [1.0], ion="Li", oxidation_states={"Li": 1, "O": -2})
    assert isinstance(host, ChargedHost)
    found = bond_valence_answer(host)
    assert found.detail == "The primitive cell has 5,832 cubic angstrom; bond valence takes at most 5,000."
