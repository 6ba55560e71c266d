"""Output of VASP and neb.x, and ASE's databases: what is unfinished, damaged or hostile; cells sent beside a file."""

import io
import pickle
import re
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from written_formats import (
    BANDS,
    ENERGIES_EV,
    ION,
    ase_file,
    band,
    crd,
    outcar,
    path,
    poscar,
    structure,
    structures,
    traj,
    vasprun,
    vtst,
    zipped,
)

from app.crystals.limits import Limits
from app.crystals.readers import File, read_band_file, read_crystal, read_end_points
from app.crystals.readers.given_cell import parse_cell
from app.errors import FormatError, InputError, TooLargeError

LIMITS = Limits()


def refused_of(content: bytes, name: str, limits: Limits = LIMITS) -> InputError:
    with pytest.raises(InputError) as refused:
        read_band_file(File(name=name, content=content), limits)
    return refused.value


# --- VASP ---


def test_a_run_in_progress_gives_its_complete_steps() -> None:
    read = read_band_file(File(name="vasprun.xml", content=vasprun(structures(), whole=False)), LIMITS)
    assert len(read.band.image_frac_coords) == 4
    assert any("ends early" in warning and "4 complete ionic steps" in warning for warning in read.warnings)
    started = vasprun(structures()[:1], whole=False)
    crystal = read_crystal(File(name="vasprun.xml", content=started), LIMITS, ION)
    assert any("ends early" in warning for warning in crystal.warnings)
    nothing = refused_of(started[:200], "vasprun.xml")
    assert (nothing.kind, nothing.where) == ("unreadable-vasprun", "vasprun.xml")


def test_entities_of_an_xml_are_not_expanded() -> None:
    bomb = b'<!DOCTYPE lolz [<!ENTITY a "' + b"x" * 1000 + b'"><!ENTITY b "&a;&a;&a;&a;">]>'
    content = vasprun(structures()).replace(b"<modeling>", b"<modeling>" + bomb)
    assert refused_of(content, "vasprun.xml").kind == "unreadable-vasprun"


@pytest.mark.parametrize(
    ("changed", "into"),
    [
        (b"<v> 0.", b"<v> x."),
        (b"<c>Li </c>", b"<c></c>"),
        (b"name='basis'", b"name='other'"),
        (b"name='atoms'", b"name='other'"),
        (b"<v>", b"<v>nan "),
    ],
)
def test_a_damaged_vasprun_is_refused(changed: bytes, into: bytes) -> None:
    content = vasprun(structures())
    assert changed in content
    assert refused_of(content.replace(changed, into), "vasprun.xml").kind in {"unreadable-vasprun", "unknown-element"}


def test_a_damaged_outcar_is_refused_at_its_line() -> None:
    content = outcar(structures())
    for changed, into in ((b"ions per type", b"ions"), (b"VRHFIN", b"x"), (b"reciprocal lattice", b"x")):
        broken = content.replace(changed, into).replace(b"TITEL", b"x")
        assert refused_of(broken, "OUTCAR").kind == "unreadable-outcar"
    none = refused_of(re.sub(rb"ions per type( *=).*", rb"ions per type\1   0   0   0   0", content), "OUTCAR")
    assert (none.kind, "no ions" in none.detail) == ("unreadable-outcar", True)
    for digits in (10, 5000):  # Python itself refuses to read so many
        many = refused_of(re.sub(rb"ions per type( *=).*", rb"ions per type\1 1 " + b"9" * digits, content), "OUTCAR")
        assert (many.kind, "ions per type" in many.detail) == ("unreadable-outcar", True)
    lines = content.split(b"\n")
    at = next(k for k, line in enumerate(lines) if line.startswith(b" POSITION"))
    cut = refused_of(b"\n".join(lines[: at + 10]), "OUTCAR")
    assert (cut.kind, cut.where) == ("unreadable-outcar", f"OUTCAR, line {at + 11}")


def test_columns_that_run_together_are_told_apart() -> None:
    content = outcar(structures())
    assert b" -0.000000000" in content or b"  0.000000000" in content
    together = content.replace(b"  0.000000000", b" -0.000000000").replace(b" -0.000000000", b"-0.000000000")
    read = read_band_file(File(name="OUTCAR", content=together), LIMITS)
    assert read.band.hop_distance_angstrom == pytest.approx(band().hop_distance_angstrom, abs=1e-4)


