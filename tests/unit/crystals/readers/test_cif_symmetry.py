"""What a CIF says of its symmetry in several places: operations first, checked; contradictions settled or refused."""

import gemmi
import pytest
from cifs import cif, crystal_of, places, said

from app.crystals.limits import Limits
from app.crystals.readers import File, read_end_points
from app.errors import InputError

CELL = (8.1, 6.5, 7.3, 90, 105, 90)
ATOMS = ("Li1 Li 0.12 0.23 0.31 1", "O1 O 0.4 0.07 0.2 1")


def refusal(text: str) -> InputError:
    with pytest.raises(InputError) as caught:
        crystal_of(text)
    return caught.value


def operations(symbol: str) -> list[str]:
    return [one.triplet() for one in gemmi.SpaceGroup(symbol).operations()]


def test_operations_in_a_setting_that_no_table_has_are_taken_as_they_are() -> None:
    shifted = ["x,y,z", "-x+1/4,-y+1/4,-z+1/4"]
    read = crystal_of(cif(cell=CELL, atoms=ATOMS, symbol="P -1", operations=shifted))
    assert read.formula == "Li2 O2"
    assert read.warnings == ()
    assert any(site.frac_coords == pytest.approx((0.13, 0.02, 0.94)) for site in read.sites)


def test_operations_are_read_in_the_ways_they_are_written() -> None:
    written = ["X, Y, Z", "-x+0.5, 1/2+y, -z+1/2", "-x,-y,-z", "x+-1/2, .5-y, z+0.50"]
    plain = crystal_of(cif(cell=CELL, atoms=ATOMS, symbol="P 21/n"))
    assert places(crystal_of(cif(cell=CELL, atoms=ATOMS, symbol="P 21/n", operations=written))) == places(plain)


@pytest.mark.parametrize("operation", ["x, y, z", "-x, -y, -z+1/2", "x ,y ,z"])
def test_operations_with_blanks_and_without_quotes_ask_for_them(operation: str) -> None:
    text = cif(cell=CELL, atoms=ATOMS)
    assert text.count("loop_") == 1
    table = f"loop_\n_space_group_symop_operation_xyz\n{operation}\n"
    refused = refusal(text.replace("loop_", f"{table}loop_"))
    assert "an operation with blanks needs quotes around it" in str(refused)
    assert refused.kind == "unreadable-cif"
    assert "with quotes" in str(refused.expected)


def test_a_missing_operation_is_added_where_the_symbol_confirms_it_and_else_named() -> None:
    most = operations("P 1 21/n 1")[:-1]
    read = crystal_of(cif(cell=CELL, atoms=ATOMS, symbol="P 21/n", operations=most))
    assert read.formula == "Li4 O4"
    assert "lists 3 of the 4 symmetry operations" in said(read)
    error = refusal(cif(cell=CELL, atoms=ATOMS, operations=most))
    assert error.kind == "not-a-group"
    assert "which is not listed" in error.detail


@pytest.mark.parametrize("broken", ["2*x,y,z", "x,x,z", "x,y", "x,y,z+1/5", "x,y,w", "x+y,y,z"])
def test_what_is_no_symmetry_operation_is_named(broken: str) -> None:
    error = refusal(cif(cell=CELL, atoms=ATOMS, operations=["x,y,z", broken]))
    assert error.kind in {"unreadable-cif", "not-a-group"}


def test_magnetic_operations_are_read_without_time_reversal() -> None:
    text = cif(cell=CELL, atoms=ATOMS, operations=["x,y,z,+1", "-x,-y,-z,-1"])
    text = text.replace("_symmetry_equiv_pos_as_xyz", "_space_group_symop_magn_operation.xyz")
    assert crystal_of(text).formula == "Li2 O2"
    centred = text.replace(
        "loop_\n_atom", "loop_\n_space_group_symop_magn_centering.xyz\n'x,y,z,+1'\n'x+1/2,y,z,-1'\nloop_\n_atom"
    )
    assert crystal_of(centred).formula == "Li4 O4"


def test_a_file_without_symmetry_is_refused_and_one_that_says_p1_is_read() -> None:
    assert refusal(cif(cell=CELL, atoms=ATOMS)).kind == "no-space-group"
    assert "P 1" in str(refusal(cif(cell=CELL, atoms=ATOMS)).expected)
    assert crystal_of(cif(cell=CELL, atoms=ATOMS, symbol="P 1")).formula == "Li1 O1"
    assert crystal_of(cif(cell=CELL, atoms=ATOMS, symmetry_Int_Tables_number="1")).formula == "Li1 O1"
    assert crystal_of(cif(cell=CELL, atoms=ATOMS, space_group_name_Hall="P 1")).formula == "Li1 O1"


