"""No row of a CIF is lost: it is in the crystal, or a warning names it and says why not, or the file is refused."""

import pytest
from cifs import COLUMNS, cif, crystal_of, said

from app.errors import InputError

BOX = (8.0,)


def read_row(row: str, **items: str) -> tuple[str, str]:
    """The formula beside two oxygen atoms, and the warnings."""
    atoms = (row, "O1 O 0.5 0.5 0.5 1", "O2 O 0.5 0.5 0 1")
    crystal = crystal_of(cif(cell=BOX, atoms=atoms, symbol="P 1", **items))
    return crystal.formula, said(crystal)


@pytest.mark.parametrize(
    ("symbol", "element"),
    [
        ("Li+1", "Li"),
        ("Li1+", "Li"),
        ("Li+", "Li"),
        ("LI", "Li"),
        ("li", "Li"),
        ("Fe3+", "Fe"),
        ("FE", "Fe"),
        ("Mn+3.5", "Mn"),
        ("Cl-", "Cl"),
        ("D", "H"),
        ("Siva", "Si"),
        ("Cval", "C"),
        ("S2-", "S"),
        ("Ho3+", "Ho"),
        ("Co", "Co"),
        ("CO", "Co"),
        ("Li(1)", "Li"),
        ("S(1A)", "S"),
        ("Li_sv", "Li"),
        ("Na_pv", "Na"),
        ("Ga_d_GW", "Ga"),
    ],
)
def test_symbols_of_elements_in_the_ways_they_are_written(symbol: str, element: str) -> None:
    formula, warnings = read_row(f"X1 {symbol} 0 0 0 1")
    assert formula in {f"{element}1 O2", f"O2 {element}1"}
    assert warnings == ""


@pytest.mark.parametrize(
    ("symbol", "element"), [("OH", "O"), ("OW", "O"), ("H2O", "O"), ("Wat", "O"), ("NH4", "N"), ("BH4", "B")]
)
def test_a_molecule_in_one_symbol_is_its_heavy_atom_and_the_hydrogen_is_missing(symbol: str, element: str) -> None:
    formula, warnings = read_row(f"X1 {symbol} 0 0 0 1")
    assert formula == ("O3" if element == "O" else f"{element}1 O2")
    assert f"Hydrogen without a position is missing from made-up.cif: X1 was read as {element}." in warnings


@pytest.mark.parametrize("label", ["Ow1", "OW", "O1W", "O12w", "Wat1"])
@pytest.mark.parametrize("symbol", ["?", "O"])
def test_a_label_of_water_is_an_oxygen_whose_hydrogen_is_missing(label: str, symbol: str) -> None:
    formula, warnings = read_row(f"{label} {symbol} 0 0 0 1")
    assert formula == "O3"
    assert f"Hydrogen without a position is missing from made-up.cif: {label} was read as O." in warnings
    # such as oxygen beside tungsten
    assert "Hydrogen" not in read_row(f"{label} O 0 0 0 1", chemical_formula_sum="O3")[1]


def test_the_formula_decides_between_holmium_and_hydroxide() -> None:
    assert read_row("X1 HO 0 0 0 1", chemical_formula_sum="Ho O2")[0] == "Ho1 O2"
    assert read_row("X1 HO 0 0 0 1", chemical_formula_sum="H O3")[0] == "O3"


@pytest.mark.parametrize(
    ("symbol", "formula"),
    [
        ("'0.75Si + 0.25Al'", "Al0.25 O2 Si0.75"),
        ("0.75Si+0.25Al", "Al0.25 O2 Si0.75"),
        ("'0.5Fe3+ + 0.5Al3+'", "Al0.5 Fe0.5 O2"),
        ("Si0.75Al0.25", "Al0.25 O2 Si0.75"),
        ("0.6Li", "Li0.6 O2"),
    ],
)
def test_symbols_with_shares_are_shared_sites(symbol: str, formula: str) -> None:
    assert read_row(f"X1 {symbol} 0 0 0 1") == (formula, "")
    halved = read_row(f"X1 {symbol} 0 0 0 0.5")[0]
    assert halved != formula


def test_shares_of_more_than_one_atom_are_refused() -> None:
    with pytest.raises(InputError, match=r"add up to 1\.5") as caught:
        read_row("X1 '0.75Si + 0.75Al' 0 0 0 1")
    assert caught.value.kind == "occupancy-above-one"


