"""What the command line prints of a crystal's answer."""

import csv
import io
import zipfile
from pathlib import Path
from typing import Any

from app.console.asking import Result
from app.console.outputs import CSV_COLUMNS, BarrierCsv, BarrierTable, write_neb
from app.serving.answers.as_csv import COLUMNS, CONDUCTIVITY_COLUMNS, HOP_COLUMNS

ANSWER: dict[str, Any] = {
    "ion": "Li",
    "formula": "Fe4 Li4 O16 P4",
    "model": {"name": "model-3"},
    "mechanism": "vacancy",
    "hops": [],
    "percolation_ev": {"1d": 0.231, "2d": 0.7284, "3d": None},
    "warnings": [],
}
HOP: dict[str, Any] = {
    "from_site": 0,
    "to_site": 1,
    "offset": [0, 0, 0],
    "distance_angstrom": 3.0,
    "multiplicity": 1,
    "barrier_ev": 0.3,
    "interval_ev": {"low": 0.1, "high": 2.0, "coverage": 0.9},
    "good_conductor": {"verdict": True, "probability": 0.7, "threshold_ev": 0.65},
    "in_domain": {"verdict": True, "reasons": []},
    "quantiles_ev": {},
    "excluded_because": None,
}


BOND_VALENCE = {"percolation_ev": {"1d": 0.3, "2d": None, "3d": None}, "grid_angstrom": 0.25, "detail": None}


def table_of(answer: dict[str, Any]) -> str:
    printed = io.StringIO()
    BarrierTable(["LiFePO4.cif"], printed).write(Result(label="LiFePO4.cif", answer=answer))
    return printed.getvalue()


def test_the_ways_through_a_crystal_are_reported() -> None:
    shown = "LiFePO4.cif: connects through the crystal in 1d: 0.231 eV, 2d: 0.728 eV, 3d: never (vacancy)"
    assert shown in table_of(ANSWER)


def test_a_second_opinion_is_reported_beside_them() -> None:
    figures = {"1d": 0.3, "2d": None, "3d": None}
    shown = "by bond-valence site energies (bvlain) in 1d: 0.300 eV, 2d: never, 3d: never"
    assert shown in table_of({**ANSWER, "second_opinion": {"answered": True, "percolation_ev": figures}})
    assert "bond-valence" not in table_of({**ANSWER, "second_opinion": {"answered": False, "percolation_ev": figures}})


def test_bond_valence_is_reported_beside_them_or_why_it_says_nothing() -> None:
    shown = "by bond valence in 1d: 0.300 eV, 2d: never, 3d: never"
    assert shown in table_of({**ANSWER, "bond_valence": BOND_VALENCE})
    silent = {
        "percolation_ev": dict.fromkeys(("1d", "2d", "3d")),
        "grid_angstrom": None,
        "detail": "none for Li with H-1",
    }
    assert "no figure by bond valence: none for Li with H-1" in table_of({**ANSWER, "bond_valence": silent})


def test_their_intervals_and_directions_are_reported_where_the_answer_has_them() -> None:
    interval = {"low": 0.06, "high": 0.64, "coverage": 0.9}
    one = {"barrier_ev": 0.231, "interval_ev": interval, "bottleneck_hops": [0], "directions": [[0, 1, 0]]}
    shown = table_of({**ANSWER, "percolation": {"1d": one, "2d": None, "3d": None}})
    assert "1d: 0.231 eV (0.06 to 0.64) along [0 1 0], 2d: 0.728 eV, 3d: never" in shown


def test_never_is_said_only_where_every_hop_was_predicted() -> None:
    shown = table_of({**ANSWER, "percolation_upper_bound": True})
    assert "3d: not by these hops" in shown
    assert "never" not in shown


