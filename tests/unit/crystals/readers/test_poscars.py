"""POSCARs name their elements in several ways, in all of which they agree or are refused."""

import re
from collections.abc import Callable

import pytest
from pymatgen.core import Structure
from written_formats import (
    crystal,
    poscar,
    structure,
    structures,
    vasp_4,
    zipped,
)

from app.crystals.crystal import Crystal
from app.crystals.limits import Limits
from app.crystals.readers import File, read_band_file, read_crystal
from app.errors import FormatError, InputError

LIMITS = Limits()


def titled(title: str, counts: str = "3 3 6") -> File:
    lines = vasp_4(structure()).decode().splitlines()
    assert lines[5].split() == ["3", "3", "6"]
    rows = [" ".join(row.split()[:3]) for row in lines[7:]]  # without labels
    return File(name="POSCAR", content="\n".join([title, *lines[1:5], counts, lines[6], *rows]).encode())


@pytest.mark.parametrize("title", ["Li Co O", "LiCoO2", "Li1 Co1 O2", " Li3Co3O6 ", "Li0.5 Co0.5 O", "Li3 Co3 O6"])
def test_a_title_with_the_elements_in_the_proportion_of_the_counts_names_them(title: str) -> None:
    read = read_crystal(titled(title), LIMITS)
    assert read.formula == crystal().formula
    assert read.warnings == ("The elements of POSCAR were taken from its title: Li Co O.",)


@pytest.mark.parametrize(
    ("title", "counts", "says"),
    [
        ("LiCoO2 slab", "3 3 6", "the title does not list them"),
        ("made up", "3 3 6", "the title does not list them"),
        ("Li Qq O", "3 3 6", "the title does not list them"),
        ("Li Co", "3 3 6", "the title lists 2 for 3 counts"),
        ("Li9 Co3 O6", "3 3 6", "disagree (Li 9 and 3)"),
        ("Li3 Co3 O6", "3 6 3", "disagree (Co 3 and 6, O 6 and 3)"),
        ("LiCoO2", "5 5 2", "disagree (O 2 and 2)"),
        ("Li0 Co3 O6", "3 3 6", "disagree (Li 0 and 3)"),
        ("Li0 Co0 O0", "3 3 6", "disagree (Li 0 and 3, Co 0 and 3, O 0 and 6)"),
    ],
)
def test_a_title_that_disagrees_with_the_counts_is_not_believed(title: str, counts: str, says: str) -> None:
    with pytest.raises(FormatError, match=re.escape(says)) as refused:
        read_crystal(titled(title, counts), LIMITS)
    assert refused.value.kind == "no-element-names"


@pytest.mark.parametrize("selective", [[], ["Selective dynamics"]])
def test_a_poscar_without_direct_or_cartesian_names_the_line_also_where_velocities_follow(selective: list[str]) -> None:
    lines = poscar(structure()).decode().rstrip().splitlines()
    assert lines[7].lower().startswith(("d", "c"))
    line = 8 + len(selective)
    for after in ([], ["0.0 0.1 0.0"]):  # which would take the place of the last position
        content = "\n".join([*lines[:7], *selective, *lines[8:], *after]).encode()
        with pytest.raises(FormatError, match=f"Line {line} is to be Direct or Cartesian, and holds three") as refused:
            read_crystal(File(name="POSCAR", content=content), LIMITS)
        assert refused.value.where == f"POSCAR, line {line}"


def test_velocities_after_the_positions_are_no_second_crystal() -> None:
    velocities = "\n".join("  0.00000000E+00  0.10000000E-01  0.00000000E+00" for _ in structure())
    read = read_crystal(File(name="CONTCAR", content=poscar(structure()) + b"\n" + velocities.encode()), LIMITS)
    assert read.warnings == ()
    assert read.formula == crystal().formula


def lines_of(
    one: Structure, *, selective: bool = False, labels: Callable[[int, str], str] = lambda _k, _s: ""
) -> list[str]:
    """Of a POSCAR, with what is to stand after each position."""
    head, end = poscar(one).decode().rstrip().splitlines()[:8], " T T F" if selective else ""
    rows = [" ".join(f"{x:.9f}" for x in site.frac_coords) for site in one]
    rows = [
        f"{row}{end} {labels(k, site.specie.symbol)}".rstrip()
        for k, (row, site) in enumerate(zip(rows, one, strict=True))
    ]
    return [*head[:7], *(["Selective dynamics"] if selective else []), head[7], *rows]


def read_lines(lines: list[str]) -> Crystal:
    return read_crystal(File(name="POSCAR", content="\n".join(lines).encode()), LIMITS)


