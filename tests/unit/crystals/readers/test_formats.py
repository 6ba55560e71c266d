"""One crystal and one band in every format give one barrier; a limit holds in each; nothing is unpickled."""

import bz2
import gzip
import io
import lzma
import pickle
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import orjson
import pytest
from cifs import cif
from pymatgen.core import Structure
from written_formats import (
    BANDS,
    BANDS_WITHOUT_CELL,
    CRYSTALS,
    ENERGIES_EV,
    ION,
    WITH_ENERGIES,
    ase_written,
    band,
    cell_of,
    crystal,
    neb_json,
    plain_xyz,
    poscar,
    rattled,
    structure,
    structures,
    tarred,
    traj,
    vasp_4,
    xdatcar,
    zipped,
)

from app.crystals.band import Band
from app.crystals.crystal import Crystal
from app.crystals.limits import Limits
from app.crystals.readers import File, holds_trajectory, read_band_file, read_crystal
from app.errors import FormatError, InputError, TooLargeError, UnsupportedError
from app.models.predictors.predictor import Predictor
from app.models.registry import Registry
from benchmarks.rewritten_cifs import percolation_barrier_ev

SAME_EV = 5e-3
LIMITS = Limits()
#: Of several configurations in one file, those of which one is read as the crystal.
FIRST_READ = ("XDATCAR", "XDATCAR with a cell each", "POSCARs")
LAST_READ = ("vasprun.xml", "OUTCAR")


@pytest.fixture(scope="module")
def predictor(repository: Path) -> Predictor:
    return Registry.open(repository / "model_store", "cpu", default="default").predictor()


@pytest.fixture(scope="module")
def crystal_barrier_ev(predictor: Predictor) -> float:
    found = percolation_barrier_ev(crystal(), ION, predictor)
    assert found is not None
    return found


def band_barrier_ev(found: Band, predictor: Predictor) -> float:
    return predictor.predict([predictor.graph(found)])[0].barrier_ev


@pytest.mark.parametrize("form", CRYSTALS)
def test_a_crystal_has_one_barrier_in_every_format(
    form: str, tmp_path: Path, predictor: Predictor, crystal_barrier_ev: float
) -> None:
    read = read_crystal(File(name="upload", content=CRYSTALS[form](tmp_path)), LIMITS, ION)
    assert read.formula == crystal().formula
    found = percolation_barrier_ev(read, ION, predictor)
    assert found == pytest.approx(crystal_barrier_ev, abs=SAME_EV)
    assert all("taken from its title" in warning for warning in read.warnings)


@pytest.mark.parametrize("form", BANDS)
def test_a_band_has_one_barrier_in_every_format(form: str, tmp_path: Path, predictor: Predictor) -> None:
    read = read_band_file(File(name="upload", content=BANDS[form](tmp_path)), LIMITS)
    assert read.band.formula == band().formula
    assert np.linalg.norm(read.band.hop_vector_angstrom) == pytest.approx(band().hop_distance_angstrom, abs=1e-4)
    assert band_barrier_ev(read.band, predictor) == pytest.approx(band_barrier_ev(band(), predictor), abs=SAME_EV)


@pytest.mark.parametrize("form", BANDS_WITHOUT_CELL)
def test_a_file_without_a_cell_is_read_with_the_one_sent_beside_it(
    form: str, tmp_path: Path, predictor: Predictor
) -> None:
    content = BANDS_WITHOUT_CELL[form](tmp_path)
    read = read_band_file(File(name="upload", content=content, cell_angstrom=cell_of(structures()[0])), LIMITS)
    assert read.band.formula == band().formula
    assert band_barrier_ev(read.band, predictor) == pytest.approx(band_barrier_ev(band(), predictor), abs=SAME_EV)
    assert read.energies_ev == (pytest.approx(ENERGIES_EV) if "CP2K" in form or "path" in form else ())
    with pytest.raises(FormatError) as refused:
        read_band_file(File(name="upload", content=content), LIMITS)
    assert refused.value.kind == "no-lattice"
    assert "form field `cell`" in str(refused.value.expected)


def test_a_crystal_without_a_cell_is_read_with_the_one_sent_beside_it(
    predictor: Predictor, crystal_barrier_ev: float
) -> None:
    content = plain_xyz((structure(),), cp2k=False)
    read = read_crystal(File(name="one.xyz", content=content, cell_angstrom=cell_of(structure())), LIMITS, ION)
    assert percolation_barrier_ev(read, ION, predictor) == pytest.approx(crystal_barrier_ev, abs=SAME_EV)