def test_energies_beside_the_images_are_optional_and_may_be_missing_of_some() -> None:
    files = vtst()
    del files["run/00/OUTCAR"], files["run/03/OUTCAR"]
    read = read_band_file(File(name="run.zip", content=zipped(files)), LIMITS)
    assert read.energies_ev == (None, *map(pytest.approx, ENERGIES_EV[1:3]), None, pytest.approx(ENERGIES_EV[4]))


def test_outcars_that_are_too_large_are_left_aside_with_a_warning() -> None:
    files = vtst()
    limit = sum(len(content) for name, content in files.items() if "CONTCAR" in name or name.endswith("00/OUTCAR"))
    read = read_band_file(File(name="run.zip", content=zipped(files)), Limits(max_unpacked_bytes=limit))
    assert read.energies_ev == ()
    assert any("too large to be read beside the images" in warning for warning in read.warnings)


def test_end_points_that_carry_energies_are_read() -> None:
    first, last = (File(name="end.traj", content=traj((one,))) for one in (structures()[0], structures()[-1]))
    read = read_end_points(first, last, LIMITS)
    assert read.energies_ev == (ENERGIES_EV[0], ENERGIES_EV[0])
    assert read.band.hop_distance_angstrom == pytest.approx(band().hop_distance_angstrom, abs=1e-4)


def test_of_the_files_of_one_run_the_result_is_read() -> None:
    one = structure()
    moved = one.copy()
    moved.translate_sites([0], [0.01, 0.0, 0.0])
    files = {"run/POSCAR": poscar(one), "run/CONTCAR": poscar(moved), "run/OUTCAR": outcar((one, moved))}
    for names in (("run/POSCAR", "run/CONTCAR", "run/OUTCAR"), ("run/CONTCAR",)):
        packed = zipped({name: files[name] for name in names})
        crystal = read_crystal(File(name="run.zip", content=packed), LIMITS, ION)
        assert np.allclose([site.frac_coords for site in crystal.sites], moved.frac_coords)


# --- neb.x ---


def test_a_path_alone_says_which_file_it_needs() -> None:
    refused = refused_of(path(structures()), "LiFePO4.path")
    assert refused.kind == "needs-other-file"
    assert ".axsf" in str(refused.expected)


@pytest.mark.parametrize(
    ("changed", "into", "kind"),
    [
        (b"(bohr)", b"(alat)", "unreadable-crd"),
        (b"ATOMIC_POSITIONS", b"ATOMS", "unreadable-crd"),
        (b" Li ", b" Xq ", "unknown-element"),
        (b"INTERMEDIATE_IMAGE\n", b"INTERMEDIATE_IMAGE\nATOMIC_POSITIONS (bohr)\n", "unreadable-crd"),
    ],
)
def test_a_damaged_crd_is_refused(changed: bytes, into: bytes, kind: str) -> None:
    content = crd(structures())
    assert changed in content
    file = File(name="x.crd", content=content.replace(changed, into), cell_angstrom=parse_cell("10,10,10", "cell"))
    with pytest.raises(InputError) as refused:
        read_band_file(file, LIMITS)
    assert refused.value.kind == kind


NEB_IN = """BEGIN
BEGIN_PATH_INPUT
&PATH
 string_method = 'neb', num_of_images = 5
/
END_PATH_INPUT
BEGIN_ENGINE_INPUT
&SYSTEM
 ibrav = 0, nat = 2, ntyp = 2 ! celldm(1) = 5
 {system}
/
BEGIN_POSITIONS
FIRST_IMAGE
ATOMIC_POSITIONS {positions}
Li {first} 0.0 0.0
O 0.5 0.5 0.5 0 0 0
LAST_IMAGE
ATOMIC_POSITIONS {positions}
Li {last} 0.0 0.0
O 0.5 0.5 0.5
END_POSITIONS
CELL_PARAMETERS {unit}
{vectors}
END_ENGINE_INPUT
END
"""
BOHR_8 = "15.1178089 0 0\n0 15.1178089 0\n0 0 1.51178089d1"


def neb_in(unit: str, vectors: str, *, system: str = "", positions: str = "crystal", last: str = "0.25") -> File:
    text = NEB_IN.format(unit=unit, vectors=vectors, system=system, positions=positions, first="0.0", last=last)
    return File(name="neb.in", content=text.encode())


