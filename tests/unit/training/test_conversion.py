"""Conversions of published data sets and of a lab's own folders, through the command."""

import csv
import gzip
import hashlib
import io
import json
import lzma
import re
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from composed import composed_bands
from typer.testing import CliRunner

from app.crystals.band import Band
from app.crystals.writers import band_to_extxyz, band_to_poscars
from training.barrier_rows import straight_band
from training.cli import evaluate
from training.conversion.literature import PUBLISHED
from training.conversion.tables import read_table
from training.corpus import BARRIERS_FILE, read_corpus
from training.data_cli import data as data_commands

BANDS = {name: straight_band(band) for name, band in composed_bands().items()}
UPSTREAM = Path("upstream") / f"{PUBLISHED.name}.xz"
TINY = """
name = "tiny"
description = "a test's"
relaxes = false
clip = 3.0
tolerance = 0.05
penalties = [14.0]
widths = [0.5]
inner_folds = 2
machines = [{path = 1.0}]
target = {offset_ev = 0.2, mean = -0.25, scale = 0.6}
"""


def convert(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(data_commands, ["convert", *map(str, words)], env={"COLUMNS": "400"})
    return result.exit_code, result.output


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]


def test_the_literature_is_reproduced_from_its_published_form(data_dir: Path, tmp_path: Path) -> None:
    if not (data_dir / UPSTREAM).is_file():
        pytest.skip(f"{UPSTREAM} is not in the data folder")
    code, output = convert("literature", data_dir / UPSTREAM, "--data", tmp_path)
    assert (code, "another version" in output) == (0, False)
    assert "559 rows" in output
    ours, theirs = rows_of(data_dir / BARRIERS_FILE), rows_of(tmp_path / BARRIERS_FILE)
    assert [row["id"] for row in theirs] == [row["id"] for row in ours]
    for one, other in zip(theirs, ours, strict=True):
        closest = one.pop("closest_approach_angstrom")
        assert closest == pytest.approx(other["closest_approach_angstrom"], abs=1.1e-3)
        assert one == {field: other[field] for field in one}
    assert hashlib.sha256(lzma.decompress((data_dir / UPSTREAM).read_bytes())).hexdigest() == PUBLISHED.sha256


def _published_row(name: str, band: Band) -> dict[str, Any]:
    atoms = {
        "lattice_mat": band.lattice_angstrom.tolist(),
        "coords": np.concatenate([band.image_frac_coords, band.host_frac_coords]).tolist(),
        "elements": [*[band.ion] * 5, *band.host_species],
        "cartesian": False,
    }
    return {"sys_name": name, "target": 0.5, "class": "ROCK SALT", "formula": "", "atoms": atoms}


def test_rows_without_a_fold_are_left_out_and_counted(tmp_path: Path) -> None:
    known = next(iter(read_table("literature")))
    published = tmp_path / "published.json"
    names = (known, "of nobody", "of nobody else")
    published.write_text(json.dumps([_published_row(name, BANDS["LiF 1"]) for name in names]))
    code, output = convert("literature", published, "--data", tmp_path)
    assert code == 0
    for words in ("1 rows", "left out: 2 rows", "missing: 558 rows", "another version"):
        assert words in output
    (record,) = read_corpus(tmp_path).records
    assert (record.id, record.family, record.barrier_ev) == (known, "rock salt", 0.5)
    assert record.folds == read_table("literature")[known]

    code, output = convert("literature", published, "--data", tmp_path)
    assert (code, "move it away" in output) == (2, True)


