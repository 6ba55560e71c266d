"""CIFs that contradict themselves, or are averages: they are read with a warning, and nothing is in the domain."""

from collections.abc import Mapping, Sequence

import pytest
from cifs import cif, crystal_of, said

from app.crystals.crystal import Crystal
from app.errors import InputError

#: Rock salt, whose density is 2.16 g/cm3.
SALT = ("Na1 Na 0 0 0 1", "Cl1 Cl 0.5 0.5 0.5 1")
DENSITY = "exptl_crystal_density_diffrn"


def salt(items: Mapping[str, str], *, edge: float = 5.64, atoms: Sequence[str] = SALT) -> Crystal:
    """A crystal with other values in its file."""
    return crystal_of(cif(cell=(edge,), atoms=atoms, symbol="F m -3 m", operations="F m -3 m", **items))


MODULATIONS = {
    "dimension": "_cell_modulation_dimension 1\n",
    "wave vector": "loop_\n_cell_wave_vector_seq_id\n_cell_wave_vector_z\n1 0.34\n",
    "superspace": (
        "loop_\n_space_group_symop_ssg_id\n_space_group_symop_ssg_operation_algebraic\n"
        "1 x1,x2,x3,x4\n2 -x1,-x2,-x3,-x4\n"
    ),
}


@pytest.mark.parametrize("how", MODULATIONS)
def test_of_a_modulated_structure_the_average_is_read_in_doubt(how: str) -> None:
    text = cif(cell=(5.64,), atoms=SALT, symbol="F m -3 m").replace("loop_\n", f"{MODULATIONS[how]}loop_\n", 1)
    read = crystal_of(text)
    assert read.formula == "Cl4 Na4"
    assert "The structure of made-up.cif is modulated; its average was read" in said(read)
    assert read.doubts == ("the structure is modulated, and its average was read",)


def test_a_structure_without_modulation_may_say_so() -> None:
    assert salt({"cell_modulation_dimension": "0"}).doubts == ()


def test_operations_of_superspace_alone_are_refused_as_a_modulated_structure() -> None:
    text = cif(cell=(5.64,), atoms=SALT).replace("loop_\n", f"{MODULATIONS['superspace']}loop_\n", 1)
    with pytest.raises(InputError, match="is modulated, and it gives no symmetry") as caught:
        crystal_of(text)
    assert caught.value.kind == "no-space-group"


@pytest.mark.parametrize(
    ("formula", "said_of_it"),
    [
        ("K Cl", "its atoms have Na, which its formula, K Cl, lacks, and the formula has K, which they lack"),
        ("Cl", "its atoms have Na, which its formula, Cl, lacks"),
        ("Mn Br O4", "its atoms have Cl, Na, which its formula, Mn Br O4, lacks, and the formula has Br, Mn, O, which"),
    ],
)
@pytest.mark.parametrize("z", [{}, {"cell_formula_units_Z": "4"}])
def test_atoms_and_formula_of_different_elements_are_in_doubt(formula: str, said_of_it: str, z: dict[str, str]) -> None:
    read = salt({"chemical_formula_sum": formula, **z})
    assert f"made-up.cif contradicts itself: {said_of_it}" in said(read)
    assert read.doubts[0].startswith(said_of_it)
    assert "fewer" not in said(read)
    assert "not located" not in said(read)


@pytest.mark.parametrize("formula", ["Na Cl", "NaCl", "NA CL", "NA1 CL1", "Na Cl x", "(Na Cl)4"])
def test_the_same_elements_in_other_spellings_are_no_contradiction(formula: str) -> None:
    assert salt({"chemical_formula_sum": formula}).doubts == ()


def test_an_element_that_the_formula_alone_has_is_missing_as_before() -> None:
    read = crystal_of(cif(cell=(5.64,), atoms=SALT, symbol="P 1", chemical_formula_sum="Na Cl H2") + "_x 1\n")
    assert (read.doubts, read.warnings) == ((), ())
    with pytest.raises(InputError, match="fewer Br atoms are listed") as caught:
        crystal_of(cif(cell=(5.64,), atoms=SALT, symbol="P 1", chemical_formula_sum="Na Cl Br"))
    assert caught.value.kind == "truncated-cif"


