"""The parameters of bond valence: those that are published, by the ions that they belong to."""

import pickle
from pathlib import Path

import bvlain
import numpy as np
import pytest
from ase.data import chemical_symbols, covalent_radii

from app.crystals.bond_valence_table import bond_valence_table
from app.crystals.charged_host import charged_host
from app.errors import InputError


def test_the_table_is_the_published_one_without_bonds_that_attract_ever_more() -> None:
    folder = Path(bvlain.__file__).parent / "data"
    # pickles of a wheel whose hash is locked, as any code of it
    cations, numbers = (pickle.loads((folder / name).read_bytes()) for name in ("cation.pkl", "quantum_n.pkl"))
    published = {
        (chemical_symbols[cation], int(charge), chemical_symbols[anion], int(other)): (
            row["r_min"],
            row["alpha"],
            row["d0"],
        )
        for cation, by_charge in cations.items()
        for charge, anions in by_charge.items()
        for anion, by_other in anions.items()
        for other, row in by_other.items()
        if row["alpha"] > 0
    }
    table = bond_valence_table()
    assert table.pairs == published
    assert len(published) > 500
    assert {symbol: shell for symbol, (shell, _) in table.elements.items()} == {
        chemical_symbols[number]: shell for number, shell in numbers.items()
    }
    radii = {symbol: covalent_radii[chemical_symbols.index(symbol)] for symbol in table.elements}
    assert {symbol: radius for symbol, (_, radius) in table.elements.items()} == pytest.approx(radii)


@pytest.mark.parametrize(
    ("species", "states", "words"),
    [
        (("Li", "H"), {"Li": 1, "H": -1}, "none for Li\\+1 with H-1"),
        (("O",), {"Li": 0, "O": -2}, "Li has no charge"),
        (("O",), {"Li": 1}, "state of O"),
        (("Po",), {"Li": 1, "Po": 4}, "none for Po"),
        (("O",), {"Li": 2, "O": -2}, "none for Li\\+2 with O-2"),
    ],
)
def test_what_has_no_parameters_is_named(species: tuple[str, ...], states: dict[str, float], words: str) -> None:
    with pytest.raises(InputError, match=words) as refused:
        charged_host(
            np.eye(3) * 4.0,
            species,
            np.zeros((len(species), 3)),
            np.ones(len(species)),
            ion="Li",
            oxidation_states=states,
        )
    assert refused.value.kind == "no-bond-valence"


@pytest.mark.parametrize(
    ("ion", "charge", "other", "state", "known"), [("Li", 1, "S", -1, -2), ("O", -2, "Fe", 2.6, 3)]
)
def test_a_charge_without_parameters_takes_those_of_the_nearest(
    ion: str, charge: int, other: str, state: float, known: int
) -> None:
    found, expected = (
        charged_host(
            np.eye(3) * 4.0, [other], np.zeros((1, 3)), [1.0], ion=ion, oxidation_states={ion: charge, other: q}
        )
        for q in (state, known)
    )
    assert found.morse.tolist() == expected.morse.tolist()