def test_an_image_of_a_band_without_symmetry_lists_every_atom() -> None:
    ends = [cif(cell=(8.0,), atoms=(f"Li1 Li {x} 0 0 1", "O1 O 0.5 0.5 0.5 1")) for x in ("0", "0.3")]
    initial, final = (File(name=f"{k}.cif", content=text.encode()) for k, text in enumerate(ends))
    band = read_end_points(initial, final, Limits()).band
    assert (band.ion, band.host_species) == ("Li", ("O",))


def test_an_unknown_symbol_is_refused_with_what_the_file_says() -> None:
    error = refusal(cif(cell=CELL, atoms=ATOMS, symbol="P 21/q"))
    assert error.kind == "unknown-space-group"
    assert "'P 21/q'" in error.detail
    listed = crystal_of(cif(cell=CELL, atoms=ATOMS, symbol="P 21/q", operations="P 1 21/c 1"))
    assert listed.formula == "Li4 O4"


def test_a_symbol_that_fits_several_settings_is_refused_with_their_names() -> None:
    error = refusal(cif(cell=(8.0,), atoms=("Li1 Li 0.11 0.23 0.37 1",), symbol="F d -3 m"))
    assert error.kind == "ambiguous-space-group"
    assert "F d -3 m:1, F d -3 m:2" in error.detail
    assert "operations" in str(error.expected)


def test_a_cell_without_the_symmetry_of_its_group_is_refused() -> None:
    for text in (
        cif(cell=CELL, atoms=ATOMS, symbol="F m -3 m"),
        cif(cell=CELL, atoms=ATOMS, symbol="F m -3 m", operations="F m -3 m"),
        cif(cell=CELL, atoms=ATOMS, symbol="P 21/c 1 1"),
    ):
        error = refusal(text)
        assert error.kind == "symmetry-disagrees"
        assert "does not have the symmetry of" in error.detail


def test_the_cell_tells_the_unique_axis_and_without_it_nothing_is_guessed() -> None:
    assert crystal_of(cif(cell=CELL, atoms=ATOMS, symbol="P 21/c")).formula == "Li4 O4"
    turned = crystal_of(cif(cell=(9.2, 7.3, 8.1, 90, 90, 105), atoms=ATOMS, symbol="P 21/b"))
    assert turned.formula == "Li4 O4"
    assert refusal(cif(cell=(8.1, 9.2, 7.3, 90, 90, 90), atoms=ATOMS, symbol="P 21/c")).kind == "ambiguous-space-group"
    # the name of the space group, for a cell with another axis: which glide is meant is open
    assert refusal(cif(cell=(8.1, 9.2, 7.3, 105, 90, 90), atoms=ATOMS, symbol="P 21/c")).kind == "ambiguous-space-group"


def test_names_that_contradict_each_other_are_refused_or_settled_by_the_formula() -> None:
    text = cif(cell=CELL, atoms=ATOMS, symbol="P 21/c", symmetry_Int_Tables_number="15")
    assert refusal(text).kind == "symmetry-disagrees"
    assert "are of different space groups" in refusal(text).detail
    settled = text.replace("loop_", "_chemical_formula_sum 'Li O'\n_cell_formula_units_Z 4\nloop_", 1)
    assert crystal_of(settled).formula == "Li4 O4"
    assert "It was read as P 1 21/c 1, which alone agrees with" in said(crystal_of(settled))
    listed = cif(cell=CELL, atoms=ATOMS, symbol="P 21/c", operations="C 1 2/c 1")
    assert refusal(listed).kind == "symmetry-disagrees"


def test_numbers_of_sites_settle_between_two_origins() -> None:
    columns = ("label", "type_symbol", "symmetry_multiplicity", "fract_x", "fract_y", "fract_z")
    for multiplicity, count in (("16", 16), ("8", 8)):
        atoms = (f"Li1 Li {multiplicity} 0.125 0.125 0.125",)
        text = cif(cell=(8.1,), atoms=atoms, symbol="F d -3 m", columns=columns)
        assert len(crystal_of(text).sites) == count
    for nonsense in ("9" * 5000, "many"):
        atoms = (f"Li1 Li {nonsense} 0.125 0.125 0.125",)
        text = cif(cell=(8.1,), atoms=atoms, symbol="F d -3 m", columns=columns)
        assert refusal(text).kind == "ambiguous-space-group", "it settles nothing"