@pytest.mark.parametrize(("symbol", "formula"), [("D", "Li D"), ("D", "Li H"), ("H", "Li D")])
def test_deuterium_is_hydrogen_in_both(symbol: str, formula: str) -> None:
    atoms = ("Li1 Li 0 0 0 1", f"{symbol}1 {symbol} 0.5 0.5 0.5 1")
    assert salt({"chemical_formula_sum": formula}, edge=4.08, atoms=atoms).doubts == ()


@pytest.mark.parametrize(("edge", "doubted"), [(5.64, False), (5.66, False), (5.75, True), (5.53, True)])
def test_a_density_that_is_not_that_of_cell_and_atoms_is_in_doubt(edge: float, *, doubted: bool) -> None:
    read = salt({DENSITY: "2.164(3)"}, edge=edge)
    assert (f"g/cm3, and _{DENSITY} is 2.164" in said(read)) == doubted
    assert len(read.doubts) == doubted


def test_a_density_shows_a_wrong_element_but_not_hydrogen_without_a_position() -> None:
    assert "a density of 2.76 g/cm3" in salt({DENSITY: "2.164"}, atoms=("K1 K 0 0 0 1", SALT[1])).doubts[0]
    hydroxide = ("Na1 Na 0 0 0 1", "O1 OH 0.5 0.5 0.5 1")
    assert salt({DENSITY: "3.0"}, atoms=hydroxide).doubts == ()
    oxide = ("Na1 Na 0 0 0 1", "O1 O 0.5 0.5 0.5 1")
    assert salt({"chemical_formula_sum": "Na O H", DENSITY: "3.0"}, atoms=oxide).doubts == ()


@pytest.mark.parametrize("other", ["2164", "?", "-1", "nan", "dense"])
def test_a_density_in_another_unit_or_none_is_not_compared(other: str) -> None:
    assert salt({DENSITY: other}).doubts == ()


@pytest.mark.parametrize(
    ("atoms", "doubted"),
    [
        (("Na1 K 0 0 0 1", "Cl1 Cl 0.5 0.5 0.5 1"), "its atom Na1 has the type K"),
        (("Fe1 TM 0 0 0 1", "Cl1 Cl 0.5 0.5 0.5 1"), "its atom Fe1 has the type Tm"),
        (("Na1 Na+ 0 0 0 1", "Cl_a Cl- 0.5 0.5 0.5 1"), None),
        (("Na1 Na 0 0 0 0.5", "Na1 K 0 0 0 0.5", "Cl1 Cl 0.5 0.5 0.5 1"), None),  # a shared place
        (("Na1 Na 0 0 0 0.5", "Ca1 K 0 0 0.001 0.5", "Cl1 Cl 0.5 0.5 0.5 1"), None),  # the same, rounded apart
        (("Fe_2 Na 0 0 0 1", "Cl1 Cl 0.5 0.5 0.5 1"), "its atom Fe_2 has the type Na"),
        (("FeA Na 0 0 0 1", "Cl1 Cl 0.5 0.5 0.5 1"), "its atom FeA has the type Na"),
        (("Me1 Na 0 0 0 1", "X1 Cl 0.5 0.5 0.5 1"), None),  # no elements
        (("Re1 Na 0 0 0 1", "Cl1 Cl 0.5 0.5 0.5 1"), None),  # a rare earth
        (("Ca1 C 0 0 0 1", "Ho1 H 0.5 0.5 0.5 1"), None),  # carbon and hydrogen of a molecule
        (("B1 Na 0 0 0 1", "Cl1 Cl 0.5 0.5 0.5 1"), None),  # a kind of site
    ],
)
def test_a_label_of_another_element_than_its_type_is_in_doubt(atoms: Sequence[str], doubted: str | None) -> None:
    read = salt({}, atoms=atoms)
    assert read.doubts == (() if doubted is None else (doubted,))
    assert ("The type was read: which is right?" in said(read)) == (doubted is not None)


@pytest.mark.parametrize("formula", [{}, {"chemical_formula_sum": "Na Cl"}])
def test_a_label_that_the_formula_contradicts_too_is_in_doubt(formula: Mapping[str, str]) -> None:
    """Only the label was changed."""
    read = salt(formula, atoms=("Mn1 Na 0 0 0 1", "Cl1 Cl 0.5 0.5 0.5 1"))
    assert read.doubts == ("its atom Mn1 has the type Na",)
