"""The report: who comes first, what is counted, and a page that asks no other host for anything."""

import csv
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_crystals import layered_oxide, olivine, rock_salt
from pyarrow import parquet

from app.console.screening import report
from app.crystals.crystal import Crystal
from app.crystals.limits import Limits
from app.crystals.readers import File, read_crystal
from app.crystals.writers import crystal_to_cif
from app.screening.errors import ScreeningError
from app.screening.pieces import Output
from app.screening.report.drawing import hop_svg
from app.screening.report.families import anion_of, family_of
from app.screening.report.page import page
from app.screening.report.ranking import Ranked, grouped, ranked, reduced
from app.screening.report.structures import crystal_from_json, write_cifs, write_nebs
from app.screening.report.writing import write_csv, write_page
from app.screening.rows import structure_json, table_of

SETTINGS: dict[str, Any] = {
    "inputs": ["/crystals"],
    "ions": ["Li"],
    "threshold_ev": 0.65,
    "model": "default",
    "model_digest": "0" * 64,
    "conductivity_model": "conductivity",
    "conductivity_digest": "1" * 64,
    "limits.max_atoms": 2000,
    "hops.mechanism": "auto",
    "hops.max_hops": 60,
    "hops.max_hop_angstrom": 5.0,
    "hops.include_close_hops": False,
    "hops.interstitials": False,
    "hops.max_orderings": 3,
}
EVIL = "<script>alert(1)</script>.cif"


def crystal(name: str, barrier_ev: float | None, probability: float | None, in_domain: bool | None) -> dict[str, Any]:
    made: Crystal = layered_oxide() if name == "LiCoO2.cif" else rock_salt()
    row: dict[str, Any] = {"id": name, "input": name, "ion": "Li", "formula": made.formula, "space_group": 225}
    for dimension in ("1d", "2d", "3d"):
        row |= {
            f"percolation_{dimension}_ev": barrier_ev,
            f"percolation_{dimension}_low_ev": barrier_ev,
            f"percolation_{dimension}_high_ev": barrier_ev,
            f"probability_{dimension}": probability,
            f"in_domain_{dimension}": in_domain,
            f"directions_{dimension}": [] if barrier_ev is None else [[1, 0, 0]],
            f"bottleneck_hops_{dimension}": [] if barrier_ev is None else [1],
        }
    known = {"better.cif": (-4.5, 0.3, True), "LiCoO2.cif": (-3.5, 0.7, True), "doubtful.cif": (-3.0, 0.8, False)}
    if name in known:
        value, chance, conductivity_in_domain = known[name]
        row |= {
            "log10_conductivity_s_per_cm": value,
            "probability_above_1e-4_s_per_cm": chance,
            "conductivity_in_domain": conductivity_in_domain,
        }
    figures = {"better.cif": 0.8, "LiCoO2.cif": 0.7, "doubtful.cif": 0.2}
    row["ranking_ev"] = figures.get(name)
    return {**row, "atoms": 8, "hops": 1, "reasons": [], "warnings": [], "structure": structure_json(made)}