@pytest.mark.parametrize(
    ("unit", "vectors", "system"),
    [
        ("angstrom", "8.0 0 0 ! a\n0 8.0 0\n0 0 8.0", ""),
        ("{ bohr }", BOHR_8, ""),
        ("", BOHR_8, ""),
        ("(alat)", "2 0 0\n0 2 0\n0 0 2", "celldm(1) = 7.55890445"),
        ("alat", "2 0 0\n0 2 0\n0 0 2", "A = 4.0, degauss = 0.1"),
        ("", "2 0 0\n0 2 0\n0 0 2", "A = 4.0"),
    ],
)
def test_the_cell_is_read_from_an_input_of_neb_x(unit: str, vectors: str, system: str) -> None:
    read = read_band_file(neb_in(unit, vectors, system=system), LIMITS)
    assert np.allclose(read.band.lattice_angstrom, 8.0 * np.eye(3), atol=1e-4)
    assert read.band.hop_distance_angstrom == pytest.approx(2.0, abs=1e-4)
    assert read.warnings == ()


def test_positions_of_neb_x_may_be_in_alat() -> None:
    cell = "2 0 0\n0 2 0\n0 0 2"
    read = read_band_file(neb_in("alat", cell, system="A = 4.0", positions="alat", last="0.5"), LIMITS)
    assert read.band.hop_distance_angstrom == pytest.approx(2.0, abs=1e-4)


def test_a_cell_beside_an_input_of_neb_x_that_has_its_own_is_not_used() -> None:
    file = neb_in("bohr", BOHR_8)
    beside = File(name=file.name, content=file.content, cell_angstrom=parse_cell("5,5,5", "cell"))
    read = read_band_file(beside, LIMITS)
    assert np.allclose(read.band.lattice_angstrom, 8.0 * np.eye(3), atol=1e-4)
    assert "the file has its own" in read.warnings[0]


@pytest.mark.parametrize(
    ("unit", "vectors", "says"),
    [
        ("alat", BOHR_8, "neither celldm(1) nor A says how long that is"),
        ("furlong", BOHR_8, "Lengths in 'furlong' are not read"),
        ("bohr", "8 0 0\n0 8 x\n0 0 8", "Expected a vector of three numbers here, not '0 8 x'"),
    ],
)
def test_a_damaged_cell_of_neb_x_is_refused(unit: str, vectors: str, says: str) -> None:
    with pytest.raises(FormatError, match=re.escape(says)) as refused:
        read_band_file(neb_in(unit, vectors), LIMITS)
    assert refused.value.kind == "unreadable-crd"
    assert str(refused.value.where).startswith("neb.in, line ")


@pytest.mark.parametrize(
    "text",
    [
        "".join(f" {x:.10f} {energy:.10f} 0.0100000000\n" for x, energy in ((0, 0), (0.5, 0.27), (1, -0.1))),
        "  0.0000000000    0.0000000000\n  0.5000000000    0.2700000000\n  1.0000000000    0.0000000000\n",
        "".join(f" {k / 7:.10f} {k:.10f} 0.0100000000\n" for k in range(8)),
    ],
    ids=["dat", "int", "longer"],
)
def test_a_table_of_the_energies_of_neb_x_says_which_file_it_needs(text: str) -> None:
    refused = refused_of(text.encode(), "x.dat")
    assert (refused.kind, "it has no atoms" in str(refused)) == ("needs-other-file", True)
    assert ".axsf" in str(refused.expected)


# --- the cell ---


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("3, 4, 5", [[3, 0, 0], [0, 4, 0], [0, 0, 5]]),
        ("3 4 5 90 90 90", [[3, 0, 0], [0, 4, 0], [0, 0, 5]]),
        ("4,4,5,90,90,120", [[4, 0, 0], [-2, 12**0.5, 0], [0, 0, 5]]),
        ("[3,0,0, 0,4,0, 1,0,5]", [[3, 0, 0], [0, 4, 0], [1, 0, 5]]),
    ],
)
def test_a_cell_is_three_six_or_nine_numbers(text: str, rows: list[list[float]]) -> None:
    assert np.allclose(parse_cell(text, "cell"), rows)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        *(
            (text, "invalid-cell")
            for text in ("", "a,b,c", "1,2", "3,4,nan", "-3,4,5", "3,4,5,10,10,90", "1,1,1,0,90,90")
        ),
        ("1,0,0,0,1,0,1,1,0", "not-a-cell"),
        ("0.1,0.1,0.1", "not-a-cell"),
        ("1e9,4,5", "not-a-cell"),
    ],
)
def test_what_is_no_cell_is_refused(text: str, kind: str) -> None:
    with pytest.raises(InputError) as refused:
        parse_cell(text, "form field cell")
    assert (refused.value.kind, refused.value.where) == (kind, "form field cell")