@pytest.mark.parametrize("form", ["POSCARs", "extended XYZ", "zip", "ASE trajectory"])
def test_a_cell_beside_a_file_that_has_its_own_is_not_used_and_a_warning_says_so(form: str, tmp_path: Path) -> None:
    other = ((20.0, 0.0, 0.0), (0.0, 20.0, 0.0), (0.0, 0.0, 20.0))
    read = read_band_file(File(name="upload", content=BANDS[form](tmp_path), cell_angstrom=other), LIMITS)
    assert np.allclose(read.band.lattice_angstrom, band().lattice_angstrom, atol=1e-4)
    assert sum("was not used" in warning for warning in read.warnings) == 1


@pytest.mark.parametrize("form", BANDS)
def test_the_energies_of_the_images_are_read_where_the_format_has_them(form: str, tmp_path: Path) -> None:
    read = read_band_file(File(name="upload", content=BANDS[form](tmp_path)), LIMITS)
    assert read.energies_ev == (pytest.approx(ENERGIES_EV) if form in WITH_ENERGIES else ())


@pytest.mark.parametrize("form", sorted(set(BANDS) - {*FIRST_READ, *LAST_READ}))
def test_a_band_sent_as_a_crystal_says_what_it_is(form: str, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"a zip|a tar|of 5 frames|list of 5 structures|JSON band") as refused:
        read_crystal(File(name="upload", content=BANDS[form](tmp_path)), LIMITS, ION)
    assert refused.value.kind == "band-not-crystal"


@pytest.mark.parametrize("form", LAST_READ)
def test_of_a_run_the_last_step_is_the_crystal_and_a_warning_says_so(form: str, tmp_path: Path) -> None:
    read = read_crystal(File(name="upload", content=BANDS[form](tmp_path)), LIMITS, ION)
    assert any("of 5 ionic steps, and the last was read" in warning for warning in read.warnings)
    end = structures()[-1].frac_coords[-1]
    away = np.array([site.frac_coords for site in read.sites]) - end
    assert np.abs(away - np.rint(away)).max(axis=1).min() < 1e-5


@pytest.mark.parametrize("form", FIRST_READ)
def test_of_several_configurations_the_first_is_the_crystal_and_a_warning_says_so(form: str, tmp_path: Path) -> None:
    read = read_crystal(File(name="upload", content=BANDS[form](tmp_path)), LIMITS, ION)
    assert any("of 5 configurations, and the first was read" in warning for warning in read.warnings)


TRAJECTORIES: dict[str, Callable[[tuple[Structure, ...]], bytes]] = {
    "ASE trajectory": traj,
    "extended XYZ": lambda frames: ase_written(frames, "extxyz"),
    "ASE trajectory in a zip": lambda frames: zipped({"relax.traj": traj(frames)}),
}


@pytest.mark.parametrize("frames", ["of dynamics", "of a relaxation", "of a cell that relaxes", "more than images"])
@pytest.mark.parametrize("form", TRAJECTORIES)
def test_of_a_trajectory_the_last_frame_is_the_crystal_and_a_warning_says_so(form: str, frames: str) -> None:
    frames_of: dict[str, Callable[[], tuple[Structure, ...]]] = {
        "of dynamics": rattled,
        "of a relaxation": lambda: rattled(2, angstrom=0.05),
        "of a cell that relaxes": lambda: rattled(5, angstrom=0.03, strain=0.01),
        "more than images": lambda: rattled(LIMITS.max_images + 1, angstrom=0.05),
    }
    made = frames_of[frames]()
    file = File(name="upload", content=TRAJECTORIES[form](made))
    assert holds_trajectory(file, LIMITS)
    read = read_crystal(file, LIMITS, ION)
    (warning,) = (warning for warning in read.warnings if "frames" in warning)
    assert f"of {len(made)} frames that show no hop, and the last was read" in warning
    assert "`band`" in warning
    assert np.allclose(read.lattice_angstrom, made[-1].lattice.matrix, atol=1e-5)
    assert np.allclose([site.frac_coords for site in read.sites], made[-1].frac_coords, atol=1e-5)