def hop(name: str) -> dict[str, Any]:
    return {
        "id": name,
        "input": name,
        "ion": "Li",
        "hop": 1,
        "from_frac_coords": [0.0, 0.0, 0.0],
        "to_frac_coords": [0.0, 0.5, 0.5],
        "distance_angstrom": 3.63,
        "barrier_ev": 0.3,
        "low_ev": 0.2,
        "high_ev": 0.4,
        "reasons": [],
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("screened")
    rows = [
        crystal("never.cif", None, None, None),
        crystal("doubtful.cif", 0.1, 0.99, in_domain=False),
        crystal("LiCoO2.cif", 0.4, 0.9, in_domain=True),
        crystal("better.cif", 0.3, 0.9, in_domain=True),
        crystal(EVIL, 0.9, 0.2, in_domain=True),
    ]
    failures = [{"id": f"{k}.cif", "input": f"{k}.cif", "kind": "empty-file", "words": "It is empty."} for k in "ab"]
    output = Output(folder, SETTINGS, restart=False)
    hops = [hop(row["id"]) for row in rows if row["percolation_1d_ev"] is not None]
    tables = {"crystals": rows, "hops": hops, "failures": failures}
    output.write({name: table_of(name, one) for name, one in tables.items()})
    output.write_run(
        state="complete",
        inputs=7,
        counts={"inputs_done": 7},
        versions={"ionpath": "0"},
        started_at="2026-11-30T10:00:00+00:00",
        finished_at="2026-11-30T11:00:00+00:00",
    )
    return folder


@pytest.fixture
def result(folder: Path) -> Ranked:
    return ranked(folder, "1d")


def test_the_ranking_is_by_domain_probability_and_barrier(result: Ranked) -> None:
    assert [row["id"] for row in result.rows] == ["better.cif", "LiCoO2.cif", EVIL, "doubtful.cif", "never.cif"]
    assert [row["rank"] for row in result.rows] == [1, 2, 3, 4, 5]
    assert result.rows[1]["formula"] == "LiCoO2"


def test_the_ranking_by_conductivity_is_by_its_domain_and_its_chance(folder: Path) -> None:
    result = ranked(folder, "conductivity")
    assert [row["id"] for row in result.rows][:3] == ["LiCoO2.cif", "better.cif", "doubtful.cif"]
    assert {row["id"] for row in result.rows[3:]} == {EVIL, "never.cif"}
    assert result.dimension == "3d"
    html = page(result, top=2)
    assert "in the domain of the model of conductivity first" in html
    assert "<th>with a conductivity</th><td>3</td>" in html
    assert "more likely above 1e-4 S/cm than below</th><td>1</td>" in html
    assert html.count("<figure class=hop>") == 2


def test_the_ranking_by_its_own_figure_is_by_domain_and_figure(folder: Path) -> None:
    result = ranked(folder, "ranking")
    ids = [row["id"] for row in result.rows]
    assert ids == ["LiCoO2.cif", "better.cif", "doubtful.cif", EVIL, "never.cif"]
    html = page(result, top=2)
    assert "then ranking_ev" in html
    assert "Crystals without a ranking_ev come last" in html


def test_a_screening_of_before_there_were_conductivities_is_reported(tmp_path: Path) -> None:
    """Its tables lack the columns, and its settings the model."""
    old = {name: value for name, value in SETTINGS.items() if not name.startswith("conductivity")}
    output = Output(tmp_path, old, restart=False)
    rows = [crystal("better.cif", 0.3, 0.9, in_domain=True), crystal("never.cif", None, None, None)]
    tables = {"crystals": rows, "hops": [hop("better.cif")], "failures": []}
    output.write({name: table_of(name, one) for name, one in tables.items()})
    output.write_run(state="complete", inputs=2, counts={"inputs_done": 2})
    for path in (tmp_path / "crystals.parquet").iterdir():
        whole = parquet.read_table(path)
        parquet.write_table(whole.drop_columns([one for one in whole.schema.names if "conductivity" in one]), path)
    html = page(ranked(tmp_path, "1d"), top=10)
    assert "with a conductivity" not in html
    assert "better.cif" in html
    assert [row["id"] for row in ranked(tmp_path, "conductivity").rows] == ["better.cif", "never.cif"]


def test_groups_count_what_is_in_the_domain_and_below_the_threshold(result: Ranked) -> None:
    (chlorides, oxides) = grouped(result, "anion")
    assert (chlorides.name, chlorides.count, chlorides.percolating, chlorides.below) == ("Cl", 4, 3, 1)
    assert chlorides.quartiles_ev == pytest.approx((0.2, 0.3, 0.6))
    assert (oxides.name, oxides.below) == ("O", 1)


def test_the_page_names_no_other_host_and_runs_nothing_of_a_file(result: Ranked, tmp_path: Path) -> None:
    write_page(result, tmp_path / "report.html", top=10)
    html = (tmp_path / "report.html").read_text()
    assert not re.search(r"""(?:src|href|action)\s*=|url\(|@import|https?://""", html)
    assert "<script>alert" not in html
    assert html.count("<svg") == 3 + 4  # histograms, and the hops of what percolates
    assert "empty-file" in html
    assert "Ranked by" in html


def test_a_page_of_nothing(tmp_path: Path) -> None:
    output = Output(tmp_path, SETTINGS, restart=False)
    output.write({name: table_of(name, []) for name in ("crystals", "hops", "failures")})
    output.write_run(
        state="running", inputs=0, counts={"inputs_done": 0}, versions={"ionpath": "0"}, started_at="2026-11-30T10:00"
    )
    assert "Nothing percolates." in page(ranked(tmp_path, "3d"), top=10)
    with pytest.raises(ScreeningError, match="holds no screening"):
        ranked(tmp_path / "elsewhere", "1d")


def test_a_page_of_a_run_that_has_just_begun(tmp_path: Path) -> None:
    output = Output(tmp_path, SETTINGS, restart=False)
    assert "0 of 0 (listing)" in page(ranked(tmp_path, "1d"), top=10)
    output.write_run(state="running", inputs=3)
    assert "0 of 3 (running)" in page(ranked(tmp_path, "1d"), top=10)


def test_files_that_were_passed_by_are_named(tmp_path: Path) -> None:
    output = Output(tmp_path, SETTINGS, restart=False)
    output.write_run(state="complete", inputs=0, files_passed_by=0, first_passed_by=[])
    assert "passed by" not in page(ranked(tmp_path, "1d"), top=10)
    output.write_run(files_passed_by=3)  # as a release wrote it that named none
    assert "passed by" not in page(ranked(tmp_path, "1d"), top=10)
    output.write_run(first_passed_by=["a.md", "<b>.txt"])
    assert "3: a.md, &lt;b&gt;.txt and 1 more" in page(ranked(tmp_path, "1d"), top=10)


@pytest.mark.parametrize("state", ["running", "interrupted", "complete"])
def test_the_console_says_where_a_run_is_not_finished(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], state: str
) -> None:
    output = Output(tmp_path, SETTINGS, restart=False)
    output.write_run(state=state, inputs=9, counts={"inputs_done": 4})
    report(tmp_path)
    said = " ".join(capsys.readouterr().err.split())
    assert ("0 rows." in said, "not finished" in said) == (True, state != "complete")
    if state != "complete":
        assert f"The run is not finished ({state}): 4 of 9 inputs are done." in said