@pytest.mark.parametrize("content", ["", "{}", "[]", '[{"sys_name": "AlFe2O4_1"}]', '["a"]', '[{"sys_name": 1}]'])
def test_another_file_is_no_published_one(content: str, tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text(content)
    code, output = convert("literature", tmp_path / "other.json", "--data", tmp_path)
    assert code == 2
    assert "expected: a list of objects" in output
    assert not (tmp_path / BARRIERS_FILE).exists()


@pytest.fixture
def litraj(tmp_path: Path) -> Callable[..., Path]:
    """LiTraj's archive as its documentation lays it out, with made-up hops."""

    def made(names: list[str], em: list[str]) -> Path:
        archive = tmp_path / "nebDFT2k"
        archive.mkdir(exist_ok=True)
        lines = [f"{k},{name},{value},train" for k, (name, value) in enumerate(zip(names, em, strict=True))]
        (archive / "nebDFT2k_index.csv").write_text("\n".join([",edge_id,em,_split", *lines]))
        for name, band in zip(names, BANDS.values(), strict=False):
            (archive / f"{name}_init.xyz").write_text(band_to_extxyz(band))
            (archive / f"{name}_relaxed.xyz").write_text(band_to_extxyz(band))
        return archive

    return made


def test_litraj_is_converted_from_its_documented_layout(litraj: Callable[..., Path], tmp_path: Path) -> None:
    table = read_table("litraj")
    known = [*list(table)[:2], next(name for name, row in table.items() if not row["sound"])]
    code, output = convert(
        "litraj", litraj([*known, "mp-0_0_0_0_0_0"], ["0.41", "1.5", "0.3", "0.2"]), "--data", tmp_path
    )
    assert code == 0
    assert "3 rows" in output
    assert "left out: 1 rows" in output
    records = read_corpus(tmp_path, ["litraj"]).records
    assert [(record.id, record.barrier_ev, record.sound) for record in records] == [
        (f"litraj-{known[0]}", 0.41, True),
        (f"litraj-{known[1]}", 1.5, True),
        (f"litraj-{known[2]}", 0.3, False),  # known to be wrong, though no atoms overlap
    ]
    for record, made in zip(records, BANDS.values(), strict=False):
        assert record.band.image_frac_coords == pytest.approx(made.image_frac_coords, abs=1e-6)
        assert sorted(record.band.host_species) == sorted(made.host_species)
        assert record.functional == "PBE"


def test_what_litraj_lacks_is_named(litraj: Callable[..., Path], tmp_path: Path) -> None:
    known = list(read_table("litraj"))[:2]
    archive = litraj(known, ["0.4", "none"])
    code, output = convert("litraj", archive, "--data", tmp_path)
    assert (code, f"'none' as em of {known[1]}" in output) == (2, True)
    archive = litraj(known, ["0.4", "0.5"])
    (archive / f"{known[0]}_init.xyz").write_text("2\nno lattice\nLi 0 0 0\nO 1 1 1\n")
    code, output = convert("litraj", archive, "--data", tmp_path)
    assert (code, f"{known[0]}_init.xyz was left out" in output, "1 rows" in output) == (0, True, True)
    (archive / "nebDFT2k_index.csv").unlink()
    code, output = convert("litraj", archive, "--data", tmp_path / "other")
    assert (code, "0 tables with em and _split" in output) == (2, True)


def test_obelix_is_converted_with_bounds_and_folds(tmp_path: Path) -> None:
    known = list(read_table("obelix"))[:3]
    cell = "1,1,1,90,90,90"
    (tmp_path / "all.csv").write_text(
        "ID,Composition,Family,Ionic conductivity (S cm-1),Space group number,a,b,c,alpha,beta,gamma,Close match,DOI\n"
        f"{known[0]},LiF,,<1E-10,225,{cell},Yes,x\n{known[1]},LiCl,salts,1.5e-4,225,{cell},,y\n"
        f"{known[2]},LiBr,salts,2e-4,225,{cell},,z\nno,LiI,salts,2e-4,225,{cell},,z\n"
    )
    for name in (known[0], known[2], "no"):
        (tmp_path / f"{name}.cif").write_text(f"data_{name}")
    code, output = convert("obelix", tmp_path, "--data", tmp_path / "data")
    assert code == 0
    assert "3 rows" in output
    assert "left out: 1 rows" in output
    folder = tmp_path / "data" / "conductivity"
    with (folder / "obelix.csv").open() as file:
        rows = list(csv.DictReader(file))
    shown = [(row["id"], float(row["conductivity_s_per_cm"]), row["upper_bound"], row["has_cif"]) for row in rows]
    assert shown == [(known[0], 1e-10, "1", "1"), (known[1], 1.5e-4, "0", "0"), (known[2], 2e-4, "0", "1")]
    assert rows[0]["cif_of_a_close_match"] == "1"
    assert {name: int(rows[0][name]) for name in ("fold_family", "fold_random")} == read_table("obelix")[known[0]]
    with tarfile.open(fileobj=io.BytesIO((folder / "cifs.tar.xz").read_bytes())) as archive:
        assert sorted(archive.getnames()) == sorted(f"cifs/{name}.cif" for name in (known[0], known[2]))


@pytest.mark.parametrize(("line", "words"), [("ID,a\nx,1", "has no composition"), (None, "no table")])
def test_what_obelix_lacks_is_named(line: str | None, words: str, tmp_path: Path) -> None:
    if line:
        (tmp_path / "some.csv").write_text(line)
    code, output = convert("obelix", tmp_path, "--data", tmp_path / "data")
    assert code == 2
    assert words in output


@pytest.fixture
def documented(repository: Path, tmp_path: Path) -> tuple[Path, list[dict[str, str]], list[str]]:
    """The worked example of docs/training.md: its folders, its table and its commands."""
    chapter = (repository / "docs" / "training.md").read_text().split("## Your own barriers")[1].split("\n## ")[0]
    (table,) = re.findall(r"```csv\n(.*?)```", chapter, re.DOTALL)
    commands = [line for block in re.findall(r"```sh\n(.*?)```", chapter, re.DOTALL) for line in block.splitlines()]
    folder = tmp_path / "neb"
    folder.mkdir()
    (folder / "barriers.csv").write_text(table)
    rows = list(csv.DictReader(io.StringIO(table)))
    for row, band in zip(rows, BANDS.values(), strict=False):
        for number, poscar in enumerate(band_to_poscars(band)):
            image = folder / row["band"] / f"{number:02d}"
            image.mkdir(parents=True)
            (image / "POSCAR").write_text(poscar)
    return folder, rows, commands


def test_the_worked_example_of_ten_own_bands_works(
    documented: tuple[Path, list[dict[str, str]], list[str]], tmp_path: Path
) -> None:
    folder, rows, commands = documented
    words = commands[0].split()
    assert words[:4] == [".venv/bin/ionpath", "data", "convert", "own"]
    where = {"neb": folder, "DIR": tmp_path / "data"}
    code, output = convert(*[where.get(word, word) for word in words[3:]])
    assert (code, "10 rows" in output) == (0, True)
    corpus = read_corpus(tmp_path / "data", None)
    assert corpus.barriers_ev.tolist() == [float(row["barrier_ev"]) for row in rows]
    for record, row, band in zip(corpus.records, rows, BANDS.values(), strict=False):
        assert (record.id, record.source, record.functional) == (f"mylab-{row['band']}", "mylab", row["xc"])
        assert record.band.hop_distance_angstrom == pytest.approx(band.hop_distance_angstrom, abs=1e-6)

    assert any(command.split()[1:] == ["train", "default", "--data", "DIR"] for command in commands)
    (tmp_path / "tiny.toml").write_text(TINY)
    evaluated = _evaluated(str(tmp_path / "tiny.toml"), "--data", str(tmp_path / "data"), "--runs", str(tmp_path))
    assert (evaluated[0], "all (10 rows)" in evaluated[1]) == (0, True)


def _evaluated(*words: str) -> tuple[int, str]:
    commands = typer.Typer()
    commands.command()(evaluate)
    result = CliRunner().invoke(commands, [*words, "--threads", "1"])
    return result.exit_code, result.output


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("lco-1,x", "barrier_ev is 'x'"),
        ("lco-1,0", "barrier_ev is '0'"),
        ("lco-1,270.0", "barrier_ev is '270.0', above 15 eV, and no barrier is as high: it is in eV, so divide meV by"),
        ("nowhere,0.3", "there is no"),
        ("one.vasp,0.3", "is a single crystal"),
        ("\nband,0.3", "there is no"),
    ],
)
def test_a_wrong_line_of_the_table_is_named(line: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "barriers.csv").write_text(f"band,barrier_ev\n{line}\n")
    (tmp_path / "one.vasp").write_text(band_to_poscars(BANDS["LiF 1"])[0])
    (tmp_path / "lco-1").mkdir()
    code, output = convert("own", tmp_path, "--data", tmp_path / "data", "--name", "lab")
    assert code == 2
    assert "barriers.csv, line 2" in output
    assert words in output