@pytest.mark.parametrize("angstrom", [0.08, 0.12, 0.2])
@pytest.mark.parametrize("form", TRAJECTORIES)
def test_a_trajectory_sent_as_a_band_is_no_hop_of_what_moved_most(form: str, angstrom: float) -> None:
    file = File(name="upload", content=TRAJECTORIES[form](rattled(angstrom=angstrom)))
    with pytest.raises(InputError, match="as in a relaxation or molecular dynamics") as refused:
        read_band_file(file, LIMITS)
    assert refused.value.kind == "nothing-moves"


def test_a_short_hop_in_a_host_that_hardly_moves_is_a_band() -> None:
    images, chance = structures(), np.random.default_rng(0)
    shift = np.zeros((len(images[0]), 3))
    shift[-1] = [0.6, 0.0, 0.0]
    ends = tuple(
        Structure(
            one.lattice, one.species, one.cart_coords + chance.normal(0, 0.03, shift.shape), coords_are_cartesian=True
        )
        for one in (
            images[0],
            Structure(images[0].lattice, images[0].species, images[0].cart_coords + shift, coords_are_cartesian=True),
        )
    )
    assert read_band_file(File(name="upload", content=traj(ends)), LIMITS).band.ion == ION


@pytest.mark.parametrize("frames", ["shuffled", "relaxed", "to a copy", "many", "other crystals"])
@pytest.mark.parametrize("form", TRAJECTORIES)
def test_frames_of_a_hop_or_of_other_crystals_are_no_trajectory(form: str, frames: str) -> None:
    images, chance = structures(), np.random.default_rng(0)
    ion = len(images[0]) - 1

    def moved(image: Structure, shift: np.ndarray) -> Structure:
        return Structure(image.lattice, image.species, image.cart_coords + shift, coords_are_cartesian=True)

    def along(fraction: float) -> Structure:
        shift = np.zeros((ion + 1, 3))
        shift[ion] = fraction * images[0].lattice.matrix[1]
        return moved(images[0], shift)

    frames_of: dict[str, Callable[[], tuple[Structure, ...]]] = {
        "shuffled": lambda: (images[0], *(one.copy().get_sorted_structure() for one in images[1:])),
        "relaxed": lambda: tuple(moved(one, chance.normal(0, 0.05, (ion + 1, 3))) for one in images),
        "to a copy": lambda: tuple(along(fraction) for fraction in np.linspace(0, 1, 9)),
        "many": lambda: images * (LIMITS.max_images // len(images) + 1),
        "other crystals": lambda: (images[0], structure()),
    }
    made = frames_of[frames]()
    file = File(name="upload", content=TRAJECTORIES[form](made))
    assert not holds_trajectory(file, LIMITS)
    with pytest.raises(FormatError, match=f"of {len(made)} frames, and one crystal belongs here") as refused:
        read_crystal(file, LIMITS, ION)
    assert refused.value.kind == "band-not-crystal"


@pytest.mark.parametrize("form", BANDS)
def test_no_band_is_taken_for_a_trajectory(form: str, tmp_path: Path) -> None:
    assert not holds_trajectory(File(name="upload", content=BANDS[form](tmp_path)), LIMITS)


@pytest.mark.parametrize("count", [2, 10, 200])
def test_an_xdatcar_of_dynamics_is_a_trajectory(count: int) -> None:
    assert holds_trajectory(File(name="XDATCAR", content=xdatcar(rattled(count))), LIMITS)


@pytest.mark.parametrize("form", CRYSTALS)
def test_one_crystal_is_a_trajectory_of_none(form: str, tmp_path: Path) -> None:
    assert not holds_trajectory(File(name="upload", content=CRYSTALS[form](tmp_path)), LIMITS)


@pytest.mark.parametrize("form", CRYSTALS)
def test_a_crystal_sent_as_a_band_says_what_it_is(form: str, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="is a single crystal") as refused:
        read_band_file(File(name="upload", content=CRYSTALS[form](tmp_path)), LIMITS)
    assert refused.value.kind == "single-crystal"


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


def test_a_cif_of_several_structures_sent_as_a_band_says_so() -> None:
    one = cif(cell=(8.0,), atoms=("Li1 Li 0 0 0 1", "O1 O 0.5 0.5 0.5 1"), symbol="P 1")
    assert one.count("data_") == 1
    texts = [re.sub(r"data_\S*", f"data_image{k}", one) for k in range(3)]
    with pytest.raises(FormatError, match="is a CIF of 3 structures, image0, image1, image2") as refused:
        read_band_file(File(name="band.cif", content="\n".join(texts).encode()), LIMITS)
    assert refused.value.kind == "single-crystal"  # by which it is sent as a crystal
    assert "a zip with a CIF for each image" in str(refused.value.expected)


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


@pytest.mark.parametrize("data", [[], [{"material_id": "mp-1"}], [1], {"structure": {}}, "text"])
def test_a_reply_without_structures_is_no_crystal(data: object) -> None:
    with pytest.raises(FormatError) as refused:
        read_crystal(File(name="reply.json", content=orjson.dumps({"data": data, "meta": {}})), LIMITS)
    assert refused.value.kind == "not-a-crystal"


def test_a_fault_in_a_reply_is_named_with_its_place() -> None:
    record = orjson.loads(CRYSTALS["REST reply"](Path()))
    record["data"][0]["structure"]["sites"][2]["species"] = []
    with pytest.raises(FormatError) as refused:
        read_crystal(File(name="reply.json", content=orjson.dumps(record)), LIMITS)
    assert refused.value.where == "reply.json, data[0], sites[2]"


def test_bands_of_several_hops_in_neb_json_are_named() -> None:
    record = orjson.loads(neb_json())
    record["5"]["key_value_pairs"]["hop"] = 2
    with pytest.raises(FormatError, match="the bands of 2 hops: 1, 2") as refused:
        read_band_file(File(name="bands.json", content=orjson.dumps(record)), LIMITS)
    assert refused.value.kind == "several-bands"


# --- limits ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "form", sorted(set(BANDS) - {"zip of initial and final", "zip of initial, 01 and final", "zip of initial.vasp"})
)
def test_the_limits_of_images_and_atoms_hold_in_every_format(form: str, tmp_path: Path) -> None:
    content = BANDS[form](tmp_path)
    for limits, kind in ((Limits(max_images=4), "too-many-images"), (Limits(max_atoms=20), "too-many-atoms")):
        with pytest.raises(TooLargeError) as refused:
            read_band_file(File(name="upload", content=content), limits)
        assert refused.value.kind == kind


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress, bz2.compress])
def test_a_decompression_bomb_is_stopped_alone_and_inside_an_archive(pack: Callable[[bytes], bytes]) -> None:
    bomb = pack(bytes(30_000_000))
    limits = Limits(max_unpacked_bytes=1_000_000)
    for content in (bomb, zipped({"00/POSCAR.gz": bomb, "01/POSCAR.gz": bomb}), tarred({"00/POSCAR.gz": bomb})):
        with pytest.raises(TooLargeError) as refused:
            read_band_file(File(name="upload", content=content), limits)
        assert refused.value.kind == "too-many-unpacked-bytes"