@pytest.mark.parametrize(
    ("label", "formula", "element"),
    [
        ("Li1", "", "Li"),
        ("Ca1", "", "Ca"),
        ("CA1", "Ca O2", "Ca"),
        ("CA1", "C O2", "C"),
        ("C1", "", "C"),
        ("NA2", "Na O2", "Na"),
        ("NA2", "N O2", "N"),
        ("D1", "", "H"),
    ],
)
def test_a_row_without_a_symbol_is_the_element_of_its_label(label: str, formula: str, element: str) -> None:
    items = {"chemical_formula_sum": formula} if formula else {}
    assert read_row(f"{label} ? 0 0 0 1", **items)[0] == f"{element}1 O2"
    atoms = (f"{label} 0 0 0", "O1 0.5 0.5 0.5", "O2 0.5 0.5 0")
    columns = ("label", "fract_x", "fract_y", "fract_z")
    assert crystal_of(cif(cell=BOX, atoms=atoms, symbol="P 1", columns=columns, **items)).formula == f"{element}1 O2"


@pytest.mark.parametrize(
    "row", ["DUM1 Dum 0 0 0 1", "Cg1 ? 0 0 0 1", "Va1 Va 0 0 0 0.5", "X1 X 0 0 0 1", "X1 Xx 0 0 0 1", "Q1 . 0 0 0 1"]
)
def test_dummies_centroids_and_vacancies_are_left_out_with_a_warning(row: str) -> None:
    formula, warnings = read_row(row)
    assert formula == "O2"
    assert warnings == f"Left out of made-up.cif: {row.split(maxsplit=1)[0]} (a dummy, a centroid or a vacancy)."


def test_a_row_that_is_flagged_as_a_dummy_is_left_out() -> None:
    columns = ("label", "type_symbol", "fract_x", "fract_y", "fract_z", "calc_flag")
    atoms = ("C1 C 0 0 0 dum", "O1 O 0.5 0.5 0.5 d")
    crystal = crystal_of(cif(cell=BOX, atoms=atoms, symbol="P 1", columns=columns))
    assert crystal.formula == "O1"
    assert "C1" in said(crystal)


def test_a_row_with_occupancy_zero_is_left_out_with_a_warning() -> None:
    assert read_row("Li1 Li 0 0 0 0")[0] == "O2"
    assert "Li1 (occupancy zero)" in read_row("Li1 Li 0 0 0 0")[1]


@pytest.mark.parametrize(
    ("occupancy", "amount"), [("1.000(4)", "1"), ("1.02", "1"), ("0.5(1)", "0.5"), ("?", "1"), (".", "1")]
)
def test_occupancies(occupancy: str, amount: str) -> None:
    assert read_row(f"Li1 Li 0 0 0 {occupancy}") == (f"Li{amount} O2", "")


@pytest.mark.parametrize("occupancy", ["1.2", "50", "100"])
def test_an_occupancy_above_one_is_refused_with_a_hint(occupancy: str) -> None:
    with pytest.raises(InputError, match="has an occupancy of") as caught:
        read_row(f"Li1 Li 0 0 0 {occupancy}")
    assert caught.value.kind == "occupancy-above-one"
    assert "not per cent" in str(caught.value.expected)


def test_an_unknown_symbol_is_refused_and_not_passed_over() -> None:
    for row in ("T1 T 0 0 0 1", "M1 M 0 0 0 1", "X1 Si/Al 0 0 0 1", "T1 ? 0 0 0 1", "A1 CN 0 0 0 1"):
        with pytest.raises(InputError) as caught:
            read_row(row)
        assert caught.value.kind in {"unknown-element", "element-not-covered"}, row
        assert "row 1 of its atoms" in str(caught.value.where)


def test_nothing_but_rows_without_atoms_is_refused() -> None:
    with pytest.raises(InputError, match="No row") as caught:
        crystal_of(cif(cell=BOX, atoms=("H1 H ? ? ? 1",), symbol="P 1"))
    assert caught.value.kind == "empty-site"