def test_all_wrong_lines_of_the_table_are_named_at_once(tmp_path: Path) -> None:
    lif(tmp_path / "lif")
    (tmp_path / "barriers.csv").write_text("band,barrier_ev\nlif,x\nlif,0.3\nnowhere,0.3\nlif,0,3\nlif,0.3\n")
    code, output = convert("own", tmp_path, "--data", tmp_path / "data", "--name", "lab")
    assert code == 2
    said = [re.sub(r"[│ ]+", " ", line).strip() for line in output.splitlines()]
    for line, words in {
        2: "barrier_ev is 'x'",
        3: "listed twice",
        4: "there is no",
        5: "write a decimal point",
    }.items():
        assert any(f"line {line}: " in one and words in one for one in said), output
    assert not (tmp_path / "data" / "barriers").exists()


def test_of_many_wrong_lines_the_first_are_named(tmp_path: Path) -> None:
    lines = "".join(f"b{number},x\n" for number in range(25))
    (tmp_path / "barriers.csv").write_text(f"band,barrier_ev\n{lines}")
    code, output = convert("own", tmp_path, "--data", tmp_path / "data", "--name", "lab")
    assert (code, "line 21: " in output, "line 22: " in output, "and 5 more" in output) == (2, True, False, True)


@pytest.mark.parametrize(("second_ev", "warned"), [(0.9, True), (0.65, False)])
def test_a_band_with_two_barriers_is_named(second_ev: float, warned: bool, tmp_path: Path) -> None:
    lif(tmp_path / "lif")
    lif(tmp_path / "back", backwards=True)
    (tmp_path / "other.extxyz").write_text(band_to_extxyz(BANDS["LiCl 1"]))
    (tmp_path / "barriers.csv").write_text(f"band,barrier_ev\nlif,0.65\nother.extxyz,1.3\nback,{second_ev}\n")
    code, output = convert("own", tmp_path, "--data", tmp_path / "data", "--name", "lab")
    assert (code, "3 rows" in output) == (0, True)
    assert (f"line 2 (lif, 0.65 eV) and line 4 (back, {second_ev} eV) are the same band" in output) == warned
    assert output.count("same band") == warned