def test_an_archive_of_too_many_files_is_refused() -> None:
    files = {f"{k}.txt": b"" for k in range(30)}
    for content in (zipped(files), tarred(files)):
        with pytest.raises(TooLargeError) as refused:
            read_band_file(File(name="upload", content=content), Limits(max_files=20))
        assert refused.value.kind == "too-many-files"


def test_a_link_in_a_tar_is_not_followed() -> None:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as archive:
        for name in ("00/POSCAR", "01/POSCAR"):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(link)
    with pytest.raises(FormatError) as refused:
        read_band_file(File(name="links.tar", content=written.getvalue()), LIMITS)
    assert refused.value.kind == "no-images"


# --- nothing is unpickled, and what is not read is named ------------------------------------------------------


class Hostile:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return (Path.touch, (self.mark,))


@pytest.mark.parametrize("head", [b"", b"PickleTrajectory", b"- of UlmASE-Trajectory  "])
def test_a_pickle_is_never_loaded(head: bytes, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    hostile = head + pickle.dumps(Hostile(mark))
    for content in (hostile, gzip.compress(hostile), zipped({"band.traj": hostile})):
        for read in (read_band_file, read_crystal):
            with pytest.raises(InputError) as refused:
                read(File(name="band.traj", content=content), LIMITS)
            assert refused.value.kind in ("format-not-read", "unreadable-trajectory", "band-not-crystal")
    assert not mark.exists()
    pickle.loads(pickle.dumps(Hostile(mark)))
    assert mark.exists()


def test_an_array_of_objects_in_a_trajectory_is_refused(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    content = traj(structures()[:2])
    assert b'"float64"' in content
    changed = content.replace(b'"float64"', b'"O"      ') + pickle.dumps(Hostile(mark))
    with pytest.raises(FormatError) as refused:
        read_band_file(File(name="band.traj", content=changed), LIMITS)
    assert refused.value.kind == "unreadable-trajectory"
    assert not mark.exists()


LAMMPS = (
    b"made up\n\n2 atoms\n2 atom types\n\n0.0 8.0 xlo xhi\n0 8 ylo yhi\n0 8 zlo zhi\n\nAtoms # atomic\n\n"
    b"1 1 0 0 0\n2 2 4 4 4\n"
)
CUBE = (
    b"density\nof what\n 2 0.0 0.0 0.0\n 2 3.779452 0.000000 0.000000\n 2 0.0 3.779452 0.0\n 2 0.0 0.0 3.779452\n"
    b" 3 0.0 0.0 0.0 0.0\n 8 0.0 3.779452 3.779452 3.779452\n 0 0 0 0 0 0 0 0\n"
)
ABINIT = (
    b"acell 7.558904 7.558904 7.558904\nrprim 1 0 0 0 1 0 0 0 1\nnatom 2 ntypat 2 znucl 3 8\ntypat 1 2\n"
    b"xred\n0 0 0\n0.5 0.5 0.5\n"
)
FORT_34 = b"3 1 1\n4.0 0 0\n0 4.0 0\n0 0 4.0\n1\n1 0 0\n0 1 0\n0 0 1\n0 0 0\n2\n3 0.0 0.0 0.0\n8 2.0 2.0 2.0\n"
WIEN2K = (
    b"LiO\nP   LATTICE,NONEQUIV.ATOMS:  2 1_P1\nMODE OF CALC=RELA unit=bohr\n"
    b"  7.558904  7.558904  7.558904 90.000000 90.000000 90.000000\n"
    + b"".join(
        b"ATOM  -%d: X=%s Y=%s Z=%s\n          MULT= 1          ISPLIT= 8\n"
        b"%s        NPT=  781  R0=0.00010000 RMT=    1.5000   Z:  %s\n"
        b"LOCAL ROT MATRIX:    1.0000000 0.0000000 0.0000000\n                     0.0000000 1.0000000 0.0000000\n"
        b"                     0.0000000 0.0000000 1.0000000\n" % (number, x, x, x, label, charge)
        for number, x, label, charge in ((1, b"0.00000000", b"Li1", b"3.00000"), (2, b"0.50000000", b"O 1", b"8.00000"))
    )
    + b"   0      NUMBER OF SYMMETRY OPERATIONS\n"
)
EXCITING = (
    b'<?xml version="1.0"?>\n<input><title>x</title><structure speciespath="./"><crystal scale="1.8897261">'
    b"<basevect>4 0 0</basevect><basevect>0 4 0</basevect><basevect>0 0 4</basevect></crystal>"
    b'<species speciesfile="Li.xml"><atom coord="0 0 0"/></species>'
    b'<species speciesfile="O.xml"><atom coord="0.5 0.5 0.5"/></species></structure></input>\n'
)
CSSR = (
    b"4.0000 4.0000 4.0000\n90.00 90.00 90.00 SPGR =  1 P 1    OPT = 1\n2 0\n0 Li1 O1\n"
    b"1 Li 0.0000 0.0000 0.0000\n2 O 0.5000 0.5000 0.5000\n"
)
JARVIS = orjson.dumps(
    {
        "lattice_mat": [[4, 0, 0], [0, 4, 0], [0, 0, 4]],
        "coords": [[0, 0, 0], [0.5, 0.5, 0.5]],
        "elements": ["Li", "O"],
        "cartesian": False,
    }
)
CIF_INSIDE = orjson.dumps(
    {"material_id": "x", "cif": cif(cell=(8.0,), atoms=("Li1 Li 0 0 0 1", "O1 O 0.5 0.5 0.5 1"), symbol="P 1")}
)
ONETEP = (
    b"%block lattice_cart\n7.558904 0 0\n0 7.558904 0\n0 0 7.558904\n%endblock lattice_cart\n"
    b"%block species\nLi Li 3 4 8.0\nO O 8 4 8.0\n%endblock species\n"
    b"%block positions_abs\nLi 0 0 0\nO 3.779452 3.779452 3.779452\n%endblock positions_abs\n"
)
OTHERS = {
    "x.vesta": (b"#VESTA_FORMAT_VERSION 3.5.4\n\nCRYSTAL\n\nTITLE\nx\n", "a file of VESTA"),
    "x.abi": (ABINIT, "an ABINIT input"),
    "x.gin": (
        b"opti conp\ncell\n4 4 4 90 90 90\nfractional\nLi core 0.0 0.0 0.0\nO shel 0.5 0.5 0.5\n",
        "a GULP input",
    ),
    "x.d12": (b"LiFePO4\nCRYSTAL\n0 0 0\n62\n10.332 6.010 4.692\n1\n3 0 0 0\nEND\n", "a CRYSTAL input"),
    "fort.34": (FORT_34, "a geometry of CRYSTAL (fort.34)"),
    "input.xml": (EXCITING, "an input of exciting (XML)"),
    "x.struct": (WIEN2K, "a WIEN2k struct file"),
    "x.mol": (b"x\n  made up\n\n  1  0  0  0  0  0            999 V2000\n    0.0    0.0    0.0 Li  0\n", "a MOL file"),
    "phonopy.yaml": (b"unit_cell:\n  lattice:\n  - [ 4, 0, 0 ] # a\n  - [ 0, 4, 0 ]\n", "a YAML file of phonopy"),
    "aims.out": (b"-----\n          Invoking FHI-aims ...\n\n", "an output of FHI-aims"),
    "coord": (
        b"$coord\n0.0 0.0 0.0 li\n9.7 0.0 4.4 li\n9.7 5.6 4.4 fe\n0.0 5.6 0.0 o\n$end\n",
        "a coord file of Turbomole",
    ),
    "jarvis.json": (JARVIS, "JSON of JARVIS"),
    "dft_3d.json": (orjson.dumps({"jid": "x", "atoms": orjson.loads(JARVIS)}), "JSON of JARVIS"),
    "mp.json": (CIF_INSIDE, "JSON with a CIF inside"),
    "by_ints.cube": (CUBE.replace(b" 0.0", b" 0"), "a Gaussian cube file"),
    "cssr.txt": (CSSR, "a CSSR file"),
    "onetep.dat": (ONETEP, "a CASTEP cell file or an ONETEP input"),
    "login.cif": (b"\n<!DOCTYPE html>\n<html lang='en'><title>Log in</title></html>\n", "a page of the web (HTML)"),
    "xhtml.cif": (b"<?xml version='1.0'?>\n<!-- a -- b -->\n<html>\ndata_layer\n</html>", "a page of the web (HTML)"),
    "figure.png": (b"\x89PNG\r\n\x1a\n\x00\x00", "a picture (PNG)"),
    "figure.cif": (b"\xff\xd8\xff\xe0\x00\x10JFIF", "a picture (JPEG)"),
    "letter.docx": (zipped({"[Content_Types].xml": b"", "word/document.xml": b"<w/>"}), "a Word document"),
    "table.xlsx": (zipped({"[Content_Types].xml": b"", "xl/workbook.xml": b"<w/>"}), "an Excel workbook"),
    "lammps.data": (LAMMPS, "a LAMMPS data file"),
    "dump.lammpstrj": (b"ITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n1\n", "a LAMMPS dump"),
    "run.cell": (
        b"%BLOCK LATTICE_CART\n5 0 0\n0 5 0\n0 0 5\n%ENDBLOCK LATTICE_CART\n",
        "a CASTEP cell file or an ONETEP",
    ),
    "geometry.in": (b"# made up\nlattice_vector 5 0 0\nlattice_vector 0 5 0\n", "an FHI-aims geometry.in"),
    "zeolite.cssr": (b" 24.55 24.55 24.55\n 90 90 90 SPGR = 1\n 1 0\n", "a CSSR file"),
    "paper.pdf": (b"%PDF-1.7\n%\xe2\xe3", "a PDF"),
    "1abc.cif": (b"data_1ABC\nloop_\n_atom_site.group_PDB\n_atom_site.Cartn_x\nATOM 1.0\n", "an mmCIF of a protein"),
    "pw.out": (b"\n     Program PWSCF v.7.2 starts on  1Jan2024 at 12: 0: 0\n", "an output of Quantum ESPRESSO's pw.x"),
    "cp2k.inp": (b"! made up\n&FORCE_EVAL\n &SUBSYS\n  &CELL\n  ABC 5 5 5\n  &END CELL\n", "a CP2K input or restart"),
    "run.restart": (b" # Version information for this restart file\n &EXT_RESTART\n &END\n", "a CP2K input or restart"),
    "run.fdf": (b"SystemName x\n%block ChemicalSpeciesLabel\n1 3 Li\n%endblock\n", "a SIESTA input"),
    "cell.fdf": (b"SystemName x\n%block lattice_vectors\n1 0 0\n0 1 0\n0 0 1\n%endblock\n", "a SIESTA input"),
    "density.cube": (CUBE, "a Gaussian cube file"),
    "geo.gen": (b"2  S\nLi O\n 1 1 0.0 0.0 0.0\n 2 2 2.0 2.0 2.0\n 0 0 0\n 4 0 0\n", "a geometry of DFTB+"),
    "a.ins": (b"TITL x\nREM y\nCELL 0.71073 10.332 6.010 4.692 90 90 90\nZERR 4 0 0 0 0 0 0\nLATT 1\n", "a SHELX file"),
    "b.res": (b"TITL \nCELL 1.0 4.0 4.0 4.0 90.0 90.0 90.0\nLATT -1\nSFAC Li O\nLi 1 0 0 0 1\n", "a SHELX file"),
    "pw.in": (b"&CONTROL\n calculation='scf'\n/\n", "a Quantum ESPRESSO input"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_not_read_is_named_with_the_line_that_converts_it(name: str) -> None:
    content, what = OTHERS[name]
    for read in (read_band_file, read_crystal):
        with pytest.raises(UnsupportedError, match=re.escape(what)) as refused:
            read(File(name=name, content=content), LIMITS)
        assert refused.value.kind == "format-not-read"
        assert refused.value.expected
        assert "{" not in refused.value.expected


def test_a_crystal_beside_a_document_in_a_zip_is_read() -> None:
    document = zipped({"word/document.xml": b"<w/>"})  # stored, so that its names are bytes of the archive's
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("letter.docx", document)
        archive.writestr("POSCAR", poscar(structure()))
    assert read_crystal(File(name="both.zip", content=packed.getvalue()), LIMITS).formula == crystal().formula


def test_the_line_that_converts_a_lammps_data_file_does(tmp_path: Path) -> None:
    (tmp_path / "lammps.data").write_bytes(LAMMPS)
    with pytest.raises(UnsupportedError) as refused:
        read_crystal(File(name="lammps.data", content=LAMMPS), LIMITS)
    line = re.search(r'python -c "([^"]+)"', str(refused.value.expected))
    assert line is not None
    subprocess.run([sys.executable, "-c", line[1]], cwd=tmp_path, check=True)
    written = File(name="structure.extxyz", content=(tmp_path / "structure.extxyz").read_bytes())
    assert read_crystal(written, LIMITS).formula == "Li1 O1"


GEN = b"2 S\nLi O\n1 1 0 0 0\n2 2 2 2 2\n0 0 0\n4 0 0\n0 4 0\n0 0 4\n"


@pytest.mark.parametrize(
    ("name", "content"),
    [("density.cube", CUBE), ("geo.gen", GEN), ("x.abi", ABINIT), ("fort.34", FORT_34), ("x.struct", WIEN2K)],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_line_that_converts_a_file_with_ase_does(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UnsupportedError) as refused:
        read_crystal(File(name=name, content=content), LIMITS)
    line = re.search("`ase ([^`]+)`", str(refused.value.expected))
    assert line is not None
    subprocess.run([sys.executable, "-m", "ase", *line[1].split()], cwd=tmp_path, check=True)
    written = File(name="structure.extxyz", content=(tmp_path / "structure.extxyz").read_bytes())
    assert read_crystal(written, LIMITS).formula == "Li1 O1"


def test_the_line_that_converts_an_onetep_input_takes_its_lengths_in_bohr(tmp_path: Path) -> None:
    (tmp_path / "x.dat").write_bytes(ONETEP)
    with pytest.raises(UnsupportedError) as refused:
        read_crystal(File(name="x.dat", content=ONETEP), LIMITS)
    line = re.search("`ase (convert -i onetep-in [^`]+)`", str(refused.value.expected))
    assert line is not None
    subprocess.run([sys.executable, "-m", "ase", *line[1].split()], cwd=tmp_path, check=True)
    written = File(name="structure.extxyz", content=(tmp_path / "structure.extxyz").read_bytes())
    assert read_crystal(written, LIMITS).lattice_angstrom[0, 0] == pytest.approx(4.0, abs=1e-3)


@pytest.mark.parametrize(
    ("name", "content", "writes"),
    [
        ("input.xml", EXCITING, "structure.cif"),
        ("x.cssr", CSSR, "structure.cif"),
        ("mp.json", CIF_INSIDE, "structure.cif"),
        ("jarvis.json", JARVIS, "structure.extxyz"),
        ("cartesian.json", JARVIS.replace(b"false", b"true").replace(b"0.5", b"2.0"), "structure.extxyz"),
    ],
)
def test_the_line_that_converts_a_file_with_python_does(name: str, content: bytes, writes: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UnsupportedError) as refused:
        read_crystal(File(name=name, content=content), LIMITS)
    line = re.search(r'python -c "([^"]+)"', str(refused.value.expected))
    assert line is not None
    subprocess.run([sys.executable, "-c", line[1]], cwd=tmp_path, check=True)
    read = read_crystal(File(name=writes, content=(tmp_path / writes).read_bytes()), LIMITS)
    assert read.formula == "Li1 O1"
    assert [site.frac_coords for site in read.sites][1] == pytest.approx((0.5, 0.5, 0.5), abs=1e-4)


XV = (
    b"  7.558904 0 0   0 0 0\n  0 7.558904 0   0 0 0\n  0 0 7.558904   0 0 0\n  2\n"
    b"  1 3 0.0 0.0 0.0 0 0 0\n  2 8 3.779452 3.779452 3.779452 0 0 0\n"
)


def test_an_xv_of_siesta_has_lengths_in_bohr() -> None:
    read = read_crystal(File(name="siesta.XV", content=XV), LIMITS)
    assert read.formula == "Li1 O1"
    assert np.allclose(read.lattice_angstrom, 4.0 * np.eye(3), atol=1e-5)
    assert read.sites[1].frac_coords == pytest.approx((0.5, 0.5, 0.5), abs=1e-6)


@pytest.mark.parametrize(
    ("changed", "into", "says", "where"),
    [
        (b"  2 8 3.779452", b"  2 8 x", "Expected three numbers in line 6, not 'x 3.779452 3.779452'", "line 6"),
        (b"\n  2\n", b"\n  3\n", "Expected three numbers in line 7, not ''", "line 7"),
        (b"\n  2\n", b"\n  0\n", "Expected the number of atoms in line 4, not '0'", "line 4"),
        (b"  2 8 ", b"  2 -8 ", "Line 6 has '-8' as an atomic number", "line 6"),
        (b"  2 8 ", b"  2 208 ", "Line 6 has '208' as an atomic number", "line 6"),
    ],
)
def test_a_damaged_xv_names_the_line(changed: bytes, into: bytes, says: str, where: str) -> None:
    assert changed in XV
    with pytest.raises(FormatError, match=re.escape(says)) as refused:
        read_crystal(File(name="siesta.XV", content=XV.replace(changed, into)), LIMITS)
    assert (refused.value.kind, refused.value.where) == ("unreadable-xv", f"siesta.XV, {where}")


def test_a_cif_with_the_file_of_shelxl_inside_is_read() -> None:
    inside = "_shelx_res_file\n;\nTITL x\nCELL 0.71073 8 8 8 90 90 90\nZERR 1 0 0 0 0 0 0\nLATT -1\nSFAC LI O\n;\n"
    text = cif(cell=(8.0,), atoms=("Li1 Li 0 0 0 1", "O1 O 0.5 0.5 0.5 1"), symbol="P 1")
    packed = text.replace("loop_", f"{inside}loop_", 1)
    assert read_crystal(File(name="x.cif", content=packed.encode()), LIMITS).formula == "Li1 O1"


def test_an_xyz_with_atomic_numbers_is_no_cube() -> None:
    rows = "".join(f"{number} {x} 0.0 0.0\n" for number, x in ((3, "0.0"), (8, "2.0"), (3, "4.0"), (8, "6.0")))
    text = f'4\nLattice="8 0 0 0 8 0 0 0 8" Properties=Z:I:1:pos:R:3\n{rows}'
    assert read_crystal(File(name="x.xyz", content=text.encode()), LIMITS).formula == "Li2 O2"