# --- ASE's database ---


class Hostile:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return (Path.touch, (self.mark,))


def changed_database(folder: Path, *statements: str | tuple[str, object]) -> bytes:
    content = ase_file(structures(), folder, "db")
    (folder / "images.db").unlink()
    with sqlite3.connect(":memory:") as connection:
        connection.deserialize(content)
        for statement in statements:
            text, *values = (statement,) if isinstance(statement, str) else statement
            connection.execute(text, values)
        connection.commit()
        return connection.serialize()


@pytest.mark.parametrize("column", ["numbers", "positions", "cell", "energy", "data", "key_value_pairs", "constraints"])
def test_a_pickle_in_a_database_is_never_loaded(column: str, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    hostile = pickle.dumps(Hostile(mark))
    content = changed_database(tmp_path, (f"UPDATE systems SET {column} = ?", hostile))
    for read in (read_band_file, read_crystal):
        with suppress(InputError):  # what is not looked at may hold anything
            read(File(name="band.db", content=content), LIMITS)
    assert not mark.exists()
    pickle.loads(hostile)
    assert mark.exists()


ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n)"


@pytest.mark.parametrize(
    "statements",
    [
        (f"DROP TABLE systems; CREATE VIEW systems AS {ENDLESS} SELECT * FROM n",),
        ("DROP TABLE systems", f"CREATE VIEW systems AS {ENDLESS} SELECT x AS id FROM n"),
        (
            "DROP TABLE number_key_values",
            f"CREATE VIEW number_key_values AS {ENDLESS} SELECT x AS value, 'hop' AS key FROM n",
        ),
        ("DROP TABLE information", f"CREATE VIEW information AS {ENDLESS} SELECT 'version' AS name, x AS value FROM n"),
        ("DROP TABLE information", "CREATE VIEW information AS SELECT 'version' AS name, zeroblob(900000000) AS value"),
        ("DROP TABLE information", "CREATE VIEW information AS SELECT 'version' AS name, load_extension('x') AS value"),
        ("UPDATE systems SET numbers = zeroblob(500000)",),
        ("DELETE FROM systems",),
        ("UPDATE information SET value = '999'",),
        ("UPDATE systems SET positions = x'00'",),
        ("UPDATE systems SET numbers = NULL",),
    ],
)
def test_sql_in_a_database_does_not_run(statements: tuple[str, ...], tmp_path: Path) -> None:
    split = [part for statement in statements for part in statement.split("; ")]
    refused = refused_of(changed_database(tmp_path, *split), "band.db")
    assert refused.kind in {"unreadable-database", "too-many-atoms", "too-many-bytes", "unreadable-trajectory"}


def test_an_sqlite_file_of_another_program_is_named() -> None:
    with sqlite3.connect(":memory:") as connection:
        connection.execute("CREATE TABLE notes (text)")
        content = connection.serialize()
    refused = refused_of(content, "notes.db")
    assert refused.kind == "unreadable-database"
    assert "not one of ASE" in refused.detail


def test_a_database_with_the_hops_of_a_crystal_is_refused(tmp_path: Path) -> None:
    statement = "INSERT INTO number_key_values (key, value, id) VALUES ('hop', 1, 1), ('hop', 2, 2)"
    refused = refused_of(changed_database(tmp_path, statement), "hops.db")
    assert (refused.kind, "2 hops" in refused.detail) == ("several-bands", True)


def test_the_limits_hold_in_a_database(tmp_path: Path) -> None:
    content = BANDS["ASE database"](tmp_path)
    for limits, kind in ((Limits(max_images=4), "too-many-images"), (Limits(max_atoms=20), "too-many-atoms")):
        with pytest.raises(TooLargeError) as refused:
            read_band_file(File(name="band.db", content=content), limits)
        assert refused.value.kind == kind


def test_a_cut_database_is_refused(tmp_path: Path) -> None:
    content = BANDS["ASE database"](tmp_path)
    for length in (100, 5000, len(content) - 5000):
        with pytest.raises(FormatError) as refused:
            read_band_file(File(name="band.db", content=io.BytesIO(content).read(length)), LIMITS)
        assert refused.value.kind == "unreadable-database"
