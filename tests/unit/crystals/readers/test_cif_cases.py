"""Made-up CIFs, each standing for a kind of file that people send: read as it was meant, or refused with the reason."""

import numpy as np
import pytest
from cifs import amounts, cif, crystal_of, places, said

from app.crystals.geometry.periodic import near_pairs
from app.crystals.hops.options import HopOptions
from app.crystals.hops.search import find_hops
from app.crystals.sites.ion_sites import split
from app.errors import InputError

CUBIC = "F m -3 m"
CHLORIDE = (
    "Li1 Li 0.700 0.511 0.857 1",
    "Al1 Al 0.786 0.667 0.092 1",
    "Cl1 Cl 0.616 0.688 0.698 1",
    "Cl2 Cl 0.375 0.123 0.556 1",
    "Cl3 Cl 0.153 0.705 0.454 1",
    "Cl4 Cl 0.868 0.189 0.323 1",
)
CHLORIDE_CELL = (7.01, 6.51, 14.4, 90, 115.74, 90)


def refusal(text: str, ion: str | None = None) -> InputError:
    with pytest.raises(InputError) as caught:
        crystal_of(text, ion)
    return caught.value


def test_p21n_with_its_number_is_not_read_as_p21c() -> None:
    operations = ["x, y, z", "-x+1/2, y+1/2, -z+1/2", "-x, -y, -z", "x+1/2, -y+1/2, z+1/2"]
    meant = crystal_of(cif(cell=CHLORIDE_CELL, atoms=CHLORIDE, symbol="P 21/n", operations=operations))
    named = crystal_of(cif(cell=CHLORIDE_CELL, atoms=CHLORIDE, symbol="P 21/n", symmetry_Int_Tables_number="14"))
    assert places(named) == places(meant)
    assert named.warnings == meant.warnings == ()
    assert len(find_hops(named, "Li", max_atoms=2000).hops) == len(find_hops(meant, "Li", max_atoms=2000).hops)


def test_the_second_origin_is_taken_where_the_symbol_says_so() -> None:
    atoms = ("Na1 Na 0.441 0.125 0.125 1", "S1 S 0.125 0.125 0.125 1", "O1 O 0.214 0.057 0.214 1")
    assert crystal_of(cif(cell=(9.83, 12.3, 5.87, 90, 90, 90), atoms=atoms, symbol="F d d d :2")).formula == (
        "Na16 O32 S8"
    )


@pytest.mark.parametrize("symbol", ["R -3 m :R", "R -3 m", "R -3 m R"])
def test_the_symbol_or_the_cell_decides_for_rhombohedral_axes(symbol: str) -> None:
    atoms = ("Li1 Li 0.5 0.5 0.5 1", "Co1 Co 0 0 0 1", "O1 O 0.26 0.26 0.26 1")
    small = crystal_of(cif(cell=(4.958, 4.958, 4.958, 32.98, 32.98, 32.98), atoms=atoms, symbol=symbol))
    assert small.formula == "Co1 Li1 O2"
    if symbol == "R -3 m":
        atoms = ("Li1 Li 0 0 0.5 1", "Co1 Co 0 0 0 1", "O1 O 0 0 0.26 1")
        large = crystal_of(cif(cell=(2.816, 2.816, 14.05, 90, 90, 120), atoms=atoms, symbol=symbol))
        assert large.formula == "Co3 Li3 O6"