def test_distances_settle_between_two_origins_of_a_real_structure() -> None:
    """Spinel, MgAl2O4, in its second origin; the first puts oxygen and aluminium on top of each other."""
    atoms = ("Mg1 Mg 0.125 0.125 0.125 1", "Al1 Al 0.5 0.5 0.5 1", "O1 O 0.2624 0.2624 0.2624 1")
    read = crystal_of(cif(cell=(8.083,), atoms=atoms, symbol="F d -3 m"))
    assert read.formula == "Al16 Mg8 O32"
    assert "It was read as F d -3 m:2, which alone agrees with the distances" in said(read)
    assert places(read) == places(crystal_of(cif(cell=(8.083,), atoms=atoms, symbol="F d -3 m :2")))


@pytest.mark.parametrize("origin", ["1", "2"])
def test_what_stands_beside_a_symbol_narrows_it(origin: str) -> None:
    spinel = ("Mg1 Mg 0.125 0.125 0.125 1", "O1 O 0.2624 0.2624 0.2624 1")
    if origin == "1":
        spinel = ("Mg1 Mg 0 0 0 1", "O1 O 0.3874 0.3874 0.3874 1")
    bare = cif(cell=(8.083,), atoms=spinel, symbol="F d -3 m")
    assert refusal(bare).kind == "ambiguous-space-group"
    for tag, value in (
        ("space_group_name_H-M_alt", f"F d -3 m :{origin}"),
        ("space_group_IT_coordinate_system_code", origin),
        ("space_group_name_Hall", {"1": "F 4d 2 3 -1d", "2": "-F 4vw 2vw 3"}[origin]),
    ):
        read = crystal_of(bare.replace("loop_", f"_{tag} '{value}'\nloop_", 1))
        assert read.formula == "Mg8 O32"


H_M, ALT, HALL = "symmetry_space_group_name_H-M", "space_group_name_H-M_alt", "space_group_name_Hall"
NUMBER, CODE = "space_group_IT_number", "space_group_IT_coordinate_system_code"


@pytest.mark.parametrize(
    ("names", "candidates"),
    [
        ({HALL: "-P 2ybc", H_M: "P 1 21/n 1"}, ("P 1 21/c 1", "P 1 21/n 1")),
        ({HALL: "-P 2ybc", H_M: "P 1 21/n 1", NUMBER: "14"}, ("P 1 21/c 1", "P 1 21/n 1")),
        ({HALL: "-P 2yn", ALT: "P 21/c"}, ("P 1 21/c 1", "P 1 21/n 1")),
        ({HALL: "-P 2yn", CODE: "b1"}, ("P 1 21/c 1", "P 1 21/n 1")),
        ({HALL: "-P 2ybc", NUMBER: "15"}, ("P 1 21/c 1", "C 1 2/c 1")),
        ({H_M: "P 1 21/n 1", CODE: "b1"}, ("P 1 21/c 1", "P 1 21/n 1")),
        ({ALT: "P 1 21/n 1", CODE: "b1", NUMBER: "14"}, ("P 1 21/c 1", "P 1 21/n 1")),
        ({H_M: "P 1 21/c 1", ALT: "P 1 21/n 1"}, ("P 1 21/c 1", "P 1 21/n 1")),
        ({H_M: "P 21/c", ALT: "P 21/n"}, ("P 1 21/c 1", "P 1 21/n 1")),
        ({H_M: "P 1 21/c 1", NUMBER: "15"}, ("P 1 21/c 1", "C 1 2/c 1")),
        ({H_M: "F d -3 m:2", CODE: "1"}, ("F d -3 m:1", "F d -3 m:2")),
        ({H_M: "F d -3 m:2", ALT: "F d -3 m:1"}, ("F d -3 m:1", "F d -3 m:2")),
        ({H_M: "F d -3 m Z", HALL: "F 4d 2 3 -1d"}, ("F d -3 m:1", "F d -3 m:2")),
    ],
)
def test_two_names_that_no_setting_has_are_refused_with_the_settings_they_mean(
    names: dict[str, str], candidates: tuple[str, ...]
) -> None:
    cell = (8.1,) if any(value.startswith("F") for value in names.values()) else CELL
    error = refusal(cif(cell=cell, atoms=ATOMS, **names))
    assert error.kind == "symmetry-disagrees"
    assert all(one in error.detail for one in candidates), error.detail
    assert all(repr(value) in error.detail or value in error.detail for value in names.values())
    assert "P 1 21/a 1" not in error.detail  # of the number 14 alone