def test_values_of_several_words_without_quotes_are_read() -> None:
    text = cif(cell=BOX, atoms=("Li1 Li 0 0 0 1", "O1 O 0.5 0.5 0.5 1"), symbol="P 1")
    text = text.replace(
        "'P 1'", "P 1\n_publ_author_name Anna Nobody, O'Neill # of nowhere\n_chemical_formula_sum Li1 O1"
    )
    assert crystal_of(text).formula == "Li1 O1"
    assert crystal_of(text.replace("data_made_up", "data_made up of words")).formula == "Li1 O1"
    assert crystal_of("made by hand\n" + text).formula == "Li1 O1"


def test_a_line_that_is_no_cif_is_named() -> None:
    text = cif(cell=BOX, atoms=("Li1 Li 0 0 0 1",), symbol="P 1").replace("loop_\n_atom", "12 13\nloop_\n_atom")
    with pytest.raises(InputError, match="line 9, '12 13'") as caught:
        crystal_of(text)
    assert caught.value.kind == "unreadable-cif"
    assert str(caught.value.where).endswith("line 9")


def test_fields_of_one_row_in_two_tables_are_refused() -> None:
    text = cif(cell=BOX, atoms=("Li1 Li 0 0 0 1", "O1 O 0.5 0.5 0.5 1"), symbol="P 1")
    text = text.replace("_atom_site_occupancy\n", "").replace(" 1\n", "\n") + "loop_\n_atom_site_occupancy\n1\n"
    with pytest.raises(InputError, match="has 1 values, and there are 2 atoms"):
        crystal_of(text)


def test_cartesian_coordinates_alone_are_refused() -> None:
    columns = ("label", "type_symbol", "Cartn_x", "Cartn_y", "Cartn_z", "occupancy")
    with pytest.raises(InputError, match="Cartesian coordinates alone"):
        crystal_of(cif(cell=BOX, atoms=("Li1 Li 0 0 0 1",), symbol="P 1", columns=columns))


def test_rows_of_one_place_share_it_and_full_ones_are_refused() -> None:
    mixed = cif(cell=BOX, atoms=("Fe1 Fe 0.3333 0 0 0.6", "Mn1 Mn 0.33333 0 0 0.4"), symbol="P 1")
    assert dict(crystal_of(mixed).sites[0].species) == pytest.approx({"Fe": 0.6, "Mn": 0.4})
    rounded = mixed.replace("0.6\n", "0.63\n")
    assert sum(amount for _, amount in crystal_of(rounded).sites[0].species) == pytest.approx(1.0)
    with pytest.raises(InputError, match="several atoms in one place: Fe1 and Mn1 at") as caught:
        crystal_of(mixed.replace("0.6\n", "1\n"))
    assert caught.value.kind == "atoms-overlap"


def test_atoms_that_symmetry_makes_of_other_rows_are_taken_once_with_a_warning() -> None:
    atoms = ("Li1 Li 0.1 0.2 0.3 1", "Li2 Li 0.9 0.8 0.7 1", "O1 O 0.5 0.5 0.5 1")
    crystal = crystal_of(cif(cell=(8, 7, 9, 80, 85, 95), atoms=atoms, symbol="P -1", operations="P -1"))
    assert crystal.formula == "Li2 O1"
    assert "Li2 are symmetry copies of other rows" in said(crystal)


def test_atoms_on_both_faces_of_the_cell_are_taken_once_with_a_warning() -> None:
    corners = [f"Li{k} Li {k & 1} {k >> 1 & 1} {k >> 2}.0000 1" for k in range(8)]
    crystal = crystal_of(cif(cell=BOX, atoms=(*corners, "O1 O 0.5 0.5 0.5 1"), symbol="P 1"))
    assert crystal.formula == "Li1 O1"
    assert "Li1, Li2, Li3, Li4, Li5, Li6, Li7 are other rows moved by whole cells" in said(crystal)
    for others in (("Na2 Na 1 0 0 1",), ("Li2 Li 0 0 0 1",)):  # another element; the same place twice
        with pytest.raises(InputError, match="several atoms in one place"):
            crystal_of(cif(cell=BOX, atoms=("Li1 Li 0 0 0 1", *others), symbol="P 1"))