def test_a_lone_identity_under_another_symbol_is_settled_by_the_formula_or_refused() -> None:
    atoms = ("Na1 Na 0 0 0 1", "Cl1 Cl 0.5 0.5 0.5 1")
    items = {"chemical_formula_sum": "Na Cl", "cell_formula_units_Z": "4"}
    read = crystal_of(cif(cell=(5.64,), atoms=atoms, symbol=CUBIC, operations=["x, y, z"], **items))
    assert read.formula == "Cl4 Na4"
    assert "lists x, y, z alone. It was read as F m -3 m, which alone agrees with the formula" in said(read)
    error = refusal(cif(cell=(7.64,), atoms=atoms, symbol=CUBIC, operations=["x, y, z"]))
    assert error.kind == "symmetry-disagrees"
    assert "x, y, z alone" in error.detail
    corners = ("0 0 0", "0 0.5 0.5", "0.5 0 0.5", "0.5 0.5 0")
    middles = ("0.5 0.5 0.5", "0.5 0 0", "0 0.5 0", "0 0 0.5")
    every = [f"Na{k} Na {place} 1" for k, place in enumerate(corners)]
    every += [f"Cl{k} Cl {place} 1" for k, place in enumerate(middles)]
    whole = crystal_of(cif(cell=(5.64,), atoms=every, symbol=CUBIC, operations=["x, y, z"]))
    assert (whole.formula, whole.warnings) == ("Cl4 Na4", ())


def test_hydroxyl_as_one_symbol_is_an_oxygen_with_a_warning_of_missing_hydrogen() -> None:
    atoms = (
        "Mg1 Mg 0.381 0.038 0.25 1",
        "B1 B 0.33333 0.66667 0.25 1",
        "O1 O 0.156 0.619 0.25 1",
        "OH1 OH 0.31 0.218 0.25 0.7",
        "F1 F 0.31 0.218 0.25 0.3",
    )
    read = crystal_of(cif(cell=(9.1, 9.1, 3.1, 90, 90, 120), atoms=atoms, symbol="P 63/m", operations="P 63/m"))
    assert read.formula == "B2 F1.8 Mg6 O10.2"
    assert "Hydrogen without a position is missing from made-up.cif: OH1 was read as O." in read.warnings


def test_hydride_shares_a_site_with_oxide() -> None:
    atoms = ("Ba1 Ba 0 0 0 1", "Ti1 Ti 0.5 0.5 0.5 1", "H1 H 0.5 0.5 0 0.2", "O1 O 0.5 0.5 0 0.8")
    read = crystal_of(cif(cell=(4.02,), atoms=atoms, symbol="P m -3 m", operations="P m -3 m"))
    assert read.formula == "Ba1 H0.6 O2.4 Ti1"
    sites = split(read, "H").sites
    assert [site.occupancy for site in sites] == pytest.approx([0.2] * 3)
    assert [site.shared_with for site in sites] == [(("O", 0.8),)] * 3


@pytest.mark.parametrize("unknown", [".", "?"])
def test_an_occupancy_that_is_not_given_is_one(unknown: str) -> None:
    atoms = (f"Li1 Li 0 0 0 {unknown}", "O1 O 0.5 0.5 0.5 1")
    assert crystal_of(cif(cell=(4.0,), atoms=atoms, symbol="P 1")).formula == "Li1 O1"


def test_symbols_with_weights_are_shared_sites() -> None:
    atoms = ("Na1 Na 0 0 0 1", "T1(o) '0.75Si + 0.25Al' 0.5 0.5 0.5 1", "O1 O 0.2 0.5 0.5 1", "O2 O 0.8 0.5 0.5 1")
    read = crystal_of(cif(cell=(5.4,), atoms=atoms, symbol="P 1"))
    assert read.formula == "Al0.25 Na1 O2 Si0.75"
    assert read.warnings == ()


def test_hydrogen_without_a_position_is_left_out_with_a_warning() -> None:
    atoms = ("Li1 Li 0 0 0 1", "O1 O 0.5 0.5 0.5 1", "H1 H ? ? ? 1")
    read = crystal_of(cif(cell=(8.0,), atoms=atoms, symbol="P 1"))
    assert read.formula == "Li1 O1"
    assert "Left out of made-up.cif: H1 (without coordinates)." in read.warnings