ROW, ROWS = "0.1 0.2 0.3", ["0.1 0.2 0.3"] * 12


@pytest.mark.parametrize("selective", [False, True])
@pytest.mark.parametrize("row", [ROW, "0.1 0.2D0 3e-1 O", "0.1 0.2 0.3 T T F", f"{ROW} ! one more"])
@pytest.mark.parametrize("after", [[], [ROW], ["", *ROWS], ["title", "1"]])
def test_more_positions_than_are_counted_are_refused(selective: bool, row: str, after: list[str]) -> None:
    lines = lines_of(structure(), selective=selective)
    with pytest.raises(FormatError, match="Line 7 counts 12 atoms, and more coordinates follow") as refused:
        read_lines([*lines, row, *after])
    assert refused.value.where == f"POSCAR, line {len(lines) + 1}"
    assert (refused.value.kind, ROW[:3] in refused.value.detail) == ("unreadable-poscar", True)


def test_a_comment_hides_no_position() -> None:
    with pytest.raises(FormatError, match="more coordinates follow"):
        read_lines([*lines_of(structure()), "! one on the way", "# and another", ROW])


def test_more_positions_than_vasp_4_counts_are_refused() -> None:
    lines = [line for k, line in enumerate(lines_of(structure())) if k != 5]
    with pytest.raises(FormatError, match="Line 6 counts 12 atoms") as refused:
        read_lines(["Li Co O", *lines[1:], ROW])
    assert refused.value.where == f"POSCAR, line {len(lines) + 1}"


@pytest.mark.parametrize(
    "after",
    [
        ["", *ROWS],
        ["  ", *ROWS, "", "1", "0.5", "0 0 0", *ROWS * 3],
        ["Cartesian", *ROWS],
        ["Lattice velocities and vectors", "  1", *ROWS[:6]],
        ["Lattice velocities and vectors", "  1", *ROWS[:6], "", *ROWS],
        ["", "2 2 2", "1 2 3 4 5", "6 7 8", "augmentation occupancies 1 8"],
        ["a comment of words, 1 2 3"],
        ["# 1 2 3"],
        ["1 2"],
        ["nan nan nan"],
    ],
)
def test_what_else_follows_the_positions_is_left(after: list[str]) -> None:
    read = read_lines([*lines_of(structure()), *after])
    assert (read.formula, read.warnings) == (crystal().formula, ())


def test_a_title_of_numbers_is_no_position() -> None:
    one = lines_of(structure())
    read = read_lines([*one, "1 2 3", *one[1:]])
    assert "2 structures" in read.warnings[0] or "first" in read.warnings[0]


@pytest.mark.parametrize("selective", [False, True])
@pytest.mark.parametrize("label", ["Fe", "Fe1", "Fe2+", "Fe2.5+", "Fe0+", "Fe3+,spin=5"])
def test_a_label_that_contradicts_the_line_of_elements_is_refused(selective: bool, label: str) -> None:
    lines = lines_of(structure(), selective=selective, labels=lambda k, symbol: label if k == 3 else f"{symbol}{k}")
    line = 12 + selective
    with pytest.raises(
        FormatError, match=rf"Line {line} is Co according to lines 6 and 7.*, but is labelled '{label[:2]}"
    ) as refused:
        read_lines(lines)
    assert (refused.value.kind, refused.value.where) == ("unreadable-poscar", f"POSCAR, line {line}")


@pytest.mark.parametrize("selective", [False, True])
@pytest.mark.parametrize(
    "labels",
    [
        lambda _k, symbol: symbol,
        lambda k, symbol: f"{symbol}{k}",
        lambda _k, symbol: {"Li": "Li+", "Co": "Co3+,spin=0", "O": "O2-"}[symbol],
        lambda _k, _symbol: "F F F",
        lambda _k, _symbol: ".FALSE. f T",
        lambda _k, _symbol: "T",
        lambda _k, _symbol: "F",
        lambda _k, _symbol: "Fe moved",
        lambda _k, _symbol: "atom",
        lambda _k, _symbol: "! Fe",
        lambda k, _symbol: "" if k == 5 else "Fe",
        lambda _k, symbol: f"{symbol}_sv",
    ],
)  # fmt: skip
def test_labels_that_agree_and_words_that_are_no_labels_are_read(
    selective: bool, labels: Callable[[int, str], str]
) -> None:
    read = read_lines(lines_of(structure(), selective=selective, labels=labels))
    assert (read.formula, read.warnings) == (crystal().formula, ())


