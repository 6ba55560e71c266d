import numpy as np
import pytest

from app.crystals.elements import LAST_COVERED
from app.crystals.sites.interstitials import _bond_valence_radii
from app.models.features.tables import atomic_number, element_table


def test_every_covered_element_has_every_property() -> None:
    table = element_table()
    for name, column in vars(table).items():
        assert len(column) > LAST_COVERED, name
        assert np.isfinite(column).all(), name
    assert (table.cation_charge[1:] > 0).all()
    assert (table.bond_valence_radius_angstrom[1:] > 0).all()


def test_bond_valence_radii_that_were_published_are_those_of_the_crystals() -> None:
    """The table repeats them, beside those that are filled in here: the models' digests cover the whole of it."""
    table = element_table()
    for symbol, published in _bond_valence_radii().items():
        number = atomic_number(symbol)
        found = (table.bond_valence_radius_angstrom[number], table.bond_valence_softness[number])
        assert found == published, symbol


@pytest.mark.parametrize(
    ("symbol", "charge", "radius_angstrom"),
    [
        ("Li", 1, 0.76),
        ("Na", 1, 1.02),
        ("K", 1, 1.38),
        ("Mg", 2, 0.72),
        ("Ca", 2, 1.0),
        ("Zn", 2, 0.74),
        ("Al", 3, 0.535),
    ],
)
def test_mobile_ions_have_shannons_radii(symbol: str, charge: int, radius_angstrom: float) -> None:
    table, number = element_table(), atomic_number(symbol)
    assert table.cation_charge[number] == charge
    assert table.cation_radius_angstrom[number] == radius_angstrom


@pytest.mark.parametrize(
    ("cation", "anion", "length_angstrom"),
    [
        ("Li", "O", 1.466),
        ("Na", "O", 1.803),
        ("Mg", "O", 1.693),
        ("Ca", "O", 1.967),
        ("P", "O", 1.617),
        ("Ti", "O", 1.815),
    ],
)
def test_bonds_of_valence_one_are_near_the_tabulated_lengths(cation: str, anion: str, length_angstrom: float) -> None:
    """The lengths are those of Brese and O'Keeffe (1991), fitted pair by pair; the table has one radius an element."""
    other = np.array([atomic_number(anion)])
    found = element_table().unit_bond_angstrom(atomic_number(cation), other)
    assert found == pytest.approx(length_angstrom, abs=0.085)