def test_of_several_structures_the_one_with_the_ion_is_read() -> None:
    standard = cif(cell=(5.431,), atoms=("Si1 Si 0 0 0 1",), symbol="F d -3 m :1", name="standard")
    sample = cif(cell=(4.03,), atoms=("Li1 Li 0 0 0 1", "F1 F 0.5 0.5 0.5 1"), symbol=CUBIC, name="sample")
    read = crystal_of(standard + sample, "Li")
    assert read.formula == "F4 Li4"
    assert "2 structures; number 2, sample, was read, as it has Li." in said(read)
    assert crystal_of(standard + sample, "Si").formula == crystal_of(standard + sample).formula == "Si8"


def test_data_at_the_start_of_a_line_of_text_begins_no_block() -> None:
    text = cif(cell=(4.03,), atoms=("Li1 Li 0 0 0 1", "F1 F 0.5 0.5 0.5 1"), symbol=CUBIC)
    remark = "_refine_special_details\n;\nThe powder was measured twice;\ndata_collection at room temperature.\n;\n"
    assert crystal_of(text.replace("loop_", f"{remark}loop_", 1)).formula == "F4 Li4"


def test_names_with_dots_and_cif_2_are_read() -> None:
    text = cif(cell=(4.03,), atoms=("Li1 Li 0 0 0 1", "F1 F 0.5 0.5 0.5 1"), symbol="P 1", operations=CUBIC)
    for category in ("cell", "atom_site"):
        text = text.replace(f"_{category}_", f"_{category}.")
    text = text.replace("_symmetry_equiv_pos_as_xyz", "_space_group_symop.operation_xyz")
    text = text.replace("_symmetry_space_group_name_H-M 'P 1'", "_space_group.name_H-M_alt 'F m -3 m'")
    assert crystal_of(text).formula == "F4 Li4"
    second = "#\\#CIF_2.0\n" + text.replace(
        "loop_", "_diffrn.notes '''two\nlines'''\n_x.matrix [[1 0] [0 1]]\n_x.table {'a':1}\nloop_", 1
    )
    assert crystal_of(second).formula == "F4 Li4"
    capitals = text.replace("_cell.length_a", "_CELL.LENGTH_A").replace("_atom_site.fract_x", "_Atom_Site.Fract_X")
    assert crystal_of(capitals).formula == "F4 Li4"


def test_thirds_with_three_digits_are_thirds_and_with_four_nothing_is_said() -> None:
    cell = (3.65, 3.65, 3.88, 90, 90, 120)
    for third, two_thirds in (("0.333", "0.667"), ("0.3333", "0.6667"), ("0.33", "0.67")):
        atoms = ("Li1 Li 0 0 0.5 1", f"Li2 Li {third} {two_thirds} 0 1", "N1 N 0 0 0 1")
        read = crystal_of(cif(cell=cell, atoms=atoms, symbol="P 6/m m m", operations="P 6/m m m"))
        assert read.formula == "Li3 N1", third
        assert ("Li2 was moved by up to 0.0" in said(read)) == (third != "0.3333")
    apart = ("Li1 Li 0.156 0.311 0.25 1", "N1 N 0.3333 0.6667 0.75 1")  # x, 2x with a rounding between
    assert crystal_of(cif(cell=(8.1, 8.1, 5, 90, 90, 120), atoms=apart, symbol="P 63/m m c")).formula == "Li6 N2"


FRAMEWORK = (
    "Na1 Na 0.2 0.2 0.2 1",
    "Si1 Si 0 0.183 0.37 0.5",
    "Al1 Al 0 0.183 0.37 0.5",
    "O1 O 0 0.22 0.5 1",
    "O2 O 0 0.29 0.29 1",
    "O3 O 0.11 0.11 0.34 1",
)


def test_water_and_ions_that_were_not_located_are_missing_with_a_warning() -> None:
    text = cif(
        cell=(12.3,),
        atoms=FRAMEWORK,
        symbol="P m -3 m",
        operations="P m -3 m",
        chemical_formula_sum="Na8 Al12 Si12 O75 H54",
    )
    read = crystal_of(text)
    assert read.formula == "Al12 Na8 O48 Si12"
    assert "water or ions that were not located are missing" in said(read)
    read = crystal_of(text.replace("O75 H54", "O48").replace("Na1 Na 0.2 0.2 0.2 1\n", ""))
    assert read.formula == "Al12 O48 Si12"
    assert "fewer Na atoms" in said(read)
    # without the hydrogen of water the oxygen is lost with the end of the file
    assert refusal(text.replace(" H54", "")).kind == "truncated-cif"


