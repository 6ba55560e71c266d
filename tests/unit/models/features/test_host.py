import numpy as np
import pytest
from bands import rock_salt

from app.crystals.band import Band
from app.models.features.host import CENTRES, host_atoms


def test_magnesium_oxide_has_valences_of_two_that_cations_and_anions_share() -> None:
    host = host_atoms(rock_salt())
    magnesium = host.numbers == 12
    assert host.anion[magnesium] == pytest.approx(0.0)
    assert host.anion[~magnesium] == pytest.approx(1.0)
    assert host.valence[magnesium] == pytest.approx(2.0, abs=0.3)
    assert host.held[magnesium] == pytest.approx(host.held[~magnesium])
    assert host.charge[~magnesium] == pytest.approx(-2.0)


def test_the_role_of_a_non_metal_follows_its_neighbours() -> None:
    """Sulfur is a cation with oxygen at 1.5 angstrom and an anion without, and changes over smoothly."""
    shares = [float(host_atoms(pair("S", "O", length)).anion[0]) for length in np.linspace(1.5, 2.5, 41)]
    assert shares[0] == 0.0
    assert shares[-1] == 1.0
    assert np.abs(np.diff(shares)).max() < 0.15
    assert float(host_atoms(pair("S", "Fe", 1.5)).anion[0]) == 1.0


def test_an_anion_knows_its_polyanion() -> None:
    bonded = host_atoms(pair("P", "O", 1.55)).bonded
    assert bonded[1, CENTRES.index("P")] == 1.0
    assert bonded.sum() == 1.0
    assert host_atoms(pair("Ti", "O", 1.9)).bonded.sum() == 0.0


def pair(first: str, second: str, length_angstrom: float) -> Band:
    return Band(
        lattice_angstrom=np.eye(3) * 12.0,
        host_species=(first, second),
        host_frac_coords=np.array([[0.0, 0.0, 0.0], [length_angstrom / 12.0, 0.0, 0.0]]),
        ion="Li",
        image_frac_coords=np.array([[0.5, 0.0, 0.0], [0.5, 0.2, 0.0]]),
    )