def lif(folder: Path, *, backwards: bool = False) -> None:
    for number, poscar in enumerate(band_to_poscars(BANDS["LiF 1"])[:: -1 if backwards else 1]):
        (folder / f"{number:02d}").mkdir(parents=True)
        (folder / f"{number:02d}" / "POSCAR").write_text(poscar)


@pytest.mark.parametrize(
    ("header", "line", "words"),
    [
        ("band,barrier_ev", 'a,"0,27"', "barrier_ev is '0,27': write a decimal point"),
        ("band,barrier_ev", "a,0,27", "barrier_ev is '0,27': write a decimal point"),
        ("band;barrier_ev;xc", "a;0;65;PBE", "barrier_ev is '0,65': write a decimal point"),
        ("band,barrier_ev,xc", "a,1,27,PBE", "barrier_ev is '1,27': write a decimal point"),
        ("band,barrier_ev,xc", "a,1,27,", "barrier_ev is '1,27': write a decimal point"),
        ("band,barrier_ev,", "a,1,27", "barrier_ev is '1,27': write a decimal point"),  # as spreadsheets write it
        ("barrier_ev,band", "0,27,a", "barrier_ev is '0,27': write a decimal point"),
        (
            "band,barrier_ev,family",
            "a,0.27,spinel, cubic",
            "4 cells under 3 columns; write a decimal point, and put",
        ),
    ],
)
def test_a_comma_that_splits_a_cell_is_named(header: str, line: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "barriers.csv").write_text(f"{header}\n{line}\n")
    code, output = convert("own", tmp_path, "--data", tmp_path / "data", "--name", "lab")
    assert (code, f"barriers.csv, line 2: {words}" in output) == (2, True)