#: Li7 La3 Zr2 O12 with aluminium, whose amount is refined as 0.09 of 24d and rounded down in the formula.
DOPED_GARNET = (
    "La1 La 0.125 0 0.25 1",
    "Zr1 Zr 0 0 0 1",
    "O1 O 0.2818 0.1004 0.1953 1",
    "Li1 Li 0.375 0 0.25 0.6",
    "Li2 Li 0.0985 0.6859 0.5790 0.384",
    "Al1 Al 0.375 0 0.25 0.09",
)


@pytest.mark.parametrize("z", ["8", None])
@pytest.mark.parametrize("al", ["0.2", "0.05"])
def test_a_dopant_with_a_rounded_amount_does_not_set_the_number_of_formulas(z: str | None, al: str) -> None:
    items = {"chemical_formula_sum": f"La3 Zr2 Li6.4 Al{al} O12"} | ({"cell_formula_units_Z": z} if z else {})
    rows = DOPED_GARNET[-1:] + DOPED_GARNET[:-1]
    for atoms in (DOPED_GARNET, rows, DOPED_GARNET[3:] + DOPED_GARNET[:3]):
        text = cif(cell=(12.97,), atoms=atoms, operations="I a -3 d", **items)
        read = crystal_of(text)
        assert dict(amounts(read.formula))["O"] == 96
        assert "fewer" not in said(read)
        assert refusal(text.replace(next(row for row in atoms if row.startswith("O1")) + "\n", "")).kind == (
            "truncated-cif"
        )


def test_a_cell_with_more_formulas_than_its_file_says_is_read_with_a_warning() -> None:
    atoms = ("Li1 Li 0.12 0.23 0.31 1", "O1 O 0.4 0.07 0.2 1")
    items = {"symbol": "P 1 21/n 1", "chemical_formula_sum": "Li O"}
    for z, warned in (("2", True), ("4", False)):
        read = crystal_of(cif(cell=CHLORIDE_CELL, atoms=atoms, cell_formula_units_Z=z, **items))
        assert read.formula == "Li4 O4"
        assert ("holds 4 formulas Li O and not 2 as it says (Z)" in said(read)) == warned
        assert len(read.warnings) == warned


def test_the_empty_share_of_a_site_of_the_host_is_offered_where_the_ion_has_no_site() -> None:
    atoms = (
        "La1 La 0 0 0 0.75",
        "La2 La 0 0 0.5 0.38",
        "Ti1 Ti 0.5 0.5 0.257 1",
        "O1 O 0 0.5 0.26 1",
        "O2 O 0.5 0.5 0 1",
        "O3 O 0.5 0.5 0.5 1",
    )
    read = crystal_of(cif(cell=(3.87, 3.87, 7.75, 90, 90, 90), atoms=atoms, symbol="P 4/m m m"))
    found = find_hops(read, "Li", max_atoms=2000)
    assert {site.occupancy for site in found.sites} == {0.0}
    assert any("2 partly empty sites of the host (La 0.75 at" in warning for warning in found.warnings)


def test_the_hydrogen_of_a_rotating_hydroxide_is_not_put_on_its_oxygen() -> None:
    atoms = ("Li1 Li 0.5 0.5 0 0.667", "O1 O 0.5 0.5 0.5 1", "H1 H 0.5 0.5 0.27 0.167", "Cl1 Cl 0 0 0 1")
    read = crystal_of(cif(cell=(3.91,), atoms=atoms, symbol="P m -3 m", operations="P m -3 m"))
    lattices = split(read, "Li")
    symbols = [contents[0][0] for contents in lattices.host_contents]
    assert sorted(symbols) == ["Cl", "H", "O"]
    hydrogen, oxygen = (lattices.host_frac_coords[[symbols.index(symbol)]] for symbol in ("H", "O"))
    _, lengths = near_pairs(hydrogen, oxygen, lattices.lattice_angstrom, 2.0)
    assert lengths.min() == pytest.approx(0.23 * 3.91, abs=1e-3)


