"""Crystals written anew in another setting, without operations, are the same crystals: `benchmarks.rewritten_cifs`."""

from pathlib import Path

from cifs import cif, crystal_of

from app.models.registry import Registry
from benchmarks.rewritten_cifs import difference, rewritten, screening_crystals

SEED = 16
#: Small cells, so that a barrier takes a second.
MOST_ATOMS = 24


def test_twenty_crystals_keep_their_barriers_in_another_setting(data_dir: Path, repository: Path) -> None:
    predictor = Registry.open(repository / "model_store", "cpu", default="default").predictor()
    outcomes = [
        rewritten(name, ion, text, SEED, predictor)
        for name, ion, text in screening_crystals(data_dir, 20, SEED, most_atoms=MOST_ATOMS)
    ]
    assert len(outcomes) == 20
    assert [one for one in outcomes if one.result == "different"] == []
    assert sum(one.result == "refused" for one in outcomes) <= 1, outcomes


def test_the_comparison_sees_an_atom_that_is_elsewhere() -> None:
    def salt(place: str) -> str:
        return cif(cell=(5.64,), atoms=("Na1 Na 0 0 0 1", f"Cl1 Cl {place} 1"), symbol="F m -3 m")

    whole = crystal_of(salt("0.5 0.5 0.5"))
    assert difference(whole, whole) == ""
    assert difference(whole, crystal_of(salt("0.25 0.25 0.25"))) != ""
    assert "atoms in 100 cubic angstrom" in difference(whole, crystal_of(salt("0.5 0.5 0.5").replace("5.64", "5.7")))