def test_why_a_hop_is_out_of_the_domain_is_reported_once_with_its_hops() -> None:
    doubt = {"verdict": False, "reasons": ["no H among the fitted barriers"]}
    hops = [{**HOP, "in_domain": known} for known in (doubt, {"verdict": True, "reasons": []}, doubt)]
    shown = table_of({**ANSWER, "hops": hops})
    assert shown.count("no H among the fitted barriers") == 1
    assert "LiFePO4.cif, hop 1, 3: outside of what the model knows: no H" in shown


def test_a_folder_from_before_is_left_alone(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("hop-01/00/POSCAR", "one")
    result = Result(label="LiFePO4.cif", answer=ANSWER, bands_zip=packed.getvalue())
    written = [write_neb(result, tmp_path), write_neb(result, tmp_path)]
    assert written == [tmp_path / "LiFePO4", tmp_path / "LiFePO4-2"]


def test_pieces_of_a_table_line_up_under_one_line_of_headings() -> None:
    printed = io.StringIO()
    writer = BarrierTable(["a-long-name-of-a-file.cif", "b.cif"], printed)
    writer.write(Result(label="b.cif", answer={**ANSWER, "hops": [HOP, HOP]}))
    writer.write(Result(label="a-long-name-of-a-file.cif", answer={**ANSWER, "hops": [HOP], "percolation_ev": None}))
    lines = printed.getvalue().splitlines()
    assert sum("barrier eV" in line for line in lines) == 1
    assert len({line.index("0.300") for line in lines if "0.300" in line}) == 1
    assert lines[0].index("barrier eV") + len("barrier eV") == lines[1].index("0.300") + len("0.300")


def test_a_crystal_s_percolation_stands_in_each_of_its_rows() -> None:
    printed = io.StringIO()
    writer = BarrierCsv(printed)
    writer.write(
        Result(
            label="a.cif",
            answer={
                **ANSWER,
                "hops": [HOP, HOP],
                "ranking_ev": 0.61234,
                "percolation_upper_bound": True,
                "bond_valence": BOND_VALENCE,
            },
        )
    )
    writer.write(Result(label="b.cif", problem={"detail": "no crystal"}))
    writer.write(Result(label="c.cif", answer=ANSWER))
    first, second, failed, without_hops = csv.DictReader(io.StringIO(printed.getvalue()))
    names = ["percolation_1d_ev", "percolation_2d_ev", "percolation_3d_ev", "percolation_upper_bound"]
    names += ["percolation_1d_share", "percolation_2d_share", "percolation_3d_share"]
    names += ["bond_valence_1d_ev", "bond_valence_2d_ev", "bond_valence_3d_ev"]
    assert first["warnings"] == " | ".join(ANSWER["warnings"])
    assert first["reasons"] == " | ".join(HOP["in_domain"]["reasons"])
    for row in (first, second):
        assert row["ranking_ev"] == "0.6123"
        assert [row[name] for name in names] == ["0.231", "0.7284", "", "yes", "", "", "", "0.3", "", ""]
    assert [failed[name] for name in ("problem", *names)] == ["no crystal", *[""] * 10]
    assert (without_hops["file"], without_hops["hop"], without_hops["percolation_1d_ev"]) == ("c.cif", "", "0.231")


def test_columns_that_came_later_stand_behind_those_of_before() -> None:
    barriers = ("percolation_1d_ev", "percolation_2d_ev", "percolation_3d_ev", "percolation_upper_bound")
    uploaded = ("uploaded_forward_ev", "uploaded_reverse_ev")
    connections = [f"percolation_{n}d_share" for n in (1, 2, 3)] + [f"bond_valence_{n}d_ev" for n in (1, 2, 3)]
    before = (*HOP_COLUMNS, *barriers, "reasons", "warnings")
    assert (*before, *uploaded, *CONDUCTIVITY_COLUMNS, *connections, "leans_on", "ranking_ev") == COLUMNS
    printed = ("file", *HOP_COLUMNS, "problem", *barriers, "reasons", "warnings")
    assert (*printed, *uploaded, *connections, "leans_on", "ranking_ev") == CSV_COLUMNS
    assert len(HOP_COLUMNS) == 18