def test_a_split_atom_off_its_symmetry_element_keeps_both_places() -> None:
    atoms = ("Li1 Li 0.03 0.2 0.3 0.5", "O1 O 0.5 0.5 0.5 1")
    read = crystal_of(cif(cell=(8, 7, 9, 90, 90, 90), atoms=atoms, symbol="P m m m", operations="P m m m"))
    assert sum(dict(site.species).get("Li", 0) == 0.5 for site in read.sites) == 8
    full = crystal_of(cif(cell=(8, 7, 9, 90, 90, 90), atoms=("Li1 Li 0.0031 0.2 0.3 1", atoms[1]), symbol="P m m m"))
    assert full.formula == "Li4 O1"
    assert "Li1 was moved by up to 0.025 angstrom" in said(full)


def test_fractions_are_coordinates_without_rounding() -> None:
    cell = (3.65, 3.65, 3.88, 90, 90, 120)
    for third, two_thirds in (("1/3", "2/3"), ("'-2/3'", "-1/3"), ("'1 / 3'", "+2/3")):
        atoms = ("Li1 Li 0 0 1/2 1", f"Li2 Li {third} {two_thirds} 0 1", "N1 N 0 0 0 1")
        read = crystal_of(cif(cell=cell, atoms=atoms, symbol="P 6/m m m", operations="P 6/m m m"))
        assert (read.formula, read.warnings) == ("Li3 N1", ())
    split = (
        "Li1 Li 0 0 99/200 0.5",
        "N1 N 0 0 0 1",
    )  # 0.02 angstrom off a mirror plane
    assert len(crystal_of(cif(cell=cell, atoms=split, symbol="P 6/m m m", operations="P 6/m m m")).sites) == 3


@pytest.mark.parametrize("text", ["1/0", "1/", "/2", "1/2/3", "1//2", "1000000/3", "1/2x"])
def test_what_is_no_fraction_is_no_coordinate(text: str) -> None:
    with pytest.raises(InputError, match="has no position") as caught:
        read_row(f"Li1 Li 0 0 {text} 1")
    assert caught.value.where == "made-up.cif, _atom_site_fract_z, row 1"


@pytest.mark.parametrize("symbol", ["X", "X1", "Xx", "Q", "Q1", "Q12"])
def test_points_and_peaks_that_are_no_atoms_are_left_out(symbol: str) -> None:
    formula, warnings = read_row(f"Q7 {symbol} 0 0 0 1")
    assert (formula, warnings) == ("O2", "Left out of made-up.cif: Q7 (a dummy, a centroid or a vacancy).")


def test_an_unknown_element_is_named_with_its_row_and_what_is_missing() -> None:
    with pytest.raises(InputError, match=r'"Qy" is .* It is the _atom_site_type_symbol of M1, row 1 of the atoms\.'):
        read_row("M1 Qy 0 0 0 1")
    with pytest.raises(InputError, match=r"the label of row 1 of the atoms, and _atom_site_type_symbol is \? there"):
        read_row("M1 ? 0 0 0 1")
    columns = [column for column in COLUMNS if column != "type_symbol"]
    with pytest.raises(
        InputError, match="row 2 of the atoms, and the column _atom_site_type_symbol is missing"
    ) as caught:
        crystal_of(cif(cell=BOX, atoms=("O1 0.5 0.5 0.5 1", "M1 0 0 0 1"), columns=columns, symbol="P 1"))
    assert caught.value.kind == "unknown-element"
    assert "labels that begin with one" in (caught.value.expected or "")


@pytest.mark.parametrize("tag", ["_cell_angle_gamma", "_cell_length_b"])
def test_a_cell_without_one_of_its_numbers_is_not_cut_short_where_the_file_goes_on(tag: str) -> None:
    whole = cif(cell=BOX, atoms=("O1 O 0.5 0.5 0.5 1",), symbol="P 1")
    with pytest.raises(InputError, match=rf"^made-up\.cif has no {tag}\.") as caught:
        crystal_of("".join(line for line in whole.splitlines(keepends=True) if not line.startswith(tag)))
    assert (caught.value.kind, caught.value.where) == ("unreadable-cif", f"made-up.cif, {tag}")


def test_a_file_that_ends_in_its_cell_is_cut_short() -> None:
    head, *lines = cif(cell=BOX, atoms=("O1 O 0.5 0.5 0.5 1",), symbol="P 1").splitlines(keepends=True)
    cell = [line for line in lines if line.startswith("_cell")]
    rest = [line for line in lines if not line.startswith("_cell")]
    with pytest.raises(InputError, match="cut short: it has no _cell_angle_gamma"):
        crystal_of("".join([head, *rest, *cell[:-1]]))