def test_the_csv_has_every_row(result: Ranked, tmp_path: Path) -> None:
    write_csv(result, tmp_path / "ranking.csv")
    with (tmp_path / "ranking.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [row["id"] for row in result.rows]
    assert (rows[0]["in_domain_1d"], rows[0]["directions_1d"], rows[-1]["percolation_1d_ev"]) == ("yes", "1 0 0", "")


def test_cifs_and_bands_of_the_best(result: Ranked, tmp_path: Path) -> None:
    cifs = write_cifs(result, result.rows[:3], tmp_path / "cifs")
    assert [path.name[:9] for path in cifs] == ["00001-Li-", "00002-Li-", "00003-Li-"]
    assert all(path.parent == tmp_path / "cifs" for path in cifs)
    assert read_crystal(File(name="x.cif", content=cifs[1].read_bytes()), Limits()).formula == "Co3 Li3 O6"
    bands = write_nebs(result, result.rows[:2], tmp_path / "bands")
    assert (bands.crystals, bands.left_out) == (2, {})
    poscars = bands.paths
    assert {path.parent.name for path in poscars} == {"00", "01", "02", "03", "04"}
    assert {path.parents[1].name for path in poscars} == {"hop-01"}


def test_a_layered_conductor_that_ranks_first_is_written_and_what_is_not_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It percolates in two dimensions, and its conductivity is the best; others have no path, or no conductivity."""
    layered = crystal("LiCoO2.cif", 0.4, 0.9, in_domain=True)
    layered |= {"percolation_3d_ev": None, "bottleneck_hops_3d": []}
    blocked = crystal("better.cif", None, None, None)
    unknown = crystal("unknown.cif", 0.3, 0.9, in_domain=True)
    output = Output(tmp_path / "screened", SETTINGS, restart=False)
    rows = [unknown, blocked, layered]
    tables = {"crystals": rows, "hops": [hop("LiCoO2.cif"), hop("unknown.cif")], "failures": []}
    output.write({name: table_of(name, one) for name, one in tables.items()})
    output.write_run(state="complete", inputs=3, counts={"inputs_done": 3})
    cifs, bands = tmp_path / "cifs", tmp_path / "bands"
    report(tmp_path / "screened", by="conductivity", top=3, write_cif=cifs, write_neb=bands)
    assert sorted(path.name for path in cifs.iterdir()) == ["00001-Li-LiCoO2.cif", "00002-Li-better.cif"]
    assert [path.name for path in bands.iterdir()] == ["00001-Li-LiCoO2"]
    assert [path.name for path in (bands / "00001-Li-LiCoO2").iterdir()] == ["hop-01"]
    said = capsys.readouterr().err
    assert "Wrote 2 CIFs" in said
    assert "Wrote 5 POSCARs of 1 crystals" in said
    assert "Their hops are not written, since they have no bottleneck: better.cif (Li)." in said
    assert "Not written, since they have no log10_conductivity_s_per_cm: unknown.cif (Li)." in said


@pytest.mark.parametrize("made", [layered_oxide(), olivine(), rock_salt()])
def test_a_crystal_survives_its_cif_and_its_row(made: Crystal) -> None:
    again = read_crystal(File(name="x.cif", content=crystal_to_cif(made, "x/y z").encode()), Limits())
    for other in (again, crystal_from_json(structure_json(made))):
        assert other.formula == made.formula
        ours, theirs = (np.array([site.frac_coords for site in one.sites]) for one in (made, other))
        assert np.abs((ours - theirs + 0.5) % 1.0 - 0.5).max() < 1e-6
        lengths = [np.linalg.norm(one.lattice_angstrom, axis=1) for one in (made, other)]
        assert lengths[0] == pytest.approx(lengths[1], abs=1e-6)


def test_a_hop_is_drawn_with_its_two_sites_and_its_neighbours() -> None:
    svg = hop_svg(rock_salt(), hop("x"), "Li")
    assert svg.count("<circle") > 6
    assert svg.count('stroke-width="2"/>') == 2
    assert "Cl" in svg


@pytest.mark.parametrize(
    ("formula", "ion", "space_group", "anion", "family"),
    [
        ("Li7 La3 Zr2 O12", "Li", 230, "O", "garnet"),
        ("Li6 P1 S5 Cl1", "Li", 216, "S+Cl", "argyrodite"),
        ("Li20 Ge2 P4 S24", "Li", 137, "S", "LGPS"),
        ("Li3 P1 S4", "Li", 62, "S", "thiophosphate"),
        ("Na3 Zr2 Si2 P1 O12", "Na", 15, "O", "NASICON"),
        ("Li1 Ti2 P3 O12", "Li", 167, "O", "NASICON"),
        ("Li4 Fe4 P4 O16", "Li", 62, "O", "olivine"),
        ("Mg8 Mn16 O32", "Mg", 227, "O", "spinel"),
        ("Co3 Li3 O6", "Li", 166, "O", "layered AMX2"),
        ("Li3 N1", "Li", 191, "N", "A3N"),
        ("Li3 O1 Cl1", "Li", 221, "O+Cl", "antiperovskite"),
        ("Li9 Y3 Cl18", "Li", 164, "Cl", "halide A3MX6"),
        ("Cl4 Li4", "Li", 225, "Cl", "rock salt"),
        ("Li8 O4", "Li", 225, "O", "antifluorite"),
        ("Li1 Cl1 O4", "Li", 62, "O", "other"),
        ("Li2 S1 O4", "Li", 14, "O", "other"),
        ("Li1 Al1", "Li", 227, "none", "other"),
    ],
)
def test_anions_and_families(formula: str, ion: str, space_group: int, anion: str, family: str) -> None:
    assert (anion_of(formula), family_of(formula, ion, space_group)) == (anion, family)


def test_a_reduced_formula() -> None:
    assert reduced("Fe4 Li4 O16 P4") == "LiFePO4"