@pytest.mark.parametrize(
    "table",
    [
        "band;barrier_ev;xc\nlif;0,65;PBE\n",
        "band;barrier_ev;xc\r\nlif;0.65;PBE\r\n",
        "band\tbarrier_ev\txc\nlif\t0,65\tPBE\n",
        'band;barrier_ev;xc;family\nlif;",65";PBE;"rock salt, pure"\n',
    ],
)
def test_a_table_with_semicolons_or_tabs_is_read(table: str, tmp_path: Path) -> None:
    (tmp_path / "barriers.csv").write_bytes(table.encode())
    for number, poscar in enumerate(band_to_poscars(BANDS["LiF 1"])):
        (tmp_path / "lif" / f"{number:02d}").mkdir(parents=True)
        (tmp_path / "lif" / f"{number:02d}" / "POSCAR").write_text(poscar)
    code, output = convert("own", tmp_path, "--data", tmp_path / "data", "--name", "lab")
    assert code == 0, output
    (row,) = rows_of(tmp_path / "data" / "barriers" / "lab.jsonl.gz")
    assert (row["barrier_ev"], row["xc"]) == (0.65, "PBE")


@pytest.mark.parametrize(
    ("header", "line"),
    [
        ("band,barrier_ev,,", "a,0.27,,"),
        ("band,barrier_ev", "a,0.27,"),
        ("band,barrier_ev,", "a,0.27,a remark"),
        ("band,barrier_ev,material_id", "a,1,1234"),
        (" band , barrier_ev ,xc,family", " a , 0.27 "),
    ],
)
def test_cells_that_are_empty_or_without_a_name_do_no_harm(header: str, line: str, tmp_path: Path) -> None:
    for number, poscar in enumerate(band_to_poscars(BANDS["LiF 1"])):
        (tmp_path / "a" / f"{number:02d}").mkdir(parents=True)
        (tmp_path / "a" / f"{number:02d}" / "POSCAR").write_text(poscar)
    (tmp_path / "barriers.csv").write_text(f"{header}\n{line}\n")
    code, output = convert("own", tmp_path, "--data", tmp_path / "data", "--name", "lab")
    assert (code, "1 rows" in output) == (0, True)


@pytest.mark.parametrize("name", ["bands", "a/b", "", "literature", "litraj"])
def test_a_source_needs_a_name_of_its_own(name: str, tmp_path: Path) -> None:
    (tmp_path / "barriers").mkdir()
    (tmp_path / BARRIERS_FILE).write_bytes(gzip.compress(b""))
    code, output = convert("own", tmp_path, "--data", tmp_path, "--name", name)
    assert (code, "no name for a new source" in output) == (2, True)


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz"])
def test_a_source_that_exists_is_named_with_its_file(ending: str, tmp_path: Path) -> None:
    existing = tmp_path / "barriers" / f"mylab{ending}"
    existing.parent.mkdir()
    existing.touch()
    code, output = convert("own", tmp_path, "--data", tmp_path, "--name", "mylab")
    assert (code, f"'mylab' exists already, as {existing}: choose another --name, or remove" in output) == (2, True)


def test_folders_without_a_table_say_what_one_needs(tmp_path: Path) -> None:
    code, output = convert("own", tmp_path, "--data", tmp_path, "--name", "lab")
    assert (code, "columns band and barrier_ev" in output) == (2, True)
    (tmp_path / "barriers.csv").write_text("folder,ev\na,1\n")
    code, output = convert("own", tmp_path, "--data", tmp_path, "--name", "lab")
    assert (code, "has the columns folder, ev" in output) == (2, True)
