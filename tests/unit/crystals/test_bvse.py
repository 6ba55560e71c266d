"""Bond-valence percolation of crystals whose paths are known, and of those that have no parameters."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_crystals import crystal_of, layered_oxide, spinel

from app.crystals.bvse import bond_valence_percolation
from app.crystals.limits import Limits
from app.crystals.readers.crystal_file import read_crystal
from app.crystals.readers.reading import File
from app.errors import InputError


def test_lithium_in_olivine_moves_along_one_line(repository: Path) -> None:
    content = (repository / "examples" / "LiFePO4.cif").read_bytes()
    found = bond_valence_percolation(read_crystal(File(name="f.cif", content=content), Limits()), "Li", max_atoms=2000)
    one, two = found.barriers.one_d, found.barriers.two_d
    assert one is not None
    assert two is None or two > one + 1.0
    assert found.states == {"Li": 1, "Fe": 2, "P": 5, "O": -2}
    assert found.grid_angstrom == pytest.approx(0.2)


def test_lithium_in_a_layered_oxide_moves_in_the_layer() -> None:
    found = bond_valence_percolation(layered_oxide(), "Li", max_atoms=2000).barriers
    assert found.one_d is not None
    assert found.two_d == pytest.approx(found.one_d, abs=0.2)
    assert found.three_d is None or found.three_d > found.one_d + 1.0


def test_a_disordered_frame_is_ordered_first() -> None:
    crystal = layered_oxide()
    sites = [
        replace(site, species=(("Al", 0.5), ("Co", 0.5))) if site.occupancy_of("Co") else site for site in crystal.sites
    ]
    plain, mixed = (
        bond_valence_percolation(one, "Li", max_atoms=2000).barriers
        for one in (crystal, replace(crystal, sites=tuple(sites)))
    )
    assert plain.two_d is not None
    assert mixed.two_d == pytest.approx(plain.two_d, abs=0.3)


def test_a_large_cell_has_a_coarser_grid() -> None:
    found = bond_valence_percolation(spinel(a=14.0), "Mg", max_atoms=2000)  # its primitive cell has 686 cubic angstrom
    assert found.grid_angstrom == pytest.approx((14.0**3 / 4 / 40_000) ** (1 / 3), rel=1e-3)


@pytest.mark.parametrize(
    ("atoms", "words"),
    [
        ([("Li", (0.0, 0.0, 0.0)), ("Au", (0.5, 0.5, 0.5))], "oxidation states could not be guessed"),
        ([("Li", (0.0, 0.0, 0.0)), ("N", (0.5, 0.5, 0.5))], "bond valence parameters"),
    ],
)
def test_what_has_no_parameters_is_refused(atoms: list[tuple[str, tuple[float, float, float]]], words: str) -> None:
    with pytest.raises(InputError, match=words) as refused:
        bond_valence_percolation(crystal_of(np.eye(3) * 3.5, atoms), "Li", max_atoms=2000)
    assert (refused.value.kind, refused.value.where) == ("no-bond-valence", "second_opinion")