def test_a_cyanide_beside_vacancies_is_ordered_as_its_bond_is_no_overlap() -> None:
    atoms = (
        "K1 K 0.25 0.25 0.25 0.5",
        "Fe1 Fe 0 0 0 0.75",
        "Mn1 Mn 0.5 0.5 0.5 1",
        "C1 C 0.188 0 0 0.75",
        "N1 N 0.302 0 0 0.75",
    )
    read = crystal_of(cif(cell=(10.2,), atoms=atoms, symbol=CUBIC, operations=CUBIC))
    search = find_hops(read, "K", HopOptions(max_hop_angstrom=5.5), max_atoms=2000)
    band = search.hops[0].band
    assert band is not None
    assert [band.host_species.count(symbol) for symbol in ("C", "N", "Fe", "Mn")] == [18, 18, 3, 4]
    assert search.hops[0].doubt is None


def test_full_atoms_where_occupancies_were_lost_are_refused() -> None:
    atoms = ("Li1 Li 0 0 0 1", "Nb1 Nb 0.5 0.5 0.5 1", "O1 O 0.27 0.5 0.5 1", "F1 F 0.27 0.5 0.58 1")
    error = refusal(cif(cell=(8.0,), atoms=atoms, symbol="P 1"))
    assert error.kind == "atoms-overlap"
    assert "O at (0.2700, 0.5000, 0.5000) and F at (0.2700, 0.5000, 0.5800) are on top of each other" in error.detail


def test_ion_sites_that_exclude_each_other_and_are_all_filled_are_marked_and_out_of_the_domain() -> None:
    tetrahedral = [(0, 0, 0), (0.75, 0.75, 0.75)]
    octahedral = [(0.875, 0.375, 0.875), (0.875, 0.875, 0.375), (0.375, 0.875, 0.875), (0.875, 0.875, 0.875)]
    manganese = [(0.375, 0.875, 0.375), (0.375, 0.375, 0.875), (0.875, 0.375, 0.375), (0.375, 0.375, 0.375)]
    oxygen = [(0.6118, 0.1646, 0.6118), (0.1382, 0.1382, 0.5854), (0.1646, 0.6118, 0.6118), (0.1382, 0.5854, 0.1382)]
    oxygen += [(0.6118, 0.6118, 0.6118), (0.1382, 0.1382, 0.1382), (0.6118, 0.6118, 0.1646), (0.5854, 0.1382, 0.1382)]
    atoms = [
        f"{symbol}{k} {symbol} {x} {y} {z} 1"
        for symbol, rows in (("Li", tetrahedral + octahedral), ("Mn", manganese), ("O", oxygen))
        for k, (x, y, z) in enumerate(rows)
    ]
    read = crystal_of(cif(cell=(5.699, 5.699, 5.699, 60, 60, 60), atoms=atoms, symbol="P 1"))
    assert "implausibly near each other" in said(read)
    search = find_hops(read, "Li", max_atoms=2000)
    assert search.sites[0].excludes == (2, 3, 4, 5)
    predicted = [hop for hop in search.hops if hop.band is not None]
    assert predicted
    assert all("Li and Li of its host are 1.7" in str(hop.doubt) for hop in predicted)


def test_a_slab_gets_a_warning_of_its_vacuum() -> None:
    atoms = ("Li1 Li 0 0 0 1", "O1 O 0.3333 0.6667 0.05 1", "Li2 Li 0.6667 0.3333 0.1 1")
    read = crystal_of(cif(cell=(3.1, 3.1, 30, 90, 90, 120), atoms=atoms, symbol="P 1"))
    assert "a gap of 27.0 angstrom without atoms, so it is a slab" in said(read)
    assert np.isclose(read.lattice_angstrom[2, 2], 30)
