"""Crystals written anew in another setting, without operations, are the same crystals: `benchmarks.rewritten_cifs`.

All twenty are compared; of one in three the barrier is as well, of all in `make nightly`.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

from cifs import cif, crystal_of

from app.models.registry import Registry
from benchmarks.rewritten_cifs import difference, rewritten, screening_crystals

COUNT = 20
SEED = 16
#: Small cells, so that a barrier takes a second.
MOST_ATOMS = 24


def test_twenty_crystals_keep_their_barriers_in_another_setting(
    data_dir: Path, repository: Path, a_third: Callable[[Iterable[int]], list[int]]
) -> None:
    predictor = Registry.open(repository / "model_store", "cpu", default="default").predictor()
    with_barrier = a_third(range(COUNT))
    outcomes = [
        rewritten(name, ion, text, SEED, predictor if number in with_barrier else None)
        for number, (name, ion, text) in enumerate(screening_crystals(data_dir, COUNT, SEED, most_atoms=MOST_ATOMS))
    ]
    assert len(outcomes) == COUNT
    assert [one for one in outcomes if one.result == "different"] == []
    assert sum(one.result == "refused" for one in outcomes) <= 1, outcomes


def test_the_comparison_sees_an_atom_that_is_elsewhere() -> None:
    def salt(place: str) -> str:
        return cif(cell=(5.64,), atoms=("Na1 Na 0 0 0 1", f"Cl1 Cl {place} 1"), symbol="F m -3 m")

    whole = crystal_of(salt("0.5 0.5 0.5"))
    assert difference(whole, whole) == ""
    assert difference(whole, crystal_of(salt("0.25 0.25 0.25"))) != ""
    assert "atoms in 100 cubic angstrom" in difference(whole, crystal_of(salt("0.5 0.5 0.5").replace("5.64", "5.7")))