@pytest.mark.parametrize(
    ("names", "symbol"),
    [
        ({H_M: "P 1 21/n 1", HALL: "-P 2yn", NUMBER: "14", CODE: "b2"}, "P 1 21/n 1"),
        ({H_M: "P 21/n", ALT: "P 1 21/n 1", NUMBER: "14"}, "P 1 21/n 1"),
        ({NUMBER: "14", CODE: "b2"}, "P 1 21/n 1"),
        ({HALL: "-P 2yn", NUMBER: "14"}, "P 1 21/n 1"),
        ({H_M: "F d -3 m", ALT: "F d -3 m :2", NUMBER: "227"}, "F d -3 m:2"),
        ({H_M: "F d -3 m", HALL: "-F 4vw 2vw 3", CODE: "2"}, "F d -3 m:2"),
        ({H_M: "F 4/m m m", NUMBER: "139"}, "F 4/m m m"),
    ],
)
def test_names_that_agree_are_read_without_a_warning(names: dict[str, str], symbol: str) -> None:
    cell, atoms = CELL, ATOMS
    if symbol.startswith("F"):
        cell, atoms = (8.083, 8.083, 8.083, 90, 90, 90), ("Mg1 Mg 0.25 0.25 0.25 1", "O1 O 0.5 0.5 0.5 1")
    read = crystal_of(cif(cell=cell, atoms=atoms, **names))
    assert read.warnings == ()
    assert places(read) == places(crystal_of(cif(cell=cell, atoms=atoms, operations=symbol)))


def test_of_names_that_contradict_each_other_the_one_that_the_cell_allows_is_read_with_a_warning() -> None:
    read = crystal_of(cif(cell=CELL, atoms=ATOMS, symbol="P 21/c", symmetry_Int_Tables_number="227"))
    assert "are of different space groups. It was read as P 1 21/c 1, which alone agrees with the cell." in said(read)


def test_a_cell_angle_a_little_off_90_degrees_leaves_the_symbol_its_unique_axis() -> None:
    cell = (8.1, 9.2, 7.3, 90.08, 105, 90)
    read = crystal_of(cif(cell=cell, atoms=ATOMS, symbol="P 21/c"))
    assert places(read) == places(crystal_of(cif(cell=cell, atoms=ATOMS, operations="P 1 21/c 1")))
    # here it may be the unique axis
    turned = cif(cell=(8.1, 9.2, 7.3, 90.08, 90, 90), atoms=ATOMS, symbol="P 21/c")
    assert refusal(turned).kind == "ambiguous-space-group"


@pytest.mark.parametrize(
    ("names", "listed", "meant"),
    [
        ({H_M: "P 1 21/n 1"}, "P 1 21/c 1", "P 1 21/n 1"),
        ({H_M: "P 21/n", NUMBER: "14"}, "P 1 21/c 1", "P 1 21/n 1"),
        ({HALL: "-P 2yn"}, "P 1 21/c 1", "P 1 21/n 1"),
        ({H_M: "P 21/c", CODE: "b2"}, "P 1 21/c 1", "P 1 21/n 1"),
        ({H_M: "P 1 21/c 1", NUMBER: "15"}, "P 1 21/c 1", "C 1 2/c 1"),
        ({H_M: "F d -3 m:2"}, "F d -3 m:1", "F d -3 m:2"),
        # what files give for the group, in whatever setting
        ({H_M: "P 21/c", NUMBER: "14"}, "P 1 21/n 1", None),
        ({H_M: "F d -3 m"}, "F d -3 m:1", None),
        ({H_M: "P 1 21/n 1", HALL: "-P 2yn", CODE: "b2"}, "P 1 21/n 1", None),
    ],
)
def test_a_name_with_other_operations_than_the_listed_ones_gives_a_warning(
    names: dict[str, str], listed: str, meant: str | None
) -> None:
    cell, atoms = (
        (CELL, ATOMS) if listed.startswith("P") else ((8.083,), ("Mg1 Mg 0 0 0 1", "O1 O 0.387 0.387 0.387 1"))
    )
    read = crystal_of(cif(cell=cell, atoms=atoms, operations=listed, **names))
    assert places(read) == places(crystal_of(cif(cell=cell, atoms=atoms, operations=listed)))
    assert (f"are not those of {meant}" in said(read)) if meant else (read.warnings == ())


def test_numbers_of_rows_before_operations_are_passed_over() -> None:
    written = [
        f"{k} {one}" for k, one in enumerate(("x,y,z", "-x+1/2,y+1/2,-z+1/2", "-x,-y,-z", "1/2+x,1/2-y,z+1/2"), 1)
    ]
    plain = crystal_of(cif(cell=CELL, atoms=ATOMS, operations="P 1 21/n 1"))
    assert places(crystal_of(cif(cell=CELL, atoms=ATOMS, symbol="P 21/n", operations=written))) == places(plain)