def test_labels_are_read_beside_deuterium_pseudopotentials_and_vasp_4() -> None:
    lines = lines_of(structure(), labels=lambda _k, symbol: "D" if symbol == "Li" else symbol)
    for names in ("H Co O", "D Co O", "T_pv Co_sv O_s"):
        assert read_lines([*lines[:5], names, *lines[6:]]).formula.count("H3") == 1
    assert read_lines(["H Co O", *lines[1:5], *lines[6:]]).formula.count("H3") == 1


@pytest.mark.parametrize("selective", [False, True])
def test_labels_name_the_elements_of_vasp_4_where_the_title_does_not(selective: bool) -> None:
    lines = lines_of(structure(), selective=selective, labels=lambda k, symbol: f"{symbol}{k}")
    read = read_lines(["made up", *lines[1:5], *lines[6:]])
    assert read.formula == crystal().formula
    assert read.warnings == ("The elements of POSCAR were taken from the labels of its positions: Li Co O.",)


@pytest.mark.parametrize(
    "label",
    [
        lambda k, symbol: "Fe" if k == 3 else symbol,
        lambda k, symbol: "" if k == 3 else symbol,
        lambda _k, _symbol: "F",
        lambda _k, _symbol: "atom",
    ],
    ids=["another", "none", "flags", "words"],
)
def test_labels_that_are_missing_or_disagree_with_the_counts_name_no_elements(
    label: Callable[[int, str], str],
) -> None:
    lines = lines_of(structure(), labels=label)
    with pytest.raises(FormatError, match="does not name its elements: line 6 has counts only") as refused:
        read_lines(["made up", *lines[1:5], *lines[6:]])
    assert refused.value.kind == "no-element-names"


def test_labels_of_vasp_4_that_end_early_name_no_elements() -> None:
    lines = lines_of(structure(), labels=lambda _k, symbol: symbol)
    with pytest.raises(FormatError, match="does not name its elements"):
        read_lines(["made up", *lines[1:5], *lines[6:10]])


@pytest.mark.parametrize("names", ["LI CO O", "Li1 Co1 O2", "li co o", "LI_sv CO_pv O", "Li1+ Co3+ O2-"])
def test_elements_in_capitals_and_with_numbers_are_read(names: str) -> None:
    lines = lines_of(structure())
    assert read_lines([*lines[:5], names, *lines[6:]]).formula == crystal().formula


def test_sites_of_one_element_with_numbers_are_read() -> None:
    lines = lines_of(structure())
    assert lines[6].split() == ["3", "3", "6"]
    assert read_lines([*lines[:5], "Li Co O1 O2", "3 3 2 4", *lines[7:]]).formula == crystal().formula


@pytest.mark.parametrize("names", ["T1 Co O", "D1 Co O", "Xx1 Co O", "M Co O"])
def test_names_with_numbers_that_are_no_elements_are_refused(names: str) -> None:
    lines = lines_of(structure())
    with pytest.raises(InputError, match="is not the symbol of an element") as refused:
        read_lines([*lines[:5], names, *lines[6:]])
    assert refused.value.kind == "unknown-element"


@pytest.mark.parametrize("names", ["LI CO O", "Li1 Co1 O1", "Li+ Co3+ O2-"])
def test_every_poscar_of_a_file_is_read_however_its_elements_are_named(names: str) -> None:
    lines = lines_of(structure())
    one = [*lines[:5], names, *lines[6:]]
    assert "configurations, and the first was read" in read_lines([*one, "", *one]).warnings[0]


def test_a_poscar_that_is_cut_short_in_a_zip_is_named() -> None:
    files = {f"{k:02d}/POSCAR": poscar(one) for k, one in enumerate(structures())}
    cut = files["01/POSCAR"].rstrip().rsplit(b"\n", 3)[0] + b"\n0.000"
    with pytest.raises(FormatError, match=r"neb\.zip: 01/CONTCAR is to have 3 numbers, and reads '0\.000'") as refused:
        read_band_file(File(name="neb.zip", content=zipped({**files, "01/CONTCAR": cut})), LIMITS)
    assert str(refused.value.where).startswith("neb.zip: 01/CONTCAR, line ")


def test_a_label_that_contradicts_a_title_is_refused() -> None:
    """VASP 4: a formula as the title, in another order than the atoms."""
    lines = lines_of(structure(), labels=lambda _k, symbol: symbol)
    with pytest.raises(
        FormatError, match="Line 8 is Co according to the title and the counts, but is labelled 'Li'"
    ) as refused:
        read_lines(["CoLiO2", *lines[1:5], *lines[6:]])
    assert refused.value.where == "POSCAR, line 8"
    assert read_lines(["LiCoO2", *lines[1:5], *lines[6:]]).formula == crystal().formula
